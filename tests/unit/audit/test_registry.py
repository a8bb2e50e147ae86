"""What of the registry needs no server: its URL, its files, tables that are not ours. The rest: the contract suite."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import text

from ext_proc import database
from ext_proc.audit.registry import SubjectKey
from ext_proc.audit.registry_sql import SqlRegistry
from ext_proc.errors import AuditUnavailable, ConfigError

if TYPE_CHECKING:
    from pathlib import Path


def test_the_sqlite_files_are_the_owners_only(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "registry.sqlite"
    registry = SqlRegistry.from_url(database.sqlite_url(path))
    registry.add("a", 1, b"x")
    modes = {file.name: file.stat().st_mode & 0o777 for file in path.parent.iterdir()}
    assert set(modes) >= {"registry.sqlite", "registry.sqlite-wal"} and set(modes.values()) == {0o600}
    registry.close()


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("not a url", "not a database URL"),
        ("nosuch://x/y", "not supported"),
        ("mysql://x/y", "not supported"),
        ("sqlite://", "name a file"),
        ("sqlite:///:memory:", "name a file"),
        ("sqlite:////tmp/x.sqlite?mode=memory", "name a file"),
        ("sqlite:////dev/null/x/registry.sqlite", "registry /dev/null/x"),
        ("postgresql://me:secret@host/db", "no password in the URL"),
    ],
)
def test_urls_that_are_none(url: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words) as caught:
        SqlRegistry.from_url(url)
    assert "secret" not in caught.value.detail


def test_tables_of_another_version(tmp_path: Path) -> None:
    url = database.sqlite_url(tmp_path / "registry.sqlite")
    engine = database.open_engine(url)
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE subject_keys (subject_ref TEXT PRIMARY KEY, wrapped BLOB NOT NULL)"))
    engine.dispose()
    with pytest.raises(ConfigError, match="another version"):
        SqlRegistry.from_url(url)


def test_not_a_database(tmp_path: Path) -> None:
    (tmp_path / "registry.sqlite").write_bytes(b"something else" * 100)
    with pytest.raises(AuditUnavailable, match="key_registry"):
        SqlRegistry.from_url(database.sqlite_url(tmp_path / "registry.sqlite"))


def test_a_counter_that_is_gone_is_no_zero(tmp_path: Path) -> None:
    """Somebody emptied the table: whether keys were destroyed cannot be told any more."""
    registry = SqlRegistry.from_url(database.sqlite_url(tmp_path / "registry.sqlite"))
    assert registry.erasure_count() == 0
    with registry._tables.engine.begin() as connection:
        connection.execute(text("DELETE FROM counters"))
    with pytest.raises(AuditUnavailable, match="counter"):
        registry.erasure_count()
    registry.close()


def test_without_the_driver(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(ConfigError, match="pip install"):
        database.open_engine("postgresql://me@host/db")


def test_a_key_that_somebody_blanked_has_no_tombstone(tmp_path: Path) -> None:
    registry = SqlRegistry.from_url(database.sqlite_url(tmp_path / "registry.sqlite"))
    registry.add("a", 1, b"wrapped")
    with registry._tables.engine.begin() as connection:
        connection.execute(text("UPDATE subject_keys SET wrapped = NULL"))
    assert registry.newest("a") == SubjectKey(1, None)
    assert registry.unfinished("a") == ()
    registry.close()
