from __future__ import annotations

import asyncio
import json
import os
import shutil
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ext_proc.audit import frames, recovery, segments
from ext_proc.audit.record import build_leaf
from ext_proc.audit.recovery import recover
from ext_proc.audit.seal import seal
from ext_proc.errors import IntegrityError
from ext_proc.model import ExchangeId
from tests.fakes.log import AT, E1, ORIGIN, a_writer, files, intent, on_disk, outcome, told

LATER = AT + timedelta(minutes=5)
NAME = f"{ORIGIN}/{E1}"


def leaf(sequence, kind="inference.intent", number=0, **fields):
    exchange = {"exchange_id": f"exchange-{number}"} if kind.startswith("inference.") else {}
    return frames.encode_leaf(
        sequence, build_leaf(kind, origin=NAME, sequence=sequence, at=AT, fields=exchange | fields), [b"c" * 20]
    )


def carry(sequence, *numbers):
    told_open = [{"exchange_id": f"exchange-{n}", "intent_sequence": 1} for n in numbers]
    return frames.encode_carry(sequence, NAME, told_open)


def wal(folder, first, *parts, zeros=500, suffix=".wal"):
    folder.mkdir(exist_ok=True)
    (folder / segments.name_of(first, suffix)).write_bytes(b"".join(parts) + b"\0" * zeros)


@pytest.fixture
def folder(tmp_path):
    made = tmp_path / E1
    made.mkdir()
    return made


@pytest.fixture
async def dead(tmp_path):
    """What a worker leaves that is killed with two exchanges open: a folder that is not locked."""
    writer = await a_writer(tmp_path)
    await writer.record(intent(1), AT)
    await writer.record(intent(2), AT)
    await writer.record(outcome(1), AT)
    await writer.record(intent(3), AT)
    copy = tmp_path / "dead"
    shutil.copytree(tmp_path / "evidence" / E1, copy)
    await writer.close(AT)
    return copy


WHOLE = ["0 log.open", "1 intent 1", "2 intent 2", "3 outcome 1 completed", "4 intent 3", "5 log.recovered"]
ENDED = [*WHOLE, "6 outcome 2 interrupted", "7 outcome 3 interrupted", "8 undelivered 1"]


async def test_a_dead_log_is_ended_and_open_exchanges_are_interrupted(dead):
    assert recover(dead, LATER) == recovery.Recovered()
    assert told(on_disk(dead)) == ENDED
    assert files(dead) == ["0000000000000000.sealed", "0000000000000005.sealed", "ended", "lock"]
    for path in dead.glob("*.sealed"):
        assert seal(path.read_bytes()), "what is sealed can be shipped"
    said = on_disk(dead)[5]
    assert (said["last_good_sequence"], said["dropped_bytes"]) == (4, 0)
    assert (said["interrupted"], said["undelivered"]) == (2, 1)
    interrupted = on_disk(dead)[6]
    assert interrupted["intent_sequence"] == 2
    assert interrupted["outcome"]["code"] == "worker_died"
    assert interrupted["at"] == "2026-11-24T12:05:00.123456Z"


async def killed_after(tmp_path, *entries, over=(), **limits):
    """What is on record after a worker did this and was killed: the leaves from ``log.recovered`` on."""
    writer = await a_writer(tmp_path, **limits)
    for entry in entries:
        await writer.record(entry, AT)
        if entry.exchange_id in over and entry.kind == "inference.outcome":
            writer.ended(entry.exchange_id)
    async with asyncio.timeout(30):  # it goes to the disk without a record to go with
        while writer._ended:  # noqa: ASYNC110 - it is a thread that empties it
            await asyncio.sleep(0.01)
    await writer.note("heartbeat", {}, AT)
    copy = tmp_path / "dead"
    shutil.copytree(tmp_path / "evidence" / E1, copy)
    await writer.close(AT)
    recover(copy, LATER)
    leaves = on_disk(copy)
    for path in copy.glob("*.sealed"):
        assert seal(path.read_bytes())
    return leaves[[one["kind"] for one in leaves].index("log.recovered") :]


def ended_as(number, status, code=None):
    told_outcome = {"status": status, "http_status": 200, "code": code}
    return replace(outcome(number), facts={"outcome": told_outcome})


async def test_an_answer_that_may_not_have_been_given_is_told(tmp_path):
    """L7: the outcome says that it was released, and was durable before that. Nobody knows whether it came to it."""
    entries = [entry for n in range(3) for entry in (intent(n), outcome(n))]
    recovered, *said = await killed_after(tmp_path, *entries, over=("exchange-0", "exchange-2"))
    assert (recovered["interrupted"], recovered["undelivered"]) == (0, 1)
    [unknown] = said
    assert (unknown["kind"], unknown["exchange_id"], unknown["delivery"]) == (
        "inference.undelivered",
        "exchange-1",
        "unknown",
    )
    assert unknown["outcome_sequence"] == 4
    assert unknown["time"] == {"recorded": "2026-11-24T12:05:00.123456Z"}


@pytest.mark.parametrize(
    ("status", "code", "is_told"),
    [
        ("completed", None, True),
        ("error", None, True),
        ("error", "upstream_unreadable", False),
        ("denied", None, False),
        ("abandoned", None, False),
        ("unrecorded", "audit_unavailable", False),
    ],
)
async def test_only_an_outcome_that_tells_of_an_answer_is_in_doubt(tmp_path, status, code, is_told):
    recovered, *said = await killed_after(tmp_path, intent(1), ended_as(1, status, code))
    assert recovered["undelivered"] == len(said) == is_told


async def test_what_is_set_right_already_is_not_told_again(tmp_path):
    undelivered = replace(outcome(1), kind="inference.undelivered", facts={"outcome_sequence": 2})
    entries = (intent(1), outcome(1), undelivered, intent(2), outcome(2), ended_as(2, "unrecorded", "late"))
    assert len(await killed_after(tmp_path, *entries)) == 1


async def test_an_answer_in_doubt_outlives_its_segment(tmp_path):
    """Its segment is shipped and gone: the next one carries it; and what had ended by then it does not carry."""
    entries = [entry for n in range(20) for entry in (intent(n, b"x" * 1500), outcome(n))]
    entries.insert(10, replace(outcome(4), kind="inference.undelivered", facts={"outcome_sequence": 10}))
    over = tuple(f"exchange-{n}" for n in range(20) if n not in (2, 4, 19))
    _, *said = await killed_after(tmp_path, *entries, over=over, segment_bytes=16 * 1024)
    assert [one["exchange_id"] for one in said] == ["exchange-2", "exchange-19"]
    folder = tmp_path / "dead"
    assert len(list(folder.glob("*.sealed"))) > 2
    carries = [f for path in sorted(folder.glob("*.sealed")) for f in frames.scan(path.read_bytes()).frames]
    carried = [[one["exchange_id"] for one in f.untaken] for f in carries if f.type == frames.CARRY]
    assert carried
    assert all("exchange-2" in one and len(one) <= 3 for one in carried[1:])


async def test_running_it_again_changes_nothing(dead):
    recover(dead, LATER)
    before = {path.name: path.read_bytes() for path in dead.iterdir()}
    assert recover(dead, LATER + timedelta(hours=1)) == recovery.Recovered()
    assert {path.name: path.read_bytes() for path in dead.iterdir()} == before


async def test_a_live_log_is_left_alone(tmp_path):
    writer = await a_writer(tmp_path)
    folder = tmp_path / "evidence" / E1
    await writer.record(intent(1), AT)
    before = files(folder)
    assert recover(folder, LATER) is None
    assert files(folder) == before
    await writer.close(AT)
    assert recover(folder, LATER) == recovery.Recovered()
    assert told(on_disk(folder)) == ["0 log.open", "1 intent 1", "2 log.close"]
    assert files(folder) == ["0000000000000000.sealed", "ended", "lock"]


class Killed(Exception):
    pass


CALLS = ("unlink", "rename", "touch", "open")


def killing(monkeypatch, at):
    """Every change to the disk is a step; the process dies before step ``at``."""
    count = iter(range(10_000))

    def wrap(owner, name):
        real = getattr(owner, name)

        def step(*args, **named):
            is_change = name != "open" or (args and args[-1] in {"wb", "r+b"})
            if is_change and next(count) == at:
                raise Killed
            return real(*args, **named)

        monkeypatch.setattr(owner, name, step)

    for name in CALLS:
        wrap(Path, name)
    wrap(os, "fsync")
    return count


async def test_killed_before_any_change_to_the_disk_and_run_again(dead, tmp_path):
    steps = 0
    while True:
        copy = tmp_path / f"killed-{steps}"
        shutil.copytree(dead, copy)
        with pytest.MonkeyPatch.context() as patch:
            killing(patch, steps)
            try:
                recover(copy, LATER)
            except Killed:
                is_whole = False
            else:
                is_whole = True
        # What is sealed now may be shipped and freed before recovery runs again.
        shipped = {path.name: path.read_bytes() for path in copy.glob("*.sealed")}
        again = tmp_path / f"again-{steps}"
        shutil.copytree(copy, again)
        for name in shipped:
            (again / name).unlink()
        assert recover(copy, LATER) == recovery.Recovered()
        assert told(on_disk(copy)) == ENDED, steps
        recover(again, LATER + timedelta(hours=1))
        for name, content in shipped.items():
            assert not (again / name).exists(), "nothing is made twice"
            (again / name).write_bytes(content)
        assert told(on_disk(again)) == ENDED, steps
        if is_whole:
            break
        steps += 1
    assert steps >= 10, "there were that many steps to die at"


async def test_torn_at_every_byte_what_was_whole_is_kept_and_the_rest_is_put_aside(dead, tmp_path):
    path = dead / "0000000000000000.wal"
    whole = path.read_bytes()
    scan = frames.scan(whole)
    end = scan.good_bytes
    for cut in range(1, end, 37):
        copy = tmp_path / f"torn-{cut}"
        shutil.copytree(dead, copy)
        (copy / path.name).write_bytes(whole[:cut] + b"\0" * 1000)
        recovered = recover(copy, LATER)
        good = frames.scan(whole[:cut])
        leaves = on_disk(copy)
        assert [one["sequence"] for one in leaves] == list(range(len(leaves)))
        if not good.frames:
            assert leaves == []
        else:
            said = leaves[len(good.frames)]
            assert said["kind"] == "log.recovered"
            assert said["last_good_sequence"] == len(good.frames) - 1
            assert said["dropped_bytes"] == good.dropped_bytes
        aside = [copy / name for name in recovered.set_aside]
        assert b"".join(one.read_bytes() for one in aside) == whole[good.good_bytes : cut].rstrip(b"\0")
        for sealed in copy.glob("*.sealed"):
            seal(sealed.read_bytes())


def test_a_spoilt_record_in_the_middle_is_not_thrown_away_with_all_that_follow(folder):
    good, bad, after = leaf(0, "log.open"), bytearray(leaf(1)), leaf(2, number=2)
    bad[30] ^= 1
    wal(folder, 0, good, bytes(bad), after)
    recovered = recover(folder, LATER)
    assert recovered.set_aside == ("0000000000000000.quarantine",)
    assert (folder / "0000000000000000.quarantine").read_bytes() == bytes(bad) + after
    assert told(on_disk(folder)) == ["0 log.open", "1 log.recovered"]
    assert recover(folder, LATER).set_aside == (), "told once"


def test_a_segment_whose_first_frame_is_spoilt_is_put_aside_whole(folder):
    wal(folder, 0, b"XXXX" + leaf(0)[4:], leaf(1))
    assert recover(folder, LATER).set_aside == ("0000000000000000.quarantine",)
    assert (folder / "0000000000000000.quarantine").read_bytes().endswith(leaf(1))
    assert list(folder.glob("*.wal")) == []


def test_the_carry_stands_for_what_was_shipped(folder):
    wal(folder, 7, carry(7, 1, 2), leaf(7, "inference.outcome", 1))
    recover(folder, LATER)
    assert told(on_disk(folder)) == ["7 outcome 1", "8 log.recovered", "9 outcome 2 interrupted"]


def test_each_carry_says_all_that_is_open_whatever_is_missing_before_it(folder):
    """An elder segment that the store would not keep is still here; the one between was shipped and freed."""
    wal(folder, 0, leaf(0, number=1), leaf(1, number=2), zeros=0, suffix=".sealed")
    wal(folder, 4, carry(4, 3))  # between: 1 and 2 ended, 3 began
    recover(folder, LATER)
    assert told(on_disk(folder)) == ["0 intent 1", "1 intent 2", "4 log.recovered", "5 outcome 3 interrupted"]


def test_killed_between_two_segments(folder):
    """Steps 4 and 5 of the writer: the new segment is empty, or has only its carry."""
    wal(folder, 0, leaf(0, number=1), leaf(1, "inference.outcome", 1), leaf(2, number=2))
    for newest in ((), (carry(3, 2),)):
        copy = folder.parent / f"copy-{len(newest)}"
        shutil.copytree(folder, copy)
        wal(copy, 3, *newest)
        recover(copy, LATER)
        assert told(on_disk(copy))[3:] == ["3 log.recovered", "4 outcome 2 interrupted"]
        assert files(copy) == ["0000000000000000.sealed", "0000000000000003.sealed", "ended", "lock"]


def test_a_log_that_ended_is_not_ended_again_when_its_end_is_shipped_before_its_elders(folder):
    wal(folder, 0, leaf(0, number=1), zeros=0, suffix=".sealed")
    wal(folder, 1, carry(1, 1))
    recover(folder, LATER)
    assert told(on_disk(folder)) == ["0 intent 1", "1 log.recovered", "2 outcome 1 interrupted"]
    (folder / "0000000000000001.sealed").unlink()  # shipped, read back, freed
    recover(folder, LATER)
    assert told(on_disk(folder)) == ["0 intent 1"]


async def test_a_closed_log_is_not_ended_again_when_its_end_was_shipped_while_it_was_locked(tmp_path):
    writer = await a_writer(tmp_path)
    await writer.record(intent(1), AT)
    for n in range(10):
        await writer.record(outcome(n, b"x" * 12_000), AT)
    await writer.close(AT)
    folder = tmp_path / "evidence" / E1
    first, *rest = sorted(folder.glob("*.sealed"))
    for path in rest:
        path.unlink()
    before = first.read_bytes()
    recover(folder, LATER)
    assert [path.name for path in folder.glob("*.*")] == [first.name]
    assert first.read_bytes() == before


def test_killed_after_the_last_leaf_and_before_the_seal(folder):
    wal(folder, 0, leaf(0, "log.open"), leaf(1, "log.close"))
    for is_marked in (False, True):
        copy = folder.parent / f"copy-{is_marked}"
        shutil.copytree(folder, copy)
        if is_marked:
            segments.mark_ended(copy)
        recover(copy, LATER)
        assert told(on_disk(copy)) == ["0 log.open", "1 log.close"]
        assert list(copy.glob("*.wal")) == []


def test_an_epoch_in_which_nothing_happened_leaves_nothing(folder):
    wal(folder, 0)
    (folder / "spare").write_bytes(b"\0" * 100)
    (folder / "spare.tmp").write_bytes(b"\0" * 100)
    assert recover(folder, LATER) == recovery.Recovered()
    assert files(folder) == ["ended", "lock"]


def test_the_spare_goes_first_so_that_a_full_disk_has_room_for_the_end(folder, monkeypatch):
    wal(folder, 0, leaf(0))
    (folder / "spare").write_bytes(b"\0" * 100)
    seen = []
    real = recovery._last_words
    monkeypatch.setattr(recovery, "_last_words", lambda *args: seen.append((folder / "spare").exists()) or real(*args))
    recover(folder, LATER)
    assert seen == [False]


def test_frames_that_check_and_hold_no_record_are_an_integrity_error_and_change_nothing(folder):
    wal(folder, 0, frames.encode_leaf(0, b"not json", []))
    before = (folder / "0000000000000000.wal").read_bytes()
    with pytest.raises(IntegrityError):
        recover(folder, LATER)
    assert (folder / "0000000000000000.wal").read_bytes() == before
    assert segments.take_lock(folder) is not None, "the lock is given back"


def test_a_backlog_is_read_once_not_each_round(folder, monkeypatch):
    for n in range(5):
        wal(folder, n, leaf(n, number=n), zeros=0, suffix=".sealed")
    recover(folder, LATER)
    scans = []
    real = frames.scan
    monkeypatch.setattr(frames, "scan", lambda data: scans.append(1) or real(data))
    recover(folder, LATER)
    assert scans == []


EVENTS = st.lists(st.tuples(st.sampled_from(["intent", "outcome", "over", "seal"]), st.integers(0, 4)), max_size=25)
COMPLETED = {"outcome": {"status": "completed", "code": None}}


@settings(max_examples=60, deadline=None)
@given(events=EVENTS, shipped=st.integers(0, 3))
def test_whatever_happened_what_was_open_is_interrupted_and_what_was_not_over_in_doubt_and_nothing_else(
    tmp_path_factory, events, shipped
):
    folder = tmp_path_factory.mktemp("law") / E1
    folder.mkdir()
    parts, first, sequence, open_now, untaken = [leaf(0, "log.open")], 0, 1, {}, {}
    for what, number in events:
        if what == "seal":
            wal(folder, first, *parts, zeros=0, suffix=".sealed")
            told_open = [{"exchange_id": f"exchange-{n}", "intent_sequence": s} for n, s in open_now.items()]
            told_untaken = [{"exchange_id": f"exchange-{n}", "outcome_sequence": s} for n, s in untaken.items()]
            parts, first = [frames.encode_carry(sequence, NAME, told_open, told_untaken)], sequence
            sequence_before = sequence
            parts.append(leaf(sequence, "heartbeat"))
            sequence = sequence_before + 1
            continue
        if what == "over":
            parts.append(frames.encode_ended(sequence, [untaken.pop(number, 999)]))
            continue
        parts.append(leaf(sequence, f"inference.{what}", number, **(COMPLETED if what == "outcome" else {})))
        if what == "intent":
            open_now[number] = sequence
        else:
            open_now.pop(number, None)
            untaken[number] = sequence
        sequence += 1
    wal(folder, first, *parts)
    for path in sorted(folder.glob("*.sealed"))[:shipped]:
        path.unlink()
    recover(folder, LATER)
    last = on_disk(folder)
    at = next(index for index, one in enumerate(last) if one["kind"] == "log.recovered")
    assert last[at]["sequence"] == sequence
    said = last[at + 1 :]
    interrupted = {(one["exchange_id"], one["intent_sequence"]) for one in said if "intent_sequence" in one}
    doubted = {(one["exchange_id"], one["outcome_sequence"]) for one in said if "outcome_sequence" in one}
    assert interrupted == {(f"exchange-{n}", s) for n, s in open_now.items()}
    assert doubted == {(f"exchange-{n}", s) for n, s in untaken.items()}
    assert len(said) == len(interrupted) + len(doubted) == last[at]["interrupted"] + last[at]["undelivered"]


async def test_a_writer_killed_at_any_write_loses_nothing_that_it_acknowledged(tmp_path):
    """The disk as it is before each write and sync, with a process that dies there."""
    snapshots = []
    folder = tmp_path / "evidence" / E1
    acknowledged: list[int] = []

    class Watching(segments.FileOps):
        def snap(self):
            copy = tmp_path / f"snap-{len(snapshots)}"
            shutil.copytree(folder, copy)
            snapshots.append((copy, list(acknowledged)))

        def write(self, descriptor, data, offset):
            self.snap()
            segments.FileOps.write(self, descriptor, data, offset)

        def sync(self, descriptor):
            self.snap()
            segments.FileOps.sync(self, descriptor)

        def allocate(self, path, size_bytes):
            self.snap()
            segments.FileOps.allocate(self, path, size_bytes)

    writer = await a_writer(tmp_path, ops=Watching(), segment_bytes=16 * 1024)
    for n in range(12):
        for entry in (
            intent(n, b"x" * 1500),
            outcome(n) if n % 3 else replace(outcome(n), exchange_id=ExchangeId("z")),
        ):
            receipt = await writer.record(entry, AT)
            acknowledged.append(receipt.sequence)
    await writer.close(AT)
    assert len(snapshots) > 50
    for copy, known in snapshots:
        recover(copy, LATER)
        leaves = on_disk(copy)
        sequences = [one["sequence"] for one in leaves]
        assert sequences == list(range(len(sequences)))
        assert set(known) <= set(sequences)
        if leaves:
            assert sum(one["kind"] in {"log.close", "log.recovered"} for one in leaves) == 1
            intents = {one["exchange_id"] for one in leaves if one["kind"] == "inference.intent"}
            outcomes = {one["exchange_id"] for one in leaves if one["kind"] == "inference.outcome"}
            if leaves[-1]["kind"] != "log.close":
                assert intents <= outcomes, "every exchange has its end"
        shutil.rmtree(copy)


async def test_after_a_power_cut_numbers_have_no_hole(tmp_path):
    """What was not synced may be gone, whole files of it: keep of each file only what a sync covered."""
    folder = tmp_path / "evidence" / E1
    synced: dict[int, int] = {}
    snapshots = []

    class Forgetting(segments.FileOps):
        def write(self, descriptor, data, offset):
            segments.FileOps.write(self, descriptor, data, offset)
            self.snap()

        def sync(self, descriptor):
            segments.FileOps.sync(self, descriptor)
            inode = os.fstat(descriptor).st_ino
            path = next((p for p in folder.iterdir() if p.stat().st_ino == inode), None)
            synced[inode] = frames.scan(path.read_bytes()).good_bytes if path else 0
            self.snap()

        def snap(self):
            copy = tmp_path / f"cut-{len(snapshots)}"
            shutil.copytree(folder, copy)
            for path in folder.iterdir():
                if path.suffix == ".wal":
                    durable = synced.get(path.stat().st_ino, 0)
                    (copy / path.name).write_bytes(path.read_bytes()[:durable].ljust(16 * 1024, b"\0"))
            snapshots.append(copy)

    writer = await a_writer(tmp_path, ops=Forgetting(), segment_bytes=16 * 1024)
    for _ in range(4):
        await asyncio.gather(*(writer.record(intent(n, b"x" * 1500), AT) for n in range(12)))
    await writer.close(AT)
    assert len(snapshots) > 50
    for copy in snapshots:
        recover(copy, LATER)
        sequences = [one["sequence"] for one in on_disk(copy)]
        assert sequences == list(range(len(sequences))), json.dumps(told(on_disk(copy)))
        shutil.rmtree(copy)
