"""How a log begins, what it names as the one before it, and how it says that it lives."""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
import time
from datetime import datetime

import pytest

from ext_proc.app import logs, registry
from ext_proc.app.logs import Journal, beat_forever, open_log, remember_born
from ext_proc.app.process import clock
from ext_proc.audit import segments
from ext_proc.errors import AuditUnavailable
from tests.fakes.auditor import findings
from tests.fakes.configured import a_config
from tests.fakes.log import intent, on_disk, outcome
from tests.fakes.shipping import a_shipper as fake_shipper
from tests.fakes.shipping import a_store


@pytest.fixture
def house(tmp_path):
    config, digest = a_config(tmp_path)
    return config, digest, registry.keyring(config)


def leaves_of(config, origin):
    return on_disk(registry.evidence_directory(config) / origin.rpartition("/")[2])


async def one_life(house, role="0"):
    config, digest, keyring = house
    writer = await open_log(config, digest, role, keyring)
    await writer.close(clock())
    return writer.origin


async def test_the_first_leaf_says_who_writes_and_under_what(house):
    config, digest, keyring = house
    receipts = registry.receipt_signer(config)
    writer = await open_log(config, digest, "0", keyring, receipts)
    await writer.close(clock())
    first = leaves_of(config, writer.origin)[0]
    assert writer.origin == f"audit.example/gw-0-0/{writer.origin.rpartition('/')[2]}"
    assert (first["kind"], first["role"], first["config_sha256"]) == ("log.open", "0", digest)
    assert first["policy_bundle"]["revision"] == "r1"
    assert first["connections"] == ["model"]
    assert first["previous"] is None
    assert first["receipt_key"].startswith("audit.example+")
    assert datetime.fromisoformat(first["at"]) <= clock()


async def test_each_log_names_the_one_before_it_of_the_same_name(house):
    config = house[0]
    one = await one_life(house)
    other = await one_life(house, "1")
    two = await one_life(house)
    assert leaves_of(config, two)[0]["previous"] == one
    assert leaves_of(config, other)[0]["previous"] is None


async def killed_before_it_is_remembered(house, monkeypatch):
    """The window of a SIGKILL: the log is open, durably, and nobody knows."""
    config, digest, keyring = house
    opened = []
    with monkeypatch.context() as patch:
        real = logs.Writer.open

        async def remember(*args, **named):
            opened.append(await real(*args, **named))
            raise OSError("killed")

        patch.setattr(logs.Writer, "open", remember)
        with pytest.raises(AuditUnavailable):
            await open_log(config, digest, "0", keyring)
    await opened[0].close(clock())
    return opened[0].origin


async def test_a_log_that_died_before_it_was_remembered_is_the_one_before(house, monkeypatch):
    config = house[0]
    one = await one_life(house)
    lost = await killed_before_it_is_remembered(house, monkeypatch)
    assert leaves_of(config, lost)[0]["previous"] == one
    two = await one_life(house)
    assert leaves_of(config, two)[0]["previous"] == lost, "or two logs would follow the same one: a fork"


async def test_and_even_when_it_was_shipped_and_left_the_disk_meanwhile(house, monkeypatch, tmp_path):
    config = house[0]
    await one_life(house)
    lost = await killed_before_it_is_remembered(house, monkeypatch)
    store = a_store(clock)

    def journal(kind, facts):
        if kind == "epoch.born":
            remember_born(config, facts["born_origin"])

    (tmp_path / "evidence").symlink_to(registry.evidence_directory(config))
    shipping = fake_shipper(tmp_path, store, clock, journal)
    shipping.run_once()
    assert list(registry.evidence_directory(config).iterdir()) == []
    two = await one_life(house)
    assert leaves_of(config, two)[0]["previous"] == lost
    shipping.run_once()
    assert findings(store) == []


async def test_a_birth_seen_late_does_not_take_the_place_of_a_newer_log(house):
    config = house[0]
    one = await one_life(house)
    two = await one_life(house)
    remember_born(config, one)
    three = await one_life(house)
    assert leaves_of(config, three)[0]["previous"] == two


def test_two_commands_at_once_follow_one_another(house):
    """Each in a thread of its own, as two processes would be."""
    config, digest, keyring = house
    made = []

    def command():
        with Journal(config, digest, "command", keyring) as journal:
            made.append(journal.origin)

    threads = [threading.Thread(target=command) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    named = [leaves_of(config, origin)[0]["previous"] for origin in made]
    assert len(set(named)) == 6, "no two name the same one"
    assert named.count(None) == 1


def test_a_journal_notes_durably_and_ends_in_order(house):
    config, digest, keyring = house
    with Journal(config, digest, "shipper", keyring) as journal:
        receipt = journal.note("digest.made", {"number": 1})
        assert leaves_of(config, journal.origin)[receipt.sequence]["number"] == 1
        assert journal.failure is None
    kinds = [leaf["kind"] for leaf in leaves_of(config, journal.origin)]
    assert kinds == ["log.open", "digest.made", "log.close"]


def test_a_journal_that_cannot_be_opened_leaves_no_thread(house, monkeypatch):
    config, digest, keyring = house

    def full(self, path, size_bytes):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(segments.FileOps, "allocate", full)
    before = set(threading.enumerate())  # those of other tests may end meanwhile
    for _ in range(3):
        with pytest.raises(AuditUnavailable):
            Journal(config, digest, "shipper", keyring)
    assert set(threading.enumerate()) <= before
    assert not (config.state_dir / "epochs" / "gw-0-shipper").exists(), "nothing to follow"


def test_a_journal_whose_disk_fails_says_so(house, monkeypatch):
    config, digest, keyring = house
    with Journal(config, digest, "shipper", keyring) as journal:
        with monkeypatch.context() as patch:
            patch.setattr(segments.FileOps, "sync", lambda self, descriptor: (_ for _ in ()).throw(OSError(5, "EIO")))
            with pytest.raises(AuditUnavailable):
                journal.note("digest.made", {"number": 1})
        assert journal.failure == "disk: OSError"


def test_a_journal_whose_disk_hangs_answers_in_time_and_others_at_once(house, monkeypatch):
    """Each that waited for the disk would hold a thread of the console as long: soon there would be none."""
    config, digest, keyring = house
    goes_on, real = threading.Event(), segments.FileOps.sync
    with Journal(config, digest, "command", keyring, answer_seconds=0.5) as journal:

        def slow(self, descriptor):
            goes_on.wait(20)
            real(self, descriptor)

        assert journal.waits_for is None
        monkeypatch.setattr(segments.FileOps, "sync", slow)
        began = time.monotonic()
        for number in range(20):
            with pytest.raises(AuditUnavailable, match="deadline"):
                journal.note("digest.made", {"number": number})
        assert time.monotonic() - began < 5, "the first one waited, the others did not"
        assert journal.failure is None, "slow is not broken"
        assert journal.waits_for is not None
        goes_on.set()
        while True:  # as soon as what was overdue is done
            with contextlib.suppress(AuditUnavailable):
                journal.note("digest.made", {"number": 20})
                break
            assert time.monotonic() - began < 20
        assert journal.waits_for is None
    numbers = [leaf["number"] for leaf in leaves_of(config, journal.origin) if leaf["kind"] == "digest.made"]
    assert numbers == [0, 20], "who was told at once is not on record"


@pytest.fixture
async def beating(tmp_path):
    config, digest = a_config(tmp_path)
    config = config.model_copy(update={"audit": config.audit.model_copy(update={"heartbeat_seconds": 0.05})})
    writer = await open_log(config, digest, "0", registry.keyring(config))
    counted = iter(range(100, 1000))
    task = asyncio.ensure_future(beat_forever(writer, config, lambda: next(counted)))
    yield config, writer
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
    await writer.close(clock())


async def heartbeats(config, writer, count):
    async with asyncio.timeout(20):
        while len(found := [x for x in leaves_of(config, writer.origin) if x["kind"] == "heartbeat"]) < count:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    return found


async def test_heartbeats_tell_what_goes_on(beating):
    config, writer = beating
    await writer.record(intent(1), clock())
    await writer.record(intent(2), clock())
    await writer.record(outcome(2), clock())
    found = await heartbeats(config, writer, 3)
    assert max(one["in_flight"] for one in found) == 1
    assert [one["counts"] for one in found if one["counts"]] == [{"completed": 1}], "each counted once"
    assert [one["envoy_requests"] for one in found] == [100, 101, 102]
    assert all(one["policy_bundle"]["revision"] == "r1" and one["unshipped_bytes"] > 0 for one in found)
    assert all(json.dumps(one["monotonic_ns"]).strip('"').isdecimal() for one in found)


async def test_what_a_heartbeat_could_not_tell_the_next_one_tells(beating):
    config, writer = beating
    await heartbeats(config, writer, 1)
    failures = []

    async def full(*args):
        failures.append(args[1]["counts"])
        raise AuditUnavailable("full")

    writer.note = full
    await writer.record(outcome(2), clock())
    async with asyncio.timeout(20):
        while not any(failures):  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    del writer.note
    async with asyncio.timeout(20):
        while not any(one["counts"] for one in await heartbeats(config, writer, 1)):  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    told = [one["counts"] for one in await heartbeats(config, writer, 1) if one["counts"]]
    assert told == [{"completed": 1}]
