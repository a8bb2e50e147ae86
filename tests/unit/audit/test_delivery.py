"""One log on its way: its tree after a crash at each step, what is lost and said to be, its hours, its damaged state."""

from __future__ import annotations

import asyncio
import errno
import hashlib
import json
import os
import shutil
from datetime import datetime, timedelta
from pathlib import Path

import pytest
import zstandard

from ext_proc.audit import delivery, frames, segments
from ext_proc.audit.epoch import EpochState
from ext_proc.audit.merkle import Frontier, hash_leaf
from ext_proc.audit.note import is_signed, json_of, open_note, read_checkpoint
from ext_proc.audit.record import build_leaf
from ext_proc.audit.seal import read_events
from ext_proc.audit.store import StoreUnavailable
from ext_proc.errors import IntegrityError
from tests.fakes.auditor import audit, findings
from tests.fakes.log import AT, E1, ORIGIN, a_dead_log, a_writer, in_store, intent, outcome, told
from tests.fakes.shipping import SIGNER, Notes, StandingClock, a_shipper, a_store, ship_all
from tests.fakes.signer import FakeSigner
from tests.fakes.store import BadStore, FakeStore

NAME = f"{ORIGIN}/{E1}"
HOUR = timedelta(hours=1)
LOSS = {"sequence_gap"}
"""What a verifier may say where the log itself says that records are lost; nothing else may be wrong."""


@pytest.fixture
def clock():
    return StandingClock()


@pytest.fixture
def store(clock):
    return a_store(clock)


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "evidence" / E1


def notes_of(store, room):
    return [open_note(store.fetch(key).decode()) for key in store.keys(f"v1/{room}/")]


def digests(store):
    return [json_of(one) for one in notes_of(store, "digest")]


def heads(store):
    return [read_checkpoint(one) for one in notes_of(store, "log")]


def only_once(store):
    assert all(len(versions) == 1 for versions in store.objects.values())
    sequences = [leaf["sequence"] for leaf in in_store(store)]
    assert sequences == list(range(len(sequences))), "each leaf once, in order"
    sizes = [size for _, size, _ in heads(store)]
    assert len(sizes) == len(set(sizes)), "one checkpoint of a size"


# The tree ----------------------------------------------------------------------------------------------------------


def test_a_checkpoint_after_each_segment_signs_the_tree_so_far(tmp_path, clock, store):
    a_dead_log(tmp_path, [3, 1, 5])
    a_shipper(tmp_path, store, clock).run_once()
    leaves = [line for key in store.keys("v1/events/") for line in read_events(store.fetch(key))]
    tree = Frontier()
    expected = []
    for index, leaf in enumerate(leaves, 1):
        tree.append([hash_leaf(leaf)])
        if index in {3, 4, 9}:
            expected.append((NAME, index, tree.root()))
    assert heads(store) == expected
    assert all(is_signed(one, NAME, SIGNER.public_key) for one in notes_of(store, "log"))
    order = [key.split("/")[1] for key in store.puts]
    assert order == ["roster", *["payload", "events", "log"] * 2, "payload", "events", "log", "digest"]
    assert findings(store) == []


class Killed(BaseException):
    pass


def steps(monkeypatch):
    """Every change to disk or store is a step; ``at`` says before which one the process dies, ``after`` it if told."""
    state = {"count": 0, "at": -1, "is_after": False}

    def wrap(owner, name):
        real = getattr(owner, name)

        def step(*args, **named):
            if name == "open" and (not args[1:] or args[1] != "w"):
                return real(*args, **named)
            mine = state["count"]
            state["count"] += 1
            if mine == state["at"] and not state["is_after"]:
                raise Killed
            result = real(*args, **named)
            if mine == state["at"]:
                raise Killed
            return result

        monkeypatch.setattr(owner, name, step)

    for name in ("put", "read_back"):
        wrap(FakeStore, name)
    for name in ("unlink", "rename", "touch", "open", "rmdir"):
        wrap(Path, name)
    wrap(os, "fsync")
    return state


@pytest.mark.parametrize("is_after", [False, True])
def test_killed_at_any_step_and_begun_again_the_same_objects_are_made(tmp_path, clock, is_after):
    """The golden run says what must be there; every other run dies once, and must come to exactly that."""
    golden = a_store(clock)
    times = [AT, AT, AT + HOUR]

    def house(name, store, monkeypatch, at):
        clock.now = AT + 2 * HOUR
        place = tmp_path / name
        place.mkdir()
        a_dead_log(place, [2, 2, 1], times=times)
        notes = Notes()
        state = steps(monkeypatch)
        state["at"], state["is_after"] = at, is_after
        is_dead = False
        try:
            a_shipper(place, store, clock, notes).run_once()
        except Killed:
            is_dead = True
        state["at"] = -1
        ship_all(a_shipper(place, store, clock, notes))
        assert list((place / "evidence").iterdir()) == []
        return notes, is_dead, state["count"]

    with pytest.MonkeyPatch.context() as patch:
        golden_notes, _, count = house("golden", golden, patch, -1)
    assert golden_notes.kinds() == ["epoch.born", "digest.made", "digest.made", "epoch.ended"]
    assert set(findings(golden)) == {"heartbeat_missing"}, "it was silent for an hour"
    deaths = 0
    for at in range(count):
        store = a_store(clock)
        with pytest.MonkeyPatch.context() as patch:
            notes, is_dead, _ = house(f"run-{is_after}-{at}", store, patch, at)
        deaths += is_dead
        assert {key: one[0].body for key, one in store.objects.items()} == {
            key: one[0].body for key, one in golden.objects.items()
        }, at
        only_once(store)
        seen = [json.dumps([kind, facts]) for kind, facts in notes.told]
        wanted = [json.dumps([kind, facts]) for kind, facts in golden_notes.told]
        assert list(dict.fromkeys(seen)) == wanted, "said perhaps twice, never otherwise"
    assert deaths > 40, "there were that many steps to die at"


def test_the_state_is_durable_before_the_segment_is_freed(tmp_path, clock, store, folder, monkeypatch):
    a_dead_log(tmp_path, [2, 2])
    seen = []
    real = delivery.Delivery._free

    def free(self, segment):
        seen.append((int(segment.stem), EpochState.load(folder).frontier.size))
        real(self, segment)

    monkeypatch.setattr(delivery.Delivery, "_free", free)
    a_shipper(tmp_path, store, clock).run_once()
    assert seen == [(0, 2), (2, 4)]


@pytest.mark.parametrize("down_after", range(9))
def test_a_signer_that_fails_frees_nothing_and_spoils_nothing(tmp_path, clock, store, down_after):
    class Fails(FakeSigner):
        def sign(self, data):
            self.is_down = len(self.signed) >= down_after
            return super().sign(data)

    a_dead_log(tmp_path, [2, 2, 2])
    report = a_shipper(tmp_path, store, clock, signer=Fails()).run_once()
    signed = min(down_after, 5)
    assert report.freed == max(0, min(signed - 1, 3))
    assert report.failures == ([f"audit_unavailable: signer: down: {E1}"] if down_after < 5 else [])
    ship_all(a_shipper(tmp_path, store, clock))
    only_once(store)
    assert findings(store) == []
    assert list((tmp_path / "evidence").iterdir()) == []


# What the store has already ----------------------------------------------------------------------------------------


def killed_after(monkeypatch, room, store, run):
    """Die after the first object of ``room`` is in the store."""
    real = FakeStore.put

    def put(self, key, body, sha256):
        real(self, key, body, sha256)
        if f"v1/{room}/" in key:
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(FakeStore, "put", put)
        with pytest.raises(Killed):
            run()


@pytest.mark.parametrize("room", ["events", "log"])
def test_another_zstandard_after_the_restart_adopts_what_is_there(tmp_path, clock, store, monkeypatch, room):
    a_dead_log(tmp_path, [40, 2])
    killed_after(monkeypatch, room, store, a_shipper(tmp_path, store, clock).run_once)
    real = zstandard.ZstdCompressor

    def other(level):
        assert level == 3
        return real(level=9, write_checksum=True)

    monkeypatch.setattr(zstandard, "ZstdCompressor", other)
    ship_all(a_shipper(tmp_path, store, clock))
    assert len(list(store.keys("v1/events/"))) == 2
    only_once(store)
    [digest] = digests(store)
    assert {one["key"] for one in digest["objects"]} == {*store.keys("v1/events/"), *store.keys("v1/payload/")}
    assert findings(store) == []


@pytest.mark.parametrize("room", ["roster", "log", "digest"])
def test_a_key_that_was_rotated_in_between_adopts_what_the_old_one_signed(tmp_path, clock, store, monkeypatch, room):
    a_dead_log(tmp_path, [2, 2])
    killed_after(monkeypatch, room, store, a_shipper(tmp_path, store, clock, signer=FakeSigner("old")).run_once)
    before = len(store.objects)
    report = ship_all(a_shipper(tmp_path, store, clock, signer=FakeSigner("new")))
    assert report.failures == []
    only_once(store)
    assert len(store.objects) == 8 >= before
    assert len(list(store.keys("v1/roster/"))) == len(list(store.keys("v1/digest/"))) == 1


def test_only_the_first_segment_after_a_start_asks_the_store_what_it_has(tmp_path, clock, store, monkeypatch):
    a_dead_log(tmp_path, [1] * 12)
    asked = []
    real = FakeStore.keys
    monkeypatch.setattr(FakeStore, "keys", lambda self, prefix: asked.append(prefix) or real(self, prefix))
    a_shipper(tmp_path, store, clock).run_once()
    assert [key.split("/")[1] for key in asked] == ["log", "events", "log"]
    assert asked[0].endswith("/checkpoint/"), "how far the log is; then events (it has no payload), checkpoint"


def test_a_birth_record_that_says_something_else_is_an_incident_and_the_worker_is_not_born(tmp_path, clock, store):
    a_dead_log(tmp_path, [2, 2])
    day = f"{AT:%Y-%m-%d}"
    key = f"v1/roster/dt={day}/gw-0-0.{E1}.note"
    store.put(key, b"squatted", hashlib.sha256(b"squatted").hexdigest())
    report = a_shipper(tmp_path, store, clock).run_once()
    assert report.failures == [f"epoch: other bytes under this key in the store: {E1}"]
    assert report.freed == 2, "what the log holds goes all the same: it is dead"
    assert "object_unreadable" in findings(store)


# Losses ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("damaged", [[1], [1, 2], [1, 3]])
def test_what_is_put_aside_has_a_leaf_each_that_says_so_and_the_rest_verifies(tmp_path, clock, store, folder, damaged):
    paths = a_dead_log(tmp_path, [2, 3, 1, 2, 2])
    kept = {}
    for index in damaged:
        kept[paths[index].stem] = paths[index].read_bytes()[:-3]
        paths[index].write_bytes(kept[paths[index].stem])
    notes = Notes()
    report = ship_all(a_shipper(tmp_path, store, clock, notes))
    assert report.failures == []
    assert {path.stem: path.read_bytes() for path in folder.glob("*.quarantine")} == kept, "for a person, as it was"
    leaves = in_store(store)
    spans = {1: range(2, 5), 2: range(5, 6), 3: range(6, 8)}
    lost = [sequence for index in damaged for sequence in spans[index]]
    assert [leaf["sequence"] for leaf in leaves] == list(range(10))
    assert [leaf["sequence"] for leaf in leaves if leaf["kind"] == "log.lost"] == lost
    for leaf in leaves:
        if leaf["kind"] == "log.lost":
            assert leaf["lost_origin"] == leaf["origin"] == NAME
            assert leaf["first_sequence"] <= leaf["sequence"] <= leaf["last_sequence"]
            assert leaf["reason"] == "segment_quarantined"
    only_once(store)
    assert set(findings(store)) <= LOSS
    assert [kind for kind, _ in notes.told].count("segment.quarantined") == len(damaged)
    assert a_shipper(tmp_path, store, clock).run_once().quarantined == [], "told once"


def test_a_hole_of_many_records_takes_several_objects(tmp_path, clock, store, monkeypatch):
    monkeypatch.setattr(delivery, "_LOST_MAX", 4)
    paths = a_dead_log(tmp_path, [2, 9, 2])
    paths[1].write_bytes(b"AFW1")
    a_shipper(tmp_path, store, clock).run_once()
    assert [leaf["sequence"] for leaf in in_store(store)] == list(range(13))
    assert [size for _, size, _ in heads(store)] == [2, 6, 10, 11, 13]
    assert set(findings(store)) <= LOSS


def test_a_segment_that_somebody_removed_is_told_as_missing(tmp_path, clock, store):
    paths = a_dead_log(tmp_path, [2, 2, 2])
    paths[1].unlink()
    a_shipper(tmp_path, store, clock).run_once()
    assert {leaf["reason"] for leaf in in_store(store) if leaf["kind"] == "log.lost"} == {"segment_missing"}
    assert set(findings(store)) <= LOSS


def test_the_last_words_put_aside_leave_a_log_that_does_not_end(tmp_path, clock, store):
    paths = a_dead_log(tmp_path, [2, 2])
    paths[1].write_bytes(b"AFW1")
    notes = Notes()
    ship_all(a_shipper(tmp_path, store, clock, notes))
    assert notes.kinds() == ["epoch.born", "segment.quarantined", "digest.made", "log.lost", "epoch.ended"]
    lost = notes.told[3][1]
    assert (lost["lost_origin"], lost["first_sequence"], lost["last_sequence"]) == (NAME, 2, None)
    assert notes.told[4][1]["end"] is None
    assert {"epoch_unended"} <= set(findings(store)) <= {"epoch_unended", *LOSS}


def test_a_log_whose_beginning_is_spoilt_still_goes(tmp_path, clock, store):
    paths = a_dead_log(tmp_path, [2, 2, 2])
    paths[0].write_bytes(b"XXXX" + paths[0].read_bytes()[4:])
    report = ship_all(a_shipper(tmp_path, store, clock))
    assert report.failures == []
    assert told(in_store(store))[0] == "0 log.lost"
    assert findings(store) == ["leaf_misplaced", "roster_missing", "sequence_gap", "tile_mismatch"], (
        "without a birth, no key for others"
    )


def test_a_live_log_whose_beginning_is_spoilt_is_not_announced(tmp_path, clock, store, folder):
    paths = a_dead_log(tmp_path, [2, 2])
    paths[0].write_bytes(b"XXXX" + paths[0].read_bytes()[4:])
    lock = segments.take_lock(folder)
    a_shipper(tmp_path, store, clock).run_once()
    assert store.objects == {}
    assert not (folder / "born").exists()
    os.close(lock)


def test_the_torn_end_that_recovery_cut_off_is_not_lost_to_a_segment_put_aside(tmp_path, clock, store, folder):
    paths = a_dead_log(tmp_path, [2, 2])
    aside = paths[1].with_suffix(".quarantine")
    aside.write_bytes(b"torn")
    paths[1].write_bytes(b"AFW1")
    a_shipper(tmp_path, store, clock).run_once()
    assert aside.read_bytes() == b"torn"
    assert (folder / f"{paths[1].name}.quarantine").read_bytes() == b"AFW1"


# Hours -------------------------------------------------------------------------------------------------------------


def test_digests_are_a_chain_over_the_hours(tmp_path, clock, store):
    times = [AT, AT + HOUR / 4, AT + HOUR, AT + HOUR, AT + 3 * HOUR]
    a_dead_log(tmp_path, [2, 1, 2, 1, 2], times=times)
    clock.now = AT + 3 * HOUR
    a_shipper(tmp_path, store, clock).run_once()
    keys = list(store.keys("v1/digest/"))
    made = digests(store)
    assert [key.split("/")[3] for key in keys] == ["hour=12", "hour=13", "hour=15"]
    assert [(one["number"], one["first_sequence"], one["size"], one["is_last"]) for one in made] == [
        (0, 0, 3, False),
        (1, 3, 6, False),
        (2, 6, 8, True),
    ]
    stored = [None, *(store.read_back(key).sha256 for key in keys)]
    assert [one["previous_sha256"] for one in made] == stored[:-1]
    assert [one["key"] for digest in made for one in digest["objects"]] == [
        key for key in store.puts if key.startswith(("v1/events/", "v1/payload/"))
    ]
    assert sum(sum(one["counts"].values()) for one in made) == 8
    assert "heartbeat_missing" in findings(store), "it was silent for hours"
    assert set(findings(store)) == {"heartbeat_missing"}


def sealed_kinds(folder):
    found = [frame for path in folder.glob("*.sealed") for frame in frames.scan(path.read_bytes()).frames]
    return [json.loads(frame.leaf)["kind"] for frame in found if frame.type == frames.LEAF]


async def test_an_hour_that_is_over_gets_its_digest_though_nothing_more_comes(tmp_path, clock, store, folder):
    """A quiet hour: one heartbeat, and then a clock that goes on."""
    writer = await a_writer(tmp_path, seal_seconds=0.05)
    await writer.note("heartbeat", {}, AT)
    async with asyncio.timeout(20):
        while "heartbeat" not in sealed_kinds(folder):  # noqa: ASYNC110 - the first leaf may be sealed by itself
            await asyncio.sleep(0.01)
    shipping = a_shipper(tmp_path, store, clock)
    shipping.run_once()
    assert digests(store) == []
    clock.now = datetime.fromisoformat("2026-11-24T13:04:59Z")
    shipping.run_once()
    assert digests(store) == [], "something of that hour may still be on its way"
    clock.now = datetime.fromisoformat("2026-11-24T13:05:01Z")
    for _ in range(3):
        shipping.run_once()
    [one] = digests(store)
    assert (one["number"], one["is_last"], one["counts"]["log.open"]) == (0, False, 1)
    await writer.note("heartbeat", {}, clock.now)
    await writer.close(clock.now)
    ship_all(shipping)
    assert [one["is_last"] for one in digests(store)] == [False, True]
    assert set(findings(store)) <= {"heartbeat_missing"}


def test_a_clock_put_back_over_the_hour_stays_in_one_digest(tmp_path, clock, store):
    """Within the verifier's tolerance: 13:01, then 12:58."""
    base = datetime.fromisoformat("2026-11-24T13:01:00Z")
    name = f"{base:%Y%m%dT%H%M%S%f}-00000001"
    a_dead_log(tmp_path, [2, 2, 1], name, times=[base, base - timedelta(minutes=3), base])
    clock.now = base
    a_shipper(tmp_path, store, clock).run_once()
    assert [key.split("/")[3] for key in store.keys("v1/events/")] == ["hour=12", "hour=13", "hour=13"]
    assert [one["size"] for one in digests(store)] == [5]
    # An export reads objects in the order of their keys, so its tree for the tools of others has no place for this log.
    assert set(findings(store)) <= {"tile_mismatch"}


def test_the_clock_of_the_shipper_put_back_makes_no_second_digest_of_what_one_covers(tmp_path, clock, store):
    a_dead_log(tmp_path, [2, 2], times=[AT, AT + HOUR])
    clock.now = AT + HOUR
    store.is_open = False
    shipping = a_shipper(tmp_path, store, clock)
    shipping.run_once()
    store.is_open = True
    clock.now = AT - HOUR
    ship_all(shipping)
    assert [(one["first_sequence"], one["size"]) for one in digests(store)] == [(0, 2), (2, 4)]


# State -------------------------------------------------------------------------------------------------------------


def store_is_down_from(patch, sequence):
    real = FakeStore.put

    def put(self, key, body, sha256):
        if f"/{sequence:016d}-" in key and "v1/log/" not in key:
            raise StoreUnavailable("ConnectTimeoutError")
        real(self, key, body, sha256)

    patch.setattr(FakeStore, "put", put)


def half_shipped(tmp_path, clock, store, monkeypatch, *, hours=0):
    """Two of four segments are in the store, and freed."""
    times = [AT + hours * HOUR * index for index in range(4)]
    paths = a_dead_log(tmp_path, [2, 3, 2, 1], times=times)
    clock.now = times[-1] + timedelta(minutes=1)
    with monkeypatch.context() as patch:
        store_is_down_from(patch, 5)
        assert a_shipper(tmp_path, store, clock).run_once().freed == 2
    assert not paths[1].exists() and paths[2].exists()


DAMAGE = {
    "cut off": lambda raw: raw[:-9],
    "empty": lambda raw: b"",
    "a digit of a hash": lambda raw: raw.replace(b'"hashes": ["', b'"hashes": ["0', 1).replace(
        b'"size": 5', b'"size": 5'
    ),
    "another size": lambda raw: raw.replace(b'"size": 5', b'"size": 4'),
    "not an object": lambda raw: b"[]",
    "removed": None,
}


@pytest.mark.parametrize("hours", [0, 1])
@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_state_is_made_anew_from_the_store(tmp_path, clock, store, folder, monkeypatch, damage, hours):
    half_shipped(tmp_path, clock, store, monkeypatch, hours=hours)
    state = folder / "state.json"
    before = EpochState.load(folder)
    if DAMAGE[damage] is None:
        state.unlink()
    else:
        state.write_bytes(DAMAGE[damage](state.read_bytes()))
    report = a_shipper(tmp_path, store, clock).run_once()
    assert report.quarantined == [f"{E1}/state.json: lost or damaged, made anew from the store"]
    assert report.failures == []
    only_once(store)
    assert before.frontier.size == 5
    assert set(findings(store)) <= ({"heartbeat_missing"} if hours else set())
    assert list((tmp_path / "evidence").iterdir()) == []


@pytest.mark.parametrize("hours", [0, 1])
def test_a_state_made_anew_is_the_one_that_was(tmp_path, clock, store, folder, monkeypatch, hours):
    half_shipped(tmp_path, clock, store, monkeypatch, hours=hours)
    before = EpochState.load(folder)
    assert delivery.resume.rebuild(store, NAME, clock.now) == before


def test_a_state_that_is_behind_is_brought_up_from_the_store(tmp_path, clock, store, folder, monkeypatch):
    """Restored from a backup, say: with the old one every leaf would get a second place."""
    paths = a_dead_log(tmp_path, [2, 2, 2, 1])
    old = []
    real = EpochState.save

    def save(self, where):
        real(self, where)
        old.append((where / "state.json").read_bytes())

    with monkeypatch.context() as patch:
        patch.setattr(EpochState, "save", save)
        store_is_down_from(patch, 4)
        a_shipper(tmp_path, store, clock).run_once()
    assert not paths[1].exists() and paths[2].exists()
    (folder / "state.json").write_bytes(old[1])
    assert EpochState.load(folder).frontier.size == 2
    assert ship_all(a_shipper(tmp_path, store, clock)).failures == []
    only_once(store)
    assert findings(store) == []


def test_a_store_that_holds_another_log_than_was_signed_is_not_built_upon(tmp_path, clock, store, folder, monkeypatch):
    half_shipped(tmp_path, clock, store, monkeypatch)
    (folder / "state.json").unlink()
    key = next(iter(store.keys("v1/events/")))
    leaf = build_leaf("heartbeat", origin=NAME, sequence=0, at=AT, fields={})
    lines = [leaf, *list(read_events(store.fetch(key)))[1:]]
    forged = zstandard.ZstdCompressor().compress(b"".join(one + b"\n" for one in lines))
    original = store.objects[key]
    store.objects[key] = [original[0].__class__(forged, "COMPLIANCE", original[0].retain_until, AT)]
    shipping = a_shipper(tmp_path, store, clock)
    report = shipping.run_once()
    assert report.failures == [f"epoch: the log in the store is not the one that was signed: {E1}"]
    assert len(list(folder.glob("*.sealed"))) == 2, "nothing is freed; a person must look"
    with pytest.raises(IntegrityError):
        delivery.resume.rebuild(store, NAME, clock.now)


@pytest.mark.parametrize("stolen", [0, 1, 2])
def test_a_full_disk_can_still_be_emptied(tmp_path, clock, store, folder, monkeypatch, stolen):
    """The state has no room: the segment that was read back gives its own. (``stolen``: others are faster at first.)"""
    paths = a_dead_log(tmp_path, [2, 2, 2])
    real = EpochState.save
    disk = {"used": sum(path.stat().st_size for path in paths), "stolen": stolen}

    def save(self, where):
        used = sum(path.stat().st_size for path in where.glob("*.sealed"))
        if self.frontier.size and used:
            is_room = used < disk["used"]
            disk["used"] = used
            if is_room and disk["stolen"]:
                disk["stolen"] -= 1
                is_room = False
            if not is_room:
                (where / ".state.json.new").write_bytes(b"")
                raise OSError(errno.ENOSPC, "No space left on device")
        real(self, where)

    monkeypatch.setattr(EpochState, "save", save)
    for turn in range(8):
        report = (
            ship_all(a_shipper(tmp_path, store, clock), 1) if turn % 2 else a_shipper(tmp_path, store, clock).run_once()
        )
        assert report.quarantined == []
        assert report.failures in ([], [f"disk: OSError: {E1}"])
        if stolen:
            disk["used"] += 1  # somebody else frees a little
    assert list((tmp_path / "evidence").iterdir()) == []
    only_once(store)
    assert findings(store) == []


def test_an_empty_segment_that_the_store_does_not_know_is_a_loss(tmp_path, clock, store):
    paths = a_dead_log(tmp_path, [2, 2, 2])
    paths[1].write_bytes(b"")
    report = a_shipper(tmp_path, store, clock).run_once()
    assert report.quarantined == [f"{E1}/{paths[1].name}: sealed segment is empty"]
    assert [leaf["kind"] for leaf in in_store(store)][2:4] == ["log.lost"] * 2
    assert set(findings(store)) <= LOSS


@pytest.mark.parametrize("room", ["log", "digest"])
def test_other_bytes_under_a_note_s_name_are_an_incident_and_the_records_go_on(tmp_path, clock, room):
    store = BadStore(fault="wrong bytes", strikes=f"v1/{room}/", times=1, clock=clock)
    a_dead_log(tmp_path, [2, 2])
    notes = Notes()
    report = a_shipper(tmp_path, store, clock, notes).run_once()
    assert report.freed == 2
    assert len(report.quarantined) == 1 and "other bytes" in report.quarantined[0]
    assert "segment.quarantined" in notes.kinds()
    assert "object_changed" in findings(store)


async def test_what_a_worker_wrote_and_what_it_promised_verify(tmp_path, clock, store):
    receipts = FakeSigner("receipts")
    writer = await a_writer(tmp_path, receipts=receipts)
    promises = []
    for n in range(5):
        await writer.record(intent(n, b"x" * 20_000), AT)
        promises.append((await writer.record(outcome(n, b"y" * 5_000), AT)).promise)
    await writer.close(AT)
    a_shipper(tmp_path, store, clock).run_once()
    report = audit(store, receipts="\n".join(promises))
    assert list(report.findings) == []
    assert report.leaves == 12
    forged = promises[0].replace(";1;", ";2;") if ";1;" in promises[0] else promises[0][:-6] + "AAAA=="
    assert [one.code for one in audit(store, receipts=forged).findings] == ["receipt_forged"]


# A disk that was put back to what it was, or copied ------------------------------------------------------------------


async def put_back(tmp_path):
    """A copy of a disk on which two exchanges are open, and the writer, which goes on elsewhere."""
    writer = await a_writer(tmp_path)
    await writer.record(intent(1), AT)
    await writer.record(intent(2), AT)
    shutil.copytree(tmp_path / "evidence", tmp_path / "copy" / "evidence")
    return writer


async def test_what_went_on_elsewhere_gets_no_second_history(tmp_path, clock, store):
    """A volume restored from a snapshot: the log was closed and shipped after it was taken."""
    writer = await put_back(tmp_path)
    await writer.record(outcome(1), AT)
    await writer.record(outcome(2), AT)
    await writer.close(AT)
    ship_all(a_shipper(tmp_path, store, clock))
    before, ends, notes = dict(store.objects), [], Notes()
    shipping = a_shipper(tmp_path / "copy", store, clock, notes)
    shipping.tell_ends_to(ends.append)
    notes.is_down = True
    assert shipping.run_once().failures == [f"audit_unavailable: disk: OSError: {E1}"]
    notes.is_down = False
    made = ship_all(shipping)
    assert (made.failures, ends) == ([], []), "whom it let pass is not all that is known here"
    assert store.objects == before and findings(store) == []
    [(kind, facts)] = [one for one in notes.told if one[0] != "epoch.born"]
    assert kind == "segment.quarantined" and facts["of_origin"] == NAME
    assert facts["reason"] == "the store holds 6 records of this log, this disk 3: a copy, or put back"
    aside = tmp_path / "copy" / "evidence" / E1
    assert [one.name for one in aside.glob("*.quarantine")] == [facts["file"] + ".quarantine"]
    assert not list(aside.glob("*.wal")) and not list(aside.glob("*.sealed"))
    again = a_shipper(tmp_path / "copy", store, clock, notes)
    again.tell_ends_to(ends.append)
    again.run_once()
    assert store.objects == before and ends == [], "nor by the next process"


async def test_while_the_store_is_away_nobody_says_how_a_log_of_before_ended(tmp_path, clock, store):
    await put_back(tmp_path)
    ends = []
    shipping = a_shipper(tmp_path / "copy", store, clock)
    shipping.tell_ends_to(ends.append)
    shipping.run_once()
    store.is_open = False
    again = a_shipper(tmp_path / "copy", store, clock)
    copied = tmp_path / "copy" / "evidence"
    assert ends and not list(copied.iterdir()), "the store has less than this disk: it is ended and shipped"
    shutil.copytree(tmp_path / "evidence", copied, dirs_exist_ok=True)
    ends.clear()
    again.tell_ends_to(ends.append)
    again.run_once()
    assert ends == [] and list(copied.glob("*/*.wal"))
    store.is_open = True
    assert again.run_once().quarantined and ends == []
    assert findings(store) == []
