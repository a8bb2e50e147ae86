"""Which checkpoints the witnesses have yet to see, and the proofs that they ask for.

A witness wants a proof that the tree only grew since it looked last. It is made of leaves read back from the store, so
what is cosigned is what an auditor will find there. Of each log only the tree's edge at its last cosignature is
remembered; where that does not reach back far enough (this process is young, a witness was away), all of it is read.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import TYPE_CHECKING, Final

from zstandard import ZstdError

from ext_proc.audit.merkle import Frontier, extension_proof, hash_leaf
from ext_proc.audit.seal import read_events
from ext_proc.errors import IntegrityError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from ext_proc.audit.store import Store
    from ext_proc.audit.witness import Cosigned, Witnesses

COSIGN_EVERY: Final = timedelta(minutes=2)
"""A checkpoint waits no longer for its cosignature: an auditor gives it seven minutes, a forger gets two."""
_FORGET_AFTER: Final = timedelta(days=1)
_EVENTS: Final = re.compile(r"v1/events/dt=[^/]+/hour=\d\d/replica=([^/]+)/epoch=([^/]+)/(\d{16})-(\d{16})-.*")
_CHECKPOINT: Final = re.compile(r"v1/log/([^/]+/[^/]+)/checkpoint/(\d{16})-.*")


@dataclass(slots=True)
class _Log:
    """One log: the edge of its tree when it was cosigned last, the events objects since, the newest checkpoint."""

    seen_at: datetime
    edge: Frontier = field(default_factory=Frontier)
    events: list[tuple[int, str]] = field(default_factory=list)
    next: int = 0
    checkpoint: str = ""
    size: int = 0
    waiting_since: datetime | None = None
    is_due: bool = False


class Cosigner:
    """The logs that are shipped from here, as the witnesses must see them.

    Args:
        store: where the evidence is.
        witnesses: who cosigns.
        every: a checkpoint waits no longer than this.
    """

    def __init__(self, store: Store, witnesses: Witnesses, every: timedelta = COSIGN_EVERY) -> None:
        self._store = store
        self._witnesses = witnesses
        self._every = every
        self._logs: dict[str, _Log] = {}

    def saw(self, key: str, now: datetime) -> None:
        """An object is in the store."""
        if found := _EVENTS.fullmatch(key):
            log = self._log(f"{found[1]}/{found[2]}", now)
            first, last = int(found[3]), int(found[4])
            if first != log.next:  # we came late: what we have is of no use
                log.events.clear()
            log.events.append((first, key))
            log.next = last + 1
        elif found := _CHECKPOINT.fullmatch(key):
            log = self._log(found[1], now)
            if int(found[2]) > log.size:
                log.checkpoint, log.size = key, int(found[2])
                log.waiting_since = log.waiting_since or now

    def hurry(self, place: str, now: datetime) -> None:
        """A digest is there: its checkpoint is the next to be cosigned."""
        self._log(place, now).is_due = True

    def is_cosigned(self, place: str, size: int) -> bool:
        """Does the store hold a cosigned checkpoint of this size?"""
        return any(True for _ in self._store.keys(f"v1/log/{place}/cosigned/{size:016d}-"))

    def due(self, now: datetime) -> list[str]:
        """The logs that should be cosigned now; the oldest first."""
        idle = [
            place for place, log in self._logs.items() if not log.waiting_since and log.seen_at < now - _FORGET_AFTER
        ]
        for place in idle:
            del self._logs[place]
        return [
            place
            for place, log in self._logs.items()
            if log.waiting_since and (log.is_due or log.waiting_since <= now - self._every)
        ]

    def put_last(self, place: str) -> None:
        """It failed: the others come first now."""
        self._logs[place] = self._logs.pop(place)

    def waiting(self) -> list[datetime]:
        """Since when each log that has a checkpoint without cosignature has it."""
        return [log.waiting_since for log in self._logs.values() if log.waiting_since]

    def ask(self, place: str) -> Cosigned:
        """Have the newest checkpoint of a log cosigned.

        Raises:
            StoreUnavailable: the log cannot be read back.
            StoreRefused: the store does not let us.
            IntegrityError: the store does not hold all of it.
        """
        log = self._logs[place]
        note = self._store.fetch(log.checkpoint)
        return self._witnesses.cosign(note, lambda old, new: self._proof(place, log, old, new))

    def done(self, place: str, size: int) -> None:
        """The cosigned checkpoint is kept: remember no more than the edge of this tree.

        Raises:
            StoreUnavailable: the log cannot be read back.
            StoreRefused: the store does not let us.
        """
        log = self._logs[place]
        if log.size == size:
            log.waiting_since, log.is_due = None, False
        if log.edge.size == size:
            return
        edge, hashes = self._from_edge(place, log, size)
        edge.append(islice(hashes, size - edge.size))
        if edge.size == size:
            log.edge = edge
            log.events = [one for one in log.events if one[0] >= size]

    def _log(self, place: str, now: datetime) -> _Log:
        log = self._logs.setdefault(place, _Log(now))
        log.seen_at = now
        return log

    def _proof(self, place: str, log: _Log, old: int, size: int) -> list[bytes]:
        edge, hashes = self._from_edge(place, log, old)
        edge.append(islice(hashes, old - edge.size))
        if edge.size != old:
            raise IntegrityError(f"records of {place} are not in the store")
        return extension_proof(edge, hashes, size)

    def _from_edge(self, place: str, log: _Log, size: int) -> tuple[Frontier, Iterator[bytes]]:
        """A tree of at most ``size`` leaves, and the leaves after it: from what is remembered, or from the first on."""
        if log.edge.size <= size and log.events and log.events[0][0] == log.edge.size:
            return log.edge.copy(), self._hashes([key for _, key in log.events])
        return Frontier(), self._hashes(self._all_events(place, log.seen_at))

    def _all_events(self, place: str, until: datetime) -> list[str]:
        """Every events object of a log, hour by hour since its epoch began: the prefix is theirs alone."""
        replica, epoch = place.split("/")
        hour = datetime.strptime(epoch[:11], "%Y%m%dT%H").replace(tzinfo=UTC)
        found: list[str] = []
        while hour <= until:
            prefix = f"v1/events/dt={hour:%Y-%m-%d}/hour={hour:%H}/replica={replica}/epoch={epoch}/"
            found += self._store.keys(prefix)
            hour += timedelta(hours=1)
        return sorted(found, key=lambda key: key.rpartition("/")[2])

    def _hashes(self, keys: Iterable[str]) -> Iterator[bytes]:
        for key in keys:
            try:
                for leaf in read_events(self._store.fetch(key)):
                    yield hash_leaf(leaf)
            except ZstdError:
                raise IntegrityError(f"{key} cannot be unpacked") from None
