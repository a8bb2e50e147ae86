"""What a process beside Envoy asks of its admin interface: shortly, and without minding where there is no answer."""

from __future__ import annotations

import urllib.request
from http.client import HTTPException
from typing import Final

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
