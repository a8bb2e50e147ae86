"""What a hold is, who may resolve it, and what becomes of it. Pure.

A hold stands for *what* is asked: method, path, query, caller, connection, policy, terms and body, bound together in
one digest (`binding_of`). Sent again with one byte changed, it is another hold.

The rules of approval, in the order in which they are asked (`objection`):

 1. Nobody sees what is another tenant's.
 2. Nobody resolves a call of their own, whatever their groups: four eyes are two people.
 3. Only members of a group that the policy named, by the token that they show now.
 4. Nobody says something twice, so that several approvers are several people.
 5. A reason is given.
 6. What is over is over: the first denial, or the last approval that was needed, decides.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

from ext_proc.model import HoldState, Resolution, Standing

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from ext_proc.model import ApprovalTerms, Asking, ExchangeId, HoldId

JUSTIFICATION_MAX: Final = 2000
"""Characters."""

OBJECTIONS: Final[Mapping[str, str]] = {
    "no_such_hold": "There is no such request for approval.",
    "own_call": "Nobody may approve or deny a call of their own. Ask somebody else.",
    "not_an_approver": "None of your groups may resolve this. The policy names the groups that may.",
    "already_said": "You have already resolved this. Several approvals must come from several people.",
    "justification_required": "Say why, in 1 to 2000 characters: it is kept with the record.",
    "already_approved": "Enough people have approved this already.",
    "already_denied": "Somebody has denied this already.",
    "already_used": "This was approved, and the call was made.",
    "expired": "The time to resolve this is over. The caller can send the call again.",
    "withdrawn": "The caller has left. Nothing waits for this any more, until it is sent again.",
    "abandoned": "The gateway that held this call stopped. Nothing waits for this any more, until it is sent again.",
}
"""Why somebody may not resolve a hold: stable codes, with what they are told."""

_OVER: Final = {
    HoldState.APPROVED: "already_approved",
    HoldState.CLAIMED: "already_approved",
    HoldState.USED: "already_used",
    HoldState.DENIED: "already_denied",
    HoldState.EXPIRED: "expired",
    HoldState.WITHDRAWN: "withdrawn",
    HoldState.ABANDONED: "abandoned",
}
RESUMABLE: Final = frozenset({HoldState.PENDING, HoldState.WITHDRAWN, HoldState.ABANDONED})
"""Sent again in time, such a hold goes on: what people said of it still counts."""


@dataclass(frozen=True, slots=True)
class Person:
    """Who looks at holds and resolves them, as their token says now. ``ref`` is their keyed reference."""

    ref: str
    tenant: str | None
    groups: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Hold:
    """One call that waits for people.

    ``facts`` hold no content (connection, model, operation, findings, policy), and are shown in lists; ``sealed`` and
    ``sealed_clear`` are what approvers read, encrypted for the caller's key: the second only where the policy lets
    somebody read it. ``waiting``: exchanges that wait now; ``is_detached``: a caller was told to come back, so the hold
    goes on without any. ``claimed_by``: the exchange that may pass.
    """

    hold_id: HoldId
    binding_sha256: str
    caller_ref: str
    tenant: str | None
    terms: ApprovalTerms
    facts: Mapping[str, Any]
    sealed: bytes
    sealed_clear: bytes | None
    asked_at: datetime
    expires_at: datetime
    state: HoldState = HoldState.PENDING
    valid_until: datetime | None = None
    resolutions: tuple[Resolution, ...] = ()
    waiting: tuple[ExchangeId, ...] = ()
    is_detached: bool = False
    claimed_by: ExchangeId | None = None

    def standing(self, status_url: str | None = None) -> Standing:
        """What the gate needs to know of it."""
        return Standing(
            self.hold_id,
            self.state,
            self.binding_sha256,
            self.asked_at,
            self.expires_at,
            self.valid_until,
            self.resolutions,
            status_url,
        )


def binding_of(asking: Asking, caller_ref: str) -> str:
    """The digest of all that must be the same when an approved call is sent (SHA-256, lower-case hex)."""
    call, terms, policy = asking.call, asking.terms, asking.decision.policy
    bound = [
        call.method,
        call.path,
        call.query,
        call.betas,
        caller_ref,
        call.connection.name,
        [policy.revision, policy.digest],
        [terms.groups, terms.count, terms.valid_seconds, terms.within_seconds, terms.reason, terms.clear_to],
        hashlib.sha256(asking.body).hexdigest(),
    ]
    return hashlib.sha256(json.dumps(bound, separators=(",", ":")).encode()).hexdigest()


def at(hold: Hold, now: datetime) -> Hold:
    """The hold as it stands now: what nobody resolved, or nobody sent, in time has expired."""
    if hold.state in RESUMABLE and now >= hold.expires_at:
        return replace(hold, state=HoldState.EXPIRED)
    is_late = hold.valid_until is not None and now >= hold.valid_until
    if is_late and hold.state in {HoldState.APPROVED, HoldState.CLAIMED}:
        return replace(hold, state=HoldState.EXPIRED)
    return hold


def may_see(hold: Hold, person: Person) -> bool:
    """May the person read it at all? Those that may resolve it, and whoever asked."""
    if hold.tenant != person.tenant:
        return False
    return person.ref == hold.caller_ref or _is_named(hold.terms.groups, person)


def may_read_clear(hold: Hold, person: Person) -> bool:
    """May the person read the request as it came?"""
    return objection_to(hold, person) is None and _is_named(hold.terms.clear_to, person)


def objection_to(hold: Hold, person: Person) -> str | None:
    """Why this person may not resolve this hold, whatever they say: a code of `OBJECTIONS`. None: they may."""
    if not may_see(hold, person):
        return "no_such_hold" if hold.tenant != person.tenant else "not_an_approver"
    if person.ref == hold.caller_ref:
        return "own_call"
    return None if _is_named(hold.terms.groups, person) else "not_an_approver"


def objection(hold: Hold, person: Person, justification: str) -> str | None:
    """Why this may not be said now: a code of `OBJECTIONS`. None: it may.

    Args:
        hold: as it stands now (`at`).
        person: who says it.
        justification: why.
    """
    code = objection_to(hold, person)
    if code is not None:
        return code
    if any(one.person_ref == person.ref for one in hold.resolutions):
        return "already_said"
    if not 0 < len(justification.strip()) <= JUSTIFICATION_MAX:
        return "justification_required"
    return _OVER.get(hold.state)


def resolved(hold: Hold, resolution: Resolution) -> Hold:
    """The hold after somebody spoke. There is no `objection`, so it was pending."""
    said = (*hold.resolutions, resolution)
    if not resolution.is_yes:
        return replace(hold, resolutions=said, state=HoldState.DENIED)
    if len({one.person_ref for one in said if one.is_yes}) < hold.terms.count:
        return replace(hold, resolutions=said)
    until = resolution.at + timedelta(seconds=hold.terms.valid_seconds)
    return replace(hold, resolutions=said, state=HoldState.APPROVED, valid_until=until)


def claimed(hold: Hold, exchange_id: ExchangeId) -> Hold:
    """The hold as this exchange finds it: `claimed` for one exchange only, which may then pass."""
    if hold.state is not HoldState.APPROVED:
        return hold
    return replace(hold, state=HoldState.CLAIMED, claimed_by=exchange_id)


def left(hold: Hold, exchange_id: ExchangeId) -> Hold:
    """An exchange went without passing: an approval that it claimed is there for the next one; if nobody waits for the
    hold any more and nobody was told to come back, it is withdrawn.
    """
    waiting = tuple(one for one in hold.waiting if one != exchange_id)
    hold = replace(hold, waiting=waiting)
    if hold.state is HoldState.CLAIMED and hold.claimed_by == exchange_id:
        return replace(hold, state=HoldState.APPROVED, claimed_by=None)
    if hold.state is HoldState.PENDING and not waiting and not hold.is_detached:
        return replace(hold, state=HoldState.WITHDRAWN)
    return hold


def told(hold: Hold, exchange_id: ExchangeId) -> Hold:
    """The caller was told to come back: the hold goes on without anybody waiting."""
    waiting = tuple(one for one in hold.waiting if one != exchange_id)
    return replace(hold, waiting=waiting, is_detached=True)


def passed(hold: Hold, exchange_id: ExchangeId) -> Hold:
    """The exchange that claimed it is on record, and the call made. Nothing else passes with this approval."""
    waiting = tuple(one for one in hold.waiting if one != exchange_id)
    hold = replace(hold, waiting=waiting)
    if hold.claimed_by == exchange_id and hold.state in {HoldState.CLAIMED, HoldState.EXPIRED}:
        return replace(hold, state=HoldState.USED)
    return hold


def joined(hold: Hold, exchange_id: ExchangeId) -> Hold:
    """An exchange sent it again, in time: it waits too."""
    if hold.state not in RESUMABLE:
        return hold
    return replace(hold, state=HoldState.PENDING, waiting=(*hold.waiting, exchange_id))


def _is_named(groups: tuple[str, ...], person: Person) -> bool:
    return not set(groups).isdisjoint(person.groups)
