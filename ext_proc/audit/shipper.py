"""From this disk to the store, exactly once, without believing the store.

For every epoch: end it if its worker is dead (`recovery`; where that fails, the next round tries again), then for each
sealed segment, oldest first:

 1. make the objects; a segment that does not check goes to quarantine and never stops the next one;
 2. put each with ``If-None-Match: *``; whatever the answer was, believe nothing of it;
 3. read back: same bytes, locked in COMPLIANCE mode, long enough. Other bytes under our key: quarantine, an incident;
 4. free the segment. A crash anywhere before: the same objects are made again, and found to be there.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final

from ext_proc.audit import segments
from ext_proc.audit.recovery import recover
from ext_proc.audit.seal import SealedObject, seal
from ext_proc.audit.store import StoreRefused, StoreUnavailable
from ext_proc.errors import IntegrityError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from threading import Event

    from ext_proc.audit.store import Store

COMPLIANCE: Final = "COMPLIANCE"
BACKOFF_MAX_SECONDS: Final = 60.0
STUCK_MAX: Final = 3
"""So many segments in a row that the store will not keep: then it is the store, not the segment."""
CLOCK_TOLERANCE: Final = timedelta(hours=1)
"""The store's clock and ours may differ; a lock that ends an hour early is not a finding."""


class _NotLocked(Exception):
    """The store took the object but does not hold it as it must."""


@dataclass(slots=True)
class ShipReport:
    """What one round did: objects locked and read back, segments freed, and what stood in the way (stable codes)."""

    shipped: list[str] = field(default_factory=list)
    freed: int = 0
    failures: list[str] = field(default_factory=list)
    quarantined: list[str] = field(default_factory=list)


class Shipper:
    """Ships one directory. One process at a time.

    Args:
        directory: where the epochs' folders are.
        store: where to.
        retention: how long each object must be locked from the moment its segment was sealed.
        clock: aware UTC.
    """

    def __init__(self, directory: Path, store: Store, retention: timedelta, clock: Callable[[], datetime]) -> None:
        self._directory = directory
        self._store = store
        self._retention = retention
        self._clock = clock

    def run(self, stop: Event, interval_seconds: float, report: Callable[[ShipReport], None]) -> None:
        """Ship until ``stop`` is set, then once more. Backs off while the store fails; never gives up."""
        failed_rounds = 0
        while True:
            is_last = stop.is_set()
            round_ = self.run_once()
            report(round_)
            if is_last:
                return
            failed_rounds = failed_rounds + 1 if round_.failures and not round_.freed else 0
            pause = min(interval_seconds * 2.0 ** min(failed_rounds, 10), BACKOFF_MAX_SECONDS)
            stop.wait(pause * random.uniform(0.8, 1.2) if failed_rounds else interval_seconds)  # noqa: S311 - jitter

    def run_once(self) -> ShipReport:
        """One round over all epochs."""
        made = ShipReport()
        for folder in sorted(path for path in self._directory.iterdir() if _is_epoch(path)):
            try:
                self._ship_epoch(folder, made)
            except FileNotFoundError:
                continue  # another shipper was faster; it is the supervisor's that is about to end
            except OSError as error:
                made.failures.append(f"disk: {folder.name}: {type(error).__name__}")
        return made

    def _ship_epoch(self, folder: Path, made: ShipReport) -> None:
        is_complete = self._is_complete(folder, made)
        stuck = 0
        for segment in sorted(folder.glob(f"*{segments.SEALED}")):
            try:
                stuck = 0 if self._ship(segment, made) else stuck + 1
            except StoreUnavailable as error:
                made.failures.append(f"store_unavailable: {error}")
                break  # the next one would not fare better
            if stuck == STUCK_MAX:
                break
        if is_complete:
            _remove_if_done(folder)

    def _is_complete(self, folder: Path, made: ShipReport) -> bool:
        """Has the epoch its end? What is sealed can be shipped all the same: it does not change any more."""
        try:
            recovered = recover(folder, self._clock())
        except FileNotFoundError:
            raise
        except (OSError, IntegrityError) as error:
            made.failures.append(f"recovery: {folder.name}: {type(error).__name__}")
            return False
        if recovered is None:
            return False
        made.quarantined += [f"{folder.name}/{name}: bytes that do not check" for name in recovered.set_aside]
        return True

    def _ship(self, segment: Path, made: ShipReport) -> bool:
        """One segment. Is it off our hands?

        Raises:
            StoreUnavailable: the store does not answer.
        """
        try:
            now = self._clock()
            # A file from the future was written under a wrong clock: nothing can have been sealed after now.
            sealed_at = min(now, datetime.fromtimestamp(segment.stat().st_mtime, tz=now.tzinfo))
            for one in seal(segment.read_bytes()):  # step 1
                self._store.put(one.key, one.body, one.sha256)  # step 2
                self._check(one, sealed_at)  # step 3
                made.shipped.append(one.key)
        except IntegrityError as error:
            segment.rename(segment.with_suffix(segments.QUARANTINE))
            segments.sync_folder(segment.parent)
            made.quarantined.append(f"{segment.name}: {error.detail}")
            return True
        except _NotLocked as error:
            made.failures.append(f"{error}: {segment.name}")
            return False
        except StoreRefused as error:
            made.failures.append(f"store_refused: {error}")
            return False
        segment.unlink(missing_ok=True)  # step 4
        segments.sync_folder(segment.parent)
        made.freed += 1
        return True

    def _check(self, one: SealedObject, sealed_at: datetime) -> None:
        stored = self._store.read_back(one.key)
        if stored is None:
            raise StoreUnavailable("not there after put")
        if stored.sha256 != one.sha256:
            raise IntegrityError("other bytes under this key in the store")
        if stored.lock_mode != COMPLIANCE:
            raise _NotLocked("not_locked")
        if stored.retain_until is None or stored.retain_until < sealed_at + self._retention - CLOCK_TOLERANCE:
            raise _NotLocked("locked_too_short")


def _is_epoch(path: Path) -> bool:
    return path.is_dir() and not path.name.startswith(".")


def _remove_if_done(folder: Path) -> None:
    """A dead epoch whose segments are all shipped leaves nothing but its lock file."""
    if {path.name for path in folder.iterdir()} <= {segments.LOCK, segments.ENDED}:
        (folder / segments.LOCK).unlink(missing_ok=True)
        (folder / segments.ENDED).unlink(missing_ok=True)
        folder.rmdir()
