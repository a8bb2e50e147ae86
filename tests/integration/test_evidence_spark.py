"""``docs/querying.md`` is run as it stands: its DuckDB with DuckDB, its Spark with Spark.

Spark is large and lives in an environment of its own: ``.tools/spark``, or where AFFIDAVIT_SPARK_PYTHON says.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
from datetime import timedelta
from pathlib import Path
from typing import Any

import duckdb
import pytest

from ext_proc.audit.merkle import hash_leaf
from ext_proc.evidence.directory import ExportedVersions
from ext_proc.evidence.export import export
from ext_proc.evidence.query import query
from tests.fakes.recorded import NOON, Recorded

ROOT = Path(__file__).parents[2]
PYTHON = Path(os.environ.get("AFFIDAVIT_SPARK_PYTHON", ROOT / ".tools" / "spark" / "bin" / "python"))
HOUR = timedelta(hours=1)
_RUN = """
import json, sys
from pyspark.sql import SparkSession
statements, folder = json.load(sys.stdin), sys.argv[1]
settings = {
    "spark.ui.enabled": "false", "spark.driver.host": "127.0.0.1", "spark.driver.bindAddress": "127.0.0.1",
    "spark.driver.memory": "512m", "spark.sql.shuffle.partitions": "1", "spark.sql.session.timeZone": "UTC",
    "spark.sql.warehouse.dir": folder + "/warehouse",
}
builder = SparkSession.builder.master("local[1]")
for name, value in settings.items():
    builder = builder.config(name, value)
spark = builder.getOrCreate()
answers = [[row.asDict() for row in spark.sql(one).collect()] for one in statements]
spark.stop()
print("ANSWERS " + json.dumps(answers, default=str))
"""


def statements(kind: str) -> dict[str, str]:
    """The page's statements for an engine, by what they are for."""
    page = (ROOT / "docs" / "querying.md").read_text()
    found = re.findall(rf"```sql\n-- {kind}: (.*)\n((?:.|\n)*?);?\n```", page)
    assert found, kind
    return {name: sql.rstrip().rstrip(";") for name, sql in found}


@pytest.fixture(scope="module")
def recorded(tmp_path_factory) -> Recorded:
    made = Recorded.at(tmp_path_factory.mktemp("recorded"))
    log, other = made.log(), made.log("gw-0-1", salt="bbbbbbbb")
    for hours in range(3):
        log.exchange(f"a{hours}", NOON + hours * HOUR)
        other.exchange(f"b{hours}", NOON + hours * HOUR, status="error")
        log.seal()
        other.seal()
    log.refused("refused \u2028 \u00e9", NOON + 3 * HOUR)
    log.seal()
    return made


@pytest.fixture(scope="module")
def copy(recorded, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("copy") / "copy"
    export(recorded.store, folder, lambda _: None)
    return folder


def leaf_hashes(recorded) -> set[tuple[str, int, str]]:
    found = set()
    for key, body, _ in recorded.store.puts:
        if key.startswith("v1/events/"):
            for line in lines_of(body):
                told = json.loads(line)
                found.add((told["origin"], told["sequence"], hash_leaf(line).hex()))
    return found


def lines_of(body: bytes) -> list[bytes]:
    import zstandard

    return zstandard.ZstdDecompressor().decompressobj().decompress(body).split(b"\n")[:-1]


def test_the_pages_own_questions(recorded, copy, tmp_path):
    answers: dict[str, list[tuple[Any, ...]]] = {}
    for name, sql in statements("duckdb").items():
        query(
            ExportedVersions(copy),
            sql,
            tmp_path / "cache",
            lambda answered, name=name: answers.update({name: list(answered.rows)}),
            lambda _: None,
        )
    assert [row[3] for row in answers["who was refused, and why"]] == [["not_in_group"]]
    assert answers["which personal data was masked, by connection"] == [("models", "EMAIL", "mask", 6)]
    (bundle, *_) = answers["decisions under each policy bundle, with the first leaf of each to prove"]
    assert bundle[:3] == ("b" * 64, 6, NOON)
    assert set(answers["the leaf hash of each row, as receipts have it"]) == leaf_hashes(recorded)


def test_duckdb_by_itself(copy):
    (sql,) = statements("duckdb alone").values()
    found = duckdb.sql(sql.replace("{events}", str(copy / "objects/v1/events"))).fetchall()
    assert found == [("completed", 3), ("error", 3), ("refused", 1)]


@pytest.mark.timeout(280)
def test_spark(recorded, copy, tmp_path):
    if not PYTHON.exists():
        # Half a gigabyte for one test: not part of the set-up, in CI neither.
        pytest.skip(f"no Spark at {PYTHON}: pip install pyspark==4.3.0 into an environment there (Java 17)")
    named = statements("spark")
    asked = [sql.replace("{events}", (copy / "objects/v1/events").as_uri()) for sql in named.values()]
    done = subprocess.run(
        [PYTHON, "-c", _RUN, tmp_path],
        input=json.dumps(asked),
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
        cwd=tmp_path,
    )
    said = [line for line in done.stdout.splitlines() if line.startswith("ANSWERS ")]
    assert done.returncode == 0, done.stderr[-3000:]
    answers = dict(zip(named, json.loads(said[0].removeprefix("ANSWERS ")), strict=True))
    assert answers["a question, pruned by partition"] == [
        {"outcome": "completed", "calls": 3, "tokens": 9},
        {"outcome": "error", "calls": 3, "tokens": 9},
        {"outcome": "refused", "calls": 1, "tokens": None},
    ]
    rows = {tuple(row.values()) for row in answers["the leaf hash of each row, as receipts have it"]}
    assert rows == leaf_hashes(recorded), "Spark hands out the very bytes that the tree hashes"
