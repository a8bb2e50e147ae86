"""The story where the answer streams: the session, with its steps 5 and 6 done piece by piece.

 5a. The answer's head says that it streams: a reader is opened, and what the head says is recorded (part 0).
 5b. Durable: the head is released, and Envoy is asked for the body piece by piece (STREAMED).
 6a. Each piece is masked. What may be released of it is recorded, then released (L1); what the masking still holds back
     goes with a later piece. Where nothing may be released yet, nothing is recorded either.
 6b. With the last piece nothing is held back any more: the outcome is recorded, then the rest released.

A rule that blocks, and an answer that cannot be read on, end the stream with the protocol's own error event: the caller
has a status of 200 already. What the upstream still sends is let run dry, and broken off if it does not end. The parts
tell how much was released, whoever leaves or dies when (L7).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from ext_proc.errors import AuditUnavailable, PeerError, UpstreamError
from ext_proc.model import Entry, Payload, Piece, Refusal
from ext_proc.phases import effects as do
from ext_proc.phases import events as ev
from ext_proc.phases import facts
from ext_proc.phases.holding import HoldingSession
from ext_proc.phases.session import ANSWER_BLOCKED
from ext_proc.phases.table import State
from ext_proc.record_kinds import LeafKind, PayloadRole

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from ext_proc.errors import GateError
    from ext_proc.model import Connection, Headers, Redaction, ToolCall
    from ext_proc.ports import AnswerStream

STREAMS: Final = frozenset({"text/event-stream", "application/x-ndjson", "application/jsonl"})
"""Media types of answers that come in pieces. Anything else is waited for, as a whole."""

DRAINED_MAX_BYTES: Final = 4 * 1024 * 1024
"""Of what a model goes on to say after we ended its answer: more than any says that ends by itself."""
_DRAINED_LEAST_BYTES: Final = 256
"""So much each piece counts: reading it costs us the same, however small it is."""
_BAD_GATEWAY: Final = 502
_SUCCESS: Final = range(200, 300)
_STREAMING: Final = "streaming"


class StreamingSession(HoldingSession):
    """The session of every exchange: most answers do not stream, and then nothing here is done."""

    def __init__(self, connections: Mapping[str, Connection]) -> None:
        super().__init__(connections)
        self._answer: AnswerStream | None = None
        self._parts = 0  # on record, or on their way there
        self._pieces = 0  # let on to Envoy
        self._released_bytes = 0  # of those
        self._let_on_last = 0  # of the last one
        self._piece = Piece(b"")  # about to be released
        self._came = b""  # of the upstream, and not on record yet
        self._is_last_piece = False
        self._drained = 0  # of what came after our end
        self._is_broken_off = False

    @property
    def is_streaming(self) -> bool:
        """Does the answer come piece by piece from here on?"""
        return self._answer is not None

    # 5. The answer's head --------------------------------------------------------------------------------------------

    def on_response_headers(self, event: ev.ResponseHeaders) -> tuple[do.Effect, ...]:
        """Whole or in pieces?"""
        effects = super().on_response_headers(event)
        if self.state is not State.AWAIT_RESPONSE_BODY or not _comes_in_pieces(self._answer_status, event.headers):
            return effects
        self.state = State.OPENING_STREAM
        rules = self._decision.redact_response if self._decision else ()
        limit_bytes = self._known_connection.response_limit_bytes
        return (do.OpenStream(self._known_inspection, rules, event.headers, limit_bytes),)

    def on_stream_opened(self, event: ev.StreamOpened) -> tuple[do.Effect, ...]:
        """It can be read: put on record that it begins."""
        self._answer, self._released = event.answer, event.answer.told()
        self.state = State.RECORDING_HEAD
        return (do.Record(self._part_entry(event.at)),)

    def on_head_recorded(self, event: ev.Recorded) -> tuple[do.Effect, ...]:
        """Release the head. Its length goes: it is the masked body's no more."""
        if self._kept is not None:
            return self.on_left(ev.StreamEnded(event.at))
        self.outcome = _STREAMING
        self.state = State.AWAIT_PIECE
        mine = self._head_of_answer(event.receipt)
        taken_off = {*self._taken_off(frozenset(name for name, _ in mine)), "content-length"}
        return (
            do.Continue(
                set_headers=mine,
                remove_headers=tuple(sorted(taken_off)),
                metadata={**self._released_metadata, "piece": "0"},
                streamed=True,
            ),
        )

    # 6. The body, piece by piece -------------------------------------------------------------------------------------

    def on_piece(self, event: ev.ResponseBody) -> tuple[do.Effect, ...]:
        """What came, perhaps in several reads; ``is_last``: nothing follows."""
        self._came += event.body
        self._is_last_piece = event.is_last
        self.state = State.REDACTING_PIECE
        return (do.RedactPiece(self._known_answer, event.body, event.is_last),)

    def on_piece_redacted(self, event: ev.PieceRedacted) -> tuple[do.Effect, ...]:
        """Blocked by a rule, or not to be read on, or ready to be recorded, or held back altogether."""
        self._piece = event.piece
        if event.piece.blocked:
            self._refusal = self._denial("content_blocked", ANSWER_BLOCKED)
            return self._break_off("denied", self._refusal.code, self._refusal.text, event.at)
        if event.piece.unreadable is not None:
            self._error = UpstreamError(event.piece.unreadable)
            return self._break_off("error", event.piece.unreadable, self._error.client_text, event.at)
        if self._is_last_piece:
            return self._record_last("completed", event.at)
        if not event.piece.body:
            self.state = State.AWAIT_PIECE
            return (do.Continue(body=b""),)
        self.state = State.RECORDING_PIECE
        return (do.Record(self._part_entry(event.at)),)

    def on_piece_recorded(self, event: ev.Recorded) -> tuple[do.Effect, ...]:
        """The part is durable: then, and only then, it goes to the caller."""
        if self._kept is not None:
            return self.on_left(ev.StreamEnded(event.at))
        self.state = State.AWAIT_PIECE
        return (self._let_on({}),)

    def on_last_piece_recorded(self, event: ev.Recorded) -> tuple[do.Effect, ...]:
        """The outcome is durable: the rest goes to the caller, or the error event does."""
        self._outcome_sequence = event.receipt.sequence
        if self._kept is not None:
            return self._undelivered(event.at)
        self.state = State.SETTLED if self._is_last_piece else State.DRAINING
        return (self._let_on({"outcome": self.outcome}),)

    def on_drained(self, event: ev.ResponseBody) -> tuple[do.Effect, ...]:
        """After the end: nothing of it passes. An upstream that does not stop is broken off."""
        if self._is_broken_off:  # it was on its way when Envoy heard of that
            return ()
        self._drained += max(len(event.body), _DRAINED_LEAST_BYTES)
        if event.is_last:
            self.state = State.SETTLED
        elif self._drained > DRAINED_MAX_BYTES:
            self._is_broken_off = True
            # Behind the head nothing of a refusal reaches the caller: Envoy breaks off both connections.
            said = {"event_id": str(self.exchange_id), "outcome": self.outcome}
            refusal = Refusal(_BAD_GATEWAY, "upstream_unreadable", UpstreamError.client_text)
            return (do.Refuse(refusal, self.connection, self._known_head.path, said),)
        return (do.Continue(body=b""),)

    def _let_on(self, words: dict[str, str]) -> do.Continue:
        """With another word for each piece: the gate before us lets no bytes pass on the word of the last one."""
        body, self._piece = self._piece.body, Piece(b"")
        self._pieces += 1
        self._released_bytes += len(body)
        self._let_on_last = len(body)
        return do.Continue(body=body, metadata={**words, "piece": str(self._pieces)})

    def unanswered(self) -> None:
        """The last piece could not be given to Envoy, so it was not released (L7)."""
        super().unanswered()
        self._released_bytes -= self._let_on_last
        self._let_on_last = 0

    # What goes wrong on the way --------------------------------------------------------------------------------------

    def on_piece_failed(self, event: ev.Failed) -> tuple[do.Effect, ...]:
        """It cannot be read on."""
        self._piece, self._error = Piece(b""), event.error
        return self._break_off("error", event.error.code, event.error.client_text, event.at)

    def on_piece_unrecorded(self, event: ev.Failed) -> tuple[do.Effect, ...]:
        """The part could not be made durable: it does not pass, and the stream ends with a word of ours."""
        self.outcome, self._is_in_doubt, self._error = "unrecorded", True, event.error
        self._piece = Piece(b"")
        if self._kept is not None:
            return self._ended(event.at)
        error: GateError = AuditUnavailable()
        self._piece = Piece(self._known_answer.farewell(error.code, error.client_text))
        self.state = State.SETTLED if self._is_last_piece else State.DRAINING
        return (self._let_on({"outcome": self.outcome}),)

    def _break_off(self, status: str, code: str, text: str, at: datetime) -> tuple[do.Effect, ...]:
        self._piece = Piece(self._piece.body + self._known_answer.farewell(code, text))
        return self._record_last(status, at)

    def _record_last(self, status: str, at: datetime) -> tuple[do.Effect, ...]:
        self._released = self._known_answer.told()
        self.outcome, self.state = status, State.RECORDING_LAST_PIECE
        return (do.Record(self._outcome_entry(status, self._answer_status, at)),)

    def on_left(self, event: ev.StreamEnded) -> tuple[do.Effect, ...]:
        """The caller left, or the upstream broke: the record tells how much was released until then."""
        if self._answer is not None:
            self._piece, self._released = Piece(b""), self._answer.told()
        return super().on_left(event)

    # What goes on record ---------------------------------------------------------------------------------------------

    def _part_entry(self, at: datetime) -> Entry:
        """What is about to be released: everything of it, encrypted, before any of it."""
        if self.exchange_id is None or self._decision is None:
            raise PeerError("a part of no exchange")
        number, self._parts = self._parts, self._parts + 1
        parts: dict[str, Any] = {
            "intent_sequence": self._intent_sequence,
            "part": {
                "number": number,
                "released_bytes": self._released_bytes,
                "covered_bytes": self._released_bytes + len(self._piece.body),
            },
            "time": {"recorded": facts.instant(at)},
        }
        if not number:
            parts["upstream"] = self._upstream
        payloads = self._response_payloads(None) if self._decision.record_payloads else ()
        self._came = b""
        return Entry(LeafKind.INFERENCE_PART, self.exchange_id, self._identity, None, parts, payloads)

    def _outcome_told(self, status: str, http_status: int, released: Redaction | None) -> dict[str, Any]:
        told = super()._outcome_told(status, http_status, released)
        if self._answer is not None:
            told |= {
                "http_status": self._answer_status,
                "released_bytes": self._released_bytes + len(self._piece.body),
                "is_inspected": True,
            }
        return told

    def _calls_released(self, released: Redaction | None) -> tuple[ToolCall, ...]:
        """Of a streamed answer also where it ended early: as far as it had come."""
        known = self._released if self._answer is not None else released
        return known.tool_calls if known else ()

    def _response_payloads(self, released: Redaction | None) -> tuple[Payload, ...]:
        """Of a streamed answer, what came and what goes since the last record: together they are the whole."""
        if self._answer is None:
            return super()._response_payloads(released)
        kind = _media_type(self._answer_headers)
        bodies = ((PayloadRole.RESPONSE_UPSTREAM, self._came), (PayloadRole.RESPONSE_RELEASED, self._piece.body))
        return tuple(Payload(role, body, kind) for role, body in bodies if body)

    @property
    def _known_answer(self) -> AnswerStream:
        if self._answer is None:
            raise PeerError("no answer streams")
        return self._answer


def _comes_in_pieces(status: int, headers: Headers) -> bool:
    """A success of a kind that streams, not compressed: the gate asks for ``identity``, so hardly anybody does that."""
    is_plain = all(value.lower() == b"identity" for name, value in headers if name == "content-encoding")
    return status in _SUCCESS and is_plain and _media_type(headers) in STREAMS


def _media_type(headers: Headers) -> str:
    values = [value for name, value in headers if name == "content-type"]
    return values[0].decode("latin-1").partition(";")[0].strip().lower() if len(values) == 1 else ""
