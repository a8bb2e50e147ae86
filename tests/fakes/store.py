"""`Store` in memory, with versions and locks; `BadStore` is one that fails and lies as told."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from ext_proc.audit.store import Stored, StoreRefused, StoreUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

RETENTION = timedelta(days=400)


@dataclass(frozen=True, slots=True)
class Version:
    """One version of an object; nothing changes or removes it."""

    body: bytes
    lock_mode: str | None
    retain_until: datetime | None
    written_at: datetime


@dataclass
class FakeStore:
    """A bucket whose default retention locks what is put. ``is_open`` and ``is_permitted``: does it answer, may we."""

    retention: timedelta = RETENTION
    lock_mode: str | None = "COMPLIANCE"
    clock: Callable[[], datetime] = lambda: datetime.now(UTC)
    objects: dict[str, list[Version]] = field(default_factory=dict)
    is_open: bool = True
    is_permitted: bool = True
    puts: list[str] = field(default_factory=list)
    said_at: tuple[datetime, float] | None = None
    """As `S3Store.said_at`."""

    def put(self, key: str, body: bytes, sha256: str) -> None:
        """See `Store.put`."""
        self.puts.append(key)
        self._ask()
        if hashlib.sha256(body).hexdigest() != sha256:
            raise StoreRefused("BadDigest")
        if key not in self.objects:
            self.write_over(key, body)

    def write_over(self, key: str, body: bytes) -> None:
        """What anyone with write permission can do: a later version, on top of the locked one."""
        now = self.clock()
        until = now + self.retention if self.lock_mode else None
        self.objects.setdefault(key, []).append(Version(body, self.lock_mode, until, now))

    def read_back(self, key: str) -> Stored | None:
        """See `Store.read_back`."""
        self._ask()
        if key not in self.objects:
            return None
        oldest = self.objects[key][0]
        sha256 = hashlib.sha256(oldest.body).hexdigest()
        return Stored(sha256, len(oldest.body), oldest.lock_mode, oldest.retain_until, "0")

    def fetch(self, key: str) -> bytes:
        """See `Store.fetch`."""
        self._ask()
        if key not in self.objects:
            raise StoreUnavailable("no such object")
        return self.objects[key][0].body

    def keys(self, prefix: str) -> Iterator[str]:
        """See `Store.keys`."""
        self._ask()
        yield from sorted(key for key in self.objects if key.startswith(prefix))

    def _ask(self) -> None:
        if not self.is_open:
            raise StoreUnavailable("ConnectTimeoutError")
        if not self.is_permitted:
            raise StoreRefused("AccessDenied")


@dataclass
class BadStore(FakeStore):
    """A store with one fault, which strikes the keys that contain ``strikes``, ``times`` times at most.

    ``fault``:

    - ``refused``: access denied, nothing kept;
    - ``slow``: answers after our deadline, nothing kept;
    - ``lost``: the connection broke before anything was kept;
    - ``persisted but error``: kept, and then an error;
    - ``exists``: 412 or 409 for a key that it has not;
    - ``lying``: says yes and keeps nothing;
    - ``wrong bytes``: keeps something else;
    - ``no lock``, ``governance``, ``short lock``: keeps it, but not as it must.
    """

    fault: str = ""
    strikes: str = ""
    times: int = 1_000_000

    def put(self, key: str, body: bytes, sha256: str) -> None:
        """Put, with the fault."""
        if not self.fault or self.strikes not in key or self.times <= 0 or key in self.objects:
            super().put(key, body, sha256)
            return
        self.times -= 1
        self.puts.append(key)
        now = self.clock()
        until = now + self.retention
        match self.fault:
            case "refused":
                raise StoreRefused("AccessDenied")
            case "slow":
                raise StoreUnavailable("ReadTimeoutError")
            case "lost":
                raise StoreUnavailable("ConnectionClosedError")
            case "persisted but error":
                self.write_over(key, body)
                raise StoreUnavailable("InternalError")
            case "exists" | "lying":
                return
            case "wrong bytes":
                self.write_over(key, body[:-1] + bytes([body[-1] ^ 1]))
            case "no lock":
                self.objects[key] = [Version(body, None, None, now)]
            case "governance":
                self.objects[key] = [Version(body, "GOVERNANCE", until, now)]
            case "short lock":
                self.objects[key] = [Version(body, "COMPLIANCE", until - timedelta(days=2), now)]
            case _:
                raise AssertionError(self.fault)
