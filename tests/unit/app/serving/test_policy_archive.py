"""Which policy decides goes into the bucket, once and locked, and on record; and whoever touches it is found out."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from ext_proc.app import registry
from ext_proc.app.process import clock
from ext_proc.app.serving import shipping
from ext_proc.app.serving.distribution import write_opa_config
from ext_proc.app.serving.policy_archive import PolicyArchive, archive_key, reported
from ext_proc.app.serving.shipping import _Shipping
from ext_proc.audit.desk import Desk, NotKept, ShipReport, Terms
from ext_proc.audit.signer import LocalSigner
from ext_proc.config import DistributionSection
from ext_proc.model import PolicyVersion
from tests.fakes.auditor import findings
from tests.fakes.configured import a_config
from tests.fakes.log import in_store
from tests.fakes.shipping import Rounds
from tests.fakes.signer import FakeSigner
from tests.fakes.store import RETENTION, BadStore, FakeStore
from tests.unit.policy.test_opa import write_bundle


class House:
    """The shipper's process beside workers that say which policy OPA decides with."""

    def __init__(self, folder, monkeypatch):
        self.config, self.digest = a_config(folder)
        self.store = FakeStore(clock=clock)
        self.bundle = folder / "bundle.tar.gz"
        monkeypatch.setattr(shipping, "store_of", lambda _: self.store)
        registry.evidence_directory(self.config).mkdir()

    def run(self, rounds=2, between=lambda _: None):
        made = _Shipping(self.config, self.digest)
        made._canary_due.again_in(86_400)
        made.live(Rounds(rounds, between))

    def publish(self, revision):
        write_bundle(self.bundle, revision)
        return hashlib.sha256(self.bundle.read_bytes()).hexdigest()

    def tell(self, revision, digest, worker=0, at=None):
        state = {"at": at or clock().timestamp(), "policy": {"revision": revision, "digest": digest}}
        (self.config.run_dir / "state" / f"worker-{worker}.json").write_text(json.dumps(state))

    def activated(self):
        return [leaf for leaf in in_store(self.store) if leaf["kind"] == "policy.activated"]

    def findings(self):
        return findings(self.store, LocalSigner.from_file(self.config.audit.signing.file))


@pytest.fixture
def house(tmp_path, monkeypatch):
    return House(tmp_path, monkeypatch)


def test_the_active_bundle_is_archived_once_and_on_record(house):
    digest = house.publish("r1")
    house.tell("r1", digest)
    house.run(4)
    house.run()  # a restart is no change
    [leaf] = house.activated()
    assert (leaf["revision"], leaf["digest"], leaf["key"]) == ("r1", digest, archive_key(digest))
    assert (leaf["previous"], leaf["number"], leaf["key_id"]) == (None, None, None)
    [stored] = house.store.objects[archive_key(digest)]
    assert (stored.body, stored.lock_mode) == (house.bundle.read_bytes(), "COMPLIANCE")
    assert house.findings() == []


def test_each_change_names_the_one_before_also_when_it_changes_back(house):
    first = house.publish("r1")
    house.tell("r1", first)
    house.run()
    kept = house.bundle.read_bytes()
    second = house.publish("r2")
    house.tell("r2", second)
    house.run()
    house.bundle.write_bytes(kept)
    house.tell("r1", first)
    house.run()
    told = [(leaf["digest"], (leaf["previous"] or {}).get("digest")) for leaf in house.activated()]
    assert told == [(first, None), (second, first), (first, second)]
    assert house.findings() == []


def test_a_file_that_is_not_there_is_said_and_tried_again(house):
    digest = house.publish("r1")
    raw = house.bundle.read_bytes()
    house.publish("r2")
    house.tell("r1", digest)
    seen = []

    def between(turn):
        seen.append(json.loads((house.config.run_dir / "state" / "shipper.json").read_text())["failures"])
        if turn == 2:
            house.bundle.write_bytes(raw)

    house.run(5, between)
    assert f"policy bundle {digest[:16]}" in seen[0][0]
    assert seen[-1] == []
    assert [leaf["digest"] for leaf in house.activated()] == [digest]


def test_it_is_not_on_record_before_it_is_in_the_bucket(house):
    digest = house.publish("r1")
    house.tell("r1", digest)
    house.store.is_open = False

    def between(turn):
        house.store.is_open = turn >= 2

    house.run(5, between)
    assert len(house.activated()) == 1
    assert house.findings() == []


def test_a_copy_by_digest_serves_as_well(house):
    digest = house.publish("r1")
    copies = registry.bundle_copies(house.config)
    copies.mkdir()
    house.bundle.rename(copies / f"{digest}.tar.gz")
    house.publish("r2")
    house.tell("r1", digest)
    house.run()
    assert [leaf["digest"] for leaf in house.activated()] == [digest]


def test_who_spoke_last_is_believed(house):
    def state(at, revision):
        return {"at": at, "policy": {"revision": revision, "digest": "0" * 64}}

    told = {
        "worker-0": state(2.0, "new"),
        "worker-1": state(1.0, "old"),
        "shipper": state(3.0, "x"),
        "worker-2": {"at": 9},
    }
    assert reported(told) == PolicyVersion("new", "0" * 64)
    assert reported({"worker-0": {"at": 1, "policy": None}}) is None


@pytest.mark.parametrize("at", [0, -1])
def test_a_byte_of_the_archive_is_found(house, at):
    digest = house.publish("r1")
    house.tell("r1", digest)
    house.run()
    [stored] = house.store.objects[archive_key(digest)]
    changed = bytearray(stored.body)
    changed[at] ^= 1
    house.store.objects[archive_key(digest)] = [replace(stored, body=bytes(changed))]
    assert set(house.findings()) == {"object_changed"}


def test_a_policy_that_no_log_names_is_found_and_so_is_one_that_is_gone(house):
    digest = house.publish("r1")
    house.tell("r1", digest)
    house.run()
    other = house.publish("r2")
    house.store.put(archive_key(other), house.bundle.read_bytes(), other)
    assert set(house.findings()) == {"object_unexpected"}
    del house.store.objects[archive_key(other)], house.store.objects[archive_key(digest)]
    assert set(house.findings()) == {"object_missing"}


def test_a_name_whose_end_is_of_other_bytes_is_found(house):
    digest = house.publish("r1")
    house.tell("r1", digest)
    house.run()
    house.store.objects[archive_key(digest[:16] + "0" * 48)] = house.store.objects[archive_key(digest)]
    assert set(house.findings()) == {"object_changed", "object_unexpected"}


def test_what_is_published_and_not_taken_is_on_record_and_shown(house):
    """The door is real, the bundle is none; OPA need not be there to say so."""
    key = house.config.run_dir / "key.pub"
    key.write_text("-----BEGIN PUBLIC KEY-----")
    section = DistributionSection(public_key_file=key, key_id="k1").model_copy(update={"listen": "127.0.0.1:0"})
    policy = house.config.policy.model_copy(update={"distribution": section})
    house.config = house.config.model_copy(update={"policy": policy})
    write_opa_config(house.config, section)
    house.publish("r1")  # without a number
    house.run(3)
    [leaf] = [leaf for leaf in in_store(house.store) if leaf["kind"] == "policy.refused"]
    digest = hashlib.sha256(house.bundle.read_bytes()).hexdigest()
    assert (leaf["digest"], leaf["reason"], leaf["active"]) == (digest, "unnumbered", None)
    state = json.loads((house.config.run_dir / "state" / "shipper.json").read_text())
    assert state["policy_refused"] == f"bundle {digest[:16]} refused: unnumbered"
    assert house.findings() == []


class Keeping:
    """The archive alone, with a clock that is set."""

    def __init__(self, folder, store=None):
        self.now = datetime(2026, 11, 25, 12, tzinfo=UTC)
        self.store = store or FakeStore()
        self.store.clock = lambda: self.now
        self.notes = []
        self.folder = folder
        self.versions = {}
        desk = Desk(self.store, Terms(RETENTION, FakeSigner()), lambda: self.now)
        self.archive = PolicyArchive(
            folder / "state" / "active.json",
            lambda: sorted(folder.glob("*.tar.gz")),
            lambda one: desk.put(one, ShipReport()),
            self.store.fetch,
            lambda kind, facts: self.notes.append((kind, facts["key"])),
            lambda: self.now,
        )

    def publish(self, revision):
        path = self.folder / "bundle.tar.gz"
        write_bundle(path, revision)
        version = self.versions[revision] = PolicyVersion(revision, hashlib.sha256(path.read_bytes()).hexdigest())
        return version

    def keys(self, version):
        return [key for key in sorted(self.store.objects) if version.digest in key]

    def locked_until(self, version):
        return max(self.store.objects[key][0].retain_until for key in self.keys(version))


@pytest.fixture
def keeping(tmp_path):
    return Keeping(tmp_path)


def test_a_pipe_in_place_of_a_bundle_keeps_nobody_waiting(keeping):
    one = keeping.publish("r1")
    os.mkfifo(keeping.folder / "a.tar.gz")
    keeping.archive.attend(one)
    assert [kind for kind, _ in keeping.notes] == ["policy.activated"]


def test_a_lock_goes_on_as_long_as_the_policy_decides(keeping):
    one = keeping.publish("r1")
    for _ in range(100):  # four days and some
        keeping.archive.attend(one)
        keeping.now += timedelta(hours=1)
    assert [kind for kind, _ in keeping.notes] == ["policy.activated", *["policy.kept"] * 4]
    assert [key for _, key in keeping.notes] == [archive_key(one.digest), *keeping.keys(one)[:-1]]
    assert keeping.locked_until(one) > keeping.now + RETENTION - timedelta(days=1)


def test_who_decides_no_more_is_kept_once_more_from_the_bucket_alone(keeping):
    one = keeping.publish("r1")
    keeping.archive.attend(one)
    keeping.now += timedelta(hours=5)
    other = keeping.publish("r2")  # in its place: the file of the first is gone
    left_at = keeping.now
    for _ in range(60):
        keeping.archive.attend(other)
        keeping.now += timedelta(hours=1)
    assert len(keeping.keys(one)) == 2
    assert keeping.locked_until(one) == left_at + timedelta(days=1) + RETENTION


def test_the_last_copy_is_made_when_the_gateway_ends(keeping):
    keeping.archive.end()
    assert keeping.notes == []
    one = keeping.publish("r1")
    keeping.archive.attend(one)
    keeping.now += timedelta(hours=20)
    keeping.archive.end()
    assert keeping.locked_until(one) == keeping.now + RETENTION


def test_what_another_gateway_put_long_ago_is_put_again(keeping):
    """Its lock ends earlier than that of our records, and it cannot be put under the same name."""
    one = keeping.publish("r1")
    raw = (keeping.folder / "bundle.tar.gz").read_bytes()
    keeping.store.put(archive_key(one.digest), raw, one.digest)
    keeping.now += timedelta(days=30)
    keeping.archive.attend(one)
    assert keeping.notes == [("policy.activated", archive_key(one.digest, keeping.now))]
    assert keeping.locked_until(one) == keeping.now + RETENTION


def test_something_else_under_its_name_keeps_no_policy_out(keeping):
    one = keeping.publish("r1")
    keeping.store.write_over(archive_key(one.digest), b"something else")
    keeping.archive.attend(one)
    assert keeping.notes == [("policy.activated", archive_key(one.digest, keeping.now))]


def test_a_store_that_locks_too_short_does_not_fill_up(tmp_path):
    keeping = Keeping(tmp_path, BadStore(fault="short lock"))
    one = keeping.publish("r1")
    for _ in range(600):  # five minutes of rounds
        with pytest.raises(NotKept):
            keeping.archive.attend(one)
        keeping.now += timedelta(seconds=0.5)
    assert len(keeping.keys(one)) == 2
    keeping.store.fault = ""
    keeping.archive.attend(one)
    assert len(keeping.notes) == 1


def test_memory_of_an_older_gateway(keeping):
    one = keeping.publish("r1")
    keeping.archive.attend(one)
    keeping.archive.memory.write_text(json.dumps({"revision": one.revision, "digest": one.digest}))
    keeping.now += timedelta(minutes=1)
    keeping.archive.attend(one)
    assert [kind for kind, _ in keeping.notes] == ["policy.activated", "policy.kept"]
