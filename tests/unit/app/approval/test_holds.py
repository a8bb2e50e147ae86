"""`ext_proc.app.approval.holds` and `ext_proc.app.approval.approvals`: the gate's desk and the people's, over one register."""

from __future__ import annotations

import asyncio
import json
import threading
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

import pytest

from ext_proc.app.approval import holds as desk_module
from ext_proc.app.approval.approvals import Approvals, Objection
from ext_proc.app.approval.holds import HoldDesk
from ext_proc.approval.bell import Bell
from ext_proc.approval.register import Holder
from ext_proc.approval.silence import BEAT_SECONDS
from ext_proc.audit import erasure
from ext_proc.audit.keys import KEPT_SECONDS, KeyRing
from ext_proc.errors import ApprovalUnavailable, AuditUnavailable, TooLargeToApprove
from ext_proc.model import Asking, ExchangeId, HoldEnding, HoldId, HoldState, Identity, PolicyVersion, Redaction
from tests.fakes.desks import BODY, MASKED, NOW, FakeLog, an_asking
from tests.fakes.register import FakeRegister
from tests.fakes.registry import FakeJournal, FakeRegistry

if TYPE_CHECKING:
    from ext_proc.approval.hold import Hold

ADA: Final = Identity("https://idp.example.com", "ada", "oidc", ("analysts", "approvers"), tenant="acme")
BOB: Final = replace(ADA, subject="bob", groups=("approvers",))
LEAD: Final = replace(ADA, subject="lee", groups=("approvers", "leads"))
X, Y = ExchangeId("exchange-1"), ExchangeId("exchange-2")


class House:
    """One worker's desk and the people's, with a clock that stands still."""

    def __init__(self) -> None:
        self.ticks = 100.0
        self.now = NOW
        self.registry = FakeRegistry()
        self.keyring = KeyRing(b"k" * 32, b"p" * 32, self.registry, lambda: self.ticks)
        self.register = FakeRegister()
        self.log = FakeLog()
        self.bell = Bell(self.register.watch, self.register, lambda: self.now)
        holder = Holder("demo/gw-0/1", 7)
        self.desk = HoldDesk(self.keyring, self.register, self.bell, lambda: holder, self.url, lambda: self.now)
        self.people = Approvals(self.keyring, self.register, self.log, lambda: self.now)

    @staticmethod
    def url(hold_id: HoldId) -> str:
        return f"https://desk.example.com/{hold_id}"

    def asking(self, exchange_id: ExchangeId = X, who: Identity = ADA, body: bytes = BODY, **terms: Any) -> Asking:
        return an_asking(exchange_id, who, body, **{"clear_to": ("leads",), **terms})

    def until(self, seconds: float = 50) -> datetime:
        return self.now + timedelta(seconds=seconds)


@pytest.fixture
def house() -> House:
    return House()


async def test_asked_and_shown(house: House) -> None:
    """What people read is masked, and sealed with the caller's key where it is kept."""
    standing = await house.desk.ask(house.asking(), NOW)
    assert standing.state is HoldState.PENDING
    assert standing.status_url == f"https://desk.example.com/{standing.hold_id}"
    [kept] = house.register.kept.values()
    assert kept.hold.sealed is not None
    for said in (kept.hold.sealed, kept.hold.sealed_clear or b"", json.dumps(dict(kept.hold.facts)).encode()):
        assert b"ada" not in said
    view = house.people.read(BOB, standing.hold_id, "console")
    assert view.shown is not None
    assert (view.shown["text"], view.shown["subject"], view.shown["user_agent"]) == (MASKED.decode(), "ada", "test/1")
    assert (view.clear, view.objection, view.may_read_clear) == (None, None, False)
    assert house.log.kinds == ["approval.viewed"]


async def test_clear_text_is_for_whom_the_policy_names(house: House) -> None:
    hold_id = (await house.desk.ask(house.asking(), NOW)).hold_id
    view = house.people.read(LEAD, hold_id, "console", wants_clear=True)
    assert (view.clear, view.may_read_clear) == (BODY.decode(), True)
    assert house.log.entries[-1].facts["is_clear"] is True
    for who in (BOB, ADA, replace(ADA, groups=("approvers", "leads"))):
        view = house.people.read(who, hold_id, "console", wants_clear=True)
        assert (view.clear, view.may_read_clear, view.shown is not None) == (None, False, True)
        assert house.log.entries[-1].facts["is_clear"] is False, "the record says what was shown"


async def test_clear_text_is_not_kept_for_nobody(house: House) -> None:
    await house.desk.ask(house.asking(clear_to=()), NOW)
    [kept] = house.register.kept.values()
    assert kept.hold.sealed_clear is None


async def test_an_erasure_takes_what_is_shown(house: House) -> None:
    hold_id = (await house.desk.ask(house.asking(), NOW)).hold_id
    ref = house.keyring.subject_reference(ADA)
    erasure.erase(
        house.registry,
        ref,
        order=erasure.Order("ticket", "dpo"),
        clock=lambda: NOW,
        journal=FakeJournal(),
        wait=lambda _: None,
    )
    house.ticks += KEPT_SECONDS + 1
    view = house.people.read(LEAD, hold_id, "console", wants_clear=True)
    assert (view.shown, view.clear, view.objection) == (None, None, "unreadable")
    assert house.people.read(ADA, hold_id, "console").objection == "own_call"
    with pytest.raises(Objection, match="unreadable") as refused:
        house.people.resolve(BOB, hold_id, "console", "I could not read it at all", is_yes=True)
    assert (refused.value.http_status, "denied" in refused.value.text) == (409, True)
    assert (house.log.entries[-1].kind, house.log.entries[-1].facts["code"]) == ("approval.refused", "unreadable")
    assert house.register.kept[hold_id].hold.resolutions == ()
    view = house.people.resolve(BOB, hold_id, "console", "nobody can read it", is_yes=False)
    assert view.hold.state is HoldState.DENIED


async def test_yes_releases_one_that_waits(house: House) -> None:
    async with asyncio.TaskGroup() as tasks:
        living = tasks.create_task(house.desk.live())
        hold_id = (await house.desk.ask(house.asking(), NOW)).hold_id
        waiting = tasks.create_task(house.desk.wait(hold_id, X, house.until()))
        await asyncio.sleep(0)
        view = await asyncio.to_thread(house.people.resolve, BOB, hold_id, "api", "case 1 of 2026", is_yes=True)
        standing = await waiting
        living.cancel()
    assert standing.state is HoldState.CLAIMED
    assert [(one.who, one.why, one.resolution.is_yes) for one in view.said] == [("bob", "case 1 of 2026", True)]
    [entry] = house.log.entries
    assert (entry.kind, entry.identity, entry.payloads[0].body) == ("approval.resolved", BOB, b"case 1 of 2026")
    assert (standing.resolutions[0].origin, standing.resolutions[0].sequence) == ("demo/gw-command/1", 1)
    house.desk.ended(X, HoldEnding.PASSED)
    await house.desk.settle(5)
    assert house.register.kept[hold_id].hold.state is HoldState.USED


async def test_time_is_over_and_nobody_said_anything(house: House) -> None:
    hold_id = (await house.desk.ask(house.asking(), NOW)).hold_id
    assert (await house.desk.wait(hold_id, X, NOW)).state is HoldState.PENDING


async def test_waits_for_what_becomes_of_anothers_claim(house: House) -> None:
    """Two wait, one claims, and leaves without passing: the other one passes."""
    async with asyncio.TaskGroup() as tasks:
        living = tasks.create_task(house.desk.live())
        hold_id = (await house.desk.ask(house.asking(X), NOW)).hold_id
        await house.desk.ask(house.asking(Y), NOW)
        house.people.resolve(BOB, hold_id, "api", "case 1 of 2026", is_yes=True)
        assert (await house.desk.wait(hold_id, X, house.until())).state is HoldState.CLAIMED
        other = tasks.create_task(house.desk.wait(hold_id, Y, house.until()))
        await asyncio.sleep(0.05)
        assert not other.done()
        house.desk.ended(X, HoldEnding.LEFT)
        assert (await other).state is HoldState.CLAIMED
        living.cancel()


@pytest.mark.parametrize(
    ("ending", "state"), [(HoldEnding.LEFT, HoldState.WITHDRAWN), (HoldEnding.TOLD, HoldState.PENDING)]
)
async def test_ends(house: House, ending: HoldEnding, state: HoldState) -> None:
    hold_id = (await house.desk.ask(house.asking(), NOW)).hold_id
    house.desk.ended(X, ending)
    house.desk.ended(X, ending)
    await house.desk.settle(5)
    assert house.register.kept[hold_id].hold.state is state


async def test_caller_leaves_while_the_register_is_asked(house: House) -> None:
    """The question goes on in its thread; what it holds is withdrawn all the same, after it."""
    begun, go_on = threading.Event(), threading.Event()
    really = house.register.ask

    def slow(*told: Any) -> Any:
        begun.set()
        go_on.wait(10)
        return really(*told)

    house.register.ask = slow  # type: ignore[method-assign]
    asking = asyncio.create_task(house.desk.ask(house.asking(), NOW))
    await asyncio.to_thread(begun.wait, 10)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    house.desk.ended(X, HoldEnding.LEFT)
    go_on.set()
    await house.desk.settle(5)
    [kept] = house.register.kept.values()
    assert kept.hold.state is HoldState.WITHDRAWN


async def test_a_register_that_stands_still_holds_nobody(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its disk hangs: no error, no answer. The caller is told so in time; what is kept in the end is withdrawn."""
    monkeypatch.setattr(desk_module, "ANSWER_SECONDS", 0.05)
    monkeypatch.setattr(desk_module, "LATE_SECONDS", 0.05)
    hold_id = (await house.desk.ask(house.asking(X), NOW)).hold_id
    thawed = threading.Event()
    house.register.ask = after(thawed, house.register.ask)  # type: ignore[method-assign]
    house.register.claim = after(thawed, house.register.claim)  # type: ignore[method-assign]
    with pytest.raises(ApprovalUnavailable, match="no answer"):
        await house.desk.wait(hold_id, X, NOW)
    with pytest.raises(ApprovalUnavailable, match="no answer"):
        await house.desk.ask(house.asking(Y, body=b"another"), NOW)
    house.desk.ended(X, HoldEnding.LEFT)
    house.desk.ended(Y, HoldEnding.LEFT)
    thawed.set()
    await house.desk.settle(5)
    assert [one.hold.state for one in house.register.kept.values()] == [HoldState.WITHDRAWN] * 2


def after(begun: threading.Event, work: Any) -> Any:
    """``work``, once something has happened."""

    def late(*told: Any) -> Any:
        begun.wait(20)
        return work(*told)

    return late


async def test_answer_that_got_lost_may_have_been_a_claim(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """The claim was kept, its answer never came: what the exchange claimed is given back when it ends."""
    monkeypatch.setattr(desk_module, "_RETRY_SECONDS", 0.01)
    hold_id = (await house.desk.ask(house.asking(X), NOW)).hold_id
    house.desk.ended(X, HoldEnding.TOLD)
    await house.desk.settle(5)
    house.people.resolve(BOB, hold_id, "api", "case 1 of 2026", is_yes=True)
    really = house.register.ask

    def cut(*told: Any) -> Any:
        really(*told)
        raise ApprovalUnavailable("the connection is gone")

    house.register.ask = cut  # type: ignore[method-assign]
    lost = [ExchangeId(f"lost-{number}") for number in range(3)]
    for one in lost:
        with pytest.raises(ApprovalUnavailable):
            await house.desk.ask(house.asking(one), NOW)
    assert house.register.kept[hold_id].hold.claimed_by == lost[0]
    house.register.is_down = True
    for one in lost:
        house.desk.ended(one, HoldEnding.LEFT)
    await asyncio.sleep(0.05)
    house.register.is_down = False
    await house.desk.settle(5)
    assert (house.register.kept[hold_id].hold.state, house.register.kept[hold_id].hold.waiting) == (
        HoldState.APPROVED,
        (),
    )
    house.register.ask = really  # type: ignore[method-assign]
    assert (await house.desk.ask(house.asking(ExchangeId("again")), NOW)).state is HoldState.CLAIMED


async def test_register_is_away(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody is held; and what ended is told when it is back."""
    monkeypatch.setattr(desk_module, "_RETRY_SECONDS", 0.01)
    hold_id = (await house.desk.ask(house.asking(), NOW)).hold_id
    house.register.is_down = True
    with pytest.raises(ApprovalUnavailable):
        await house.desk.ask(house.asking(Y), NOW)
    with pytest.raises(ApprovalUnavailable):
        await house.desk.wait(hold_id, X, NOW)
    house.desk.ended(Y, HoldEnding.LEFT)
    house.desk.ended(X, HoldEnding.LEFT)
    await asyncio.sleep(0.05)
    house.register.is_down = False
    await house.desk.settle(5)
    assert house.register.kept[hold_id].hold.state is HoldState.WITHDRAWN


class Others:
    """Two replicas' desks over one register. The clock of one is an hour ahead; what they count of time agrees."""

    def __init__(self, house: House) -> None:
        self.register = house.register
        self.seconds = 0.0
        self.ahead = self.desk(house, Holder("demo/gw-0/1", 7), house.now + timedelta(hours=1))
        self.right = self.desk(house, Holder("demo/gw-1/1", 7), house.now)

    def desk(self, house: House, holder: Holder, at: datetime) -> HoldDesk:
        def clock() -> datetime:
            return at + timedelta(seconds=self.seconds)

        return HoldDesk(
            house.keyring, house.register, house.bell, lambda: holder, house.url, clock, lambda: self.seconds
        )

    def beat(self, *desks: HoldDesk, for_seconds: float = 60.0) -> None:
        """They say that they live, and look who is silent, as often as they do."""
        until = self.seconds + for_seconds
        while self.seconds < until:
            self.seconds += BEAT_SECONDS
            for one in desks:
                with suppress(ApprovalUnavailable):
                    one._beat()


async def test_a_replica_whose_clock_is_ahead_takes_nobody_for_dead(house: House) -> None:
    others = Others(house)
    hold_id = (await others.right.ask(house.asking(within_seconds=7200), NOW)).hold_id
    others.beat(others.right, others.ahead)
    assert house.register.kept[hold_id].hold.state is HoldState.PENDING
    others.beat(others.ahead)  # alone
    assert house.register.kept[hold_id].hold.state is HoldState.ABANDONED


async def test_nobody_is_taken_for_dead_because_the_register_was_away(house: House) -> None:
    """Whoever finds it back first has heard nothing of the others for as long as nobody could say anything."""
    others = Others(house)
    hold_id = (await others.right.ask(house.asking(within_seconds=7200), NOW)).hold_id
    others.beat(others.right, others.ahead)
    house.register.is_down = True
    others.beat(others.right, others.ahead)
    house.register.is_down = False
    others.beat(others.ahead, for_seconds=BEAT_SECONDS)
    others.beat(others.right, others.ahead)
    assert house.register.kept[hold_id].hold.state is HoldState.PENDING


async def test_what_is_too_long_to_read_is_not_asked_about(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(desk_module, "TEXT_MAX", len(BODY) - 1)
    with pytest.raises(TooLargeToApprove):
        await house.desk.ask(house.asking(), NOW)
    assert not house.register.kept


async def test_query_and_betas_are_shown(house: House) -> None:
    asking = house.asking()
    call = replace(asking.call, query=(("beta", "true"), ("api-version", "1")), betas=("one", "two"))
    await house.desk.ask(replace(asking, call=call), NOW)
    [kept] = house.register.kept.values()
    assert (kept.hold.facts["path"], kept.hold.facts["betas"]) == ("/v1/chat?beta=true&api-version=1", ["one", "two"])


async def test_masked_otherwise_is_another_hold(house: House) -> None:
    """What people agreed to is what they read."""
    asking = house.asking(X)
    first = await house.desk.ask(asking, NOW)
    other = replace(asking, call=replace(asking.call, exchange_id=Y), forwarded=Redaction(BODY, BODY))
    assert (await house.desk.ask(other, NOW)).hold_id != first.hold_id


async def test_nobody_fills_the_log(house: House) -> None:
    """A caller who polls, somebody who gives no reason, somebody of another tenant: a leaf in a while, and how often."""
    hold_id = (await house.desk.ask(house.asking(within_seconds=3600), NOW)).hold_id
    for minutes in (0, 11):
        house.now = NOW + timedelta(minutes=minutes)
        for who, why in ((BOB, "no"), (replace(BOB, tenant="other"), "because I can")):
            for _ in range(100):
                assert house.people.read(replace(ADA, groups=()), hold_id, "api").shown
                with pytest.raises(Objection):
                    house.people.resolve(who, hold_id, "api", why, is_yes=True)
        told = [(one.kind, one.facts.get("code"), one.facts.get("repeated")) for one in house.log.entries]
        said = (None, None, None) if minutes == 0 else (199, 99, 99)
        assert told == [
            ("approval.viewed", None, said[0]),
            ("approval.refused", "justification_required", said[1]),
            ("approval.refused", "no_such_hold", said[2]),
        ]
        house.log.entries.clear()
    for _ in range(3):
        house.people.read(BOB, hold_id, "api")
    assert house.log.kinds == ["approval.viewed"] * 3, "what others read is on record each time"


# The people's desk -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("who", "why", "reason", "status"),
    [
        (ADA, "case", "own_call", 403),
        (replace(BOB, groups=("leads",)), "case", "not_an_approver", 403),
        (replace(BOB, tenant=None), "case", "no_such_hold", 404),
        (BOB, "  ", "justification_required", 422),
    ],
)
async def test_who_may_not(house: House, who: Identity, why: str, reason: str, status: int) -> None:
    """Refused, and recorded: also what they may not even know of."""
    hold_id = (await house.desk.ask(house.asking(), NOW)).hold_id
    with pytest.raises(Objection) as refused:
        house.people.resolve(who, hold_id, "api", why, is_yes=True)
    assert (refused.value.reason, refused.value.http_status) == (reason, status)
    assert refused.value.text
    assert house.register.kept[hold_id].hold.state is HoldState.PENDING
    [refused] = house.log.entries
    assert (refused.kind, refused.facts["code"], refused.identity) == ("approval.refused", reason, who)


async def test_what_is_not_there(house: House) -> None:
    for ask in (house.people.stands, lambda who, hold_id: house.people.read(who, hold_id, "api")):
        with pytest.raises(Objection, match="no_such_hold"):
            ask(BOB, HoldId("0" * 32))
    with pytest.raises(Objection, match="no_such_hold"):
        house.people.resolve(BOB, HoldId("0" * 32), "api", "case 1 of 2026", is_yes=True)
    assert house.log.kinds == []


async def test_register_goes_away_after_the_word_was_recorded(house: House) -> None:
    """Nobody knows whether it counted: the record says so."""
    hold_id = (await house.desk.ask(house.asking(), NOW)).hold_id

    def gone(*_: Any) -> Any:
        raise ApprovalUnavailable("approval_register")

    house.register.resolve = gone  # type: ignore[method-assign]
    with pytest.raises(ApprovalUnavailable):
        house.people.resolve(BOB, hold_id, "api", "case 1 of 2026", is_yes=True)
    assert house.log.kinds == ["approval.resolved", "approval.refused"]
    assert house.log.entries[-1].facts["code"] == "unavailable"


@pytest.mark.parametrize("why", ["", " \n\t", "\u200b\u2060"])
async def test_nothing_is_no_justification(house: House, why: str) -> None:
    hold_id = (await house.desk.ask(house.asking(), NOW)).hold_id
    with pytest.raises(Objection, match="justification_required"):
        house.people.resolve(BOB, hold_id, "api", why, is_yes=True)


async def test_not_recorded_is_not_said(house: House) -> None:
    hold_id = (await house.desk.ask(house.asking(), NOW)).hold_id
    house.log.is_down = True
    with pytest.raises(AuditUnavailable):
        house.people.resolve(BOB, hold_id, "api", "case 1 of 2026", is_yes=True)
    with pytest.raises(AuditUnavailable):
        house.people.read(BOB, hold_id, "api")
    assert house.register.kept[hold_id].hold.state is HoldState.PENDING


async def test_second_word_does_not_count_and_is_on_record(house: House) -> None:
    """Between the rules and the register somebody else spoke: their word stands."""
    hold_id = (await house.desk.ask(house.asking(), NOW)).hold_id
    really = house.register.resolve

    def first(*told: Any) -> Any:
        house.register.resolve = really  # type: ignore[method-assign]
        house.people.resolve(LEAD, hold_id, "api", "no, not now", is_yes=False)
        return really(*told)

    house.register.resolve = first  # type: ignore[method-assign]
    with pytest.raises(Objection, match="already_denied"):
        house.people.resolve(BOB, hold_id, "api", "yes, do it", is_yes=True)
    assert house.log.kinds == ["approval.resolved", "approval.resolved", "approval.refused"]
    assert house.register.kept[hold_id].hold.state is HoldState.DENIED


async def test_inbox_is_for_others_calls(house: House) -> None:
    await house.desk.ask(house.asking(X), NOW)
    await house.desk.ask(house.asking(Y, who=BOB), NOW)
    assert [hold.caller_ref for hold in house.people.inbox(BOB, 10)] == [house.keyring.subject_reference(ADA)]
    assert [hold.caller_ref for hold in house.people.mine(BOB, 10)] == [house.keyring.subject_reference(BOB)]
    assert len(house.people.inbox(LEAD, 10)) == 2
    assert house.people.inbox(replace(BOB, tenant="other"), 10) == []
    assert house.people.inbox(replace(BOB, groups=("analysts",)), 10) == []
    assert house.people.count_waiting_for(LEAD) == 2


async def test_ones_own_calls_hide_nobody_elses(house: House) -> None:
    """However many of them are older, a page is full as long as there is something to fill it with."""
    for number in range(5):
        await house.desk.ask(house.asking(ExchangeId(f"own-{number}"), body=f"own {number}".encode()), NOW)
    for number in range(3):
        house.now = NOW + timedelta(seconds=1 + number)
        await house.desk.ask(house.asking(ExchangeId(f"bob-{number}"), BOB, f"bob {number}".encode()), house.now)
    first = house.people.inbox(ADA, 2)
    rest = house.people.inbox(ADA, 2, first[-1].hold_id)
    assert (len(first), len(rest)) == (2, 1)
    assert {hold.caller_ref for hold in [*first, *rest]} == {house.keyring.subject_reference(BOB)}


@pytest.mark.parametrize(
    "change",
    [
        {"body": BODY + b" "},
        {"who": replace(ADA, subject="eve")},
        {"who": replace(ADA, tenant="other")},
        {"reason": "other"},
        {"count": 2},
    ],
)
async def test_another_call_is_another_hold(house: House, change: dict[str, Any]) -> None:
    first = await house.desk.ask(house.asking(X), NOW)
    assert (await house.desk.ask(house.asking(Y), NOW)).hold_id == first.hold_id
    other = await house.desk.ask(house.asking(ExchangeId("exchange-3"), **change), NOW)
    assert (other.hold_id != first.hold_id, other.binding_sha256 != first.binding_sha256) == (True, True)


async def test_another_policy_asks_again(house: House) -> None:
    asking = house.asking(X)
    first = await house.desk.ask(asking, NOW)
    house.people.resolve(BOB, first.hold_id, "api", "case 1 of 2026", is_yes=True)
    changed = replace(asking.decision, policy=PolicyVersion("r-2", "1" * 64))
    later = await house.desk.ask(replace(asking, call=replace(asking.call, exchange_id=Y), decision=changed), NOW)
    assert (later.state, later.hold_id != first.hold_id) == (HoldState.PENDING, True)
    assert (await house.desk.ask(asking, NOW)).state is HoldState.CLAIMED


# What is kept was changed ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "changed",
    [
        {"terms": 1},
        {"valid_until": NOW + timedelta(days=60)},
        {"valid_until": None},
        {"resolutions": ()},
        {"resolutions": "one of two"},
        {"resolutions": "a no"},
        {"caller_ref": "hmac-sha256:" + "f" * 64},
        {"binding_sha256": "f" * 64},
    ],
    ids=lambda one: " ".join(f"{name} {value}"[:24] for name, value in one.items()),
)
async def test_whoever_writes_to_the_database_agrees_to_nothing(house: House, changed: dict[str, Any]) -> None:
    """Two people agreed; then somebody who is not of them changed a row. (Binding or caller: as two rows swapped.)"""
    asking = house.asking(count=2)
    hold_id = (await house.desk.ask(asking, NOW)).hold_id
    for who in (BOB, LEAD):
        house.people.resolve(who, hold_id, "api", "case 1 of 2026", is_yes=True)
    kept = house.register.kept[hold_id]
    hold = kept.hold
    first, second = hold.resolutions
    told = {"one of two": (first,), "a no": (first, replace(second, is_yes=False))}
    changes = {name: told.get(value, value) if isinstance(value, str) else value for name, value in changed.items()}
    if "terms" in changes:
        changes = {"terms": replace(hold.terms, count=1), "resolutions": (first,)}
    kept.hold = replace(hold, **changes)
    claim = HoldDesk._claim  # the register finds it by its id, as one that waits does

    def claimed(self: HoldDesk, one: HoldId, exchange_id: ExchangeId) -> Hold:
        return replace(claim(self, one, exchange_id), state=HoldState.CLAIMED, claimed_by=exchange_id)

    house.desk._claim = claimed.__get__(house.desk)  # type: ignore[method-assign]
    with pytest.raises(ApprovalUnavailable, match="altered"):
        await house.desk.wait(hold_id, X, NOW)


async def test_what_is_shown_for_another_call_cannot_be_read(house: House) -> None:
    """Two holds of one caller whose bindings were swapped: people would read the one and let the other pass."""
    harmless = (await house.desk.ask(house.asking(X), NOW)).hold_id
    evil = (await house.desk.ask(house.asking(Y, body=BODY + b" "), NOW)).hold_id
    one, other = house.register.kept[harmless], house.register.kept[evil]
    bindings = one.hold.binding_sha256, other.hold.binding_sha256
    one.hold = replace(one.hold, binding_sha256=bindings[1])
    other.hold = replace(other.hold, binding_sha256=bindings[0])
    assert house.people.read(BOB, harmless, "console").shown is None
