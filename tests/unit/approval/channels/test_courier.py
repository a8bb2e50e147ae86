"""The courier over the real outbox: rates, digests, back-off, what is over, and consoles that die or are two."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest

from ext_proc.approval.channels import courier as courier_module
from ext_proc.approval.channels.channel import Undelivered
from ext_proc.approval.channels.courier import Courier, Post, Teller, back_off
from ext_proc.approval.channels.message import Event, Message
from ext_proc.approval.channels.outbox import Audience
from ext_proc.approval.channels.outbox_sql import SqlOutbox
from ext_proc.errors import ApprovalUnavailable, AuditUnavailable
from tests.fakes.holds import WITHIN

if TYPE_CHECKING:
    from tests.unit.approval.channels.conftest import Room

DAY = 24 * 3600
BOTH = frozenset({Event.PENDING, Event.RESOLVED})


@dataclass
class FakeChannel:
    """`channel.Channel`: keeps what it is told. ``error``: it fails so; of ``bad`` holds always."""

    name: str = "desk"
    kind: str = "webhook"
    digests: frozenset[Event] = BOTH
    updates: bool = False
    got: list[Message] = field(default_factory=list)
    error: Undelivered | None = None
    bad: set[str] = field(default_factory=set)
    tries: int = 0

    async def send(self, message: Message) -> str | None:
        self.tries += 1
        if self.error is not None:
            raise self.error
        if any(one.hold_id in self.bad for one in message.told):
            raise Undelivered("status_400")
        self.got.append(message)
        return f"ref-{len(self.got)}" if self.updates else None


class FakeBell:
    """Rings when it is told to."""

    def __init__(self) -> None:
        self.rung = asyncio.Event()

    async def any_change(self, seen: int = 0) -> int:
        await self.rung.wait()
        self.rung.clear()
        return seen + 1


class House:
    def __init__(self, room: Room, channel: FakeChannel | None = None, **post: Any) -> None:
        self.room = room
        self.channel = channel or FakeChannel()
        self.shown: list[tuple[str, str]] = []
        self.post = Post(self.channel, Audience(self.channel.name), **{"is_for_people": False, **post})
        self.bell = FakeBell()
        self.courier = self.another()

    def another(self, outbox: SqlOutbox | None = None, channel: FakeChannel | None = None) -> Courier:
        post = self.post if channel is None else Post(channel, self.post.audience, self.post.per_minute, False)
        teller = Teller(lambda hold_id: f"https://desk/{hold_id}", self.text_of)
        return Courier(outbox or self.room.outbox, [post], teller, self.bell, self.room.clock)

    def text_of(self, hold_id: str, kind: str) -> str | None:
        self.shown.append((hold_id, kind))
        return "masked"

    async def round(self) -> bool:
        await self.courier.note()
        return await self.courier.tell(self.post)

    def said(self) -> list[tuple[str, list[str]]]:
        return [(message.event.value, [one.state.value for one in message.told]) for message in self.channel.got]


async def test_waits_and_ended(room):
    house = House(room)
    hold = room.asked.hold()
    assert await house.round() and await house.round()
    room.asked.deny(hold.hold_id)
    assert await house.round() and await house.round()
    assert house.said() == [("hold.pending", ["pending"]), ("hold.resolved", ["denied"])]
    first, second = house.channel.got
    assert first.message_id == f"msg_desk_{hold.hold_id}_1" and second.message_id == f"msg_desk_{hold.hold_id}_2"
    assert first.told[0].url == f"https://desk/{hold.hold_id}" and first.told[0].masked is None and not house.shown


async def test_the_text_only_where_it_may_be_said_and_only_of_what_waits(room):
    house = House(room, has_text=True)
    hold = room.asked.hold()
    await house.round()
    room.asked.deny(hold.hold_id)
    await house.round()
    assert [message.told[0].masked for message in house.channel.got] == ["masked", None]
    assert house.shown == [(hold.hold_id, "webhook")]


async def test_what_cannot_be_put_on_record_is_not_shown(room, monkeypatch):
    house = House(room, has_text=True)
    room.asked.hold()

    def no(*_: str) -> str:
        raise AuditUnavailable("full")

    monkeypatch.setattr(house, "text_of", no)
    house.courier = house.another()
    with pytest.raises(AuditUnavailable):
        await house.round()
    assert not house.channel.tries


async def test_no_more_than_it_may_be_told(room):
    """37 calls, 10 messages a minute: five alone, the others in one digest, and none is forgotten or told twice."""
    house = House(room, per_minute=10)
    holds = {room.asked.hold().hold_id for _ in range(37)}
    await house.round()
    assert [len(message.told) for message in house.channel.got] == [1, 1, 1, 1, 1, 32]
    assert {one.hold_id for message in house.channel.got for one in message.told} == holds
    assert len({message.message_id for message in house.channel.got}) == 6


async def test_a_flood(room, monkeypatch):
    """However many wait, no more messages go out a minute than may, whatever the number of consoles and restarts."""
    monkeypatch.setattr(courier_module, "DIGEST_MAX", 20)
    house = House(room, per_minute=4)
    for number in range(150):
        room.asked.hold(caller_ref=f"hmac-sha256:{number:064}")
    rounds = 0
    while room.outbox.count_due("desk", Event.PENDING, room.clock()) or not rounds:
        before = len(house.channel.got)
        house.courier = house.another()
        await house.round()
        await house.round()
        assert len(house.channel.got) - before <= 4
        room.clock.move(60)
        rounds += 1
    told = [one.hold_id for message in house.channel.got for one in message.told]
    assert len(told) == len(set(told)) == 150
    assert rounds <= 4


async def test_what_can_be_told_one_by_one_only_waits_for_its_turn(room):
    house = House(room, FakeChannel(digests=frozenset({Event.PENDING}), updates=True), per_minute=3)
    holds = [room.asked.hold() for _ in range(3)]
    await house.round()
    for hold in holds:
        room.asked.deny(hold.hold_id)
    await house.round()
    assert len(house.channel.got) == 3
    room.clock.move(60)
    await house.round()
    assert [message.reference for message in house.channel.got[3:]] == ["ref-1", "ref-2", "ref-3"]
    assert all(len(message.told) == 1 for message in house.channel.got)


async def test_people_are_not_asked_about_what_is_over(room):
    house = House(room, FakeChannel(updates=True), is_for_people=True)
    hold = room.asked.hold()
    await house.courier.note()
    room.asked.deny(hold.hold_id)
    await house.round()
    assert not house.channel.tries  # and there is no message to be changed
    program = House(room, FakeChannel("program"))
    other = room.asked.hold()
    await program.courier.note()
    room.asked.deny(other.hold_id)
    await program.round()
    assert program.said() == [("hold.pending", ["pending"]), ("hold.resolved", ["denied"])]


async def test_tried_again_under_the_same_id(room):
    house = House(room)
    hold = room.asked.hold()
    house.channel.error = Undelivered("status_503", after_seconds=20)
    assert not await house.round()
    house.channel.error = None
    room.clock.move(19)
    assert await house.round()
    assert not house.channel.got
    room.clock.move(1)
    await house.round()
    assert [message.message_id for message in house.channel.got] == [f"msg_desk_{hold.hold_id}_1"]


async def test_nobody_can_make_us_wait_for_ever(room):
    house = House(room)
    room.asked.hold()
    house.channel.error = Undelivered("status_503", after_seconds=999_999)
    await house.round()
    house.channel.error = None
    room.clock.move(900)
    await house.round()
    assert house.channel.got


def test_later_and_later():
    assert [back_off(tries) for tries in (1, 2, 3, 9, 5000)] == [5, 10, 20, 900, 900]


async def test_one_that_never_works_keeps_nobody_back_and_is_given_up_after_a_day(room, caplog):
    house = House(room)
    bad = room.asked.hold()
    house.channel.bad = {bad.hold_id}
    good = room.asked.hold()
    while not house.channel.got:
        await house.round()
    assert [message.told[0].hold_id for message in house.channel.got] == [good.hold_id]
    tries, passed = house.channel.tries, 0
    while passed < DAY + 1000:
        await house.round()
        room.clock.move(600)
        passed += 600
    assert house.channel.tries - tries > 10
    room.clock.move(3600)
    assert room.outbox.count_due("desk", Event.PENDING, room.clock()) == 0


async def test_what_is_final_is_not_tried_again(room):
    house = House(room)
    room.asked.hold()
    house.channel.error = Undelivered("status_410", is_final=True)
    assert await house.round()
    room.clock.move(3600 - 1)
    house.channel.error = None
    await house.courier.tell(house.post)
    assert house.channel.tries == 1


async def test_two_consoles_tell_it_once(room):
    house = House(room, per_minute=600)
    second = SqlOutbox.from_url(room.database.url)
    try:
        for _ in range(15):
            room.asked.hold()
        other = house.another(second)
        await asyncio.gather(house.courier.note(), other.note())
        await asyncio.gather(*(one.tell(house.post) for one in (house.courier, other) * 2))
        told = [one.hold_id for message in house.channel.got for one in message.told]
        assert len(told) == len(set(told)) == 15
    finally:
        second.close()


async def test_who_dies_between_telling_and_noting_it_is_followed_by_another(room, monkeypatch):
    """At least once: the same message, under the same id."""
    house = House(room)
    room.asked.hold()

    def died(*_: Any) -> None:
        raise ApprovalUnavailable("gone")

    with monkeypatch.context() as patch:
        patch.setattr(room.outbox, "sent", died)
        with pytest.raises(ApprovalUnavailable):
            await house.round()
    await house.round()
    assert len(house.channel.got) == 1
    room.clock.move(60)
    await house.round()
    assert len(house.channel.got) == 2 and len({message.message_id for message in house.channel.got}) == 1


async def test_it_runs_by_itself_and_bears_that_the_database_is_away(room, monkeypatch):
    for name, seconds in {
        "_NOTE_SECONDS": 0.05,
        "_SPACING_SECONDS": 0.01,
        "_LOOK_SECONDS": 0.05,
        "_REST_SECONDS": 0.05,
    }.items():
        monkeypatch.setattr(courier_module, name, seconds)
    house = House(room)
    room.asked.hold()
    running = asyncio.get_running_loop().create_task(house.courier.run_forever())

    async def until(count: int) -> None:
        async with asyncio.timeout(30):
            while len(house.channel.got) < count:  # noqa: ASYNC110 - nobody tells a fake's reader
                await asyncio.sleep(0.02)

    try:
        await until(1)
        room.database.break_()
        await asyncio.sleep(0.3)
        room.database.mend()
        room.asked.hold()
        house.bell.rung.set()
        await until(2)
        assert not running.done()
    finally:
        running.cancel()
        with suppress(asyncio.CancelledError):
            await running
    assert WITHIN
