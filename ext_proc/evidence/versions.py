"""What a reader of evidence needs of a store: every version of every object with its lock, and the bytes of one."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from io import BytesIO
from itertools import groupby
from typing import TYPE_CHECKING, BinaryIO, ClassVar, Protocol

from ext_proc.errors import GateError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from datetime import datetime


class EvidenceError(GateError):
    """The evidence cannot be read, or not as asked (exit status 2); ``detail`` says what to do."""

    code: ClassVar[str] = "could_not_read"


class Absent(EvidenceError):
    """The version was listed, and is not there when it is read."""

    code: ClassVar[str] = "absent"


@dataclass(frozen=True, slots=True)
class Version:
    """One version of one object.

    Args:
        key: below the prefix.
        version: the store's id.
        is_latest: does the store show this one to those who ask for none.
        is_delete_marker: it holds nothing and hides the others.
        size_bytes: as the store says.
        last_modified: the store's time of writing, aware UTC.
    """

    key: str
    version: str
    is_latest: bool
    is_delete_marker: bool
    size_bytes: int
    last_modified: datetime


@dataclass(frozen=True, slots=True)
class Lock:
    """What keeps a version from being deleted, as the store says."""

    mode: str | None = None
    retain_until: datetime | None = None
    is_held: bool = False


@dataclass(frozen=True, slots=True)
class Bucket:
    """What the bucket itself promises, and the store's own time."""

    name: str
    prefix: str
    versioning: str
    is_lockable: bool
    lock_mode: str | None
    lock_days: int | None
    at: datetime


class VersionedStore(Protocol):
    """A bucket or a copy of one, to read. Methods block; safe to call from several threads."""

    @property
    def name(self) -> str:
        """As people name it."""
        ...

    def bucket(self) -> Bucket:
        """The bucket itself.

        Raises:
            EvidenceError: it cannot be asked.
        """
        ...

    def versions(self, prefix: str, after: str = "") -> Iterator[Version]:
        """Every version of each key that begins with ``prefix`` and comes after ``after``: by key, oldest first.

        Raises:
            EvidenceError: it cannot be listed.
        """
        ...

    def download(self, version: Version, into: BinaryIO) -> Lock:
        """Write the version's bytes to ``into`` (a file that can be written again from its beginning).

        Raises:
            Absent: it is not there any more.
            EvidenceError: it cannot be read.
        """
        ...


def firsts(store: VersionedStore, prefix: str, after: str = "") -> Iterator[Version]:
    """The evidence: of each key the oldest version that holds anything, whatever was put over it.

    Raises:
        EvidenceError: the store cannot be listed.
    """
    for _, group in groupby(store.versions(prefix, after), key=lambda one: one.key):
        first = next((one for one in group if not one.is_delete_marker), None)
        if first is not None:
            yield first


def fetch(store: VersionedStore, version: Version) -> bytes:
    """The version's bytes, in memory.

    Raises:
        EvidenceError: it cannot be read.
    """
    into = BytesIO()
    store.download(version, into)
    return into.getvalue()


class Hashed:
    """A file that hashes what is written to it, and begins anew when the download does."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._hash = hashlib.sha256()
        self.size_bytes = 0

    def write(self, data: bytes) -> int:
        """Write and hash."""
        self._hash.update(data)
        self.size_bytes += len(data)
        return self._file.write(data)

    def writelines(self, parts: Iterable[bytes]) -> None:
        """Write and hash each."""
        for part in parts:
            self.write(part)

    def seek(self, offset: int) -> int:
        """Only to the beginning.

        Raises:
            ValueError: to somewhere else.
        """
        if offset:
            raise ValueError("only to the beginning")
        self._hash = hashlib.sha256()
        self.size_bytes = 0
        return self._file.seek(0)

    def truncate(self) -> int:
        """Forget what was written beyond this place."""
        return self._file.truncate()

    @property
    def sha256(self) -> str:
        """Of what was written, in lower-case hex."""
        return self._hash.hexdigest()
