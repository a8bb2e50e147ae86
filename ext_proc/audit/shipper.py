"""From this disk to the store, exactly once, without believing the store.

For every epoch (`delivery`): end it if its worker is dead (`recovery`; where that fails, a later round tries again).
One that was there before this process is held against the store first: a disk that was put back, or a copy of another
replica's, ends nothing and ships nothing of a log that went on without it. The steps:

 1. its birth record goes to the store before anything else of any epoch, and before its worker says that it is ready;
 2. for each sealed segment, oldest first, the objects are made: pack, events, checkpoint. A segment that does not check
    goes to quarantine and never stops the next one: the tree gets a ``log.lost`` leaf for each record that is gone;
 3. each is put with ``If-None-Match: *``; whatever the answer was, believe nothing of it (`desk`);
 4. read back: same bytes, locked in COMPLIANCE mode, long enough. Other bytes under our key: quarantine, an incident;
 5. the state is written (`epoch`), then the segment freed. A crash anywhere before: the same objects are made again,
    and found to be there (`resume`).

At the end of an hour, and of the epoch, a signed digest goes the same way.
"""

from __future__ import annotations

import errno
import fcntl
import os
import random
from typing import TYPE_CHECKING, Final

from ext_proc.audit.delivery import Delivery
from ext_proc.audit.desk import CLOCK_TOLERANCE, COMPLIANCE, Desk, NotKept, ShipReport, Terms, code_of
from ext_proc.audit.store import StoreRefused, StoreUnavailable
from ext_proc.errors import AuditUnavailable, GateError

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime
    from pathlib import Path
    from threading import Event

    from ext_proc.audit.desk import Journal
    from ext_proc.audit.recovery import EndedLog
    from ext_proc.audit.seal import SealedObject
    from ext_proc.audit.store import Store

__all__ = ["CLOCK_TOLERANCE", "COMPLIANCE", "ShipReport", "Shipper", "Terms"]

BACKOFF_MAX_SECONDS: Final = 60.0
REST_MAX_ROUNDS: Final = 128
"""An epoch that needs a person is tried this seldom at last; the others go on as ever."""
PASSING: Final = ("store_unavailable", "audit_unavailable")
"""Failures that concern every epoch, and pass: then the whole shipper waits."""
SILENCE_MAX: Final = 3
"""So many epochs in one round are tried with a store that does not answer."""


class Shipper:
    """Ships one directory. Of two that try, one waits.

    Args:
        directory: where the epochs' folders are.
        store: where to.
        terms: what every object must be.
        clock: aware UTC.
        journal: where to note births, digests and ends: durable when it returns. None: nowhere.
    """

    def __init__(
        self,
        directory: Path,
        store: Store,
        terms: Terms,
        clock: Callable[[], datetime],
        journal: Journal | None = None,
    ) -> None:
        self._directory = directory
        self._desk = Desk(store, terms, clock, journal)
        self.on_failure: Callable[[ShipReport], None] = lambda _: None
        """Told of each failure at once: with a store that hangs, a round is over only after minutes."""
        self._known: set[str] = set()  # epochs of which this process has shipped something
        self._inherited: set[str] | None = None  # those that it found, until they were held against the store
        self._resting: dict[str, tuple[int, int]] = {}  # epochs that are stuck: times, and rounds still to wait

    def tell_ends_to(self, on_end: Callable[[EndedLog], None]) -> None:
        """``on_end`` is told of each log that nobody writes any more, at least once. It must not raise."""
        self._desk.on_end = on_end

    def tell_frees_to(self, on_freed: Callable[[ShipReport], None]) -> None:
        """``on_freed`` is told after each file: a round after a long outage may take an hour, and is no silence."""
        self._desk.on_freed = on_freed

    @property
    def journal(self) -> Journal | None:
        """Where births, digests and ends are noted."""
        return self._desk.journal

    @journal.setter
    def journal(self, journal: Journal | None) -> None:
        self._desk.journal = journal

    def run(self, stop: Event, interval_seconds: float, report: Callable[[ShipReport], None]) -> None:
        """Ship until ``stop`` is set, then what is left. Backs off while the store fails; never gives up."""
        failed_rounds = 0
        while True:
            is_last = stop.is_set()
            if is_last:
                self._resting.clear()
            round_ = self.run_once()
            report(round_)
            if is_last and not round_.freed:
                return
            if is_last:
                continue
            is_silent = any(one.startswith(PASSING) for one in round_.failures) and not round_.freed
            failed_rounds = failed_rounds + 1 if is_silent else 0
            pause = min(interval_seconds * 2.0 ** min(failed_rounds, 10), BACKOFF_MAX_SECONDS)
            stop.wait(pause * random.uniform(0.8, 1.2) if failed_rounds else interval_seconds)  # noqa: S311 - jitter

    def run_once(self) -> ShipReport:
        """One round over all epochs: births first, for a worker waits for its own."""
        made = ShipReport()
        try:
            self._go_round(made)
        except OSError as error:  # no descriptor is left, or the disk does not answer: there is another round
            made.failures.append(f"{code_of(error)}: {type(error).__name__}: {self._directory.name}")
            self.on_failure(made)
        return made

    def _go_round(self, made: ShipReport) -> None:
        lock = _locked(self._directory)
        if lock is None:  # another shipper is at work: the supervisor's that is about to end
            return
        try:
            folders = sorted(path for path in self._directory.iterdir() if _is_epoch(path))
            if self._inherited is None:
                self._inherited = {folder.name for folder in folders}
            due = [
                Delivery(
                    folder,
                    self._desk,
                    made,
                    is_fresh=folder.name not in self._known,
                    is_inherited=folder.name in self._inherited,
                )
                for folder in folders
                if self._is_due(folder.name)
            ]
            for one in [one for one in due if self._is_done(one, one.announce, made)]:
                is_done = self._is_done(one, one.ship, made)
                if is_done and not one.is_stuck:
                    self._resting.pop(one.folder.name, None)
                if not one.is_fresh:
                    self._known.add(one.folder.name)
                if not one.is_inherited:
                    self._inherited.discard(one.folder.name)
            for one in due:
                if one.is_stuck:
                    times = self._resting.get(one.folder.name, (0, 0))[0] + 1
                    self._resting[one.folder.name] = (times, min(2**times, REST_MAX_ROUNDS))
        finally:
            os.close(lock)

    def put(self, one: SealedObject, made: ShipReport) -> None:
        """Steps 3 and 4, for an object that belongs to no epoch; see `Desk.put`."""
        self._desk.put(one, made)

    def _is_done(self, one: Delivery, step: Callable[[], None], made: ShipReport) -> bool:
        if sum(failure.startswith("store_unavailable") for failure in made.failures) >= SILENCE_MAX:
            return False
        try:
            step()
        except FileNotFoundError:  # what was listed is not there any more
            return False
        except (StoreUnavailable, StoreRefused, NotKept, GateError, OSError) as error:
            why = type(error).__name__ if isinstance(error, OSError) else str(error)
            made.failures.append(f"{code_of(error)}: {why}: {one.folder.name}")
            is_full = isinstance(error, OSError) and error.errno == errno.ENOSPC
            one.is_stuck = not (is_full or isinstance(error, StoreUnavailable | AuditUnavailable))
            self.on_failure(made)
            return False
        return True

    def _is_due(self, name: str) -> bool:
        times, rounds = self._resting.get(name, (0, 0))
        if rounds:
            self._resting[name] = (times, rounds - 1)
        return not rounds


def _is_epoch(path: Path) -> bool:
    return path.is_dir() and not path.name.startswith(".")


def _locked(directory: Path) -> int | None:
    """Hold the directory for a round. None: another process does."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor
