"""What one leaf adds to the index: of exchanges, of holds, of policies. Pure.

Leaves come in any order, and from a bucket to which others may have written: nothing here believes that a field has the
type that the record format gives it. What does not fit is left out of the index; it is in the bucket all the same.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime, timedelta
from math import log
from typing import TYPE_CHECKING, Any, Final

from ext_proc.evidence.names import LogName
from ext_proc.record_kinds import LOG_ENDS, LeafKind

if TYPE_CHECKING:
    from collections.abc import Mapping

ALLOW, DENY, NONE = 1, 2, 0
"""What the policy said; `NONE`: it was never asked."""
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)
_STEP: Final = 1.02
_ID_MAX: Final = 128
_TEXT_MAX: Final = 256
_COUNT_MAX: Final = 2**53
_ENTITIES_MAX: Final = 256
_RESULTS_MAX: Final = 32
_EFFECTS_MAX: Final = 16
_NOTES_MAX: Final = 1_000
_OF_POLICIES: Final = "policy."
_CALLERS: Final = frozenset(
    {
        LeafKind.INFERENCE_INTENT,
        LeafKind.INFERENCE_OUTCOME,
        LeafKind.INFERENCE_UNDELIVERED,
        LeafKind.INFERENCE_PART,
        LeafKind.APPROVAL_REQUESTED,
    }
)
"""Kinds that make something an exchange. In others (who read it, who approved it) ``actor`` is somebody else."""


@dataclass(slots=True)
class Known:
    """What is known of one exchange. None: not told yet. Instants are microseconds.

    ``told_at``: of the outcome that ``outcome``, ``http_status`` and ``code`` are of; the later one counts.
    ``masked_in``, ``masked_out``: counts by entity as JSON, of the request and of the answer.
    """

    at: int | None = None
    subject: str | None = None
    tenant: str | None = None
    connection: str | None = None
    operation: str | None = None
    model: str | None = None
    decision: int | None = None
    outcome: str | None = None
    http_status: int | None = None
    code: str | None = None
    masked_in: str | None = None
    masked_out: str | None = None
    gate_step: int | None = None
    hold: str | None = None
    told_at: int | None = None

    def join(self, other: Known) -> None:
        """Know also what ``other`` knows."""
        if other.told_at is not None and (self.told_at is None or other.told_at >= self.told_at):
            for name in _OF_OUTCOME:
                setattr(self, name, getattr(other, name))
            if other.gate_step is not None:  # a recovered outcome tells no times: those of the intent stay
                self.gate_step = other.gate_step
        if other.at is not None:
            self.at = other.at if self.at is None else min(self.at, other.at)
        for name in _FIRST_TOLD:
            if getattr(self, name) is None:
                setattr(self, name, getattr(other, name))


_OF_OUTCOME: Final = ("outcome", "http_status", "code", "told_at")
_FIRST_TOLD: Final = tuple(one.name for one in fields(Known) if one.name not in {*_OF_OUTCOME, "at"})


@dataclass(slots=True)
class Held:
    """What is known of one hold: how many people are ``needed``, how many said yes, whether one said no, its state."""

    asked_at: int | None = None
    expires_at: int | None = None
    needed: int | None = None
    yes: int = 0
    no: int = 0
    said_at: int | None = None
    state: str | None = None
    told_at: int | None = None
    tenant: str | None = None

    def join(self, other: Held) -> None:
        """Know also what ``other`` knows."""
        self.yes += other.yes
        self.no += other.no
        self.said_at = max(filter(None, (self.said_at, other.said_at)), default=None)
        if other.told_at is not None and (self.told_at is None or other.told_at >= self.told_at):
            self.state, self.told_at = other.state, other.told_at
        for name in ("asked_at", "expires_at", "needed", "tenant"):
            if getattr(self, name) is None:
                setattr(self, name, getattr(other, name))


@dataclass(frozen=True, slots=True)
class Noted:
    """What the shipper says of a bundle: ``activated`` or ``refused`` (then with a reason)."""

    sequence: int
    at: int
    kind: str
    digest: str
    reason: str | None
    number: int | None
    key_id: str | None


@dataclass(slots=True)
class Shadowed:
    """How often a candidate would have had an effect, since when, until when, and one such exchange."""

    calls: int
    first_at: int
    last_at: int
    example: str

    def join(self, other: Shadowed) -> None:
        """Know also what ``other`` knows."""
        self.calls += other.calls
        self.example = other.example if other.first_at < self.first_at else self.example
        self.first_at, self.last_at = min(self.first_at, other.first_at), max(self.last_at, other.last_at)


@dataclass(slots=True)
class Gathered:
    """What some leaves of one object add. ``policies``: where another bundle than before decided, by sequence;
    ``shadows``: by digest and revision of the candidate (empty: no decision) and effect.
    """

    exchanges: dict[str, Known] = field(default_factory=dict)
    holds: dict[str, Held] = field(default_factory=dict)
    calls: dict[str, str] = field(default_factory=dict)
    results: dict[str, str] = field(default_factory=dict)
    policies: list[tuple[int, int, str, str]] = field(default_factory=list)
    notes: list[Noted] = field(default_factory=list)
    shadows: dict[tuple[str, str, str], Shadowed] = field(default_factory=dict)
    newest_at: int | None = None
    ended: str | None = None
    _policy: tuple[str, str] | None = None

    def hear(self, leaf: Mapping[str, Any]) -> bool:
        """One leaf, in the order of the log. False: it says nothing that can be understood."""
        at, kind, sequence = micros(leaf.get("at")), leaf.get("kind"), leaf.get("sequence")
        if at is None or not isinstance(kind, str) or type(sequence) is not int or not 0 <= sequence < _COUNT_MAX:
            return False
        self.newest_at = at if self.newest_at is None else max(self.newest_at, at)
        self._hear_log(leaf, kind, sequence, at)
        if kind.startswith(_OF_POLICIES):
            self._hear_policy(leaf, kind.removeprefix(_OF_POLICIES), sequence, at)
        exchange_id = leaf.get("exchange_id")
        if isinstance(exchange_id, str) and 0 < len(exchange_id) <= _ID_MAX:
            known = self.exchanges.get(exchange_id)
            if known is None:
                known = self.exchanges[exchange_id] = Known()
            self._hear_exchange(leaf, kind, known, at)
            self._hear_hold(leaf, kind, known, at)
            self._hear_tools(leaf, kind, exchange_id)
        return True

    def forget(self) -> None:
        """It was written down: begin anew, in the same object."""
        every = (self.exchanges, self.holds, self.calls, self.results, self.policies, self.notes, self.shadows)
        for one in every:
            one.clear()

    def _hear_log(self, leaf: Mapping[str, Any], kind: str, sequence: int, at: int) -> None:
        if kind in LOG_ENDS:
            self.ended = kind.removeprefix("log.")
        role, told = _text(leaf.get("role")) or "", _part(leaf, "policy_bundle")
        if kind == LeafKind.LOG_OPEN and role.isdecimal():
            self._decided(told.get("revision"), told.get("digest"), sequence, at)
        policy = _part(leaf, "policy")
        if policy and kind in _CALLERS:
            self._decided(policy.get("bundle_revision"), policy.get("bundle_digest"), sequence, at)

    def _decided(self, revision: object, digest: object, sequence: int, at: int) -> None:
        bundle = _text(revision), _text(digest)
        if bundle[0] is None or bundle[1] is None or bundle == self._policy:
            return
        self._policy = bundle[0], bundle[1]
        self.policies.append((sequence, at, *self._policy))

    def _hear_policy(self, leaf: Mapping[str, Any], kind: str, sequence: int, at: int) -> None:
        if kind == "shadow_differed":
            self._hear_shadow(leaf, at)
        digest = _text(leaf.get("digest"))
        if kind in {"activated", "refused"} and digest is not None and len(self.notes) < _NOTES_MAX:
            reason, number, key_id = _text(leaf.get("reason")), _count(leaf.get("number")), _text(leaf.get("key_id"))
            self.notes.append(Noted(sequence, at, kind, digest, reason, number, key_id))

    def _hear_shadow(self, leaf: Mapping[str, Any], at: int) -> None:
        candidate, example = _part(leaf, "candidate"), _text(leaf.get("exchange_id"))
        digest, revision = _text(candidate.get("digest")) or "", _text(candidate.get("revision")) or ""
        for told in _list(leaf.get("effects"))[:_EFFECTS_MAX]:
            effect = _text(told)
            if effect is None or example is None or len(self.shadows) >= _NOTES_MAX:
                continue
            heard = Shadowed(1, at, at, example)
            known = self.shadows.setdefault((digest, revision, effect), heard)
            if known is not heard:
                known.join(heard)

    def _hear_exchange(self, leaf: Mapping[str, Any], kind: str, known: Known, at: int) -> None:
        if kind not in _CALLERS:
            return
        time, request, actor = _part(leaf, "time"), _part(leaf, "request"), _part(leaf, "actor")
        policy, approval = _part(leaf, "policy"), _part(leaf, "approval")
        heard = Known(
            at=_first(micros(time.get("received")), at),
            subject=_text(actor.get("subject_ref")),
            tenant=_text(actor.get("tenant_ref")),
            connection=_text(request.get("connection")),
            operation=_text(request.get("operation")),
            model=_text(request.get("model")),
            decision=(ALLOW if policy.get("allow") is True else DENY) if policy else None,
            masked_in=masked(_part(leaf, "request_redaction")),
            masked_out=masked(_part(leaf, "response_redaction")) if kind == LeafKind.INFERENCE_OUTCOME else None,
            hold=_text(approval.get("hold_id")),
        )
        if kind in {LeafKind.INFERENCE_INTENT, LeafKind.INFERENCE_OUTCOME} and not approval:
            heard.gate_step = gate_step(time, is_stream=request.get("is_stream") is True)
        if kind == LeafKind.INFERENCE_OUTCOME:
            said = _part(leaf, "outcome")
            heard.outcome, heard.code, heard.told_at = _text(said.get("status")), _text(said.get("code")), at
            heard.http_status = _count(said.get("http_status"), 999)
        known.join(heard)

    def _hear_hold(self, leaf: Mapping[str, Any], kind: str, known: Known, at: int) -> None:
        approval, resolved = _part(leaf, "approval"), kind == LeafKind.APPROVAL_RESOLVED
        hold_id = _text(leaf.get("hold_id")) if resolved else _text(approval.get("hold_id"))
        if hold_id is None or not (resolved or kind in _CALLERS):
            return
        heard = Held()
        if resolved:
            is_yes = leaf.get("action") == "approve"
            heard.yes, heard.no, heard.said_at = int(is_yes), int(not is_yes), at
        else:
            heard.asked_at, heard.expires_at = micros(approval.get("asked")), micros(approval.get("expires"))
            heard.state, heard.told_at, heard.tenant = _text(approval.get("state")), at, known.tenant
            heard.needed = _count(_part(leaf, "terms").get("count"))
        self.holds.setdefault(hold_id, Held()).join(heard)

    def _hear_tools(self, leaf: Mapping[str, Any], kind: str, exchange_id: str) -> None:
        ref = _text(_part(leaf, "tool_call").get("call_ref")) if kind == LeafKind.EFFECT_TOOL_CALL else None
        if ref is not None:
            self.calls[ref] = exchange_id
        results = leaf.get("tool_results")
        if kind == LeafKind.INFERENCE_INTENT and isinstance(results, list):
            for one in results[:_RESULTS_MAX]:
                if (brought := _text(one)) is not None:
                    self.results.setdefault(brought, exchange_id)


def gate_step(time: Mapping[str, Any], *, is_stream: bool) -> int | None:
    """How long the gate itself took (`step_of`): from the request's head until the call went on, or was refused; and of
    an answer that came whole from its head until it was on record. None where the times do not say it.
    """
    received, recorded = micros(time.get("received")), micros(time.get("recorded"))
    forwarded, answered = micros(time.get("forwarded")), micros(time.get("answered"))
    passed = _first(forwarded, recorded)
    if received is None or passed is None or passed < received:
        return None
    after = recorded - answered if recorded and answered and forwarded and not is_stream else 0
    return step_of(passed - received + max(after, 0))


def step_of(gate_us: int) -> int:
    """Which step so many microseconds are in. Steps are of 2 %, so that an hour has few, whatever came in it."""
    return int(log(max(gate_us, 1)) / log(_STEP))


def milliseconds_of(step: int) -> float:
    """The middle of a step."""
    return float(_STEP ** (step + 0.5)) / 1000


def masked(redaction: Mapping[str, Any]) -> str | None:
    """Counts by entity, as JSON with sorted keys; what was blocked counts 0. None: nothing is told."""
    made: dict[str, int] = {}
    for one in _list(redaction.get("removed")):
        entity = _text(one.get("entity")) if isinstance(one, dict) else None
        if entity is not None:
            made[entity] = made.get(entity, 0) + (_count(one.get("count")) or 0)
    for told in _list(redaction.get("blocked")):
        if (entity := _text(told)) is not None:
            made.setdefault(entity, 0)
    return json.dumps(dict(sorted(made.items())[:_ENTITIES_MAX]), separators=(",", ":")) if made else None


def masked_counts(*told: str | None) -> dict[str, int]:
    """Counts by entity, of several."""
    counted: dict[str, int] = {}
    for one in told:
        for entity, count in json.loads(one or "{}").items():
            counted[entity] = counted.get(entity, 0) + count
    return dict(sorted(counted.items()))


def micros(told: object) -> int | None:
    """An instant of a leaf; None if it is none."""
    if not isinstance(told, str):
        return None
    try:
        return (datetime.fromisoformat(told) - _EPOCH) // _MICROSECOND
    except (ValueError, TypeError, OverflowError):
        return None


def instant(told: int) -> datetime:
    """The other way."""
    return _EPOCH + timedelta(microseconds=told)


def is_of(log: LogName, leaf: Mapping[str, Any], sequence: int) -> bool:
    """Does the leaf say that it stands where it was found? One from elsewhere tells nothing of here."""
    origin = leaf.get("origin")
    return leaf.get("sequence") == sequence and isinstance(origin, str) and LogName.of_origin(origin) == log


def _part(leaf: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    part = leaf.get(name)
    return part if isinstance(part, dict) else {}


def _list(told: object) -> list[Any]:
    return told if isinstance(told, list) else []


def _text(told: object) -> str | None:
    return told if isinstance(told, str) and 0 < len(told) <= _TEXT_MAX else None


def _count(told: object, most: int = _COUNT_MAX) -> int | None:
    return told if type(told) is int and 0 <= told <= most else None


def _first(*told: int | None) -> int | None:
    return next((one for one in told if one is not None), None)
