"""The kinds of leaves, each with its fields: the one place from which ``docs/schemas/leaf/`` is made. Pure.

A schema is closed: a leaf with a field that is not here is not valid. The fields' meaning is in
``docs/record-format.md``. The writer does not ask this table (a record must not fail for want of a description); the
tests do, of every leaf that a real run writes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from ext_proc.audit.record import LEAF_MAX_BYTES, PART_PAYLOADS_MAX, SCHEMA
from ext_proc.errors import RECOGNISER_FAILURES
from ext_proc.model import HoldState
from ext_proc.record_kinds import BODY_ROLES, LeafKind, PayloadRole

if TYPE_CHECKING:
    from collections.abc import Mapping

    Shape = dict[str, Any]

DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"
_INTEGER_MAX: Final = 2**53 - 1


def _text(pattern: str | None = None, *, limit: int = LEAF_MAX_BYTES) -> Shape:
    return {"type": "string", "pattern": pattern} if pattern else {"type": "string", "maxLength": limit}


def _number(least: int = 0) -> Shape:
    return {"type": "integer", "minimum": least, "maximum": _INTEGER_MAX}


def _or_null(shape: Shape) -> Shape:
    return {"anyOf": [shape, {"type": "null"}]}


def _list(of: Shape) -> Shape:
    return {"type": "array", "items": of}


def _one_of(*words: str) -> Shape:
    return {"enum": list(words)}


def _counted(by: str = "^.+$") -> Shape:
    return {"type": "object", "patternProperties": {by: _number()}, "additionalProperties": False}


def _fields(needed: Mapping[str, Shape], optional: Mapping[str, Shape] | None = None) -> Shape:
    properties = {**needed, **(optional or {})}
    return {
        "type": "object",
        "properties": properties,
        "required": sorted(needed),
        "additionalProperties": False,
    }


_YES: Final[Shape] = {"type": "boolean"}
_TEXT: Final = _text()
_COUNT: Final = _number()
_STATUS: Final[Shape] = {"type": "integer", "minimum": 100, "maximum": 599}
_SHA256: Final = _text("^[0-9a-f]{64}$")
_BASE64: Final = _text("^[A-Za-z0-9+/]+={0,2}$")
_AT: Final = _text(r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z$")
_DAY: Final = _text(r"^\d{4}-\d\d-\d\d$")
_ORIGIN: Final = _text(r"^[^\s]+/[^\s/]+/\d{8}T\d{12}-[0-9a-f]{8}$")
_KEY: Final = _text("^v1/[^\\s]+$")
_REF: Final = _text("^hmac-sha256:[0-9a-f]{64}$")
_SUBJECT: Final = _text("^(hmac-sha256:[0-9a-f]{64}|nobody)$")
_CODE: Final = _text("^[a-z][a-z0-9_.-]{0,63}$")
_LABEL: Final = _text(r"^([A-Za-z0-9][A-Za-z0-9._:/@+-]{0,127}|)$")
_BUNDLE: Final = _fields({"revision": _TEXT, "digest": _SHA256})
_TICKS: Final = _text(r"^\d+$")
_ROLE: Final = _one_of(*BODY_ROLES, PayloadRole.POLICY_QUESTION)

# The parts of an exchange (record-format, section 6) ------------------------------------------------------------------

_ACTOR: Final = _fields(
    {
        "subject_ref": _REF,
        "issuer": _TEXT,
        "method": _one_of("oidc", "mtls"),
        "client": _or_null(_REF),
        "groups_ref": _REF,
        "token_ref": _or_null(_REF),
    },
    {"tenant_ref": _REF},
)
_SOURCE: Final = _fields({"address_ref": _REF, "user_agent_ref": _REF})
_REQUEST: Final = _fields(
    {"connection": _or_null(_TEXT), "body_bytes": _COUNT, "method": _or_null(_TEXT), "path": _or_null(_TEXT)},
    {
        "protocol": _TEXT,
        "operation": _TEXT,
        "model": _or_null(_LABEL),
        "is_stream": _YES,
        "query": {"type": "object", "additionalProperties": _LABEL},
        "betas": {**_list(_LABEL), "maxItems": 16},
        "text_bytes": _COUNT,
        "parameters": {
            "type": "object",
            "additionalProperties": {"type": ["integer", "string", "boolean", "null"], "maxLength": 128},
        },
        "findings": _counted(),
    },
)
_POLICY: Final = _fields(
    {
        "allow": _YES,
        "reasons": _list(_TEXT),
        "decision_id": _TEXT,
        "bundle_revision": _TEXT,
        "bundle_digest": _SHA256,
        "approval_required": _YES,
    },
    {"break_glass": _CODE},
)
_PLACE: Final = _fields({"origin": _ORIGIN, "sequence": _COUNT})
_HOLD_ID: Final = _text("^[0-9a-f]{32}$")
_RESOLUTION: Final = _fields({"action": _one_of("approve", "deny"), "person_ref": _REF, "time": _AT, "record": _PLACE})
_APPROVAL: Final = _fields(
    {
        "hold_id": _HOLD_ID,
        "state": _one_of(*(state.value for state in HoldState)),
        "binding_sha256": _SHA256,
        "count": _number(1),
        "asked": _AT,
        "expires": _AT,
        "valid_until": _or_null(_AT),
        "resolutions": {**_list(_RESOLUTION), "maxItems": 16},
    }
)
_TERMS: Final = _fields(
    {
        "groups": _list(_TEXT),
        "count": _number(1),
        "valid_seconds": _number(1),
        "within_seconds": _number(1),
        "reason": _text(limit=512),
        "clear_to": _list(_TEXT),
    }
)
_REMOVED: Final = _fields({"entity": _TEXT, "action": _TEXT, "rule": _TEXT, "version": _TEXT, "count": _number(1)})
_SPAN: Final = _fields({"channel": _TEXT, "start": _COUNT, "end": _COUNT, "entity": _TEXT, "action": _TEXT})
_COVERAGE: Final = _fields(
    {
        "channels": _COUNT,
        "scanned_bytes": _COUNT,
        "structure_bytes": _COUNT,
        "excluded_bytes": _COUNT,
        "forwarded_bytes": _COUNT,
    }
)
_NER: Final = _fields(
    {
        "recogniser": _text(r"^[A-Za-z0-9][A-Za-z0-9._:/@+-]{0,63}$"),
        "mode": _one_of("whole", "sentence", "window", "off"),
        "status": _one_of("complete", "failed", "off"),
        "failure": _or_null(_one_of(*RECOGNISER_FAILURES)),
        "scanned_bytes": _COUNT,
        "failed_bytes": _COUNT,
    }
)
_REDACTION: Final = _fields(
    {
        "removed": _list(_REMOVED),
        "spans": {**_list(_SPAN), "maxItems": 64},
        "spans_unlisted": _COUNT,
        "blocked": _list(_TEXT),
        "coverage": _COVERAGE,
    },
    {"ner": _NER, "restored": _list(_fields({"entity": _TEXT, "count": _number(1)}))},
)
_MODEL: Final = _fields(
    {
        "requested": _or_null(_LABEL),
        "served": _or_null(_LABEL),
        "fingerprint": _or_null(_LABEL),
        "input_tokens": _or_null(_COUNT),
        "output_tokens": _or_null(_COUNT),
        "finish_reasons": {**_list(_LABEL), "maxItems": 16},
        "tool_calls": {**_list(_fields({"name": _LABEL})), "maxItems": 32},
        "tool_calls_unlisted": _COUNT,
    }
)
_UPSTREAM: Final = _fields(
    {"status": _or_null(_STATUS), "code_details": _TEXT, "response_flags": _TEXT, "address": _TEXT}
)
CHANNELS: Final = ("api", "cli", "console", "webhook", "slack", "email")
"""How people see and resolve what is held."""
OUTCOMES: Final = (
    "completed", "error", "denied", "held", "refused", "local_reply", "abandoned", "interrupted", "unrecorded",
)  # fmt: skip
_OUTCOME: Final = _fields(
    {
        "status": _one_of(*OUTCOMES),
        "http_status": _or_null(_STATUS),
        "code": _or_null(_text("^[a-z0-9_]+$")),
        "detail": _or_null(_TEXT),
        "released_bytes": _COUNT,
        "is_inspected": _YES,
    },
    {"covered_bytes": _COUNT},
)
_PART: Final = _fields({"number": _COUNT, "released_bytes": _COUNT, "covered_bytes": _COUNT})
_PAYLOAD: Final = _fields(
    {
        "role": _ROLE,
        "ciphertext_sha256": _SHA256,
        "ciphertext_bytes": _number(28),
        "plaintext_bytes": _COUNT,
        "algorithm": {"const": "A256GCM"},
        "key": _text("^subject:(hmac-sha256:[0-9a-f]{64}|nobody)#[1-9][0-9]*$"),
        "wrapped_data_key": _BASE64,
        "content_type": _text(r"^(other|[a-z]+/[a-z0-9.+-]{1,64})$"),
    }
)


def _of_role(role: PayloadRole) -> Shape:
    return {**_PAYLOAD, "properties": {**_PAYLOAD["properties"], "role": {"const": role}}}


_JUSTIFICATION: Final = _of_role(PayloadRole.APPROVAL_JUSTIFICATION)


def _times(*needed: str) -> Shape:
    every = ("received", "decided", "forwarded", "answered", "recorded", "ended")
    return _fields(dict.fromkeys(needed, _AT), {name: _AT for name in every if name not in needed})


_EXCHANGE: Final = {
    "exchange_id": _text(limit=128),
    "payloads": {**_list(_PAYLOAD), "maxItems": 4},
    "actor": _or_null(_ACTOR),
    "source": _or_null(_SOURCE),
}
_OF_EXCHANGE: Final = {
    "request": _REQUEST,
    "policy": _POLICY,
    "request_redaction": _REDACTION,
    "approval": _APPROVAL,
}
_ENDED: Final = {
    "exchange_id": _EXCHANGE["exchange_id"],
    "intent_sequence": _or_null(_COUNT),
    "outcome": _OUTCOME,
    "time": _times("recorded"),
    "payloads": _EXCHANGE["payloads"],
}
_ACTION: Final = _one_of("approve", "deny")
_OF_PERSON: Final = {
    **_EXCHANGE,
    "actor": _or_null(
        {**_ACTOR, "properties": {**_ACTOR["properties"], "method": _one_of("oidc", "mtls", "webhook", "slack")}}
    ),
    "payloads": {**_list(_JUSTIFICATION), "maxItems": 1},
    "hold_id": _HOLD_ID,
    "binding_sha256": _SHA256,
    "channel": _one_of(*CHANNELS),
    "time": _times("recorded"),
}
_BY: Final = {"reason": _text(limit=200), "by": _text(limit=200)}
_HOLD: Final = _text("^[A-Za-z0-9][A-Za-z0-9._/-]{0,99}$")

# Needed fields, and those that are there only where there was something to say. ---------------------------------------

KINDS: Final[Mapping[str, tuple[Mapping[str, Shape], Mapping[str, Shape]]]] = {
    LeafKind.LOG_OPEN: (
        {
            "version": _TEXT,
            "python": _TEXT,
            "role": _text("^([0-9]+|shipper|command)$"),
            "config_sha256": _SHA256,
            "policy_bundle": _BUNDLE,
            "redaction_rules": _text("^[0-9a-f]{12}$"),
            "connections": _list(_TEXT),
            "process": _number(1),
            "previous": _or_null(_ORIGIN),
            "boot_id": _or_null(_TEXT),
            "monotonic_ns": _TICKS,
            "receipt_key": _or_null(_TEXT),
        },
        {},
    ),
    LeafKind.LOG_CLOSE: ({"leaves": _number(1)}, {}),
    LeafKind.LOG_RECOVERED: (
        {
            "last_good_sequence": _number(-1),
            "dropped_bytes": _COUNT,
            "interrupted": _COUNT,
            "parts": _COUNT,
            "undelivered": _COUNT,
        },
        {},
    ),
    LeafKind.LOG_LOST: (
        {"lost_origin": _ORIGIN, "first_sequence": _COUNT, "last_sequence": _or_null(_COUNT), "reason": _TEXT},
        {},
    ),
    LeafKind.HEARTBEAT: (
        {
            "in_flight": _COUNT,
            "counts": _counted(f"^({'|'.join(OUTCOMES)})$"),
            "unshipped_bytes": _COUNT,
            "monotonic_ns": _TICKS,
            "boot_id": _or_null(_TEXT),
            "policy_bundle": _BUNDLE,
            "envoy_requests": _or_null(_COUNT),
        },
        {},
    ),
    LeafKind.INFERENCE_INTENT: (
        {
            **_EXCHANGE,
            "request": _REQUEST,
            "policy": _POLICY,
            "time": _times("received", "decided", "recorded"),
        },
        {"request_redaction": _REDACTION, "approval": _APPROVAL, "tool_results": {**_list(_REF), "maxItems": 32}},
    ),
    LeafKind.APPROVAL_REQUESTED: (
        {
            **_EXCHANGE,
            "request": _REQUEST,
            "policy": _POLICY,
            "approval": _APPROVAL,
            "terms": _TERMS,
            "payloads": {**_list(_of_role(PayloadRole.POLICY_QUESTION)), "maxItems": 1},
            "time": _times("received", "decided", "recorded"),
        },
        {"request_redaction": _REDACTION},
    ),
    LeafKind.APPROVAL_BREAK_GLASS: (
        {
            **_EXCHANGE,
            "payloads": {**_list(_JUSTIFICATION), "maxItems": 1},
            "request": _REQUEST,
            "policy": _POLICY,
            "time": _times("received", "decided", "recorded"),
        },
        {"request_redaction": _REDACTION},
    ),
    LeafKind.APPROVAL_VIEWED: ({**_OF_PERSON, "is_clear": _YES}, {"repeated": _COUNT}),
    LeafKind.APPROVAL_RESOLVED: ({**_OF_PERSON, "action": _ACTION}, {}),
    LeafKind.APPROVAL_REFUSED: ({**_OF_PERSON, "action": _ACTION, "code": _text("^[a-z_]+$")}, {"repeated": _COUNT}),
    LeafKind.INFERENCE_PART: (
        {
            "exchange_id": _EXCHANGE["exchange_id"],
            "intent_sequence": _or_null(_COUNT),
            "part": _PART,
            "time": _times("recorded"),
            "payloads": {**_list(_PAYLOAD), "maxItems": PART_PAYLOADS_MAX},
        },
        {"upstream": _or_null(_UPSTREAM)},
    ),
    LeafKind.INFERENCE_OUTCOME: (
        _ENDED,
        {
            **{name: _EXCHANGE[name] for name in ("actor", "source")},
            **_OF_EXCHANGE,
            "upstream": _or_null(_UPSTREAM),
            "response_redaction": _REDACTION,
            "model": _MODEL,
        },
    ),
    LeafKind.EFFECT_TOOL_CALL: (
        {
            "exchange_id": _EXCHANGE["exchange_id"],
            "intent_sequence": _or_null(_COUNT),
            "tool_call": _fields(
                {
                    "number": _COUNT,
                    "name": _LABEL,
                    "channel": _TEXT,
                    "arguments_ref": _REF,
                    "call_ref": _or_null(_REF),
                }
            ),
        },
        {},
    ),
    LeafKind.INFERENCE_UNDELIVERED: (
        {
            "exchange_id": _EXCHANGE["exchange_id"],
            "outcome_sequence": _COUNT,
            "time": _times(),
            "payloads": _EXCHANGE["payloads"],
        },
        {
            **{name: _EXCHANGE[name] for name in ("actor", "source")},
            **_OF_EXCHANGE,
            "delivery": _one_of("unknown"),
        },
    ),
    LeafKind.INFERENCE_REFUSED_BY_ENVOY: (
        {
            "request_id": _or_null(_TEXT),
            "details": _TEXT,
            "status": {"type": "integer", "minimum": 0, "maximum": 599},
            "began_at": _AT,
            "replica": _TEXT,
            "generation": _TEXT,
            "offset": _COUNT,
        },
        {},
    ),
    LeafKind.POLICY_SHADOW_DIFFERED: (
        {
            "exchange_id": _EXCHANGE["exchange_id"],
            "decision_id": _TEXT,
            "fields": _list(_TEXT),
            "effects": _list(_text("^[a-z_]+$")),
            "active": _BUNDLE,
            "candidate": _or_null(_BUNDLE),
        },
        {},
    ),
    LeafKind.POLICY_REFUSED: (
        {
            "digest": _SHA256,
            "reason": _text("^[a-z_]+$"),
            "number": _or_null(_COUNT),
            "active": _or_null(_BUNDLE),
        },
        {},
    ),
    LeafKind.POLICY_ACTIVATED: (
        {
            **_BUNDLE["properties"],
            "key": _KEY,
            "number": _or_null(_COUNT),
            "key_id": _or_null(_text("^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")),
            "previous": _or_null(_BUNDLE),
        },
        {},
    ),
    LeafKind.POLICY_KEPT: ({**_BUNDLE["properties"], "key": _KEY}, {}),
    LeafKind.CONFIG_CHANGED: ({"config_sha256": _SHA256, "connections": _list(_TEXT)}, {}),
    LeafKind.EPOCH_BORN: ({"born_origin": _ORIGIN, "roster_sha256": _SHA256}, {}),
    LeafKind.EPOCH_ENDED: (
        {
            "ended_origin": _ORIGIN,
            "leaves": _COUNT,
            "root_hash": _SHA256,
            "end": _or_null(_one_of("close", "recovered")),
        },
        {},
    ),
    LeafKind.ACCESS_SHIPPED: (
        {
            "key": _KEY,
            "sha256": _SHA256,
            "generation": _TEXT,
            "first_offset": _COUNT,
            "last_offset": _COUNT,
            "lines": _COUNT,
        },
        {},
    ),
    LeafKind.DIGEST_MADE: ({"key": _KEY, "sha256": _SHA256, "of_origin": _ORIGIN, "number": _COUNT}, {}),
    LeafKind.WORM_CANARY: (
        {
            "checks": _list(_fields({"name": _TEXT, "expected": _TEXT, "found": _TEXT, "ok": _YES})),
            "ok": _YES,
            "store": _TEXT,
        },
        {},
    ),
    LeafKind.SEGMENT_QUARANTINED: ({"of_origin": _TEXT, "file": _TEXT, "reason": _TEXT}, {}),
    LeafKind.RECONCILE_RESULT: (
        {
            "day": _DAY,
            "envoy": _COUNT,
            "audited": _COUNT,
            "orphans": _COUNT,
            "gaps": _list(_fields({"code": _TEXT, "count": _number(1)})),
            "statement_sha256": _SHA256,
        },
        {},
    ),
    LeafKind.ROLLUP_MADE: ({"day": _DAY, "key": _KEY, "sha256": _SHA256}, {}),
    LeafKind.KEY_ROTATED: ({"number": _COUNT, "public_key": _BASE64, "manifest_sha256": _SHA256}, {}),
    LeafKind.ERASURE_REQUESTED: ({"subject_ref": _SUBJECT, **_BY}, {}),
    LeafKind.ERASURE_COMPLETED: ({"subject_ref": _SUBJECT, **_BY, "generations": _list(_number(1))}, {}),
    LeafKind.ERASURE_REFUSED: ({"subject_ref": _SUBJECT, **_BY, "hold": _HOLD}, {}),
    LeafKind.LEGALHOLD_PLACED: ({"subject_ref": _SUBJECT, **_BY, "hold": _HOLD, "until": _or_null(_AT)}, {}),
    LeafKind.LEGALHOLD_RELEASED: ({"subject_ref": _SUBJECT, **_BY, "hold": _HOLD}, {}),
    LeafKind.ACCESS_SPAN_READ: (
        {"roles": _list(_ROLE), "since": _or_null(_AT), "until": _or_null(_AT), "by": _TEXT, "purpose": _TEXT},
        {},
    ),
    LeafKind.ACCESS_READ: (
        {"exchange_id": _EXCHANGE["exchange_id"], "roles": _list(_ROLE), "by": _TEXT, "purpose": _TEXT},
        {},
    ),
    LeafKind.ACCESS_REFUSED: (
        {
            "by": _REF,
            "page": _text("^[a-z_]{1,32}$"),
            "channel": _one_of("console", "api"),
            "code": _CODE,
            "repeated": _COUNT,
        },
        {},
    ),
}


def schema_of(kind: str) -> Shape:
    """The JSON Schema (2020-12) of a kind of leaf."""
    needed, optional = KINDS[kind]
    common: dict[str, Shape] = {
        "schema": {"const": SCHEMA},
        "kind": {"const": kind},
        "origin": _ORIGIN,
        "sequence": _COUNT,
        "at": _AT,
    }
    return {"$schema": DIALECT, "title": f"Leaf of kind {kind}", **_fields({**common, **needed}, optional)}
