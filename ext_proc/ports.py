"""What the driver needs from the rooms. Each method says: durable? concurrent? idempotent? who retries? raises what?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Awaitable, Mapping, Sequence
    from datetime import datetime

    from ext_proc.model import (
        Asking,
        Call,
        Connection,
        Decision,
        Entry,
        ExchangeId,
        Headers,
        HoldEnding,
        HoldId,
        Identity,
        Inspection,
        Piece,
        Presented,
        Receipt,
        Redaction,
        RedactionRule,
        Refusal,
        Secret,
        Standing,
        Tokens,
        Wanted,
    )


class Identities(Protocol):
    """Who asks."""

    def recall(self, presented: Presented, connection: Connection, now: datetime) -> Identity | None:
        """What `authenticate` would say, if that is known without waiting; else None. Never waits, never raises."""
        ...

    async def authenticate(self, presented: Presented, connection: Connection, now: datetime) -> Identity:
        """Verify what the caller showed. Safe to call concurrently; idempotent; callers never retry.

        Raises:
            BadToken: nothing was shown, or it does not verify.
            KeysUnavailable: the issuer's keys cannot be had.
        """
        ...


class Content(Protocol):
    """What is in it, and what may pass. Pure computing: no I/O, safe to call from any thread.

    But where the connection has a recogniser of names, `inspect`, `redact_request`, `redact_response` and
    `AnswerStream.feed` wait for it (within its deadline), and raise `errors.RecogniserUnavailable` where it fails and
    must not.
    """

    def inspect(self, connection: Connection, method: str, path: str, headers: Headers, body: bytes) -> Inspection:
        """Read a whole request body (``body`` as on the wire) and scan it.

        Raises:
            UnknownOperation: method and path name no operation of the connection.
            UnsupportedContent: content type or encoding cannot be inspected.
            BadBody: the body is not what the operation takes.
        """
        ...

    def wanted(self, inspection: Inspection, rules: Sequence[RedactionRule]) -> Wanted:
        """What the rules tokenise. Never raises for content that `inspect` accepted."""
        ...

    def redact_request(self, inspection: Inspection, rules: Sequence[RedactionRule]) -> Redaction:
        """The request body as the model may see it. Never raises for content that `inspect` accepted.

        What the rules tokenise and ``inspection.tokens`` has no token for is masked.
        """
        ...

    def redact_response(
        self,
        inspection: Inspection,
        rules: Sequence[RedactionRule],
        status: int,
        headers: Headers,
        body: bytes,
        limit_bytes: int,
    ) -> Redaction:
        """The response body as the caller may see it; ``body`` as on the wire, content encoding and all.

        ``limit_bytes`` bounds it once decoded. What ``inspection.tokens`` says may be restored is, after masking.

        Raises:
            UpstreamError: the answer cannot be decoded, parsed or inspected; nothing of it may pass.
        """
        ...

    def open_stream(
        self, inspection: Inspection, rules: Sequence[RedactionRule], headers: Headers, limit_bytes: int
    ) -> AnswerStream:
        """Begin to read an answer that streams; ``limit_bytes`` bounds the whole of it.

        Raises:
            UpstreamError: answers of this kind cannot be inspected; nothing of it may pass.
        """
        ...

    def refusal(self, connection: Connection | None, path: str, refusal: Refusal) -> tuple[str, bytes]:
        """Content type and body of a refusal in the shape that the path's client understands. Never raises."""
        ...


class AnswerStream(Protocol):
    """A streamed answer on its way through. Pure computing, with a state: one call after the other."""

    @property
    def waits(self) -> bool:
        """Does `feed` wait for another process? Then never in the event loop."""
        ...

    def feed(self, data: bytes, *, is_last: bool) -> Piece:
        """The next bytes as on the wire; what may be released now. With ``is_last`` nothing is held back any more.

        Raises:
            UpstreamError: it cannot be read on; nothing more of it may pass.
        """
        ...

    def told(self) -> Redaction:
        """What is known so far: removals, coverage, model, usage, tool calls; ``body`` and ``decoded`` are empty."""
        ...

    def farewell(self, code: str, text: str) -> bytes:
        """The event by which the protocol tells a client that a stream ends in an error. Never raises."""
        ...


class TokenDesk(Protocol):
    """What stands for a value until it comes back."""

    async def open(self, call: Call, decision: Decision, wanted: Wanted, now: datetime) -> Tokens:
        """Tokens for all that is wanted, and those that the answer may bring back: none of them anybody else's.

        Durable when it returns. Safe to call concurrently, from several processes; idempotent; nobody retries.

        Raises:
            AuditUnavailable: the vault or the subject's key cannot be used.
        """
        ...


class Holds(Protocol):
    """Does a person agree."""

    async def ask(self, asking: Asking, now: datetime) -> Standing:
        """Hold the call, or find how the same call stands already. ``claimed``: this exchange may pass, no other does.

        Durable when it returns. Safe to call concurrently, from several processes; nobody retries.

        Raises:
            ApprovalUnavailable: the register cannot be used.
            TooManyHolds: as many calls wait as may.
        """
        ...

    async def wait(self, hold_id: HoldId, exchange_id: ExchangeId, until: datetime) -> Standing:
        """How it stands once it is resolved, or at ``until`` (then it is ``pending``).

        Raises:
            ApprovalUnavailable: the register cannot be used.
        """
        ...

    def ended(self, exchange_id: ExchangeId, ending: HoldEnding) -> None:
        """What became of an exchange that asked, also where `ask` or `wait` was cancelled half way. Never fails: what
        cannot be kept now is kept later, and after a crash by whoever recovers the log.
        """
        ...


class Policy(Protocol):
    """May they."""

    async def decide(self, call: Call) -> Decision:
        """Put the question once, within the configured time. Safe to call concurrently; nobody retries.

        Raises:
            PolicyUnavailable: no answer in time, or an error.
            PolicyUndefined: an answer that is not exactly a decision.
        """
        ...


class Recorder(Protocol):
    """It happened."""

    def admit(self, size_bytes: int) -> None:
        """Make sure that records of this size still fit on the disk, before a call is let in. Reserves nothing.

        Raises:
            AuditUnavailable: they do not, or the writer has stopped.
        """
        ...

    def record(self, entry: Entry, now: datetime) -> Awaitable[Receipt]:
        """Append; the entry is durable when what this returns is done. Safe to call concurrently; nobody retries.

        Entries without payloads still fit when the disk is full (they draw on an emergency reserve).

        Raises:
            AuditUnavailable: it could not be made durable.
        """
        ...

    def ended(self, exchange_id: ExchangeId) -> None:
        """Nothing is left to say of an exchange: Envoy has taken what its outcome says, or a record says otherwise.

        Of an outcome without this, recovery says that nobody knows whether its answer was given (L7). Never fails.
        """
        ...


class Credentials(Protocol):
    """What the upstream gets instead of the caller's credential."""

    def reveal(self, connection: Connection) -> Mapping[str, Secret]:
        """Header name to value, read from the connection's file (kept until the file changes).

        Raises:
            CredentialUnavailable: the file cannot be read or is empty.
        """
        ...
