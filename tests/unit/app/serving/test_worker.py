"""Birth before readiness: no log serves before its birth record is locked in the store, but for one case."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys

import pytest
import yaml
from prometheus_client import REGISTRY

from ext_proc.app import registry
from ext_proc.app.serving import supervisor
from ext_proc.app.serving.worker import _Worker, wait_for_birth
from ext_proc.config import load
from ext_proc.errors import ConfigError
from tests.fakes.auditor import findings
from tests.fakes.configured import a_config
from tests.fakes.disk import BadDisk, Faults
from tests.fakes.log import AT, E1, a_writer, epoch, intent, outcome
from tests.fakes.shipping import StandingClock, a_shipper, a_store, ship_all


class House:
    """A worker that waits, and what the shipper says of itself."""

    def __init__(self, writer):
        self.writer = writer
        self.told = {}
        self.stop = asyncio.Event()
        self.asked = 0
        self.waiting = asyncio.ensure_future(wait_for_birth(writer, self.tell, self.stop))

    def tell(self):
        self.asked += 1
        return self.told

    async def still_waits(self):
        before = self.asked
        async with asyncio.timeout(20):
            while self.asked < before + 3 and not self.waiting.done():  # noqa: ASYNC110 - the worker polls
                await asyncio.sleep(0.01)
        return not self.waiting.done()

    async def serves(self):
        async with asyncio.timeout(20):
            await self.waiting
        return not self.stop.is_set()


@pytest.fixture
async def house(tmp_path):
    faults = Faults()
    made = House(await a_writer(tmp_path, ops=BadDisk(faults)))
    made.faults = faults
    yield made
    made.stop.set()
    with contextlib.suppress(asyncio.CancelledError):
        await made.waiting
    await made.writer.close(AT)


async def test_it_serves_as_soon_as_it_is_born(house, tmp_path):
    store = a_store(StandingClock())
    assert await house.still_waits()
    a_shipper(tmp_path, store, store.clock).run_once()
    assert await house.serves()
    assert [key.split("/")[1] for key in store.puts] == ["roster"]


async def test_with_the_store_down_at_the_first_start_it_is_not_ready(house, tmp_path):
    store = a_store(StandingClock())
    store.is_open = False
    shipping = a_shipper(tmp_path, store, store.clock)
    house.told = {"was_born": False, "is_cut_off": bool(shipping.run_once().failures)}
    assert house.told["is_cut_off"]
    assert await house.still_waits()
    store.is_open = True
    shipping.run_once()
    assert await house.serves()


async def test_with_the_store_down_at_a_worker_s_restart_it_serves_and_the_record_follows(house, tmp_path):
    store = a_store(StandingClock())
    shipping = a_shipper(tmp_path, store, store.clock)
    shipping.run_once()
    assert await house.serves()
    store.is_open = False
    second = House(await a_writer(tmp_path, epoch(2)))
    assert await second.still_waits(), "the shipper has not said yet that the store is gone"
    second.told = {"was_born": True, "is_cut_off": bool(shipping.run_once().failures)}
    assert await second.serves()
    assert not second.writer.is_born
    await second.writer.record(intent(1), AT)
    await second.writer.record(outcome(1), AT)
    store.is_open = True
    shipping.run_once()
    assert second.writer.is_born
    await second.writer.close(AT)
    await house.writer.close(AT)
    ship_all(shipping)
    assert findings(store) == []
    assert sum("/roster/" in key for key in store.objects) == 2


@pytest.mark.parametrize(
    "told", [{}, {"was_born": True}, {"was_born": True, "is_cut_off": False}, {"is_cut_off": True}]
)
async def test_nothing_else_lets_it_serve(house, told):
    house.told = told
    assert await house.still_waits()


async def test_a_log_that_fails_meanwhile_ends_the_worker(house):
    house.faults.sync = "EIO"
    with contextlib.suppress(Exception):
        await house.writer.record(intent(1), AT)
    assert not await house.serves()


async def test_it_can_be_stopped_while_it_waits(house):
    assert await house.still_waits()
    house.stop.set()
    assert not await house.serves()


async def test_the_mark_of_birth_is_nobody_s_but_the_shipper_s(house, tmp_path):
    """It is there only after the record was read back: the file itself, not what anybody says."""
    path = tmp_path / "evidence" / E1 / "born"
    assert not path.exists()
    os.close(os.open(path, os.O_CREAT))
    assert await house.serves()


def _traced(folder, **otlp):
    a_config(folder)
    path = folder / "config.yaml"
    told = yaml.safe_load(path.read_text())
    told["telemetry"] = {"otlp": {"endpoint": "http://127.0.0.1:9", **otlp}}
    path.write_text(yaml.safe_dump(told))
    return path


@pytest.mark.parametrize("missing", ["library", "headers"])
async def test_traces_that_cannot_be_made_are_refused_and_leave_no_log(tmp_path, monkeypatch, missing):
    """Each start of the worker left one, whose birth was locked in the store for years."""
    if missing == "library":
        monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace.export", None)
        path, said = _traced(tmp_path), "affidavit\\[otel\\]"
    else:
        path, said = _traced(tmp_path, headers_file=str(tmp_path / "none")), "none"
    config, _ = load(path)
    with pytest.raises(ConfigError, match=said):
        await _Worker(path, 0).live()
    directory = registry.evidence_directory(config)
    assert not directory.exists() or not list(directory.glob("[!.]*"))
    with pytest.raises(ConfigError, match=said):
        supervisor._check_files(config)


def test_traces_that_can_be_made_are_not_refused(tmp_path):
    supervisor._check_files(load(_traced(tmp_path))[0])


class _Noting:
    """A log that takes every note."""

    async def note(self, kind, fields, now):
        return None


def _begun(connection):
    """What the counters of two alerts stand at; None: they are not there."""
    labels = {"connection": connection, "outcome": "unrecorded", "code": "audit_unavailable"}
    return (
        REGISTRY.get_sample_value("affidavit_exchanges_total", labels),
        REGISTRY.get_sample_value("affidavit_break_glass_total", {"connection": connection}),
    )


async def test_counters_of_a_connection_that_a_reload_brings_begin_at_nothing(tmp_path):
    """Born with its first event at 1, a counter shows no rise, and the alert of that event stays silent."""
    _, path = a_config(tmp_path), tmp_path / "config.yaml"
    worker = _Worker(path, 0)
    assert _begun("")[0] is not None, "a fault before the routing is of no connection"
    told = yaml.safe_load(path.read_text())
    upstream = {"url": "https://other.example.com"}
    told["connections"].append({"name": "brought", "hosts": ["brought.example.com"], "upstream": upstream})
    path.write_text(yaml.safe_dump(told))
    assert _begun("brought") == (None, None)
    await worker._reload(_Noting())
    assert _begun("brought") == (0, 0)
