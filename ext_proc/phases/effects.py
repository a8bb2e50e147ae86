"""What the session asks the driver to do. Pure values.

*Steps* take time and are answered by exactly one event (`Failed` included); *answers* go to Envoy at once.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from ext_proc.model import (
        Asking,
        Call,
        Connection,
        Decision,
        Entry,
        ExchangeId,
        Headers,
        HoldId,
        Inspection,
        Presented,
        RedactionRule,
        Refusal,
        Secret,
    )
    from ext_proc.ports import AnswerStream

# Steps: each is answered by the event named in its docstring, or by Failed ---------------------------------------


@dataclass(frozen=True, slots=True)
class Admit:
    """Is there room for this exchange's records? `Admitted`."""

    size_bytes: int


@dataclass(frozen=True, slots=True)
class Authenticate:
    """Who asks? `Authenticated`."""

    presented: Presented
    connection: Connection


@dataclass(frozen=True, slots=True)
class Inspect:
    """What is in the request? `Inspected`. ``path`` has its query."""

    connection: Connection
    method: str
    path: str
    headers: Headers
    body: bytes


@dataclass(frozen=True, slots=True)
class Decide:
    """May they? `Decided`."""

    call: Call


@dataclass(frozen=True, slots=True)
class AskApproval:
    """Hold the call until people agree, or find how it stands already. `HoldStands`."""

    asking: Asking


@dataclass(frozen=True, slots=True)
class AwaitApproval:
    """Wait until the hold is resolved, or until ``until``. `HoldStands`."""

    hold_id: HoldId
    exchange_id: ExchangeId
    until: datetime


@dataclass(frozen=True, slots=True)
class OpenTokens:
    """Tokens for what the decision tokenises, durable, and those that the answer may bring back. `TokensOpened`."""

    call: Call
    decision: Decision


@dataclass(frozen=True, slots=True)
class RedactRequest:
    """Make the request fit for the model. `Redacted`."""

    inspection: Inspection
    rules: tuple[RedactionRule, ...]


@dataclass(frozen=True, slots=True)
class RedactResponse:
    """Make the answer fit for the caller. `Redacted`."""

    inspection: Inspection
    rules: tuple[RedactionRule, ...]
    status: int
    headers: Headers
    body: bytes
    limit_bytes: int


@dataclass(frozen=True, slots=True)
class OpenStream:
    """Begin to read an answer that streams. `StreamOpened`."""

    inspection: Inspection
    rules: tuple[RedactionRule, ...]
    headers: Headers
    limit_bytes: int


@dataclass(frozen=True, slots=True)
class RedactPiece:
    """Make the next bytes of a streamed answer fit for the caller; ``is_last``: nothing follows. `PieceRedacted`."""

    answer: AnswerStream
    body: bytes
    is_last: bool


@dataclass(frozen=True, slots=True)
class Unlock:
    """Fetch the upstream credential. `Unlocked`."""

    connection: Connection


@dataclass(frozen=True, slots=True)
class Record:
    """Make this entry durable; shielded from cancellation (law L4). `Recorded`."""

    entry: Entry


# Answers to Envoy ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Continue:
    """Answer the open question and let the exchange go on.

    ``body`` replaces the body, or the piece that was asked about (None leaves it). ``metadata`` lands in Envoy's
    dynamic metadata under ``affidavit`` and opens the gates behind us. ``uninspected`` turns both body phases off: only
    for an allowed upgrade. ``streamed`` asks for the body piece by piece instead of whole.
    """

    body: bytes | None = None
    set_headers: tuple[tuple[str, str | Secret], ...] = ()
    remove_headers: tuple[str, ...] = ()
    metadata: Mapping[str, str] | None = None
    uninspected: bool = False
    streamed: bool = False


@dataclass(frozen=True, slots=True)
class Refuse:
    """Answer the open question with a reply of ours instead (``ImmediateResponse``)."""

    refusal: Refusal
    connection: Connection | None
    path: str
    metadata: Mapping[str, str]


Step = (
    Admit
    | Authenticate
    | Inspect
    | Decide
    | AskApproval
    | AwaitApproval
    | OpenTokens
    | RedactRequest
    | RedactResponse
    | OpenStream
    | RedactPiece
    | Unlock
    | Record
)
Answer = Continue | Refuse
Effect = Step | Answer
