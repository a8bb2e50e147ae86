"""Rounds over many epochs: what one does to the others, and how often a store is asked. One epoch: `test_delivery`."""

from __future__ import annotations

import asyncio
import errno
import os
import threading
from datetime import timedelta

import pytest

from ext_proc.audit import delivery, frames, segments, shipper
from ext_proc.audit.delivery import Delivery
from tests.fakes.auditor import findings
from tests.fakes.log import (
    AT,
    E1,
    ORIGIN,
    a_dead_log,
    a_leaf,
    a_writer,
    epoch,
    files,
    in_store,
    intent,
    outcome,
    told,
)
from tests.fakes.shipping import Notes, StandingClock, a_shipper, a_store, ship_all
from tests.fakes.store import RETENTION, BadStore, FakeStore

E2, E3 = epoch(2), epoch(3)


@pytest.fixture
def clock():
    return StandingClock()


@pytest.fixture
def store(clock):
    return a_store(clock)


def sealed_of(folder, name=E1):
    return sorted(path.name for path in (folder / "evidence" / name).glob("*.sealed"))


async def test_a_log_goes_to_the_store_and_leaves_the_disk(tmp_path, clock, store):
    writer = await a_writer(tmp_path)
    await writer.record(intent(1), AT)
    await writer.record(outcome(1), AT)
    await writer.close(AT)
    report = a_shipper(tmp_path, store, clock).run_once()
    assert (report.freed, report.failures, report.quarantined) == (1, [], [])
    assert report.shipped == store.puts
    assert [key.split("/")[1] for key in store.puts] == ["roster", "payload", "events", "log", "digest"]
    assert told(in_store(store)) == ["0 log.open", "1 intent 1", "2 outcome 1 completed", "3 log.close"]
    assert list((tmp_path / "evidence").iterdir()) == []
    assert findings(store) == []


async def test_each_file_that_is_freed_is_told_of(tmp_path, clock, store):
    """After a long outage one round takes long: who says nothing meanwhile would be taken for hung."""
    writer = await a_writer(tmp_path, segment_bytes=16384)
    for number in range(40):
        await writer.record(intent(number, b"x" * 500), AT)
        await writer.record(outcome(number), AT)
    await writer.close(AT)
    made = a_shipper(tmp_path, store, clock)
    freed = []
    made.tell_frees_to(lambda report: freed.append(report.freed))
    count = made.run_once().freed
    assert count > 1 and freed == list(range(1, count + 1))


async def test_a_live_log_s_sealed_segments_go_and_its_folder_stays(tmp_path, clock, store):
    writer = await a_writer(tmp_path, seal_seconds=0.1)
    folder = tmp_path / "evidence" / E1
    while not list(folder.glob("*.sealed")):
        await writer.record(intent(1), AT)
    shipping = a_shipper(tmp_path, store, clock)
    for _ in range(100):  # the writer may just be sealing another
        shipping.run_once()
        if not list(folder.glob("*.sealed")):
            break
        await asyncio.sleep(0.05)
    assert (folder / "lock").exists()
    assert list(folder.glob("*.sealed")) == []
    assert findings(store, after=timedelta(seconds=1)) == []
    await writer.record(outcome(1), AT)
    await writer.close(AT)
    shipping.run_once()
    leaves = in_store(store)
    assert [leaf["sequence"] for leaf in leaves] == list(range(len(leaves)))
    assert "epoch_forked" not in findings(store)


def test_an_epoch_being_born_is_not_touched(tmp_path, clock, store):
    (tmp_path / "evidence" / f".{E2}").mkdir(parents=True)
    a_shipper(tmp_path, store, clock).run_once()
    assert files(tmp_path / "evidence" / f".{E2}") == []


async def test_births_go_before_anything_else(tmp_path, clock, store):
    """A worker waits for its own: not behind the backlog of a store that was down."""
    a_dead_log(tmp_path, [2, 2, 2])
    writer = await a_writer(tmp_path, E2)
    assert not writer.is_born
    a_shipper(tmp_path, store, clock).run_once()
    assert [key.split("/")[1] for key in store.puts[:2]] == ["roster", "roster"]
    assert writer.is_born
    await writer.close(AT)


@pytest.mark.parametrize("leaf", [b"not json", b'{"origin":"a/b/c"}', b"[]"])
def test_a_segment_that_checks_and_holds_nonsense_does_not_stop_the_others(tmp_path, clock, store, leaf):
    a_dead_log(tmp_path, [1])[0].write_bytes(frames.encode_leaf(0, leaf, []))
    a_dead_log(tmp_path, [2], E2)
    report = a_shipper(tmp_path, store, clock).run_once()
    assert (report.freed, len(report.quarantined)) == (1, 1)
    assert findings(store) == []


def test_an_epoch_that_cannot_be_recovered_does_not_stop_the_others(tmp_path, clock, store):
    broken = a_dead_log(tmp_path, [2, 2])[1]
    (broken.parent / "ended").unlink()
    (broken.parent / "0000000000000009.wal").write_bytes(frames.encode_leaf(9, b"not json", []))
    a_dead_log(tmp_path, [2], E2)
    report = a_shipper(tmp_path, store, clock).run_once()
    assert report.failures == [f"recovery: IntegrityError: {E1}"]
    assert report.freed == 3, "what is sealed goes all the same"
    assert (broken.parent / "0000000000000009.wal").exists()


def test_a_disk_that_cannot_be_read_is_told_and_does_not_stop_the_others(tmp_path, clock, store, monkeypatch):
    [bad] = a_dead_log(tmp_path, [2])
    a_dead_log(tmp_path, [2], E2)
    real = type(bad).read_bytes

    def read(path):
        if path == bad:
            raise OSError(5, "Input/output error")
        return real(path)

    monkeypatch.setattr(type(bad), "read_bytes", read)
    report = a_shipper(tmp_path, store, clock).run_once()
    assert report.failures == [f"disk: OSError: {E1}"]
    assert report.freed == 1
    assert bad.exists()


@pytest.mark.parametrize("call", ["open", "listdir"])
def test_a_round_that_cannot_even_begin_is_told_and_the_next_one_ships(tmp_path, clock, store, monkeypatch, call):
    """No file descriptor is left: a shipper that ended of it would begin another log each time it was started again."""
    a_dead_log(tmp_path, [2])
    shipping = a_shipper(tmp_path, store, clock)

    def no_descriptor(*_: object, **__: object) -> int:
        raise OSError(errno.EMFILE, "Too many open files")

    with monkeypatch.context() as broken:
        broken.setattr(os, call, no_descriptor)
        report = shipping.run_once()
    assert (report.failures, report.freed) == (["disk: OSError: evidence"], 0)
    report = shipping.run_once()
    assert (report.failures, report.freed) == ([], 1)


def test_an_object_that_the_store_will_not_take_stops_its_own_log_and_no_other(tmp_path, clock):
    """Leaves are a tree: what comes after has no place in it before."""
    store = BadStore(fault="refused", strikes=f"epoch={E1}/{2:016d}-", clock=clock)
    a_dead_log(tmp_path, [2, 2, 2])
    a_dead_log(tmp_path, [2, 2, 2], E2)
    report = a_shipper(tmp_path, store, clock).run_once()
    assert report.freed == 1 + 3
    assert report.failures == [f"store_refused: AccessDenied: {E1}"]
    assert sealed_of(tmp_path) == ["0000000000000002.sealed", "0000000000000004.sealed"]


@pytest.mark.parametrize("state", ["refuses", "does not lock", "is not there"])
def test_a_store_that_takes_nothing_is_not_sent_everything_each_round(tmp_path, clock, state):
    store = a_store(clock)
    if state == "refuses":
        store.is_permitted = False
    elif state == "does not lock":
        store.lock_mode = None
    else:
        store.is_open = False
    for number in range(1, 8):
        a_dead_log(tmp_path, [1] * 20, epoch(number))
    shipping = a_shipper(tmp_path, store, clock)
    report = shipping.run_once()
    assert report.freed == 0
    is_silent = state == "is not there"
    assert len(report.failures) == len(store.puts) == (shipper.SILENCE_MAX if is_silent else 7)
    for _ in range(30):
        shipping.run_once()
    assert len(store.puts) <= 31 * (shipper.SILENCE_MAX if is_silent else 2)
    assert all(len(sealed_of(tmp_path, epoch(number))) == 20 for number in range(1, 8))


def test_an_epoch_that_needs_a_person_is_tried_again_now_and_then(tmp_path, clock, store):
    store.lock_mode = None
    a_dead_log(tmp_path, [2])
    shipping = a_shipper(tmp_path, store, clock)
    for _ in range(40):
        shipping.run_once()
    asked = len(store.puts)
    assert 3 <= asked <= 7
    store.objects.clear()
    store.lock_mode = "COMPLIANCE"
    for _ in range(64):
        shipping.run_once()
    assert list((tmp_path / "evidence").iterdir()) == []
    assert findings(store) == []


def test_another_epoch_is_tried_when_one_s_segment_fails(tmp_path, clock):
    store = BadStore(fault="lost", strikes=f"epoch={E1}", clock=clock)
    a_dead_log(tmp_path, [2])
    a_dead_log(tmp_path, [2], E2)
    assert a_shipper(tmp_path, store, clock).run_once().freed == 1


@pytest.mark.parametrize(
    ("stands_for", "is_freed"),
    [
        (RETENTION, True),
        (RETENTION - timedelta(minutes=58), True),
        (RETENTION - timedelta(minutes=62), False),
        (timedelta(0), False),
    ],
)
def test_the_lock_must_last_from_the_moment_the_segment_was_sealed(tmp_path, clock, stands_for, is_freed):
    store = FakeStore(retention=stands_for, clock=clock)
    clock.now = AT
    [path] = a_dead_log(tmp_path, [2])
    os.utime(path, (AT.timestamp(), AT.timestamp()))
    report = a_shipper(tmp_path, store, clock).run_once()
    assert (report.freed == 1) == is_freed
    if not is_freed:
        [failure] = report.failures
        [key] = store.objects
        assert failure == f"not_kept: locked_too_short: {key}: {E1}", "whoever extends the lock needs the key"


def test_a_segment_sealed_under_a_clock_that_ran_ahead_is_not_stuck_for_ever(tmp_path, clock, store):
    [path] = a_dead_log(tmp_path, [2])
    os.utime(path, (AT.timestamp() + 7 * 86400,) * 2)
    assert a_shipper(tmp_path, store, clock).run_once().failures == []


# Two shippers ------------------------------------------------------------------------------------------------------


def test_of_two_shippers_one_waits(tmp_path, clock, store, monkeypatch):
    a_dead_log(tmp_path, [2, 2])
    other = a_shipper(tmp_path, store, clock)
    seen = []
    real = FakeStore.put

    def put(self, key, body, sha256):
        seen.append(other.run_once())
        real(self, key, body, sha256)

    monkeypatch.setattr(FakeStore, "put", put)
    report = a_shipper(tmp_path, store, clock).run_once()
    assert report.freed == 2
    assert len(seen) == len(store.puts)
    assert all(not (one.shipped or one.freed or one.failures) for one in seen)
    assert findings(store) == []


def test_two_shippers_in_turn_ship_everything_once(tmp_path, clock, store):
    a_dead_log(tmp_path, [2, 2, 2, 1])
    store.is_open = False
    one, two = a_shipper(tmp_path, store, clock), a_shipper(tmp_path, store, clock)
    one.run_once()
    two.run_once()
    store.is_open = True
    two.run_once()
    one.run_once()
    assert [leaf["sequence"] for leaf in in_store(store)] == list(range(7))
    assert findings(store) == []


def test_an_epoch_that_vanishes_meanwhile_is_no_failure(tmp_path, clock, store, monkeypatch):
    a_dead_log(tmp_path, [2])
    a_dead_log(tmp_path, [2], E2)
    real = Delivery.ship

    def vanish(self):
        for one in self.folder.iterdir():
            one.unlink()
        self.folder.rmdir()
        real(self)

    monkeypatch.setattr(Delivery, "ship", vanish)
    assert a_shipper(tmp_path, store, clock).run_once().failures == []


def test_a_log_that_begins_and_ends_within_a_round_has_its_birth(tmp_path, clock, store, monkeypatch):
    """A command's: a folder without a leaf when births are put, a dead log when records are."""
    (tmp_path / "evidence" / E1).mkdir(parents=True)
    real = Delivery.announce

    def begins_after(self):
        real(self)
        a_dead_log(tmp_path, [2, 1])

    monkeypatch.setattr(Delivery, "announce", begins_after)
    assert a_shipper(tmp_path, store, clock).run_once().failures == []
    assert [key.split("/")[1] for key in store.puts[:2]] == ["roster", "payload"]
    assert len(in_store(store)) == 3
    assert findings(store) == []


# Rounds ------------------------------------------------------------------------------------------------------------


def running(shipping, stop, reports, interval=0.01):
    thread = threading.Thread(target=shipping.run, args=(stop, interval, reports.append))
    thread.start()
    return thread


def test_stopping_ships_once_more(tmp_path, clock, store):
    stop, reports = threading.Event(), []
    stop.set()
    a_dead_log(tmp_path, [2])
    thread = running(a_shipper(tmp_path, store, clock), stop, reports)
    thread.join(20)
    assert [report.freed for report in reports] == [1, 0]


def test_stopping_ships_all_that_is_left(tmp_path, clock, store, monkeypatch):
    monkeypatch.setattr(delivery, "ROUND_MAX", 2)
    stop, reports = threading.Event(), []
    stop.set()
    a_dead_log(tmp_path, [1] * 7)
    running(a_shipper(tmp_path, store, clock), stop, reports).join(20)
    assert [report.freed for report in reports] == [2, 2, 2, 1, 0]
    assert list((tmp_path / "evidence").iterdir()) == []
    assert findings(store) == []


def test_a_backlog_does_not_keep_a_new_log_waiting(tmp_path, clock, store, monkeypatch):
    monkeypatch.setattr(delivery, "ROUND_MAX", 2)
    a_dead_log(tmp_path, [1] * 9)
    shipping = a_shipper(tmp_path, store, clock)
    assert shipping.run_once().freed == 2
    a_dead_log(tmp_path, [2], E2)
    store.puts.clear()
    shipping.run_once()
    assert store.puts[0].startswith("v1/roster/")
    assert sealed_of(tmp_path) and not (tmp_path / "evidence" / E2).exists()


class Waits:
    """An event that is never set before ``rounds`` waits, and writes down how long each was to be."""

    def __init__(self, rounds, between=lambda _: None):
        self.rounds, self.between, self.asked = rounds, between, []

    def is_set(self):
        return len(self.asked) >= self.rounds

    def wait(self, seconds):
        self.asked.append(seconds)
        self.between(len(self.asked))


def test_a_store_that_is_down_for_hours_is_asked_less_and_less_and_then_all_is_shipped(tmp_path, clock, store):
    reports = []
    store.is_open = False
    a_dead_log(tmp_path, [1] * 30)

    def between(rounds):
        store.is_open = rounds >= 40

    waits = Waits(42, between)
    a_shipper(tmp_path, store, clock).run(waits, 0.5, reports.append)
    assert waits.asked[0] < waits.asked[3] < waits.asked[5], "backs off"
    assert all(20 < pause <= shipper.BACKOFF_MAX_SECONDS * 1.2 for pause in waits.asked[8:40])
    assert sum(waits.asked[:40]) > 20 * 60
    assert len(store.puts) == 40 + len(store.objects), "one attempt a round while it was down"
    assert [leaf["sequence"] for leaf in in_store(store)] == list(range(30))
    assert waits.asked[-1] == 0.5, "and is prompt again"
    assert reports[-1].failures == []
    assert findings(store) == []


def test_one_poisoned_object_does_not_make_the_others_wait(tmp_path, clock):
    store = BadStore(fault="no lock", strikes=f"epoch={E1}", clock=clock)
    a_dead_log(tmp_path, [2])
    waits = Waits(6, lambda rounds: a_dead_log(tmp_path, [2], epoch(rounds + 1)))
    a_shipper(tmp_path, store, clock).run(waits, 0.5, lambda _: None)
    assert waits.asked == [0.5] * 6


# The journal -------------------------------------------------------------------------------------------------------


def test_births_digests_and_ends_are_on_record(tmp_path, clock, store):
    a_dead_log(tmp_path, [2, 2])
    notes = Notes()
    a_shipper(tmp_path, store, clock, notes).run_once()
    assert notes.kinds() == ["epoch.born", "digest.made", "epoch.ended"]
    (_, born), (_, digest), (_, ended) = notes.told
    objects = {key.split("/")[1]: (key, versions[0].body) for key, versions in store.objects.items()}
    assert born == {"born_origin": f"{ORIGIN}/{E1}", "roster_sha256": store.read_back(objects["roster"][0]).sha256}
    assert digest["key"] == objects["digest"][0]
    assert digest["sha256"] == store.read_back(digest["key"]).sha256
    assert (digest["of_origin"], digest["number"]) == (f"{ORIGIN}/{E1}", 0)
    assert (ended["ended_origin"], ended["leaves"], ended["end"]) == (f"{ORIGIN}/{E1}", 4, "close")


def test_a_journal_that_fails_holds_everything_back_and_loses_nothing(tmp_path, clock, store):
    a_dead_log(tmp_path, [2, 2])
    notes = Notes(is_down=True)
    shipping = a_shipper(tmp_path, store, clock, notes)
    for _ in range(3):
        report = shipping.run_once()
        assert report.failures == [f"audit_unavailable: disk: OSError: {E1}"]
        assert len(sealed_of(tmp_path)) == 2
        assert not (tmp_path / "evidence" / E1 / "born").exists(), "not ready before it is on record"
    notes.is_down = False
    ship_all(shipping)
    assert notes.kinds() == ["epoch.born", "digest.made", "epoch.ended"]
    assert findings(store) == []


def test_what_is_put_aside_is_on_record(tmp_path, clock, store):
    notes = Notes()
    paths = a_dead_log(tmp_path, [2, 2, 2])
    paths[1].write_bytes(paths[1].read_bytes()[:-3])
    a_shipper(tmp_path, store, clock, notes).run_once()
    [aside] = [facts for kind, facts in notes.told if kind == "segment.quarantined"]
    assert aside == {"of_origin": f"{ORIGIN}/{E1}", "file": paths[1].name, "reason": "sealed segment does not check"}


def test_a_leaf_of_another_epoch_never_comes_into_the_log(tmp_path, clock, store):
    paths = a_dead_log(tmp_path, [2, 2, 1])
    leaf, ciphertexts = a_leaf(2, "inference.outcome", f"{ORIGIN}/{E2}")
    paths[1].write_bytes(frames.encode_leaf(2, leaf, ciphertexts))
    report = a_shipper(tmp_path, store, clock).run_once()
    assert report.quarantined == [f"{E1}/{paths[1].name}: segment of another place"]
    assert {leaf["origin"] for leaf in in_store(store)} == {f"{ORIGIN}/{E1}"}


def test_a_folder_with_another_log_s_beginning_is_not_announced_under_its_name(tmp_path, clock, store):
    [path] = a_dead_log(tmp_path, [2])
    other = tmp_path / "evidence" / E3
    other.mkdir()
    path.rename(other / path.name)
    segments.mark_ended(other)
    report = a_shipper(tmp_path, store, clock).run_once()
    assert store.objects == {}
    assert report.failures == [f"epoch: log of another epoch: {E3}"]
    assert (other / path.name).with_suffix(".quarantine").exists()
