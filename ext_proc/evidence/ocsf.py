"""A leaf as an event of OCSF, class API Activity (6003): what a SIEM reads. Pure; the table is in ``docs/siem.md``.

Nothing is added to what the leaf says: people are references, content is nowhere. An event's ``metadata.uid`` is the
leaf's place in its log, so one that came twice is known, and each can be proved (``affidavit prove``).
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from ext_proc import __version__
from ext_proc.record_kinds import LeafKind

if TYPE_CHECKING:
    from collections.abc import Mapping

VERSION: Final = "1.8.0"
CLASS_UID: Final = 6003
PROFILES: Final = ("ai_operation", "security_control")

INFORMATIONAL, LOW, MEDIUM, HIGH, CRITICAL = 1, 2, 3, 4, 5
_SEVERITIES: Final = {
    INFORMATIONAL: "Informational",
    LOW: "Low",
    MEDIUM: "Medium",
    HIGH: "High",
    CRITICAL: "Critical",
}
_CREATE, _READ, _UPDATE, _DELETE, _OTHER = 1, 2, 3, 4, 99
_ACTIVITIES: Final = {_CREATE: "Create", _READ: "Read", _UPDATE: "Update", _DELETE: "Delete"}
_SUCCESS, _FAILURE, _UNKNOWN = 1, 2, 0
_STATUSES: Final = {_SUCCESS: "Success", _FAILURE: "Failure", _UNKNOWN: "Unknown"}
_ALLOWED, _DENIED = 1, 2
_DISPOSITIONS: Final = {_ALLOWED: "Allowed", _DENIED: "Blocked"}
_ACTIONS: Final = {_ALLOWED: "Allowed", _DENIED: "Denied"}

KINDS: Final[Mapping[str, tuple[int, int]]] = {
    LeafKind.INFERENCE_OUTCOME: (_OTHER, INFORMATIONAL),
    LeafKind.INFERENCE_UNDELIVERED: (_OTHER, LOW),
    LeafKind.INFERENCE_REFUSED_BY_ENVOY: (_OTHER, LOW),
    LeafKind.EFFECT_TOOL_CALL: (_OTHER, INFORMATIONAL),
    LeafKind.APPROVAL_REQUESTED: (_CREATE, INFORMATIONAL),
    LeafKind.APPROVAL_RESOLVED: (_UPDATE, INFORMATIONAL),
    LeafKind.APPROVAL_REFUSED: (_UPDATE, LOW),
    LeafKind.APPROVAL_VIEWED: (_READ, INFORMATIONAL),
    LeafKind.APPROVAL_BREAK_GLASS: (_OTHER, HIGH),
    LeafKind.ACCESS_READ: (_READ, LOW),
    LeafKind.ACCESS_REFUSED: (_READ, MEDIUM),
    LeafKind.ACCESS_SPAN_READ: (_READ, LOW),
    LeafKind.ERASURE_REQUESTED: (_DELETE, LOW),
    LeafKind.ERASURE_COMPLETED: (_DELETE, LOW),
    LeafKind.ERASURE_REFUSED: (_DELETE, MEDIUM),
    LeafKind.LEGALHOLD_PLACED: (_CREATE, LOW),
    LeafKind.LEGALHOLD_RELEASED: (_DELETE, MEDIUM),
    LeafKind.CONFIG_CHANGED: (_UPDATE, LOW),
    LeafKind.KEY_ROTATED: (_UPDATE, LOW),
    LeafKind.POLICY_ACTIVATED: (_UPDATE, LOW),
    LeafKind.POLICY_REFUSED: (_UPDATE, HIGH),
    LeafKind.RECONCILE_RESULT: (_OTHER, INFORMATIONAL),
    LeafKind.WORM_CANARY: (_OTHER, INFORMATIONAL),
    LeafKind.SEGMENT_QUARANTINED: (_OTHER, CRITICAL),
    LeafKind.LOG_LOST: (_OTHER, CRITICAL),
    LeafKind.LOG_RECOVERED: (_OTHER, MEDIUM),
}
"""Kinds of leaves that become events, with OCSF's activity and severity. The others are the log's own bookkeeping."""

_OUTCOMES: Final = {
    "completed": (_SUCCESS, _ALLOWED, INFORMATIONAL),
    "held": (_FAILURE, _DENIED, INFORMATIONAL),
    "denied": (_FAILURE, _DENIED, MEDIUM),
    "refused": (_FAILURE, _DENIED, LOW),
    "error": (_FAILURE, None, LOW),
    "local_reply": (_FAILURE, None, LOW),
    "abandoned": (_UNKNOWN, None, INFORMATIONAL),
    "interrupted": (_UNKNOWN, None, MEDIUM),
    "unrecorded": (_FAILURE, _DENIED, HIGH),
}
"""By the status of an outcome: OCSF's status, disposition (None: nobody decided), severity."""
_OWN: Final = ("schema", "kind", "origin", "sequence", "at", "payloads")
"""Of every leaf; told elsewhere in the event, or (payloads) references to what a SIEM has no use for."""
_TOLD: Final = ("exchange_id", "actor", "source", "request", "outcome", "policy", "model", "intent_sequence")


def event_of(leaf: Mapping[str, Any]) -> dict[str, Any] | None:
    """The event; None: the leaf is none of `KINDS`."""
    kind = str(leaf["kind"])
    if kind not in KINDS:
        return None
    activity, severity = KINDS[kind]
    status, decided, severity = _judged(leaf, severity)
    request, model = _part(leaf, "request"), _part(leaf, "model")
    code = _part(leaf, "outcome").get("code")
    event = {
        "category_uid": CLASS_UID // 1000,
        "category_name": "Application Activity",
        "class_uid": CLASS_UID,
        "class_name": "API Activity",
        "activity_id": activity,
        "activity_name": _ACTIVITIES.get(activity, kind),
        "type_uid": CLASS_UID * 100 + activity,
        "type_name": f"API Activity: {_ACTIVITIES.get(activity, 'Other')}",
        "time": _milliseconds(str(leaf["at"])),
        "severity_id": severity,
        "severity": _SEVERITIES[severity],
        "status_id": status,
        "status": _STATUSES[status],
        "status_code": code,
        "message": _sentence(kind, leaf),
        "metadata": _metadata(kind, leaf),
        "actor": _actor(leaf),
        "src_endpoint": _source(leaf),
        "api": _api(kind, leaf),
        "http_request": _http_request(leaf),
        "http_response": _http_response(leaf),
        "resources": [{"name": request["model"], "type": "model"}] if request.get("model") else None,
        "ai_model": _ai_model(request, model),
        "message_context": _tokens(request, model),
        "policy": _policy(leaf),
        "unmapped": _unmapped(leaf),
    }
    if decided is not None:
        event |= {"disposition_id": decided, "disposition": _DISPOSITIONS[decided]}
        event |= {"action_id": decided, "action": _ACTIONS[decided]}
    return {name: value for name, value in event.items() if value is not None}


def _judged(leaf: Mapping[str, Any], severity: int) -> tuple[int, int | None, int]:
    """Status, disposition and severity."""
    match leaf["kind"]:
        case LeafKind.INFERENCE_OUTCOME:
            return _OUTCOMES.get(str(_part(leaf, "outcome").get("status")), (_UNKNOWN, None, LOW))
        case (
            LeafKind.INFERENCE_REFUSED_BY_ENVOY
            | LeafKind.APPROVAL_REFUSED
            | LeafKind.ACCESS_REFUSED
            | LeafKind.ERASURE_REFUSED
        ):
            return _FAILURE, _DENIED, severity
        case LeafKind.APPROVAL_BREAK_GLASS:
            return _SUCCESS, _ALLOWED, severity
        case LeafKind.WORM_CANARY:
            return (_SUCCESS, None, severity) if leaf.get("ok") is True else (_FAILURE, None, CRITICAL)
        case LeafKind.POLICY_REFUSED | LeafKind.SEGMENT_QUARANTINED | LeafKind.LOG_LOST:
            return _FAILURE, None, severity
        case _:
            return _SUCCESS, None, severity


def _sentence(kind: str, leaf: Mapping[str, Any]) -> str:
    said = _part(leaf, "outcome")
    if kind != LeafKind.INFERENCE_OUTCOME:
        return kind
    model = _part(leaf, "request").get("model") or "no model"
    code = f" ({said['code']})" if said.get("code") else ""
    return f"{said.get('status')}{code}: {_part(leaf, 'request').get('operation') or 'a call'} of {model}"


def _metadata(kind: str, leaf: Mapping[str, Any]) -> dict[str, Any]:
    told = {
        "version": VERSION,
        "profiles": list(PROFILES),
        "product": {"name": "Affidavit", "vendor_name": "Affidavit", "version": __version__},
        "uid": f"{leaf['origin']}#{leaf['sequence']}",
        "correlation_uid": leaf.get("exchange_id") or None,
        "event_code": kind,
        "log_name": leaf["origin"],
        "log_version": leaf.get("schema"),
        "sequence": leaf["sequence"],
        "original_time": leaf["at"],
    }
    return {name: value for name, value in told.items() if value is not None}


def _actor(leaf: Mapping[str, Any]) -> dict[str, Any]:
    """By reference: whoever holds the pepper can say whose it is, and nobody else."""
    actor = _part(leaf, "actor")
    if not actor:
        return {"app_name": "affidavit" if not leaf.get("exchange_id") else "unidentified"}
    user = {"uid": actor.get("subject_ref"), "groups": None, "org": None}
    if actor.get("groups_ref"):
        user["groups"] = [{"uid": actor["groups_ref"]}]
    if actor.get("tenant_ref"):
        user["org"] = {"uid": actor["tenant_ref"]}
    told: dict[str, Any] = {"user": {name: value for name, value in user.items() if value is not None}}
    if actor.get("issuer"):
        told["session"] = {"issuer": actor["issuer"]}
    if actor.get("client"):
        told["app_uid"] = actor["client"]
    return told


def _source(leaf: Mapping[str, Any]) -> dict[str, Any]:
    source = _part(leaf, "source")
    return {"uid": source["address_ref"]} if source.get("address_ref") else {"svc_name": "affidavit"}


def _api(kind: str, leaf: Mapping[str, Any]) -> dict[str, Any]:
    request, said = _part(leaf, "request"), _part(leaf, "outcome")
    told: dict[str, Any] = {"operation": request.get("operation") or kind}
    if request.get("connection"):
        told["service"] = {"name": request["connection"]}
    if leaf.get("exchange_id"):
        told["request"] = {"uid": leaf["exchange_id"]}
    if said.get("http_status"):
        told["response"] = {"code": said["http_status"]}
        if said.get("code"):
            told["response"]["error"] = said["code"]
    return told


def _http_request(leaf: Mapping[str, Any]) -> dict[str, Any] | None:
    """Method and path stand in a record only once they are an operation's."""
    request = _part(leaf, "request")
    if not request.get("method"):
        return None
    told: dict[str, Any] = {"http_method": request["method"]}
    if request.get("path"):
        told["url"] = {"path": request["path"]}
    if isinstance(request.get("body_bytes"), int):
        told["body_length"] = request["body_bytes"]
    return told


def _http_response(leaf: Mapping[str, Any]) -> dict[str, Any] | None:
    said = _part(leaf, "outcome")
    status = said.get("http_status") or leaf.get("status")
    if not isinstance(status, int):
        return None
    released = said.get("released_bytes")
    return {"code": status, **({"body_length": released} if isinstance(released, int) else {})}


def _ai_model(request: Mapping[str, Any], model: Mapping[str, Any]) -> dict[str, Any] | None:
    name = model.get("served") or request.get("model")
    if not name:
        return None
    return {"name": name, "ai_provider": str(request.get("connection") or "unknown")}


def _tokens(request: Mapping[str, Any], model: Mapping[str, Any]) -> dict[str, Any] | None:
    counts = {"prompt_tokens": model.get("input_tokens"), "completion_tokens": model.get("output_tokens")}
    known = {name: count for name, count in counts.items() if isinstance(count, int)}
    if not known:
        return None
    total = {"total_tokens": sum(known.values())} if len(known) == len(counts) else {}
    return {**known, **total, "service": {"name": str(request.get("connection") or "unknown")}}


def _policy(leaf: Mapping[str, Any]) -> dict[str, Any] | None:
    policy = _part(leaf, "policy")
    digest = policy.get("digest") or policy.get("bundle_digest")
    if not policy or not digest:
        return None
    told = {"uid": digest, "version": policy.get("revision") or policy.get("bundle_revision"), "name": "affidavit"}
    return {name: value for name, value in told.items() if value is not None}


def _unmapped(leaf: Mapping[str, Any]) -> dict[str, Any] | None:
    """What OCSF has no place for, as the leaf has it."""
    rest = {name: value for name, value in leaf.items() if name not in _OWN and name not in _TOLD}
    for name in ("outcome", "policy", "request", "intent_sequence"):
        if leaf.get(name) is not None:
            rest[name] = leaf[name]
    return rest or None


def _part(leaf: Mapping[str, Any], name: str) -> dict[str, Any]:
    part = leaf.get(name)
    return part if isinstance(part, dict) else {}


def _milliseconds(at: str) -> int:
    return int(datetime.fromisoformat(at).timestamp() * 1000)
