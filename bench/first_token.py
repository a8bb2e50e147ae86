"""How much later a streamed answer's words come through the gateway: the first one, and between two.

A service says a token every 20 ms. The same stream is read from it directly and through real Envoy with everything on
(JWT, OPA, masking, a durable part before each piece), one after the other, several times; the figures are of what the
gateway adds, in milliseconds. ``first``: how much later the first event is there, after that of the head of a call
that does not stream (which pays for token, policy and intent too). ``gap``: how much the longest pause grows.

``python -m bench.first_token`` prints a table and writes ``bench/out/first_token.json``; ``--check`` fails over 5 ms.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import sys
import tempfile
from pathlib import Path
from statistics import median, quantiles
from time import perf_counter
from typing import TYPE_CHECKING, Any, Final

from rich.console import Console
from rich.table import Table

from ext_proc.demo.programs import free_ports
from ext_proc.demo.stack import Stack, StackOptions

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

OUT: Final = Path(__file__).parent / "out" / "first_token.json"
LATER_MAX_MS: Final = 5.0
_GAP_SECONDS: Final = 0.02
_TEXT: Final = (
    "The committee met on Tuesday and went through the plan once more. Nobody objected, so the work begins next month "
    "and should be finished before the holidays, if the weather allows it and the parts arrive in time. "
)
_HEAD: Final = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"


def events(words: Sequence[str]) -> list[bytes]:
    """A chat's answer of these pieces."""
    made = [
        {"id": "c", "object": "chat.completion.chunk", "choices": [{"index": 0, "delta": {"content": word}}]}
        for word in words
    ]
    return [f"data: {json.dumps(one)}\n\n".encode() for one in made]


def prose(count: int) -> list[str]:
    """So many words, none of which any rule looks at."""
    return [f"{word} " for word in (_TEXT * (count // 30 + 1)).split(" ")[:count]]


def _chunk(data: bytes) -> bytes:
    return f"{len(data):x}\r\n".encode() + data + b"\r\n"


async def serve(port: int, said: Sequence[bytes]) -> asyncio.Server:
    """A service that answers every request with these events, 20 ms apart."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = next(
                    (
                        int(line.split(b":")[1])
                        for line in head.split(b"\r\n")
                        if line.lower().startswith(b"content-length")
                    ),
                    0,
                )
                await reader.readexactly(length)
                writer.write(_HEAD)
                for event in said:
                    writer.write(_chunk(event))
                    await writer.drain()
                    await asyncio.sleep(_GAP_SECONDS)
                writer.write(_chunk(b"data: [DONE]\n\n") + _chunk(b""))
                await writer.drain()
        writer.close()

    return await asyncio.start_server(answer, "127.0.0.1", port)


async def came(port: int, token: str) -> AsyncIterator[tuple[float, bytes]]:
    """Ask for a stream: what comes and after how many seconds; the head first, and up to the event that ends it."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    body = json.dumps({"model": "demo", "stream": True, "messages": [{"role": "user", "content": "hello"}]}).encode()
    began = perf_counter()
    writer.write(
        f"POST /v1/chat/completions HTTP/1.1\r\nhost: bench\r\ncontent-type: application/json\r\n"
        f"authorization: Bearer {token}\r\ncontent-length: {len(body)}\r\n\r\n".encode()
        + body
    )
    head = await reader.readuntil(b"\r\n\r\n")
    yield perf_counter() - began, head
    end = b""
    while b"[DONE]" not in end and (data := await reader.read(65536)):
        end = end[-8:] + data
        yield perf_counter() - began, data
    writer.close()


async def _read(port: int, token: str) -> tuple[float, list[float]]:
    """Seconds until the head is there, and then of each event."""
    (head, _), *rest = [one async for one in came(port, token)]
    return head, [at for at, data in rest if b"data: " in data and b"[DONE]" not in data]


def _figures(direct: tuple[float, list[float]], gated: tuple[float, list[float]]) -> dict[str, float]:
    """Milliseconds: of the first event after the head, and of the pauses."""

    def pauses(one: tuple[float, list[float]]) -> list[float]:
        return [later - earlier for earlier, later in zip(one[1], one[1][1:], strict=False)]

    first = (gated[1][0] - gated[0]) - (direct[1][0] - direct[0])
    gaps = [1000 * (ours - median(pauses(direct))) for ours in pauses(gated)]
    return {
        "first_ms": 1000 * first,
        "head_ms": 1000 * (gated[0] - direct[0]),
        "gap_median_ms": median(gaps),
        "gap_p99_ms": quantiles(gaps, n=100)[98],
        "events": float(len(gated[1])),
    }


async def measure(stack: Stack, port: int, rounds: int, count: int) -> list[dict[str, float]]:
    """What the gateway adds to one stream, for each round."""
    server = await serve(port, events(prose(count)))
    token = stack.token("ada", ["analysts"])
    found = []
    for _ in range(rounds + 1):  # the first one warms everything up
        direct = await _read(port, token)
        found.append(_figures(direct, await _read(stack.ports["http"], token)))
    server.close()
    return found[1:]


def medians(found: Sequence[dict[str, float]]) -> dict[str, float]:
    """Of all rounds."""
    return {name: median(one[name] for one in found) for name in found[0]}


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m bench.first_token", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--events", type=int, default=100)
    parser.add_argument("--check", action="store_true", help="status 1 where a bound is not kept")
    options = parser.parse_args()
    [port] = free_ports(1)
    with tempfile.TemporaryDirectory(prefix="affidavit-bench-") as folder:
        stack = Stack(Path(folder), StackOptions(upstream=f"http://127.0.0.1:{port}", workers=1))
        stack.start()
        try:
            found = asyncio.run(measure(stack, port, options.rounds, options.events))
        finally:
            stack.stop()
    told: dict[str, Any] = medians(found)
    OUT.parent.mkdir(exist_ok=True)
    OUT.write_text(json.dumps(told, indent=2) + "\n")
    table = Table("what the gateway adds to a stream of a token every 20 ms", "ms", "at most")
    table.add_row("first event, after the head", f"{told['first_ms']:.1f}", f"{LATER_MAX_MS:.0f}")
    table.add_row("a pause between two, median", f"{told['gap_median_ms']:.1f}", f"{LATER_MAX_MS:.0f}")
    table.add_row("a pause between two, p99", f"{told['gap_p99_ms']:.1f}", "")
    table.add_row("the head (token, policy, intent, part 0)", f"{told['head_ms']:.1f}", "")
    Console().print(table)
    is_kept = told["first_ms"] <= LATER_MAX_MS and told["gap_median_ms"] <= LATER_MAX_MS
    return 1 if options.check and not is_kept else 0


if __name__ == "__main__":
    sys.exit(main())
