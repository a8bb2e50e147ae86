"""What people do with holds: see them, and resolve them. The console, the API, the command line, webhooks: all of them
come through here, so the rules of approval (`ext_proc.approval.hold`) and the records are the same for all.

Every view and every action is a leaf in this process's own log. What somebody says is on record before it counts: if
they came second, a further leaf says that it did not (``approval.refused``). Only who reads their own call, or is
refused the same again, is on record now and then (`ext_proc.app.quiet`): programs ask in loops.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Protocol

from ext_proc.app.approval.holds import CLEAR, SHOWN, scope_of
from ext_proc.app.quiet import Quiet
from ext_proc.approval import hold as rules
from ext_proc.approval.hold import Person
from ext_proc.audit.record import instant
from ext_proc.audit.vault import Sealer
from ext_proc.errors import ApprovalUnavailable
from ext_proc.model import Entry, ExchangeId, HoldId, Payload, Resolution
from ext_proc.record_kinds import LeafKind, PayloadRole

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import datetime

    from ext_proc.approval.hold import Hold
    from ext_proc.approval.register import Register
    from ext_proc.audit.keys import KeyRing
    from ext_proc.model import Identity, Receipt

_SAID: Final = "said"
_ACTIONS: Final = {True: "approve", False: "deny"}


class Journal(Protocol):
    """The log of this process."""

    def record(self, entry: Entry) -> Receipt:
        """Durable when it returns.

        Raises:
            AuditUnavailable: it could not be made durable.
        """
        ...


class Objection(Exception):
    """Why somebody may not see or resolve a hold: a value for whoever asked, told in words by `text`.

    ``reason`` is a code of `hold.OBJECTIONS`.
    """

    def __init__(self, reason: str, justification_min: int = rules.JUSTIFICATION_MIN) -> None:
        super().__init__(reason)
        self.reason: Final = reason
        self.text: Final = rules.words_of(reason, justification_min)
        self.http_status: Final = _STATUS.get(reason, 409)
        """404 for what may not even be known, 403 for who may not, 422 for what must be said, 409 for what is over."""


_STATUS: Final = {"no_such_hold": 404, "own_call": 403, "not_an_approver": 403, "justification_required": 422}


@dataclass(frozen=True, slots=True)
class Said:
    """What one person said of a hold. ``who`` and ``why`` are None where their key was destroyed."""

    resolution: Resolution
    who: str | None
    why: str | None


@dataclass(frozen=True, slots=True)
class View:
    """A hold as somebody may read it.

    ``shown`` (see `holds._shown`): None where the caller's key was destroyed. ``clear``: the request as it came, only
    where it was asked for and the policy lets this person read it. ``objection``: why this person may not resolve it
    now, a code of `hold.OBJECTIONS`; None: they may. With `unreadable` they may only deny it.
    """

    hold: Hold
    shown: Mapping[str, Any] | None
    clear: str | None
    said: tuple[Said, ...]
    objection: str | None
    may_read_clear: bool


class Approvals:
    """What the people at the desk can do. For threads: every method may wait for the database and the disk.

    Args:
        keyring: has the people's keys.
        register: keeps the holds.
        journal: where what they do is recorded.
        clock: aware UTC.
        justification_min: characters that a justification must have.
    """

    def __init__(
        self,
        keyring: KeyRing,
        register: Register,
        journal: Journal,
        clock: Callable[[], datetime],
        justification_min: int = rules.JUSTIFICATION_MIN,
    ) -> None:
        self._least = justification_min
        self._keyring = keyring
        self._register = register
        self._journal = journal
        self._clock = clock
        self._quiet = Quiet(clock)

    def inbox(self, identity: Identity, limit: int, after: HoldId | None = None) -> list[Hold]:
        """What waits for somebody like this person, the oldest first; not their own calls, nor what they answered."""
        person = self._person(identity)
        now = self._clock()
        found: list[Hold] = []
        while True:
            page = self._register.pending(person.tenant, person.groups, now, limit, after)
            found += [hold for hold in page if hold.caller_ref != person.ref and not rules.has_answered(hold, person)]
            if len(page) < limit or len(found) >= limit:
                return found[:limit]
            after = page[-1].hold_id  # what is not for them must not hide what is

    def answered(self, identity: Identity, limit: int) -> list[Hold]:
        """What waits for others as well, and this person has agreed to; the oldest first."""
        return self._register.answered_by(self._person(identity).ref, self._clock(), limit)

    def mine(self, identity: Identity, limit: int) -> list[Hold]:
        """The person's own calls, the newest first."""
        return self._register.of_caller(self._person(identity).ref, self._clock(), limit)

    def count_waiting_for(self, identity: Identity) -> int:
        """How many calls wait for this person: those of `inbox`, however many there are."""
        person = self._person(identity)
        return self._register.count_waiting_for(person.tenant, person.groups, person.ref, self._clock())

    def stands(self, identity: Identity, hold_id: HoldId) -> Hold:
        """How a hold stands, for its caller or its approvers; nothing that was said in it is shown.

        Raises:
            Objection: there is none for this person.
        """
        return self._found(self._person(identity), hold_id)

    def read(self, identity: Identity, hold_id: HoldId, channel: str, *, wants_clear: bool = False) -> View:
        """The hold with what its approvers read of it. The view is on record before anything is shown.

        Who wants to read it as it came, and may not, reads it masked.

        Raises:
            Objection: there is none for this person.
        """
        person = self._person(identity)
        hold = self._found(person, hold_id)
        is_clear = wants_clear and hold.sealed_clear is not None and rules.may_read_clear(hold, person)
        if person.ref == hold.caller_ref:
            about = (LeafKind.APPROVAL_VIEWED, person.ref, hold_id, channel, hold.state.value)
            self._note_quietly(about, identity, hold, channel, is_clear=is_clear)
        else:
            self._record(LeafKind.APPROVAL_VIEWED, identity, hold, channel, is_clear=is_clear)
        return self._view(hold, person, wants_clear=is_clear)

    def resolve(self, identity: Identity, hold_id: HoldId, channel: str, justification: str, *, is_yes: bool) -> View:
        """Say yes or no. It is on record before it counts.

        Raises:
            Objection: this person may not, or not now: that is on record too, unless there is no such hold at all.
        """
        person = self._person(identity)
        hold = self._known(hold_id)
        action = _ACTIONS[is_yes]
        reason = rules.objection(hold, person, justification, self._least)
        if reason is None and is_yes and self._shown(hold) is None:
            reason = "unreadable"
        if reason is not None:
            about = (LeafKind.APPROVAL_REFUSED, person.ref, hold_id, channel, action, reason)
            self._note_quietly(about, identity, hold, channel, action=action, code=reason)
            raise Objection(reason, self._least)
        sealed = self._sealed(identity, person, hold, justification)  # before the record: it can fail
        written = Payload(PayloadRole.APPROVAL_JUSTIFICATION, justification.encode(errors="replace"), "text/plain")
        receipt = self._record(LeafKind.APPROVAL_RESOLVED, identity, hold, channel, (written,), action=action)
        now = self._clock()
        resolution = Resolution(is_yes, person.ref, now, receipt.origin, receipt.sequence)
        try:
            changed = self._register.resolve(hold_id, resolution, sealed, now)
        except ApprovalUnavailable:  # nobody knows whether it counted: an intent that names it says that it did
            self._record(LeafKind.APPROVAL_REFUSED, identity, hold, channel, action=action, code="unavailable")
            raise
        if changed is None:
            reason = rules.objection(self._known(hold_id), person, justification, self._least)
            reason = reason or "already_said"
            # Always: see above.
            self._record(LeafKind.APPROVAL_REFUSED, identity, hold, channel, action=action, code=reason)
            raise Objection(reason, self._least)
        return self._view(self._known(hold_id), person, wants_clear=False)

    # For channels (`ext_proc.app.approval.channels`): a channel is nobody ---------------------------------------------

    def show_in(self, hold_id: HoldId, channel: str) -> str | None:
        """What the model would get, to be told on a channel. On record first: nobody knows who reads it there.

        None: there is no such hold, or its caller's key was destroyed.
        """
        hold = self._register.find(hold_id, self._clock())
        if hold is None:
            return None
        shown = self._shown(hold)
        if shown is None:
            return None
        self._record(LeafKind.APPROVAL_VIEWED, None, hold, channel, is_clear=False)
        return str(shown["text"])

    def refuse_stranger(self, hold_id: HoldId, channel: str, action: str, code: str) -> None:
        """A message that cannot count said so of a hold: on record, if there is such a hold."""
        hold = self._register.find(hold_id, self._clock())
        if hold is not None:
            self._record(LeafKind.APPROVAL_REFUSED, None, hold, channel, action=action, code=code)

    # ---------------------------------------------------------------------------------------------------------------

    def _person(self, identity: Identity) -> Person:
        return Person(self._keyring.subject_reference(identity), identity.tenant, identity.groups)

    def _known(self, hold_id: HoldId) -> Hold:
        hold = self._register.find(hold_id, self._clock())
        if hold is None:
            raise Objection("no_such_hold")
        return hold

    def _found(self, person: Person, hold_id: HoldId) -> Hold:
        """One that this person may see."""
        hold = self._known(hold_id)
        if not rules.may_see(hold, person):
            raise Objection(rules.objection_to(hold, person) or "no_such_hold")
        return hold

    def _note_quietly(self, about: tuple[str, ...], identity: Identity, hold: Hold, channel: str, **more: Any) -> None:
        """`_record`, once in a while of the same. The first of the tuple is the kind."""

        def write(repeated: int) -> None:
            told = {**more, "repeated": repeated} if repeated else more
            self._record(about[0], identity, hold, channel, **told)

        self._quiet.note(about, write)

    def _record(
        self,
        kind: str,
        identity: Identity | None,
        hold: Hold,
        channel: str,
        payloads: tuple[Payload, ...] = (),
        **more: Any,
    ) -> Receipt:
        told = {
            "hold_id": hold.hold_id,
            "binding_sha256": hold.binding_sha256,
            "channel": channel,
            "time": {"recorded": instant(self._clock())},
            **more,
        }
        exchange_id = ExchangeId(str(hold.facts["exchange_id"]))
        return self._journal.record(Entry(kind, exchange_id, identity, None, told, payloads))

    def _sealer(self, hold: Hold, ref: str) -> Sealer:
        """For what somebody's key opens of a hold."""
        return Sealer(self._keyring.token_key(ref), scope_of(hold.hold_id, hold.binding_sha256))

    def _sealed(self, identity: Identity, person: Person, hold: Hold, why: str) -> bytes:
        told = json.dumps({"issuer": identity.issuer, "subject": identity.subject, "why": why})
        return self._sealer(hold, person.ref).seal(_SAID, told)

    def _view(self, hold: Hold, person: Person, *, wants_clear: bool) -> View:
        sealer = self._sealer(hold, hold.caller_ref)
        shown = self._shown(hold)
        clear = sealer.open(CLEAR, hold.sealed_clear) if wants_clear and hold.sealed_clear is not None else None
        reason = rules.objection(hold, person, None)
        return View(
            hold=hold,
            shown=shown,
            clear=clear,
            said=self._said(hold),
            objection=reason or ("unreadable" if shown is None else None),
            may_read_clear=rules.may_read_clear(hold, person),
        )

    def _shown(self, hold: Hold) -> dict[str, Any] | None:
        """What approvers read of it. None: nobody can, any more."""
        shown = self._sealer(hold, hold.caller_ref).open(SHOWN, hold.sealed or b"")
        found: dict[str, Any] | None = None if shown is None else json.loads(shown)
        return found

    def _said(self, hold: Hold) -> tuple[Said, ...]:
        sealed = self._register.said(hold.hold_id)
        every = []
        for one in hold.resolutions:
            told = self._sealer(hold, one.person_ref).open(_SAID, sealed.get(one.person_ref, b""))
            known = {} if told is None else json.loads(told)
            every.append(Said(one, known.get("subject"), known.get("why")))
        return tuple(every)
