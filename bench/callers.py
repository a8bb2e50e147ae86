"""Callers who do not wait for each other, for `bench.soak`. Std-lib, raw HTTP/1.1; each kind in a process of its own.

``python -m bench.callers steady PORT TOKEN RATE SECONDS`` begins so many requests a second, whether or not the ones
before were answered, each timed from when it was due: a gateway that stops for a second cannot hide it. Prints one
JSON object: how many ended how, and the latencies of those that were answered with 200.

``python -m bench.callers slow PORT TOKEN COUNT SECONDS`` are callers who send a byte now and then, who read a byte now
and then, and who leave in the middle of either.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections import Counter
from contextlib import suppress
from typing import Final

from bench.load import request_bytes

PATIENCE_SECONDS: Final = 60.0
"""Longer than a call may be held; nobody is left without an answer for so long."""
LATE_MAX_SECONDS: Final = 0.25
"""If requests begin so much later than they were due, the caller is too slow for the rate, not the gateway."""
_SLOW_BYTES: Final = 40

Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Steady:
    """Requests at a rate, over connections that are kept where they can be."""

    def __init__(self, port: int, token: str) -> None:
        self._port = port
        self._request = request_bytes(token)
        self._idle: list[Connection] = []
        self.ended: Counter[str] = Counter()
        self.times: list[float] = []
        self.late = 0.0

    async def run(self, rate: float, seconds: float) -> None:
        """Begin them all, and wait for the last."""
        began = time.perf_counter()
        async with asyncio.TaskGroup() as group:
            for number in range(int(rate * seconds)):
                due = began + number / rate
                if (wait := due - time.perf_counter()) > 0:
                    await asyncio.sleep(wait)
                self.late = max(self.late, time.perf_counter() - due)
                group.create_task(self._one(due))
        for _, writer in self._idle:
            writer.close()

    async def _one(self, due: float) -> None:
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                status = await self._asked()
        except TimeoutError:
            self.ended["never answered"] += 1
        except (OSError, asyncio.IncompleteReadError):
            self.ended["broken"] += 1
        else:
            self.ended[status] += 1
            if status == "200":
                self.times.append(time.perf_counter() - due)

    async def _asked(self) -> str:
        reader, writer = self._idle.pop() if self._idle else await asyncio.open_connection("127.0.0.1", self._port)
        try:
            writer.write(self._request)
            head = (await reader.readuntil(b"\r\n\r\n")).lower()
            length = int(head.split(b"content-length:")[1].split(b"\r\n")[0])
            await reader.readexactly(length)
        except BaseException:
            writer.close()
            raise
        if b"connection: close" in head:
            writer.close()
        else:
            self._idle.append((reader, writer))
        return head.split(b" ", 2)[1].decode()


async def slow(port: int, token: str, count: int, seconds: float) -> dict[str, int]:
    """So many callers, each slow in one of four ways; how many were answered in the end."""
    request = request_bytes(token)
    ways = (_slow_to_send, _slow_to_read, _leaves_while_sending, _leaves_while_reading)
    told = await asyncio.gather(*(_slow_one(ways[one % 4], port, request, seconds) for one in range(count)))
    return dict(Counter(told))


async def _slow_one(way: object, port: int, request: bytes, seconds: float) -> str:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        with suppress(OSError, asyncio.IncompleteReadError):
            return await way(reader, writer, request, seconds)  # type: ignore[operator, no-any-return]
        return "broken"
    finally:
        writer.close()


async def _dribble(writer: asyncio.StreamWriter, request: bytes, seconds: float) -> None:
    size = len(request) // _SLOW_BYTES + 1
    for at in range(0, len(request), size):
        writer.write(request[at : at + size])
        await writer.drain()
        await asyncio.sleep(seconds / _SLOW_BYTES)


async def _slow_to_send(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: bytes, seconds: float
) -> str:
    await _dribble(writer, request, seconds)
    return (await reader.readuntil(b"\r\n")).split(b" ")[1].decode()


async def _slow_to_read(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: bytes, seconds: float
) -> str:
    writer.write(request)
    status = b""
    for _ in range(_SLOW_BYTES):
        status += await reader.readexactly(1)
        await asyncio.sleep(seconds / _SLOW_BYTES)
    return status.split(b" ")[1].decode()


async def _leaves_while_sending(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: bytes, seconds: float
) -> str:
    del reader
    await _dribble(writer, request[: len(request) // 2], seconds / 2)
    return "left"


async def _leaves_while_reading(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: bytes, seconds: float
) -> str:
    del seconds
    writer.write(request)
    await reader.readexactly(1)
    return "left"


async def main() -> None:
    """The command."""
    kind, port, token = sys.argv[1], int(sys.argv[2]), sys.argv[3]
    if kind == "slow":
        print(json.dumps(await slow(port, token, int(sys.argv[4]), float(sys.argv[5]))))
        return
    steady = Steady(port, token)
    await steady.run(float(sys.argv[4]), float(sys.argv[5]))
    times = [round(1000 * one, 2) for one in sorted(steady.times)]
    print(json.dumps({"ended": steady.ended, "late_seconds": steady.late, "times_ms": times}))


if __name__ == "__main__":
    asyncio.run(main())
