"""The store x each way to fail: nothing is freed before it is proven to be there, and nothing is shipped twice."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from tests.fakes.auditor import findings
from tests.fakes.log import AT, E1, a_writer, in_store, intent, outcome
from tests.fakes.shipping import StandingClock, a_shipper, a_store, ship_all
from tests.fakes.store import BadStore


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
    "no lock": Expected("not_kept", mends_itself=False),
    "governance": Expected("not_kept", mends_itself=False),
    "short lock": Expected("not_kept", mends_itself=False),
}


async def a_dead_log(tmp_path):
    """Three segments: the fault strikes the second."""
    writer = await a_writer(tmp_path)
    for n in range(5):
        await writer.record(intent(n, b"x" * 20_000), AT)
        await writer.record(outcome(n, b"y" * 5_000), AT)
    await writer.close(AT)
    folder = tmp_path / "evidence" / E1
    paths = sorted(folder.glob("*.sealed"))
    assert len(paths) == 3
    return paths


@pytest.mark.parametrize("kind", ["events", "payload", "log"])
@pytest.mark.parametrize("fault", TABLE)
async def test_store_fault(tmp_path, fault, kind):
    expected = TABLE[fault]
    paths = await a_dead_log(tmp_path)
    struck = paths[1]
    content = struck.read_bytes()
    first, size = int(struck.stem), int(paths[2].stem)
    place = f"dt=2026-11-24/hour=12/replica=gw-0-0/epoch={E1}/{first:016d}-"
    clock = StandingClock()
    strikes = f"v1/log/gw-0-0/{E1}/checkpoint/{size:016d}-" if kind == "log" else f"v1/{kind}/{place}"
    times = 1 if expected.is_quarantined else 1_000_000  # what says that the records are lost goes to the same place
    store = BadStore(fault=fault, strikes=strikes, times=times, clock=clock)
    shipper = a_shipper(tmp_path, store, clock)
    report = shipper.run_once()

    is_incident = expected.is_quarantined
    assert not paths[0].exists()
    assert [one.partition(":")[0] for one in report.failures] == [expected.failure] * bool(expected.failure)
    assert len(report.quarantined) == is_incident
    if kind == "log" and is_incident:
        assert not struck.exists(), "the records are there; of the checkpoint a person must hear"
    else:
        kept = struck.with_suffix(".quarantine") if is_incident else struck
        assert kept.read_bytes() == content, "not freed, not changed"
    if kind == "payload" and not is_incident:
        assert not [key for key in store.objects if f"v1/events/{place}" in key], "the pack comes first"
    assert paths[2].exists() != is_incident, "a tree grows in order; what is put aside has its leaves that say so"

    store.fault, store.times = "", 0  # it is well again
    ship_all(shipper, 40)
    for _ in range(8):
        shipper.run_once()
    if expected.mends_itself:
        assert list((tmp_path / "evidence").iterdir()) == []
        assert [leaf["sequence"] for leaf in in_store(store)] == list(range(12)), "all, in order, once"
        assert findings(store) == []
    elif is_incident:
        # Beside it stand the leaves that say what is lost: which of the two the verifier reads first is chance.
        assert {"object_changed", "epoch_forked"} & set(findings(store))
    else:
        assert struck.read_bytes() == content, "a person must look; until then it is kept"
        assert findings(store)
    assert all(len(versions) == 1 for versions in store.objects.values()), "never overwritten"


@pytest.mark.parametrize("fault", ["lost", "persisted but error", "lying", "exists", "slow", "refused"])
async def test_a_store_that_fails_now_and_then_gets_everything_once(tmp_path, fault):
    await a_dead_log(tmp_path)
    store = BadStore(fault=fault, times=4, clock=StandingClock())
    shipper = a_shipper(tmp_path, store, store.clock)
    for _ in range(40):
        shipper.run_once()
    assert list((tmp_path / "evidence").iterdir()) == []
    assert [leaf["sequence"] for leaf in in_store(store)] == list(range(12))
    assert findings(store) == []


async def test_a_store_down_keeps_every_byte_on_the_disk(tmp_path):
    paths = await a_dead_log(tmp_path)
    before = [path.read_bytes() for path in paths]
    store = a_store(StandingClock())
    store.is_open = False
    shipper = a_shipper(tmp_path, store, store.clock)
    for _ in range(20):
        report = shipper.run_once()
        assert report.failures == [f"store_unavailable: ConnectTimeoutError: {E1}"]
        assert report.freed == 0
    assert [path.read_bytes() for path in paths] == before
