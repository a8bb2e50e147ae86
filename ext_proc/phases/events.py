"""What can happen to an exchange: Envoy's questions, the rooms' answers, the end. Pure values.

``at`` is the driver's clock when the event came in (aware UTC); nothing in this room reads a clock.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from ext_proc.errors import GateError
    from ext_proc.model import (
        Decision,
        ExchangeId,
        Headers,
        Identity,
        Inspection,
        Piece,
        Receipt,
        Redaction,
        Secret,
        Standing,
        Tokens,
    )
    from ext_proc.ports import AnswerStream


@dataclass(frozen=True, slots=True)
class Attributes:
    """What Envoy says of the exchange (``ProcessingRequest.attributes``); empty text where it said nothing."""

    exchange_id: ExchangeId
    route: str
    source_address: str
    is_mtls: bool = False


@dataclass(frozen=True, slots=True)
class UpstreamAttributes:
    """What Envoy says of the answer: code details, response flags, upstream address (all may be empty)."""

    code_details: str = ""
    flags: str = ""
    address: str = ""


# Envoy's questions -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class RequestHeaders:
    """The request's head. ``is_last``: no body follows."""

    at: datetime
    headers: Headers
    is_last: bool
    attributes: Attributes


@dataclass(frozen=True, slots=True)
class RequestBody:
    """The whole request body (BUFFERED)."""

    at: datetime
    body: bytes


@dataclass(frozen=True, slots=True)
class ResponseHeaders:
    """The answer's head: the upstream's, or a local reply of Envoy's own."""

    at: datetime
    headers: Headers
    is_last: bool
    attributes: Attributes
    upstream: UpstreamAttributes = UpstreamAttributes()


@dataclass(frozen=True, slots=True)
class ResponseBody:
    """The whole response body (BUFFERED), or the next piece of one that streams (STREAMED).

    ``is_last``: nothing follows (``HttpBody.end_of_stream``; False too where trailers follow a whole body).
    """

    at: datetime
    body: bytes
    is_last: bool = True


@dataclass(frozen=True, slots=True)
class Unknown:
    """A phase that is not configured (trailers) or not known: law L5."""

    at: datetime
    what: str


@dataclass(frozen=True, slots=True)
class StreamEnded:
    """Envoy ended the stream: after the answer, or because the caller left, or Envoy stopped."""

    at: datetime


# The rooms' answers ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Admitted:
    """There is room on the disk for this exchange's records."""

    at: datetime


@dataclass(frozen=True, slots=True)
class Authenticated:
    """The caller is known."""

    at: datetime
    identity: Identity


@dataclass(frozen=True, slots=True)
class Inspected:
    """The request was read and scanned."""

    at: datetime
    inspection: Inspection


@dataclass(frozen=True, slots=True)
class Decided:
    """The policy answered."""

    at: datetime
    decision: Decision


@dataclass(frozen=True, slots=True)
class HoldStands:
    """How the hold stands, for this exchange."""

    at: datetime
    standing: Standing


@dataclass(frozen=True, slots=True)
class TokensOpened:
    """The vault keeps what stands for what."""

    at: datetime
    tokens: Tokens


@dataclass(frozen=True, slots=True)
class Redacted:
    """A body was made fit to pass."""

    at: datetime
    redaction: Redaction


@dataclass(frozen=True, slots=True)
class StreamOpened:
    """A streamed answer can be read and masked piece by piece."""

    at: datetime
    answer: AnswerStream


@dataclass(frozen=True, slots=True)
class PieceRedacted:
    """What of a streamed answer may be released now."""

    at: datetime
    piece: Piece


@dataclass(frozen=True, slots=True)
class Unlocked:
    """The upstream credential is at hand: header name to value."""

    at: datetime
    headers: Mapping[str, Secret]


@dataclass(frozen=True, slots=True)
class Recorded:
    """The entry is durable."""

    at: datetime
    receipt: Receipt


@dataclass(frozen=True, slots=True)
class Failed:
    """The last effect could not be done."""

    at: datetime
    error: GateError


PeerEvent = RequestHeaders | RequestBody | ResponseHeaders | ResponseBody | Unknown | StreamEnded
AnswerEvent = (
    Admitted
    | Authenticated
    | Inspected
    | Decided
    | HoldStands
    | TokensOpened
    | Redacted
    | StreamOpened
    | PieceRedacted
    | Unlocked
    | Recorded
    | Failed
)
Event = PeerEvent | AnswerEvent
