"""Holds, as the console shows them: `app.approval.approvals` behind `console.ports.Approvals`."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

from ext_proc.app.approval import approvals
from ext_proc.app.approval.passages import Mark, passages
from ext_proc.console import ports, seen
from ext_proc.evidence.visible import visible
from ext_proc.model import HoldId

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from ext_proc.app.approval.approvals import Approvals, Said, View
    from ext_proc.approval.bell import Bell
    from ext_proc.approval.hold import Hold
    from ext_proc.console.people import Viewer


ANSWERED_MAX: Final = 50
"""Holds that somebody agreed to and that wait for others: so many are shown them again."""


class DeskApprovals:
    """`console.ports.Approvals`.

    Args:
        desk: knows the rules, and keeps the records.
        bell: tells when something changed.
        reference: of a person, as records have it.
    """

    def __init__(self, desk: Approvals, bell: Bell, reference: Callable[[Viewer], str]) -> None:
        self._desk = desk
        self._bell = bell
        self._reference = reference

    async def inbox(self, viewer: Viewer, limit: int, after: str | None) -> seen.Inbox:
        """See `ports.Approvals.inbox`."""
        return await asyncio.to_thread(self._inbox, viewer, limit, after)

    async def read(
        self, viewer: Viewer, hold_id: str, *, want_clear: bool, channel: ports.Channel = "console"
    ) -> seen.HoldSeen:
        """See `ports.Approvals.read`."""
        return await asyncio.to_thread(self._read, viewer, hold_id, channel, want_clear=want_clear)

    async def resolve(
        self, viewer: Viewer, hold_id: str, *, is_yes: bool, justification: str, channel: ports.Channel
    ) -> seen.HoldSeen:
        """See `ports.Approvals.resolve`."""

        def done() -> seen.HoldSeen:
            try:
                view = self._desk.resolve(viewer.identity, HoldId(hold_id), channel, justification, is_yes=is_yes)
            except approvals.Objection as objection:
                raise ports.Objection(objection.reason) from None
            return self._seen(viewer, view)

        return await asyncio.to_thread(done)

    async def change_after(self, viewer: Viewer, seen: int) -> int:
        """See `ports.Approvals.change_after`."""
        del viewer  # that something changed tells nobody anything
        # One more than the bell's own, so that 0 is for whoever has seen nothing yet.
        return 1 + (self._bell.last_change if seen == 0 else await self._bell.any_change(seen - 1))

    # ---------------------------------------------------------------------------------------------------------------

    def _inbox(self, viewer: Viewer, limit: int, after: str | None) -> seen.Inbox:
        found = self._desk.inbox(viewer.identity, limit + 1, HoldId(after) if after else None)
        lines = tuple(self._line(viewer, hold) for hold in found[:limit])
        more = found[limit - 1].hold_id if len(found) > limit else None
        agreed = () if after else self._desk.answered(viewer.identity, ANSWERED_MAX)
        return seen.Inbox(
            lines,
            self._desk.count_waiting_for(viewer.identity),
            more,
            tuple(self._line(viewer, hold, objection="already_said") for hold in agreed),
        )

    def _read(self, viewer: Viewer, hold_id: str, channel: ports.Channel, *, want_clear: bool) -> seen.HoldSeen:
        try:
            view = self._desk.read(viewer.identity, HoldId(hold_id), channel, wants_clear=want_clear)
        except approvals.Objection as objection:
            raise ports.Objection(objection.reason) from None
        return self._seen(viewer, view)

    def _line(
        self, viewer: Viewer, hold: Hold, caller: str | None = None, objection: str | None = None
    ) -> seen.HoldLine:
        facts, who = hold.facts, self._reference(viewer)
        is_own = who == hold.caller_ref
        said = next((one for one in hold.resolutions if one.person_ref == who), None)
        return seen.HoldLine(
            hold_id=hold.hold_id,
            state=hold.state,
            caller=caller or hold.caller_ref,
            connection=facts["connection"],
            operation=facts["operation"],
            model=None if facts["model"] is None else visible(facts["model"]),
            findings=tuple(seen.Count(name, count) for name, count in facts["findings"].items()),
            reason=hold.terms.reason,
            asked_at=hold.asked_at,
            expires_at=hold.expires_at,
            needed=hold.terms.count,
            given=sum(one.is_yes for one in hold.resolutions),
            is_own=is_own,
            objection=objection or ("own_call" if is_own else None),
            answered=None if said is None else ("approve" if said.is_yes else "deny"),
        )

    def _said(self, viewer: Viewer, hold: Hold, said: Said) -> seen.Said:
        one, who = said.resolution, self._reference(viewer)
        if who == hold.caller_ref:  # approvers justify themselves to auditors, not to whom they said no
            return seen.Said(one.is_yes, None, None, one.at, None)
        place = seen.Place(one.origin, one.sequence)
        return seen.Said(one.is_yes, said.who or one.person_ref, said.why, one.at, place, is_you=one.person_ref == who)

    def _seen(self, viewer: Viewer, view: View) -> seen.HoldSeen:
        hold, shown = view.hold, view.shown or {}
        facts, policy = hold.facts, hold.facts["policy"]
        caller = shown.get("subject")
        return seen.HoldSeen(
            line=self._line(viewer, hold, caller, view.objection),
            asker=seen.Asker(
                ref=hold.caller_ref,
                issuer=shown.get("issuer", ""),
                subject=caller,
                groups=tuple(shown.get("groups", ())),
                client=shown.get("client"),
                tenant=hold.tenant,
            ),
            method=facts["method"],
            path=visible(facts["path"]),
            policy=seen.PolicySeen(policy["revision"], policy["digest"], facts["decision_id"], ()),
            terms=seen.TermsSeen(
                hold.terms.groups,
                hold.terms.count,
                hold.terms.within_seconds,
                hold.terms.valid_seconds,
                hold.terms.clear_to,
            ),
            valid_until=hold.valid_until,
            resolutions=tuple(self._said(viewer, hold, one) for one in view.said),
            exchange_ids=tuple(dict.fromkeys([facts["exchange_id"], *hold.waiting])),
            masked=(*_betas(facts), *passages(shown.get("text", ""), _marks(shown, "marks"))),
            may_read_clear=view.may_read_clear,
            clear=None if view.clear is None else passages(view.clear, _marks(shown, "clear_marks")),
        )


def _betas(facts: Mapping[str, Any]) -> tuple[seen.Passage, ...]:
    """What the caller switches on by header: it goes on with the call."""
    return (seen.Passage("betas", (seen.Segment(visible(", ".join(facts["betas"]))),)),) if facts.get("betas") else ()


def _marks(shown: Mapping[str, Any], name: str) -> list[Mark]:
    """None in a hold of an earlier version."""
    return [Mark(*one) for one in shown.get(name, ())]
