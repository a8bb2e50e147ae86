"""A streamed answer, where `protocols.streaming` (where text is) and `redaction` (what may pass) are joined.

One masker for each text that the answer says; what it may say itself (a tool's name, a finish reason) is checked as a
whole answer's is, by the same functions.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ext_proc.app.exchange.labels import public_path
from ext_proc.model import Piece, Redaction
from ext_proc.protocols import streaming
from ext_proc.protocols.document import with_edits
from ext_proc.redaction import StreamRedactor

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ext_proc.model import RedactionRule
    from ext_proc.protocols.streaming import Learnt, StreamReader
    from ext_proc.redaction import Detector, Redactor

    Describe = Callable[[Redaction, Learnt], Redaction]

_ASKED_MEANWHILE_BYTES: Final = 512
"""Larger pieces may be read in a thread; smaller ones are read in one go, and nobody asks meanwhile."""


class StreamedAnswer:
    """`ports.AnswerStream`.

    Args:
        reader: of the answer's events.
        tainted_headers: fields of its head that must not pass.
        describe: makes what is told of the model out of what the answer said of itself.
        waits: is a recogniser of names waited for? Then pieces of any size are read in a thread.
    """

    def __init__(
        self, reader: StreamReader, tainted_headers: tuple[str, ...], describe: Describe, *, waits: bool = False
    ) -> None:
        self.waits = waits
        self._reader = reader
        self._tainted_headers = tainted_headers
        self._describe = describe
        self._known: Redaction | None = None  # as it was when last asked, or after a large piece: a thread may read on

    def feed(self, data: bytes, *, is_last: bool) -> Piece:
        """See `ports.AnswerStream.feed`."""
        is_large = self.waits or len(data) > _ASKED_MEANWHILE_BYTES
        self._known = (self._known or self._told()) if is_large else None
        try:
            return self._fed(data, is_last=is_last)
        finally:
            self._known = self._told() if is_large else None

    def _fed(self, data: bytes, *, is_last: bool) -> Piece:
        released = self._reader.feed(data)
        body, refused = released.data, released.refused
        if is_last and refused is None:
            rest = self._reader.finish()
            body, refused = body + rest.data, rest.refused
        if refused is None:
            return Piece(body)
        blocked = self._reader.learnt().blocked
        return Piece(body, blocked=blocked) if blocked else Piece(body, unreadable=refused)

    def told(self) -> Redaction:
        """See `ports.AnswerStream.told`. The caller may leave while a piece is read: then without that piece."""
        self._known = self._known or self._told()
        return self._known

    def _told(self) -> Redaction:
        learnt = self._reader.learnt()
        known = Redaction(
            body=b"",
            decoded=b"",
            removals=learnt.removals,
            coverage=learnt.coverage,
            blocked=learnt.blocked,
            tainted_headers=self._tainted_headers,
        )
        return self._describe(known, learnt)

    def farewell(self, code: str, text: str) -> bytes:
        """See `ports.AnswerStream.farewell`."""
        self._known = None
        return self._reader.farewell(code, streaming.TEXTS.get(code, text))


class Maskers:
    """What masks the texts of a stream, by a decision's rules.

    Args:
        redactor: of texts that are not in pieces.
        hash_key: key of the one-way pseudonyms.
        detector: finds what may not pass.
    """

    def __init__(self, redactor: Redactor, hash_key: bytes, detector: Detector) -> None:
        self._redactor = redactor
        self._hash_key = hash_key
        self._detector = detector

    def of_pieces(self, rules: Sequence[RedactionRule]) -> streaming.MakeMasker:
        """What makes the masker of each text in pieces."""

        def make(path: str, context: str) -> streaming.Masker:
            public = public_path(path)
            return StreamRedactor(rules, path=public, context=context, hash_key=self._hash_key, detector=self._detector)

        return make

    def of_wholes(self, rules: Sequence[RedactionRule]) -> streaming.MaskWhole:
        """What masks a text that is not in pieces: as it is in a whole answer."""

        def mask(path: str, context: str, text: str) -> streaming.Masked:
            spans = self._detector.scan(text, context)
            if not spans:
                return streaming.Masked(text, (), ())
            made = self._redactor.edits(public_path(path), text, spans, rules, context)
            return streaming.Masked(with_edits(text, made.edits), made.removals, made.blocked)

        return mask
