"""A recogniser of names as one body asks it: what it could not look at is counted, and passes only where it may."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ext_proc import ner
from ext_proc.errors import RecogniserUnavailable
from ext_proc.model import Recognised

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ext_proc.model import Recognition, Span
    from ext_proc.ner import Recogniser

NOBODY: Final = "none"
"""The recogniser that a record names where there is none."""


class Asked:
    """A recogniser, as one body asks it: what was looked at, and what could not be. After a failure it is left alone.

    Args:
        recogniser: it; None where there is none.
        use: the connection's.
        mode: for the record.
    """

    def __init__(self, recogniser: Recogniser | None, use: Recognition, mode: str) -> None:
        self._recogniser = recogniser
        self._use = use
        self._mode = mode
        self._failure: str | None = None
        self._scanned_bytes = 0
        self._failed_bytes = 0

    def names(self, texts: Sequence[str]) -> list[list[Span]]:
        """What is found in each text.

        Raises:
            RecogniserUnavailable: nothing can be found out, and that must not be.
        """
        asked = [text for text in texts if ner.has_letters(text)]
        found = iter(self._found(asked))
        return [next(found) if ner.has_letters(text) else [] for text in texts]

    @property
    def mode(self) -> str:
        """``whole``, ``sentence``, ``window`` or ``off``."""
        return self._mode

    @property
    def version(self) -> str:
        """Whose finds they are."""
        return self._recogniser.version if self._recogniser else NOBODY

    def told(self) -> Recognised:
        """What is known so far."""
        return Recognised(self.version, self._mode, self._scanned_bytes, self._failed_bytes, self._failure)

    def _found(self, texts: Sequence[str]) -> list[list[Span]]:
        size = sum(len(text.encode(errors="replace")) for text in texts)
        try:
            if self._failure is not None:
                raise RecogniserUnavailable(self._failure)
            if self._recogniser is None:
                raise RecogniserUnavailable("absent")
            found = self._recogniser.recognise(texts)
        except RecogniserUnavailable as error:
            self._failure = error.detail
            self._failed_bytes += size
            if not self._use.may_fail:
                raise
            return [[] for _ in texts]
        self._scanned_bytes += size
        return found
