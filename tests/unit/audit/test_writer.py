from __future__ import annotations

import asyncio
import json
import threading
from dataclasses import replace

import pytest
from jsonschema import Draft202012Validator

from ext_proc.audit import frames, kinds, segments
from ext_proc.audit.record import leaf_hash
from ext_proc.errors import AuditUnavailable, IntegrityError
from ext_proc.model import Entry, ExchangeId, Receipt, ToolCall
from tests.fakes.disk import BadDisk, Faults
from tests.fakes.log import (
    ADA,
    AT,
    E1,
    LIMITS,
    ORIGIN,
    SOURCE,
    a_keyring,
    a_writer,
    files,
    intent,
    on_disk,
    outcome,
    told,
)

KIB = 1024


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "evidence" / E1


async def until(is_so, seconds=20):
    async with asyncio.timeout(seconds):
        while not is_so():  # noqa: ASYNC110 - what is waited for happens in a thread and on the disk
            await asyncio.sleep(0.01)


async def gather(*records):
    return await asyncio.gather(*records, return_exceptions=True)


# Durable, in order, exactly once ---------------------------------------------------------------------------------


async def test_what_record_returned_for_is_on_the_disk(tmp_path, folder):
    writer = await a_writer(tmp_path)
    receipt = await writer.record(intent(1, b"words"), AT)
    scan = frames.scan((folder / "0000000000000000.wal").read_bytes())
    leaf = scan.frames[receipt.sequence].leaf
    assert leaf_hash(leaf) == receipt.leaf_hash
    read = json.loads(leaf)
    assert (read["kind"], read["exchange_id"], read["sequence"]) == ("inference.intent", "exchange-1", 1)
    assert receipt.origin == read["origin"] == f"{ORIGIN}/{E1}"
    assert len(scan.frames[1].ciphertexts) == 1
    await writer.close(AT)


async def test_no_person_and_no_content_in_clear(tmp_path, folder):
    writer = await a_writer(tmp_path)
    entry = intent(1, b"the words of Ada")
    named = replace(ADA, subject="ada.lovelace")  # "ada" alone stands in one hash of twenty
    await writer.record(replace(entry, identity=named), AT)
    await writer.close(AT)
    everything = b"".join(path.read_bytes() for path in folder.iterdir())
    for planted in (b"words", b"lovelace", b"analysts", b"notebook", b"10.0.0.7", b"curl", b"acme"):
        assert planted not in everything, planted


async def test_people_are_references_alike_in_both_records(tmp_path, folder):
    writer = await a_writer(tmp_path)
    await writer.record(intent(1), AT)
    await writer.record(outcome(1), AT)
    nobody = Entry("inference.outcome", ExchangeId("x"), None, None, {})
    await writer.record(nobody, AT)
    await writer.close(AT)
    _, asked, answered, unknown, _ = on_disk(folder)
    assert asked["actor"] == answered["actor"]
    assert asked["actor"]["subject_ref"].startswith("hmac-sha256:")
    assert asked["source"]["address_ref"] == answered["source"]["address_ref"]
    assert unknown["actor"] is None and unknown["source"] is None


async def test_a_tenant_is_a_reference_of_its_own_only_where_the_token_names_one(tmp_path, folder):
    """So that whoever may read one tenant's exchanges finds them, and nobody reads its name."""
    writer = await a_writer(tmp_path)
    for number, tenant in enumerate(("acme", "acme", "zenith", None, "")):
        who = replace(ADA, subject=f"person {number}", tenant=tenant)
        await writer.record(replace(intent(number), identity=who), AT)
    await writer.close(AT)
    actors = [leaf["actor"] for leaf in on_disk(folder) if leaf["kind"] == "inference.intent"]
    refs = [actor.get("tenant_ref") for actor in actors]
    keyring = a_keyring(tmp_path)
    assert refs[:3] == [keyring.reference("tenant", name) for name in ("acme", "acme", "zenith")]
    assert ["tenant_ref" in actor for actor in actors] == [True, True, True, False, False]
    shape = kinds.schema_of("inference.intent")["properties"]["actor"]
    assert [error.message for one in actors for error in Draft202012Validator(shape).iter_errors(one)] == []
    assert list(Draft202012Validator(shape).iter_errors({**actors[0], "tenant_ref": "acme"})) != []


async def test_each_tool_call_is_a_record_before_the_outcome_and_its_result_refers_to_it(tmp_path, folder):
    writer = await a_writer(tmp_path)
    calls = (ToolCall("weather", "a" * 64, "/choices/0", "call_1"), ToolCall("weather", "b" * 64, "/choices/1"))
    await writer.record(intent(1), AT)
    answered = outcome(1)
    receipt = await writer.record(
        replace(answered, facts={**answered.facts, "intent_sequence": 1}, tool_calls=calls), AT
    )
    await writer.record(replace(intent(2), tool_results=("call_1", "call_2")), AT)
    await writer.close(AT)
    _, _, first, second, said, brought, _ = on_disk(folder)
    assert [one["kind"] for one in (first, second, said)] == ["effect.tool_call"] * 2 + ["inference.outcome"]
    assert said["sequence"] == receipt.sequence
    assert (first["exchange_id"], first["intent_sequence"]) == ("exchange-1", 1)
    told = first["tool_call"]
    assert (told["number"], told["name"], told["channel"]) == (0, "weather", "/choices/0")
    assert told["arguments_ref"] == a_keyring(tmp_path).reference("arguments", "a" * 64), "no plain hash of content"
    assert (second["tool_call"]["number"], second["tool_call"]["call_ref"]) == (1, None)
    assert brought["tool_results"][0] == told["call_ref"] != brought["tool_results"][1]
    assert "tool_results" not in said
    assert b"call_1" not in b"".join(path.read_bytes() for path in folder.iterdir())
    for leaf in (first, second, brought):
        schema = kinds.schema_of(leaf["kind"])["properties"]
        for name in ("tool_call", "tool_results"):
            if name in leaf:
                Draft202012Validator(schema[name]).validate(leaf[name])


async def test_where_the_outcome_is_acknowledged_its_tool_calls_are_on_the_disk(tmp_path, folder):
    """And where the disk is full in their midst, the outcome is refused: nobody is told that it is whole."""
    faults = Faults()
    writer = await a_writer(tmp_path, ops=BadDisk(faults), seal_seconds=0.4)
    await until((folder / "spare").exists)
    faults.allocate = "ENOSPC"
    calls = tuple(ToolCall(f"t{number}", "a" * 64) for number in range(20))
    answers = await gather(*(writer.record(replace(outcome(n), tool_calls=calls), AT) for n in range(60)))
    kept = [number for number, one in enumerate(answers) if not isinstance(one, Exception)]
    assert kept and len(kept) < 60
    faults.allocate = ""
    await until(lambda: writer.health().is_writable)
    await writer.close(AT)
    leaves = on_disk(folder)
    assert [leaf["sequence"] for leaf in leaves] == list(range(len(leaves)))
    for number in kept:
        of = [leaf["kind"] for leaf in leaves if leaf.get("exchange_id") == f"exchange-{number}"]
        assert of == ["effect.tool_call"] * 20 + ["inference.outcome"]


async def test_the_port_of_a_caller_is_no_part_of_the_reference(tmp_path, folder):
    writer = await a_writer(tmp_path)
    for number, address in enumerate(("10.0.0.7:1", "10.0.0.7:2", "10.0.0.8:1", "[::1]:7", "[::1]:8")):
        await writer.record(replace(intent(number, None), source=replace(SOURCE, address=address)), AT)
    await writer.close(AT)
    refs = [leaf["source"]["address_ref"] for leaf in on_disk(folder)[1:-1]]
    assert refs[0] == refs[1] != refs[2]
    assert refs[3] == refs[4]


async def test_another_connection_of_a_known_caller_makes_no_references_again(tmp_path, monkeypatch):
    writer = await a_writer(tmp_path)
    await writer.record(intent(0), AT)
    made: list[str] = []
    reference = writer._keyring.reference
    monkeypatch.setattr(writer._keyring, "reference", lambda of, *text: made.append(of) or reference(of, *text))
    for port in range(2000):
        await writer.record(replace(intent(port, None), source=replace(SOURCE, address=f"10.0.0.9:{port}")), AT)
    await writer.close(AT)
    assert made.count("address") == 1


async def test_concurrent_records_are_numbered_as_they_came_and_none_is_missing(tmp_path, folder):
    writer = await a_writer(tmp_path)
    await writer.record(intent(1000), AT)  # the first of a caller waits for the key
    receipts = await asyncio.gather(*(writer.record(intent(n), AT) for n in range(200)))
    await writer.close(AT)
    assert [receipt.sequence for receipt in receipts] == list(range(2, 202))
    leaves = on_disk(folder)
    assert [leaf["sequence"] for leaf in leaves] == list(range(203))
    assert [leaf["exchange_id"] for leaf in leaves[2:-1]] == [f"exchange-{n}" for n in range(200)]


async def test_nothing_is_told_before_the_sync(tmp_path):
    faults = Faults()
    writer = await a_writer(tmp_path, ops=BadDisk(faults))
    faults.slow.clear()
    before = faults.writes
    record = asyncio.ensure_future(writer.record(intent(1), AT))
    await until(lambda: faults.writes > before)
    await asyncio.sleep(0.1)
    assert not record.done(), "written, but not yet durable"
    faults.slow.set()
    assert (await record).sequence == 1
    await writer.close(AT)


async def test_many_records_share_one_sync(tmp_path):
    faults = Faults()
    writer = await a_writer(tmp_path, ops=BadDisk(faults), segment_bytes=1024 * KIB)
    faults.slow.clear()
    first = asyncio.ensure_future(writer.record(intent(0), AT))
    await until(lambda: faults.writes >= 2)
    rest = [asyncio.ensure_future(writer.record(intent(n), AT)) for n in range(1, 101)]
    await asyncio.sleep(0)
    before = faults.syncs
    faults.slow.set()
    await asyncio.gather(first, *rest)
    assert faults.syncs - before <= 3
    await writer.close(AT)


async def test_a_caller_that_gives_up_takes_nothing_away(tmp_path, folder):
    faults = Faults()
    writer = await a_writer(tmp_path, ops=BadDisk(faults))
    await writer.record(intent(0), AT)  # the subject's key is there: the next ones begin at once
    faults.slow.clear()
    gone = asyncio.ensure_future(writer.record(intent(1), AT))
    stays = asyncio.ensure_future(writer.record(intent(2), AT))
    await asyncio.sleep(0.05)
    gone.cancel()
    faults.slow.set()
    assert (await stays).sequence == 3
    await writer.close(AT)
    assert told(on_disk(folder))[2:4] == ["2 intent 1", "3 intent 2"]


async def test_a_record_that_cannot_be_a_leaf_takes_no_number(tmp_path, folder):
    writer = await a_writer(tmp_path)
    for facts in ({"a": 0.5}, {"a": "\ud800"}, {"a": "x" * 20_000}):
        with pytest.raises(IntegrityError):
            await writer.record(Entry("inference.intent", ExchangeId("bad"), ADA, SOURCE, facts), AT)
    assert (await writer.record(intent(1), AT)).sequence == 1
    await writer.close(AT)
    assert told(on_disk(folder)) == ["0 log.open", "1 intent 1", "2 log.close"]


# Segments ----------------------------------------------------------------------------------------------------------


async def test_a_full_segment_is_sealed_and_the_next_begins_with_who_is_open(tmp_path, folder):
    writer = await a_writer(tmp_path)
    await writer.record(intent(1), AT)
    await writer.record(intent(2), AT)
    await writer.record(outcome(2), AT)
    await gather(*(writer.note("filling", {"x": "y" * 4000}, AT) for _ in range(20)))
    first, second = sorted(folder.glob("0*"))
    assert (first.suffix, second.suffix) == (".sealed", ".wal")
    scan = frames.scan(first.read_bytes())
    assert (scan.good_bytes, scan.dropped_bytes) == (first.stat().st_size, 0), "its unused end is cut off"
    carry = frames.scan(second.read_bytes()).frames[0]
    assert carry.type == frames.CARRY
    assert list(carry.carried) == [{"exchange_id": "exchange-1", "intent_sequence": 1}]
    assert carry.sequence == scan.frames[-1].sequence + 1 == int(second.stem)
    await writer.close(AT)
    assert [leaf["sequence"] for leaf in on_disk(folder)] == list(range(25))


async def test_a_segment_with_something_in_it_is_sealed_in_time(tmp_path, folder):
    writer = await a_writer(tmp_path, seal_seconds=0.2)
    await until(lambda: len(list(folder.glob("*.sealed"))) == 1)
    await asyncio.sleep(0.5)
    assert len(list(folder.glob("*.sealed"))) == 1, "an empty one is not"
    await writer.record(intent(1), AT)
    await until(lambda: len(list(folder.glob("*.sealed"))) == 2)
    await writer.close(AT)


async def test_the_largest_record_of_a_segment_fits_and_a_larger_is_refused(tmp_path, folder):
    writer = await a_writer(tmp_path)
    half = (LIMITS.segment_bytes - 8 * KIB) // 2
    entry = intent(1, b"x" * half)
    twice = replace(entry, payloads=entry.payloads * 2)  # as it came and as it was sent on
    await writer.record(twice, AT)
    await writer.record(twice, AT)
    with pytest.raises(AuditUnavailable):
        await writer.record(intent(2, b"x" * LIMITS.segment_bytes), AT)
    assert (await writer.record(intent(3), AT)).sequence == 3
    await writer.close(AT)
    assert [leaf["sequence"] for leaf in on_disk(folder)] == [0, 1, 2, 3, 4]


async def test_so_many_open_exchanges_that_the_carry_fills_the_segment(tmp_path, folder):
    writer = await a_writer(tmp_path, segment_bytes=16 * KIB)
    for start in range(0, 400, 50):
        await asyncio.gather(*(writer.record(intent(n, None), AT) for n in range(start, start + 50)))
    await writer.record(intent(999, b"z" * 6000), AT)
    await writer.close(AT)
    leaves = on_disk(folder)
    assert [leaf["sequence"] for leaf in leaves] == list(range(403))
    last = frames.scan(max(folder.glob("*.sealed")).read_bytes())
    assert last.dropped_bytes == 0


async def test_a_segment_may_have_a_carry_only_when_a_large_record_comes(tmp_path, folder):
    writer = await a_writer(tmp_path, segment_bytes=16 * KIB, seal_seconds=0.2)
    await asyncio.gather(*(writer.record(intent(n, None), AT) for n in range(60)))
    await until(lambda: not writer._files.current.has_leaf)
    await writer.record(intent(999, b"z" * 10_500), AT)
    await writer.close(AT)
    assert [leaf["sequence"] for leaf in on_disk(folder)] == list(range(63))


# Admission and a full disk -----------------------------------------------------------------------------------------


async def test_admission_keeps_the_emergency_reserve_free(tmp_path):
    writer = await a_writer(tmp_path, max_bytes=256 * KIB, emergency_bytes=64 * KIB)
    writer.admit(60 * KIB)  # two files of 64 KiB are there
    with pytest.raises(AuditUnavailable):
        writer.admit(65 * KIB)
    await writer.close(AT)


async def test_over_the_limit_only_records_without_payloads_are_taken(tmp_path, folder):
    writer = await a_writer(tmp_path, max_bytes=256 * KIB)
    (tmp_path / "evidence" / "e0").mkdir()
    (tmp_path / "evidence" / "e0" / "0.sealed").write_bytes(b"x" * 200 * KIB)
    writer._used = (0, -1.0)
    with pytest.raises(AuditUnavailable):
        await writer.record(intent(1), AT)
    refusal = await writer.record(outcome(1), AT)
    assert refusal.sequence == 1
    assert writer.health().unshipped_bytes > writer.health().capacity_bytes
    await writer.close(AT)


async def test_the_shipper_frees_while_the_space_is_counted(tmp_path, monkeypatch):
    writer = await a_writer(tmp_path)

    def vanishes(_):
        raise PermissionError

    monkeypatch.setattr(segments, "used_bytes", vanishes)
    writer._used = (0, -1.0)
    assert writer.health().unshipped_bytes == LIMITS.max_bytes, "unknown is full"
    with pytest.raises(AuditUnavailable):
        writer.admit(1)
    await writer.close(AT)


async def test_a_full_disk_refuses_without_a_gap_and_goes_on_when_there_is_space(tmp_path, folder):
    faults = Faults()
    writer = await a_writer(tmp_path, ops=BadDisk(faults), seal_seconds=0.4)
    await until((folder / "spare").exists)
    faults.allocate = "ENOSPC"
    answers = await gather(*(writer.record(intent(n, None), AT) for n in range(400)))
    kept = [one for one in answers if not isinstance(one, Exception)]
    refused = [one for one in answers if isinstance(one, Exception)]
    assert kept and refused
    assert {(type(one), one.detail) for one in refused} == {(AuditUnavailable, "full")}
    health = writer.health()
    assert (health.is_writable, health.failure) == (False, None), "full is not broken"
    with pytest.raises(AuditUnavailable):
        writer.admit(1)
    faults.allocate = ""
    await until(lambda: writer.health().is_writable)
    writer.admit(1)
    later = await writer.record(intent(1000), AT)
    await writer.close(AT)
    leaves = on_disk(folder)
    assert [leaf["sequence"] for leaf in leaves] == list(range(len(leaves))), "no number is missing or twice"
    assert leaves[later.sequence]["exchange_id"] == "exchange-1000"
    acknowledged = {one.sequence for one in kept}
    assert acknowledged <= {leaf["sequence"] for leaf in leaves}
    assert len(leaves) == len(kept) + 3, "what was refused is not there"
    assert {p.name for p in folder.iterdir() if p.name.startswith("spare")} == {"spare"}


async def test_a_quiet_writer_sees_that_there_is_space_again(tmp_path, folder):
    """Nobody asks it while it says that it is full: it must look by itself, even into a segment without a leaf."""
    faults = Faults(allocate="ENOSPC", after=1)  # the first file only
    writer = await a_writer(tmp_path, ops=BadDisk(faults), seal_seconds=0.2)
    assert not writer.health().is_writable
    faults.allocate = ""
    await until(lambda: writer.health().is_writable)
    await until(lambda: not writer._files.current.has_leaf and (folder / "spare").exists())
    faults.allocate, faults.after = "ENOSPC", 0
    await writer.record(intent(1), AT)
    await until(lambda: not writer.health().is_writable)
    await until(lambda: not writer._files.current.has_leaf)
    faults.allocate = ""
    await until(lambda: writer.health().is_writable)
    await writer.close(AT)


async def test_what_was_admitted_is_still_recorded_when_the_disk_fills_up(tmp_path, folder):
    faults = Faults(allocate="ENOSPC", after=1)
    writer = await a_writer(tmp_path, ops=BadDisk(faults))
    assert (await writer.record(outcome(1, b"an answer"), AT)).sequence == 1
    answers = [await gather(writer.record(outcome(n, b"x" * 8000), AT)) for n in range(2, 20)]
    assert isinstance(answers[0][0], Receipt)
    assert isinstance(answers[-1][0], AuditUnavailable)
    assert await writer.record(outcome(99), AT), "half of the last segment is for small ones"
    await writer.close(AT)
    assert told(on_disk(folder))[-1].endswith("log.close"), "and the log can be closed"


async def test_a_log_can_be_closed_on_a_disk_that_is_full_to_the_last(tmp_path, folder):
    faults = Faults(allocate="ENOSPC", after=1)
    writer = await a_writer(tmp_path, ops=BadDisk(faults))
    answers = await gather(*(writer.record(intent(n, None), AT) for n in range(200)))
    assert any(isinstance(one, AuditUnavailable) for one in answers)
    await writer.close(AT)
    assert told(on_disk(folder))[-1].endswith("log.close")
    assert list(folder.glob("*.wal")) == []


async def test_a_carry_that_needs_space_which_is_not_there(tmp_path, folder):
    faults = Faults()
    writer = await a_writer(tmp_path, ops=BadDisk(faults), segment_bytes=16 * KIB)
    for start in range(0, 400, 50):
        await asyncio.gather(*(writer.record(intent(n, None), AT) for n in range(start, start + 50)))
    faults.extend = "ENOSPC"
    answers = await gather(*(writer.record(intent(n, b"z" * 6000), AT) for n in range(400, 406)))
    assert any(isinstance(one, AuditUnavailable) for one in answers)
    faults.extend = ""
    await until(lambda: writer.health().is_writable)
    await writer.record(intent(999, b"z" * 6000), AT)
    await writer.close(AT)
    leaves = on_disk(folder)
    assert [leaf["sequence"] for leaf in leaves] == list(range(len(leaves)))


# A disk that fails -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("call", "error"), [("write", "EIO"), ("write", "ENOSPC"), ("sync", "EIO")])
async def test_a_failed_write_or_sync_is_fatal_and_everyone_who_waits_is_told(tmp_path, folder, call, error):
    faults = Faults()
    writer = await a_writer(tmp_path, ops=BadDisk(faults))
    good = await writer.record(intent(1), AT)
    faults.slow.clear()
    first = asyncio.ensure_future(writer.record(intent(2), AT))
    await asyncio.sleep(0.1)
    rest = [asyncio.ensure_future(writer.record(intent(n), AT)) for n in range(3, 400)]
    await asyncio.sleep(0.05)
    setattr(faults, call, error)
    faults.slow.set()
    async with asyncio.timeout(20):
        answers = await gather(first, *rest)
    assert all(isinstance(one, AuditUnavailable) for one in answers[1:])
    setattr(faults, call, "")  # whatever the disk does now: after an error nobody knows what is on it
    health = writer.health()
    assert not health.is_writable
    assert health.failure == "disk: OSError"
    for attempt in (lambda: writer.record(intent(9), AT), lambda: writer.note("x", {}, AT)):
        with pytest.raises(AuditUnavailable):
            await attempt()
    with pytest.raises(AuditUnavailable):
        writer.admit(1)
    async with asyncio.timeout(20):
        await writer.close(AT)
    assert not writer._thread.is_alive()
    kept = told(on_disk(folder))
    assert kept[: good.sequence + 1] == ["0 log.open", "1 intent 1"]
    assert "log.close" not in str(kept)


async def test_a_disk_that_fails_while_the_log_is_closed_does_not_hang(tmp_path, folder):
    faults = Faults()
    writer = await a_writer(tmp_path, ops=BadDisk(faults))
    await writer.record(intent(1), AT)
    faults.sync, faults.after = "EIO", 1  # the last leaf is synced, the segment's end is not
    async with asyncio.timeout(20):
        await writer.close(AT)
    assert not writer._thread.is_alive()
    assert writer.health().failure == "disk: OSError"
    assert segments.take_lock(folder) is not None, "recovery may have it"


async def test_a_log_that_fails_at_the_seam_of_two_segments(tmp_path, folder):
    faults = Faults()
    writer = await a_writer(tmp_path, ops=BadDisk(faults), seal_seconds=1.5)  # longer than it takes to break the disk
    await until(lambda: len(list(folder.glob("*.sealed"))) == 1)
    await writer.record(intent(1), AT)
    faults.sync = "EIO"
    await until(lambda: writer.health().failure is not None)
    with pytest.raises(AuditUnavailable):
        await writer.record(intent(2), AT)
    await writer.close(AT)
    assert told(on_disk(folder)) == ["0 log.open", "1 intent 1"]


async def test_the_spare_file_disappears(tmp_path, folder):
    writer = await a_writer(tmp_path)
    for n in range(60):
        (folder / "spare").unlink(missing_ok=True)
        await writer.record(intent(n, b"x" * 4000), AT)
    await writer.close(AT)
    assert [leaf["sequence"] for leaf in on_disk(folder)] == list(range(62))


# Opening and closing -----------------------------------------------------------------------------------------------


async def test_closing_ends_the_log_and_seals_everything(tmp_path, folder):
    writer = await a_writer(tmp_path)
    await writer.record(intent(1), AT)
    waiting = [asyncio.ensure_future(writer.record(intent(n), AT)) for n in range(2, 50)]
    await asyncio.sleep(0)
    await writer.close(AT)
    await asyncio.gather(*waiting)
    leaves = on_disk(folder)
    assert leaves[-1]["kind"] == "log.close"
    assert leaves[-1]["leaves"] == len(leaves) == 51
    assert list(folder.glob("*.wal")) == []
    assert (folder / "ended").exists()
    await writer.close(AT)
    with pytest.raises(AuditUnavailable):
        await writer.record(intent(2), AT)
    with pytest.raises(AuditUnavailable):
        writer.admit(1)
    assert not writer.health().is_writable
    assert not writer._thread.is_alive()


@pytest.mark.parametrize("fault", ["allocate", "write", "sync"])
async def test_a_log_that_cannot_be_opened_leaves_nothing_that_fills_the_disk(tmp_path, folder, fault):
    faults = Faults(**{fault: "ENOSPC"})
    before = threading.active_count()
    for attempt in range(3):
        with pytest.raises(AuditUnavailable):
            await a_writer(tmp_path, f"e{attempt}", ops=BadDisk(faults))
    for attempt in range(3):
        made = tmp_path / "evidence" / f"e{attempt}"
        assert segments.take_lock(made) is not None, "recovery may clear it away"
        if fault == "allocate":
            assert files(made) == ["lock"]
    await until(lambda: threading.active_count() <= before + 1)  # asyncio's own worker thread


async def test_two_logs_of_one_name_are_not_opened(tmp_path):
    writer = await a_writer(tmp_path)
    with pytest.raises(AuditUnavailable):
        await a_writer(tmp_path)
    await writer.record(intent(1), AT)
    await writer.close(AT)


async def test_an_epoch_is_never_seen_unlocked(tmp_path, monkeypatch):
    """Or the shipper would take it for a dead one and end it."""
    seen = []
    real = segments.take_lock

    def watching(where):
        seen.append(where.name)
        return real(where)

    monkeypatch.setattr(segments, "take_lock", watching)
    writer = await a_writer(tmp_path)
    assert seen == [f".{E1}"], "locked under a name that the shipper passes over"
    await writer.close(AT)
