"""One suite for `approval.channels.outbox`: SQLite, and a real PostgreSQL."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from ext_proc.approval.channels import outbox_sql
from ext_proc.approval.channels.message import Event
from ext_proc.approval.channels.outbox import GRACE_SECONDS, Audience
from ext_proc.approval.channels.outbox_sql import SqlOutbox
from ext_proc.approval.register_sql import SqlRegister
from ext_proc.errors import ApprovalUnavailable
from ext_proc.model import HoldEnding, HoldState
from tests.fakes.asked_holds import Asked, Clock
from tests.fakes.holds import EVE, TERMS, TWO, exchange

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ext_proc.approval.channels.outbox import Lease
    from ext_proc.approval.hold import Hold
    from tests.contract.databases import Database

ALL = Audience("desk")
PENDING, RESOLVED = Event.PENDING, Event.RESOLVED
MINUTE = timedelta(minutes=1)


@dataclass
class House:
    outbox: SqlOutbox
    other: SqlOutbox
    asked: Asked
    clock: Clock
    database: Database

    def note(self, *audiences: Audience) -> int:
        return self.outbox.note(audiences or (ALL,), self.clock())

    def lease(self, event: Event = PENDING, limit: int = 10, channel: str = "desk", *, other: bool = False) -> Lease:
        outbox = self.other if other else self.outbox
        return outbox.lease(channel, event, limit, self.clock(), self.clock() + MINUTE)

    def told(self, event: Event = PENDING, reference: str | None = None) -> list[tuple[str, str]]:
        """Tell all that is due: holds and states."""
        lease = self.lease(event)
        self.outbox.sent(lease, f"msg {self.clock()} {event}", reference, self.clock())
        return [(due.hold.hold_id, due.state.value) for due in lease.due]

    def states(self, hold: Hold) -> list[str]:
        self.note()
        return [state for hold_id, state in (*self.told(PENDING), *self.told(RESOLVED)) if hold_id == hold.hold_id]


@pytest.fixture(params=["sqlite", "postgresql"])
def house(request: pytest.FixtureRequest, open_database: Callable[[str], Database]) -> Iterator[House]:
    database = open_database(request.param)
    clock = Clock()
    register, outbox, other = SqlRegister.from_url(database.url), *(SqlOutbox.from_url(database.url) for _ in "ab")
    yield House(outbox, other, Asked(register, clock), clock, database)
    for one in (register, outbox, other):
        one.close()


def test_each_hold_is_told_once(house):
    first, second = house.asked.hold(), house.asked.hold()
    assert house.note() == 2 and house.note() == 0
    assert house.outbox.count_due("desk", PENDING, house.clock()) == 2
    assert {hold_id for hold_id, _ in house.told()} == {first.hold_id, second.hold_id}
    house.clock.move(3600)
    assert not house.lease().due
    assert house.outbox.count_due("desk", PENDING, house.clock()) == 0


def test_how_it_ended(house):
    for end, state in ((house.asked.approve, "approved"), (house.asked.deny, "denied")):
        hold = house.asked.hold()
        assert house.states(hold) == ["pending"]
        end(hold.hold_id)
        assert house.states(hold) == [state]
        house.clock.move(3600)
        assert house.states(hold) == []


def test_nobody_answered(house):
    hold = house.asked.hold()
    assert house.states(hold) == ["pending"]
    house.clock.move(599)
    assert house.states(hold) == []
    house.clock.move(1)  # nobody wrote that down
    assert house.states(hold) == ["expired"]
    house.asked.register.expire(house.clock.move(1))
    assert house.states(hold) == []


def test_approved_and_not_used_was_approved_nevertheless(house):
    hold = house.asked.hold()
    house.states(hold)
    house.asked.approve(hold.hold_id)
    house.clock.move(3600)
    house.asked.register.expire(house.clock())
    assert house.states(hold) == ["approved"]


def test_used_is_approved(house):
    hold = house.asked.hold()
    house.states(hold)
    house.asked.approve(hold.hold_id)
    house.asked.register.claim(hold.hold_id, exchange(1), None, house.clock())
    house.asked.register.ended(hold.hold_id, exchange(1), HoldEnding.PASSED, house.clock())
    assert house.states(hold) == ["approved"]


def test_one_yes_of_two_is_no_end(house):
    hold = house.asked.hold(terms=TWO)
    house.states(hold)
    house.asked.approve(hold.hold_id)
    assert house.states(hold) == []
    house.asked.approve(hold.hold_id, EVE)
    assert house.states(hold) == ["approved"]


def test_whose_caller_left_and_came_back_nobody_is_told_of(house):
    hold = house.asked.hold()
    assert house.states(hold) == ["pending"]
    for number in (51, 52, 53):
        waits = exchange(number - 1) if number > 51 else exchange(1)
        house.asked.register.ended(hold.hold_id, waits, HoldEnding.LEFT, house.clock())
        assert house.states(hold) == []  # noted, and not due yet
        house.asked.again(hold, number)
        house.clock.move(GRACE_SECONDS / 10)
        assert house.states(hold) == []
        house.clock.move(2 * GRACE_SECONDS)
        assert house.states(hold) == []
    house.asked.approve(hold.hold_id)
    assert house.states(hold) == ["approved"]


def test_withdrawn_is_told_and_so_is_that_it_waits_again(house):
    hold = house.asked.hold()
    house.states(hold)
    house.asked.register.ended(hold.hold_id, exchange(1), HoldEnding.LEFT, house.clock())
    house.note()
    house.clock.move(GRACE_SECONDS)
    assert house.states(hold) == ["withdrawn"]
    house.asked.again(hold, 60)
    assert house.states(hold) == ["pending"]
    house.asked.deny(hold.hold_id)
    assert house.states(hold) == ["denied"]


def test_what_was_over_before_anybody_looked(house):
    hold = house.asked.hold()
    house.asked.deny(hold.hold_id)
    assert house.note() == 0


def test_for_whom(house):
    mine = house.asked.hold(tenant="acme")
    theirs = house.asked.hold(tenant="other")
    officers = house.asked.hold(terms=replace(TERMS, groups=("officers",)))
    audiences = (
        Audience("acme", tenants=frozenset({"acme"})),
        Audience("none", tenants=frozenset({None})),
        Audience("officers", groups=frozenset({"officers", "x"})),
        Audience("ends", frozenset({RESOLVED})),
    )
    house.note(*audiences)
    house.asked.deny(theirs.hold_id)
    house.note(*audiences)

    def of(channel: str, event: Event) -> set[str]:
        return {due.hold.hold_id for due in house.lease(event, channel=channel).due}

    assert of("acme", PENDING) == {mine.hold_id}
    assert of("none", PENDING) == of("officers", PENDING) == {officers.hold_id}
    assert of("ends", PENDING) == set() and of("ends", RESOLVED) == {theirs.hold_id}
    assert of("acme", RESOLVED) == set()


def test_two_consoles_tell_it_once(house):
    for _ in range(20):
        house.asked.hold()
    with ThreadPoolExecutor(8) as threads:
        noted = list(threads.map(lambda n: (house.outbox, house.other)[n % 2].note((ALL,), house.clock()), range(8)))
        leases = list(threads.map(lambda n: house.lease(limit=3, other=bool(n % 2)), range(16)))
    taken = [due.hold.hold_id for lease in leases for due in lease.due]
    assert sum(noted) == 20 and len(taken) == len(set(taken)) == 20


def test_what_a_dead_console_had_taken_is_told_by_another(house):
    hold = house.asked.hold()
    house.note()
    [due] = house.lease().due
    assert due.tries == 1 and not house.lease(other=True).due
    house.clock.move(60)
    [again] = house.lease(other=True).due
    assert again.hold.hold_id == hold.hold_id and again.tries == 2 and again.made_at == due.made_at


def test_who_was_too_slow_says_nothing_any_more(house):
    house.asked.hold()
    house.note()
    slow = house.lease()
    house.clock.move(60)
    fast = house.lease(other=True)
    house.outbox.sent(slow, "msg-slow", None, house.clock())
    assert house.outbox.count_sent("desk", house.clock() - MINUTE) == 0
    house.other.sent(fast, "msg-fast", None, house.clock())
    assert house.outbox.count_sent("desk", house.clock() - MINUTE) == 1


def test_tried_again_later(house):
    hold = house.asked.hold()
    house.note()
    house.outbox.failed(house.lease(), house.clock() + 2 * MINUTE)
    assert not house.lease().due
    house.clock.move(120)
    assert [due.hold.hold_id for due in house.lease().due] == [hold.hold_id]


def test_one_thing_after_the_other(house):
    """How it ended is not told before that it waits, but what is dropped keeps nothing back."""
    hold = house.asked.hold()
    house.note()
    house.outbox.failed(house.lease(), house.clock() + MINUTE)
    house.asked.deny(hold.hold_id)
    house.note()
    assert not house.lease(RESOLVED).due
    house.clock.move(60)
    first = house.lease()
    assert first.due[0].hold.state is HoldState.DENIED and first.due[0].state is HoldState.PENDING
    assert not house.lease(RESOLVED).due
    house.outbox.dropped(first, "moot")
    assert [due.state for due in house.lease(RESOLVED).due] == [HoldState.DENIED]


def test_what_the_channel_called_it(house):
    hold = house.asked.hold()
    house.note()
    house.told(reference="C1:17.5")
    house.asked.deny(hold.hold_id)
    house.note()
    assert [due.reference for due in house.lease(RESOLVED).due] == ["C1:17.5"]


def test_messages_are_counted_not_holds(house):
    for _ in range(3):
        house.asked.hold()
    house.note()
    house.told()
    assert house.outbox.count_sent("desk", house.clock() - MINUTE) == 1
    house.clock.move(60)
    assert house.outbox.count_sent("desk", house.clock() - MINUTE) == 0


def test_forgotten_with_its_hold(house):
    hold = house.asked.hold()
    house.note()
    assert house.outbox.sweep(house.clock.move(7200)) == 0
    assert house.asked.register.sweep(house.clock()) == 1
    assert not house.lease().due  # there is nothing to say of it
    assert house.outbox.sweep(house.clock()) == 1
    assert hold.hold_id


def test_a_message_counts_once(house):
    now = house.clock()
    with ThreadPoolExecutor(8) as threads:
        boxes = [house.outbox, house.other] * 8
        first = list(threads.map(lambda box: box.begin("webhook:a", "msg_1", now, now + MINUTE), boxes))
    assert sum(first) == 1
    assert house.outbox.begin("webhook:b", "msg_1", now, now + MINUTE)
    house.outbox.done("webhook:a", "msg_1", now + 5 * MINUTE)
    house.other.undone("webhook:a", "msg_1")
    assert not house.other.begin("webhook:a", "msg_1", now + 4 * MINUTE, now + 9 * MINUTE)
    assert house.other.begin("webhook:a", "msg_1", now + 5 * MINUTE, now + 9 * MINUTE)


def test_what_could_not_be_acted_upon_counts_when_it_comes_again(house):
    now = house.clock()
    assert house.outbox.begin("webhook:a", "msg_1", now, now + MINUTE)
    house.outbox.undone("webhook:a", "msg_1")
    assert house.other.begin("webhook:a", "msg_1", now, now + MINUTE)
    assert not house.other.begin("webhook:a", "msg_1", now + MINUTE / 2, now + 2 * MINUTE)
    assert house.other.begin("webhook:a", "msg_1", now + MINUTE, now + 2 * MINUTE)  # whoever began has died


def test_the_database_is_away(house):
    house.asked.hold()
    house.note()
    lease = house.lease()
    house.database.break_()
    try:
        for ask in (
            house.note,
            house.lease,
            lambda: house.outbox.count_due("desk", PENDING, house.clock()),
            lambda: house.outbox.count_sent("desk", house.clock()),
            lambda: house.outbox.sent(lease, "msg", None, house.clock()),
            lambda: house.outbox.sweep(house.clock()),
            lambda: house.outbox.begin("webhook:a", "msg_1", house.clock(), house.clock()),
            lambda: house.outbox.done("webhook:a", "msg_1", house.clock()),
            lambda: house.outbox.undone("webhook:a", "msg_1"),
        ):
            with pytest.raises(ApprovalUnavailable):
                ask()
    finally:
        house.database.mend()
    house.outbox.sent(lease, "msg", None, house.clock())
    assert not house.lease().due


def test_much_is_noted_in_parts(house, monkeypatch):
    """Nobody waits for a long transaction."""
    monkeypatch.setattr(outbox_sql, "_NOTED_AT_ONCE", 10)
    found = {house.asked.hold().hold_id for _ in range(25)}
    assert [house.note() for _ in range(4)] == [10, 10, 5, 0]
    assert house.outbox.count_due("desk", PENDING, house.clock()) == 25
    assert {hold_id for _ in range(3) for hold_id, _ in house.told()} == found
