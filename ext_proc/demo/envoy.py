"""A real Envoy: started from a rendered bootstrap, ready when this returns."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from ext_proc.demo.programs import Program, answers, start, tool

if TYPE_CHECKING:
    from pathlib import Path


def start_envoy(bootstrap: Path, admin: str, logs: Path, *, concurrency: int = 2) -> Program:
    """Start Envoy and wait until it takes requests.

    Args:
        bootstrap: the rendered bootstrap.
        admin: base URL of its admin interface.
        logs: folder for its own log.
        concurrency: worker threads.

    Raises:
        ProgramError: it ended, or was not ready in time.
    """
    program = start(
        "envoy",
        (
            tool("envoy"),
            "--config-path",
            bootstrap,
            # Two Envoys on one host would otherwise need base ids of their own for shared memory.
            "--disable-hot-restart",
            "--concurrency",
            str(concurrency),
            # By default lines of the access log may wait 10 s, and are lost when Envoy is killed (measured).
            "--file-flush-interval-msec",
            "200",
            "--drain-time-s",
            "1",
            "--log-level",
            "warning",
        ),
        logs,
    )
    program.wait_until(answers(urlsplit(admin).port or 0, "/ready"))
    return program
