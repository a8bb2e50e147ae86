"""The story of one exchange: events in, effects out.

 1. The head is read, room for the records is made sure of, the caller is authenticated.
 2. The body comes in whole; it is read, scanned, and the policy is asked.
 3. What the model may see is made (with tokens, where the policy says so); people agree, where the policy says so
    (`ext_proc.phases.holding`); the upstream credential is fetched, the *intent* recorded.
 4. Only when the intent is durable does the call go on (L1), with the word that opens the gate behind us.
 5. The answer comes in whole and is made fit for the caller; the *outcome* is recorded.
 6. Only when the outcome is durable is the answer released (L1).

Whatever goes wrong on the way is recorded first and refused then. The caller may leave at any point, and Envoy may
answer in our place (a time-out, a body over its limit): both are outcomes too. `ext_proc.phases.table` says which
event is accepted when; the methods below stand in the order of the story. What is remembered from one to the next, and
how a record is made of it, is `ext_proc.phases.exchange`.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from ext_proc.errors import (
    AuditUnavailable,
    BodyTooLarge,
    GateError,
    PeerError,
    UnknownOperation,
    UpgradeRefused,
    UpstreamError,
)
from ext_proc.model import Action, Call, HoldState, Refusal
from ext_proc.phases import effects as do
from ext_proc.phases import events as ev
from ext_proc.phases import facts
from ext_proc.phases.exchange import Exchange
from ext_proc.phases.fields import (
    JSON,
    bare_type,
    is_untouchable,
    not_forwarded,
    not_released,
    read_passing,
    smuggled,
)
from ext_proc.phases.head import read_credential, read_head, status_of
from ext_proc.phases.table import TABLE, State
from ext_proc.record_kinds import LeafKind

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from ext_proc.model import Connection, Decision, Receipt

RETRY_AFTER_SECONDS: Final = 5
"""What a caller is told to wait after a 503: long enough for a worker, OPA or a disk to come back."""

ANSWER_BLOCKED: Final = "The answer holds data that may not be released."
_METADATA_ALLOW: Final = "allow"
_METADATA_RELEASED: Final = "released"
EXCHANGE_HEADER: Final = "x-affidavit-exchange"
_ANTHROPICS_REQUEST_ID: Final = "request-id"
"""What Anthropic's clients show people of an error; Envoy sets OpenAI's (`x-request-id`), on every answer."""
RECEIPT_HEADER: Final = "x-affidavit-receipt"


class Session(Exchange):
    """What comes next in one exchange. Not safe for concurrent use; the driver hands in one event at a time.

    `holding.HoldingSession` goes on from here where people are asked, `streaming.StreamingSession` from there where an
    answer comes in pieces: that one is what the driver makes. Which method hears an event is told by `table.TABLE`.

    Args:
        connections: the registry as it stood when the exchange began.
    """

    def __init__(self, connections: Mapping[str, Connection]) -> None:
        super().__init__()
        self.state = State.START
        self._connections = connections
        self._kept: ev.ResponseHeaders | ev.StreamEnded | None = None

    def handle(self, event: ev.Event) -> tuple[do.Effect, ...]:
        """What comes next.

        Raises:
            PeerError: the event has no place in this state; nothing may be answered but an aborted stream.
        """
        name = TABLE[self.state].get(type(event))
        if name is None:
            raise PeerError(f"{type(event).__name__} in {self.state.name}")
        effects: tuple[do.Effect, ...] = getattr(self, name)(event)
        return effects

    def blame(self, error: GateError) -> None:
        """Say why the stream is about to be aborted, so that the record of its end can tell."""
        self._error = self._error or error

    def unanswered(self) -> None:
        """The last answer could not be given to Envoy: if it was to release something, the record must say so (L7)."""
        self._is_unanswered = True

    # 1. Who asks ---------------------------------------------------------------------------------------------------

    def on_request_headers(self, event: ev.RequestHeaders) -> tuple[do.Effect, ...]:
        """Read the head, find the connection, and see that there is room for the records."""
        self._received_at = self._patient_since = event.at
        self.exchange_id = event.attributes.exchange_id
        self.connection = self._connections.get(event.attributes.route)
        self._body_is_to_come = not event.is_last
        try:
            self._head = head = read_head(event.headers, event.attributes)
            if self.connection is None:
                raise UnknownOperation("no_connection")
            if head.is_upgrade and not self.connection.unsafe_allow_upgrade:
                raise UpgradeRefused
            if (head.content_length or 0) > self.connection.request_limit_bytes:
                raise BodyTooLarge("content_length")
            self._presented = read_credential(head, event.attributes)
            self._passing = read_passing(head.path, head.headers)
        except GateError as error:
            return self._refuse(error, event.at)
        expected = head.content_length if head.content_length is not None else self.connection.request_limit_bytes
        self.state = State.ADMITTING
        # Kept as it came and as it went on; the answer's size is not known yet.
        return (do.Admit(2 * expected + _ANSWER_EXPECTED_BYTES),)

    def on_admitted(self, event: ev.Admitted) -> tuple[do.Effect, ...]:
        """Ask who it is."""
        del event
        self.state = State.AUTHENTICATING
        return (do.Authenticate(self._presented, self._known_connection),)

    def on_authenticated(self, event: ev.Authenticated) -> tuple[do.Effect, ...]:
        """Let the body come; Envoy holds the head back until we answer the body (BUFFERED)."""
        self._identity = event.identity
        if self._body_is_to_come and not self._known_head.is_upgrade:
            self.state = State.AWAIT_REQUEST_BODY
            return (do.Continue(),)
        return self._inspect()

    # 2. What is in it, and may they --------------------------------------------------------------------------------

    def on_request_body(self, event: ev.RequestBody) -> tuple[do.Effect, ...]:
        """The whole body (BUFFERED). ``is_last`` is False where trailers follow; they go unseen, and so are dropped."""
        if len(event.body) > self._known_connection.request_limit_bytes:
            return self._refuse(BodyTooLarge("body"), event.at)
        self._body, self._patient_since = event.body, event.at
        return self._inspect()

    def _inspect(self) -> tuple[do.Effect, ...]:
        self.state = State.INSPECTING
        head = self._known_head
        return (do.Inspect(self._known_connection, head.method, head.path, head.headers, self._body),)

    def on_inspected(self, event: ev.Inspected) -> tuple[do.Effect, ...]:
        """Put the question."""
        self._inspection = event.inspection
        head = self._known_head
        if self.exchange_id is None or self._identity is None or self._received_at is None:
            raise PeerError("inspected before begun")
        self._call = Call(
            exchange_id=self.exchange_id,
            connection=self._known_connection,
            identity=self._identity,
            method=head.method,
            path=head.path.partition("?")[0],
            body_bytes=len(self._body),
            inspection=event.inspection,
            source=head.source,
            received_at=self._received_at,
            query=self._passing.query,
            betas=self._passing.betas,
            is_emergency=bool(self._passing.emergency),
        )
        self.state = State.DECIDING
        return (do.Decide(self._call),)

    def on_decided(self, event: ev.Decided) -> tuple[do.Effect, ...]:
        """Denied, or allowed: if people must agree too, they are asked when it is known what the model would get."""
        self._decision, self._decided_at = event.decision, event.at
        if not event.decision.allow:
            return self._deny("denied", "The policy does not allow this call.", event.at)
        if self._known_head.is_upgrade:
            return self._unlock(event.at)
        if self._call is not None and _has_tokens(event.decision):
            self.state = State.OPENING_TOKENS
            return (do.OpenTokens(self._call, event.decision),)
        return self._redact_request()

    # 3. What the model may see -------------------------------------------------------------------------------------

    def on_tokens_opened(self, event: ev.TokensOpened) -> tuple[do.Effect, ...]:
        """The vault has kept them: they can go on, and the answer's can be known without asking again."""
        self._inspection = replace(self._known_inspection, tokens=event.tokens)
        return self._redact_request()

    def _redact_request(self) -> tuple[do.Effect, ...]:
        rules = self._decision.redact_request if self._decision else ()
        self.state = State.REDACTING_REQUEST
        return (do.RedactRequest(self._known_inspection, rules),)

    def on_request_redacted(self, event: ev.Redacted) -> tuple[do.Effect, ...]:
        """Blocked by a rule of the decision, or on to the credential."""
        self._forwarded = event.redaction
        if event.redaction.blocked:
            return self._deny("content_blocked", "The request holds data that may not be sent on.", event.at)
        return self._unlock(event.at)

    def _unlock(self, at: datetime) -> tuple[do.Effect, ...]:
        """The only way on: what needs an approval comes here with one, or goes to ask for it."""
        if self._decision is None or (self._decision.approval is not None and not self._is_agreed):
            return self._ask_people(at)
        self.state = State.UNLOCKING
        return (do.Unlock(self._known_connection),)

    def _ask_people(self, at: datetime) -> tuple[do.Effect, ...]:
        """Nobody, here: see `holding`."""
        return self._deny("approval_required", "This call needs a person's approval first.", at)

    @property
    def _is_agreed(self) -> bool:
        """Have enough people agreed to this very exchange?"""
        return self._standing is not None and self._standing.state is HoldState.CLAIMED

    def on_unlocked(self, event: ev.Unlocked) -> tuple[do.Effect, ...]:
        """Everything is known: write down what is about to happen."""
        self._unlocked = tuple(event.headers.items())
        self.state = State.RECORDING_INTENT
        roles = self._request_payloads()
        entry = self._with_question(self._entry(LeafKind.INFERENCE_INTENT, {"time": self._times(event.at)}, roles))
        brought = self._inspection.tool_results[-facts.RESULTS_MAX :] if self._inspection else ()
        return (do.Record(replace(entry, tool_results=brought)),)

    # 4. The call goes on -------------------------------------------------------------------------------------------

    def on_intent_recorded(self, event: ev.Recorded) -> tuple[do.Effect, ...]:
        """The intent is durable: then, and only then, the call goes to the model."""
        self._intent_sequence = event.receipt.sequence
        self._request_recorded = self._question_recorded = True
        if self._kept is not None:
            return self._after_kept(event.at)
        self._forwarded_at = event.at
        self.state = State.AWAIT_RESPONSE
        head = self._known_head
        body = None if self._forwarded is None or not self._body_is_to_come else self._forwarded.body
        length = () if body is None else (("content-length", str(len(body))),)
        kind = (("content-type", JSON),) if body else ()
        ours = (*length, *kind, ("accept-encoding", "identity"), *self._unlocked)
        overwritten = {name for name, _ in ours}
        dropped = not_forwarded(head.headers, is_upgrade=head.is_upgrade)
        return (
            do.Continue(
                body=body,
                set_headers=ours,
                remove_headers=tuple(name for name in dropped if name not in overwritten),
                metadata={"decision": _METADATA_ALLOW, "event_id": str(self.exchange_id), **self._operation_metadata},
                uninspected=head.is_upgrade,
            ),
        )

    # 5. The answer -------------------------------------------------------------------------------------------------

    def on_response_headers(self, event: ev.ResponseHeaders) -> tuple[do.Effect, ...]:
        """The answer's head. Envoy holds it back until we answer the body (BUFFERED)."""
        self._answered_at = event.at
        self._answer_headers, self._answer_status = event.headers, status_of(event.headers)
        # Envoy answers too where it got no answer: then nothing is said of the upstream's status (L7).
        is_upstreams = event.upstream.code_details in ("", _VIA_UPSTREAM)
        self._upstream = _upstream_facts(event.upstream, self._answer_status if is_upstreams else None)
        self._answer_is_bodyless = event.is_last
        if smuggled(event.headers):  # Envoy would not let us take it off, and say so after the record
            return self._refuse(UpstreamError("header"), event.at)
        if self._known_head.is_upgrade and self._answer_status == _SWITCHING_PROTOCOLS:
            return self._record_outcome(event.at)
        if self._answer_status < _FINAL_STATUS:
            return self._refuse(UpstreamError("status"), event.at)
        if event.is_last:
            return self._redact_response(b"")
        if self._known_head.is_upgrade:  # both body phases are off: we would never see what is in it
            return self._refuse(UpstreamError("not_switched"), event.at)
        self.state = State.AWAIT_RESPONSE_BODY
        # Content-Length goes at once: Envoy compares it with the body that we change (measured).
        return (do.Continue(remove_headers=("content-length",)),)

    def on_response_body(self, event: ev.ResponseBody) -> tuple[do.Effect, ...]:
        """The whole answer (BUFFERED; trailers may follow, which the gate before us drops)."""
        if len(event.body) > self._known_connection.response_limit_bytes:
            return self._refuse(UpstreamError("too_large"), event.at)
        return self._redact_response(event.body)

    def _redact_response(self, body: bytes) -> tuple[do.Effect, ...]:
        self._answer_body = body
        if self._decision is None:
            raise PeerError("answered before decided")
        self.state = State.REDACTING_RESPONSE
        return (
            do.RedactResponse(
                self._known_inspection,
                self._decision.redact_response,
                self._answer_status,
                self._answer_headers,
                body,
                self._known_connection.response_limit_bytes,
            ),
        )

    def on_response_redacted(self, event: ev.Redacted) -> tuple[do.Effect, ...]:
        """Blocked by a rule of the decision, or ready to be recorded."""
        self._released = event.redaction
        if event.redaction.blocked:
            return self._deny("content_blocked", ANSWER_BLOCKED, event.at)
        return self._record_outcome(event.at)

    def _record_outcome(self, at: datetime) -> tuple[do.Effect, ...]:
        self.state = State.RECORDING_OUTCOME
        self.outcome = "completed" if 0 < self._answer_status < _ERROR_STATUS else "error"
        return (do.Record(self._outcome_entry(self.outcome, self._answer_status, at)),)

    # 6. The answer is released -------------------------------------------------------------------------------------

    def on_outcome_recorded(self, event: ev.Recorded) -> tuple[do.Effect, ...]:
        """The outcome is durable: then, and only then, the answer goes to the caller."""
        self._outcome_sequence = event.receipt.sequence
        if self._kept is not None:
            return self._undelivered(event.at)
        self.state = State.SETTLED
        mine = self._head_of_answer(event.receipt)
        taken_off = self._taken_off(frozenset(name for name, _ in mine))
        if self._released is None or self._answer_is_bodyless:
            return (do.Continue(set_headers=mine, metadata=self._released_metadata, remove_headers=taken_off),)
        body = self._released.body
        return (
            do.Continue(
                body=body,
                set_headers=(*mine, ("content-length", str(len(body)))),
                remove_headers=taken_off,
                metadata=self._released_metadata,
            ),
        )

    def _head_of_answer(self, receipt: Receipt) -> tuple[tuple[str, str], ...]:
        """What we set in it."""
        bare = bare_type(self._answer_headers)
        return (*self._told_to_the_caller(receipt), *((("content-type", bare),) if bare else ()))

    def _taken_off(self, overwritten: frozenset[str]) -> tuple[str, ...]:
        """The answer's fields that stay here: of an upgrade, all but its handshake. Never what Envoy forbids."""
        tainted = self._released.tainted_headers if self._released else ()
        names = {*not_released(self._answer_headers, is_upgrade=self._released is None), *tainted} - overwritten
        return tuple(sorted(name for name in names & {n for n, _ in self._answer_headers} if not is_untouchable(name)))

    @property
    def _operation_metadata(self) -> dict[str, str]:
        """For Envoy's log, which must not hold a caller's text: only once they are an operation of the connection."""
        return {"method": self._call.method, "path": self._call.path} if self._call else {}

    @property
    def _released_metadata(self) -> dict[str, str]:
        return {"response": _METADATA_RELEASED, "outcome": self.outcome}

    def _told_to_the_caller(self, receipt: Receipt | None) -> tuple[tuple[str, str], ...]:
        """The exchange's id, and what the caller can keep as proof of its record."""
        kept = ((RECEIPT_HEADER, receipt.promise),) if receipt is not None and receipt.promise else ()
        return ((EXCHANGE_HEADER, str(self.exchange_id)), *kept)

    # What goes wrong -----------------------------------------------------------------------------------------------

    def on_failed(self, event: ev.Failed) -> tuple[do.Effect, ...]:
        """A step could not be done: record why, then refuse."""
        return self._refuse(event.error, event.at)

    def _deny(self, code: str, text: str, at: datetime) -> tuple[do.Effect, ...]:
        return self._record_refusal(self._denial(code, text), "denied", at)

    def _denial(self, code: str, text: str) -> Refusal:
        return Refusal(_FORBIDDEN, code, text, self._decision.reasons if self._decision else ())

    def _refuse(self, error: GateError, at: datetime) -> tuple[do.Effect, ...]:
        self._error = error
        return self._record_refusal(_refusal_of(error), "refused" if error.http_status < _SERVER_ERROR else "error", at)

    def _record_refusal(self, refusal: Refusal, status: str, at: datetime) -> tuple[do.Effect, ...]:
        self._refusal, self.outcome, self.state = refusal, status, State.RECORDING_REFUSAL
        return (do.Record(self._outcome_entry(status, refusal.status, at)),)

    def on_refusal_recorded(self, event: ev.Recorded) -> tuple[do.Effect, ...]:
        """Recorded; now say no, to Envoy's own reply too if one came meanwhile: the caller gets what is on record."""
        if isinstance(self._kept, ev.StreamEnded):
            return self._ended(event.at)
        return self._say_no(event.receipt)

    def _say_no(self, receipt: Receipt | None = None) -> tuple[do.Effect, ...]:
        if self._refusal is None:
            raise PeerError("nothing to refuse")
        self.state = State.SETTLED
        exchange = (_ANTHROPICS_REQUEST_ID, str(self.exchange_id))
        named = replace(self._refusal, headers=(*self._told_to_the_caller(receipt), exchange))
        # Never "allow": had it been said for the request, it still stands; had it not, it must not be said now.
        said = {"event_id": str(self.exchange_id), "outcome": self.outcome}
        if self._intent_sequence is None:
            said |= {"decision": "deny", **self._operation_metadata}
        return (do.Refuse(named, self.connection, self._head.path if self._head else "", said),)

    def on_unrecorded(self, event: ev.Failed) -> tuple[do.Effect, ...]:
        """The record could not be made durable: nothing passes, and the caller is told to come back.

        It may become durable yet (a disk that was slow, not broken): `_ended` says then what really happened.
        """
        self.outcome, self._is_in_doubt = "unrecorded", True
        self._error, self._refusal = event.error, _refusal_of(AuditUnavailable())
        if isinstance(self._kept, ev.StreamEnded):
            return self._ended(event.at)
        return self._say_no()

    # Envoy answers in our place ------------------------------------------------------------------------------------

    def on_local_reply(self, event: ev.ResponseHeaders) -> tuple[do.Effect, ...]:
        """A reply of Envoy's own before the call was let on: a time-out, a body over its limit, no Host."""
        self._received_at = self._received_at or event.at
        self.exchange_id = self.exchange_id or event.attributes.exchange_id
        self.connection = self.connection or self._connections.get(event.attributes.route)
        self._answer_is_bodyless = event.is_last
        self._answer_status = status_of(event.headers)
        self._upstream = _upstream_facts(event.upstream, None)
        self.outcome, self.state = "local_reply", State.RECORDING_LOCAL_REPLY
        return (do.Record(self._outcome_entry("local_reply", self._answer_status, event.at)),)

    def on_local_reply_recorded(self, event: ev.Recorded) -> tuple[do.Effect, ...]:
        """Let Envoy's own words through: nothing of an upstream can be in them, the gate behind us saw to that."""
        if self._kept is not None:
            return self._ended(event.at)
        self.state = State.SETTLED if self._answer_is_bodyless else State.RELEASING_LOCAL_REPLY
        return (do.Continue(),)

    def on_local_reply_body(self, event: ev.ResponseBody) -> tuple[do.Effect, ...]:
        """The reply's body, unchanged."""
        del event
        self.state = State.SETTLED
        return (do.Continue(),)

    # The caller leaves ---------------------------------------------------------------------------------------------

    def on_left(self, event: ev.StreamEnded) -> tuple[do.Effect, ...]:
        """The stream ended before the exchange was settled: the caller left, Envoy stopped, or the upstream broke."""
        self.outcome, self.state = "abandoned", State.RECORDING_END
        return (do.Record(self._outcome_entry("abandoned", 0, event.at)),)

    def on_kept(self, event: ev.ResponseHeaders | ev.StreamEnded) -> tuple[do.Effect, ...]:
        """Something came while a record was on its way to the disk: keep it, the end of the stream before all."""
        if isinstance(event, ev.ResponseHeaders) and (self._answered_at is not None or self._kept is not None):
            raise PeerError("answered twice")  # an upstream's second head must never pass for Envoy's own reply
        self._kept = event
        return ()

    def _after_kept(self, at: datetime) -> tuple[do.Effect, ...]:
        """The intent became durable, but the exchange went another way meanwhile: the call is not let on."""
        kept, self._kept = self._kept, None
        if isinstance(kept, ev.ResponseHeaders):
            return self.on_local_reply(kept)
        self.outcome, self.state = "abandoned", State.RECORDING_END
        return (do.Record(self._outcome_entry("abandoned", 0, at)),)

    def _undelivered(self, at: datetime) -> tuple[do.Effect, ...]:
        """The outcome says what was about to be released, but nobody was there to take it: say so (L7)."""
        self.state = State.RECORDING_END
        facts_ = {"outcome_sequence": self._outcome_sequence, "time": {"ended": facts.instant(at)}}
        return (do.Record(self._entry(LeafKind.INFERENCE_UNDELIVERED, facts_, ())),)

    def on_end_recorded(self, event: ev.Recorded | ev.Failed) -> tuple[do.Effect, ...]:
        """Nothing more can be said to anyone."""
        del event
        self.state = State.ENDED
        return ()

    def on_end_unrecorded(self, event: ev.Failed) -> tuple[do.Effect, ...]:
        """That the caller left could not be recorded, as where their key cannot be read: the least of it, once."""
        if self.outcome != "abandoned":
            return self.on_end_recorded(event)
        self.outcome, self._is_in_doubt, self._error = "unrecorded", True, event.error
        return self._ended(event.at)

    def on_end(self, event: ev.StreamEnded) -> tuple[do.Effect, ...]:
        """The stream is over and everything about it is on record, unless a record is in doubt or was in vain."""
        if self._is_unanswered and self._outcome_sequence is not None:
            return self._undelivered(event.at)
        return self._ended(event.at)

    def _ended(self, at: datetime) -> tuple[do.Effect, ...]:
        if not self._is_in_doubt:
            self.state = State.ENDED
            return ()
        # The least there is to say, so that it fits on a full disk and nothing in the exchange, which may be what the
        # record failed for, can stop it; tried once. An intent that made it after all has an outcome now, and an
        # outcome that did is set right: what it tells of was never released.
        self._is_in_doubt, self.state = False, State.RECORDING_END
        told = self._refusal.status if self._refusal and not isinstance(self._kept, ev.StreamEnded) else 0
        return (do.Record(self._least_entry("unrecorded", told, at)),)


_ANSWER_EXPECTED_BYTES: Final = 64 * 1024
_VIA_UPSTREAM: Final = "via_upstream"  # Envoy's response code details of an answer that is the upstream's own
_SWITCHING_PROTOCOLS: Final = 101
_FINAL_STATUS: Final = 200  # below: interim (Envoy keeps those to itself), a switch that nobody asked for, or none
_ERROR_STATUS: Final = 400
_FORBIDDEN: Final = 403
_SERVER_ERROR: Final = 500


def _has_tokens(decision: Decision) -> bool:
    return bool(decision.restore) or any(rule.action is Action.TOKENISE for rule in decision.redact_request)


def _upstream_facts(told: ev.UpstreamAttributes, status: int | None) -> dict[str, Any]:
    return {
        "status": status,
        "code_details": told.code_details,
        "response_flags": told.flags,
        "address": told.address,
    }


def _refusal_of(error: GateError) -> Refusal:
    return Refusal(
        status=error.http_status,
        code=error.code,
        text=error.client_text,
        retry_after_seconds=RETRY_AFTER_SECONDS if error.is_retryable else None,
    )
