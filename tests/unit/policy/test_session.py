"""`ext_proc.policy.session`: exactly one whole answer of HTTP/1.1, or an error; never an answer to another question."""

from __future__ import annotations

import asyncio
import json
import tempfile
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import aiohttp
import pytest

from ext_proc.policy.session import ANSWER_MAX_BYTES, UnixSession, read_answer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

OK = b"HTTP/1.1 200 OK\r\n"
BODY = b'{"a": 1}'
WHOLE = OK + b"Content-Length: 8\r\n\r\n" + BODY
CHUNKED = OK + b"transfer-encoding: chunked\r\n\r\n3\r\n" + BODY[:3] + b"\r\n5\r\n" + BODY[3:] + b"\r\n0\r\n\r\n"


@pytest.mark.parametrize("answer", [WHOLE, CHUNKED])
async def test_read_whole_however_it_comes(answer: bytes) -> None:
    for end in range(len(answer)):
        assert read_answer(answer[:end]) is None
    found = read_answer(answer)
    assert found is not None
    told, is_kept = found
    assert (told.status, await told.json(), is_kept) == (200, {"a": 1}, True)


def test_a_connection_that_is_to_end_is_not_kept() -> None:
    found = read_answer(OK + b"connection: close\r\ncontent-length: 0\r\n\r\n")
    assert found is not None
    assert found[1] is False


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.0 200 OK\r\ncontent-length: 0\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\n",
        b"HTTP/1.1 2x0 OK\r\ncontent-length: 0\r\n\r\n",
        b"junk\r\n\r\n",
        OK + b"\r\n",
        OK + b"content-length: -1\r\n\r\n",
        OK + b"content-length: 1\r\ncontent-length: 2\r\n\r\n",
        OK + b"content-length: 8\r\ntransfer-encoding: chunked\r\n\r\n",
        OK + b"transfer-encoding: gzip, chunked\r\n\r\n",
        OK + b"transfer-encoding: chunked\r\n\r\n0x1\r\na\r\n",
        OK + b"transfer-encoding: chunked\r\n\r\n-1\r\na\r\n",
        OK + b"transfer-encoding: chunked\r\n\r\n1\r\nabc",
        CHUNKED + b"H",
        WHOLE + b"H",
    ],
)
def test_anything_else_is_no_answer(answer: bytes) -> None:
    with pytest.raises(ValueError, match=r"^(status line|length|chunk|more than one answer)$"):
        read_answer(answer)


class Server:
    """Answers each question with what it was asked, when it is told to. ``extra`` is said unasked after an answer."""

    def __init__(self) -> None:
        self.connections = 0
        self.hold = asyncio.Event()
        self.hold.set()
        self.extra = b""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                body = await reader.readexactly(int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0]))
                await self.hold.wait()
                writer.write(OK + b"content-length: %d\r\n\r\n" % len(body) + body + self.extra)
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass
        finally:
            writer.close()


@asynccontextmanager
async def running(seconds: float = 60.0, connections_max: int = 4) -> AsyncIterator[tuple[Server, UnixSession]]:
    with tempfile.TemporaryDirectory(prefix="aff-", dir="/tmp") as folder:
        server, at = Server(), Path(folder) / "opa.sock"
        listening = await asyncio.start_unix_server(server.serve, at)
        session = UnixSession(at, seconds, connections_max, json.dumps)
        try:
            yield server, session
        finally:
            await session.close()
            listening.close()
            await asyncio.sleep(0)


async def ask(session: UnixSession, value: object) -> object:
    return await (await session.request("POST", "http://localhost:1/v1/data", json=value)).json()


async def test_each_gets_its_own_answer_over_few_connections() -> None:
    async with running() as (server, session):
        for _ in range(5):
            assert await asyncio.gather(*(ask(session, n) for n in range(100))) == list(range(100))
        assert server.connections == 4


async def test_connection_may_be_the_nexts_before_the_first_has_looked_at_its_answer() -> None:
    async with running(connections_max=64) as (_, session):

        async def client(number: int) -> None:
            for turn in range(40):
                assert await ask(session, [number, turn]) == [number, turn]

        await asyncio.gather(*(client(number) for number in range(8)))


async def test_who_gives_up_leaves_no_answer_to_the_next() -> None:
    async with running() as (server, session):
        server.hold.clear()
        given_up = [asyncio.create_task(ask(session, "old")) for _ in range(4)]
        await asyncio.sleep(0.05)
        for one in given_up:
            one.cancel()
        await asyncio.gather(*given_up, return_exceptions=True)
        server.hold.set()
        assert await asyncio.gather(*(ask(session, n) for n in range(8))) == list(range(8))


async def test_too_late_is_a_timeout_and_leaves_no_answer_to_the_next() -> None:
    async with running(seconds=0.1) as (server, session):
        server.hold.clear()
        late = await asyncio.gather(*(ask(session, "old") for _ in range(6)), return_exceptions=True)
        assert [type(one) for one in late] == [TimeoutError] * 6, "those who waited for a place too"
        session._seconds = 60.0  # now it is not about time
        server.hold.set()
        assert await ask(session, 1) == 1


async def test_a_word_that_nobody_asked_for_ends_the_connection() -> None:
    async with running() as (server, session):
        server.extra = WHOLE
        with pytest.raises(aiohttp.ClientPayloadError):
            await ask(session, 1)
        server.extra = b""
        assert [await ask(session, n) for n in range(3)] == [0, 1, 2]


async def test_too_large_an_answer() -> None:
    async with running() as (_, session):
        with pytest.raises(aiohttp.ClientPayloadError, match="too large"):
            await ask(session, "x" * ANSWER_MAX_BYTES)


async def test_server_that_went_and_came_back() -> None:
    async with running() as (server, session):
        assert await ask(session, 1) == 1
        for connection in tuple(session._open):
            connection.abort()
        await asyncio.sleep(0.01)
        assert await ask(session, 2) == 2
        assert server.connections == 2
