"""Segment files: preallocated, appended to, closed for good. Durable only where it says so.

File names in an epoch's folder: ``<first>.wal`` (being written), ``<first>.sealed`` (complete, to be shipped),
``<first>.quarantine`` (cannot be shipped; kept for a person), ``spare`` (preallocated, empty), ``ended`` (the log has
its last leaf: nobody may write another, whatever of it is still here), ``born`` (its birth record is in the store),
``state.json`` (what the shipper remembers, see `epoch`).
"""

from __future__ import annotations

import fcntl
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from ext_proc.files import sync_folder

if TYPE_CHECKING:
    from pathlib import Path

WRITING: Final = ".wal"
SEALED: Final = ".sealed"
QUARANTINE: Final = ".quarantine"
SPARE: Final = "spare"
LOCK: Final = "lock"
ENDED: Final = "ended"
BORN: Final = "born"


@dataclass(frozen=True, slots=True)
class FileOps:
    """The system calls that matter for durability: a seam for fault injection."""

    def sync(self, descriptor: int) -> None:
        """fdatasync: the bytes are on the disk when this returns."""
        os.fdatasync(descriptor)

    def write(self, descriptor: int, data: bytes, offset: int) -> None:
        """Write all of ``data`` at ``offset``."""
        view = memoryview(data)
        while view:
            done = os.pwrite(descriptor, view, offset)
            view, offset = view[done:], offset + done

    def allocate(self, path: Path, size_bytes: int) -> None:
        """Make a file of ``size_bytes`` zeros whose blocks are there: writing into it cannot run out of space."""
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
        try:
            self.extend(descriptor, size_bytes)
        finally:
            os.close(descriptor)

    def extend(self, descriptor: int, size_bytes: int) -> None:
        """Make an open file ``size_bytes`` long, as `allocate` does."""
        os.posix_fallocate(descriptor, 0, size_bytes)
        os.fsync(descriptor)


def name_of(first_sequence: int, suffix: str) -> str:
    """Names sort as sequences do."""
    return f"{first_sequence:016d}{suffix}"


def take_lock(folder: Path) -> int | None:
    """Lock an epoch for this process's life. None: another process lives and writes it."""
    descriptor = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor


def mark_ended(folder: Path) -> None:
    """Say, durably, that the log in ``folder`` has its end."""
    (folder / ENDED).touch(0o600)
    sync_folder(folder)


def used_bytes(directory: Path) -> int:
    """Bytes of all epochs' files. What the shipper frees meanwhile does not count."""
    total = 0
    for folder in directory.iterdir():
        try:
            found = list(os.scandir(folder))
        except (FileNotFoundError, NotADirectoryError):
            continue
        for entry in found:
            try:
                total += entry.stat().st_size
            except FileNotFoundError:
                continue
    return total
