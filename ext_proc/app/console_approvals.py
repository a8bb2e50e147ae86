"""Holds, as the console shows them: `app.approvals` behind `console.ports.Approvals`."""

from __future__ import annotations

import asyncio
import json
import re
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

from ext_proc.app import approvals
from ext_proc.console import ports, seen
from ext_proc.model import HoldId

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from ext_proc.app.approvals import Approvals, View
    from ext_proc.approval.bell import Bell
    from ext_proc.approval.hold import Hold
    from ext_proc.console.people import Viewer

PASSAGES_MAX: Final = 500
"""Texts of one body that are shown one by one. Where there are more, the whole body is shown as it is written."""
LABEL_MAX: Final = 200
"""Characters of where a text stands: names of members are a caller's."""
_PLACEHOLDER: Final = re.compile(r"\[([A-Z][A-Z0-9_]*)\]|<([A-Z][A-Z0-9_]*)_[A-Z]{6,12}>")


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
        return seen.Inbox(lines, self._desk.count_waiting_for(viewer.identity), more)

    def _read(self, viewer: Viewer, hold_id: str, channel: ports.Channel, *, want_clear: bool) -> seen.HoldSeen:
        try:
            view = self._desk.read(viewer.identity, HoldId(hold_id), channel, wants_clear=want_clear)
        except approvals.Objection as objection:
            raise ports.Objection(objection.reason) from None
        return self._seen(viewer, view)

    def _line(
        self, viewer: Viewer, hold: Hold, caller: str | None = None, objection: str | None = None
    ) -> seen.HoldLine:
        facts, is_own = hold.facts, self._reference(viewer) == hold.caller_ref
        return seen.HoldLine(
            hold_id=hold.hold_id,
            state=hold.state,
            caller=caller or hold.caller_ref,
            connection=facts["connection"],
            operation=facts["operation"],
            model=facts["model"],
            findings=tuple(seen.Count(name, count) for name, count in facts["findings"].items()),
            reason=hold.terms.reason,
            asked_at=hold.asked_at,
            expires_at=hold.expires_at,
            needed=hold.terms.count,
            given=sum(one.is_yes for one in hold.resolutions),
            is_own=is_own,
            objection=objection or ("own_call" if is_own else None),
        )

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
            path=facts["path"],
            policy=seen.PolicySeen(policy["revision"], policy["digest"], facts["decision_id"], ()),
            terms=seen.TermsSeen(
                hold.terms.groups,
                hold.terms.count,
                hold.terms.within_seconds,
                hold.terms.valid_seconds,
                hold.terms.clear_to,
            ),
            valid_until=hold.valid_until,
            resolutions=tuple(
                seen.Said(
                    is_yes=one.resolution.is_yes,
                    person=one.who or one.resolution.person_ref,
                    justification=one.why,
                    at=one.resolution.at,
                    record=seen.Place(one.resolution.origin, one.resolution.sequence),
                )
                for one in view.said
            ),
            exchange_ids=tuple(dict.fromkeys([facts["exchange_id"], *hold.waiting])),
            masked=(*_betas(facts), *passages(shown.get("text", ""))),
            may_read_clear=view.may_read_clear,
            clear=None if view.clear is None else passages(view.clear),
        )


def passages(body: str) -> tuple[seen.Passage, ...]:
    """The texts of a body, one by one, with what stands in the place of values marked."""
    try:
        texts = list(islice(_texts(json.loads(body), ""), PASSAGES_MAX + 1)) if body else []
    except (ValueError, RecursionError):
        texts = [("body", body)]
    if len(texts) > PASSAGES_MAX:
        texts = [("body", body)]
    return tuple(seen.Passage(label, segments(text)) for label, text in texts)


def segments(text: str) -> tuple[seen.Segment, ...]:
    """A text, cut at its placeholders."""
    found: list[seen.Segment] = []
    end = 0
    for mark in _PLACEHOLDER.finditer(text):
        if mark.start() > end:
            found.append(seen.Segment(text[end : mark.start()]))
        found.append(seen.Segment(mark[0], mark[1] or mark[2], "mask" if mark[1] else "tokenise"))
        end = mark.end()
    if end < len(text) or not found:
        found.append(seen.Segment(text[end:]))
    return tuple(found)


def _texts(value: Any, label: str) -> Iterator[tuple[str, str]]:
    """Every value with where it stands. A name that does not fit there is a text of its own."""
    if isinstance(value, dict):
        for name, inner in value.items():
            if len(name) > LABEL_MAX:
                yield f"{label}/(name of a member)", name
            yield from _texts(inner, _joint(label, name))
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from _texts(inner, _joint(label, str(index)))
    else:
        yield label or "body", value if isinstance(value, str) else json.dumps(value)


def _joint(label: str, name: str) -> str:
    """Where something stands, in a form that does not grow without end."""
    joined = f"{label}/{name}" if label else name
    return joined if len(joined) <= LABEL_MAX else f"{joined[: LABEL_MAX - 1]}…"


def _betas(facts: Mapping[str, Any]) -> tuple[seen.Passage, ...]:
    """What the caller switches on by header: it goes on with the call."""
    return (seen.Passage("betas", (seen.Segment(", ".join(facts["betas"])),)),) if facts.get("betas") else ()
