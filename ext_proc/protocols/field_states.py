"""Where in a body field rules lead to, asked step by step on the way down: no tree is needed. Pure.

All rules of a direction are one automaton. Its *states* are made when they are first reached and kept: a body has
thousands of places and few that differ, so that a step is one look into a dictionary.
"""

from __future__ import annotations

from dataclasses import replace
from operator import attrgetter
from typing import TYPE_CHECKING, Final

from ext_proc.model import FieldAction, FieldRule, Keep

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_STATES_MAX: Final = 4096
"""More are made anew each time: only made-up sets of rules have so many."""

_STRICT: Final = (
    FieldAction.EXCLUDE,
    FieldAction.PARTIAL,
    FieldAction.HASH,
    FieldAction.MASK,
    FieldAction.DROP,
    FieldAction.BLOCK,
)
_CHANGES_NOTHING: Final = (FieldAction.EXCLUDE, FieldAction.INCLUDE)
_OTHER: Final = -1
"""Instead of a key or an index that no rule names."""

Positions = frozenset[tuple[int, int]]
"""Of each rule that may still lead somewhere: how many of its steps were taken."""


class State:
    """What the rules say of one place.

    Attributes:
        act: what is done about the value, if anything: the strictest of all rules that lead here.
        key: the same of the name that it stands under.
        included: whose lists of included fields name it.
        reaches: whose lists name something below.
        goes_on: may any rule lead further down?
    """

    __slots__ = ("act", "goes_on", "included", "key", "next", "positions", "reaches")

    def __init__(self, positions: Positions, rules: Sequence[FieldRule]) -> None:
        self.positions = positions
        here = [rules[number] for number, taken in sorted(positions) if taken == len(rules[number].steps)]
        below = [rules[number] for number, taken in positions if taken < len(rules[number].steps)]
        acting = [rule for rule in here if rule.action is not FieldAction.INCLUDE]
        self.act = strictest(rule for rule in acting if not rule.is_key)
        self.key = strictest(rule for rule in acting if rule.is_key)
        self.included = frozenset(rule.source for rule in here if rule.action is FieldAction.INCLUDE)
        self.reaches = frozenset(rule.source for rule in below if rule.action is FieldAction.INCLUDE)
        self.goes_on = bool(below)
        self.next: dict[str | int, State] = {}


class States:
    """The automaton of some rules.

    Args:
        rules: a connection's and a decision's, together.
    """

    def __init__(self, rules: Sequence[FieldRule]) -> None:
        self._rules = tuple(rules)
        steps = [step for rule in rules for step in rule.steps]
        self._known: frozenset[str | int] = frozenset(
            {step.name for step in steps if step.name is not None}
            | {step.index for step in steps if step.index is not None}
        )
        self._made: dict[Positions, State] = {}
        self.including = frozenset(rule.source for rule in rules if rule.action is FieldAction.INCLUDE)
        """Who lists what is included: what such a list does not name does not pass."""
        self.may_block = any(rule.action is FieldAction.BLOCK for rule in rules)
        self.nowhere = self._state(frozenset())
        self.root = self._state(frozenset((number, 0) for number in range(len(rules))))

    def after(self, state: State, part: str | int) -> State:
        """The state one step further down: at a member's key, or an item's index."""
        known = part if part in self._known else _OTHER if isinstance(part, int) else ""
        found = state.next.get(known)
        if found is None:
            found = self._state(frozenset(self._moved(state.positions, known)))
            if len(self._made) < _STATES_MAX:
                state.next[known] = found
        return found

    def at(self, place: Iterable[str | int]) -> State:
        """The state at a place of the body."""
        state = self.root
        for part in place:
            state = self.after(state, part)
        return state

    def reaching(self, state: State) -> FieldRule | None:
        """What is done about a value that rules lead into, and that cannot be read: masked whole, by the strictest.

        None if nothing below it would be changed.
        """
        below = {self._rules[number] for number, taken in state.positions if taken < len(self._rules[number].steps)}
        found = strictest(
            sorted((rule for rule in below if rule.action not in _CHANGES_NOTHING), key=attrgetter("rule"))
        )
        return found and replace(found, action=FieldAction.MASK, keep=Keep.NONE, is_key=False)

    def both(self, one: State, other: State) -> State:
        """The state of a value that stands at two places, or has two names."""
        return one if one is other else self._state(one.positions | other.positions)

    def without_passes(self, state: State) -> State:
        """Less the rules that let something through: an item's place in an event is not its index."""
        kept = (one for one in state.positions if self._rules[one[0]].action not in _CHANGES_NOTHING)
        return self._state(frozenset(kept))

    def _moved(self, positions: Positions, part: str | int) -> Iterable[tuple[int, int]]:
        for number, taken in positions:
            steps = self._rules[number].steps
            if taken == len(steps):
                continue
            step = steps[taken]
            if step.is_deep:
                yield number, taken
            if (step.name is None and step.index is None) or part == (step.index if step.name is None else step.name):
                yield number, taken + 1

    def _state(self, positions: Positions) -> State:
        found = self._made.get(positions)
        if found is None:
            found = State(positions, self._rules)
            if len(self._made) < _STATES_MAX:
                self._made[positions] = found
        return found


def strictest(rules: Iterable[FieldRule]) -> FieldRule | None:
    """The one that lets through the least; of equals the first."""
    return max(rules, key=_strictness, default=None)


def _strictness(rule: FieldRule) -> tuple[int, bool]:
    return _STRICT.index(rule.action), rule.keep is Keep.NONE
