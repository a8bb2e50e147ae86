"""What every implementation of the console's ports must do. Subclass a suite, and say how one is made."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from ext_proc.console.people import Role, viewer_of
from ext_proc.console.ports import Objection
from ext_proc.errors import AuditUnavailable
from tests.fakes.console_rooms import NOW, person

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from ext_proc.console.people import Viewer
    from ext_proc.console.ports import Approvals, Refusals, Sessions
    from ext_proc.model import Identity

UNKNOWN = "f" * 32


def viewer(subject: str, *groups: str, tenant: str | None = None) -> Viewer:
    return viewer_of(person(subject, *groups, tenant=tenant), {Role.APPROVER: ("approvers",)})


ADA, BOB, CAROL = (viewer(name, "approvers") for name in ("ada", "bob", "carol"))
EVE = viewer("eve", "analysts")
SUE = viewer("sue", "approvers", tenant="south")


@dataclass
class Made:
    """One implementation. ``ask`` holds a call of somebody's (terms as keywords: ``count``, ``clear_to``,
    ``within_seconds``) and says its id; ``views`` and ``actions`` count what is on record; ``move`` lets seconds pass."""

    approvals: Approvals
    ask: Callable[..., Awaitable[str]]
    views: Callable[[], int]
    actions: Callable[[], int]
    move: Callable[[float], None]


async def _code(work: Awaitable[Any]) -> str:
    with pytest.raises(Objection) as caught:
        await work
    return caught.value.code


class ApprovalsSuite:
    """`ports.Approvals`. Give a fixture ``made``."""

    async def test_who_may_see_and_what_is_recorded(self, made: Made) -> None:
        hold_id = await made.ask(ADA.identity)

        seen = await made.approvals.read(BOB, hold_id, want_clear=False)
        own = await made.approvals.read(ADA, hold_id, want_clear=False)
        codes = [
            await _code(made.approvals.read(who, one, want_clear=True))
            for who, one in ((EVE, hold_id), (SUE, hold_id), (BOB, UNKNOWN))
        ]

        assert (seen.line.is_own, seen.line.objection, own.line.is_own, own.line.objection) == (
            False,
            None,
            True,
            "own_call",
        )
        assert seen.asker.subject == "ada" and seen.masked and seen.clear is None
        assert codes == ["not_an_approver", "no_such_hold", "no_such_hold"]
        assert made.views() >= 1

    async def test_clear_text_only_where_allowed_and_asked_for(self, made: Made) -> None:
        closed, opened = await made.ask(ADA.identity), await made.ask(CAROL.identity, clear_to=("approvers",))

        assert (await made.approvals.read(BOB, closed, want_clear=True)).clear is None
        assert (await made.approvals.read(BOB, opened, want_clear=False)).clear is None
        assert (await made.approvals.read(CAROL, opened, want_clear=True)).clear is None
        assert (await made.approvals.read(BOB, opened, want_clear=True)).clear

    async def test_resolving(self, made: Made) -> None:
        hold_id = await made.ask(ADA.identity, count=2)

        first = await self._yes(made, BOB, hold_id)
        twice = await _code(self._yes(made, BOB, hold_id))
        second = await self._yes(made, CAROL, hold_id)
        late = await _code(self._yes(made, viewer("dora", "approvers"), hold_id))

        assert (first.line.state, first.line.given, first.line.needed) == ("pending", 1, 2)
        assert (second.line.state, second.line.given, second.valid_until is not None) == ("approved", 2, True)
        assert (twice, late) == ("already_said", "already_approved")
        assert [one.justification for one in second.resolutions] == ["Checked it.", "Checked it."]
        assert made.actions() == 2

    async def test_who_may_not_resolve(self, made: Made) -> None:
        hold_id = await made.ask(ADA.identity)
        told = [(ADA, "own_call"), (EVE, "not_an_approver"), (SUE, "no_such_hold")]

        assert [await _code(self._yes(made, who, hold_id)) for who, _ in told] == [code for _, code in told]
        for words in ("", "  ", "ok", "No.", "." * 20, "o         k", "1234567890", "x" * 2001):
            work = made.approvals.resolve(BOB, hold_id, is_yes=False, justification=words, channel="api")
            assert await _code(work) == "justification_required"
        assert made.actions() == 0

    async def test_of_two_at_once_one_is_first(self, made: Made) -> None:
        hold_id = await made.ask(ADA.identity)

        both = await asyncio.gather(
            self._yes(made, BOB, hold_id), self._yes(made, CAROL, hold_id), return_exceptions=True
        )

        codes = [one.code for one in both if isinstance(one, Objection)]
        assert codes == ["already_approved"] and made.actions() == 1

    async def test_time_is_over(self, made: Made) -> None:
        hold_id = await made.ask(ADA.identity, within_seconds=60)
        made.move(61)

        assert await _code(self._yes(made, BOB, hold_id)) == "expired"
        assert (await made.approvals.read(BOB, hold_id, want_clear=False)).line.state == "expired"
        assert (await made.approvals.inbox(BOB, 10, None)).lines == ()

    async def test_inbox_in_pages(self, made: Made) -> None:
        ids = []
        for number in range(5):
            ids.append(await made.ask(person(f"caller-{number}", "analysts")))
            made.move(1)
        await made.ask(person("south", "analysts", tenant="south"))

        first = await made.approvals.inbox(BOB, 2, None)
        second = await made.approvals.inbox(BOB, 2, first.next_after)
        third = await made.approvals.inbox(BOB, 2, second.next_after)

        assert [one.hold_id for page in (first, second, third) for one in page.lines] == ids
        assert (first.pending_count, third.next_after) == (5, None)
        assert (await made.approvals.inbox(EVE, 10, None)).lines == ()
        assert len((await made.approvals.inbox(SUE, 10, None)).lines) == 1

    async def test_what_somebody_answered_waits_for_others_only(self, made: Made) -> None:
        first, second = await made.ask(ADA.identity, count=2), await made.ask(CAROL.identity)
        asked = await made.approvals.inbox(BOB, 10, None)
        agreed = await self._yes(made, BOB, first)
        inbox, others = [await made.approvals.inbox(who, 10, None) for who in (BOB, CAROL)]
        page = await made.approvals.inbox(BOB, 10, second)

        assert (asked.pending_count, asked.answered) == (2, ()) and {one.answered for one in asked.lines} == {None}
        assert (agreed.line.answered, agreed.line.objection) == ("approve", "already_said")
        assert ([one.hold_id for one in inbox.lines], inbox.pending_count) == ([second], 1)
        assert [(one.hold_id, one.answered, one.objection) for one in inbox.answered] == [
            (first, "approve", "already_said")
        ]
        assert ([one.hold_id for one in others.lines], others.pending_count, others.answered) == ([first], 1, ())
        assert page.answered == ()
        await self._yes(made, CAROL, first)
        assert (await made.approvals.inbox(BOB, 10, None)).answered == ()

    async def test_own_calls_are_not_in_the_inbox(self, made: Made) -> None:
        await made.ask(ADA.identity)

        assert (await made.approvals.inbox(ADA, 10, None)).pending_count == 0
        assert (await made.approvals.inbox(ADA, 10, None)).lines == ()

    async def test_caller_learns_what_was_said_and_when_and_not_by_whom_or_why(self, made: Made) -> None:
        hold_id = await made.ask(ADA.identity, count=2)
        await self._yes(made, BOB, hold_id)
        await made.approvals.resolve(CAROL, hold_id, is_yes=False, justification="Not today.", channel="api")

        own = await made.approvals.read(ADA, hold_id, want_clear=False)
        others = await made.approvals.read(BOB, hold_id, want_clear=False)

        assert (own.line.state, [one.is_yes for one in own.resolutions]) == ("denied", [True, False])
        assert {(one.person, one.justification, one.record, one.is_you) for one in own.resolutions} == {
            (None, None, None, False)
        }
        assert [(one.person, one.is_you) for one in others.resolutions] == [("bob", True), ("carol", False)]
        assert "Not today." in [one.justification for one in others.resolutions]
        assert all(one.at.tzinfo for one in own.resolutions) and own.line.expires_at > own.line.asked_at

    async def test_changes_are_told_and_none_is_missed(self, made: Made) -> None:
        now = await made.approvals.change_after(BOB, 0)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await made.approvals.change_after(BOB, now)

        hold_id = await made.ask(ADA.identity)
        later = await asyncio.wait_for(made.approvals.change_after(BOB, now), 10)
        waiting = asyncio.ensure_future(made.approvals.change_after(BOB, later))
        await asyncio.sleep(0)
        await self._yes(made, BOB, hold_id)

        assert later > now
        assert await asyncio.wait_for(waiting, 10) > later
        assert await asyncio.wait_for(made.approvals.change_after(BOB, 10**12), 10) < 10**12

    async def _yes(self, made: Made, who: Viewer, hold_id: str) -> Any:
        return await made.approvals.resolve(who, hold_id, is_yes=True, justification="Checked it.", channel="console")


@dataclass
class Noted:
    """One implementation of `ports.Refusals`. ``leaves`` are those on record: page, code, channel, repeated; ``fail``
    says whether none can be recorded; ``move`` lets minutes pass."""

    refusals: Refusals
    leaves: Callable[[], list[tuple[str, str, str, int]]]
    fail: Callable[[bool], None]
    move: Callable[[float], None]


class RefusalsSuite:
    """`ports.Refusals`. Give a fixture ``made``."""

    async def test_each_person_and_page_is_on_record_once_in_a_while(self, made: Noted) -> None:
        for who, page in ((EVE, "inbox"), (EVE, "exchanges"), (SUE, "inbox"), (EVE, "inbox"), (EVE, "inbox")):
            await made.refusals.note(who, page, "role_missing", is_api=page == "exchanges")

        assert made.leaves() == [
            ("inbox", "role_missing", "console", 0),
            ("exchanges", "role_missing", "api", 0),
            ("inbox", "role_missing", "console", 0),
        ]

    async def test_nobody_fills_the_log_and_the_next_one_says_how_often_it_was(self, made: Noted) -> None:
        for _ in range(500):
            await made.refusals.note(EVE, "inbox", "role_missing", is_api=False)
        assert len(made.leaves()) == 1
        made.move(10)
        await made.refusals.note(EVE, "inbox", "role_missing", is_api=True)

        assert made.leaves()[1:] == [("inbox", "role_missing", "api", 499)]

    async def test_what_could_not_be_recorded_is_tried_again(self, made: Noted) -> None:
        made.fail(True)
        for _ in range(2):
            with pytest.raises(AuditUnavailable):
                await made.refusals.note(EVE, "hold", "not_an_approver", is_api=False)
        made.fail(False)
        await made.refusals.note(EVE, "hold", "not_an_approver", is_api=False)

        assert made.leaves() == [("hold", "not_an_approver", "console", 2)]


class SessionsSuite:
    """`ports.Sessions`. Give a fixture ``sessions``: 30 minutes idle, 8 hours at most."""

    async def test_begin_find_end(self, sessions: Sessions) -> None:
        ids = {await sessions.begin(self._bob(), NOW) for _ in range(20)}
        one = ids.pop()
        found = await sessions.find(one, NOW)

        assert len(ids) == 19 and all(len(made) >= 32 for made in ids)
        assert found is not None and found.identity == self._bob() and len(found.csrf) >= 32
        await sessions.end(one)
        await sessions.end(one)
        assert await sessions.find(one, NOW) is None
        assert await sessions.find(ids.pop(), NOW) is not None

    async def test_each_has_a_token_of_its_own(self, sessions: Sessions) -> None:
        found = [await sessions.find(await sessions.begin(self._bob(), NOW), NOW) for _ in range(5)]

        assert len({one.csrf for one in found if one}) == 5

    @pytest.mark.parametrize("told", ["", "x", "\ud800", "\u00e9" * 9, "a" * 10_000])
    async def test_what_nobody_began(self, sessions: Sessions, told: str) -> None:
        assert await sessions.find(told, NOW) is None

    async def test_use_and_the_end(self, sessions: Sessions) -> None:
        used, watched = await sessions.begin(self._bob(), NOW), await sessions.begin(self._bob(), NOW)
        for minutes in range(20, 480, 20):
            at = NOW + timedelta(minutes=minutes)
            assert await sessions.find(used, at) is not None
            assert (await sessions.find(watched, at, is_use=False) is not None) == (minutes < 30)
        assert await sessions.find(used, NOW + timedelta(hours=8)) is None

    async def test_no_longer_than_the_token(self, sessions: Sessions) -> None:
        brief = await sessions.begin(person("bob", expires_at=NOW + timedelta(minutes=5)), NOW)

        assert await sessions.find(brief, NOW + timedelta(minutes=4, seconds=59)) is not None
        assert await sessions.find(brief, NOW + timedelta(minutes=5)) is None

    def _bob(self) -> Identity:
        return person("bob", "approvers")
