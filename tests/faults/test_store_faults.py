"""The store x each way to fail: nothing is freed before it is proven to be there, and nothing is shipped twice."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from ext_proc.audit.shipper import Shipper
from tests.fakes.log import AT, a_writer, in_store, intent, outcome
from tests.fakes.store import RETENTION, BadStore, FakeStore
from tests.unit.audit.test_shipper import clock


@dataclass(frozen=True, slots=True)
class Expected:
    """After one round with the fault, and after the fault has passed."""

    failure: str = ""
    is_freed_at_once: bool = False
    is_quarantined: bool = False
    mends_itself: bool = True


TABLE = {
    "refused": Expected("store_refused"),
    "slow": Expected("store_unavailable"),
    "lost": Expected("store_unavailable"),
    "persisted but error": Expected("store_unavailable"),
    "exists": Expected("store_unavailable"),
    "lying": Expected("store_unavailable"),
    "wrong bytes": Expected(is_quarantined=True, mends_itself=False),
    "no lock": Expected("not_locked", mends_itself=False),
    "governance": Expected("not_locked", mends_itself=False),
    "short lock": Expected("locked_too_short", mends_itself=False),
}


async def a_dead_log(tmp_path):
    """Three segments: the fault strikes the second."""
    writer = await a_writer(tmp_path)
    for n in range(5):
        await writer.record(intent(n, b"x" * 20_000), AT)
        await writer.record(outcome(n, b"y" * 5_000), AT)
    await writer.close(AT)
    folder = tmp_path / "evidence" / "e1"
    paths = sorted(folder.glob("*.sealed"))
    assert len(paths) == 3
    return paths


@pytest.mark.parametrize("kind", ["events", "payload"])
@pytest.mark.parametrize("fault", TABLE)
async def test_store_fault(tmp_path, fault, kind):
    expected = TABLE[fault]
    paths = await a_dead_log(tmp_path)
    struck = paths[1]
    content = struck.read_bytes()
    first = int(struck.stem)
    place = "dt=2026-11-24/hour=12/replica=gw-0/epoch=e1"
    store = BadStore(fault=fault, strikes=f"v1/{kind}/{place}/{first:016d}-")
    shipper = Shipper(tmp_path / "evidence", store, RETENTION, clock)
    report = shipper.run_once()

    kept = struck.with_suffix(".quarantine") if expected.is_quarantined else struck
    assert kept.read_bytes() == content, "not freed, not changed"
    assert [one.partition(":")[0] for one in report.failures] == [expected.failure] * bool(expected.failure)
    assert len(report.quarantined) == expected.is_quarantined
    assert not paths[0].exists()
    if kind == "payload":
        assert not [key for key in store.objects if f"v1/events/{place}/{first:016d}-" in key], "the pack comes first"
    if expected.failure != "store_unavailable":
        assert not paths[2].exists(), "the next one is not blocked"
    else:
        assert paths[2].exists(), "a store that does not answer is not asked on"

    store.fault, store.times = "", 0  # it is well again
    shipper.run_once()
    shipper.run_once()
    if expected.mends_itself:
        assert not struck.exists()
        assert list((tmp_path / "evidence").iterdir()) == []
        assert [leaf["sequence"] for leaf in in_store(store)] == list(range(12)), "all, in order, once"
    else:
        assert kept.read_bytes() == content, "a person must look; until then it is kept"
        others = FakeStore(objects={key: kept for key, kept in store.objects.items() if store.strikes not in key})
        assert {leaf["sequence"] for leaf in in_store(others)} >= set(range(first)), "the others are there"
    assert all(len(versions) == 1 for versions in store.objects.values()), "never overwritten"


@pytest.mark.parametrize("fault", ["lost", "persisted but error", "lying", "exists", "slow", "refused"])
async def test_a_store_that_fails_now_and_then_gets_everything_once(tmp_path, fault):
    await a_dead_log(tmp_path)
    store = BadStore(fault=fault, times=4)
    shipper = Shipper(tmp_path / "evidence", store, RETENTION, clock)
    for _ in range(8):
        shipper.run_once()
    assert list((tmp_path / "evidence").iterdir()) == []
    assert [leaf["sequence"] for leaf in in_store(store)] == list(range(12))


async def test_a_store_down_keeps_every_byte_on_the_disk(tmp_path):
    paths = await a_dead_log(tmp_path)
    before = [path.read_bytes() for path in paths]
    store = FakeStore(is_open=False)
    shipper = Shipper(tmp_path / "evidence", store, RETENTION, clock)
    for _ in range(20):
        report = shipper.run_once()
        assert report.failures == ["store_unavailable: ConnectTimeoutError"]
        assert report.freed == 0
    assert [path.read_bytes() for path in paths] == before
