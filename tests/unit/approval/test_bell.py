"""The bell, on a register in memory: who is woken, when, and what it costs. None of it depends on how fast things are:
what must come comes before the test's time is up, and what must not come is asked for after what came later.
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager, suppress
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from structlog.testing import capture_logs

from ext_proc.approval import bell as bells
from ext_proc.approval.bell import Bell
from ext_proc.model import HoldEnding, HoldId, HoldState
from tests.fakes.holds import HERE, NOW, TWO, WITHIN, X, a_hold, exchange, no, yes
from tests.fakes.register import FakeRegister

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    import pytest

PENDING = HoldState.PENDING
LONG = timedelta(hours=1)


def _now() -> datetime:
    return NOW


@asynccontextmanager
async def ringing(register: FakeRegister, clock: Callable[[], datetime] = _now) -> AsyncIterator[Bell]:
    bell = Bell(register.watch, register, clock)
    try:
        async with asyncio.TaskGroup() as tasks:
            running = tasks.create_task(bell.run_forever())
            yield bell
            running.cancel()
    finally:
        register.watch.close()


async def until(true: Callable[[], bool]) -> None:
    while not true():  # noqa: ASYNC110 (nothing tells of it)
        await asyncio.sleep(0.01)


async def test_only_those_whose_hold_changed_wake() -> None:
    register = FakeRegister()
    mine, other = (register.ask(a_hold(what), X, HERE, NOW) for what in "ab")
    async with ringing(register) as bell, asyncio.TaskGroup() as tasks:
        woken = [tasks.create_task(bell.changed(mine.hold_id, PENDING, NOW + LONG)) for _ in range(3)]
        asleep = tasks.create_task(bell.changed(other.hold_id, PENDING, NOW + LONG))
        await until(lambda: register.asked_states > 0)
        register.resolve(mine.hold_id, no(), b"", NOW)
        await asyncio.gather(*woken)
        assert not asleep.done()
        register.ended(other.hold_id, X, HoldEnding.LEFT, NOW)
        await asleep


async def test_what_changed_before_somebody_waits_is_not_missed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bells, "LOOK_SECONDS", 3600)
    register = FakeRegister()
    hold = register.ask(a_hold(), X, HERE, NOW)
    register.watch.wait(0)
    async with ringing(register) as bell:
        await bell.changed(HoldId("0" * 32), PENDING, NOW + LONG)  # gone
        register.resolve(hold.hold_id, yes(), b"", NOW)
        register.watch.wait(0)  # nothing will ring
        await bell.changed(hold.hold_id, PENDING, NOW + LONG)
        await bell.changed(hold.hold_id, PENDING, NOW + LONG)  # and again


async def test_a_yes_that_is_not_enough_wakes_nobody() -> None:
    register = FakeRegister()
    hold = register.ask(a_hold(terms=TWO), X, HERE, NOW)
    async with ringing(register) as bell, asyncio.TaskGroup() as tasks:
        waits = tasks.create_task(bell.changed(hold.hold_id, PENDING, NOW + LONG))
        register.resolve(hold.hold_id, yes(), b"", NOW)
        seen = await bell.any_change()
        looks = register.asked_states
        await until(lambda: register.asked_states > looks)
        assert not waits.done() and seen == 1
        register.resolve(hold.hold_id, no("another"), b"", NOW)
        await waits


async def test_nobody_waits_longer_than_they_said() -> None:
    register = FakeRegister()
    hold = register.ask(a_hold(), X, HERE, NOW)
    bell = Bell(register.watch, register, _now)  # not even running
    await bell.changed(hold.hold_id, PENDING, NOW + timedelta(milliseconds=30))
    await bell.changed(hold.hold_id, PENDING, NOW - LONG)
    assert bell._waiters == {} and not bell._fresh


async def test_time_alone_ends_a_hold() -> None:
    """Nothing rings: the look of each second finds it."""
    register, now = FakeRegister(), NOW
    hold = register.ask(a_hold(), X, HERE, NOW)
    register.watch.wait(0)
    async with ringing(register, lambda: now) as bell, asyncio.TaskGroup() as tasks:
        waits = tasks.create_task(bell.changed(hold.hold_id, PENDING, NOW + LONG))
        await until(lambda: register.asked_states > 0)
        now = NOW + WITHIN
        await waits


async def test_a_thousand_that_wait_cost_one_question_a_change() -> None:
    register = FakeRegister()
    holds = [register.ask(a_hold(what), X, HERE, NOW) for what in "abcdefghij"]
    async with ringing(register) as bell, asyncio.TaskGroup() as tasks:
        waits = [tasks.create_task(bell.changed(holds[n % 10].hold_id, PENDING, NOW + LONG)) for n in range(1000)]
        await until(lambda: register.asked_states > 0)
        before = register.asked_states
        for hold in holds:
            register.resolve(hold.hold_id, no(), b"", NOW)
        await asyncio.gather(*waits)
        assert register.asked_states - before < 50  # one look when they changed, and those of each second


async def test_the_database_is_away_and_comes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bells, "LOOK_SECONDS", 0.02)
    register = FakeRegister()
    hold = register.ask(a_hold(), X, HERE, NOW)
    with capture_logs() as lines:
        async with ringing(register) as bell, asyncio.TaskGroup() as tasks:
            waits = tasks.create_task(bell.changed(hold.hold_id, PENDING, NOW + LONG))
            await until(lambda: register.asked_states > 0)
            register.is_down = True
            await until(lambda: len(lines) == 2)
            await bell.changed(hold.hold_id, PENDING, NOW + timedelta(milliseconds=200))
            assert not waits.done() and len(lines) == 2  # said once
            register.is_down = False
            await until(lambda: len(lines) == 4)
            register.resolve(hold.hold_id, yes(), b"", NOW)
            await waits
    assert [line["log_level"] for line in lines] == ["warning", "warning", "info", "info"]


async def test_an_inbox_hears_of_every_change_but_not_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    register = FakeRegister()
    monkeypatch.setattr(bells, "_TOLD_SECONDS", 3600)
    async with ringing(register) as bell, asyncio.TaskGroup() as tasks:
        register.ask(a_hold("a"), X, HERE, NOW)
        number = await bell.any_change()
        again = tasks.create_task(bell.any_change(number))
        mine = register.ask(a_hold("b"), X, HERE, NOW)
        for n in range(50):
            register.ask(a_hold(str(n)), exchange(n), HERE, NOW)
        register.resolve(mine.hold_id, no(), b"", NOW)
        await bell.changed(mine.hold_id, PENDING, NOW + LONG)  # heard
        assert not again.done()  # its time has not come
        again.cancel()
        with suppress(asyncio.CancelledError):
            await again
    assert number == 1 and bell._inboxes == 0


async def test_an_inbox_misses_nothing_between_two_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bells, "_TOLD_SECONDS", 0)
    register = FakeRegister()
    async with ringing(register) as bell:
        number = 0
        for what in "abc":
            register.ask(a_hold(what), X, HERE, NOW)
            later = await bell.any_change(number)
            assert later > number
            number = later


async def test_who_leaves_is_forgotten() -> None:
    register = FakeRegister()
    hold = register.ask(a_hold(), X, HERE, NOW)
    async with ringing(register) as bell:
        async with asyncio.TaskGroup() as tasks:
            waits = [tasks.create_task(bell.changed(hold.hold_id, PENDING, NOW + LONG)) for _ in range(2)]
            await until(lambda: len(bell._waiters.get(hold.hold_id, ())) == 2)
            waits[0].cancel()
            await until(lambda: len(bell._waiters.get(hold.hold_id, ())) == 1)
            register.ended(hold.hold_id, X, HoldEnding.LEFT, NOW)
        assert bell._waiters == {}
