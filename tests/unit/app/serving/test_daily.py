"""The day's work, with a clock that stands and a store in memory: what is run when, and what counts as done."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from ext_proc.app.serving.daily import APART_SECONDS, Daily, run_command
from ext_proc.app.serving.standing import Standing
from ext_proc.audit.note import sign_json
from ext_proc.audit.record import instant
from tests.fakes.configured import GATEWAY, a_config
from tests.fakes.signer import FakeSigner
from tests.fakes.store import FakeStore

if TYPE_CHECKING:
    from pathlib import Path

MIDNIGHT = datetime(2026, 11, 25, tzinfo=UTC)
DAY = timedelta(days=1)
HOUR = timedelta(hours=1)


@dataclass
class House:
    """A replica before a bucket. A command that ends well leaves in the store what the real one does."""

    folder: Path
    store: FakeStore = field(default_factory=FakeStore)
    now: datetime = MIDNIGHT
    status: dict[str, int | None] = field(default_factory=dict)
    asked: list[tuple[str, str]] = field(default_factory=list)
    signer: FakeSigner = field(default_factory=FakeSigner)

    def daily(self, **audit: Any) -> Daily:
        self.config, _ = a_config(self.folder, **audit)
        return Daily(self.config, self.store, self.signer.public_key, lambda: self.now, self.run)

    async def run(self, command: str, day: str) -> int | None:
        self.asked.append((command, day))
        status = self.status.get(command, 0)
        if status in (0, 1):
            self.leave(command, day)
        return status

    def leave(self, command: str, day: str, signer: FakeSigner | None = None, hours: int = 24) -> None:
        begin = datetime.fromisoformat(day).replace(tzinfo=UTC)
        gaps = [{"code": "bypass", "object": "x", "explanation": "y"}] if self.status.get(command) == 1 else []
        told = {"at": instant(self.now), "orphans": 0, "gaps": gaps}
        fields = {"from": instant(begin), "to": instant(begin + hours * HOUR), "day": day, **told}
        body = sign_json(fields, GATEWAY, signer or self.signer)
        self.store.write_over(f"v1/{command}/dt={day}/{len(self.asked):016x}.note", body)

    def records(self, *days: str) -> None:
        for day in days:
            self.store.write_over(f"v1/events/dt={day}/hour=12/x.jsonl.zst", b"")

    def told(self) -> dict[str, Any]:
        told: dict[str, Any] = json.loads((self.config.run_dir / "state" / "daily.json").read_text())
        return told


@pytest.fixture
def house(tmp_path: Path) -> House:
    return House(tmp_path)


async def looked(house: House, daily: Daily, now: datetime) -> list[tuple[str, str]]:
    house.now = now
    before = len(house.asked)
    await daily.look()
    return house.asked[before:]


BOTH = [("reconcile", "2026-11-24"), ("rollup", "2026-11-24")]
LATE = timedelta(seconds=APART_SECONDS)


async def test_the_day_before_is_done_once_and_not_before_the_hour(house: House):
    house.records("2026-11-24", "2026-11-25")
    daily = house.daily(daily_hour=3)
    assert await looked(house, daily, MIDNIGHT + HOUR) == []
    assert await looked(house, daily, MIDNIGHT + 3 * HOUR - timedelta(seconds=1)) == []
    assert await looked(house, daily, MIDNIGHT + 3 * HOUR + LATE) == BOTH
    for later in (4, 12, 23):
        assert await looked(house, daily, MIDNIGHT + later * HOUR) == []
    assert await looked(house, daily, MIDNIGHT + DAY + 3 * HOUR + LATE) == [
        ("reconcile", "2026-11-25"),
        ("rollup", "2026-11-25"),
    ]
    assert house.told()["failures"] == []


async def test_a_day_of_which_there_is_nothing_is_left_alone(house: House):
    assert await looked(house, house.daily(), MIDNIGHT + 4 * HOUR) == []


async def test_what_another_replica_did_is_not_done_again(house: House):
    house.records("2026-11-24")
    first, second = house.daily(replica="gw-0"), house.daily(replica="gw-1")
    assert await looked(house, first, MIDNIGHT + 4 * HOUR) == BOTH
    assert await looked(house, second, MIDNIGHT + 4 * HOUR) == []


async def test_replicas_begin_at_different_times(house: House):
    house.records("2026-11-24")
    begun = set()
    for number in range(4):
        daily = house.daily(replica=f"gw-{number}", daily_hour=2)
        await looked(house, daily, MIDNIGHT)
        begun.add(house.told()["next_at"])
    assert len(begun) == 4
    assert all("2026-11-25T02" in one for one in begun)


@pytest.mark.parametrize("of", ["an hour", "another signer", "nonsense"])
async def test_only_a_signed_statement_of_the_whole_day_counts(house: House, of: str):
    house.records("2026-11-24")
    if of == "an hour":
        house.leave("reconcile", "2026-11-24", hours=1)
    elif of == "another signer":
        house.leave("reconcile", "2026-11-24", FakeSigner("thief"))
    else:
        house.store.write_over("v1/reconcile/dt=2026-11-24/x.note", b"\xff")
    assert await looked(house, house.daily(), MIDNIGHT + 4 * HOUR) == BOTH


async def test_days_in_which_everything_was_down_are_made_up_for_in_order(house: House):
    house.records("2026-11-10", "2026-11-21", "2026-11-23", "2026-11-24")
    assert await looked(house, house.daily(), MIDNIGHT + 4 * HOUR) == [
        (command, day) for day in ("2026-11-21", "2026-11-23", "2026-11-24") for command in ("reconcile", "rollup")
    ]


async def test_roll_ups_go_forward(house: House):
    house.records("2026-11-23", "2026-11-24")
    house.leave("rollup", "2026-11-24")
    assert await looked(house, house.daily(), MIDNIGHT + 4 * HOUR) == [
        ("reconcile", "2026-11-23"),
        ("reconcile", "2026-11-24"),
    ]


async def test_orphans_are_told_and_do_not_stop_the_roll_up(house: House):
    house.records("2026-11-24")
    house.status["reconcile"] = 1
    daily = house.daily()
    assert await looked(house, daily, MIDNIGHT + 4 * HOUR) == BOTH
    [failure] = house.told()["failures"]
    assert failure == "reconcile of 2026-11-24: something does not add up; run `affidavit reconcile --day 2026-11-24`"
    assert house.told()["is_ready"] is False
    assert await looked(house, daily, MIDNIGHT + 5 * HOUR) == [], "there is a statement: it is done"


@pytest.mark.parametrize("status", [2, None, -9])
async def test_what_could_not_be_run_is_tried_again(house: House, status: int | None):
    house.records("2026-11-24")
    house.status["reconcile"] = status
    daily = house.daily()
    assert await looked(house, daily, MIDNIGHT + 4 * HOUR) == BOTH[:1]
    assert len(house.told()["failures"]) == 1
    assert await looked(house, daily, MIDNIGHT + 4 * HOUR + timedelta(minutes=1)) == []
    house.status.clear()
    assert await looked(house, daily, MIDNIGHT + 5 * HOUR) == BOTH
    assert house.told()["failures"] == []


async def test_a_store_that_does_not_answer_is_asked_again(house: House):
    house.records("2026-11-24")
    house.store.is_open = False
    daily = house.daily()
    assert await looked(house, daily, MIDNIGHT + 4 * HOUR) == []
    assert house.told()["failures"] == ["store: ConnectTimeoutError"]
    house.store.is_open = True
    assert await looked(house, daily, MIDNIGHT + 5 * HOUR) == BOTH


async def test_a_call_without_a_record_is_told_of_until_a_later_look_is_clean(house: House):
    """Also by a replica that was started since, and by the one that did not look."""
    house.records("2026-11-24", "2026-11-25")
    house.status["reconcile"] = 1
    assert await looked(house, house.daily(), MIDNIGHT + 4 * HOUR) == BOTH
    house.status.clear()
    other = house.daily(replica="gw-1")
    assert await looked(house, other, MIDNIGHT + 5 * HOUR) == []
    assert house.told()["failures"] == [
        "reconcile of 2026-11-24: something does not add up; run `affidavit reconcile --day 2026-11-24`"
    ]
    await looked(house, other, MIDNIGHT + DAY + 5 * HOUR)  # the next day is well
    assert len(house.told()["failures"]) == 1 and house.told()["is_ready"] is False
    house.asked.append(("an operator's", "look"))
    house.leave("reconcile", "2026-11-24")
    assert await looked(house, other, MIDNIGHT + DAY + 6 * HOUR) == []
    assert house.told()["failures"] == [] and house.told()["is_ready"] is True


async def test_what_does_not_add_up_is_told_before_the_last_command_ends(house: House):
    house.records("2026-11-23", "2026-11-24")
    house.status["reconcile"] = 1
    house.leave("reconcile", "2026-11-23")
    daily, during = house.daily(), []

    async def look_up(command: str, day: str) -> int:
        during.append((day, len(house.told()["failures"])))
        return 0

    daily._run = look_up
    await looked(house, daily, MIDNIGHT + 4 * HOUR)
    assert during[-1] == ("2026-11-24", 1)


async def test_it_is_not_well_where_it_never_ran_or_hangs(house: House):
    daily = house.daily()
    at = MIDNIGHT.timestamp()

    def is_well(later: timedelta, *names: str) -> bool:
        states = {"supervisor": {"at": at}, **{name: house.told() for name in names}}
        return Standing.of(house.config, states, at + later.total_seconds()).parts["daily"]

    assert is_well(timedelta(minutes=10)) and not is_well(timedelta(minutes=20))
    await looked(house, daily, MIDNIGHT)
    assert is_well(2 * HOUR, "daily") and not is_well(2 * DAY, "daily")
    house.records("2026-11-25")
    during = []

    async def hang(command: str, day: str) -> int:
        during.append([is_well(DAY + later * HOUR, "daily") for later in (4, 10, 11)])
        return 0

    daily._run = hang
    await looked(house, daily, MIDNIGHT + DAY + 4 * HOUR)
    assert during == [[True, True, False]] * 2


async def test_without_an_hour_there_is_no_work_to_be_late_with(house: House):
    house.daily(daily_hour=None)
    assert Standing.of(house.config, {}, 1e9).parts["daily"]


async def test_it_lives_until_it_is_told_to_stop(house: House):
    house.records("2026-11-24")
    house.now = MIDNIGHT + 4 * HOUR
    daily, stop = house.daily(), asyncio.Event()
    living = asyncio.create_task(daily.live(stop))
    async with asyncio.timeout(20):
        while len(house.asked) < 2:  # noqa: ASYNC110 - it rings no bell
            await asyncio.sleep(0.01)
        stop.set()
        await living


async def test_a_command_says_how_it_ended(house: House):
    house.daily()
    assert await run_command(house.folder / "nowhere.yaml", asyncio.Event(), "rollup", "2026-11-24") == 2


@pytest.mark.parametrize("hangs", [False, True])
async def test_a_command_is_broken_off(house: House, monkeypatch: pytest.MonkeyPatch, *, hangs: bool):
    """At the end, and when it takes for ever."""
    slow = house.folder / "slow"
    slow.write_text(f"#!/bin/sh\necho $$ > {house.folder}/pid\nexec sleep 60\n")
    slow.chmod(0o700)
    monkeypatch.setattr("sys.executable", str(slow))
    stop = asyncio.Event()
    limit = 2.0 if hangs else 60.0
    running = asyncio.create_task(
        run_command(house.folder / "c.yaml", stop, "rollup", "2026-11-24", limit_seconds=limit)
    )
    async with asyncio.timeout(20):
        while not (house.folder / "pid").exists() or not (house.folder / "pid").read_text().endswith("\n"):  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        if not hangs:
            stop.set()
        assert await running is None
    with pytest.raises(ProcessLookupError):
        os.kill(int((house.folder / "pid").read_text()), signal.SIGCONT)


async def test_a_command_that_cannot_be_started(house: House, monkeypatch: pytest.MonkeyPatch):
    """No memory, or no process left: the workers, which live beside it, must not end of it."""
    monkeypatch.setattr("sys.executable", str(house.folder / "nowhere"))
    assert await run_command(house.folder / "c.yaml", asyncio.Event(), "rollup", "2026-11-24") == 2


async def test_a_clock_that_was_ahead_and_was_put_right(house: House):
    """The day that it had thought of is years away: what is due today is done today."""
    house.records("2026-11-24")
    house.now = MIDNIGHT + 5 * 365 * 24 * HOUR
    daily = house.daily()
    await daily.look()
    house.asked.clear()
    house.now = MIDNIGHT + 4 * HOUR
    await daily.look()
    assert house.asked
