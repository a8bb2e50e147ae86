"""The maskers of one stream: made where they are needed, and what they took out kept together. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ext_proc.protocols.streaming.masking import StreamRefused, fed, finished

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

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
        self._blocked: tuple[str, ...] = ()

    @property
    def removals(self) -> list[Removal]:
        """What was taken out so far, everywhere."""
        return self._removals + [one for masker in self._running.values() for one in masker.removals]

    @property
    def blocked(self) -> tuple[str, ...]:
        """Entities that nothing may pass with."""
        found = {entity for masker in self._running.values() for entity in masker.blocked}
        return tuple(sorted({*found, *self._blocked}))

    def piecewise(self, path: str, context: str) -> Masker:
        """The masker of a text in pieces."""
        made = _Watched(self._make(path, context), self._running, self._removals)
        self._running[id(made)] = made
        return made

    def whole(self, path: str, context: str, text: str, *, restores: bool = True) -> str:
        """A text that is not in pieces, as it may pass; with the caller's own values, if it is one that ``restores``.

        Raises:
            StreamRefused: a rule of the decision blocks.
        """
        if self._mask_whole is None:
            masker = self.piecewise(path, context)
            return fed(masker, text) + finished(masker)
        masked = self._mask_whole(path, context, text)
        self._removals.extend(masked.removals)
        if masked.blocked:
            self._blocked = tuple(masked.blocked)
            raise StreamRefused("content_blocked")
        return self.restored(masked.text) if restores else masked.text

    def restored(self, text: str) -> str:
        """A text that was masked, with the caller's own values in it."""
        return text if self._restore is None else self._restore(text)

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

    __slots__ = ("_masker", "_removals", "_running")

    def __init__(self, masker: Masker, running: dict[int, _Watched], removals: list[Removal]) -> None:
        self._masker = masker
        self._running = running
        self._removals = removals

    @property
    def blocked(self) -> Sequence[str]:
        return self._masker.blocked

    @property
    def removals(self) -> Sequence[Removal]:
        return self._masker.removals

    def feed(self, text: str) -> str:
        return self._masker.feed(text)

    def flush_masked(self) -> str:
        return self._masker.flush_masked()

    def finish(self) -> str:
        said = self._masker.finish()
        if not self._masker.blocked:  # who blocks is asked who it was
            self._removals.extend(self._masker.removals)
            self._running.pop(id(self), None)
        return said
