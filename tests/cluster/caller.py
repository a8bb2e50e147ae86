"""Callers, inside the node: some that call without a pause until they are told to stop, or one call.

Standard input is one line of JSON: ``url``, ``token``, and ``callers`` (how many; 0: one call with ``body``, once). Each
answer is a line on standard output: ``at``, ``status`` (0: none), ``exchange``, ``whole``, ``why``. A second line on
standard input, or its end, stops them: calls that are under way are let end.
"""

from __future__ import annotations

import asyncio
import json
import ssl
import sys
import time
from typing import Any

import aiohttp

CALL_SECONDS = 120.0
PAUSE_SECONDS = 0.05


async def main() -> None:
    """Everything."""
    told = json.loads(sys.stdin.readline())
    tls = ssl.create_default_context()
    tls.check_hostname, tls.verify_mode = False, ssl.CERT_NONE
    # A connection for each call: so all pods are called, and none longer than it is there.
    connector = aiohttp.TCPConnector(ssl=tls, force_close=True, limit=0)
    headers = {"authorization": f"Bearer {told['token']}"}
    timeout = aiohttp.ClientTimeout(total=CALL_SECONDS, connect=5)
    async with aiohttp.ClientSession(connector=connector, headers=headers, timeout=timeout) as session:
        if not told["callers"]:
            print(json.dumps(await called(session, told["url"], told["body"])))
            return
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        loop.add_reader(sys.stdin, lambda: (stop.set(), loop.remove_reader(sys.stdin)))
        async with asyncio.TaskGroup() as group:
            for number in range(told["callers"]):
                group.create_task(calling(session, told["url"], number, stop))


async def calling(session: aiohttp.ClientSession, url: str, number: int, stop: asyncio.Event) -> None:
    """One caller: whole answers and streamed ones in turn; some take a second."""
    count = 0
    while not stop.is_set():
        text = f"slow 1 call {number}-{count}" if count % 5 == 4 else f"call {number}-{count}"
        body = {"model": "demo", "messages": [{"role": "user", "content": text}], "stream": count % 2 == 1}
        print(json.dumps(await called(session, url, body)), flush=True)
        count += 1
        await asyncio.sleep(PAUSE_SECONDS)


async def called(session: aiohttp.ClientSession, url: str, body: dict[str, Any]) -> dict[str, Any]:
    """One call."""
    made: dict[str, Any] = {"at": time.time(), "status": 0, "exchange": None, "whole": False, "why": ""}
    try:
        async with session.post(f"{url}/v1/chat/completions", json=body) as answer:
            made["status"], made["exchange"] = answer.status, answer.headers.get("x-affidavit-exchange")
            made["request"] = answer.headers.get("x-request-id")
            said = await answer.read()
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        made["why"] = f"{type(error).__name__}: {error}"
        return made
    made["whole"] = b"[DONE]" in said if body.get("stream") and made["status"] == 200 else True
    if made["status"] != 200 or not body.get("stream"):
        made["body"] = said.decode(errors="replace")
    return made


if __name__ == "__main__":
    asyncio.run(main())
