"""What a process beside Envoy asks of its admin interface: shortly, and without minding where there is no answer."""

from __future__ import annotations

import json
import urllib.request
from http.client import HTTPException
from typing import Final
from urllib.parse import quote

_PATIENCE_SECONDS: Final = 2.0


def ask_envoy(admin: str, path: str, method: str = "GET") -> bytes | None:
    """The answer; None: there is none, or it is not a good one.

    Args:
        admin: host and port (``listen.admin``).
        path: with its query, escaped.
        method: as HTTP has it.
    """
    request = urllib.request.Request(f"http://{admin}{path}", method=method)
    # No proxy of the environment's, which the store may need: it would answer for Envoy.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=_PATIENCE_SECONDS) as answer:
            said: bytes = answer.read()
    except (OSError, HTTPException):
        return None
    return said


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
