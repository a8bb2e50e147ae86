"""`ports.Content` and `ports.Credentials` that do what they are told, for tests of the driver."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from ext_proc.model import Inspection, Piece, Redaction, Secret, Wanted

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ext_proc.model import Connection, Headers, RedactionRule, Refusal
    from ext_proc.ports import AnswerStream

PLAIN = b"ada@example.com"
MASKED = b"<email>"


class FakeContent:
    """Masks one address, both ways. ``errors`` by method: raised instead. ``blocked`` by method: blocked instead."""

    def __init__(self) -> None:
        self.errors: dict[str, BaseException] = {}
        self.blocked: dict[str, tuple[str, ...]] = {}
        self.text_bytes: int | None = None
        self.stream: FakeStream | None = None
        """Instead of one that is made."""

    def inspect(self, connection: Connection, method: str, path: str, headers: Headers, body: bytes) -> Inspection:
        """See `ports.Content.inspect`."""
        del connection, method, path, headers
        self._fail("inspect")
        size = len(body) if self.text_bytes is None else self.text_bytes
        return Inspection(
            "fake", "chat", "demo", is_stream=False, parameters={}, findings={}, text_bytes=size, document=body
        )

    def wanted(self, inspection: Inspection, rules: Sequence[RedactionRule]) -> Wanted:
        """See `ports.Content.wanted`."""
        del rules
        self._fail("wanted")
        return Wanted((("EMAIL", PLAIN.decode()),) if PLAIN in inspection.document else ())

    def redact_request(self, inspection: Inspection, rules: Sequence[RedactionRule]) -> Redaction:
        """See `ports.Content.redact_request`."""
        del rules
        self._fail("redact_request")
        token = inspection.tokens.minted.get(("EMAIL", PLAIN.decode()), "") if inspection.tokens else ""
        return self._masked(inspection.document, "redact_request", f"<{token}>".encode() if token else MASKED)

    def redact_response(
        self,
        inspection: Inspection,
        rules: Sequence[RedactionRule],
        status: int,
        headers: Headers,
        body: bytes,
        limit_bytes: int,
    ) -> Redaction:
        """See `ports.Content.redact_response`."""
        del inspection, rules, status, headers, limit_bytes
        self._fail("redact_response")
        return self._masked(body, "redact_response")

    def open_stream(
        self, inspection: Inspection, rules: Sequence[RedactionRule], headers: Headers, limit_bytes: int
    ) -> AnswerStream:
        """See `ports.Content.open_stream`."""
        del inspection, rules, headers, limit_bytes
        self._fail("open_stream")
        return self.stream or FakeStream(self)

    def refusal(self, connection: Connection | None, path: str, refusal: Refusal) -> tuple[str, bytes]:
        """See `ports.Content.refusal`."""
        del connection, path
        self._fail("refusal")
        return "application/json", json.dumps({"code": refusal.code}).encode()

    def _masked(self, body: bytes, method: str, masked: bytes = MASKED) -> Redaction:
        return Redaction(body=body.replace(PLAIN, masked), decoded=body, blocked=self.blocked.get(method, ()))

    def _fail(self, method: str) -> None:
        error = self.errors.get(method)
        if error is not None:
            raise error


class FakeStream:
    """`ports.AnswerStream` that masks one address, a piece at a time."""

    waits = False

    def __init__(self, content: FakeContent) -> None:
        self._content = content

    def feed(self, data: bytes, *, is_last: bool) -> Piece:
        """See `ports.AnswerStream.feed`."""
        del is_last
        error = self._content.errors.get("feed")
        if error is not None:
            raise error
        return Piece(data.replace(PLAIN, MASKED), self._content.blocked.get("feed", ()))

    def told(self) -> Redaction:
        """See `ports.AnswerStream.told`."""
        return Redaction(b"", b"")

    def farewell(self, code: str, text: str) -> bytes:
        """See `ports.AnswerStream.farewell`."""
        del text
        return f"event: error\ndata: {code}\n\n".encode()


class FakeCredentials:
    """One credential for every connection, unless ``error`` is set."""

    def __init__(self) -> None:
        self.error: BaseException | None = None

    def reveal(self, connection: Connection) -> Mapping[str, Secret]:
        """See `ports.Credentials.reveal`."""
        del connection
        if self.error is not None:
            raise self.error
        return {"authorization": Secret("Bearer upstream-key")}
