"""What every process of ours does: read the clock, end with its parent, and say how it is.

The last in a small file that the supervisor reads. Light to import: commands and the demo's issuer use it too.
"""

from __future__ import annotations

import ctypes
import fcntl
import json
import os
import resource
import signal
import sys
from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from ext_proc import files

if TYPE_CHECKING:
    from pathlib import Path

_PR_SET_PDEATHSIG: Final = 1
_PR_SET_CHILD_SUBREAPER: Final = 36


RELOAD_SECONDS: Final = 10.0
"""Time for the workers to put a changed configuration on record and take it over."""
LOCK_FILE: Final = "lock"
"""In ``run_dir``: held by the supervisor that runs there."""
DESCRIPTORS: Final = 65536
"""Enough for every connection that one process can serve."""
PARENT_VARIABLE: Final = "AFFIDAVIT_PARENT"
"""Environment: who started us, so that a parent that died before we could ask the kernel is noticed too."""


def clock() -> datetime:
    """Now, in aware UTC: the only clock of the process."""
    return datetime.now(UTC)  # noqa: TID251 - here it is read, everywhere else handed in


def end_with_parent() -> None:
    """Ask the kernel for SIGTERM when the parent dies: no gate without its supervisor. (Linux; elsewhere nothing.)"""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    parent = os.environ.get(PARENT_VARIABLE)
    if parent is not None and parent != str(os.getppid()):
        raise SystemExit("affidavit: the process that started this one is gone")


def adopt_orphans() -> None:
    """Be the parent of every process below us whose own has died (prctl(2)), as process 1 is of all. (Linux.)"""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1)


class Orphans:
    """The dead among the adopted, whom nobody waits for: without a look now and then each keeps its number for ever."""

    def __init__(self) -> None:
        self._seen: int | None = None

    def look(self) -> None:
        """Bury one that was dead at the last look, too. Whoever somebody waits for is waited for long before that."""
        with suppress(ChildProcessError):  # there are none
            if self._seen is not None and self._first() == self._seen:
                os.waitpid(self._seen, os.WNOHANG)
            self._seen = self._first()

    @staticmethod
    def _first() -> int | None:
        found = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        return None if found is None else found.si_pid


def hold_sigterm() -> None:
    """Let it wait: a child is forked that has yet to say what it does then, and would just be gone."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})


def release_sigterm() -> None:
    """Let it come, also one that waits. Every process calls this before it starts threads or others, which inherit."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})


def allow_descriptors() -> None:
    """As many files and connections as we may have. A shell and systemd give 1024 at first and leave the rest to be
    asked for: that many connections of one stranger would leave a server none for its own work.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, DESCRIPTORS)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def give_back_memory() -> None:
    """To the system, what the allocator keeps for later (malloc_trim(3); nothing where the C library has none).

    For who holds much for a moment and then waits: else a process is for ever as large as its largest moment.
    """
    with suppress(AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


def tell(run_dir: Path, name: str, state: dict[str, Any]) -> None:
    """Write ``state`` where `read_states` finds it.

    A full or failing disk must not end the process that reports it: what cannot be told is left out, and the old state
    becomes stale, which the supervisor takes for "does not answer".
    """
    with suppress(OSError):
        files.replace(run_dir / "state" / f"{name}.json", json.dumps({**state, "pid": os.getpid()}), is_durable=False)


def read_states(run_dir: Path) -> dict[str, dict[str, Any]]:
    """What each process last said, by name. What cannot be read says nothing: the supervisor must not end of it."""
    found: dict[str, dict[str, Any]] = {}
    paths: list[Path] = []
    with suppress(OSError):  # no file descriptor is left, the disk fails
        paths = sorted((run_dir / "state").glob("*.json"))
    for path in paths:
        with suppress(OSError, ValueError):  # removed meanwhile, or not ours
            found[path.stem] = json.loads(path.read_text())
    return found


def is_supervised(run_dir: Path) -> bool:
    """Does a supervisor run there? What it last said outlives it, its lock does not."""
    try:
        descriptor = os.open(run_dir / LOCK_FILE, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False
