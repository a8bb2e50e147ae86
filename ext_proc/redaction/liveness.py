"""How far is a text settled that is still being written? Up to the first place from which some rule may yet hit.

All patterns are one automaton (`automaton`) that is stepped once per character. It says yes more often than the
patterns, and knows no anchors and no validators. Where it says no, no pattern can begin or go on. Every *start* that is
still alive is kept, oldest first; a text has a `Cursor`: the state that it is in and the starts that are alive.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

from ext_proc.redaction.automaton import Automaton

if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import TypeAlias

    from ext_proc.redaction.automaton import Found, Group, Starts

    Alive: TypeAlias = list[tuple[int, Group]]

__all__ = ["Automaton", "Cursor"]

_PART: Final = 256
"""Characters that are read in one way."""
_WORTH: Final = 16
_DEBT_MAX: Final = 1024 * _WORTH
"""A text that needed so many new states, beyond one in so many characters, is read without them for a while."""


class Cursor:
    """Where a text is in an automaton. Places count its characters."""

    __slots__ = (
        "_debt", "at", "automaton", "hit_first", "hit_from", "hit_last", "hit_rules", "resisting", "starts", "state",
    )  # fmt: skip

    def __init__(self, automaton: Automaton, at: int = 0) -> None:
        self.automaton = automaton
        self.at = at
        self.state = automaton.empty
        self.starts: tuple[int, ...] = ()
        self._debt = 0
        self.hit_first: int | None = None
        """The oldest start of what may be a value and was not looked at yet."""
        self.hit_last = 0
        """Where the last such value may end, ..."""
        self.hit_from = 0
        """... and where it begins: the oldest of those that may end there."""
        self.hit_rules: frozenset[int] = frozenset()
        self.resisting: list[tuple[int, int]] = []
        """Places where a placeholder could come to stand that something older goes through, and how old that is."""

    def copy(self) -> Cursor:
        """Another one at the same place."""
        other = Cursor(self.automaton, self.at)
        other.state, other.starts, other._debt = self.state, self.starts, self._debt
        other.hit_first, other.hit_last, other.hit_rules = self.hit_first, self.hit_last, self.hit_rules
        other.hit_from = self.hit_from
        other.resisting = list(self.resisting)
        return other

    def feed(self, text: str) -> None:
        """Step over ``text``."""
        if len(text) > _PART or self._debt > _DEBT_MAX:
            self._feed_parts(text)
            return
        automaton = self.automaton
        state, starts, at, before = self.state, self.starts, self.at, automaton.worked_out
        for char in text.translate(automaton.seen_as):
            state, keep, special = state[char]
            if special is None:
                if keep is not None:
                    starts = keep((*starts, at))
                at += 1
                continue
            hit, resists, rules, is_narrower = special
            if hit is not None or resists is not None:
                self._note(hit, resists, rules, starts, at)
            if keep is not None:
                starts = keep((*starts, at))
            at += 1
            if is_narrower:
                starts = _clamped(starts, state.most, at)
        self.state, self.starts, self.at = state, starts, at
        if automaton.worked_out != before:
            self._debt += (automaton.worked_out - before) * _WORTH
        elif self._debt > 0:
            self._debt -= len(text)

    def _feed_parts(self, text: str) -> None:
        for low in range(0, len(text), _PART):
            part = text[low : low + _PART]
            if self._debt <= _DEBT_MAX:
                self.feed(part)
            else:
                self._debt -= len(part)
                self._feed_loosely(part)

    def _feed_loosely(self, text: str) -> None:
        """The same without working out states: where nearly each character needs a new one, they are of no use."""
        automaton = self.automaton
        alive = list(zip(self.starts, self.state.groups, strict=True))
        after, at = self.state.after, self.at
        for char in text.translate(automaton.seen_as):
            alive = self._one_on(alive, after, char, at)
            after = automaton.bars_after(char)
            at += 1
        self.state = automaton.loose_state(tuple([group for _, group in alive]), after)
        self.starts, self.at = tuple([start for start, _ in alive]), at

    def _one_on(self, alive: Alive, after: frozenset[int], char: str, at: int) -> Alive:
        """What is alive after one more character; what is to be noted of it is."""
        hit: int | None = None
        hits: frozenset[int] = frozenset()
        resists: int | None = None
        on: Alive = []
        covered = 0
        is_narrower = False
        ways = [(start, group.most, group[char]) for start, group in alive]
        ways.append((at, 0, self.automaton.begun(after, char)))
        for start, most, (group, ended) in ways:
            if ended:
                if hit is None:
                    hit = start if start == at else _not_before(start, at - most)
                hits |= ended
            if group is None or group.mask | covered == covered:
                continue
            covered |= group.covers
            is_narrower |= group.most < most == math.inf
            on.append((start, group))
            if resists is None and group.resists:
                resists = _not_before(start, at + 1 - group.most)
        self._note_at(hit, resists, hits, at)
        return [(_not_before(start, at + 1 - group.most), group) for start, group in on] if is_narrower else on

    def _note(self, hit: Found, resists: Found, rules: frozenset[int], starts: Starts, at: int) -> None:
        oldest = goes_through = None
        if hit is not None:
            index, most = hit
            oldest = at if index < 0 else _not_before(starts[index], at - most)
        if resists is not None:
            index, most = resists
            goes_through = at if index < 0 else _not_before(starts[index], at + 1 - most)
        self._note_at(oldest, goes_through, rules, at)

    def _note_at(self, hit: int | None, resists: int | None, rules: frozenset[int], at: int) -> None:
        """With the character at ``at``, what began there may have ended, and goes through a placeholder."""
        if hit is not None:
            if self.hit_first is None or hit < self.hit_first:
                self.hit_first = hit
            self.hit_last, self.hit_from = at + 1, hit
            if not rules <= self.hit_rules:
                self.hit_rules |= rules
            self._resist(at + 1, hit)
        if resists is not None:
            self._resist(at + 1, resists)

    def resist(self, others: Iterable[tuple[int, int]]) -> None:
        """Note those of another reading as well: each once, for most were noted before the two parted."""
        both, self.resisting = {*self.resisting, *others}, []
        for at, start in sorted(both):
            self._resist(at, start)

    def _resist(self, at: int, start: int) -> None:
        while self.resisting and self.resisting[-1][1] >= start:  # the new one says more
            self.resisting.pop()
        self.resisting.append((at, start))

    def settled(self) -> int:
        """No rule can hit from before here any more, but for what has ended already."""
        return min(self.starts, default=self.at)

    def clamp(self) -> None:
        """Nothing that is alive began further back than a match may be long.

        Not part of `settled`, which must not depend on when one asks for it: what waits elsewhere in a pattern may be
        longer again. So this is for places that are the same for every chunking.
        """
        self.starts = _clamped(self.starts, self.state.most, self.at)

    def crossed(self) -> int:
        """Nothing that is alive began before here, nor anything that it is told apart from no more."""
        return min(self.starts, default=self.at)

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


def _not_before(start: int, first: float) -> int:
    return start if start >= first else int(first)


def _clamped(starts: Starts, mosts: tuple[float, ...], at: int) -> Starts:
    return tuple([start if at - most <= start else int(at - most) for start, most in zip(starts, mosts, strict=True)])
