"""One suite for `ports.Recorder`: the fake, and the write-ahead log's writer."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from ext_proc.errors import AuditUnavailable
from tests.fakes.disk import BadDisk, Faults
from tests.fakes.log import AT, a_writer, intent, outcome
from tests.fakes.recorder import FakeRecorder

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from ext_proc.ports import Recorder

pytestmark = pytest.mark.parametrize("setting", ["fake", "writer"], indirect=True)


@dataclass(frozen=True, slots=True)
class Setting:
    recorder: Recorder
    fail: Callable[[], None]
    """From now on nothing can be made durable."""
    hold: Callable[[], Callable[[], None]]
    """From now on outcomes wait; call the answer to let them go on."""


@pytest.fixture
async def setting(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Setting]:
    if request.param == "fake":
        fake = FakeRecorder()

        def fail() -> None:
            fake.admit_error = AuditUnavailable("disk")
            fake.errors = {f"inference.{kind}": AuditUnavailable("disk") for kind in ("intent", "outcome")}

        yield Setting(fake, fail, lambda: fake.hold("inference.outcome").set)
        return
    faults = Faults()
    writer = await a_writer(tmp_path, ops=BadDisk(faults))

    def break_disk() -> None:
        faults.sync = "EIO"

    def hold() -> Callable[[], None]:
        faults.slow.clear()
        return faults.slow.set

    yield Setting(writer, break_disk, hold)
    faults.slow.set()
    await writer.close(AT)


async def test_receipts_name_one_log_and_growing_places(setting: Setting):
    made = [await setting.recorder.record(entry, AT) for n in range(3) for entry in (intent(n), outcome(n))]
    assert len({receipt.origin for receipt in made}) == 1
    places = [receipt.sequence for receipt in made]
    assert places == list(range(places[0], places[0] + 6))
    assert all(len(receipt.leaf_hash) == 64 for receipt in made)
    assert len({receipt.leaf_hash for receipt in made}) == 6


async def test_it_may_be_called_concurrently(setting: Setting):
    made = await asyncio.gather(*(setting.recorder.record(intent(n), AT) for n in range(50)))
    assert len({receipt.sequence for receipt in made}) == 50


async def test_record_returns_only_when_it_is_done(setting: Setting):
    release = setting.hold()
    waiting = asyncio.ensure_future(setting.recorder.record(outcome(1), AT))
    await asyncio.sleep(0.1)
    assert not waiting.done()
    release()
    async with asyncio.timeout(20):
        await waiting


async def test_a_caller_that_gives_up_spoils_nothing(setting: Setting):
    release = setting.hold()
    gone = asyncio.ensure_future(setting.recorder.record(outcome(1), AT))
    await asyncio.sleep(0.05)
    gone.cancel()
    with pytest.raises(asyncio.CancelledError):
        await gone
    release()
    async with asyncio.timeout(20):
        first = await setting.recorder.record(outcome(2), AT)
        second = await setting.recorder.record(outcome(3), AT)
    assert second.sequence == first.sequence + 1


async def test_admission_reserves_nothing(setting: Setting):
    for _ in range(1000):
        setting.recorder.admit(10_000)


async def test_what_is_over_may_be_said_at_any_time_and_takes_no_place(setting: Setting):
    first = await setting.recorder.record(intent(1), AT)
    setting.recorder.ended(intent(1).exchange_id)
    await setting.recorder.record(outcome(1), AT)
    for number in (1, 1, 2):
        setting.recorder.ended(outcome(number).exchange_id)
    last = await setting.recorder.record(intent(3), AT)
    assert last.sequence == first.sequence + 2


async def test_a_recorder_that_cannot_says_so(setting: Setting):
    await setting.recorder.record(intent(1), AT)
    setting.fail()
    for entry in (intent(2), outcome(1)):
        with pytest.raises(AuditUnavailable):
            await setting.recorder.record(entry, AT)
    with pytest.raises(AuditUnavailable):
        setting.recorder.admit(1)
    setting.recorder.ended(intent(1).exchange_id)
