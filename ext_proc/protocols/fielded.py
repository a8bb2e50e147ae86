"""What field rules did to a tree, and what they are asked with. Pure."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, TypeVar

from ext_proc.model import Action, FieldAction, FieldRule, Removal
from ext_proc.protocols.document import pointer
from ext_proc.protocols.field_states import States

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from ext_proc.protocols.streaming.masking import Masker

Place = tuple[str | int, ...]

Known = TypeVar("Known")

_LEFT_OUT: Final = "field:include"


@dataclass(slots=True)
class Fielded:
    """What was done to a tree.

    Attributes:
        removals: what was taken out.
        blocked: entities of rules that say `FieldAction.BLOCK`.
        excluded_bytes: of values that are not to be scanned.
        settled: by holder (its id), the holder, so that no other gets its id, and keys: nothing is to be scanned there.
        names: by holder (its id) and key, the name that a member is to get.
        parsed: by holder (its id), then key: a string of JSON as it was read, and as it stands now.
    """

    removals: list[Removal] = field(default_factory=list)
    blocked: list[str] = field(default_factory=list)
    excluded_bytes: int = 0
    settled: dict[int, tuple[Any, set[Any]]] = field(default_factory=dict)
    names: dict[tuple[int, str], str] = field(default_factory=dict)
    parsed: dict[int, dict[Any, list[Any]]] = field(default_factory=dict)

    @property
    def is_nothing(self) -> bool:
        """Is the tree as it was, and all of it to be scanned?"""
        return not (self.removals or self.settled)

    def is_settled(self, holder: Any, key: Any) -> bool:
        """Is nothing to be scanned there?"""
        found = self.settled.get(id(holder))
        return found is not None and key in found[1]

    def settle(self, holder: Any, key: Any) -> None:
        """Scan nothing there."""
        self.settled.setdefault(id(holder), (holder, set()))[1].add(key)

    def without(self, node: list[Any], gone: Sequence[int]) -> None:
        """Take items (in order) out of a list; what is known of the others moves with them."""
        for position in reversed(gone):
            del node[position]
        _, settled = self.settled.pop(id(node), (node, set()))
        for at in moved(dict.fromkeys(settled), gone):
            self.settle(node, at)
        parsed = self.parsed.pop(id(node), {})
        if parsed:
            self.parsed[id(node)] = moved(parsed, gone)


class Fields:
    """The field rules of one direction, ready to be asked.

    Args:
        rules: a connection's and a decision's, together.
        say: what a whole text becomes.
        masker: what masks a text in pieces, to the same result; the path is for records.
        show: a path as it may be on record.
    """

    def __init__(
        self,
        rules: Sequence[FieldRule],
        say: Callable[[FieldRule, str], str],
        masker: Callable[[FieldRule, str], Masker],
        show: Callable[[str], str],
    ) -> None:
        self.states = States(rules)
        self.say = say
        self.masker = masker
        self.show = show


def moved(known: Mapping[int, Known], gone: Sequence[int]) -> dict[int, Known]:
    """What is known of the items of a list, when some of them (in order) are taken out."""
    left = known.keys() - set(gone)
    return {at - bisect_left(gone, at): known[at] for at in left}


def removal_of(rule: FieldRule, path: str, size: int) -> Removal:
    """What is said about a field that was taken out."""
    return Removal(path, 0, size, rule.entity, rule.rule, rule.source, Action(rule.action.value))


def path_of(place: Place) -> str:
    """A place as a channel's path."""
    return "".join(f"/{pointer(part) if isinstance(part, str) else part}" for part in place)


def left_out(lacking: frozenset[str]) -> FieldRule:
    """What is done about a field that lists of included fields do not name."""
    return FieldRule((), FieldAction.DROP, rule=_LEFT_OUT, source=min(lacking))
