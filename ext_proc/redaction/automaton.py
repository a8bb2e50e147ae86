"""All patterns (`nodes`) as one automaton, whose states are worked out when a text first needs them.

A *start* is a place from which something may yet hit. What it waits at does not depend on the other starts, nor, in one
pattern, on the other patterns: a `Strand` is what it waits at in one pattern, a `Group` all its strands, a `State` the
groups of all starts that are alive, oldest first. What a character makes of each is worked out once, from what it makes
of its parts. So a text that leads to a new state with every character (a stranger can write one) does not cost much
more than others: there are many states, fewer groups, and few strands. A start is dropped when older ones wait at all
of its places: they hold the text back already.
"""

from __future__ import annotations

import math
from operator import itemgetter
from typing import TYPE_CHECKING, Final

from ext_proc.redaction.nodes import ACCEPT, Node, PatternReader, Tests, is_word

if TYPE_CHECKING:
    import re
    from collections.abc import Callable, Iterable, Sequence
    from typing import TypeAlias

    Starts: TypeAlias = tuple[int, ...]
    Keeper: TypeAlias = Callable[[Starts], Starts]
    Found: TypeAlias = tuple[int, float] | None
    Special: TypeAlias = tuple[Found, Found, frozenset[int], bool]
    Edge: TypeAlias = "tuple[State, Keeper | None, Special | None]"

_STATES_MAX: Final = 12_000
"""Worked-out states that are kept, about 2 KB each; then it begins again."""
_GROUPS_MAX: Final = 8_000
_STRANDS_MAX: Final = 8_000
"""The same for groups and strands, about 4 KB each."""
_SEEN_MAX: Final = 20_000
"""Characters whose class is kept."""
_NOTHING: Final[frozenset[int]] = frozenset()


class Strand(dict[str, "tuple[Strand | None, bool]"]):
    """What one start waits at in one pattern. As a mapping: what each character makes of it, and may it end there?"""

    __slots__ = ("_automaton", "covers", "is_open", "mask", "most", "nodes", "resists", "rule")
    __eq__ = object.__eq__
    __hash__ = object.__hash__  # type: ignore[assignment] # there is one for each set of nodes

    def __init__(self, automaton: Automaton, rule: int, alive: frozenset[int]) -> None:
        super().__init__()
        nodes = automaton.nodes
        self._automaton = automaton
        self.rule = rule
        self.nodes = alive
        self.mask = 0
        self.covers = 0
        """Both as sets of bits: the nodes, and those at which a younger start has nothing more to wait for."""
        for index in alive:
            self.mask |= 1 << index
            self.covers |= automaton.covered_by(index)
        self.most = max(nodes[index].most for index in alive)
        """How many characters a match has by now at most."""
        self.is_open = any(nodes[index].is_open for index in alive)
        self.resists = any(automaton.resists(index) for index in alive)
        """Does something here go through a placeholder?"""

    def __missing__(self, char: str) -> tuple[Strand | None, bool]:
        after = self[char] = self._automaton.after(self.rule, self.nodes, char)
        return after


class Group(dict[str, "tuple[Group | None, frozenset[int]]"]):
    """What one start waits at. As a mapping: what each character makes of it, and the rules that may end with it."""

    __slots__ = ("_automaton", "covers", "mask", "most", "open_rules", "resists", "strands")
    __eq__ = object.__eq__
    __hash__ = object.__hash__  # type: ignore[assignment] # there is one for each set of strands

    def __init__(self, automaton: Automaton, strands: tuple[Strand, ...]) -> None:
        super().__init__()
        self._automaton = automaton
        self.strands = strands
        self.mask = self.covers = 0
        for strand in strands:
            self.mask |= strand.mask
            self.covers |= strand.covers
        self.most = max(strand.most for strand in strands)
        self.open_rules = frozenset([strand.rule for strand in strands if strand.is_open])
        self.resists = any(strand.resists for strand in strands)

    def __missing__(self, char: str) -> tuple[Group | None, frozenset[int]]:
        after = self[char] = self._automaton.all_after(self.strands, char)
        return after


class State(dict[str, "Edge"]):
    """What is alive: for each start, oldest first, its group. As a mapping: where each character leads.

    An edge is the next state; what takes the starts that stay (None: all, as they are); and where there is anything to
    say: the oldest start that may have ended here, and the oldest one that goes through a placeholder, each
    with how far back it can be at most, the rules that may have ended, and whether a start that could be as old as it
    likes is one no more.
    """

    __slots__ = ("_automaton", "after", "groups", "most")

    def __init__(self, automaton: Automaton, groups: tuple[Group, ...], after: frozenset[int]) -> None:
        super().__init__()
        self._automaton = automaton
        self.groups = groups
        self.after = after  # rules that may not begin after the last character; -1 for "in a word"
        self.most = tuple([group.most for group in groups])

    def __missing__(self, char: str) -> Edge:
        edge = self[char] = self._automaton.step(self, char)
        return edge

    def is_as(self, other: State) -> bool:
        """Is it the same? There may be two of it."""
        return self is other or (self.groups == other.groups and self.after == other.after)

    @property
    def open_rules(self) -> frozenset[int]:
        """Rules that may go on for as long as they like."""
        return _NOTHING.union(*[group.open_rules for group in self.groups])

    def rules(self, group: int) -> dict[int, float]:
        """Rules that the start is alive for, and how many characters a match of each has by now at most."""
        return {strand.rule: strand.most for strand in self.groups[group].strands}


class Automaton:
    """All patterns at once.

    Args:
        patterns: what to follow, each with the number of its rule.
        placeholders: what may come to stand in a text in the place of a value, as classes of characters.
    """

    def __init__(
        self, patterns: Iterable[tuple[int, re.Pattern[str]]], placeholders: Iterable[Sequence[str]] = ()
    ) -> None:
        self.nodes: list[Node] = []
        self._tests = Tests()
        self._entry: dict[int, frozenset[int]] = {}
        self._barred: dict[int, set[int]] = {}
        self._at_boundary: set[int] = set()
        self._lazy: set[int] = set()
        self._placeholders = tuple(placeholders)
        self._first = sorted({char for said in self._placeholders for char in said[0]})
        for rule, pattern in patterns:
            reader = PatternReader(self.nodes, self._tests, rule, pattern.flags)
            reader.read(pattern.pattern)
            self._entry[rule] = frozenset(reader.entry - {ACCEPT})
            self._barred[rule] = reader.barred
            if reader.is_at_boundary:
                self._at_boundary.add(rule)
            if reader.is_lazy:
                self._lazy.add(rule)
        self._at_site: dict[tuple[int, ...], list[int]] = {}
        for index, node in enumerate(self.nodes):
            self._at_site.setdefault(node.site, []).append(index)
        self._covered: dict[int, int] = {}
        self._begin: dict[tuple[frozenset[int], str], tuple[Group | None, frozenset[int]]] = {}
        self._bars: dict[str, frozenset[int]] = {}
        self._states: dict[tuple[tuple[Group, ...], frozenset[int]], State] = {}
        self._strands: dict[tuple[int, frozenset[int]], Strand] = {}
        self._groups: dict[tuple[Strand, ...], Group] = {}
        self._keepers: dict[tuple[int, ...], Keeper] = {}
        self._classes: dict[frozenset[int], str] = {}
        self.seen_as = _SeenAs(self)
        self.worked_out = 0
        """Edges so far."""
        self.empty = self._state((), _NOTHING)

    def _state(self, groups: tuple[Group, ...], after: frozenset[int]) -> State:
        state = self._states.get((groups, after))
        if state is None:
            if len(self._states) >= _STATES_MAX:
                self._begin_again()
            state = self._states[groups, after] = State(self, groups, after)
        return state

    def _begin_again(self) -> None:
        """Forget the states that were worked out, and their parts if they are many; cursors keep what they are at."""
        for kept in (self._states, self._keepers, self.empty):
            kept.clear()
        if len(self._groups) > _GROUPS_MAX:
            for parts in (self._groups, self._begin):
                parts.clear()
        if len(self._strands) > _STRANDS_MAX:
            self._strands.clear()
        self._states[self.empty.groups, self.empty.after] = self.empty

    def bars_after(self, char: str) -> frozenset[int]:
        """Rules that do not begin after ``char``."""
        bars = self._bars.get(char)
        if bars is None:
            passed = self._tests.passed(char)
            barred = {rule for rule, tests in self._barred.items() if tests & passed}
            bars = self._bars[char] = frozenset(barred | ({-1} if is_word(char) else set()))
        return bars

    def begun(self, after: frozenset[int], char: str) -> tuple[Group | None, frozenset[int]]:
        """What begins with ``char``, when it has been read."""
        begun = self._begin.get((after, char))
        if begun is None:
            barred = after | self._at_boundary if (-1 in after) == is_word(char) else after
            entries = [self._strand(rule, nodes) for rule, nodes in self._entry.items() if rule not in barred]
            begun = self.all_after([strand for strand in entries if strand is not None], char)
            self._begin[after, char] = begun
        return begun

    def step(self, state: State, char: str) -> Edge:
        """Where ``char`` leads; worked out once."""
        self.worked_out += 1
        kept: list[int] = []
        groups: list[Group] = []
        covered = 0
        hit: tuple[int, float] | None = None
        hits = _NOTHING
        resists: tuple[int, float] | None = None
        is_narrower = False
        ways = [group[char] for group in state.groups]
        ways.append(self.begun(state.after, char))
        last = len(ways) - 1
        for number, (group, ended) in enumerate(ways):
            index = number if number < last else -1
            if ended:
                hit = hit or (index, state.most[index] if index >= 0 else 0)
                hits |= ended
            if group is None or group.mask | covered == covered:
                continue
            if group.resists and resists is None:
                resists = index, group.most
            covered |= group.covers
            kept.append(index)
            groups.append(group)
            is_narrower |= group.most < math.inf and index >= 0 and state.most[index] == math.inf
        is_same = len(kept) == last and (not kept or kept[-1] >= 0)
        is_plain = hit is None and resists is None and not is_narrower
        special = None if is_plain else (hit, resists, hits, is_narrower)
        return self._state(tuple(groups), self.bars_after(char)), None if is_same else self._keeper(kept), special

    def loose_state(self, groups: tuple[Group, ...], after: frozenset[int]) -> State:
        """The state, not kept if it is new."""
        state = self._states.get((groups, after))
        return State(self, groups, after) if state is None else state

    def _keeper(self, kept: list[int]) -> Keeper:
        """Of the old starts and the new one, takes those that stay."""
        which = tuple(kept)
        keeper = self._keepers.get(which)
        if keeper is None:
            keeper = self._keepers[which] = _taking(which)
        return keeper

    def all_after(self, strands: Iterable[Strand], char: str) -> tuple[Group | None, frozenset[int]]:
        """What waits when ``char`` has been read, and the rules that may end with it."""
        alive: list[Strand] = []
        ended: list[int] = []
        for strand in strands:
            after, is_end = strand[char]
            if is_end:
                ended.append(strand.rule)
            if after is not None:
                alive.append(after)
        return self._group(tuple(alive)), frozenset(ended) if ended else _NOTHING

    def after(self, rule: int, nodes: Iterable[int], char: str) -> tuple[Strand | None, bool]:
        """The same in one pattern."""
        alive: set[int] = set()
        passed = self._tests.passed(char)
        for index in nodes:
            node = self.nodes[index]
            if node.test in passed:
                alive |= node.ways
        is_end = ACCEPT in alive
        alive.discard(ACCEPT)
        if is_end and rule in self._lazy:  # the first end is the end
            return None, True
        return self._strand(rule, frozenset(alive)), is_end

    def _strand(self, rule: int, alive: frozenset[int]) -> Strand | None:
        if not alive:
            return None
        strand = self._strands.get((rule, alive))
        if strand is None:
            strand = self._strands[rule, alive] = Strand(self, rule, alive)
        return strand

    def _group(self, strands: tuple[Strand, ...]) -> Group | None:
        if not strands:
            return None
        group = self._groups.get(strands)
        if group is None:
            group = self._groups[strands] = Group(self, strands)
        return group

    def covered_by(self, index: int) -> int:
        """As a set of bits: the nodes of the same item of the pattern that are no turn ahead."""
        covered = self._covered.get(index)
        if covered is None:
            node = self.nodes[index]
            covered = self._covered[index] = sum(
                1 << other
                for other in self._at_site[node.site]
                if all(its <= mine for its, mine in zip(self.nodes[other].counts, node.counts, strict=True))
            )
        return covered

    def resists(self, index: int) -> bool:
        """Does what waits at a node go on through a placeholder?"""
        node = self.nodes[index]
        if node.resists is None:
            may = any(node.test in self._tests.passed(char) for char in self._first)
            node.resists = may and any(self._goes_through(index, said) for said in self._placeholders)
        return node.resists

    def _goes_through(self, index: int, said: Sequence[str]) -> bool:
        alive = {index}
        for chars in said:
            alive = {
                after
                for one in alive
                for after in self.nodes[one].ways
                if any(self.nodes[one].test in self._tests.passed(char) for char in chars)
            }
            if ACCEPT in alive:
                return True
            if not alive:
                return False
        return True

    def class_of(self, char: str) -> str:
        """The first character met that no pattern can tell from this one."""
        return self._classes.setdefault(self._tests.asked(char) | self._signs(char), char)

    @staticmethod
    def _signs(char: str) -> frozenset[int]:
        return frozenset({-1}) if is_word(char) else frozenset()


def _taking(kept: tuple[int, ...]) -> Keeper:
    if len(kept) > 1:
        return itemgetter(*kept)
    if not kept:
        return _none
    return itemgetter(slice(-1, None) if kept[0] < 0 else slice(kept[0], kept[0] + 1))


def _none(_starts: Starts) -> Starts:
    return ()


class _SeenAs(dict[int, str]):
    """For `str.translate`: each character as the first one like it, so that few have to be told apart."""

    def __init__(self, automaton: Automaton) -> None:
        super().__init__()
        self._automaton = automaton

    def __missing__(self, code: int) -> str:
        char = chr(code)
        if len(self) >= _SEEN_MAX:  # a stranger chooses the characters
            self.clear()
        seen = self[code] = self._automaton.class_of(char)
        return seen
