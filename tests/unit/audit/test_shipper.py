from __future__ import annotations

import os
import threading
from datetime import UTC, datetime, timedelta

import pytest

from ext_proc.audit import frames, segments, shipper
from ext_proc.audit.record import build_leaf
from ext_proc.audit.shipper import Shipper
from tests.fakes.log import AT, a_writer, files, in_store, intent, outcome, told
from tests.fakes.store import RETENTION, BadStore, FakeStore

NOW = datetime.now(UTC)


def clock():
    return datetime.now(UTC)


def a_shipper(tmp_path, store, now=clock):
    (tmp_path / "evidence").mkdir(exist_ok=True)
    return Shipper(tmp_path / "evidence", store, RETENTION, now)


def a_segment(tmp_path, first, count=1, epoch="e1", body=b"cipher"):
    folder = tmp_path / "evidence" / epoch
    folder.mkdir(parents=True, exist_ok=True)
    origin = f"o/gw-0/{epoch}"

    def leaf(n):
        kind = "log.close" if n == 999 else "heartbeat"
        return build_leaf(kind, origin=origin, sequence=n, at=AT, fields={})

    data = b"".join(frames.encode_leaf(n, leaf(n), [body]) for n in range(first, first + count))
    path = folder / segments.name_of(first, segments.SEALED)
    path.write_bytes(data)
    segments.mark_ended(folder)
    return path


async def test_a_log_goes_to_the_store_and_leaves_the_disk(tmp_path):
    store = FakeStore()
    writer = await a_writer(tmp_path)
    await writer.record(intent(1), AT)
    await writer.record(outcome(1), AT)
    await writer.close(AT)
    report = a_shipper(tmp_path, store).run_once()
    assert (report.freed, report.failures, report.quarantined) == (1, [], [])
    assert report.shipped == store.puts
    assert told(in_store(store)) == ["0 log.open", "1 intent 1", "2 outcome 1 completed", "3 log.close"]
    assert list((tmp_path / "evidence").iterdir()) == []


async def test_a_live_log_s_sealed_segments_go_and_its_folder_stays(tmp_path):
    store = FakeStore()
    writer = await a_writer(tmp_path, seal_seconds=0.1)
    folder = tmp_path / "evidence" / "e1"
    while not list(folder.glob("*.sealed")):
        await writer.record(intent(1), AT)
    a_shipper(tmp_path, store).run_once()
    assert (folder / "lock").exists()
    assert list(folder.glob("*.sealed")) == []
    await writer.record(intent(2), AT)
    await writer.close(AT)
    a_shipper(tmp_path, store).run_once()
    leaves = in_store(store)
    assert [leaf["sequence"] for leaf in leaves] == list(range(len(leaves)))


def test_an_epoch_being_born_is_not_touched(tmp_path):
    (tmp_path / "evidence" / ".e2").mkdir(parents=True)
    a_shipper(tmp_path, FakeStore()).run_once()
    assert files(tmp_path / "evidence" / ".e2") == []


@pytest.mark.parametrize("killed_at", ["after the first put", "before the segment is freed"])
def test_killed_while_shipping_nothing_is_shipped_twice(tmp_path, monkeypatch, killed_at):
    store = FakeStore()
    path = a_segment(tmp_path, 0, 3)

    class Killed(BaseException):
        pass

    def die(*_, **__):
        raise Killed

    with pytest.MonkeyPatch.context() as patch:
        if killed_at == "after the first put":
            patch.setattr(FakeStore, "read_back", die)
        else:
            patch.setattr(type(path), "unlink", die)
        with pytest.raises(Killed):
            a_shipper(tmp_path, store).run_once()
    assert path.exists()
    before = dict(store.objects)
    report = a_shipper(tmp_path, store).run_once()
    assert report.freed == 1
    assert all(len(versions) == 1 for versions in store.objects.values())
    assert before.items() <= store.objects.items()
    assert len(store.objects) == 2


def test_an_object_that_was_there_already_counts_if_it_is_the_same(tmp_path):
    store = FakeStore()
    first = a_segment(tmp_path, 0)
    content = first.read_bytes()
    a_shipper(tmp_path, store).run_once()
    again = a_segment(tmp_path, 0)
    again.write_bytes(content)
    report = a_shipper(tmp_path, store).run_once()
    assert (report.freed, len(store.objects)) == (1, 2)


def test_a_segment_that_does_not_check_is_put_aside_and_the_next_goes(tmp_path):
    store = FakeStore()
    for first in (0, 1, 2):
        a_segment(tmp_path, first)
    poison = tmp_path / "evidence" / "e1" / segments.name_of(1, segments.SEALED)
    content = poison.read_bytes()
    poison.write_bytes(content[:-3])
    report = a_shipper(tmp_path, store).run_once()
    assert report.freed == 2
    assert report.quarantined == ["0000000000000001.sealed: sealed segment does not check"]
    kept = poison.with_suffix(".quarantine")
    assert kept.read_bytes() == content[:-3], "for a person, as it was"
    assert [leaf["sequence"] for leaf in in_store(store)] == [0, 2]
    assert a_shipper(tmp_path, store).run_once().quarantined == [], "told once"


@pytest.mark.parametrize("leaf", [b"not json", b'{"origin":"a/b/c"}', b"[]"])
def test_a_segment_that_checks_and_holds_nonsense_does_not_stop_the_others(tmp_path, leaf):
    store = FakeStore()
    a_segment(tmp_path, 0, epoch="e0").write_bytes(frames.encode_leaf(0, leaf, []))
    a_segment(tmp_path, 0, epoch="e1")
    report = a_shipper(tmp_path, store).run_once()
    assert (report.freed, len(report.quarantined)) == (1, 1)


def test_an_epoch_that_cannot_be_recovered_does_not_stop_the_others(tmp_path):
    store = FakeStore()
    broken = a_segment(tmp_path, 5, epoch="e0")
    (broken.parent / "ended").unlink()
    (broken.parent / "0000000000000000.wal").write_bytes(frames.encode_leaf(0, b"not json", []))
    a_segment(tmp_path, 0, epoch="e1")
    report = a_shipper(tmp_path, store).run_once()
    assert report.failures == ["recovery: e0: IntegrityError"]
    assert report.freed == 2, "what is sealed goes all the same"
    assert (broken.parent / "0000000000000000.wal").exists()


def test_a_disk_that_cannot_be_read_is_told_and_does_not_stop_the_others(tmp_path, monkeypatch):
    store = FakeStore()
    bad = a_segment(tmp_path, 0, epoch="e0")
    a_segment(tmp_path, 0, epoch="e1")
    real = type(bad).read_bytes

    def read(path):
        if path == bad:
            raise OSError(5, "Input/output error")
        return real(path)

    monkeypatch.setattr(type(bad), "read_bytes", read)
    report = a_shipper(tmp_path, store).run_once()
    assert report.failures == ["disk: e0: OSError"]
    assert report.freed == 1
    assert bad.exists()


def test_an_object_that_the_store_will_not_take_does_not_stop_the_next(tmp_path):
    store = BadStore(fault="refused", strikes=f"{1:016d}-")
    for first in (0, 1, 2):
        a_segment(tmp_path, first)
    report = a_shipper(tmp_path, store).run_once()
    assert report.freed == 2
    assert report.failures == ["store_refused: AccessDenied"]
    assert files(tmp_path / "evidence" / "e1") == ["0000000000000001.sealed", "ended", "lock"]


@pytest.mark.parametrize("state", ["refuses", "does not lock", "is not there"])
def test_a_store_that_takes_nothing_is_not_sent_everything_each_round(tmp_path, state):
    store = FakeStore()
    if state == "refuses":
        store.is_permitted = False
    elif state == "does not lock":
        store.lock_mode = None
    else:
        store.is_open = False
    for first in range(20):
        a_segment(tmp_path, first)
    report = a_shipper(tmp_path, store).run_once()
    assert report.freed == 0
    assert 1 <= len(report.failures) <= shipper.STUCK_MAX
    assert len(store.puts) <= shipper.STUCK_MAX
    assert len(list((tmp_path / "evidence" / "e1").glob("*.sealed"))) == 20


def test_another_epoch_is_tried_when_one_s_segment_fails(tmp_path):
    store = BadStore(fault="lost", strikes="epoch=e0")
    a_segment(tmp_path, 0, epoch="e0")
    a_segment(tmp_path, 0, epoch="e1")
    assert a_shipper(tmp_path, store).run_once().freed == 1


@pytest.mark.parametrize(
    ("stands_for", "is_freed"),
    [
        (RETENTION, True),
        (RETENTION - timedelta(minutes=59), True),
        (RETENTION - timedelta(minutes=61), False),
        (timedelta(0), False),
    ],
)
def test_the_lock_must_last_from_the_moment_the_segment_was_sealed(tmp_path, stands_for, is_freed):
    store = FakeStore(retention=stands_for, clock=lambda: NOW)
    path = a_segment(tmp_path, 0)
    os.utime(path, (NOW.timestamp(), NOW.timestamp()))
    report = a_shipper(tmp_path, store, lambda: NOW).run_once()
    assert (report.freed == 1) == is_freed
    if not is_freed:
        assert report.failures == ["locked_too_short: 0000000000000000.sealed"]


def test_a_segment_sealed_under_a_clock_that_ran_ahead_is_not_stuck_for_ever(tmp_path):
    store = FakeStore(clock=lambda: NOW)
    path = a_segment(tmp_path, 0)
    os.utime(path, (NOW.timestamp() + 7 * 86400,) * 2)
    assert a_shipper(tmp_path, store, lambda: NOW).run_once().failures == []


def test_a_second_shipper_that_is_faster_does_no_harm(tmp_path, monkeypatch):
    store = FakeStore()
    path = a_segment(tmp_path, 0)
    a_segment(tmp_path, 0, epoch="e2")
    real = FakeStore.read_back

    def read_back(self, key):
        path.unlink(missing_ok=True)
        return real(self, key)

    monkeypatch.setattr(FakeStore, "read_back", read_back)
    report = a_shipper(tmp_path, store).run_once()
    assert report.failures == []
    real_complete = Shipper._is_complete

    def vanish(self, folder, made):
        for one in folder.iterdir():
            one.unlink()
        folder.rmdir()
        return real_complete(self, folder, made)

    a_segment(tmp_path, 0, epoch="e3")
    monkeypatch.setattr(Shipper, "_is_complete", vanish)
    assert a_shipper(tmp_path, store).run_once().failures == []


def running(shipping, stop, reports, interval=0.01):
    thread = threading.Thread(target=shipping.run, args=(stop, interval, reports.append))
    thread.start()
    return thread


def test_stopping_ships_once_more(tmp_path):
    store, stop, reports = FakeStore(), threading.Event(), []
    stop.set()
    a_segment(tmp_path, 0)
    thread = running(a_shipper(tmp_path, store), stop, reports)
    thread.join(20)
    assert [report.freed for report in reports] == [1]


class Waits:
    """An event that is never set before ``rounds`` waits, and writes down how long each was to be."""

    def __init__(self, rounds, between=lambda _: None):
        self.rounds, self.between, self.asked = rounds, between, []

    def is_set(self):
        return len(self.asked) >= self.rounds

    def wait(self, seconds):
        self.asked.append(seconds)
        self.between(len(self.asked))


def test_a_store_that_is_down_for_hours_is_asked_less_and_less_and_then_all_is_shipped(tmp_path):
    store, reports = FakeStore(is_open=False), []
    for first in range(30):
        a_segment(tmp_path, first)

    def between(rounds):
        store.is_open = rounds >= 40

    waits = Waits(42, between)
    a_shipper(tmp_path, store).run(waits, 0.5, reports.append)
    assert waits.asked[0] < waits.asked[3] < waits.asked[5], "backs off"
    assert all(20 < pause <= shipper.BACKOFF_MAX_SECONDS * 1.2 for pause in waits.asked[8:40])
    assert sum(waits.asked[:40]) > 20 * 60
    assert len(store.puts) == 40 + 60, "one attempt a round while it was down"
    assert [leaf["sequence"] for leaf in in_store(store)] == list(range(30))
    assert waits.asked[-1] == 0.5, "and is prompt again"
    assert reports[-1].failures == []


def test_one_poisoned_object_does_not_make_the_others_wait(tmp_path):
    store = BadStore(fault="no lock", strikes=f"{0:016d}-")
    a_segment(tmp_path, 0)
    waits = Waits(6, lambda rounds: a_segment(tmp_path, rounds))
    a_shipper(tmp_path, store).run(waits, 0.5, lambda _: None)
    assert waits.asked[:5] == [0.5] * 5 or all(pause <= 1.2 for pause in waits.asked)
