"""``affidavit records list``: exchanges, one row each, out of the leaves of a span of time."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, Literal

from ext_proc.audit.record import instant
from ext_proc.evidence.events import damaged, end_of, objects, parse_leaf, read_ahead, window
from ext_proc.evidence.names import LogName
from ext_proc.record_kinds import LeafKind

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ext_proc.evidence.names import EventsName
    from ext_proc.evidence.versions import Version, VersionedStore

IN_FLIGHT: Final = "in flight"
_ENDS_WITHIN: Final = timedelta(days=1)
"""How long after ``until`` the outcome of an exchange is looked for."""
_WANTED: Final = (b'"kind":"inference.intent"', b'"kind":"inference.outcome"')


@dataclass(frozen=True, slots=True)
class Filter:
    """Which exchanges; None: any.

    Args:
        since: begun at this time or later.
        until: begun at this time or earlier.
        subject_ref: the caller's keyed reference.
        connection: by its name.
        model: as asked for, or as served.
        decision: ``allow``, ``deny``, or ``none`` where the policy was never asked.
        entity: found or masked in the request, or masked in the answer.
        outcome: its status: ``completed``, ``refused``, ``error`` ...; ``in flight`` where there is none.
        code: the refusal's code.
    """

    since: datetime | None = None
    until: datetime | None = None
    subject_ref: str | None = None
    connection: str | None = None
    model: str | None = None
    decision: Literal["allow", "deny", "none"] | None = None
    entity: str | None = None
    outcome: str | None = None
    code: str | None = None

    def takes(self, row: Row) -> bool:
        """Is it one of them?"""
        at = datetime.fromisoformat(row.at)
        return (
            (self.since is None or at >= self.since)
            and (self.until is None or at <= self.until)
            and self.subject_ref in (None, row.subject_ref)
            and self.connection in (None, row.connection)
            and self.model in (None, row.model, row.model_served)
            and self.decision in (None, row.decision)
            and (self.entity is None or self.entity in row.found or self.entity in row.masked)
            and self.outcome in (None, row.outcome)
            and self.code in (None, row.code)
        )


@dataclass(frozen=True, slots=True)
class Row:
    """One exchange. ``origin``, ``intent`` and ``outcome_sequence`` say where its leaves stand, so it can be proved."""

    at: str
    exchange_id: str
    origin: str
    intent_sequence: int | None
    outcome_sequence: int | None
    subject_ref: str | None
    connection: str | None
    operation: str | None
    model: str | None
    model_served: str | None
    decision: str
    reasons: tuple[str, ...]
    outcome: str
    http_status: int | None
    code: str | None
    input_tokens: int | None
    output_tokens: int | None
    released_bytes: int | None
    found: dict[str, int] = field(default_factory=dict)
    masked: dict[str, int] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """For machines."""
        return asdict(self)


def filtered(store: VersionedStore, wanted: Filter) -> Iterator[Row]:
    """The exchanges, each when its outcome is read; those without one at the end. Sort them by ``at`` for people.

    Raises:
        EvidenceError: the store cannot be read.
        IntegrityError: an object is damaged: verify.
    """
    after, is_before = window(wanted.since, wanted.until)
    begun: dict[str, bytes] = {}
    yield from _rows(store, wanted, (one for one in objects(store, after) if is_before(one[0])), begun)
    if begun and wanted.until is not None:
        yield from _rows(store, wanted, _awaited(store, wanted.until, begun), begun)
    for exchange_id, line in begun.items():
        row = _row(exchange_id, parse_leaf(line, exchange_id), None)
        if wanted.takes(row):
            yield row


def _rows(
    store: VersionedStore, wanted: Filter, found: Iterator[tuple[EventsName, Version]], begun: dict[str, bytes]
) -> Iterator[Row]:
    for name, version, leaves in read_ahead(store, found):
        is_late = wanted.until is not None and name.at > wanted.until
        for line in leaves:
            if not any(one in line for one in _WANTED):
                continue
            leaf = parse_leaf(line, version.key)
            exchange_id = str(leaf.get("exchange_id"))
            if leaf.get("kind") == LeafKind.INFERENCE_INTENT:
                if not is_late:
                    begun[exchange_id] = line
            elif leaf.get("kind") == LeafKind.INFERENCE_OUTCOME:
                first = begun.pop(exchange_id, None)
                if first is None and (is_late or (wanted.since and leaf.get("intent_sequence") is not None)):
                    continue  # begun outside the span
                row = _row(exchange_id, parse_leaf(first, exchange_id) if first else None, leaf)
                if wanted.takes(row):
                    yield row


def _awaited(store: VersionedStore, until: datetime, begun: dict[str, bytes]) -> Iterator[tuple[EventsName, Version]]:
    """Objects after the span that may hold outcomes of what was begun in it."""
    logs = {LogName.of_origin(parse_leaf(line, until.isoformat())["origin"]) for line in begun.values()}
    _, is_before = window(None, until + _ENDS_WITHIN)
    for name, version in objects(store, end_of(until)):
        if begun and is_before(name) and name.log in logs:
            yield name, version


def _row(exchange_id: str, intent: dict[str, Any] | None, outcome: dict[str, Any] | None) -> Row:
    try:
        return _made(exchange_id, intent, outcome)
    except (KeyError, TypeError, ValueError, AttributeError):
        raise damaged(exchange_id, "its records are not of the published form") from None


def _made(exchange_id: str, intent: dict[str, Any] | None, outcome: dict[str, Any] | None) -> Row:
    first, last = intent or outcome or {}, outcome or {}
    request, policy = _part(first, "request"), _part(first, "policy") or _part(last, "policy")
    said, model = _part(last, "outcome"), _part(last, "model")
    before = _part(first, "request_redaction") or _part(last, "request_redaction")
    return Row(
        at=instant(datetime.fromisoformat(first["at"])),
        exchange_id=exchange_id,
        origin=str(first.get("origin")),
        intent_sequence=intent["sequence"] if intent else last.get("intent_sequence"),
        outcome_sequence=last.get("sequence"),
        subject_ref=_part(first, "actor").get("subject_ref"),
        connection=request.get("connection"),
        operation=request.get("operation"),
        model=request.get("model"),
        model_served=model.get("served"),
        decision="none" if not policy else "allow" if policy.get("allow") is True else "deny",
        reasons=tuple(policy.get("reasons", ())),
        outcome=said.get("status", IN_FLIGHT),
        http_status=said.get("http_status"),
        code=said.get("code"),
        input_tokens=model.get("input_tokens"),
        output_tokens=model.get("output_tokens"),
        released_bytes=said.get("released_bytes"),
        found=dict(request.get("findings") or {}),
        masked=_masked(before, _part(last, "response_redaction")),
    )


def _masked(*parts: dict[str, Any]) -> dict[str, int]:
    made: dict[str, int] = {}
    for part in parts:
        for one in part.get("removed", ()):
            made[one["entity"]] = made.get(one["entity"], 0) + one["count"]
        for entity in part.get("blocked", ()):
            made.setdefault(entity, 0)
    return made


def _part(leaf: dict[str, Any], name: str) -> dict[str, Any]:
    part = leaf.get(name)
    return part if isinstance(part, dict) else {}
