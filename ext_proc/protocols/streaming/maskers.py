"""The maskers of one stream: made where they are needed, and what they took out kept together. Pure."""

from __future__ import annotations

from dataclasses import replace
from itertools import takewhile
from typing import TYPE_CHECKING

from ext_proc.protocols.streaming.masking import StreamRefused, fed, finished

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Sequence

    from ext_proc.model import Removal
    from ext_proc.protocols.streaming.masking import MakeMasker, Masker, MaskWhole


class Maskers:
    """Makes maskers, and knows what all of them did.

    Args:
        make: makes the masker of a text in pieces.
        mask_whole: masks a text that is not; without it a masker is made for each.
        restore: puts the caller's own values back in what ``mask_whole`` made.
    """

    def __init__(
        self, make: MakeMasker, mask_whole: MaskWhole | None = None, restore: Callable[[str], str] | None = None
    ) -> None:
        self._make = make
        self._mask_whole = mask_whole
        self._restore = restore
        self._running: dict[int, _Watched] = {}
        self._removals: list[Removal] = []
        self._once: dict[Hashable, Removal] = {}
        self._blocked: tuple[str, ...] = ()

    @property
    def removals(self) -> list[Removal]:
        """What was taken out so far, everywhere."""
        return [*self._removals, *self._once.values()] + [
            one for masker in self._running.values() for one in masker.removals
        ]

    @property
    def settled_count(self) -> int:
        """How much was taken out of texts that are over: fast enough to be asked at every text."""
        return len(self._removals) + len(self._once)

    @property
    def removal_count(self) -> int:
        """How much was taken out so far, at most: what stands before a text counts for it, too."""
        return self.settled_count + sum(masker.removal_count for masker in self._running.values())

    @property
    def blocked(self) -> tuple[str, ...]:
        """Entities that nothing may pass with."""
        found = {entity for masker in self._running.values() for entity in masker.blocked}
        return tuple(sorted({*found, *self._blocked}))

    def piecewise(self, path: str, context: str, *, begins_at: int = 0) -> Masker:
        """The masker of a text in pieces, which begins after as many characters as ``begins_at`` says."""
        return self.watched(self._make(path, context), begins_at)

    def as_a_piece(self, path: str, context: str, text: str) -> str:
        """What the masker of such a text makes of it. Nothing is told of it: it went out before."""
        masker = self._make(path, context)
        return masker.feed(text) + masker.finish()

    def watched(self, masker: Masker, begins_at: int = 0) -> Masker:
        """A masker made elsewhere, of whose removals this knows."""
        made = _Watched(masker, self._running, self._removals, begins_at)
        self._running[id(made)] = made
        return made

    def take(self, removals: Sequence[Removal], blocked: Sequence[str]) -> None:
        """What was taken out of what has no masker.

        Raises:
            StreamRefused: a rule blocks.
        """
        self._removals.extend(removals)
        if blocked:
            self._blocked = tuple(blocked)
            raise StreamRefused("content_blocked")

    def take_once(self, key: Hashable, removal: Removal) -> None:
        """What was taken out of a field that the stream says again and again: told once, by its longest."""
        known = self._once.get(key)
        if known is None or known.end < removal.end:
            self._once[key] = removal

    def whole(self, path: str, context: str, text: str, *, restores: bool = True) -> str:
        """A text that is not in pieces, as it may pass; with the caller's own values, if it is one that ``restores``.

        Raises:
            StreamRefused: a rule of the decision blocks.
        """
        if self._mask_whole is None:
            masker = self.piecewise(path, context)
            return fed(masker, text) + finished(masker)
        masked = self._mask_whole(path, context, text)
        self.take(masked.removals, masked.blocked)
        return self.restored(masked.text) if restores else masked.text

    def restored(self, text: str) -> str:
        """A text that was masked, with the caller's own values in it."""
        return text if self._restore is None else self._restore(text)

    def as_it_goes_out(self, path: str, context: str, text: str) -> str:
        """What masking makes of a text. Nothing is told of it: it went out before, or will."""
        if self._mask_whole is not None:
            return self._mask_whole(path, context, text).text
        return self.as_a_piece(path, context, text)

    def is_clean(self, path: str, context: str, text: str) -> bool:
        """Would nothing of a text be taken out? Nothing is told of it: it does not go out as it stands here."""
        if self._mask_whole is not None:
            masked = self._mask_whole(path, context, text)
            return masked.text == text and not masked.blocked
        masker = self._make(path, context)
        said = masker.feed(text) + masker.finish()
        return said == text and not masker.blocked


class _Watched:
    """A masker that leaves its removals with the stream when it has finished."""

    __slots__ = ("_begins_at", "_masker", "_moved", "_removals", "_running")

    def __init__(self, masker: Masker, running: dict[int, _Watched], removals: list[Removal], begins_at: int) -> None:
        self._begins_at = begins_at
        self._masker = masker
        self._running = running
        self._removals = removals
        self._moved: list[tuple[Removal, Removal]] = []  # as the masker tells them, and in places of the text

    @property
    def blocked(self) -> Sequence[str]:
        return self._masker.blocked

    @property
    def removals(self) -> Sequence[Removal]:
        first = self._begins_at
        if not first:
            return self._masker.removals
        mine = [one for one in self._masker.removals if one.end > first]
        known = sum(1 for _ in takewhile(lambda two: two[0] is two[1][0], zip(mine, self._moved, strict=False)))
        del self._moved[known:]  # most stay as they are: they are not made anew each time
        for one in mine[known:]:
            self._moved.append((one, replace(one, start=max(one.start - first, 0), end=one.end - first)))
        return [moved for _, moved in self._moved]

    @property
    def removal_count(self) -> int:
        return self._masker.removal_count

    def feed(self, text: str) -> str:
        return self._masker.feed(text)

    def flush_masked(self) -> str:
        return self._masker.flush_masked()

    def finish(self) -> str:
        said = self._masker.finish()
        if not self._masker.blocked:  # who blocks is asked who it was
            self._removals.extend(self.removals)
            self._running.pop(id(self), None)
        return said
