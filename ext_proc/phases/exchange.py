"""What is known of one exchange so far, and what of it goes on record.

`ext_proc.phases.session.Session` tells what comes next; this is what it remembers between two events, and how each
record is made of that: the *intent*, the *outcome*, a record of a hold. Nothing here decides anything.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ext_proc.errors import PeerError
from ext_proc.model import Entry, Payload
from ext_proc.phases import facts
from ext_proc.phases.fields import JSON, Passing
from ext_proc.record_kinds import LeafKind, PayloadRole

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from ext_proc.errors import GateError
    from ext_proc.model import (
        Call,
        Connection,
        Decision,
        ExchangeId,
        Headers,
        Identity,
        Inspection,
        Redaction,
        Refusal,
        Standing,
        ToolCall,
    )
    from ext_proc.phases.head import Head


class Exchange:
    """One exchange, as far as it came: each field is set by the step of the session that learns it."""

    def __init__(self) -> None:
        # Who asks, and for what.
        self.exchange_id: ExchangeId | None = None
        self.connection: Connection | None = None
        self._head: Head | None = None
        self._passing = Passing()
        self._body_is_to_come = False
        self._body = b""
        self._identity: Identity | None = None
        self._inspection: Inspection | None = None
        self._call: Call | None = None
        # Who allowed it, and what the model was to get.
        self._decision: Decision | None = None
        self._forwarded: Redaction | None = None
        self._standing: Standing | None = None
        self._unlocked: tuple[tuple[str, Any], ...] = ()
        # The answer.
        self._answer_headers: Headers = ()
        self._answer_status = 0
        self._answer_is_bodyless = False
        self._answer_body = b""
        self._upstream: dict[str, Any] | None = None
        self._released: Redaction | None = None
        # When.
        self._received_at: datetime | None = None
        self._patient_since: datetime | None = None  # Envoy, for the answer that it waits for while people are asked
        self._decided_at: datetime | None = None
        self._forwarded_at: datetime | None = None
        self._answered_at: datetime | None = None
        # What is on record by now: then it is not said again.
        self._intent_sequence: int | None = None
        self._outcome_sequence: int | None = None
        self._request_recorded = False
        self._question_recorded = False
        self._told_request: dict[str, Any] | None = None
        # What went wrong.
        self._is_in_doubt = False
        self._is_unanswered = False
        self._error: GateError | None = None
        self._refusal: Refusal | None = None
        self.outcome = ""
        """How it ended, once known: the ``status`` of the outcome record."""

    # What the driver tells of it: the log line, the metrics, the span ------------------------------------------------

    @property
    def code(self) -> str | None:
        """The stable code of what went wrong or why not, None where all went well."""
        return self._error.code if self._error else (self._refusal.code if self._refusal else None)

    @property
    def detail(self) -> str | None:
        """Our own word on the error: never caller content."""
        return self._error.detail if self._error else None

    @property
    def looked_at(self) -> tuple[tuple[str, Redaction], ...]:
        """What was scanned and masked, by direction: as far as it came."""
        both = (("request", self._forwarded), ("response", self._released))
        return tuple((direction, redaction) for direction, redaction in both if redaction is not None)

    @property
    def upstream_times(self) -> tuple[datetime, datetime] | None:
        """When the call went on, and when the head of its answer came; None where none did."""
        both = self._forwarded_at, self._answered_at
        return None if both[0] is None or both[1] is None else (both[0], both[1])

    @property
    def status(self) -> int | None:
        """The status that the caller was to get, as far as the gate knows; Envoy's log knows better."""
        return (self._refusal.status if self._refusal else self._answer_status) or None

    @property
    def asked_for(self) -> Inspection | None:
        """What a call that was let on asks for; None of any other: that is a caller's text and nothing more."""
        return self._inspection if self._forwarded_at is not None else None

    # What goes on record -------------------------------------------------------------------------------------------

    def _times(self, at: datetime) -> dict[str, str]:
        named = {
            "received": self._received_at,
            "decided": self._decided_at,
            "forwarded": self._forwarded_at,
            "answered": self._answered_at,
            "recorded": at,
        }
        return {name: facts.instant(when) for name, when in named.items() if when is not None}

    def _outcome_entry(self, status: str, http_status: int, at: datetime) -> Entry:
        released = self._released if status in ("completed", "error") and self._refusal is None else None
        bodies = (() if self._request_recorded else self._request_payloads()) + self._response_payloads(released)
        parts: dict[str, Any] = {
            "time": self._times(at),
            "intent_sequence": self._intent_sequence,
            "outcome": self._outcome_told(status, http_status, released),
            "upstream": self._upstream,
        }
        if self._released is not None:
            parts["response_redaction"] = facts.redaction_facts(self._released)
            requested = self._inspection.model if self._inspection else None
            parts["model"] = facts.model_facts(self._released, requested)
        calls = self._calls_released(released)[: facts.EFFECTS_MAX]
        entry = replace(self._entry(LeafKind.INFERENCE_OUTCOME, parts, bodies), tool_calls=calls)
        return entry if self._question_recorded else self._with_question(entry)

    def _calls_released(self, released: Redaction | None) -> tuple[ToolCall, ...]:
        return released.tool_calls if released else ()

    def _outcome_told(self, status: str, http_status: int, released: Redaction | None) -> dict[str, Any]:
        return {
            "status": status,
            "http_status": http_status or None,
            "code": self.code,
            "detail": self.detail,
            "released_bytes": len(released.body) if released else 0,
            "is_inspected": released is not None,
        }

    def _least_entry(self, status: str, http_status: int, at: datetime) -> Entry:
        if self.exchange_id is None:
            raise PeerError("no exchange id")
        forwarded = {} if self._forwarded_at is None else {"forwarded": facts.instant(self._forwarded_at)}
        said = {
            "time": {**forwarded, "recorded": facts.instant(at)},
            "intent_sequence": self._intent_sequence,
            "outcome": self._outcome_told(status, http_status, None),
        }
        source = self._head.source if self._head else None
        return Entry(LeafKind.INFERENCE_OUTCOME, self.exchange_id, self._identity, source, said)

    def _entry(self, kind: LeafKind, parts: Mapping[str, Any], payloads: tuple[Payload, ...]) -> Entry:
        if self.exchange_id is None:
            raise PeerError("no exchange id")
        whole: dict[str, Any] = dict(parts)
        if self._head is not None:
            whole["request"] = self._request_facts(self._head)
        if self._standing is not None:
            whole["approval"] = facts.approval_facts(self._standing)
        if self._decision is not None:
            whole["policy"] = facts.policy_facts(self._decision)
        if self._forwarded is not None and not self._request_recorded:
            whole["request_redaction"] = facts.redaction_facts(self._forwarded)
        keep = self._decision is None or self._decision.record_payloads
        source = self._head.source if self._head else None
        return Entry(kind, self.exchange_id, self._identity, source, whole, payloads if keep else ())

    def _with_question(self, entry: Entry) -> Entry:
        """With what the policy was asked: no decision can be tried again without.

        Also where no bodies are kept: none is in it, only who calls with what, and an erasure takes it too.
        """
        if self._decision is None or not self._decision.asked:
            return entry
        question = Payload(PayloadRole.POLICY_QUESTION, self._decision.asked, JSON)
        return replace(entry, payloads=(*entry.payloads, question))

    def _request_facts(self, head: Head) -> dict[str, Any]:
        """The same in both records, once the question was put: then nothing about the request changes any more."""
        if self._call is None:
            return facts.request_facts(head, self.connection, None, len(self._body))
        if self._told_request is None:
            self._told_request = facts.request_facts(head, self.connection, self._call, len(self._body))
        return self._told_request

    def _request_payloads(self) -> tuple[Payload, ...]:
        if not self._body:
            return ()
        kind = self._head.content_type if self._head else ""
        raw = Payload(PayloadRole.REQUEST_RAW, self._body, kind)
        if self._forwarded is None or self._forwarded.blocked:
            return (raw,)
        return (raw, Payload(PayloadRole.REQUEST_FORWARDED, self._forwarded.body, kind))

    def _response_payloads(self, released: Redaction | None) -> tuple[Payload, ...]:
        if not self._answer_body:
            return ()
        kind = next((v.decode("latin-1") for k, v in self._answer_headers if k == "content-type"), "")
        decoded = self._released.decoded if self._released else self._answer_body
        upstream = Payload(PayloadRole.RESPONSE_UPSTREAM, decoded, kind)
        if released is None:
            return (upstream,)
        return (upstream, Payload(PayloadRole.RESPONSE_RELEASED, released.body, kind))

    # What must be there by now -------------------------------------------------------------------------------------

    @property
    def _known_head(self) -> Head:
        if self._head is None:
            raise PeerError("no request head")
        return self._head

    @property
    def _known_connection(self) -> Connection:
        if self.connection is None:
            raise PeerError("no connection")
        return self.connection

    @property
    def _known_inspection(self) -> Inspection:
        if self._inspection is None:
            raise PeerError("not inspected")
        return self._inspection
