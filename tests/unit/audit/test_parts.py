"""Parts of streamed answers: durable at once, a leaf every few seconds, and told by whoever finds the log of a dead one."""

from __future__ import annotations

import asyncio
import shutil
from datetime import timedelta
from typing import Any

import jsonschema
import pytest

from ext_proc.audit import frames
from ext_proc.audit.kinds import schema_of
from ext_proc.audit.parts import LEAF_BYTES
from ext_proc.audit.recovery import recover
from ext_proc.audit.seal import seal
from ext_proc.audit.writer import binding_of
from ext_proc.errors import AuditUnavailable
from ext_proc.model import Entry, ExchangeId, Payload
from tests.fakes.disk import BadDisk, Faults
from tests.fakes.log import ADA, AT, E1, a_keyring, a_writer, intent, on_disk, outcome

LATER = AT + timedelta(minutes=5)
KIND = "text/event-stream"


def part(number: int, released: bytes, came: bytes = b"", *, before: int = 0, exchange: int = 1) -> Entry:
    """Part ``number`` of a streamed answer; ``before``: bytes that were released before it."""
    bodies = (("response.upstream", came), ("response.released", released))
    told: dict[str, Any] = {
        "intent_sequence": 1,
        "part": {"number": number, "released_bytes": before, "covered_bytes": before + len(released)},
        "time": {"recorded": "2026-11-24T12:00:00.123456Z"},
    }
    payloads = tuple(Payload(role, body, KIND) for role, body in bodies if body)
    return Entry("inference.part", ExchangeId(f"exchange-{exchange}"), ADA, None, told, payloads)


def released(
    folder, leaves: list[dict[str, Any]], ciphertexts: dict[str, bytes], role: str = "response.released"
) -> bytes:
    """A streamed body, put together from every leaf."""
    keyring = a_keyring(folder)
    return b"".join(
        keyring.decrypt(told, ciphertexts[told["ciphertext_sha256"]], binding_of(leaf["origin"], leaf["exchange_id"]))
        for leaf in leaves
        for told in leaf.get("payloads", ())
        if told["role"] == role
    )


def in_leaves(folder) -> dict[str, bytes]:
    """Ciphertexts that are shipped, by their SHA-256: those of leaves."""
    from hashlib import sha256

    paths = sorted([*folder.glob("*.sealed"), *folder.glob("*.wal")])
    found = [frame for path in paths for frame in frames.scan(path.read_bytes()).frames if frame.type == frames.LEAF]
    return {sha256(one).hexdigest(): one for frame in found for one in frame.ciphertexts}


@pytest.fixture
async def writer(tmp_path):
    made = await a_writer(tmp_path, segment_bytes=512 * 1024)
    await made.record(intent(1), AT)
    yield made
    await made.close(AT)


async def test_the_first_part_is_a_leaf_and_the_next_ones_are_not(writer, tmp_path):
    first = await writer.record(part(0, b""), AT)
    second = await writer.record(part(1, b"one "), AT)
    third = await writer.record(part(2, b"two ", before=4), AT)
    assert (first.sequence, bool(first.leaf_hash)) == (2, True)
    assert (second.sequence, second.leaf_hash, third.sequence) == (3, "", 3), "no number of their own"
    assert [leaf["kind"] for leaf in on_disk(tmp_path / "evidence" / E1)][1:] == ["inference.intent", "inference.part"]
    jsonschema.validate(on_disk(tmp_path / "evidence" / E1)[2], schema_of("inference.part"))


async def test_the_outcome_holds_what_is_in_no_leaf_yet(writer, tmp_path):
    for number, said in enumerate((b"", b"one ", b"two ")):
        await writer.record(part(number, said, came=said.upper()), AT)
    await writer.record(outcome(1, b"three"), AT)
    folder = tmp_path / "evidence" / E1
    leaves = on_disk(folder)
    assert [leaf["kind"] for leaf in leaves] == ["log.open", "inference.intent", "inference.part", "inference.outcome"]
    assert released(tmp_path, leaves, in_leaves(folder)) == b"one two three"
    assert released(tmp_path, leaves, in_leaves(folder), "response.upstream") == b"ONE TWO "


@pytest.mark.parametrize(
    ("seconds", "size"), [(4.0, 4), (0.1, LEAF_BYTES)], ids=["after a while", "after so many bytes"]
)
async def test_a_part_in_a_while_is_a_leaf_with_all_since(writer, tmp_path, seconds, size):
    await writer.record(part(0, b""), AT)
    await writer.record(part(1, b"one "), AT)
    at = AT + timedelta(seconds=seconds)
    assert (await writer.record(part(2, b"x" * size, before=4), at)).leaf_hash
    assert not (await writer.record(part(3, b"!", before=4 + size), at)).leaf_hash
    await writer.record(outcome(1), at)
    folder = tmp_path / "evidence" / E1
    leaves = on_disk(folder)
    assert leaves[3]["part"] == {"number": 2, "released_bytes": 4, "covered_bytes": 4 + size}
    assert released(tmp_path, leaves[:4], in_leaves(folder)) == b"one " + b"x" * size
    assert released(tmp_path, leaves, in_leaves(folder)) == b"one " + b"x" * size + b"!"


async def killed(writer, tmp_path, *entries: Entry):
    """What is on the disk of a worker that is killed now, and what recovery makes of it."""
    for entry in entries:
        await writer.record(entry, AT)
    copy = tmp_path / "dead"
    shutil.copytree(tmp_path / "evidence" / E1, copy)
    recover(copy, LATER)
    return copy


async def test_a_dead_workers_stream_is_told_to_the_byte(writer, tmp_path):
    pieces = [f"piece {number} ".encode() for number in range(40)]
    before = [sum(map(len, pieces[:number])) for number in range(40)]
    parts = [part(n + 1, said, came=said.upper(), before=before[n]) for n, said in enumerate(pieces)]
    folder = await killed(writer, tmp_path, part(0, b""), *parts)
    leaves = on_disk(folder)
    [recovered] = [leaf for leaf in leaves if leaf["kind"] == "log.recovered"]
    assert (recovered["parts"], recovered["interrupted"]) == (4, 1), "as many records as follow: the verifier counts"
    ended = leaves[-1]
    assert ended["outcome"]["status"] == "interrupted"
    assert ended["outcome"]["covered_bytes"] == len(b"".join(pieces))
    assert ended["outcome"]["released_bytes"] == before[-1], "the last one may have been released or not (L7)"
    assert released(tmp_path, leaves, in_leaves(folder)) == b"".join(pieces)
    assert released(tmp_path, leaves, in_leaves(folder), "response.upstream") == b"".join(pieces).upper()
    for leaf in leaves[3:]:
        jsonschema.validate(leaf, {**schema_of(leaf["kind"])})
    assert [leaf["sequence"] for leaf in leaves] == list(range(len(leaves)))
    for path in folder.glob("*.sealed"):
        assert seal(path.read_bytes()), "what is sealed can be shipped"


async def test_parts_are_carried_into_the_next_segment(tmp_path):
    """Recovery never needs a segment that was shipped."""
    writer = await a_writer(tmp_path, segment_bytes=16 * 1024)
    await writer.record(intent(1), AT)
    await writer.record(part(0, b""), AT)
    await writer.record(part(1, b"kept "), AT)
    for number in range(2, 30):  # fills segments
        await writer.record(intent(number, b"x" * 1500), AT)
        await writer.record(outcome(number), AT)
    folder = tmp_path / "evidence" / E1
    shipped = sorted(folder.glob("*.sealed"))
    assert len(shipped) >= 2
    for path in shipped:
        path.unlink()
    copy = await killed(writer, tmp_path, part(2, b"and found", before=5))
    leaves = [leaf for leaf in on_disk(copy) if leaf.get("exchange_id") == "exchange-1"]
    assert released(tmp_path, leaves, in_leaves(copy)) == b"kept and found"
    assert leaves[-1]["outcome"]["covered_bytes"] == 14
    await writer.close(AT)


async def test_two_streams_are_kept_apart(writer, tmp_path):
    await writer.record(intent(2), AT)
    for exchange in (1, 2):
        await writer.record(part(0, b"", exchange=exchange), AT)
    for number in range(1, 4):
        for exchange in (1, 2):
            await writer.record(part(number, f"{exchange}{number} ".encode(), exchange=exchange), AT)
    folder = await killed(writer, tmp_path, outcome(2, b"2end"))
    for exchange, said in ((1, b"11 12 13 "), (2, b"21 22 23 2end")):
        leaves = [leaf for leaf in on_disk(folder) if leaf.get("exchange_id") == f"exchange-{exchange}"]
        assert released(tmp_path, leaves, in_leaves(folder)) == said


async def test_a_full_disk_refuses_a_part_and_still_takes_the_end(tmp_path):
    writer = await a_writer(tmp_path, segment_bytes=16 * 1024, max_bytes=48 * 1024, emergency_bytes=16 * 1024)
    await writer.record(intent(1), AT)
    await writer.record(part(0, b""), AT)
    await writer.record(part(1, b"kept"), AT)
    writer._used = (1 << 30, float("inf"))
    with pytest.raises(AuditUnavailable):
        await writer.record(part(2, b"x", before=4), AT)
    await writer.record(outcome(1), AT)
    assert on_disk(tmp_path / "evidence" / E1)[-1]["payloads"] == []
    writer._used = (0, float("inf"))
    await writer.close(AT)


async def test_so_much_stands_still_that_the_next_segment_must_be_larger(tmp_path):
    """And where there is no space for it: refused, not broken."""
    faults = Faults()
    writer = await a_writer(tmp_path, ops=BadDisk(faults), segment_bytes=64 * 1024)
    await until_spare(tmp_path)
    for number in range(1, 9):
        await writer.record(intent(number), AT)
        await writer.record(part(0, b"", exchange=number), AT)
        await writer.record(part(1, b"y" * 7000, exchange=number), AT)
    faults.allocate = faults.extend = "ENOSPC"
    more = [writer.record(part(2, b"z" * 7000, before=7000, exchange=number), AT) for number in range(1, 9)]
    refused = [one for one in await asyncio.gather(*more, return_exceptions=True) if isinstance(one, Exception)]
    assert {(type(one), getattr(one, "detail", "")) for one in refused} == {(AuditUnavailable, "full")}
    assert writer.health().failure is None
    faults.allocate = faults.extend = ""
    async with asyncio.timeout(20):
        while not writer.health().is_writable:  # noqa: ASYNC110 - happens in a thread
            await asyncio.sleep(0.01)
    for number in range(1, 9):
        await writer.record(outcome(number, b"end"), AT)
    await writer.close(AT)
    folder = tmp_path / "evidence" / E1
    whole = released(tmp_path, on_disk(folder), in_leaves(folder))
    assert whole.count(b"y") == 8 * 7000 and whole.count(b"end") == 8


async def until_spare(tmp_path) -> None:
    async with asyncio.timeout(20):
        while not (tmp_path / "evidence" / E1 / "spare").exists():  # noqa: ASYNC110 - a thread makes it
            await asyncio.sleep(0.01)
