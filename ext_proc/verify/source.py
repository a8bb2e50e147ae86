"""Where the evidence is read from: a bucket or the directory of an export. Every version, every lock, every byte."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final, Protocol, Self

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType

    from ext_proc.verify.findings import Findings

CHUNK_BYTES: Final = 1 << 20
COMPLIANCE: Final = "COMPLIANCE"


class Absent(Exception):
    """The version was listed and is not there when it is read."""


class TooLarge(Exception):
    """More bytes than this kind of object may have."""


@dataclass(frozen=True, slots=True)
class Lock:
    """What keeps a version from being deleted."""

    mode: str | None
    retain_until: datetime | None


@dataclass(frozen=True, slots=True)
class Version:
    """One version of one object.

    Args:
        key: below the configured prefix.
        version: the store's id.
        is_latest: does the store show this one to those who ask for none.
        is_delete_marker: it holds nothing and hides the others.
        size_bytes: as the store says.
        last_modified: the store's time of writing.
        place: where to read it from (the source's own business).
        sha256: as an inventory says; None in a bucket.
        lock: as an inventory says; in a bucket it is told when the version is opened.
    """

    key: str
    version: str
    is_latest: bool
    is_delete_marker: bool
    size_bytes: int
    last_modified: datetime
    place: str
    sha256: str | None = None
    lock: Lock | None = None


@dataclass(frozen=True, slots=True)
class BucketFacts:
    """What the bucket itself promises, and the store's own time."""

    name: str
    is_versioned: bool
    is_lockable: bool
    now: datetime


class Stream(Protocol):
    """Bytes to read."""

    def read(self, size: int = ..., /) -> bytes:
        """At most ``size`` bytes; none at the end."""
        ...

    def close(self) -> None:
        """Free it."""
        ...


class Opened:
    """A version being read: hashes what passes, stops at a limit."""

    def __init__(self, stream: Stream, lock: Lock) -> None:
        self.lock = lock
        self.size_bytes = 0
        self._stream = stream
        self._hash = hashlib.sha256()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stream.close()

    def read(self, size: int = CHUNK_BYTES) -> bytes:
        """At most ``size`` bytes; none at the end."""
        chunk = self._stream.read(size)
        self.size_bytes += len(chunk)
        self._hash.update(chunk)
        return chunk

    def read_all(self, limit: int) -> bytes:
        """Everything.

        Raises:
            TooLarge: there is more than ``limit``.
        """
        parts = []
        while chunk := self.read(min(CHUNK_BYTES, limit + 1)):
            parts.append(chunk)
            if self.size_bytes > limit:
                raise TooLarge
        return b"".join(parts)

    def drain(self) -> None:
        """Read what is left, for its hash."""
        while self.read():
            pass

    @property
    def sha256(self) -> str:
        """SHA-256 of what was read, in lower-case hex."""
        return self._hash.hexdigest()


class Source(Protocol):
    """Can be sent to another process.

    ``is_remote``: many small reads go faster side by side. ``is_newest_first``: in which order a key's versions come.
    """

    is_remote: bool
    is_newest_first: bool

    def facts(self, findings: Findings) -> BucketFacts:
        """The bucket itself.

        Raises:
            VerifyError: it cannot be asked.
        """
        ...

    def versions(self, findings: Findings) -> Iterator[Version]:
        """Every version of every object.

        Raises:
            VerifyError: it cannot be listed.
        """
        ...

    def open(self, version: Version) -> Opened:
        """Read a version.

        Raises:
            Absent: it is not there.
            VerifyError: it cannot be read for another reason.
        """
        ...

    def lock(self, version: Version) -> Lock:
        """The version's lock, without its bytes.

        Raises:
            Absent: it is not there.
            VerifyError: it cannot be asked.
        """
        ...


def lock_fault(version: Version, lock: Lock, retention: timedelta) -> tuple[str, str] | None:
    """Code and words if the lock is not what it must be."""
    if lock.mode != COMPLIANCE or lock.retain_until is None:
        told = "no lock" if lock.mode is None else f"the mode {lock.mode} and the end {lock.retain_until}"
        return "lock_missing", f"The object has {told}; it must be locked in COMPLIANCE mode."
    if lock.retain_until < version.last_modified + retention:
        missing = version.last_modified + retention - lock.retain_until
        return "lock_short", f"The lock ends {lock.retain_until}, {missing} earlier than the policy asks."
    return None


def instant(text: object) -> datetime:
    """An RFC 3339 instant in UTC.

    Raises:
        ValueError: it is none.
    """
    if not isinstance(text, str) or not 20 <= len(text) <= 32 or text[10] != "T":
        raise ValueError("not an instant")
    found = datetime.fromisoformat(text)
    if found.utcoffset() != timedelta(0) or not 1970 <= found.year <= 2999:
        raise ValueError("not an instant in UTC")
    return found.astimezone(UTC)
