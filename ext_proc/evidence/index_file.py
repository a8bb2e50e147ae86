"""The index's file: SQLite, one writer, any number of readers, also of other processes. It can be thrown away.

Why SQLite: it needs nothing beside Python, several consoles can read what one of them builds, and one index over all
that can be filtered by (``by_at``) is read as fast as columns are (`docs/decisions`). What is in the file is what the
leaves hold: references, codes, counts and times; no payload, and nothing of a person in clear.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Final

from ext_proc.evidence.versions import EvidenceError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

VERSION: Final = 2
"""Of the tables below: a file of another is built anew."""
_FILE: Final = "index.sqlite"
_LOCK: Final = "index.lock"
_DAMAGED: Final = "index.damaged"
_SIDES: Final = ("", "-wal", "-shm")
_WAIT_SECONDS: Final = 10.0
_CACHE_KIB: Final = 64 * 1024
_READER_CACHE_KIB: Final = 16 * 1024
_TABLES: Final = """
PRAGMA page_size = 8192;
PRAGMA journal_mode = WAL;
BEGIN;
CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT) WITHOUT ROWID;
CREATE TABLE logs (
    number INTEGER PRIMARY KEY, replica TEXT, epoch TEXT, size INTEGER, last_first INTEGER, newest_at INTEGER,
    ended TEXT, UNIQUE (replica, epoch)
);
CREATE TABLE objects (number INTEGER PRIMARY KEY, key TEXT UNIQUE, log INTEGER, first INTEGER, fault TEXT);
CREATE TABLE words (number INTEGER PRIMARY KEY, word TEXT UNIQUE);
CREATE TABLE mask_entities (entity TEXT, mask INTEGER, PRIMARY KEY (entity, mask)) WITHOUT ROWID;
CREATE TABLE exchanges (
    number INTEGER PRIMARY KEY, id TEXT, at INTEGER, subject INTEGER, tenant INTEGER, connection INTEGER,
    operation INTEGER, model INTEGER, decision INTEGER, outcome INTEGER, http_status INTEGER, code INTEGER,
    masked_in INTEGER, masked_out INTEGER, gate_step INTEGER, hold TEXT, told_at INTEGER
);
CREATE UNIQUE INDEX by_id ON exchanges (id);
CREATE INDEX by_at ON exchanges (
    at, tenant, subject, connection, model, decision, outcome, code, masked_in, masked_out, gate_step
);
CREATE INDEX by_hold ON exchanges (hold) WHERE hold IS NOT NULL;
CREATE TABLE places (exchange INTEGER, object INTEGER, PRIMARY KEY (exchange, object)) WITHOUT ROWID;
CREATE TABLE calls (ref TEXT PRIMARY KEY, called_in TEXT, brought_by TEXT) WITHOUT ROWID;
CREATE INDEX by_caller ON calls (called_in) WHERE called_in IS NOT NULL;
CREATE INDEX by_bringer ON calls (brought_by) WHERE brought_by IS NOT NULL;
CREATE TABLE holds (
    hold TEXT PRIMARY KEY, asked_at INTEGER, expires_at INTEGER, needed INTEGER, yes INTEGER, no INTEGER,
    said_at INTEGER, state TEXT, told_at INTEGER, tenant INTEGER
) WITHOUT ROWID;
CREATE TABLE policies (
    log INTEGER, sequence INTEGER, at INTEGER, revision TEXT, digest TEXT, PRIMARY KEY (log, sequence)
) WITHOUT ROWID;
CREATE TABLE policy_notes (
    log INTEGER, sequence INTEGER, at INTEGER, kind TEXT, digest TEXT, reason TEXT, number INTEGER, key_id TEXT,
    PRIMARY KEY (log, sequence)
) WITHOUT ROWID;
CREATE TABLE shadows (
    digest TEXT, revision TEXT, effect TEXT, calls INTEGER, first_at INTEGER, last_at INTEGER, example TEXT,
    PRIMARY KEY (digest, revision, effect)
) WITHOUT ROWID;
"""


class NotBuilt(EvidenceError):
    """There is no index yet, or it is being built anew."""

    code = "index_not_built"


class IndexFile:
    """The file in its folder.

    Args:
        folder: made if it is not there; whoever runs a console may write to it.
        source: the bucket's name: an index of another bucket is not used.
    """

    def __init__(self, folder: Path, source: str) -> None:
        self._folder = folder
        self._source = source
        self._path = folder / _FILE

    def take_lock(self) -> int | None:
        """Be the one who builds it: a descriptor to close at the end; None: another process is.

        Raises:
            EvidenceError: the folder cannot be used.
        """
        try:
            self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            descriptor = os.open(self._folder / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise EvidenceError(f"{error.filename or self._folder}: {error.strerror}") from None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(descriptor)
            return None
        return descriptor

    def for_writing(self) -> sqlite3.Connection:
        """Open it, or make it anew where it is none of ours, of another bucket, or somebody found it damaged.

        Raises:
            EvidenceError: the folder cannot be used.
        """
        try:
            if not self._is_ours():
                self._remove()
            return self._opened()
        except (OSError, sqlite3.Error) as error:
            raise EvidenceError(f"{self._path}: {error}") from None

    @contextmanager
    def for_reading(self) -> Iterator[sqlite3.Connection]:
        """Read it as it stands at this moment. One that turns out damaged is built anew by whoever builds it.

        Raises:
            NotBuilt: there is none, or it is damaged.
            EvidenceError: it cannot be read.
        """
        try:
            database = sqlite3.connect(
                f"{self._path.absolute().as_uri()}?mode=ro", uri=True, timeout=_WAIT_SECONDS, isolation_level=None
            )
        except sqlite3.Error:
            raise NotBuilt(f"{self._path}: not there yet") from None
        try:
            database.execute(f"PRAGMA cache_size = -{_READER_CACHE_KIB}")
            database.execute("BEGIN")  # all that is read belongs to one moment
            if _told_source(database) != self._source:
                raise NotBuilt(f"{self._path}: of another bucket")
            yield database
        except sqlite3.Error as error:
            if is_damage(error):
                self.tell_damaged()
            elif not self._path.exists() or "no such table" in str(error):
                raise NotBuilt(f"{self._path}: not there yet") from None
            else:
                raise EvidenceError(f"{self._path}: {error}") from None
            raise NotBuilt(f"{self._path}: damaged, and built anew") from None
        finally:
            database.close()

    def tell_damaged(self) -> None:
        """Whoever builds it, be it another process, is to build it anew."""
        with suppress(OSError):
            (self._folder / _DAMAGED).touch()

    @property
    def is_told_damaged(self) -> bool:
        """Did somebody say so?"""
        return (self._folder / _DAMAGED).exists()

    @property
    def identity(self) -> tuple[int, int] | None:
        """Which file it is: another one if it was thrown away meanwhile; None: there is none."""
        try:
            told = self._path.stat()
        except OSError:
            return None
        return told.st_dev, told.st_ino

    @property
    def size_bytes(self) -> int:
        """On the disk."""
        paths = [self._path.with_name(_FILE + side) for side in _SIDES]
        return sum(path.stat().st_size for path in paths if path.exists())

    def _is_ours(self) -> bool:
        if not self._path.exists() or self.is_told_damaged:
            return False
        try:
            database = sqlite3.connect(self._path, timeout=_WAIT_SECONDS)
        except sqlite3.Error:
            return False
        try:
            [version] = database.execute("PRAGMA user_version").fetchone()
            return bool(version == VERSION and _told_source(database) == self._source)
        except sqlite3.Error:
            return False
        finally:
            database.close()

    def _remove(self) -> None:
        for side in _SIDES:
            self._path.with_name(_FILE + side).unlink(missing_ok=True)
        (self._folder / _DAMAGED).unlink(missing_ok=True)

    def _opened(self) -> sqlite3.Connection:
        is_new = not self._path.exists()
        # The thread that builds it is the only one that uses this connection; it is opened and closed by others.
        database = sqlite3.connect(self._path, timeout=_WAIT_SECONDS, isolation_level=None, check_same_thread=False)
        self._path.chmod(0o600)
        if is_new:
            database.executescript(_TABLES)
            database.execute("INSERT INTO meta VALUES ('source', ?)", (self._source,))
            database.execute(f"PRAGMA user_version = {VERSION}")
            database.execute("COMMIT")
        database.execute("PRAGMA synchronous = NORMAL")
        database.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
        return database


def is_damage(error: sqlite3.Error) -> bool:
    """Is the file no database (any more)? What is locked, full or forbidden is another matter."""
    return type(error) is sqlite3.DatabaseError


def _told_source(database: sqlite3.Connection) -> str | None:
    found = database.execute("SELECT value FROM meta WHERE name = 'source'").fetchone()
    return None if found is None else str(found[0])
