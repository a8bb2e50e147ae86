"""The shipper's process: what it says of itself, and that it ships on without a log of its own where it must."""

from __future__ import annotations

import asyncio
import json
import shutil
import threading

import pytest

from ext_proc.app import registry
from ext_proc.app.process import clock
from ext_proc.app.serving import shipping
from ext_proc.app.serving.shipping import _is_birth_of_worker, _Shipping
from ext_proc.audit import segments
from ext_proc.audit.recovery import EndedLog
from ext_proc.audit.shipper import ShipReport
from ext_proc.audit.signer import LocalSigner
from ext_proc.errors import ApprovalUnavailable, ConfigError
from tests.fakes.auditor import findings
from tests.fakes.configured import a_config
from tests.fakes.log import a_writer, epoch, in_store, intent, outcome
from tests.fakes.shipping import Rounds
from tests.fakes.store import FakeStore


@pytest.fixture
def store():
    return FakeStore(clock=clock)


@pytest.fixture
def house(tmp_path, monkeypatch, store):
    config, digest = a_config(tmp_path)
    monkeypatch.setattr(shipping, "store_of", lambda _: store)
    registry.evidence_directory(config).mkdir()
    made = _Shipping(config, digest)
    made._canary_due.again_in(86_400)
    return config, made


def told(config):
    return json.loads((config.run_dir / "state" / "shipper.json").read_text())


def test_where_no_supervisor_is_it_makes_the_folder_where_it_tells_how_it_is(tmp_path, monkeypatch):
    """In the pod of a console nobody else does: what it said was lost without a word."""
    config, _ = a_config(tmp_path)
    shutil.rmtree(config.run_dir)
    lived = []
    monkeypatch.setattr(_Shipping, "live", lambda made, stop: lived.append(made._tell(ShipReport())))
    monkeypatch.setattr(shipping, "store_of", lambda _: FakeStore(clock=clock))
    for name in ("end_with_parent", "release_sigterm"):
        monkeypatch.setattr(shipping, name, lambda: None)
    monkeypatch.setattr(shipping.signal, "signal", lambda *_: None)
    assert shipping.run(tmp_path / "config.yaml") == 0
    assert lived and told(config)["is_ready"] is True


def test_folders_that_cannot_be_made_are_said(tmp_path):
    config, _ = a_config(tmp_path)
    shutil.rmtree(config.run_dir)
    config.run_dir.write_text("no folder")
    with pytest.raises(ConfigError, match="run_dir or state_dir"):
        shipping._make_folders(config)


def test_what_it_counts_is_told(house, store):
    """The console beside it tells it to whoever scrapes: there is no supervisor that could."""
    config, made = house
    made._tell(ShipReport(shipped=["v1/events/x"], failures=["not_kept: x"], quarantined=["y"]))
    made._tell(ShipReport(failures=["not_kept: x", "store_unavailable: x"]))
    assert told(config)["shipped_total"] == 1
    assert told(config)["failed_total"] == {"not_kept": 2, "quarantined": 1, "store_unavailable": 1}


def test_each_word_is_a_sign_of_life(house, store):
    _, made = house
    assert made.said_at == 0
    made._tell(ShipReport())
    first = made.said_at
    made._tell_state(ShipReport())
    assert 0 < first < made.said_at


def signer(config):
    return LocalSigner.from_file(config.audit.signing.file)


def test_its_own_log_goes_last_and_verifies(house, store):
    config, made = house
    made.live(Rounds(2))
    assert list(registry.evidence_directory(config).iterdir()) == []
    leaves = in_store(store)
    assert [leaf["kind"] for leaf in leaves] == ["log.open", "epoch.born", "log.close"]
    assert leaves[1]["born_origin"] == leaves[0]["origin"]
    assert findings(store, signer(config)) == []
    assert told(config)["failures"] == []
    assert told(config)["was_born"] is False, "its own birth serves nobody"


async def test_a_worker_s_birth_is_told(house, store, tmp_path):
    config, made = house
    (tmp_path / "evidence").symlink_to(registry.evidence_directory(config))
    writer = await a_writer(tmp_path, epoch(1, clock()), at=clock())
    made.live(Rounds(1))
    assert told(config)["was_born"] is True
    assert writer.is_born
    await writer.close(clock())


@pytest.mark.parametrize(
    ("key", "is_so"),
    [
        ("v1/roster/dt=2026-11-24/gw-0-0.20261124T120000123456-00000001.note", True),
        ("v1/roster/dt=2026-11-24/gw-0-12.20261124T120000123456-00000001.note", True),
        ("v1/roster/dt=2026-11-24/gw-0-shipper.20261124T120000123456-00000001.note", False),
        ("v1/roster/dt=2026-11-24/gw-0-command.20261124T120000123456-00000001.note", False),
        ("v1/events/dt=2026-11-24/hour=12/replica=gw-0-0/x", False),
    ],
)
def test_whose_birth(key, is_so):
    assert _is_birth_of_worker(key) == is_so


@pytest.mark.parametrize("state", ["is_open", "is_permitted"])
def test_a_store_that_cannot_be_reached_is_told_as_being_cut_off(house, store, state):
    config, made = house
    setattr(store, state, False)
    seen = []

    def between(turn):
        seen.append(told(config))
        setattr(store, state, turn >= 2)

    made.live(Rounds(8, between))
    assert seen[0]["is_cut_off"] and not seen[0]["is_ready"]
    assert not told(config)["is_cut_off"]
    assert findings(store, signer(config)) == []


async def test_being_cut_off_is_told_before_the_round_is_over(house, store, tmp_path, monkeypatch):
    """A store that hangs lets each request of a round wait for its time-out; a killed worker must not wait for all."""
    config, made = house
    (tmp_path / "evidence").symlink_to(registry.evidence_directory(config))
    writers = [await a_writer(tmp_path, epoch(number, clock()), at=clock()) for number in (1, 2)]
    store.is_open = False
    told_so = []
    really = store._ask

    def ask():
        known = (config.run_dir / "state" / "shipper.json").exists() and told(config)["is_cut_off"]
        told_so.append(known)
        really()

    monkeypatch.setattr(store, "_ask", ask)
    await asyncio.to_thread(made.live, Rounds(1))
    assert len(told_so) >= 2
    assert told_so == [False, *[True] * (len(told_so) - 1)]
    for writer in writers:
        await writer.close(clock())


def test_a_full_disk_does_not_keep_it_from_shipping(house, store, tmp_path, monkeypatch):
    """Else nothing would ever make room again. What it has to say waits until it has a log."""
    config, made = house
    monkeypatch.setattr(shipping, "JOURNAL_RETRY_SECONDS", 0.0)
    (tmp_path / "evidence").symlink_to(registry.evidence_directory(config))

    async def a_life():
        writer = await a_writer(tmp_path, epoch(1, clock()), at=clock())
        await writer.record(intent(1), clock())
        await writer.record(outcome(1), clock())
        await writer.close(clock())
        return writer.origin

    origin = asyncio.run(a_life())
    real = segments.FileOps.allocate
    is_full = threading.Event()
    is_full.set()

    def allocate(self, path, size_bytes):
        if is_full.is_set():
            raise OSError(28, "No space left on device")
        real(self, path, size_bytes)

    monkeypatch.setattr(segments.FileOps, "allocate", allocate)
    kinds = []

    def between(turn):
        kinds.append([leaf["kind"] for leaf in in_store(store)])
        if turn == 3:
            is_full.clear()

    made.live(Rounds(6, between))
    assert "log.close" in kinds[0], "shipped, and freed, on a full disk"
    mine = [leaf for leaf in in_store(store) if leaf["origin"].split("/")[1] == "gw-0-shipper"]
    assert [leaf["kind"] for leaf in mine if leaf.get("born_origin", leaf.get("ended_origin")) == origin] == [
        "epoch.born",
        "epoch.ended",
    ]
    assert list(registry.evidence_directory(config).iterdir()) == []
    assert findings(store, signer(config)) == []


def test_a_log_of_its_own_that_fails_ends_the_process(house, store, monkeypatch):
    _, made = house

    def broken(self, descriptor):
        raise OSError(5, "Input/output error")

    def between(turn):
        if turn == 1:
            monkeypatch.setattr(segments.FileOps, "sync", broken)
            made._journal._beating.cancel()
            with pytest.raises(Exception, match="disk"):
                made._note("digest.made", {"number": 0})

    rounds = Rounds(1000, between)
    made.live(rounds)
    assert rounds.turn < 5
    monkeypatch.undo()


def test_a_register_that_is_away_keeps_nothing_else_waiting(house, store, monkeypatch):
    """A worker died, and the database of holds does not answer: new bundles are still looked for, and put on record."""
    config, made = house
    done = []

    class Distributor:
        degraded = None

        def round(self):
            done.append("bundle")

    class Archive:
        def attend(self, _):
            done.append("archive")

    def away(*_):
        done.append("register")
        raise ApprovalUnavailable("away")

    monkeypatch.setattr(registry, "register_of_holds", away)
    made._archive, made._distributor = Archive(), Distributor()
    made._ended.append(EndedLog(f"{config.audit.origin}/gw-0-0/{epoch(1, clock())}", 0, ()))
    made._after_round(ShipReport())
    assert done == ["register", "bundle", "archive"]
    assert len(made._ended) == 1, "told later"
