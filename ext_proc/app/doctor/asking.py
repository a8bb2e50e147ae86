"""How a doctor asks others over HTTP: once, shortly, and without believing."""

from __future__ import annotations

import json
import ssl
import urllib.request
from email.utils import parsedate_to_datetime
from http.client import HTTPException
from typing import TYPE_CHECKING, Any, Final
from urllib.error import HTTPError, URLError

if TYPE_CHECKING:
    from datetime import datetime
    from pathlib import Path

PATIENCE_SECONDS: Final = 5.0
ANSWER_MAX_BYTES: Final = 64 * 1024 * 1024
"""Envoy's own settings, with certificates and many routes, are megabytes."""


class Unreachable(Exception):
    """It does not answer, or not with what was asked for; the message says how."""


def asked(url: str, ca_file: Path | None = None) -> tuple[bytes, datetime | None]:
    """The answer's body, and the time that it says it is.

    Raises:
        Unreachable: there is none.
    """
    context = ssl.create_default_context(cafile=ca_file) if url.startswith("https:") else None
    # No proxy of the environment's: it would answer for Envoy, and the gate asks issuers without one.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context))
    try:
        with opener.open(url, timeout=PATIENCE_SECONDS) as answer:
            body, date = answer.read(ANSWER_MAX_BYTES), answer.headers.get("date")
    except HTTPError as error:
        raise Unreachable(f"status {error.code}") from None
    except URLError as error:
        raise Unreachable(str(error.reason)) from None
    except (OSError, ValueError, HTTPException) as error:
        raise Unreachable(type(error).__name__) from None
    try:
        return body, parsedate_to_datetime(date) if date else None
    except ValueError:
        return body, None


def asked_json(url: str, ca_file: Path | None = None) -> dict[str, Any]:
    """The answer as an object.

    Raises:
        Unreachable: there is none.
    """
    try:
        found = json.loads(asked(url, ca_file)[0])
    except ValueError:
        raise Unreachable("not JSON") from None
    if not isinstance(found, dict):
        raise Unreachable("not an object")
    return found
