"""How far is a text settled that is still being written? Up to the first place from which some rule may yet hit.

All patterns (`nodes`) are one automaton that is stepped once per character. It says yes more often than the patterns,
and knows no anchors and no validators. Where it says no, no pattern can begin or go on. Every *start* that is still
alive is kept, oldest first, with the places in patterns that it waits at; a start is dropped when older ones wait at
all of its places, for the older one holds the text back already.

The states of the automaton are worked out when a text first needs them and kept for all texts (`Automaton`); a text
itself has a `Cursor`: the state that it is in and the starts that are alive.
"""

from __future__ import annotations

from operator import itemgetter
from typing import TYPE_CHECKING, Final

from ext_proc.redaction.nodes import ACCEPT, Node, PatternReader, Tests, is_word

if TYPE_CHECKING:
    import re
    from collections.abc import Callable, Iterable, Sequence
    from typing import TypeAlias

    Starts: TypeAlias = tuple[int, ...]
    Special: TypeAlias = tuple[tuple[int, float] | None, tuple[int, float] | None, frozenset[int]]
    Edge: TypeAlias = "tuple[State, Callable[[Starts], Starts] | None, Special | None]"

_STATES_MAX: Final = 12_000
"""Worked-out states that are kept, about 4 KB each; then it begins again."""
_SEEN_MAX: Final = 20_000
"""Characters whose class is kept."""


class State(dict[str, "Edge"]):
    """What is alive: for each start, oldest first, its nodes. As a mapping: where each character leads.

    An edge is the next state; what takes the starts that stay (None: all, as they are); and where there is anything to
    say: the oldest start that may have ended here, and the oldest one that goes through a placeholder, each
    with how far back it can be at most, and the rules that may have ended.
    """

    __slots__ = ("_automaton", "after", "groups", "most", "open_rules")

    def __init__(self, automaton: Automaton, groups: tuple[frozenset[int], ...], after: frozenset[int]) -> None:
        super().__init__()
        self._automaton = automaton
        self.groups = groups
        self.after = after  # rules that may not begin after the last character; -1 for "in a word"
        nodes = automaton.nodes
        self.most = tuple(max(nodes[node].most for node in group) for group in groups)
        self.open_rules = frozenset(nodes[n].rule for group in groups for n in group if nodes[n].is_open)

    def __missing__(self, char: str) -> Edge:
        edge = self[char] = self._automaton.step(self, char)
        return edge

    def rules(self, group: int) -> dict[int, float]:
        """Rules that the start is alive for, and how many characters a match of each has by now at most."""
        found: dict[int, float] = {}
        for index in self.groups[group]:
            node = self._automaton.nodes[index]
            found[node.rule] = max(found.get(node.rule, 0), node.most)
        return found

    def waiting(self, rules: frozenset[int]) -> frozenset[int]:
        """The places in the patterns of ``rules`` that something is alive at."""
        nodes = self._automaton.nodes
        return frozenset(index for group in self.groups for index in group if nodes[index].rule in rules)


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
        self._entry: set[int] = set()
        self._barred: dict[int, set[int]] = {}
        self._at_boundary: set[int] = set()
        self._lazy: set[int] = set()
        self._placeholders = tuple(placeholders)
        self._first = sorted({char for said in self._placeholders for char in said[0]})
        for rule, pattern in patterns:
            reader = PatternReader(self.nodes, self._tests, rule, pattern.flags)
            reader.read(pattern.pattern)
            self._entry |= reader.entry
            self._barred[rule] = reader.barred
            if reader.is_at_boundary:
                self._at_boundary.add(rule)
            if reader.is_lazy:
                self._lazy.add(rule)
        self._entry.discard(ACCEPT)
        self._begin: dict[tuple[frozenset[int], str], frozenset[int]] = {}
        self._bars: dict[str, frozenset[int]] = {}
        self._states: dict[tuple[tuple[frozenset[int], ...], frozenset[int]], State] = {}
        self._groups: dict[frozenset[int], frozenset[int]] = {}
        self._classes: dict[frozenset[int], str] = {}
        self.seen_as = _SeenAs(self)
        self.empty = self._state((), frozenset())

    def _state(self, groups: tuple[frozenset[int], ...], after: frozenset[int]) -> State:
        state = self._states.get((groups, after))
        if state is None:
            if len(self._states) >= _STATES_MAX:
                self._states.clear()  # cursors keep theirs
                self._groups.clear()
                self.empty.clear()
                self._states[self.empty.groups, self.empty.after] = self.empty
            state = self._states[groups, after] = State(self, groups, after)
        return state

    def _bars_after(self, char: str) -> frozenset[int]:
        """Rules that do not begin after ``char``."""
        bars = self._bars.get(char)
        if bars is None:
            passed = self._tests.passed(char)
            barred = {rule for rule, tests in self._barred.items() if tests & passed}
            bars = self._bars[char] = frozenset(barred | ({-1} if is_word(char) else set()))
        return bars

    def _begun(self, after: frozenset[int], char: str) -> frozenset[int]:
        """What begins with ``char``."""
        begun = self._begin.get((after, char))
        if begun is None:
            barred = after | self._at_boundary if (-1 in after) == is_word(char) else after
            passed = self._tests.passed(char)
            begun = self._begin[after, char] = frozenset(
                n for n in self._entry if self.nodes[n].test in passed and self.nodes[n].rule not in barred
            )
        return begun

    def step(self, state: State, char: str) -> Edge:
        """Where ``char`` leads; worked out once."""
        begin = self._begun(state.after, char)
        kept: list[int] = []
        groups: list[frozenset[int]] = []
        held: dict[tuple[int, ...], list[tuple[int, ...]]] = {}
        seen: set[int] = set()
        hit: tuple[int, float] | None = None
        hits: set[int] = set()
        resists: tuple[int, float] | None = None
        for index, group in [*enumerate(state.groups), (-1, begin)]:
            alive, ended = self._after(group, char)
            if ended:
                hit = hit or (index, state.most[index] if index >= 0 else 0)
                hits |= ended
            fresh = [node for node in alive if node not in seen and not self._is_covered(node, held)]
            if not fresh:
                continue
            if resists is None and any(self._resists(node) for node in fresh):
                resists = index, max(self.nodes[node].most for node in fresh)
            for node in fresh:
                held.setdefault(self.nodes[node].site, []).append(self.nodes[node].counts)
            seen.update(fresh)
            kept.append(index)
            alive_for = frozenset(fresh)
            groups.append(self._groups.setdefault(alive_for, alive_for))
        is_same = kept == list(range(len(state.groups)))
        special = None if hit is None and resists is None else (hit, resists, frozenset(hits))
        return self._state(tuple(groups), self._bars_after(char)), None if is_same else _keeper(kept), special

    def _after(self, group: Iterable[int], char: str) -> tuple[set[int], set[int]]:
        after: set[int] = set()
        ended: set[int] = set()
        nodes = self.nodes
        passed = self._tests.passed(char)
        for index in group:
            node = nodes[index]
            if node.test in passed:
                after |= node.ways
                if ACCEPT in node.ways:
                    ended.add(node.rule)
        after.discard(ACCEPT)
        if ended & self._lazy:  # the first end is the end
            done = ended & self._lazy
            after = {index for index in after if nodes[index].rule not in done}
        return after, ended

    def _is_covered(self, index: int, held: dict[tuple[int, ...], list[tuple[int, ...]]]) -> bool:
        """Is an older start at the same item of the pattern, and no turn behind?"""
        node = self.nodes[index]
        return any(
            all(mine <= theirs for mine, theirs in zip(node.counts, counts, strict=True))
            for counts in held.get(node.site, ())
        )

    def _resists(self, index: int) -> bool:
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


def _keeper(kept: list[int]) -> Callable[[tuple[int, ...]], tuple[int, ...]]:
    """Of the old starts and the new one, takes those that stay."""
    if len(kept) > 1:
        return itemgetter(*kept)
    if not kept:
        return _none
    return itemgetter(slice(-1, None) if kept[0] < 0 else slice(kept[0], kept[0] + 1))


def _none(_starts: tuple[int, ...]) -> tuple[int, ...]:
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


class Cursor:
    """Where a text is in an automaton. Places count its characters."""

    __slots__ = ("at", "automaton", "hit_first", "hit_last", "hit_rules", "resisting", "starts", "state")

    def __init__(self, automaton: Automaton, at: int = 0) -> None:
        self.automaton = automaton
        self.at = at
        self.state = automaton.empty
        self.starts: tuple[int, ...] = ()
        self.hit_first: int | None = None
        """The oldest start of what may be a value and was not looked at yet."""
        self.hit_last = 0
        self.hit_rules: frozenset[int] = frozenset()
        """Where the last such value may end."""
        self.resisting: list[tuple[int, int]] = []
        """Places where a placeholder could come to stand that something older goes through, and how old that is."""

    def copy(self) -> Cursor:
        """Another one at the same place."""
        other = Cursor(self.automaton, self.at)
        other.state, other.starts = self.state, self.starts
        other.hit_first, other.hit_last, other.hit_rules = self.hit_first, self.hit_last, self.hit_rules
        other.resisting = list(self.resisting)
        return other

    def feed(self, text: str) -> None:
        """Step over ``text``."""
        state, starts, at = self.state, self.starts, self.at
        for char in text.translate(self.automaton.seen_as):
            state, keep, special = state[char]
            if special is not None:
                self._note(special, starts, at)
            if keep is not None:
                starts = keep((*starts, at))
            at += 1
        self.state, self.starts, self.at = state, starts, at

    def _note(self, special: Special, starts: Starts, at: int) -> None:
        hit, resists, rules = special
        if hit is not None:
            index, most = hit
            start = at if index < 0 else int(max(starts[index], at - most))
            self.hit_first = start if self.hit_first is None else min(self.hit_first, start)
            self.hit_last = at + 1
            if not rules <= self.hit_rules:
                self.hit_rules |= rules
            self._resist(at + 1, start)
        if resists is not None:
            index, most = resists
            self._resist(at + 1, at if index < 0 else int(max(starts[index], at + 1 - most)))

    def _resist(self, at: int, start: int) -> None:
        while self.resisting and self.resisting[-1][1] >= start:  # the new one says more
            self.resisting.pop()
        self.resisting.append((at, start))

    def settled(self) -> int:
        """No rule can hit from before here any more, but for what has ended already."""
        at = self.at
        lowest: float = at
        for start, most in zip(self.starts, self.state.most, strict=True):
            if start >= lowest:  # and so are all that follow
                break
            lowest = min(lowest, max(start, at - most))
        return int(lowest)

    def crossed(self) -> int:
        """Nothing that is alive began before here, nor anything that it is told apart from no more."""
        return self.starts[0] if self.starts else self.at

    def looked_at(self, to: int) -> None:
        """What lies before ``to`` has been looked at and let go."""
        if self.hit_first is not None:
            if self.hit_last <= to:
                self.hit_first, self.hit_rules = None, frozenset()
            else:
                self.hit_first = max(self.hit_first, to)
        resisting = self.resisting
        while resisting and resisting[0][0] < to:
            resisting.pop(0)  # there are few
