"""The question to the policy: one document, every field always present, null where nothing is known. Pure.

An absent field makes an ordinary Rego rule undefined, and an undefined deny rule allows (measured: five of
five). The question is a function of the call alone (its time is when the request was received), so the same
call gives the same question again, byte for byte. The shape is published as ``opa/schemas/question.json`` and
explained in ``docs/policy-input.md``; the tests hold all three together.
"""

from __future__ import annotations

from datetime import UTC
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from ext_proc.model import Call

SCHEMA: Final = "affidavit/question/v1"
_WEEKDAYS: Final = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")


def question(call: Call) -> dict[str, Any]:
    """The document for ``input``. Findings are counts by entity, never values."""
    identity, inspection = call.identity, call.inspection
    at = call.received_at.astimezone(UTC)
    return {
        "schema": SCHEMA,
        "exchange_id": str(call.exchange_id),
        "identity": {
            "issuer": identity.issuer,
            "subject": identity.subject,
            "method": identity.method,
            "groups": list(identity.groups),
            "client": identity.client,
            "tenant": identity.tenant,
        },
        "connection": {
            "name": call.connection.name,
            "protocol": inspection.protocol,
            "tags": list(call.connection.tags),
        },
        "request": {
            "method": call.method,
            "path": call.path,
            "operation": inspection.operation,
            "model": inspection.model,
            "stream": inspection.is_stream,
            "betas": list(call.betas),
            "emergency": call.is_emergency,
            "parameters": dict(inspection.parameters),
            "body_bytes": call.body_bytes,
            "text_bytes": inspection.text_bytes,
        },
        "findings": dict(inspection.findings),
        "time": {
            # RFC 3339, always with milliseconds and `Z`: texts compare as instants do.
            "now": at.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "weekday": _WEEKDAYS[at.weekday()],
            "hour": at.hour,
        },
        "source": {"address": call.source.address, "user_agent": call.source.user_agent},
    }
