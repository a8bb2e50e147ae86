"""How a doctor asks others over HTTP: once, shortly, and without believing."""

from __future__ import annotations

import json
import ssl
import urllib.request
from email.utils import parsedate_to_datetime
from http.client import HTTPException
from typing import TYPE_CHECKING, Any, Final
from urllib.error import HTTPError, URLError

from ext_proc.app.envoy_admin import connection

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
    # No proxy of the environment's: the gate asks issuers without one.
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


def told_by_envoy(admin: str, path: str) -> dict[str, Any]:
    """What Envoy says of itself, as an object.

    Args:
        admin: where its admin interface is (``listen.admin``).
        path: as in a URL.

    Raises:
        Unreachable: it does not say.
    """
    asking = connection(admin, PATIENCE_SECONDS)
    try:
        asking.request("GET", path)
        answer = asking.getresponse()
        body = answer.read(ANSWER_MAX_BYTES)
    except (OSError, HTTPException) as error:
        raise Unreachable(getattr(error, "strerror", None) or type(error).__name__) from None
    finally:
        asking.close()
    if answer.status != 200:
        raise Unreachable(f"status {answer.status}")
    try:
        found = json.loads(body)
    except ValueError:
        raise Unreachable("not JSON") from None
    if not isinstance(found, dict):
        raise Unreachable("not an object")
    return found
