"""Is the disk under ``state_dir`` one that keeps what it says it keeps, and large enough?"""

from __future__ import annotations

import os
import statistics
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Final

from ext_proc.app import registry
from ext_proc.app.doctor.envoy import FAIL, OK, WARN, Finding
from ext_proc.audit import segments

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ext_proc.config import Config

FORGETFUL: Final = ("tmpfs", "ramfs", "overlay", "devtmpfs")
"""File systems that are gone with the machine, or with the container."""
HONEST_SECONDS: Final = 0.00002
"""No disk makes a write durable in less: a cache without a battery says so, or nobody asked it."""
SLOW_SECONDS: Final = 0.05
_TIMES: Final = 20
_BYTES: Final = 4096


def look(config: Config) -> Iterator[Finding]:
    """All there is to say of it."""
    directory = registry.evidence_directory(config)
    if not directory.is_dir():
        yield Finding("disk.evidence", FAIL, f"{directory}: is not there", "start affidavit serve once")
        return
    yield _kind(config.state_dir)
    if directory.stat().st_dev != config.state_dir.stat().st_dev:
        says = "evidence is on another file system than the rest of state_dir: a rename between them is a copy"
        yield Finding("disk.one", FAIL, says, "mount state_dir as a whole")
    else:
        yield Finding("disk.one", OK, "state_dir is one file system")
    yield _room(config, directory)
    yield _honesty(directory)
    waiting = [path.name for path in directory.glob(f"[!.]*/*{segments.QUARANTINE}")]
    if waiting:
        says = f"{len(waiting)} pieces of evidence that do not check, in {directory}"
        yield Finding("disk.quarantine", FAIL, says, "docs/runbook.md#affidavitquarantined")


def _kind(folder: Path, mounts: str | None = None) -> Finding:
    found = kind_of(folder, Path("/proc/mounts").read_text() if mounts is None else mounts)
    if found in FORGETFUL:
        says = f"state_dir is on {found}: what is not shipped is gone with the machine"
        return Finding("disk.lasting", FAIL, says, "a persistent volume")
    return Finding("disk.lasting", OK, f"state_dir is on {found or 'a file system that is not listed'}")


def kind_of(folder: Path, mounts: str) -> str:
    """The kind of the file system that a folder is on, by the kernel's table (last mount wins)."""
    path = str(folder.resolve())
    best, kind = "", ""
    for line in mounts.splitlines():
        _, place, found, *_ = line.split(" ")
        place = place.replace("\\040", " ")
        inside = place in {"/", path} or path.startswith(f"{place}/")
        if inside and len(place) >= len(best):
            best, kind = place, found
    return kind


def _room(config: Config, directory: Path) -> Finding:
    told = os.statvfs(directory)
    free, used = told.f_bavail * told.f_frsize, segments.used_bytes(directory)
    wanted = config.audit.wal.max_bytes - used
    # Files are made at their full size, so an idle gateway takes room, too: that is not a backlog.
    says = f"{free >> 20} MiB are free; evidence takes {used >> 20} MiB and may take {wanted >> 20} MiB more"
    if free < wanted:
        return Finding("disk.room", FAIL, says, "a larger disk, or a smaller audit.wal.max_bytes")
    return Finding("disk.room", OK, says)


def _honesty(directory: Path) -> Finding:
    """How long a sync takes. Too short is as bad as too long."""
    path = directory / f".doctor-{os.getpid()}"
    took = []
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            for number in range(_TIMES):
                os.pwrite(descriptor, os.urandom(_BYTES), number * _BYTES)
                began = perf_counter()
                os.fdatasync(descriptor)
                took.append(perf_counter() - began)
        finally:
            os.close(descriptor)
    except OSError as error:
        return Finding("disk.sync", FAIL, f"{directory}: {error.strerror}", "the gate must be able to write there")
    finally:
        path.unlink(missing_ok=True)
    return judge_sync(statistics.median(took))


def judge_sync(median_seconds: float) -> Finding:
    """What a sync that takes so long says of the disk."""
    says = f"making 4 KiB durable takes {median_seconds * 1000:.3f} ms (median of {_TIMES})"
    if median_seconds < HONEST_SECONDS:
        return Finding("disk.sync", WARN, f"{says}: no disk is so fast", "is its write cache without a battery?")
    if median_seconds > SLOW_SECONDS:
        return Finding("disk.sync", WARN, f"{says}: every call waits for two of these", "a faster disk")
    return Finding("disk.sync", OK, says)
