"""From this disk to the store, exactly once, without believing the store.

For every epoch: end it if its worker is dead (`recovery`), then for each sealed segment, oldest first:

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
            failed_rounds = failed_rounds + 1 if round_.failures else 0
            pause = min(interval_seconds * 2.0 ** min(failed_rounds, 10), BACKOFF_MAX_SECONDS)
            stop.wait(pause * random.uniform(0.8, 1.2) if failed_rounds else interval_seconds)  # noqa: S311 - jitter

    def run_once(self) -> ShipReport:
        """One round over all epochs."""
        made = ShipReport()
        for folder in sorted(path for path in self._directory.iterdir() if _is_epoch(path)):
            is_dead = recover(folder, self._clock())
            for segment in sorted(folder.glob(f"*{segments.SEALED}")):
                if not self._ship(segment, made):
                    break  # the store does not answer: the next one of this epoch would not fare better
            if is_dead:
                _remove_if_done(folder)
        return made

    def _ship(self, segment: Path, made: ShipReport) -> bool:
        """One segment. Is the store answering?"""
        try:
            sealed_at = datetime.fromtimestamp(segment.stat().st_mtime, tz=self._clock().tzinfo)
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
            made.failures.append(str(error))
            return True
        except StoreUnavailable as error:
            made.failures.append(f"store_unavailable: {error}")
            return False
        except StoreRefused as error:
            made.failures.append(f"store_refused: {error}")
            return False
        segment.unlink()  # step 4
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
    if {path.name for path in folder.iterdir()} <= {segments.LOCK}:
        (folder / segments.LOCK).unlink(missing_ok=True)
        folder.rmdir()
