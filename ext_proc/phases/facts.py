"""What a record says of an exchange: codes, counts, ids and times, never content. Pure; no floats."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from datetime import datetime

    from ext_proc.model import (
        ApprovalTerms,
        Call,
        Connection,
        Coverage,
        Decision,
        Recognised,
        Redaction,
        Removal,
        Standing,
    )
    from ext_proc.phases.head import Head

SPANS_MAX: Final = 64
"""Spans listed one by one in a leaf (a leaf is at most 16 KiB); the counts by entity are always complete."""


TOOLS_MAX: Final = 32
"""Tool calls listed one by one: a model that asks for hundreds must not make a leaf that cannot be written."""
EFFECTS_MAX: Final = 256
"""Tool calls that get a record of their own each."""
RESULTS_MAX: Final = 32
"""Tool results that are named, the latest ones: a long talk repeats those of all its turns."""
REASONS_MAX: Final = 16
"""One for each choice; the first ones say enough."""
INTEGER_MAX: Final = 2**53 - 1
"""What a leaf can hold as a number (RFC 8785). Larger ones stand there as text, and text has an end."""
_TEXT_MAX: Final = 64
_UNLISTED: Final = "unlisted"


def instant(at: datetime) -> str:
    """RFC 3339 in UTC with microseconds."""
    return at.isoformat(timespec="microseconds").replace("+00:00", "Z")


def request_facts(head: Head, connection: Connection | None, call: Call | None, body_bytes: int) -> dict[str, Any]:
    """The request: the path is said only where it is an operation of the connection (else it is caller's text)."""
    facts: dict[str, Any] = {
        "connection": connection.name if connection else None,
        "body_bytes": body_bytes,
        "method": head.method if call else None,
        "path": call.path if call else None,
    }
    if call:
        inspection = call.inspection
        facts |= {
            "protocol": inspection.protocol,
            "operation": inspection.operation,
            "model": inspection.model,
            "is_stream": inspection.is_stream,
            "query": dict(call.query),
            "betas": list(call.betas),
            "text_bytes": inspection.text_bytes,
            "parameters": {name: _plain(value) for name, value in inspection.parameters.items()},
            "findings": dict(inspection.findings),
        }
    return facts


def policy_facts(decision: Decision) -> dict[str, Any]:
    """Who allowed it: enough to fetch the policy and ask again."""
    return {
        "allow": decision.allow,
        "reasons": list(decision.reasons),
        "decision_id": decision.decision_id,
        "bundle_revision": decision.policy.revision,
        "bundle_digest": decision.policy.digest,
        "approval_required": decision.approval is not None,
        **({"break_glass": decision.break_glass} if decision.break_glass is not None else {}),
    }


def approval_facts(standing: Standing) -> dict[str, Any]:
    """How the hold stood, who said what, and where that is on record: enough to join the three."""
    return {
        "hold_id": standing.hold_id,
        "state": standing.state.value,
        "binding_sha256": standing.binding_sha256,
        "count": standing.count,
        "asked": instant(standing.asked_at),
        "expires": instant(standing.expires_at),
        "valid_until": instant(standing.valid_until) if standing.valid_until else None,
        "resolutions": [
            {
                "action": "approve" if one.is_yes else "deny",
                "person_ref": one.person_ref,
                "time": instant(one.at),
                "record": {"origin": one.origin, "sequence": one.sequence},
            }
            for one in standing.resolutions
        ],
    }


def terms_facts(terms: ApprovalTerms) -> dict[str, Any]:
    """What the policy demanded of the people."""
    return {
        "groups": list(terms.groups),
        "count": terms.count,
        "valid_seconds": terms.valid_seconds,
        "within_seconds": terms.within_seconds,
        "reason": terms.reason,
        "clear_to": list(terms.clear_to),
    }


def redaction_facts(redaction: Redaction) -> dict[str, Any]:
    """What was removed and how much was looked at (L7): counts by entity and action, then the first spans."""
    removals = redaction.removals
    told = {} if redaction.recognised is None else {"ner": recognised_facts(redaction.recognised)}
    restored = [{"entity": entity, "count": count} for entity, count in redaction.restored]
    return {
        **told,
        "removed": _counts(removals),
        "spans": [_span(removal) for removal in removals[:SPANS_MAX]],
        "spans_unlisted": max(0, len(removals) - SPANS_MAX),
        "blocked": list(redaction.blocked),
        "coverage": coverage_facts(redaction.coverage),
        **({"restored": restored} if restored else {}),
    }


def coverage_facts(coverage: Coverage) -> dict[str, int]:
    """Bytes scanned and bytes forwarded: "nothing was scanned" can be read off."""
    return {
        "channels": coverage.channel_count,
        "scanned_bytes": coverage.scanned_bytes,
        "structure_bytes": coverage.structure_bytes,
        "excluded_bytes": coverage.excluded_bytes,
        "forwarded_bytes": coverage.forwarded_bytes,
    }


def recognised_facts(recognised: Recognised) -> dict[str, Any]:
    """What the recogniser of names looked at. ``complete`` only where there was nothing that it could not look at."""
    is_failed = recognised.failure is not None or recognised.failed_bytes > 0
    return {
        "recogniser": recognised.recogniser,
        "mode": recognised.mode,
        "status": "failed" if is_failed else "off" if recognised.mode == "off" else "complete",
        "failure": recognised.failure,
        "scanned_bytes": recognised.scanned_bytes,
        "failed_bytes": recognised.failed_bytes,
    }


def model_facts(redaction: Redaction, requested: str | None) -> dict[str, Any]:
    """Which model was asked and which answered, as it said itself."""
    return {
        "requested": requested,
        "served": redaction.model_served,
        "fingerprint": redaction.model_fingerprint,
        "input_tokens": _counted(redaction.usage.input_tokens),
        "output_tokens": _counted(redaction.usage.output_tokens),
        "finish_reasons": list(redaction.finish_reasons[:REASONS_MAX]),
        "tool_calls": [{"name": call.name} for call in redaction.tool_calls[:TOOLS_MAX]],
        "tool_calls_unlisted": max(0, len(redaction.tool_calls) - TOOLS_MAX),
    }


def _counts(removals: tuple[Removal, ...]) -> list[dict[str, Any]]:
    if not removals:
        return []
    counted = Counter((r.entity, r.action.value, r.rule, r.version) for r in removals)
    return [
        {"entity": entity, "action": action, "rule": rule, "version": version, "count": count}
        for (entity, action, rule, version), count in sorted(counted.items())
    ]


def _span(removal: Removal) -> dict[str, Any]:
    return {
        "channel": removal.channel,
        "start": removal.start,
        "end": removal.end,
        "entity": removal.entity,
        "action": removal.action.value,
    }


def _plain(value: float | str | bool | None) -> int | str | bool | None:  # noqa: FBT001 - a JSON scalar, not a flag
    """A parameter as a leaf can hold it: whatever a caller sends, it must be possible to write it down."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int) and abs(value) <= INTEGER_MAX:
        return value
    # The size is asked before the digits: those of a huge number take long to make, or cannot be made.
    if isinstance(value, int) and value.bit_length() > _TEXT_MAX * 4:
        return _UNLISTED
    said = repr(value) if isinstance(value, float) else str(value)
    return said if len(said) <= _TEXT_MAX and said.isascii() else _UNLISTED


def _counted(tokens: int | None) -> int | None:
    """What an upstream counted, if it can be a count."""
    return tokens if tokens is not None and 0 <= tokens <= INTEGER_MAX else None
