"""A closed-loop load: N connections, each sends its next request when the last is answered. Std-lib, raw HTTP/1.1.

``python -m bench.load PORT CONNECTIONS SECONDS REQUESTS_MAX TOKEN`` prints one JSON object.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time

PROMPT = ("The quick brown fox jumps over the lazy dog near the river bank, and nobody minds at all. " * 10)[:840]


def request_bytes(token: str) -> bytes:
    """One request of about 1 KB."""
    body = json.dumps(
        {
            "model": "demo",
            "max_tokens": 64,
            "messages": [{"role": "user", "content": PROMPT + " Write to bob@example.com."}],
        }
    ).encode()
    head = (
        f"POST /v1/chat/completions HTTP/1.1\r\nhost: bench\r\ncontent-type: application/json\r\n"
        f"authorization: Bearer {token}\r\ncontent-length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


async def _one(port: int, request: bytes, until: float, budget: list[int], times: list[float]) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    while time.perf_counter() < until and budget[0] > 0:
        budget[0] -= 1
        started = time.perf_counter()
        writer.write(request)
        head = await reader.readuntil(b"\r\n\r\n")
        if not head.startswith(b"HTTP/1.1 200"):
            raise SystemExit(f"not 200: {head[:200]!r} {await reader.read(300)!r}")
        length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
        await reader.readexactly(length)
        times.append(time.perf_counter() - started)
    writer.close()


async def main() -> None:
    port, connections, seconds, most = int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]), int(sys.argv[4])
    request = request_bytes(sys.argv[5])
    times: list[float] = []
    started = time.perf_counter()
    budget = [most]
    await asyncio.gather(*(_one(port, request, started + seconds, budget, times) for _ in range(connections)))
    took = time.perf_counter() - started
    times.sort()
    told = {
        "count": len(times),
        "seconds": took,
        "p50_ms": 1000 * times[len(times) // 2],
        "p99_ms": 1000 * times[int(len(times) * 0.99)],
    }
    print(json.dumps(told))


if __name__ == "__main__":
    asyncio.run(main())
