"""What is counted, logged and traced of an exchange: codes, counts and times, never a word of a caller's.

The canonical line's fields are listed in ``docs/operating.md``: who adds one here adds it there.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, Final

from ext_proc import telemetry
from ext_proc.model import HoldEnding
from ext_proc.phases import effects as do
from ext_proc.phases import events as ev

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ext_proc.model import Decision
    from ext_proc.phases import StreamingSession
    from ext_proc.telemetry import Mark

WAITING: Final = "AwaitApproval"
"""The step in which people are waited for: not the gate's own time."""
NAME_MAX: Final = 128
"""Characters of a model's name that a trace may hold."""
_GEN_AI: Final = {
    "openai.chat": "chat",
    "openai.responses": "chat",
    "anthropic.messages": "chat",
    "openai.completions": "text_completion",
    "openai.embeddings": "embeddings",
}
"""OpenTelemetry's names of operations (``gen_ai.operation.name``), by protocol."""
_PROVIDERS: Final = {"openai": "openai", "anthropic": "anthropic"}


def count_step(effect: do.Step, told: ev.AnswerEvent | None, seconds: float) -> None:
    """Count what a step said. None: nobody waits for it any more."""
    match effect, told:
        case do.Decide(), ev.Decided(decision=decision):
            telemetry.count(telemetry.DECISIONS, _word(decision))
        case do.Decide(), ev.Failed(error=error):
            telemetry.count(telemetry.DECISIONS, error.code)
        case do.Authenticate(), ev.Authenticated():
            telemetry.count(telemetry.AUTHENTICATIONS, "verified")
        case do.Authenticate(), ev.Failed(error=error):
            telemetry.count(telemetry.AUTHENTICATIONS, error.code)
        case do.AwaitApproval(), ev.HoldStands(standing=standing):
            telemetry.observe(telemetry.HOLD_SECONDS, standing.state.value, seconds)
        case do.AwaitApproval(), _:
            telemetry.observe(telemetry.HOLD_SECONDS, "left" if told is None else "failed", seconds)
        case _:
            pass


def _word(decision: Decision) -> str:
    if not decision.allow:
        return "deny"
    if decision.break_glass is not None:
        return "break_glass"
    return "allow" if decision.approval is None else "approval"


def named(session: StreamingSession) -> str:
    """The connection's name; empty where the exchange came to none."""
    return session.connection.name if session.connection else ""


def count_exchange(session: StreamingSession, seconds: float, mark: Mark) -> None:
    """Count a whole exchange."""
    name = named(session)
    telemetry.exchange_ended(name, session.outcome or "none", session.code or "", seconds, mark)
    if session.is_glass_broken:
        telemetry.count(telemetry.GLASS_BROKEN, name)
    if session.was_held:
        has_passed = session.hold_ending is HoldEnding.PASSED
        how = session.hold_ending.value if has_passed or session.code is None else session.code
        telemetry.count(telemetry.APPROVALS, how.removeprefix("approval_"))
    for direction, redaction in session.looked_at:
        telemetry.count(telemetry.SCANNED_BYTES, direction, by=redaction.coverage.scanned_bytes)
        for entity, number in Counter(removal.entity for removal in redaction.removals).items():
            telemetry.count(telemetry.REMOVALS, direction, entity, by=number)
        for kind, number in _usage(redaction.usage.input_tokens, redaction.usage.output_tokens):
            telemetry.count(telemetry.MODEL_TOKENS, name, kind, by=number)


def _usage(input_tokens: int | None, output_tokens: int | None) -> list[tuple[str, int]]:
    both = (("input", input_tokens), ("output", output_tokens))
    return [(kind, number) for kind, number in both if number is not None and number > 0]


def line(session: StreamingSession, took: Mapping[str, float], seconds: float, trace_id: str) -> dict[str, Any]:
    """The canonical line: all that the operational log has of an exchange."""
    looked_at = session.looked_at
    times = session.upstream_times
    upstream = (times[1] - times[0]).total_seconds() if times else None
    told: dict[str, Any] = {
        "exchange": session.exchange_id,
        "connection": named(session),
        "outcome": session.outcome,
        "code": session.code,
        "detail": session.detail,
        "status": session.status,
        "streamed": session.is_streaming,
        "masked": sum(len(redaction.removals) for _, redaction in looked_at),
        "scanned_bytes": sum(redaction.coverage.scanned_bytes for _, redaction in looked_at),
        "total_ms": _ms(seconds),
        "gate_ms": _ms(sum(spent for step, spent in took.items() if step != WAITING)),
        "decide_ms": _ms(took.get("Decide")),
        "record_ms": _ms(took.get("Record")),
        "held_ms": _ms(took.get(WAITING)),
        "upstream_ms": _ms(upstream),
    }
    return {**told, "trace": trace_id} if trace_id else told


def _ms(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds * 1000, 3)


def spoken(session: StreamingSession) -> dict[str, Any]:
    """The attributes of the exchange's span: OpenTelemetry's (HTTP, errors) and ours (``affidavit.``)."""
    told: dict[str, Any] = {
        "affidavit.connection": named(session) or None,
        "affidavit.outcome": session.outcome or "none",
        "error.type": session.code,
        "http.response.status_code": session.status,
    }
    for direction, redaction in session.looked_at:
        told[f"affidavit.{direction}.scanned_bytes"] = redaction.coverage.scanned_bytes
        told[f"affidavit.{direction}.removals"] = len(redaction.removals)
    return _said(told)


def spoken_of_model(session: StreamingSession) -> dict[str, Any]:
    """The attributes of the span of a call that was let on, by OpenTelemetry's conventions for generative AI."""
    asked = session.asked_for
    if asked is None:
        return {}
    told: dict[str, Any] = {
        "gen_ai.operation.name": _GEN_AI.get(asked.protocol, asked.operation),
        "gen_ai.provider.name": _PROVIDERS.get(asked.protocol.partition(".")[0]),
        "gen_ai.request.model": _short(asked.model),
    }
    for direction, redaction in session.looked_at:
        if direction == "response":
            told["gen_ai.response.model"] = _short(redaction.model_served)
            told["gen_ai.response.finish_reasons"] = [reason[:NAME_MAX] for reason in redaction.finish_reasons] or None
            told["gen_ai.usage.input_tokens"] = redaction.usage.input_tokens
            told["gen_ai.usage.output_tokens"] = redaction.usage.output_tokens
    return _said(told)


def _short(name: str | None) -> str | None:
    return name[:NAME_MAX] if name else None


def _said(told: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in told.items() if value is not None}
