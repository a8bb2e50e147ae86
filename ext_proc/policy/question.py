"""The question to the policy: one document, every field always present, null where nothing is known. Pure.

An absent field makes an ordinary Rego rule undefined, and an undefined deny rule allows (measured: five of
five). The question is a function of the call alone (its time is when the request was received), so the same
call gives the same question again, byte for byte. The shape is published as ``opa/schemas/question.json`` and
explained in ``docs/policy-input.md``; the tests hold all three together.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC
from typing import TYPE_CHECKING, Any, Final

import orjson

if TYPE_CHECKING:
    from ext_proc.model import Call

SCHEMA: Final = "affidavit/question/v1"
_BEGIN: Final = '{"input":'
_THEN: Final = ',"result":'
_decode: Final = json.JSONDecoder().raw_decode  # orjson takes no half of a surrogate pair, which a question may have
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


@dataclass(frozen=True, slots=True)
class Asked:
    """A recorded question: ``text`` is the JSON that OPA was given as ``input``, ``result`` what it answered."""

    text: str
    input: dict[str, Any]
    result: dict[str, Any]


class NotAskedError(ValueError):
    """The payload holds no question."""


def write_asked(text: str, result: Any) -> bytes:
    """The payload of a question, ``text`` as OPA got it, and OPA's answer: enough to ask again, and to compare."""
    return f"{_BEGIN}{text}{_THEN}{orjson.dumps(result).decode()}}}".encode()


def read_asked(body: bytes) -> Asked:
    """A payload that `write_asked` made.

    Raises:
        NotAskedError: it is none.
    """
    try:
        text = body.decode()
        begin = len(_BEGIN)
        asked, end = _decode(text, begin)
        if not text.startswith(_BEGIN) or not text.startswith(_THEN, end):
            raise NotAskedError
        result, last = _decode(text, end + len(_THEN))
        if not isinstance(asked, dict) or not isinstance(result, dict) or text[last:] != "}":
            raise NotAskedError
    except (ValueError, RecursionError):
        raise NotAskedError("not a recorded question") from None
    return Asked(text[begin:end], asked, result)
