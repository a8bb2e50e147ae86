from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest

from ext_proc.audit.merkle import hash_leaf
from ext_proc.evidence.query import cell, json_line, query
from ext_proc.evidence.versions import EvidenceError
from tests.fakes.recorded import ADA, GRACE, NOON, Recorded

HOUR = timedelta(hours=1)


@pytest.fixture
def recorded(tmp_path):
    made = Recorded.at(tmp_path)
    log = made.log()
    log.exchange("one", NOON)
    log.exchange("two", NOON + HOUR / 3, GRACE, status="error")
    log.seal()
    log.refused("three", NOON + 2 * HOUR)
    log.exchange("four", NOON + 2 * HOUR, outcome=False)
    log.seal()
    return made


def run(recorded, sql, folder, **more):
    rows = []

    def take(answered):
        rows.extend(dict(zip(answered.columns, row, strict=True)) for row in answered.rows)

    query(recorded.store, sql, folder / "cache", take, lambda _: None, **more)
    return rows


def test_leaves_are_all_there_typed_and_provable(recorded, tmp_path):
    rows = run(recorded, "SELECT * FROM leaves ORDER BY recorded_at, sequence", tmp_path)
    assert [one["kind"] for one in rows] == [
        "log.open", "inference.intent", "inference.outcome", "inference.intent", "inference.outcome",
        "inference.outcome", "inference.intent",
    ]  # fmt: skip
    keys = {key: body for key, body, _ in recorded.store.puts}
    for row in rows:
        told = json.loads(row["leaf"])
        assert (told["origin"], told["sequence"], told["kind"]) == (row["origin"], row["sequence"], row["kind"])
        assert row["object"] in keys
    one = rows[1]
    assert one["recorded_at"] == NOON
    assert one["subject_ref"] == recorded.keyring.subject_reference(ADA)
    assert (one["connection"], one["model"], one["allow"], one["is_stream"]) == ("models", "gpt-4o", True, False)
    assert json.loads(one["findings"]) == {"EMAIL": 1}
    assert one["reasons"] == []
    assert rows[2]["finish_reasons"] == ["stop"]
    assert rows[2]["input_tokens"] == 9


def test_the_leaf_is_the_bytes_that_the_tree_holds(recorded, tmp_path):
    rows = run(recorded, "SELECT leaf, sha256('\\x00'::BLOB || encode(leaf)) AS h FROM leaves", tmp_path)
    assert rows
    assert all(one["h"] == hash_leaf(one["leaf"].encode()).hex() for one in rows)


def test_exchanges_are_one_row_each(recorded, tmp_path):
    rows = run(recorded, "SELECT * FROM exchanges ORDER BY exchange_id", tmp_path)
    assert [(one["exchange_id"], one["outcome"], one["allow"]) for one in rows] == [
        ("four", "in flight", True),
        ("one", "completed", True),
        ("three", "refused", False),
        ("two", "error", True),
    ]
    assert rows[2]["reasons"] == ["not_in_group"]
    assert (rows[1]["intent_sequence"], rows[1]["outcome_sequence"]) == (1, 2)
    assert rows[1]["ended_at"] == NOON + timedelta(seconds=1)
    grouped = run(recorded, "SELECT outcome, count(*) AS n FROM exchanges GROUP BY ALL ORDER BY ALL", tmp_path)
    assert [tuple(one.values()) for one in grouped] == [
        ("completed", 1),
        ("error", 1),
        ("in flight", 1),
        ("refused", 1),
    ]


def test_tool_calls_are_one_row_each_with_the_exchange_that_brought_the_result(recorded, tmp_path):
    log = recorded.log("gw-0-1")
    log.tool_call("five", NOON, "call_1")
    log.tool_call("five", NOON, "call_2", "search")
    log.exchange("six", NOON + HOUR, results=["call_1", "call_9"])
    log.exchange("seven", NOON + 2 * HOUR, results=["call_1"])
    log.seal()
    rows = run(recorded, "SELECT * FROM tool_calls ORDER BY name", tmp_path)
    assert [(one["exchange_id"], one["name"], one["result_exchange_id"]) for one in rows] == [
        ("five", "search", None),
        ("five", "send_mail", "six"),
    ]
    assert rows[1]["result_at"] == NOON + HOUR
    assert rows[1]["call_ref"] == recorded.keyring.reference("tool-call", "call_1")


def test_time_bounds_prune_objects_and_rows(recorded, tmp_path):
    rows = run(recorded, "SELECT exchange_id FROM exchanges", tmp_path, since=NOON + HOUR / 4, until=NOON + HOUR)
    assert [one["exchange_id"] for one in rows] == ["two"]
    assert sum(key.startswith("v1/events/") for key in recorded.store.downloads) == 1


def test_objects_are_fetched_once_and_checked_each_time(recorded, tmp_path):
    run(recorded, "SELECT 1", tmp_path)
    fetched = len(recorded.store.downloads)
    run(recorded, "SELECT 1", tmp_path)
    assert len(recorded.store.downloads) == fetched
    path = next((tmp_path / "cache").rglob("*.zst"))
    path.write_bytes(b"changed")
    assert len(run(recorded, "SELECT * FROM leaves", tmp_path)) == 7
    assert len(recorded.store.downloads) == fetched + 1
    number = next(n for n, (key, _, _) in enumerate(recorded.store.puts) if key.startswith("v1/events/"))
    key, body, at = recorded.store.puts[number]
    recorded.store.puts[number] = (key, body + b"x", at)
    (tmp_path / "cache" / key).unlink()
    with pytest.raises(EvidenceError, match="not what its key says"):
        run(recorded, "SELECT 1", tmp_path)
    assert not list((tmp_path / "cache").rglob("*.new"))


@pytest.mark.parametrize(
    "sql",
    [
        "COPY leaves TO '{dir}/out.csv'",
        "ATTACH '{dir}/other.db'",
        "INSTALL httpfs",
        "LOAD httpfs",
        "SET memory_limit = '90GB'",
        "PRAGMA database_list",
        "DELETE FROM leaves",
        "INSERT INTO leaves SELECT * FROM leaves",
        "DROP TABLE leaves",
        "CREATE TABLE x AS SELECT 1",
        "SELECT 1; DROP TABLE leaves",
        "EXPORT DATABASE '{dir}/x'",
        "SELECT * FROM read_text('/etc/passwd')",
        "SELECT * FROM '/etc/passwd'",
        "SELECT * FROM glob('/etc/*')",
        "SELECT * FROM read_csv('http://127.0.0.1:9/x')",
        "WITH x AS (SELECT * FROM read_blob('/etc/passwd')) SELECT * FROM x",
        "SELECT nonsense",
        "SELEC 1",
        "",
    ],
)
def test_sql_only_reads_the_tables(recorded, tmp_path, sql):
    with pytest.raises(EvidenceError, match="query"):
        run(recorded, sql.format(dir=tmp_path), tmp_path)
    assert {one.name for one in tmp_path.iterdir()} <= {"cache", "kek", "pepper", "registry.sqlite"} | {
        one.name for one in tmp_path.glob("registry.sqlite*")
    }
    assert not list((tmp_path / "cache").glob("query-*"))


def test_memory_is_limited_and_the_rest_spills(recorded, tmp_path):
    sql = "SELECT count(*) AS n FROM (SELECT DISTINCT a.i * 1000 + b.i AS v FROM range(2000) a(i), range(1000) b(i))"
    assert run(recorded, sql, tmp_path, memory_limit="200MB") == [{"n": 2_000_000}]
    with pytest.raises(EvidenceError, match=r"(?i)memory"):
        run(recorded, "SELECT list(i) FROM range(200000000) t(i)", tmp_path, memory_limit="50MB")


def test_rows_for_machines_and_for_tables():
    from ext_proc.evidence.query import Answered

    at = datetime(2026, 11, 25, 12, tzinfo=UTC)
    row = (at, None, ["a"], {"b": at}, 1.5, b"\1", 2**70)
    answered = Answered(("at", "none", "list", "map", "float", "bytes", "big"), iter([row]))
    told = json.loads(json_line(answered, row))
    assert told == {
        "at": "2026-11-25T12:00:00.000000Z", "none": None, "list": ["a"], "map": {"b": "2026-11-25T12:00:00.000000Z"},
        "float": 1.5, "bytes": "01", "big": 2**70,
    }  # fmt: skip
    assert [cell(one) for one in row[:4]] == [
        "2026-11-25T12:00:00.000000Z", "", '["a"]', '{"b": "2026-11-25T12:00:00.000000Z"}',
    ]  # fmt: skip


def test_output_that_cannot_be_written_is_no_fault_of_the_cache(recorded, tmp_path):
    def full(answered):
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        query(recorded.store, "SELECT 1", tmp_path / "cache", full, lambda _: None)
