"""A disk that fails as told: `FileOps` with faults, over the real file system."""

from __future__ import annotations

import errno
import os
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ext_proc.audit.segments import FileOps

if TYPE_CHECKING:
    from pathlib import Path

_ERRORS = {"EIO": errno.EIO, "ENOSPC": errno.ENOSPC}


@dataclass
class Faults:
    """What goes wrong from now on. Change it while the writer runs."""

    write: str = ""
    sync: str = ""
    allocate: str = ""
    extend: str = ""
    after: int = 0
    """So many calls of a failing kind still succeed."""
    syncs: int = 0
    writes: int = 0
    allocations: int = 0
    slow: threading.Event = field(default_factory=threading.Event)
    """Unset: a sync waits until it is set."""

    def __post_init__(self) -> None:
        self.slow.set()

    def strike(self, name: str) -> None:
        """Raise if the system call ``name`` is to fail now."""
        fault = getattr(self, name)
        if not fault:
            return
        if self.after > 0:
            self.after -= 1
            return
        raise OSError(_ERRORS[fault], os.strerror(_ERRORS[fault]))


@dataclass(frozen=True, slots=True)
class BadDisk(FileOps):
    """The system calls, with `Faults`."""

    faults: Faults = field(default_factory=Faults)

    def sync(self, descriptor: int) -> None:
        """Fdatasync, or the fault: then the bytes may be there or not."""
        self.faults.slow.wait(20)
        self.faults.syncs += 1
        self.faults.strike("sync")
        FileOps.sync(self, descriptor)

    def write(self, descriptor: int, data: bytes, offset: int) -> None:
        """Write, or all but the end of it and then the fault: of many frames in one write, the last is torn."""
        self.faults.writes += 1
        try:
            self.faults.strike("write")
        except OSError:
            FileOps.write(self, descriptor, data[:-20], offset)
            raise
        FileOps.write(self, descriptor, data, offset)

    def allocate(self, path: Path, size_bytes: int) -> None:
        """Make the file; with the fault, a part of it stays behind, as posix_fallocate leaves it."""
        self.faults.allocations += 1
        try:
            self.faults.strike("allocate")
        except OSError:
            path.write_bytes(b"\0" * 512)
            raise
        FileOps.allocate(self, path, size_bytes)

    def extend(self, descriptor: int, size_bytes: int) -> None:
        """Make an open file longer, or the fault."""
        self.faults.strike("extend")
        FileOps.extend(self, descriptor, size_bytes)
