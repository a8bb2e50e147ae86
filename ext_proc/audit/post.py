"""One question by HTTP to somebody outside, with one deadline over all of it: connection, every byte of the answer.

No retry, no redirect, no proxy from the environment. Nothing in the answer is believed: its caller checks a signature.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Final

import aiohttp

ANSWER_MAX_BYTES: Final = 64 * 1024


class Unreachable(Exception):
    """No whole answer before the deadline. The message is a stable word of ours."""


@dataclass(frozen=True, slots=True)
class Reply:
    """Status and body of an answer."""

    status: int
    body: bytes


def post(url: str, body: bytes, content_type: str, deadline_seconds: float) -> Reply:
    """POST ``body`` and wait for the answer, whatever its status. Blocks; not to be called from an event loop.

    Raises:
        Unreachable: no connection, too slow, too long, or no HTTP.
    """
    return asyncio.run(_post(url, body, content_type, deadline_seconds))


async def _post(url: str, body: bytes, content_type: str, deadline_seconds: float) -> Reply:
    headers = {"Content-Type": content_type}
    timeout = aiohttp.ClientTimeout(total=deadline_seconds)
    try:
        async with (
            aiohttp.ClientSession(timeout=timeout, auto_decompress=False) as session,
            session.post(url, data=body, headers=headers, allow_redirects=False) as answer,
        ):
            found = bytearray()
            async for part in answer.content.iter_any():
                found += part
                if len(found) > ANSWER_MAX_BYTES:
                    raise Unreachable("answer_too_long")
            return Reply(answer.status, bytes(found))
    except TimeoutError:
        raise Unreachable("too_slow") from None
    except (aiohttp.ClientError, OSError, ValueError) as error:  # ValueError: no URL
        raise Unreachable(type(error).__name__) from None
