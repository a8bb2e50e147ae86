"""What a stream took out, in the order of its text: what is settled is told once, only what may change is looked at.

A stream is asked for all of it before each large piece goes on, and there may be tens of thousands.
"""

from __future__ import annotations

from dataclasses import dataclass
from operator import attrgetter
from typing import TYPE_CHECKING

from ext_proc.redaction.redact import LOOKS, not_within

if TYPE_CHECKING:
    from collections.abc import Callable

    from ext_proc.model import Removal
    from ext_proc.redaction.look import Out


@dataclass(slots=True, eq=False)
class Removed:
    """What was taken out at the look ``index``, in places of the channel. Its end may still move."""

    index: int
    out: Out
    start: int
    end: int


class Taken:
    """What was taken out so far."""

    __slots__ = ("_count", "_settled", "open")

    def __init__(self) -> None:
        self._settled: list[Removal] = []
        self._count = 0
        self.open: list[Removed] = []
        """What is not settled: it may end elsewhere, or go once more as part of what a later look finds."""

    @property
    def count(self) -> int:
        """How much it is, at most: what a later look takes out once more counts again."""
        return self._count

    def add(self, one: Removed) -> None:
        """One more."""
        self.open.append(one)
        self._count += 1

    def end(self, out: Out, at: int) -> None:
        """It is known now where ``out`` ends."""
        for one in reversed(self.open):
            if one.out is out:
                one.end = at
                return

    def told(self, removal: Callable[[Removed], Removal], settled: int) -> tuple[Removal, ...]:
        """All of it, in the order of the text.

        Args:
            removal: what is said about one.
            settled: what lies before this place of the channel, no look touches any more.
        """
        found: list[Removal] = []
        for index in range(LOOKS):
            gone = [removal(one) for one in self.open if one.index == index]
            found = sorted([*not_within(found, gone), *gone], key=attrgetter("start", "end"))
        settled = min([settled, *(one.start for one in self.open if one.out.is_open)])
        self._settled += [one for one in found if one.end <= settled]
        self.open = [one for one in self.open if one.end > settled]
        return (*self._settled, *(one for one in found if one.end > settled))
