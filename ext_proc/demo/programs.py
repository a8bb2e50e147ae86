"""Starting and stopping other programs: on loopback, on free ports, by process id, and never left behind."""

from __future__ import annotations

import http.client
import itertools
import os
import random
import signal
import socket
import subprocess
import time
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from ext_proc.app.process import end_with_parent

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

TOOLS: Final = Path(__file__).resolve().parent.parent.parent / ".tools"
READY_SECONDS: Final = 180.0
STOP_SECONDS: Final = 30.0
"""The gate's own way out is the longest: exchanges in flight end, then the rest of the evidence is shipped."""
_LOG_LINES: Final = 15
_PORTS: Final = itertools.cycle(random.sample(range(10000, 20000), 10000))
"""In an order of each process's own, so that two that run side by side seldom ask for the same."""


class ProgramError(Exception):
    """A program did not start or did not become ready; the message holds the end of its log."""


@dataclass(slots=True)
class Program:
    """A running program."""

    name: str
    process: subprocess.Popen[bytes]
    log: Path
    patience_seconds: float = STOP_SECONDS

    @property
    def pid(self) -> int:
        """Its process id."""
        return self.process.pid

    def stop(self) -> None:
        """SIGTERM, and SIGKILL if it does not listen. Does nothing to a program that has ended."""
        if self.process.poll() is not None:
            return
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(self.patience_seconds)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def wait_until(self, is_ready: Callable[[], bool], seconds: float = READY_SECONDS) -> None:
        """Wait until ``is_ready``. A program that does not get there (or whose wait is broken off) is stopped.

        Raises:
            ProgramError: it ended, or took too long.
        """
        try:
            self._wait(is_ready, seconds)
        except BaseException:
            self.stop()
            raise

    def _wait(self, is_ready: Callable[[], bool], seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while True:
            self.check()
            if is_ready():
                return
            if time.monotonic() > deadline:
                raise ProgramError(f"{self.name} is not ready after {seconds:.0f} s:\n{self._said()}")
            time.sleep(0.05)

    def check(self) -> None:
        """Does it run?

        Raises:
            ProgramError: it ended by itself.
        """
        if self.process.poll() is not None:
            raise ProgramError(f"{self.name} ended with status {self.process.returncode}:\n{self._said()}")

    def _said(self) -> str:
        lines = self.log.read_text(errors="replace").splitlines()[-_LOG_LINES:]
        return "\n".join("  " + line for line in lines) + f"\n  (the whole log: {self.log})"


def start(
    name: str,
    command: Sequence[str | Path],
    logs: Path,
    environment: Mapping[str, str] | None = None,
    patience_seconds: float = STOP_SECONDS,
) -> Program:
    """Start a program with its output in ``logs``; it ends with us. After the patience it is killed, not asked."""
    logs.mkdir(parents=True, exist_ok=True)
    log = logs / f"{name}.log"
    with log.open("ab") as out:
        process = subprocess.Popen(
            [str(part) for part in command],
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            env={**os.environ, **(environment or {})},
            preexec_fn=end_with_parent,  # noqa: PLW1509 - set before exec, and we start from the main thread
            process_group=0,  # Ctrl-C is for us: we stop the programs in order
        )
    return Program(name, process, log, patience_seconds)


def free_ports(count: int, *, with_grpc: bool = False) -> list[int]:
    """Ports on loopback that nobody listens on; ``with_grpc``: the port 10,000 higher is free too.

    None is of the range that the kernel takes the near end of connections from (32768 and up where nobody changed it):
    a server that starts a minute later, or anew, would find its port taken by a connection of its own neighbours. And
    none is given twice by one process, as long as there are others.
    """
    free = (port for port in _PORTS if _is_free(port) and (not with_grpc or _is_free(port + 10000)))
    return list(itertools.islice(free, count))


def _is_free(port: int) -> bool:
    with closing(socket.socket()) as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def answers(port: int, path: str, expected: Sequence[int] = (200,)) -> Callable[[], bool]:
    """A readiness check: does ``GET path`` on loopback answer with an expected status?"""

    def check() -> bool:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
        try:
            connection.request("GET", path)
            return connection.getresponse().status in expected
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()

    return check


def tool(name: str) -> Path:
    """A program that ``make setup`` installed.

    Raises:
        ProgramError: it did not.
    """
    path = TOOLS / "bin" / name
    if not path.exists():
        raise ProgramError(f"{path} is not there: run `make setup`")
    return path
