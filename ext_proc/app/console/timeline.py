"""What happened to one exchange, in order, as its records tell it: the steps of the console's timeline. Pure.

Records are read from a bucket to which others may have written: what is not of the published form is not told.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from ext_proc.console.seen import Fact, Place, Step
from ext_proc.record_kinds import BODY_ROLES, LeafKind

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from ext_proc.evidence.examine import Record

_ORDER: Final = (
    "received", "identified", "inspected", "decided", "masked", "held", "forwarded", "answered", "ended",
)  # fmt: skip
"""Of steps at one instant."""
_REFUSALS: Final = frozenset({"denied", "refused"})
_TEXT_MAX: Final = 300
_ENDINGS: Final = {
    "completed": "Released to the caller",
    "error": "Ended with an error",
    "denied": "Denied",
    "held": "Told to come back: it waits for approval",
    "refused": "Refused",
    "local_reply": "Envoy answered in the gate's place",
    "abandoned": "The caller left, or the stream broke off",
    "interrupted": "The worker died; what it had was recovered",
    "unrecorded": "Refused: it could not be put on record in time",
}
_APPROVALS: Final = {
    LeafKind.APPROVAL_REQUESTED: "People are asked",
    LeafKind.APPROVAL_VIEWED: "Somebody looked at it",
    LeafKind.APPROVAL_REFUSED: "Somebody was not let resolve it",
}


def steps_of(records: Sequence[Record]) -> tuple[Step, ...]:
    """Every step, the earliest first."""
    first = next(
        (one for one in records if one.leaf["kind"] in {LeafKind.INFERENCE_INTENT, LeafKind.APPROVAL_REQUESTED}), None
    )
    last = [one for one in records if one.leaf["kind"] == LeafKind.INFERENCE_OUTCOME]
    found = [*_asked(first or (last[0] if last else None))]
    for one in records:
        found += _of_record(one)
    found += _streamed(records)
    return tuple(sorted(found, key=lambda step: (step.at, _ORDER.index(step.phase))))


def _asked(record: Record | None) -> Iterator[Step]:
    """Received, identified, read, decided: what the first record says of the request."""
    if record is None:
        return
    leaf, at = record.leaf, _at(record.leaf)
    times, request, actor = _part(leaf, "time"), _part(leaf, "request"), _part(leaf, "actor")
    received = _instant(times.get("received")) or at
    decided = _instant(times.get("decided")) or received
    yield Step(received, "received", "Received", None, tuple(_facts(
        ("Request", " ".join(filter(None, (_text(request.get("method")), _text(request.get("path")))))),
        ("From", _part(leaf, "source").get("address_ref")),
        ("Size", _bytes(request.get("body_bytes"))),
    )))  # fmt: skip
    if actor:
        yield Step(received, "identified", "Identified", _text(actor.get("method")), tuple(_facts(
            ("Who", actor.get("subject_ref")), ("Issuer", actor.get("issuer")), ("Groups", actor.get("groups_ref")),
            ("Tenant", actor.get("tenant_ref")),
        )))  # fmt: skip
    if request.get("protocol"):
        findings = request.get("findings")
        told = ", ".join(f"{name}: {count}" for name, count in findings.items()) if isinstance(findings, dict) else ""
        yield Step(decided, "inspected", "Read and scanned", _text(request.get("protocol")), tuple(_facts(
            ("Operation", request.get("operation")), ("Model", request.get("model")), ("Found", told or "nothing"),
            ("Text", _bytes(request.get("text_bytes"))),
        )))  # fmt: skip
    policy = _part(leaf, "policy")
    if policy:
        is_allowed = policy.get("allow") is True
        reasons = policy.get("reasons")
        yield Step(decided, "decided", "The policy decided", "allow" if is_allowed else "deny", tuple(_facts(
            ("Reasons", ", ".join(map(str, reasons)) if isinstance(reasons, list) and reasons else "none"),
            ("Approval", "needed" if policy.get("approval_required") is True else None),
            ("Policy", policy.get("bundle_revision")), ("Decision", policy.get("decision_id")),
        )), None, not is_allowed)  # fmt: skip


def _of_record(record: Record) -> Iterator[Step]:
    kind, leaf = record.leaf["kind"], record.leaf
    # What was asked of people (``approval.requested``) says the same again when it goes on, or ends.
    if kind in {LeafKind.INFERENCE_INTENT, LeafKind.INFERENCE_OUTCOME} and (
        masking := _masking(leaf, "request_redaction")
    ):
        yield Step(_at(leaf), "masked", "Masked before the model sees it", None, masking, _place(record))
    if kind == LeafKind.INFERENCE_INTENT:
        yield from _resolutions(leaf)
        at = _instant(_part(leaf, "time").get("forwarded")) or _at(leaf)
        yield Step(at, "forwarded", "On record, and passed on to the model", None, (), _place(record))
    elif kind == LeafKind.INFERENCE_OUTCOME:
        yield from _ended(record)
    elif kind.startswith("approval."):
        yield _approval(record)
    elif kind == LeafKind.EFFECT_TOOL_CALL:
        told = _part(leaf, "tool_call")
        yield Step(_at(leaf), "answered", "The answer asks for a tool", _text(told.get("name")), tuple(_facts(
            ("Call", told.get("call_ref")), ("Arguments", told.get("arguments_ref")),
        )), _place(record))  # fmt: skip
    elif kind == LeafKind.INFERENCE_UNDELIVERED:
        is_unknown = leaf.get("delivery") == "unknown"
        title = "Nobody knows whether the answer was taken" if is_unknown else "The answer was not taken"
        yield Step(_at(leaf), "ended", title, "undelivered", (), _place(record))
    elif kind == LeafKind.ACCESS_READ:
        roles = leaf.get("roles")
        yield Step(_at(leaf), "ended", "Somebody read its bodies", LeafKind.ACCESS_READ, tuple(_facts(
            ("By", leaf.get("by")), ("Why", leaf.get("purpose")),
            ("Bodies", ", ".join(map(str, roles)) if isinstance(roles, list) else None),
        )), _place(record))  # fmt: skip
    elif kind != LeafKind.INFERENCE_PART:
        yield Step(
            _at(leaf), "ended", "A record of a kind that this console does not know", _text(kind), (), _place(record)
        )


def _ended(record: Record) -> Iterator[Step]:
    leaf = record.leaf
    said, upstream, model = _part(leaf, "outcome"), _part(leaf, "upstream"), _part(leaf, "model")
    times = _part(leaf, "time")
    if (answered := _instant(times.get("answered"))) is not None:
        yield Step(answered, "answered", "The model answered", None, tuple(_facts(
            ("Status", upstream.get("status")), ("Model", model.get("served")),
            ("Tokens in", model.get("input_tokens")), ("Tokens out", model.get("output_tokens")),
        )))  # fmt: skip
    if masking := _masking(leaf, "response_redaction"):
        yield Step(_at(leaf), "masked", "Masked in the answer", None, masking, _place(record))
    status = _text(said.get("status")) or "unknown"
    yield Step(_at(leaf), "ended", _ENDINGS.get(status, "Ended"), _text(said.get("code")) or status, tuple(_facts(
        ("Status", said.get("http_status")), ("Released", _bytes(said.get("released_bytes"))),
        ("Detail", said.get("detail")), ("Envoy", upstream.get("code_details")),
    )), _place(record), status in _REFUSALS)  # fmt: skip


def _approval(record: Record) -> Step:
    leaf = record.leaf
    kind, action = leaf["kind"], _text(leaf.get("action"))
    title = _APPROVALS.get(kind, "Somebody said yes" if action == "approve" else "Somebody said no")
    terms = _part(leaf, "terms")
    groups = terms.get("groups")
    told = tuple(_facts(
        ("Hold", leaf.get("hold_id") or _part(leaf, "approval").get("hold_id")),
        ("Who", _part(leaf, "actor").get("subject_ref") if kind != LeafKind.APPROVAL_REQUESTED else None),
        ("By way of", leaf.get("channel")),
        ("In clear", "yes" if leaf.get("is_clear") is True else None),
        ("Whom", ", ".join(map(str, groups)) if isinstance(groups, list) else None),
        ("How many", terms.get("count")), ("Why", terms.get("reason")),
    ))  # fmt: skip
    is_refusal = kind == LeafKind.APPROVAL_RESOLVED and action == "deny"
    return Step(_at(leaf), "held", title, _text(leaf.get("code")) or action, told, _place(record), is_refusal)


def _resolutions(leaf: dict[str, Any]) -> Iterator[Step]:
    """Who had agreed when it went on, and where that is on record: an approval given to an earlier sending too."""
    told = _part(leaf, "approval").get("resolutions")
    for one in told if isinstance(told, list) else ():
        if not isinstance(one, dict) or (at := _instant(one.get("time"))) is None:
            continue
        at_record = _part(one, "record")
        place = None
        if isinstance(at_record.get("origin"), str) and _is_whole(at_record.get("sequence")):
            place = Place(at_record["origin"], at_record["sequence"])
        facts = tuple(_facts(("Who", one.get("person_ref")), ("Hold", _part(leaf, "approval").get("hold_id"))))
        is_no = one.get("action") == "deny"
        title = "It had a no" if is_no else "It had this approval"
        yield Step(at, "held", title, _text(one.get("action")), facts, place, is_no)


def _streamed(records: Sequence[Record]) -> Iterator[Step]:
    parts = [one for one in records if one.leaf["kind"] == LeafKind.INFERENCE_PART]
    if parts:
        title = "The answer streams: each part is on record before it is released"
        facts = tuple(
            _facts(("Records", len(parts)), ("Covered", _bytes(_part(parts[-1].leaf, "part").get("covered_bytes"))))
        )
        yield Step(_at(parts[0].leaf), "answered", title, None, facts, _place(parts[0]))


def _masking(leaf: dict[str, Any], name: str) -> tuple[Fact, ...]:
    """What was done, by entity."""
    redaction = _part(leaf, name)
    removed, blocked = redaction.get("removed"), redaction.get("blocked")
    made = [
        Fact(
            str(one["entity"])[:_TEXT_MAX],
            f"{one.get('count')}, {one.get('action')} by rule {one.get('rule')}"[:_TEXT_MAX],
        )
        for one in (removed if isinstance(removed, list) else ())
        if isinstance(one, dict) and isinstance(one.get("entity"), str)
    ]
    made += [Fact(str(one)[:_TEXT_MAX], "blocked") for one in (blocked if isinstance(blocked, list) else ())]
    return tuple(made)


def _facts(*told: tuple[str, object]) -> Iterator[Fact]:
    for name, value in told:
        if value is not None and value != "" and not isinstance(value, dict | list):
            yield Fact(name, str(value)[:_TEXT_MAX])


def _at(leaf: dict[str, Any]) -> datetime:
    return _instant(leaf.get("at")) or datetime(1970, 1, 1, tzinfo=UTC)


def _instant(told: object) -> datetime | None:
    try:
        found = datetime.fromisoformat(told) if isinstance(told, str) else None
    except ValueError:
        return None
    return found if found is not None and found.tzinfo is not None else None


def _place(record: Record) -> Place:
    return Place(record.leaf["origin"], record.leaf["sequence"])


def _part(leaf: dict[str, Any], name: str) -> dict[str, Any]:
    part = leaf.get(name)
    return part if isinstance(part, dict) else {}


def _text(told: object) -> str | None:
    return told[:_TEXT_MAX] if isinstance(told, str) and told else None


def _is_whole(told: object) -> bool:
    return isinstance(told, int) and not isinstance(told, bool)


def _bytes(told: object) -> str | None:
    return f"{told} bytes" if _is_whole(told) else None


def roles_of(records: Iterable[Record]) -> tuple[str, ...]:
    """The bodies that are kept of it, in their order."""
    found = set()
    for one in records:
        told = one.leaf.get("payloads")
        found |= {
            _text(each.get("role")) for each in (told if isinstance(told, list) else ()) if isinstance(each, dict)
        }
    return tuple(role for role in BODY_ROLES if role in found)
