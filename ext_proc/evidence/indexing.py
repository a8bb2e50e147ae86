"""Builds the index of what is in the bucket, and keeps it up: each events object is read once, the newest first.

 1. The last hours are listed again and again: there new objects come.
 2. The whole bucket is listed at first, day by day, the newest day first, and again every hour: a replica that was cut
    off ships objects of long ago.
 3. What was not read yet is read. What is wrong with an object is noted, what could be read of it is in the index.

Of several consoles on one folder one builds. A file that turns out damaged is built anew.
"""

from __future__ import annotations

import os
import sqlite3
from contextlib import suppress
from datetime import datetime, timedelta
from itertools import islice
from threading import Event, Thread
from typing import TYPE_CHECKING, Final

from ext_proc import telemetry
from ext_proc.errors import GateError, IntegrityError
from ext_proc.evidence import names
from ext_proc.evidence.events import parse_leaf, read_ahead, window
from ext_proc.evidence.index_file import is_damage
from ext_proc.evidence.index_rows import Gathered, is_of
from ext_proc.evidence.index_writing import IndexWriter
from ext_proc.evidence.versions import Absent, EvidenceError, firsts

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ext_proc.evidence.index_file import IndexFile
    from ext_proc.evidence.names import EventsName
    from ext_proc.evidence.versions import Version, VersionedStore

POLL_SECONDS: Final = 3.0
SWEEP: Final = timedelta(hours=1)
"""How long after the whole bucket was listed it is listed again."""
_RECENT: Final = timedelta(hours=2)
_EXCHANGES_MAX: Final = 5_000
"""How many are gathered before they are written: memory does not grow with an object."""
_CHUNK: Final = 64
_STOP_SECONDS: Final = 10.0
_WANTED: Final = (b'"exchange_id":', b'"kind":"log.', b'"kind":"policy.')
_LAST: Final = "~"  # sorts after whatever a key has
_log = telemetry.logger()


class Indexer:
    """Builds it, a round at a time. For one thread.

    Args:
        store: the bucket.
        file: of the index.
        clock: aware UTC.
        is_over: is asked now and then: stop in the middle?
    """

    def __init__(
        self,
        store: VersionedStore,
        file: IndexFile,
        clock: Callable[[], datetime],
        is_over: Callable[[], bool] = lambda: False,
    ) -> None:
        self._store = store
        self._file = file
        self._clock = clock
        self._is_over = is_over
        self._lock: int | None = None
        self._database: sqlite3.Connection | None = None
        self._writer: IndexWriter | None = None
        self._identity: tuple[int, int] | None = None

    def round(self) -> bool:
        """List what is new and read it; all that there is, where that is due. False: another process builds it.

        Raises:
            EvidenceError: the bucket or the folder cannot be used; what was read until then is in the index.
        """
        if self._lock is None and (lock := self._file.take_lock()) is not None:
            self._lock = lock
        if self._lock is None:
            return False
        try:
            self._open()
            self._read_recent()
            if self._is_sweep_due():
                self._sweep()
        except sqlite3.Error as error:
            if is_damage(error):
                self._file.tell_damaged()
            self._shut()
            raise EvidenceError(f"the index: {error}") from None
        return True

    def close(self) -> None:
        """Let another process build it."""
        self._shut()
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    # Listing -------------------------------------------------------------------------------------------------------

    def _read_recent(self) -> None:
        now = self._clock()
        after, _ = window(now - _RECENT, None)
        self._read(_of(firsts(self._store, names.EVENTS, after)))
        if not self._is_over():
            self._remember("listed_at", now)

    def _sweep(self) -> None:
        """Everything, the newest day first; what comes meanwhile is read in between."""
        began_at = looked_at = self._clock()
        for day in reversed(list(self._days())):
            waiting = iter(self._unread(_of(firsts(self._store, f"{names.EVENTS}dt={day}/"))))
            while chunk := list(islice(waiting, _CHUNK)):
                self._read_each(chunk)
                if self._is_over():
                    return
                if self._clock() - looked_at > timedelta(seconds=POLL_SECONDS):
                    self._read_recent()
                    looked_at = self._clock()
        self._remember("swept_at", began_at)

    def _days(self) -> Iterator[str]:
        """Days of which there is anything. Each is looked for after the one before: no day costs more than a page."""
        after = names.EVENTS
        while (found := next(_of(firsts(self._store, names.EVENTS, after)), None)) is not None:
            yield found[0].day
            after = f"{names.EVENTS}dt={found[0].day}/{_LAST}"

    def _is_sweep_due(self) -> bool:
        [told] = self._known_database.execute("SELECT max(value) FROM meta WHERE name = 'swept_at'").fetchone()
        with suppress(ValueError):
            return told is None or not timedelta() <= self._clock() - datetime.fromisoformat(told) < SWEEP
        return True

    # Reading -------------------------------------------------------------------------------------------------------

    def _read(self, found: Iterator[tuple[EventsName, Version]]) -> None:
        waiting = iter(self._unread(found))
        while (chunk := list(islice(waiting, _CHUNK))) and not self._is_over():
            self._read_each(chunk)

    def _unread(self, found: Iterator[tuple[EventsName, Version]]) -> list[tuple[EventsName, Version]]:
        """Those that were not read, the newest first."""
        left = [one for one in found if not self._known_writer.is_known(one[1].key)]
        return sorted(left, key=lambda one: (one[0].day, one[0].hour, one[0].first), reverse=True)

    def _read_each(self, chunk: list[tuple[EventsName, Version]]) -> None:
        """Some objects. One that is gone when it is fetched is left for the next time."""
        left = iter(chunk)
        while True:
            try:
                for name, version, leaves in read_ahead(self._store, left):
                    self._take(name, version, leaves)
            except Absent as error:
                _log.warning("evidence.absent", detail=error.detail)
                # `read_ahead` fetches some before they are taken: those are read one by one.
                left = iter([one for one in chunk if not self._known_writer.is_known(one[1].key)])
                self._read_alone(left)
            return

    def _read_alone(self, found: Iterator[tuple[EventsName, Version]]) -> None:
        for one in found:
            try:
                for name, version, leaves in read_ahead(self._store, iter([one])):
                    self._take(name, version, leaves)
            except Absent as error:
                _log.warning("evidence.absent", detail=error.detail)

    def _take(self, name: EventsName, version: Version, leaves: Iterator[bytes]) -> None:
        """One object, in one transaction."""
        database, writer = self._known_database, self._known_writer
        database.execute("BEGIN IMMEDIATE")
        try:
            number = writer.begin_object(version.key, name)
            gathered = Gathered()
            fault = None
            try:
                fault = self._hear(number, name, version.key, leaves, gathered)
            except IntegrityError as error:
                fault = error.detail
            writer.write(number, name, gathered)
            writer.end_object(number, name, gathered, fault)
        except BaseException:
            database.execute("ROLLBACK")
            writer.forget_words()
            raise
        database.execute("COMMIT")
        if fault is not None:
            _log.warning("evidence.damaged", key=version.key, detail=fault)

    def _hear(self, number: int, name: EventsName, key: str, leaves: Iterator[bytes], gathered: Gathered) -> str | None:
        """Every leaf; what is wrong with some, in words."""
        unreadable = 0
        for sequence, line in enumerate(leaves, name.first):
            if not any(wanted in line for wanted in _WANTED):
                continue
            try:
                leaf = parse_leaf(line, key)
            except IntegrityError:
                unreadable += 1
                continue
            unreadable += not (is_of(name.log, leaf, sequence) and gathered.hear(leaf))
            if len(gathered.exchanges) >= _EXCHANGES_MAX:
                self._known_writer.write(number, name, gathered)
                gathered.forget()
        return f"{key}: {unreadable} lines are no records of their place" if unreadable else None

    # The file ------------------------------------------------------------------------------------------------------

    def _open(self) -> None:
        if self._file.is_told_damaged or self._file.identity != self._identity:
            self._shut()
        if self._database is None:
            self._database = self._file.for_writing()
            self._identity = self._file.identity
            self._writer = IndexWriter(self._database)

    def _shut(self) -> None:
        if self._database is not None:
            with suppress(sqlite3.Error):
                self._database.close()
        self._database = self._writer = None

    def _remember(self, name: str, at: datetime) -> None:
        self._known_database.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (name, at.isoformat()))

    @property
    def _known_database(self) -> sqlite3.Connection:
        if self._database is None:
            raise EvidenceError("the index is not open")
        return self._database

    @property
    def _known_writer(self) -> IndexWriter:
        if self._writer is None:
            raise EvidenceError("the index is not open")
        return self._writer


class IndexThread:
    """Builds it in a thread of its own, from `start` to `stop`.

    Args:
        store: the bucket.
        file: of the index.
        clock: aware UTC.
    """

    def __init__(self, store: VersionedStore, file: IndexFile, clock: Callable[[], datetime]) -> None:
        self._over = Event()
        self._indexer = Indexer(store, file, clock, self._over.is_set)
        self._thread = Thread(target=self._run, name="evidence-index", daemon=True)
        self.failure: str | None = None

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """Stop after the object that is being read. A store that does not answer is not waited for."""
        self._over.set()
        if self._thread.ident is not None:
            self._thread.join(_STOP_SECONDS)

    def _run(self) -> None:
        while not self._over.is_set():
            try:
                self._indexer.round()
            except (GateError, OSError) as error:
                self._failed(error.detail if isinstance(error, GateError) else str(error))
            except Exception as bug:  # noqa: BLE001 - the outermost frame of a thread: an index that says why it stands still
                _log.exception("evidence.index_bug")
                self._failed(type(bug).__name__)
            else:
                self.failure = None
            self._over.wait(POLL_SECONDS)
        self._indexer.close()

    def _failed(self, why: str) -> None:
        if why != self.failure:
            _log.warning("evidence.index_failed", detail=why)
        self.failure = why


def _of(found: Iterator[Version]) -> Iterator[tuple[EventsName, Version]]:
    """Events objects only: whatever else lies there is for the verification to tell."""
    for version in found:
        name = names.events(version.key)
        if name is not None:
            yield name, version
