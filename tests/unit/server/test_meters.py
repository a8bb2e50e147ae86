"""`ext_proc.server.meters`: what is counted and logged of an exchange, and that no caller's word is."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import pytest
from prometheus_client import REGISTRY

from ext_proc import telemetry
from ext_proc.errors import BadToken, PolicyUnavailable
from ext_proc.model import (
    Action,
    ApprovalTerms,
    Coverage,
    Decision,
    HoldEnding,
    HoldId,
    HoldState,
    Inspection,
    PolicyVersion,
    Redaction,
    Removal,
    Standing,
    Usage,
)
from ext_proc.phases import effects as do
from ext_proc.phases import events as ev
from ext_proc.server import meters
from tests.fakes.exchange import ADA, AT, DEMO

PLANTED = "ada.lovelace@example.net"


@dataclass
class Session:
    """What is asked of a session here."""

    exchange_id: str = "e1"
    connection: Any = DEMO
    outcome: str = "completed"
    code: str | None = None
    detail: str | None = None
    status: int | None = 200
    is_streaming: bool = False
    is_glass_broken: bool = False
    was_held: bool = False
    hold_ending: HoldEnding = HoldEnding.LEFT
    looked_at: tuple[tuple[str, Redaction], ...] = ()
    upstream_times: Any = (AT, AT + timedelta(seconds=1.5))
    asked_for: Inspection | None = field(
        default_factory=lambda: Inspection(
            "openai.chat", "chat", "m" * 200, is_stream=False, parameters={}, findings={}, text_bytes=3
        )
    )


def _value(name: str, **labels: str) -> float:
    telemetry.tell_metrics()
    return REGISTRY.get_sample_value(name, labels) or 0.0


def _decision(**more: Any) -> Decision:
    told: dict[str, Any] = {"allow": True, "reasons": (), "redact_request": (), "redact_response": (), "approval": None}
    told |= {"record_payloads": True, "decision_id": "d", "policy": PolicyVersion("r", "d")}
    return Decision(**told | more)


TERMS = ApprovalTerms(("approvers",), 1, 60, 60, "restricted")


@pytest.mark.parametrize(
    ("told", "word"),
    [
        (ev.Decided(AT, _decision()), "allow"),
        (ev.Decided(AT, _decision(allow=False)), "deny"),
        (ev.Decided(AT, _decision(approval=TERMS)), "approval"),
        (ev.Decided(AT, _decision(approval=TERMS, break_glass="fire")), "break_glass"),
        (ev.Failed(AT, PolicyUnavailable("x")), "policy_unavailable"),
    ],
)
def test_decisions(told: ev.AnswerEvent, word: str) -> None:
    before = _value("affidavit_decisions_total", result=word)
    meters.count_step(do.Decide(None), told, 0.1)  # type: ignore[arg-type]
    assert _value("affidavit_decisions_total", result=word) == before + 1


@pytest.mark.parametrize(
    ("told", "word"), [(ev.Authenticated(AT, ADA), "verified"), (ev.Failed(AT, BadToken("expired")), BadToken.code)]
)
def test_authentications(told: ev.AnswerEvent, word: str) -> None:
    before = _value("affidavit_authentications_total", result=word)
    meters.count_step(do.Authenticate(None, DEMO), told, 0.1)  # type: ignore[arg-type]
    assert _value("affidavit_authentications_total", result=word) == before + 1


def test_holds_by_how_they_stood() -> None:
    standing = Standing(HoldId("h"), HoldState.DENIED, "b", 1, AT, AT)
    for told, state in (
        (ev.HoldStands(AT, standing), "denied"),
        (None, "left"),
        (ev.Failed(AT, PolicyUnavailable()), "failed"),
    ):
        before = _value("affidavit_hold_seconds_count", state=state), _value("affidavit_hold_seconds_sum", state=state)
        meters.count_step(do.AwaitApproval(HoldId("h"), "e", AT), told, 42.0)  # type: ignore[arg-type]
        assert _value("affidavit_hold_seconds_count", state=state) == before[0] + 1
        assert _value("affidavit_hold_seconds_sum", state=state) == before[1] + 42


def _redaction() -> Redaction:
    removal = Removal(f"channel {PLANTED}", 0, 3, "EMAIL", "email", "1", Action.MASK)
    return Redaction(
        PLANTED.encode(), PLANTED.encode(), (removal, removal), Coverage(scanned_bytes=70),
        model_served="served", usage=Usage(11, 5), finish_reasons=("stop",),
    )  # fmt: skip


def test_an_exchange() -> None:
    session = Session(looked_at=(("request", _redaction()), ("response", _redaction())))
    names: tuple[tuple[str, dict[str, str]], ...] = (
        ("affidavit_exchanges_total", {"connection": DEMO.name, "outcome": "completed", "code": ""}),
        ("affidavit_exchange_seconds_count", {"connection": DEMO.name}),
        ("affidavit_removals_total", {"direction": "request", "entity": "EMAIL"}),
        ("affidavit_redaction_scanned_bytes_total", {"direction": "response"}),
        ("affidavit_model_tokens_total", {"connection": DEMO.name, "kind": "input"}),
    )
    before = [_value(name, **labels) for name, labels in names]
    meters.count_exchange(session, 0.3, ("e1", ""))  # type: ignore[arg-type]
    after = [_value(name, **labels) for name, labels in names]
    assert [b - a for a, b in zip(before, after, strict=True)] == [1, 1, 2, 70, 22]


@pytest.mark.parametrize(
    ("ending", "code", "word"),
    [
        (HoldEnding.PASSED, None, "passed"),
        (HoldEnding.PASSED, "upstream_unavailable", "passed"),
        (HoldEnding.TOLD, "approval_pending", "pending"),
        (HoldEnding.LEFT, "approval_denied", "denied"),
        (HoldEnding.LEFT, None, "left"),
    ],
)
def test_how_approvals_ended(ending: HoldEnding, code: str | None, word: str) -> None:
    before = _value("affidavit_approvals_total", outcome=word)
    meters.count_exchange(Session(was_held=True, hold_ending=ending, code=code), 1.0, telemetry.NOBODY)  # type: ignore[arg-type]
    assert _value("affidavit_approvals_total", outcome=word) == before + 1


def test_the_canonical_line() -> None:
    session = Session(looked_at=(("request", _redaction()),))
    took = {"Decide": 0.002, "Record": 0.003, "Authenticate": 0.001, "AwaitApproval": 30.0}
    line = meters.line(session, took, 31.55, "ab" * 16)  # type: ignore[arg-type]
    assert line == {
        "exchange": "e1", "connection": DEMO.name, "outcome": "completed", "code": None, "detail": None, "status": 200,
        "streamed": False, "masked": 2, "scanned_bytes": 70, "total_ms": 31550.0, "gate_ms": 6.0, "decide_ms": 2.0,
        "record_ms": 3.0, "held_ms": 30000.0, "upstream_ms": 1500.0, "trace": "ab" * 16,
    }  # fmt: skip
    assert "trace" not in meters.line(session, took, 1.0, "")  # type: ignore[arg-type]
    assert PLANTED not in json.dumps(line)


def test_what_a_trace_is_told() -> None:
    session: Any = Session(looked_at=(("request", _redaction()), ("response", _redaction())), code="denied")
    told, model = meters.spoken(session), meters.spoken_of_model(session)
    assert told["error.type"] == "denied" and told["affidavit.request.removals"] == 2
    assert model["gen_ai.operation.name"] == "chat" and model["gen_ai.provider.name"] == "openai"
    assert model["gen_ai.request.model"] == "m" * meters.NAME_MAX
    assert (model["gen_ai.usage.input_tokens"], model["gen_ai.usage.output_tokens"]) == (11, 5)
    assert PLANTED not in json.dumps([told, model])


def test_of_a_call_that_was_not_let_on_no_model_is_told() -> None:
    assert meters.spoken_of_model(Session(asked_for=None)) == {}  # type: ignore[arg-type]
