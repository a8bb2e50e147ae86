"""What a hold is, who may resolve it, and what becomes of it. Pure.

A hold stands for *what* is asked: method, path, query, caller, connection, policy, terms and body, bound together in
one digest (`binding_of`). Sent again with one byte changed, it is another hold.

The rules of approval, in the order in which they are asked (`objection`):

 1. Nobody sees what is another tenant's.
 2. Nobody resolves a call of their own, whatever their groups: four eyes are two people.
 3. Only members of a group that the policy named, by the token that they show now.
 4. Nobody says something twice, so that several approvers are several people.
 5. A reason is given, in words.
 6. What is over is over: the first denial, or the last approval that was needed, decides.
 7. Nobody agrees to what nobody can read: its caller's key may have been destroyed (`app.approval.approvals` knows).
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

from ext_proc.model import HoldEnding, HoldState, Resolution, Standing

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from ext_proc.model import ApprovalTerms, Asking, ExchangeId, HoldId

JUSTIFICATION_MIN: Final = 10
"""Characters, unless the configuration says otherwise. "ok" tells nobody anything who reads it a year later."""
JUSTIFICATION_MAX: Final = 2000
_SAY_WHY: Final = "Say why, in {} to {} characters and in words: it is kept with the record."

OBJECTIONS: Final[Mapping[str, str]] = {
    "no_such_hold": "There is no such request for approval.",
    "own_call": "Nobody may approve or deny a call of their own. Ask somebody else.",
    "not_an_approver": "None of your groups may resolve this. The policy names the groups that may.",
    "already_said": "You have answered this already. Where several people must agree, each of them says so once.",
    "justification_required": _SAY_WHY.format(JUSTIFICATION_MIN, JUSTIFICATION_MAX),
    "already_approved": "Enough people have approved this already.",
    "already_denied": "Somebody has denied this already.",
    "already_used": "This was approved, and the call was made.",
    "unreadable": "What was asked cannot be read any more, so nobody can agree to it. It can be denied.",
    "expired": "The time to resolve this is over. The caller can send the call again.",
    "withdrawn": "The caller has left. Nothing waits for this any more, until it is sent again.",
    "abandoned": "The gateway that held this call stopped. Nothing waits for this any more, until it is sent again.",
}
"""Why somebody may not resolve a hold: stable codes, with what they are told. `unreadable` may be denied."""


def words_of(code: str, justification_min: int) -> str:
    """What somebody is told who may not resolve a hold: `OBJECTIONS`, with the least that is asked for here."""
    if code == "justification_required":
        return _SAY_WHY.format(justification_min, JUSTIFICATION_MAX)
    return OBJECTIONS[code]


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
_AGREED: Final = frozenset({HoldState.APPROVED, HoldState.CLAIMED})


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
    somebody read it. Whoever only changes or lists holds does not read them: both are None then. ``waiting``: exchanges
    that wait now, none for what is over; ``is_detached``: a caller was told to come back, so the hold goes on without
    any. ``claimed_by``: the exchange that may pass.
    """

    hold_id: HoldId
    binding_sha256: str
    caller_ref: str
    tenant: str | None
    terms: ApprovalTerms
    facts: Mapping[str, Any]
    sealed: bytes | None
    sealed_clear: bytes | None
    asked_at: datetime
    expires_at: datetime
    state: HoldState = HoldState.PENDING
    valid_until: datetime | None = None
    resolutions: tuple[Resolution, ...] = ()
    waiting: tuple[ExchangeId, ...] = ()
    is_detached: bool = False
    claimed_by: ExchangeId | None = None

    def standing(self, exchange_id: ExchangeId | None = None, status_url: str | None = None) -> Standing:
        """What the gate needs to know of it. ``claimed`` is said to the exchange that may pass, to nobody else."""
        is_others = self.state is HoldState.CLAIMED and (exchange_id is None or exchange_id != self.claimed_by)
        return Standing(
            self.hold_id,
            HoldState.APPROVED if is_others else self.state,
            self.binding_sha256,
            self.terms.count,
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
        call.identity.tenant,
        call.connection.name,
        [policy.revision, policy.digest],
        [terms.groups, terms.count, terms.valid_seconds, terms.within_seconds, terms.reason, terms.clear_to],
        hashlib.sha256(asking.body).hexdigest(),
        hashlib.sha256(asking.forwarded.body).hexdigest(),
    ]
    return hashlib.sha256(json.dumps(bound, separators=(",", ":")).encode()).hexdigest()


def is_agreed(hold: Hold, binding_sha256: str, caller_ref: str, terms: ApprovalTerms) -> bool:
    """Does what is kept say that enough people agreed to this very call?

    Asked once more of a hold that is claimed: whoever can write to the database is not whoever may agree.

    Args:
        hold: as the register gives it.
        binding_sha256: of the call that is about to pass.
        caller_ref: its caller.
        terms: what the policy demands of it.
    """
    people = {one.person_ref for one in hold.resolutions if one.is_yes}
    is_about_it = (hold.binding_sha256, hold.caller_ref, hold.terms) == (binding_sha256, caller_ref, terms)
    if not is_about_it or hold.valid_until is None or not all(one.is_yes for one in hold.resolutions):
        return False
    if len(people) < terms.count or caller_ref in people:
        return False
    last = max(one.at for one in hold.resolutions)
    return hold.valid_until <= last + timedelta(seconds=terms.valid_seconds)


def due_at(hold: Hold) -> datetime | None:
    """When time alone ends it: there is an end to resolving it, and one to using what was agreed. None: never."""
    if hold.state in RESUMABLE:
        return hold.expires_at
    return hold.valid_until if hold.state in _AGREED else None


def state_at(state: HoldState, due: datetime | None, now: datetime) -> HoldState:
    """How a hold stands now that stood like that, and is `due_at` then."""
    return HoldState.EXPIRED if due is not None and now >= due else state


def at(hold: Hold, now: datetime) -> Hold:
    """The hold as it stands now: what nobody resolved, or nobody sent, in time has expired."""
    state = state_at(hold.state, due_at(hold), now)
    return hold if state is hold.state else replace(hold, state=state, waiting=())


def is_found_again(hold: Hold, now: datetime) -> bool:
    """Is it this hold that the same call, sent again, finds? No: then it asks anew.

    A denial stands until the time to resolve it would have been over: nobody is asked again every second.

    Args:
        hold: as it stands now (`at`).
        now: the time.
    """
    if hold.state is HoldState.DENIED:
        return now < hold.expires_at
    return hold.state in RESUMABLE or hold.state in _AGREED


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


def objection(
    hold: Hold, person: Person, justification: str | None, justification_min: int = JUSTIFICATION_MIN
) -> str | None:
    """Why this may not be said now: a code of `OBJECTIONS`. None: it may.

    Args:
        hold: as it stands now (`at`).
        person: who says it.
        justification: why; None: nobody says anything yet.
        justification_min: characters of it, at least.
    """
    code = objection_to(hold, person)
    if code is not None:
        return code
    if has_answered(hold, person):
        return "already_said"
    if justification is not None and not _says_why(justification, justification_min):
        return "justification_required"
    return _OVER.get(hold.state)


def _says_why(justification: str, least: int) -> bool:
    """Space is no reason, and neither is a row of dots."""
    said = " ".join(justification.split())
    return least <= len(said) and len(justification) <= JUSTIFICATION_MAX and any(map(str.isalpha, said))


def has_answered(hold: Hold, person: Person) -> bool:
    """Has the person said yes or no to it?"""
    return any(one.person_ref == person.ref for one in hold.resolutions)


def counts(hold: Hold, resolution: Resolution) -> bool:
    """Does it still count when it gets here? Between `objection` and this, it was put on record, and others spoke.

    Args:
        hold: as it stands now (`at`).
        resolution: there was no objection to it.
    """
    is_first = all(one.person_ref != resolution.person_ref for one in hold.resolutions)
    return hold.state is HoldState.PENDING and is_first and resolution.person_ref != hold.caller_ref


def resolved(hold: Hold, resolution: Resolution) -> Hold:
    """The hold after somebody spoke, and it `counts`."""
    said = (*hold.resolutions, resolution)
    if not resolution.is_yes:
        return replace(hold, resolutions=said, state=HoldState.DENIED, waiting=())
    if len({one.person_ref for one in said if one.is_yes}) < hold.terms.count:
        return replace(hold, resolutions=said)
    until = resolution.at + timedelta(seconds=hold.terms.valid_seconds)
    return replace(hold, resolutions=said, state=HoldState.APPROVED, valid_until=until)


def joined(hold: Hold, exchange_id: ExchangeId) -> Hold:
    """An exchange sent it again, in time: it waits too, if only for what becomes of another one's claim."""
    if hold.state not in RESUMABLE and hold.state not in _AGREED:
        return hold
    state = HoldState.PENDING if hold.state in RESUMABLE else hold.state
    return replace(hold, state=state, waiting=(*_others(hold, exchange_id), exchange_id))


def claimed(hold: Hold, exchange_id: ExchangeId) -> Hold:
    """The hold as this exchange finds it: `claimed` for one exchange only, which may then pass.

    One that does not wait for it claims nothing: it left meanwhile, and would take the approval with it.
    """
    if hold.state is not HoldState.APPROVED or exchange_id not in hold.waiting:
        return hold
    return replace(hold, state=HoldState.CLAIMED, claimed_by=exchange_id)


def left(hold: Hold, exchange_id: ExchangeId) -> Hold:
    """An exchange went without passing. What it claimed is there for the next one.

    If nobody waits for the hold any more, and nobody was told to come back, it is withdrawn.
    """
    return _gone(_given_back(hold, exchange_id), frozenset({exchange_id}), HoldState.WITHDRAWN)


def abandoned(hold: Hold, exchanges: frozenset[ExchangeId]) -> Hold:
    """These exchanges are gone with the worker that held them.

    What one of them claimed stays claimed: whether it passed, only its log can tell.
    """
    return _gone(hold, exchanges, HoldState.ABANDONED)


def told(hold: Hold, exchange_id: ExchangeId) -> Hold:
    """The caller was told to come back: the hold goes on without anybody waiting, and people may still resolve it."""
    hold = _given_back(hold, exchange_id)
    state = HoldState.PENDING if hold.state in RESUMABLE else hold.state
    return replace(hold, state=state, waiting=_others(hold, exchange_id), is_detached=True)


def passed(hold: Hold, exchange_id: ExchangeId) -> Hold:
    """The exchange that claimed it is on record, and the call made. Nothing else passes with this approval."""
    if hold.claimed_by == exchange_id and hold.state in {HoldState.CLAIMED, HoldState.EXPIRED}:
        return replace(hold, state=HoldState.USED, waiting=())
    return replace(hold, waiting=_others(hold, exchange_id))


def ended(hold: Hold, exchange_id: ExchangeId, ending: HoldEnding) -> Hold:
    """An exchange that was held does not wait any more."""
    if ending is HoldEnding.PASSED:
        return passed(hold, exchange_id)
    return told(hold, exchange_id) if ending is HoldEnding.TOLD else left(hold, exchange_id)


def settled(hold: Hold, passed_exchanges: frozenset[ExchangeId], *, is_readable: bool) -> Hold:
    """What an exchange of a dead worker claimed, now that the log of that worker was read.

    Args:
        hold: as it stands now (`at`).
        passed_exchanges: those whose intent was found.
        is_readable: could the part of the log still be read in which its intent would stand? If not, nobody knows
            whether it passed: it counts as used.
    """
    if hold.claimed_by is None:
        return hold
    if hold.claimed_by in passed_exchanges or not is_readable:
        return passed(hold, hold.claimed_by)
    return left(hold, hold.claimed_by)


def _given_back(hold: Hold, exchange_id: ExchangeId) -> Hold:
    if hold.state is HoldState.CLAIMED and hold.claimed_by == exchange_id:
        return replace(hold, state=HoldState.APPROVED, claimed_by=None)
    return hold


def _gone(hold: Hold, exchanges: frozenset[ExchangeId], state: HoldState) -> Hold:
    waiting = tuple(one for one in hold.waiting if one not in exchanges)
    if hold.state is HoldState.PENDING and not waiting and not hold.is_detached:
        return replace(hold, waiting=waiting, state=state)
    return replace(hold, waiting=waiting)


def _others(hold: Hold, exchange_id: ExchangeId) -> tuple[ExchangeId, ...]:
    return tuple(one for one in hold.waiting if one != exchange_id)


def _is_named(groups: tuple[str, ...], person: Person) -> bool:
    return not set(groups).isdisjoint(person.groups)
