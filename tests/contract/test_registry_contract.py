"""One suite for `audit.registry.Registry`: the fake, SQLite, and a real PostgreSQL."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import text

from ext_proc import database
from ext_proc.audit.key_files import create_key_files
from ext_proc.audit.keys import KeyRing
from ext_proc.audit.registry import LegalHold, Place, SubjectKey, Tombstone
from ext_proc.audit.registry_sql import SqlRegistry
from ext_proc.errors import AuditUnavailable, ConfigError
from ext_proc.model import Payload, Receipt
from tests.fakes.registry import FakeRegistry

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ext_proc.audit.registry import Registry
    from tests.contract.databases import Database
    from tests.contract.postgres import Postgres

ROOT = Path(__file__).resolve().parents[2]
NOW = datetime(2026, 11, 25, 12, tzinfo=UTC)
REQUESTED = Receipt("gw/command/1", 4, "00" * 32)
COMPLETED = Receipt("gw/command/1", 5, "00" * 32)


@dataclass
class Setting:
    registry: Registry
    database: Database | None = None

    def break_(self) -> None:
        if isinstance(self.registry, FakeRegistry):
            self.registry.is_down = True
        elif self.database is not None:
            self.database.break_()

    def mend(self) -> None:
        if isinstance(self.registry, FakeRegistry):
            self.registry.is_down = False
        elif self.database is not None:
            self.database.mend()


@pytest.fixture(params=["fake", "sqlite", "postgresql"])
def here(request: Any, open_database: Callable[[str], Database]) -> Iterator[Setting]:
    if request.param == "fake":
        yield Setting(FakeRegistry())
        return
    found = open_database(request.param)
    registry = SqlRegistry.from_url(found.url)
    yield Setting(registry, found)
    registry.close()


def test_the_first_key_of_a_generation_wins(here: Setting) -> None:
    registry = here.registry
    assert registry.newest("a") is None and registry.key("a", 1) is None
    registry.add("a", 1, b"first")
    registry.add("a", 1, b"second")
    registry.add("b", 1, b"other")
    assert registry.newest("a") == registry.key("a", 1) == SubjectKey(1, b"first")
    assert registry.key("a", 2) is None


def test_a_destroyed_key_stays_destroyed(here: Setting) -> None:
    registry = here.registry
    registry.add("a", 1, b"wrapped")
    registry.add("b", 1, b"other")
    before = registry.erasure_count()
    assert registry.destroy("a", REQUESTED, NOW) == (1,)
    assert registry.erasure_count() > before
    tombstone = Tombstone(Place(REQUESTED.origin, 4), None)
    assert registry.newest("a") == SubjectKey(1, None, tombstone)
    registry.add("a", 1, b"again")
    assert registry.key("a", 1) == SubjectKey(1, None, tombstone)
    assert registry.key("b", 1) == SubjectKey(1, b"other")
    registry.scrub()
    registry.scrub()
    assert registry.key("b", 1) == SubjectKey(1, b"other")


def test_the_erasure_is_finished_and_the_next_generation_begins(here: Setting) -> None:
    registry = here.registry
    registry.add("a", 1, b"one")
    registry.destroy("a", REQUESTED, NOW)
    registry.add("a", 2, b"two")
    assert registry.newest("a") == SubjectKey(2, b"two")
    assert registry.unfinished("a") == (1,) and registry.unfinished("b") == ()
    registry.finish("a", (1, 2), COMPLETED)
    assert registry.unfinished("a") == ()
    assert registry.key("a", 1) == SubjectKey(
        1, None, Tombstone(Place(REQUESTED.origin, 4), Place(COMPLETED.origin, 5))
    )
    assert registry.key("a", 2) == SubjectKey(2, b"two")  # only destroyed ones are finished
    assert registry.destroy("a", REQUESTED, NOW) == (2,)
    count = registry.erasure_count()
    assert registry.destroy("a", REQUESTED, NOW) == () and registry.destroy("nobody", REQUESTED, NOW) == ()
    assert registry.erasure_count() == count


def test_a_hold_in_force_forbids(here: Setting) -> None:
    registry = here.registry
    registry.add("a", 1, b"wrapped")
    registry.add("b", 1, b"wrapped")
    ended, forever = LegalHold("a", "case-0", NOW), LegalHold("a", "case-1", None)
    bounded = LegalHold("a", "case-2", NOW + timedelta(days=30))
    for hold in (ended, forever, bounded):
        registry.hold(hold)
    assert registry.holds("a", NOW) == (forever, bounded) and registry.holds("b", NOW) == ()
    assert registry.holds(None, NOW) == (forever, bounded)
    assert registry.destroy("a", REQUESTED, NOW) == forever
    assert registry.key("a", 1) == SubjectKey(1, b"wrapped")
    assert registry.destroy("b", REQUESTED, NOW) == (1,)
    assert registry.release("a", "case-1") and not registry.release("a", "case-1")
    assert registry.destroy("a", REQUESTED, NOW) == bounded
    registry.hold(LegalHold("a", "case-2", NOW + timedelta(days=1)))
    assert registry.holds("a", NOW + timedelta(days=2)) == ()
    assert registry.destroy("a", REQUESTED, NOW + timedelta(days=2)) == (1,)


def test_out_of_reach_and_back(here: Setting) -> None:
    registry = here.registry
    registry.add("a", 1, b"wrapped")
    here.break_()
    try:
        asks: tuple[Any, ...] = (
            lambda: registry.newest("a"),
            lambda: registry.add("a", 1, b"x"),
            registry.erasure_count,
            lambda: registry.destroy("a", REQUESTED, NOW),
        )
        for ask in asks:
            with pytest.raises(AuditUnavailable, match="key_registry"):
                ask()
    finally:
        here.mend()
    assert registry.newest("a") == SubjectKey(1, b"wrapped")


@pytest.mark.parametrize("here", ["sqlite", "postgresql"], indirect=True)
def test_many_threads_make_and_destroy(here: Setting) -> None:
    """No generation ever has two keys, and a destroyed one never comes back."""
    registry = here.registry
    seen: dict[int, set[bytes]] = {}

    def live(name: int) -> list[tuple[int, bytes]]:
        found = []
        for step in range(20):
            newest = registry.newest("a")
            if newest is None or newest.wrapped is None:
                registry.add("a", newest.generation + 1 if newest else 1, f"{name} {step}".encode())
                newest = registry.newest("a")
            if newest is not None and newest.wrapped is not None:
                found.append((newest.generation, newest.wrapped))
            if name == 0:
                registry.destroy("a", REQUESTED, NOW)
        return found

    with ThreadPoolExecutor(4) as pool:
        for found in pool.map(live, range(4)):
            for generation, wrapped in found:
                seen.setdefault(generation, set()).add(wrapped)
    assert len(seen) > 1
    assert all(len(keys) == 1 for keys in seen.values())


@pytest.mark.parametrize("here", ["sqlite", "postgresql"], indirect=True)
def test_a_hold_that_is_being_placed_is_waited_for(here: Setting) -> None:
    registry = here.registry
    assert isinstance(registry, SqlRegistry)
    registry.add("a", 1, b"wrapped")
    hold = LegalHold("a", "case-1", None)
    with ThreadPoolExecutor(1) as pool:
        with registry._tables.writing() as connection:
            connection.execute(text("INSERT INTO legal_holds (subject_ref, name) VALUES ('a', 'case-1')"))
            destroyed = pool.submit(registry.destroy, "a", REQUESTED, NOW)
            wait([destroyed], timeout=0.5)  # it cannot end before the hold is there
        assert destroyed.result(30) == hold
    assert registry.key("a", 1) == SubjectKey(1, b"wrapped")


# Processes ---------------------------------------------------------------------------------------------------------

RACER = """
import sys
from pathlib import Path
from ext_proc.audit.keys import KeyRing
from ext_proc.model import Payload
ring = KeyRing.from_url(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3])
print("ready", flush=True)
sys.stdin.readline()
told, sealed = ring.encrypt(sys.argv[4], [Payload("request.raw", b"hello", "text/plain")], "bound")
print(told[0]["key"], told[0]["wrapped_data_key"], sealed[0].hex(), told[0]["ciphertext_sha256"])
"""


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_processes_that_race_get_the_winners_key(
    kind: str, open_database: Callable[[str], Database], tmp_path: Path
) -> None:
    """Each opens the registry (none has tables yet) and makes the subject's key at once; one can read all."""
    url = open_database(kind).url
    keys = create_key_files(tmp_path, "kek", "pepper")
    command = [sys.executable, "-c", RACER, *map(str, keys), url, "hmac-sha256:" + "ab" * 32]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    racers = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=env, cwd=ROOT)
        for _ in range(5)
    ]
    try:
        for racer in racers:
            assert racer.stdout is not None and racer.stdout.readline() == "ready\n"
        for racer in racers:
            assert racer.stdin is not None
            racer.stdin.write("go\n")
            racer.stdin.flush()
        said = [racer.communicate(timeout=60)[0].split() for racer in racers]
    finally:
        for racer in racers:
            racer.kill()
            racer.wait()
    ring = KeyRing.from_url(*keys, url)
    assert Counter(one[0].rpartition("#")[2] for one in said) == {"1": 5}
    for label, wrapped, ciphertext, digest in said:
        told = {"key": label, "wrapped_data_key": wrapped, "ciphertext_sha256": digest, "role": "request.raw"}
        assert ring.decrypt(told, bytes.fromhex(ciphertext), "bound") == b"hello"


# What is left on the disk -------------------------------------------------------------------------------------------


def _missing(folder: Path, needles: list[bytes]) -> set[int]:
    """Numbers of the needles that no file holds."""
    everything = b"\n".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())
    return {number for number, needle in enumerate(needles) if needle not in everything}


def _fill(registry: SqlRegistry, count: int = 400) -> list[bytes]:
    """Rows in an order that makes pages split and rows move."""
    kept = [os.urandom(60) for _ in range(count)]
    for number in sorted(range(count), key=lambda n: n * 7919 % count):
        registry.add(f"subject-{number:04}", 1, kept[number])
    return kept


def test_sqlite_keeps_no_destroyed_key(tmp_path: Path) -> None:
    url = database.sqlite_url(tmp_path / "registry.sqlite")
    registry, other = SqlRegistry.from_url(url), SqlRegistry.from_url(url)  # other: a worker, still open
    kept = _fill(registry)
    other.newest("subject-0000")
    assert _missing(tmp_path, kept) == set()
    for number in range(0, 400, 2):
        registry.destroy(f"subject-{number:04}", REQUESTED, NOW)
    registry.scrub()
    assert _missing(tmp_path, kept) == set(range(0, 400, 2))
    assert other.key("subject-0001", 1) == SubjectKey(1, kept[1])
    registry.close()
    other.close()


def test_sqlite_overwrites_what_is_destroyed(tmp_path: Path) -> None:
    """Even if the process dies before it scrubs."""
    registry = SqlRegistry.from_url(database.sqlite_url(tmp_path / "registry.sqlite"))
    kept = _fill(registry, 100)
    for number in range(0, 100, 2):
        registry.destroy(f"subject-{number:04}", REQUESTED, NOW)
    registry.close()  # the last one out takes the write-ahead log in
    assert _missing(tmp_path, kept) == set(range(0, 100, 2))


def test_sqlite_is_scrubbed_of_what_other_programs_left(tmp_path: Path) -> None:
    path = tmp_path / "registry.sqlite"
    registry = SqlRegistry.from_url(database.sqlite_url(path))
    kept = _fill(registry, 100)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA secure_delete=OFF")
        connection.execute("DELETE FROM subject_keys WHERE subject_ref < 'subject-0050'")
        connection.commit()
    registry.scrub()
    assert _missing(tmp_path, kept) == set(range(50))
    registry.close()


def test_sqlite_says_when_a_reader_keeps_the_old_pages(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(database, "BUSY_SECONDS", 0.1)
    url = database.sqlite_url(tmp_path / "registry.sqlite")
    registry = SqlRegistry.from_url(url)
    registry.add("a", 1, b"x" * 60)
    reader = database.open_engine(url)
    with reader.connect() as connection:
        connection.execute(text("SELECT count(*) FROM subject_keys"))
        registry.destroy("a", REQUESTED, NOW)
        with pytest.raises(AuditUnavailable, match="key_registry"):
            registry.scrub()
    registry.scrub()
    assert _missing(tmp_path, [b"x" * 60]) == {0}
    reader.dispose()
    registry.close()


def test_postgresql_keeps_no_destroyed_key_in_its_tables(
    postgres: Postgres, open_database: Callable[[str], Database]
) -> None:
    """Its write-ahead log does keep it for a while: that is a documented limit."""
    open_database("postgresql")
    registry = SqlRegistry.from_url(postgres.url)
    kept = _fill(registry, 100)
    _checkpoint(postgres.url)
    tables = postgres.data / "base"
    assert _missing(tables, kept) == set()
    for number in range(0, 100, 2):
        registry.destroy(f"subject-{number:04}", REQUESTED, NOW)
    registry.scrub()
    _checkpoint(postgres.url)
    assert _missing(tables, kept) == set(range(0, 100, 2))
    registry.close()


def _checkpoint(url: str) -> None:
    engine = database.open_engine(url)
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("CHECKPOINT"))
    engine.dispose()


def test_a_password_comes_from_its_file(tmp_path: Path, postgres: Postgres) -> None:
    password = tmp_path / "password"
    with pytest.raises(ConfigError, match="password file"):
        SqlRegistry.from_url(postgres.url, password)
    password.write_text("secret\n")
    engine = database.open_engine(postgres.url, password)
    assert engine.url.password == "secret" and "secret" not in str(engine.url)
    SqlRegistry(engine).close()  # the server trusts its socket: any password will do


def test_a_payload_from_end_to_end(here: Setting, tmp_path: Path) -> None:
    ring = KeyRing(b"k" * 32, b"p" * 32, here.registry)
    told, sealed = ring.encrypt("hmac-sha256:aa", [Payload("request.raw", b"hello", "text/plain")], "bound")
    assert ring.decrypt(told[0], sealed[0], "bound") == b"hello"


# From a file to a database ----------------------------------------------------------------------------------------------


@pytest.fixture(params=["sqlite", "postgresql"])
def two(
    request: Any, open_database: Callable[[str], Database], tmp_path: Path
) -> Iterator[tuple[SqlRegistry, SqlRegistry]]:
    """The registry of a gateway that had one replica, and the database that several are to share."""
    old = SqlRegistry.from_url(database.sqlite_url(tmp_path / "old.sqlite"))
    new = SqlRegistry.from_url(open_database(request.param).url)
    yield old, new
    old.close()
    new.close()


def test_keys_and_holds_are_taken_over(two: tuple[SqlRegistry, SqlRegistry]) -> None:
    old, new = two
    old.add("ada", 0, b"of ada")
    old.add("bob", 0, b"of bob")
    old.hold(LegalHold("ada", "case-1", None))
    assert new.take_over(old) == 2
    assert new.key("ada", 0) == old.key("ada", 0)
    assert new.holds(None, NOW) == old.holds(None, NOW) != ()
    assert new.take_over(old) == 0, "what is there already is not another"


def test_who_was_erased_here_stays_so(two: tuple[SqlRegistry, SqlRegistry]) -> None:
    old, new = two
    old.add("ada", 0, b"of ada")
    new.add("ada", 0, b"of ada")
    new.destroy("ada", Receipt("log", 1, ""), NOW)
    assert new.take_over(old) == 0
    found = new.key("ada", 0)
    assert found is not None and found.wrapped is None


def test_other_keys_of_the_same_people_are_no_mistake_to_make_good(two: tuple[SqlRegistry, SqlRegistry]) -> None:
    old, new = two
    old.add("bob", 0, b"of bob")
    old.add("ada", 0, b"of ada")
    new.add("ada", 0, b"another of ada")
    with pytest.raises(ConfigError, match="other keys of the same people"):
        new.take_over(old)
    assert new.key("bob", 0) is None, "all of it, or nothing"


def test_a_server_that_answers_before_it_is_durable_is_asked_to_wait(open_database: Callable[[str], Database]) -> None:
    """By its default it loses the last keys when it dies, and what they sealed with them."""
    found = open_database("postgresql")
    found.execute("ALTER DATABASE postgres SET synchronous_commit = off")
    try:
        with closing(SqlRegistry.from_url(found.url)) as registry, registry._tables.writing() as connection:
            assert connection.exec_driver_sql("SHOW synchronous_commit").scalar_one() == "on"
    finally:
        found.execute("ALTER DATABASE postgres RESET synchronous_commit")
