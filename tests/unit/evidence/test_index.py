"""`ext_proc.evidence.index` and what builds it: found again whatever comes, in whatever order, and thrown away at will."""

from __future__ import annotations

import hashlib
import sqlite3
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
import zstandard

from ext_proc.errors import GateError
from ext_proc.evidence.index import Index, Link
from ext_proc.evidence.index_asking import Wanted
from ext_proc.evidence.index_file import IndexFile, NotBuilt
from ext_proc.evidence.index_rows import milliseconds_of
from ext_proc.evidence.indexing import Indexer, IndexThread
from ext_proc.evidence.versions import EvidenceError
from tests.fakes.indexed import Clock, Indexed, exchange_id, told
from tests.fakes.recorded import NOON, Recorded

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from ext_proc.evidence.index import Page
    from ext_proc.evidence.versions import Version

SECOND = timedelta(seconds=1)


@pytest.fixture
def recorded(tmp_path: Path) -> Recorded:
    return Recorded.at(tmp_path)


@pytest.fixture
def indexed(recorded: Recorded, tmp_path: Path) -> Iterator[Indexed]:
    made = Indexed(recorded.store, tmp_path / "console")
    yield made
    made.indexer.close()


def search(indexed: Indexed, limit: int = 50, after: str | None = None, **wanted: Any) -> Page:
    return indexed.index.search(Wanted(**wanted), limit, after, indexed.clock())


def found(indexed: Indexed, **wanted: Any) -> list[int]:
    page = search(indexed, 1000, **wanted)
    assert page.total == len(page.lines)
    return [int(line.exchange_id[-12:], 16) for line in page.lines]


# What is found ---------------------------------------------------------------------------------------------------


def test_every_filter_alone_and_with_others(recorded: Recorded, indexed: Indexed) -> None:
    log = recorded.log()
    told(log, 1, NOON, connection="one", entity="EMAIL")
    told(log, 2, NOON + SECOND, connection="two", model="small", entity="PHONE")
    told(
        log,
        3,
        NOON + 2 * SECOND,
        allow=False,
        outcome="denied",
        code="policy_denied",
        http_status=403,
        has_intent=False,
    )
    told(log, 4, NOON + 3 * SECOND, outcome=None, tenant="hmac-sha256:" + "7" * 64, blocked=["CREDIT_CARD"])
    log.seal()
    indexed.round()
    assert found(indexed) == [4, 3, 2, 1]
    for wanted, expected in (
        ({"connection": "one"}, [1]),
        ({"connection": "on"}, []),
        ({"model": "small"}, [2]),
        ({"decision": "deny"}, [3]),
        ({"decision": "allow"}, [4, 2, 1]),
        ({"decision": "none"}, []),
        ({"outcome": "denied"}, [3]),
        ({"outcome": "in flight"}, [4]),
        ({"outcome": "completed"}, [2, 1]),
        ({"code": "policy_denied"}, [3]),
        ({"entity": "PHONE"}, [2]),
        ({"entity": "CREDIT_CARD"}, [4]),
        ({"entity": "EMAIL"}, [4, 1]),
        ({"query": exchange_id(2)}, [2]),
        ({"query": "00000000-0000"}, [4, 3, 2, 1]),
        ({"query": "hmac-sha256:" + f"{3:064x}"}, [3]),
        ({"query": "hmac-sha256:"}, [4, 3, 2, 1]),
        ({"query": "%"}, []),
        ({"query": "' OR 1=1 --"}, []),
        ({"since": NOON + SECOND, "until": NOON + 2 * SECOND}, [2]),
        ({"tenant_ref": "hmac-sha256:" + "7" * 64}, [4]),
        ({"tenant_ref": "hmac-sha256:" + "8" * 64}, []),
        ({"connection": "models", "decision": "allow", "entity": "EMAIL", "outcome": "in flight"}, [4]),
        ({"connection": "one", "model": "small"}, []),
    ):
        assert found(indexed, **wanted) == expected, wanted


def test_a_line_says_what_the_leaves_say(recorded: Recorded, indexed: Indexed) -> None:
    log = recorded.log()
    name = told(log, 1, NOON, blocked=["IBAN"])
    log.seal()
    indexed.round()
    [line] = search(indexed).lines
    assert (line.exchange_id, line.at) == (name, NOON)
    assert (line.connection, line.operation, line.model) == ("models", "chat", "gpt-4o")
    assert (line.decision, line.outcome, line.http_status, line.code) == ("allow", "completed", 200, None)
    assert line.masked == {"EMAIL": 2, "IBAN": 0}
    assert line.subject_ref == "hmac-sha256:" + f"{1:064x}"


def test_pages_follow_each_other_whatever_comes_meanwhile(recorded: Recorded, indexed: Indexed) -> None:
    log = recorded.log()
    for number in range(1, 8):
        told(log, number, NOON + number // 3 * SECOND)  # several at one instant
    log.seal()
    indexed.round()
    whole = found(indexed)
    read: list[int] = []
    after = None
    for _ in range(4):
        page = search(indexed, 2, after)
        read += [int(line.exchange_id[-12:], 16) for line in page.lines]
        after = page.lines[-1].exchange_id
        assert page.is_more == (len(read) < 7)
        told(log, 100 + len(read), NOON + 60 * SECOND)
        log.seal()
        indexed.round()
    assert read == whole
    assert len(search(indexed, 2, "no-such-exchange").lines) == 2


def test_intent_and_outcome_in_any_order_of_objects(recorded: Recorded, indexed: Indexed, tmp_path: Path) -> None:
    """What is read newest first is the same as what is read as it came."""
    log = recorded.log()
    name = told(log, 1, NOON, outcome=None)
    log.seal()
    at = NOON + timedelta(hours=3)
    log.add("inference.outcome", at, {"exchange_id": name, "intent_sequence": 1, "payloads": [],
            "outcome": {"status": "interrupted", "code": "worker_died"}, "time": {"recorded": "2026-11-25T15:00:00.000000Z"}})  # fmt: skip
    log.seal()
    indexed.clock.now = NOON + timedelta(days=3)
    indexed.round()
    [line] = search(indexed).lines
    assert (line.at, line.connection, line.outcome, line.code) == (NOON, "models", "interrupted", "worker_died")
    [_, charts] = indexed.index.hours(Wanted(), indexed.clock()), None
    assert len(indexed.index.where(name, None).keys) == 2  # type: ignore[union-attr]
    assert charts is None
    # as it came
    other = Indexed(recorded.store, tmp_path / "other", Clock(NOON + timedelta(minutes=1)))
    kept, recorded.store.puts = recorded.store.puts, recorded.store.puts[:3]
    other.round()
    assert search(other).lines[0].outcome == "in flight"
    recorded.store.puts[:] = kept
    other.clock.now = indexed.clock()
    other.round()
    assert search(other).lines == (line,)
    other.indexer.close()


def test_the_later_outcome_counts(recorded: Recorded, indexed: Indexed) -> None:
    log = recorded.log()
    name = told(log, 1, NOON)
    said = {"status": "unrecorded", "http_status": 503, "code": "audit_unavailable"}
    fields = {"exchange_id": name, "intent_sequence": 1, "payloads": [], "outcome": said}
    log.add("inference.outcome", NOON + 3 * SECOND, fields)
    log.seal()
    indexed.round()
    [line] = search(indexed).lines
    assert (line.outcome, line.http_status, line.code) == ("unrecorded", 503, "audit_unavailable")


def test_who_reads_or_approves_is_not_who_called(recorded: Recorded, indexed: Indexed) -> None:
    log = recorded.log()
    name = told(log, 1, NOON, subject="hmac-sha256:" + "c" * 64)
    other = {"subject_ref": "hmac-sha256:" + "d" * 64, "tenant_ref": "hmac-sha256:" + "e" * 64}
    log.add("approval.viewed", NOON, {"exchange_id": name, "actor": other, "hold_id": "ab" * 16})
    log.add("access.read", NOON, {"exchange_id": exchange_id(99), "roles": [], "by": "b", "purpose": "p"})
    log.seal()
    indexed.round()
    [line] = search(indexed).lines
    assert line.subject_ref == "hmac-sha256:" + "c" * 64, "and nothing is an exchange because somebody read it"
    assert search(indexed, tenant_ref="hmac-sha256:" + "e" * 64).lines == ()


def test_where_its_records_lie_and_another_tenants_do_not(recorded: Recorded, indexed: Indexed) -> None:
    mine, theirs = ("hmac-sha256:" + letter * 64 for letter in "78")
    log, other = recorded.log(), recorded.log("gw-1-0", salt="bbbbbbbb")
    name = told(log, 1, NOON, tenant=mine)
    key = log.seal()
    other.add("access.read", NOON, {"exchange_id": name, "roles": [], "by": "b", "purpose": "p"})
    keys = {key, other.seal()}
    indexed.round()
    for tenant in (None, mine):
        where = indexed.index.where(name, tenant)
        assert where is not None
        assert set(where.keys) == keys
    assert indexed.index.where(name, theirs) is None
    assert indexed.index.where("no-such", None) is None


def test_links_by_tool_calls_and_holds(recorded: Recorded, indexed: Indexed) -> None:
    log = recorded.log()
    approval = {"hold_id": "ab" * 16, "state": "pending"}
    tenant = "hmac-sha256:" + "7" * 64
    asked = told(log, 1, NOON, approval=approval, outcome="held", has_intent=False)
    again = told(log, 2, NOON + SECOND, approval={**approval, "state": "claimed"}, tenant=tenant)
    log.tool_call(again, NOON + SECOND, "call_1")
    brings = told(log, 3, NOON + 2 * SECOND)
    ref = recorded.keyring.reference("tool-call", "call_1")
    log.add("inference.intent", NOON + 2 * SECOND, {"exchange_id": brings, "tool_results": [ref, 5, "x" * 300]})
    log.seal()
    indexed.round()

    def links(name: str, tenant: str | None = None) -> set[Link]:
        where = indexed.index.where(name, tenant)
        assert where is not None
        return set(where.links)

    assert links(asked) == {Link("held_with", again)}
    assert links(again) == {Link("held_with", asked), Link("brought_by", brings)}
    assert links(brings) == {Link("called_in", again)}
    assert links(again, tenant) == set(), "the others are of no tenant that this one may see"


# Building --------------------------------------------------------------------------------------------------------


def test_each_object_is_read_once(recorded: Recorded, indexed: Indexed) -> None:
    log = recorded.log()
    keys = []
    for number in range(5):
        told(log, number, NOON + number * timedelta(minutes=10))
        keys.append(log.seal())
        indexed.round()
    indexed.clock.move(hours=5)
    indexed.round()
    read = [key for key in recorded.store.downloads if key.startswith("v1/events/")]
    assert sorted(read) == sorted(keys)


def test_the_newest_first(recorded: Recorded, indexed: Indexed) -> None:
    for number in (9, 8, 40, 1, 0):
        log = recorded.log(at=NOON - timedelta(days=number), salt=f"{number:08x}")
        told(log, number, NOON - timedelta(days=number))
        log.seal()
        log.add("heartbeat", NOON - timedelta(days=number, hours=-1), {})
        log.seal()
    indexed.round()
    hours = [key[13:31] for key in recorded.store.downloads]
    assert hours == sorted(hours, reverse=True)
    assert found(indexed) == [0, 1, 8, 9, 40]


def test_an_object_of_long_ago_that_comes_late(recorded: Recorded, indexed: Indexed) -> None:
    indexed.round()
    late = recorded.log(at=NOON - timedelta(days=20))
    told(late, 1, NOON - timedelta(days=20))
    late.seal()
    indexed.round()
    assert search(indexed).lines == ()
    indexed.clock.move(minutes=61)
    indexed.round()
    assert found(indexed) == [1]


def test_no_total_while_it_is_not_known(recorded: Recorded, indexed: Indexed) -> None:
    log = recorded.log()
    told(log, 1, NOON)
    log.seal()
    indexed.round()
    assert search(indexed).total == 1
    indexed.clock.move(minutes=5)
    assert search(indexed).total is None, "nobody has listed the bucket for a while"
    indexed.round()
    assert search(indexed).total == 1


def test_memory_does_not_grow_with_an_exchange(
    recorded: Recorded, indexed: Indexed, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And one with very many leaves, in many objects, is one exchange, of which so many objects are read."""
    monkeypatch.setattr("ext_proc.evidence.index.PLACES_MAX", 4)
    log = recorded.log()
    name = told(log, 1, NOON, outcome=None)
    for number in range(20_000):
        log.add("inference.part", NOON, {"exchange_id": name, "part": {"number": number}, "payloads": []})
        if number % 2_000 == 0:
            log.seal(checkpoint=False)
    log.seal()
    indexed.round()
    assert found(indexed) == [1]
    where = indexed.index.where(name, None)
    assert where is not None
    assert (len(where.keys), where.left_out) == (4, 7)


def test_many_exchanges_in_one_object(recorded: Recorded, indexed: Indexed, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ext_proc.evidence.indexing._EXCHANGES_MAX", 3)
    log = recorded.log()
    for number in range(10):
        told(log, number, NOON + number * SECOND)
    log.seal()
    indexed.round()
    assert found(indexed) == list(range(9, -1, -1))
    [line] = search(indexed, query=exchange_id(4)).lines
    assert line.outcome == "completed"


# What others may have put there --------------------------------------------------------------------------------------


def put(recorded: Recorded, lines: list[bytes], body: bytes | None = None, day: str = "2026-11-25") -> str:
    body = body if body is not None else zstandard.ZstdCompressor().compress(b"".join(one + b"\n" for one in lines))
    place = f"v1/events/dt={day}/hour=12/replica=gw-9-0/epoch=20261125T120000000000-dddddddd"
    sha16 = hashlib.sha256(body).hexdigest()[:16]
    key = f"{place}/{0:016d}-{max(len(lines) - 1, 0):016d}-{sha16}.jsonl.zst"
    recorded.store.put(key, body)
    return key


ORIGIN = "demo.example/affidavit/gw-9-0/20261125T120000000000-dddddddd"
COMMON = f'"at":"2026-11-25T12:00:00.000000Z","origin":"{ORIGIN}","sequence":0'


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"\xff\xfe garbage",
        b"[1,2]",
        b'{"exchange_id":"x"}',
        b'{"exchange_id":"x","kind":"inference.intent","origin":"' + ORIGIN.encode() + b'","sequence":0,"at":"never"}',
        f'{{"exchange_id":"x","kind":"inference.intent",{COMMON.replace("gw-9-0", "gw-8-0")}}}'.encode(),
        f'{{"exchange_id":"x","kind":"inference.intent",{COMMON.replace(":0", ":7")}}}'.encode(),
    ],
)
def test_lines_that_are_no_records_of_their_place_are_noted_and_left_out(
    line: bytes, recorded: Recorded, indexed: Indexed
) -> None:
    log = recorded.log()
    told(log, 1, NOON)
    log.seal()
    good = f'{{"exchange_id":"good","kind":"inference.intent",{COMMON.replace(":0", ":1")}}}'.encode()
    put(recorded, [line, good.replace(b"00:01", b"00:00")])
    indexed.round()
    names = {one.exchange_id for one in search(indexed).lines}
    assert "x" not in names
    assert exchange_id(1) in names
    assert indexed.index.status().faults == (b'"exchange_id":' in line)


@pytest.mark.parametrize(
    "fields",
    [
        '"actor":5,"request":[],"policy":"yes","time":null',
        '"actor":{"subject_ref":{}},"request":{"connection":7,"model":["m"]},"policy":{"allow":"true","bundle_digest":1}',
        '"request":{"model":"' + "m" * 10_000 + '"}',
        '"time":{"received":"-5"},"request_redaction":{"removed":[1,{"entity":2},{"entity":"E","count":-1}],"blocked":{}}',
        '"approval":{"hold_id":5,"state":[]},"outcome":{"status":9,"http_status":1e9,"code":{}}',
        '"tool_results":"no","tool_call":7',
        '"request":{"model":"\\u0000 \\ud83d\\ude00"}',
    ],
)
@pytest.mark.parametrize("kind", ["inference.intent", "inference.outcome", "approval.resolved", "never.heard.of"])
def test_fields_of_any_type(kind: str, fields: str, recorded: Recorded, indexed: Indexed) -> None:
    put(recorded, [f'{{"exchange_id":"x","kind":"{kind}",{COMMON},{fields}}}'.encode()])
    indexed.round()
    lines = search(indexed).lines
    assert [one.exchange_id for one in lines] == (["x"] if kind.startswith("inference.") else [])
    assert indexed.index.where("x", None) is not None or kind not in {"inference.intent", "inference.outcome"}
    indexed.index.hours(Wanted(), indexed.clock())


def test_objects_that_cannot_be_read_are_noted_and_the_others_are_there(recorded: Recorded, indexed: Indexed) -> None:
    log = recorded.log()
    told(log, 1, NOON)
    log.seal()
    put(recorded, [b""] * 3, b"no zstd at all")
    whole = zstandard.ZstdCompressor().compress(b"".join(b'{"a":%d}\n' % n for n in range(9999)))
    put(recorded, [b""] * 4, whole[: len(whole) // 2])
    put(recorded, [b""] * 5, b"", day="2026-02-31")
    recorded.store.put("v1/events/rubbish", b"x")
    recorded.store.put("v1/events/dt=2026-11-25/hour=12/elsewhere", b"x")
    indexed.round()
    assert found(indexed) == [1]
    assert (indexed.index.status().objects, indexed.index.status().faults) == (4, 3)
    before = len(recorded.store.downloads)
    indexed.round()
    assert len(recorded.store.downloads) == before, "and not read again and again"


def test_an_object_that_vanished_is_left_for_later(recorded: Recorded, indexed: Indexed) -> None:
    log = recorded.log()
    told(log, 1, NOON)
    gone = log.seal()
    told(log, 2, NOON + SECOND)
    log.seal()
    recorded.store.vanished.add(gone)
    indexed.round()
    assert found(indexed) == [2]
    recorded.store.vanished.clear()
    indexed.round()
    assert found(indexed) == [2, 1]


def test_the_oldest_version_is_the_evidence(recorded: Recorded, indexed: Indexed) -> None:
    log = recorded.log()
    told(log, 1, NOON)
    key = log.seal()
    recorded.store.put(key, b"another")
    recorded.store.put(key, None)
    indexed.round()
    assert found(indexed) == [1]
    assert indexed.index.status().faults == 0


# A cache ---------------------------------------------------------------------------------------------------------


def test_before_anything_was_built(indexed: Indexed) -> None:
    for ask in (lambda: search(indexed), lambda: indexed.index.where("x", None), indexed.index.status):
        with pytest.raises(NotBuilt):
            ask()


@pytest.mark.parametrize("damage", ["cut", "garbage", "zeros", "empty", "old"])
def test_a_damaged_file_is_built_anew(damage: str, recorded: Recorded, indexed: Indexed, tmp_path: Path) -> None:
    log = recorded.log()
    for number in range(300):
        told(log, number, NOON + number * SECOND)
    log.seal()
    indexed.round()
    indexed.indexer.close()
    path = tmp_path / "console" / "index.sqlite"
    whole = path.read_bytes()
    if damage == "old":
        with sqlite3.connect(path) as database:
            database.execute("PRAGMA user_version = 99")
        database.close()
    else:
        new = {"cut": whole[: len(whole) // 3], "garbage": b"x" * 9000, "empty": b"",
               "zeros": whole[:8192] + bytes(len(whole) - 8192)}[damage]  # fmt: skip
        path.write_bytes(new)
        with pytest.raises(GateError):  # whoever reads is told so, and whoever builds is told by them
            found(indexed)
    indexed.indexer = Indexer(recorded.store, indexed.file, indexed.clock)
    for _ in range(2):
        try:
            indexed.round()
        except EvidenceError:
            continue
    assert len(found(indexed)) == 300


def test_whoever_builds_is_told_of_damage_that_only_a_reader_saw(
    recorded: Recorded, indexed: Indexed, tmp_path: Path
) -> None:
    log = recorded.log()
    for number in range(300):
        told(log, number, NOON + number * SECOND)
    log.seal()
    indexed.round()
    path = tmp_path / "console" / "index.sqlite"
    with sqlite3.connect(path) as database:
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    database.close()
    with path.open("r+b") as file:  # not the first pages, and not by the process that builds
        file.seek(8192 * 5)
        file.write(bytes(path.stat().st_size - 8192 * 5))
    with pytest.raises(NotBuilt):
        found(indexed)
    indexed.round()
    assert len(found(indexed)) == 300


def test_a_file_that_is_removed_while_it_is_used(recorded: Recorded, indexed: Indexed, tmp_path: Path) -> None:
    log = recorded.log()
    told(log, 1, NOON)
    log.seal()
    indexed.round()
    for path in (tmp_path / "console").glob("index.sqlite*"):
        path.unlink()
    with pytest.raises(NotBuilt):
        search(indexed)
    indexed.round()
    assert found(indexed) == [1]


def test_an_index_of_another_bucket_is_not_used(recorded: Recorded, indexed: Indexed, tmp_path: Path) -> None:
    log = recorded.log()
    told(log, 1, NOON)
    log.seal()
    indexed.round()
    indexed.indexer.close()
    with pytest.raises(NotBuilt):
        Index(IndexFile(tmp_path / "console", "s3://another")).status()
    other = Recorded(recorded.keyring)
    indexer = Indexer(other.store, IndexFile(tmp_path / "console", "s3://another"), indexed.clock)
    indexer.round()
    assert Index(IndexFile(tmp_path / "console", "s3://another")).status().exchanges == 0
    indexer.close()


def test_two_on_one_folder(recorded: Recorded, indexed: Indexed, tmp_path: Path) -> None:
    """One builds, both read; when the first is gone the other builds."""
    log = recorded.log()
    told(log, 1, NOON)
    log.seal()
    second = Indexed(recorded.store, tmp_path / "console", indexed.clock)
    assert indexed.round() is True
    assert second.round() is False
    assert found(second) == found(indexed) == [1]
    indexed.indexer.close()
    told(log, 2, NOON + SECOND)
    log.seal()
    assert second.round() is True
    assert found(indexed) == [2, 1]
    assert len({*recorded.store.downloads}) == len(recorded.store.downloads), "nothing was read twice"
    second.indexer.close()


class Away:
    """A bucket that does not answer."""

    name = "fake"

    def __init__(self) -> None:
        self.asked = 0

    def versions(self, prefix: str, after: str = "") -> Iterator[Version]:
        del prefix, after
        self.asked += 1
        raise EvidenceError("s3://evidence cannot be read: ConnectTimeout. Reading needs ...")


def test_the_bucket_is_away(recorded: Recorded, indexed: Indexed, tmp_path: Path) -> None:
    log = recorded.log()
    told(log, 1, NOON)
    log.seal()
    indexed.round()
    indexed.indexer.close()
    away: Any = Away()
    indexer = Indexer(away, indexed.file, indexed.clock)
    with pytest.raises(EvidenceError, match="cannot be read"):
        indexer.round()
    assert [line.exchange_id for line in search(indexed).lines] == [exchange_id(1)], "what is known is there"
    indexer.close()
    thread = IndexThread(away, IndexFile(tmp_path / "console", "fake"), indexed.clock)
    thread.start()
    while thread.failure is None:
        assert thread._thread.is_alive()
    thread.stop()
    assert "ConnectTimeout" in thread.failure
    assert not thread._thread.is_alive()


def test_a_bug_in_it_is_said(indexed: Indexed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And does not end it: nothing else would say why the index stands still."""
    away: Any = Away()
    rounds: list[int] = []

    def round_(self: Any) -> None:
        rounds.append(1)
        if len(rounds) == 1:
            raise KeyError("what nobody thought of")

    monkeypatch.setattr("ext_proc.evidence.indexing.Indexer.round", round_)
    monkeypatch.setattr("ext_proc.evidence.indexing.POLL_SECONDS", 0.2)
    thread = IndexThread(away, IndexFile(tmp_path / "console", "fake"), indexed.clock)
    thread.start()
    while not rounds or (len(rounds) == 1 and thread.failure is None):
        assert thread._thread.is_alive()
    assert thread.failure in ("KeyError", None)
    while len(rounds) < 2 or thread.failure is not None:
        assert thread._thread.is_alive()
    thread.stop()


def test_nothing_in_clear_is_in_it(recorded: Recorded, indexed: Indexed, tmp_path: Path) -> None:
    log = recorded.log()
    log.exchange(exchange_id(1), NOON)
    log.seal()
    indexed.round()
    everything = b"".join(path.read_bytes() for path in (tmp_path / "console").iterdir())
    for planted in (b"ada@example.com", b"Write to", b"wrapped_data_key", b"idp.example"):
        assert planted not in everything
    assert all(path.stat().st_mode & 0o077 == 0 for path in [tmp_path / "console", tmp_path / "console/index.sqlite"])


# Counted ---------------------------------------------------------------------------------------------------------


def approval(number: int, state: str, **more: Any) -> dict[str, Any]:
    return {"hold_id": f"{number:032x}", "state": state, "asked": "2026-11-25T12:00:00.000000Z",
            "expires": "2026-11-25T12:30:00.000000Z", **more}  # fmt: skip


def test_hours(recorded: Recorded, indexed: Indexed) -> None:
    log = recorded.log()
    for number in range(10):
        told(log, number, NOON + number * SECOND)
    told(log, 20, NOON + timedelta(hours=1), allow=False, outcome="denied", entity=None, has_intent=False)
    told(log, 21, NOON + timedelta(hours=1), outcome="error", entity="PHONE")
    log.seal()
    indexed.clock.move(hours=1)
    indexed.round()
    hours, entities = indexed.index.hours(Wanted(), indexed.clock())
    first, second = hours[NOON], hours[NOON + timedelta(hours=1)]
    assert first.outcomes == {"completed": 10}
    assert second.outcomes == {"denied": 1, "error": 1}
    assert entities == {"EMAIL": 20, "PHONE": 2}
    [step] = first.gate
    assert milliseconds_of(step) == pytest.approx(10, rel=0.02), "5 ms until it went on, 5 ms from the answer's head"
    assert sorted(milliseconds_of(one) for one in second.gate) == pytest.approx([4, 10], rel=0.02)
    late, _ = indexed.index.hours(Wanted(since=NOON + timedelta(minutes=30)), indexed.clock())
    assert set(late) == {NOON + timedelta(hours=1)}


def test_holds_by_their_end(recorded: Recorded, indexed: Indexed) -> None:
    log = recorded.log()
    tenant = "hmac-sha256:" + "7" * 64
    for number, state in enumerate(("claimed", "denied", "expired", "withdrawn", "pending", "pending", "pending"), 1):
        told(log, number, NOON, approval=approval(number, state), tenant=tenant if number == 1 else None)
    log.add(
        "approval.requested",
        NOON,
        {"exchange_id": exchange_id(6), "approval": approval(6, "pending"), "terms": {"count": 2}},
    )
    for person in range(2):
        log.add("approval.resolved", NOON + person * SECOND, {
            "exchange_id": exchange_id(6), "hold_id": f"{6:032x}", "action": "approve", "actor": None,
        })  # fmt: skip
    log.add("approval.resolved", NOON, {"exchange_id": exchange_id(7), "hold_id": f"{7:032x}", "action": "deny"})
    log.seal()
    indexed.clock.now = NOON + timedelta(minutes=10)
    indexed.round()
    hours, _ = indexed.index.hours(Wanted(), indexed.clock())
    assert hours[NOON].holds == {"approved": 2, "denied": 2, "expired": 1, "ended": 1}
    later, _ = indexed.index.hours(Wanted(), NOON + timedelta(hours=1))
    assert later[NOON].holds["expired"] == 2, "the one that nobody resolved"
    theirs, _ = indexed.index.hours(Wanted(tenant_ref=tenant), indexed.clock())
    assert theirs[NOON].holds == {"approved": 1}


def test_policies_as_they_came_to_decide(recorded: Recorded, indexed: Indexed) -> None:
    log = recorded.log()
    log.add("log.open", NOON, {"role": "0", "policy_bundle": {"revision": "r1", "digest": "a" * 64}})
    for number, letter in enumerate("aabba"):
        told(log, number, NOON + number * SECOND, digest=letter * 64, revision=f"r-{letter}")
        log.seal()
    log.add("log.open", NOON, {"role": "shipper", "policy_bundle": {"revision": "r9", "digest": "f" * 64}})
    log.seal()
    indexed.round()
    assert [one.digest[0] for one in indexed.index.policies(50)] == ["a", "b", "a"]


def test_what_is_said_of_bundles(recorded: Recorded, indexed: Indexed) -> None:
    log = recorded.log("gw-0-shipper", salt="bbbbbbbb")
    named = {"revision": "r1", "digest": "a" * 64}
    log.add("policy.activated", NOON, {**named, "key": "v1/policy/x", "number": 7, "key_id": "k1", "previous": None})
    log.add("policy.refused", NOON + SECOND, {"digest": "b" * 64, "reason": "older", "number": 6, "active": named})
    log.add("policy.kept", NOON + SECOND, {**named, "key": "v1/policy/y"})
    for number, spoilt in enumerate((5, None, "x" * 1000)):  # from somebody else's pen
        log.add("policy.refused", NOON, {"digest": spoilt, "reason": spoilt, "number": "7", "number_of": number})
    log.seal()
    indexed.round()
    [activated] = indexed.index.policy_notes("activated", 9)
    assert (activated.digest, activated.number, activated.key_id) == ("a" * 64, 7, "k1")
    [refused] = indexed.index.policy_notes("refused", 9)
    assert (refused.digest, refused.reason, refused.number, refused.at) == ("b" * 64, "older", 6, NOON + SECOND)


def test_what_a_candidate_would_do_is_counted(recorded: Recorded, indexed: Indexed) -> None:
    log = recorded.log()
    candidate = {"revision": "r2", "digest": "c" * 64}
    for number in range(9):
        effects = ["newly_denied"] if number % 3 else ["newly_held", "newly_masked"]
        fields = {"exchange_id": f"e{number}", "decision_id": "d", "fields": ["allow"], "effects": effects}
        log.add(
            "policy.shadow_differed", NOON + number * SECOND, {**fields, "active": candidate, "candidate": candidate}
        )
        if number % 2:
            log.seal()
            indexed.round()
    fields = {"exchange_id": "e9", "decision_id": "d", "fields": ["decision"], "effects": ["no_decision", 7]}
    log.add("policy.shadow_differed", NOON, {**fields, "active": candidate, "candidate": None})
    log.seal()
    indexed.round()
    indexed.round()
    found = {(one.digest[:1], one.effect): (one.calls, one.example) for one in indexed.index.shadows(9)}
    assert found == {
        ("c", "newly_denied"): (6, "e1"), ("c", "newly_held"): (3, "e0"), ("c", "newly_masked"): (3, "e0"),
        ("", "no_decision"): (1, "e9"),
    }  # fmt: skip
    newest = max(indexed.index.shadows(9), key=lambda one: one.last_at)
    assert (newest.first_at, newest.last_at) == (NOON + SECOND, NOON + 8 * SECOND)
    assert indexed.index.status().exchanges == 0, "no exchange is known by that alone"


def test_logs(recorded: Recorded, indexed: Indexed) -> None:
    log, other = recorded.log(), recorded.log("gw-1-0", salt="bbbbbbbb")
    log.add("log.close", NOON + SECOND, {"leaves": 2})
    log.seal()
    told(other, 1, NOON + 5 * SECOND)
    other.seal()
    indexed.round()
    seen = indexed.index.logs(10)
    assert [(one.log.replica, one.size, one.ended) for one in seen] == [("gw-1-0", 3, None), ("gw-0-0", 2, "close")]
    assert replace(seen[0]).newest_at == NOON + 6 * SECOND
