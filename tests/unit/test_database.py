"""Turns in SQLite. What real databases say to the rest: the contract suites of those who keep tables there."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import Column, Integer, MetaData, Table, func, insert, select

from ext_proc import database
from ext_proc.errors import ApprovalUnavailable

if TYPE_CHECKING:
    from collections.abc import Iterator

METADATA = MetaData()
NUMBERS = Table("numbers", METADATA, Column("number", Integer))


@pytest.fixture
def tables(tmp_path: Path) -> Iterator[database.Tables]:
    engine = database.open_engine(database.sqlite_url(tmp_path / "some.sqlite"))
    found = database.Tables(engine, METADATA, 1, "some_tables", ApprovalUnavailable)
    found.set_up()
    yield found
    found.close()


def add(tables: database.Tables, number: int = 1) -> None:
    with tables.writing() as connection:
        connection.execute(insert(NUMBERS).values(number=number))


def count(tables: database.Tables) -> int:
    with tables.reading() as connection:
        return connection.execute(select(func.count()).select_from(NUMBERS)).scalar_one()


class Odd(Exception):
    pass


def fail(tables: database.Tables) -> None:
    with tables.writing() as connection:
        connection.execute(insert(NUMBERS).values(number=1))
        raise Odd


def test_another_processs_turn_is_waited_for(tables: database.Tables, tmp_path: Path) -> None:
    """And only then a transaction begins."""
    with closing(sqlite3.connect(tmp_path / "some.sqlite", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with ThreadPoolExecutor(1) as pool:
            failed, added = pool.submit(fail, tables), pool.submit(add, tables)
            assert not wait([failed, added], timeout=0.3).done
            other.execute("COMMIT")
            added.result(60)
    assert isinstance(failed.exception(), Odd)
    assert count(tables) == 1


def test_who_waits_too_long_says_so_and_blocks_nobody(
    tables: database.Tables, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with closing(sqlite3.connect(tmp_path / "some.sqlite", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        monkeypatch.setattr(database, "BUSY_SECONDS", 0.05)
        for _ in range(2):
            with pytest.raises(ApprovalUnavailable, match="some_tables"):
                add(tables)
        other.execute("COMMIT")
    add(tables)
    assert count(tables) == 1


def test_threads_of_several_engines_take_turns(tables: database.Tables, tmp_path: Path) -> None:
    engine = database.open_engine(database.sqlite_url(tmp_path / "some.sqlite"))
    others = database.Tables(engine, METADATA, 1, "others", ApprovalUnavailable)
    assert others._turn is tables._turn
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: add((tables, others)[number % 2], number), range(80)))
    assert count(others) == 80
    others.close()


def test_who_never_gets_a_turn_says_so(tables: database.Tables, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "_TURN_SECONDS", 0.05)
    with tables.writing(), ThreadPoolExecutor(1) as pool, pytest.raises(ApprovalUnavailable, match="too many wait"):
        pool.submit(add, tables).result(60)
    add(tables)


def test_what_is_left_by_an_error_has_not_happened(tables: database.Tables) -> None:
    with pytest.raises(Odd):
        fail(tables)
    assert count(tables) == 0
    add(tables)
    assert count(tables) == 1


COMES_AND_GOES = """
import sys
from ext_proc import database
engine = database.open_engine(sys.argv[1])
with engine.begin() as connection:
    connection.exec_driver_sql("INSERT INTO t VALUES (2)")
engine.dispose()
"""


def test_opening_again_does_not_end_our_own_locks(tmp_path: Path) -> None:
    """SQLite's locks are the process's: closing any descriptor of the file would end them, and the next process that
    leaves would take itself for the last one, and remove the log under the others."""
    url = database.sqlite_url(tmp_path / "registry.sqlite")
    engine = database.open_engine(url)
    with engine.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE t (x)")
        connection.exec_driver_sql("INSERT INTO t VALUES (1)")
    with engine.connect() as held:
        held.exec_driver_sql("SELECT x FROM t").fetchall()
        others = [database.open_engine(url) for _ in range(3)]
        subprocess.run([sys.executable, "-c", COMES_AND_GOES, url], check=True, cwd=Path(__file__).parents[2])
        assert (tmp_path / "registry.sqlite-wal").exists(), "removed under a process that lives"
    with engine.begin() as connection:
        connection.exec_driver_sql("INSERT INTO t VALUES (3)")
    with others[0].connect() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM t").scalar() == 3
        assert connection.exec_driver_sql("PRAGMA integrity_check").scalar() == "ok"
