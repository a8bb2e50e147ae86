"""What a process beside Envoy asks of its admin interface: shortly, and without minding where there is no answer."""

from __future__ import annotations

import json
import socket
from http.client import HTTPConnection, HTTPException
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

from ext_proc.config.fields import socket_of

if TYPE_CHECKING:
    from pathlib import Path

_PATIENCE_SECONDS: Final = 2.0


class _OverSocket(HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path: Path, timeout: float) -> None:
        super().__init__("envoy", timeout=timeout)
        self._path = str(path)
        self._patience_seconds = timeout

    def connect(self) -> None:
        """See `HTTPConnection.connect`."""
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self._patience_seconds)
        self.sock.connect(self._path)


def connection(admin: str, patience_seconds: float) -> HTTPConnection:
    """To Envoy's admin interface, not opened yet. By no proxy of the environment's, which would answer for Envoy."""
    if (path := socket_of(admin)) is not None:
        return _OverSocket(path, patience_seconds)
    host, _, port = admin.rpartition(":")
    return HTTPConnection(host.strip("[]"), int(port), timeout=patience_seconds)


def ask_envoy(admin: str, path: str, method: str = "GET") -> bytes | None:
    """The answer; None: there is none, or it is not a good one.

    Args:
        admin: where it is (``listen.admin``).
        path: with its query, escaped.
        method: as HTTP has it.
    """
    asking = connection(admin, _PATIENCE_SECONDS)
    try:
        asking.request(method, path)
        answer = asking.getresponse()
        said = answer.read()
    except (OSError, HTTPException):
        return None
    finally:
        asking.close()
    return said if answer.status == 200 else None


def stats_path(pattern: str) -> str:
    """The path of the statistics whose names match an expression (RE2, anywhere in the name)."""
    return f"/stats?format=json&filter={quote(pattern)}"


def read_stats(said: bytes | None) -> dict[str, int]:
    """Counters and gauges by name.

    Raises:
        ValueError: that is not what Envoy says of its statistics.
    """
    try:
        return {str(one["name"]): int(one["value"]) for one in json.loads(said or b"")["stats"]}
    except (LookupError, TypeError, OverflowError) as error:
        raise ValueError(f"no statistics of Envoy's: {type(error).__name__}") from None
