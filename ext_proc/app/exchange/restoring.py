"""A caller's own values on their way back: after masking, so that what the model says itself is masked as ever."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ext_proc.protocols.document import with_edits
from ext_proc.protocols.frame_names import is_frame_name
from ext_proc.redaction import Restorer, StreamRestorer
from ext_proc.redaction.redact import with_more

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ext_proc.model import Edit, Inspection, Removal
    from ext_proc.protocols.streaming import MakeMasker, Masker


def restorer_of(inspection: Inspection) -> Restorer | None:
    """What puts values back in this exchange's answer; None where there is nothing that may be."""
    tokens = inspection.tokens
    return Restorer(tokens.restorable) if tokens is not None and tokens.restorable else None


def with_values(text: str, edits: Sequence[Edit], restorer: Restorer) -> Sequence[Edit]:
    """The edits that mask a text, and those that put values back in what is left of it."""
    more = restorer.edits(with_edits(text, edits) if edits else text)
    return with_more(text, edits, more) if more else edits


def restoring(make: MakeMasker, restorer: Restorer | None) -> MakeMasker:
    """What makes the masker of each text in pieces: the last thing that it does is to put values back."""
    if restorer is None:
        return make

    def made(path: str, context: str) -> Masker:
        masker = make(path, context)
        return masker if is_frame_name(path) else RestoringMasker(masker, restorer)

    return made


class RestoringMasker:
    """`protocols.streaming.Masker` that puts values back in what another one lets go.

    Args:
        masker: masks.
        restorer: knows the values.
    """

    __slots__ = ("_masker", "_values")

    def __init__(self, masker: Masker, restorer: Restorer) -> None:
        self._masker = masker
        self._values = StreamRestorer(restorer)

    @property
    def blocked(self) -> Sequence[str]:
        """See `Masker.blocked`."""
        return self._masker.blocked

    @property
    def removals(self) -> Sequence[Removal]:
        """See `Masker.removals`."""
        return self._masker.removals

    @property
    def removal_count(self) -> int:
        """See `Masker.removal_count`."""
        return self._masker.removal_count

    def feed(self, text: str) -> str:
        """See `Masker.feed`."""
        return self._values.feed(self._masker.feed(text))

    def finish(self) -> str:
        """See `Masker.finish`."""
        said = self._values.feed(self._masker.finish())
        return said if self._masker.blocked else said + self._values.finish()

    def flush_masked(self) -> str:
        """See `Masker.flush_masked`. What may yet become a token is masked already: it goes on as it is."""
        said = self._values.feed(self._masker.flush_masked())
        return said if self._masker.blocked else said + self._values.finish()
