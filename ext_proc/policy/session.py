"""HTTP/1.1 over OPA's Unix socket, as much of it as OPA speaks: what opa-python-client asks of its session.

aiohttp's own session costs the gate three times as much a question: redirects, cookies, proxies, compression and
tracing, none of which a policy on the same machine has. Kept connections, one question at a time on each; whatever is
not exactly an answer ends the connection and is an error (aiohttp's, so that the client knows it). Nothing is retried.
"""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING, Any, Final

import aiohttp
import orjson

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

ANSWER_MAX_BYTES: Final = 1024 * 1024
"""Of head and body. A decision has about 1 KB; a list of rules at its longest 60 KB."""
_HEAD_END: Final = b"\r\n\r\n"
_CHUNK_SIZE: Final = re.compile(rb"[0-9a-fA-F]{1,8}")
_ANSWERED: Final = 200
"""OPA's one status for an answer. A redirect is another server's, a part is not all of it."""


class StatusError(aiohttp.ClientError):
    """OPA answered, and that is no answer."""

    def __init__(self, status: int) -> None:
        super().__init__(f"status {status}")
        self.status = status


class Answer:
    """A whole answer: the part of `aiohttp.ClientResponse` that the client uses."""

    __slots__ = ("_body", "status")

    def __init__(self, status: int, body: bytes) -> None:
        self.status = status
        self._body = body

    def raise_for_status(self) -> None:
        """Raise for whatever is not an answer.

        Raises:
            StatusError: it is none.
        """
        if self.status != _ANSWERED:
            raise StatusError(self.status)

    async def json(self) -> Any:
        """The body's value.

        Raises:
            ValueError: it is not JSON.
        """
        return orjson.loads(self._body)

    async def text(self) -> str:
        """The body's text.

        Raises:
            ValueError: it is not UTF-8.
        """
        return self._body.decode()

    async def release(self) -> None:
        """Nothing to do: the connection went back when the answer was whole."""


class _Connection(asyncio.Protocol):
    """One connection. ``free`` takes it back when it can be asked again."""

    def __init__(self, free: Callable[[_Connection], None], gone: Callable[[_Connection], None]) -> None:
        self._free = free
        self._gone = gone
        self._loop = asyncio.get_running_loop()
        self._transport: Any = None
        self._answered: asyncio.Future[Answer] | None = None
        self._got = bytearray()

    async def ask(self, question: bytes, until: float) -> Answer:
        """Send the question, wait for the answer.

        Raises:
            TimeoutError: not whole at ``until`` (the loop's clock).
            aiohttp.ClientError: closed, or not an answer.
        """
        answered: asyncio.Future[Answer] = self._loop.create_future()
        self._answered = answered
        deadline = self._loop.call_at(until, _fail, answered, TimeoutError())
        self._transport.write(question)
        try:
            return await answered
        finally:
            deadline.cancel()
            # Too late, wrong, or nobody waits any more: what comes is not for the next. (Answered, the connection may
            # be the next one's already.)
            if self._answered is answered:
                self._answered = None
                self.abort()

    def abort(self) -> None:
        """Close at once."""
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See `asyncio.BaseProtocol`."""
        self._transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        """See `asyncio.BaseProtocol`. Also while idle: OPA was restarted."""
        del exc
        self._gone(self)
        _fail(self._answered, aiohttp.ClientConnectionError("closed"))

    def data_received(self, data: bytes) -> None:
        """See `asyncio.Protocol`."""
        self._got += data
        if self._answered is None or len(self._got) > ANSWER_MAX_BYTES:
            _fail(self._answered, aiohttp.ClientPayloadError("too large"))
            self.abort()  # a word that nobody asked for would be taken for the next one's answer
            return
        try:
            found = read_answer(self._got)
        except ValueError:
            _fail(self._answered, aiohttp.ClientPayloadError("not HTTP"))
            return
        if found is None:
            return
        answer, is_kept = found
        answered, self._answered = self._answered, None
        self._got.clear()
        if is_kept:
            self._free(self)
        else:
            self.abort()
        if not answered.done():
            answered.set_result(answer)


def _fail(answered: asyncio.Future[Answer] | None, error: Exception) -> None:
    if answered is not None and not answered.done():
        answered.set_exception(error)


class UnixSession:
    """What `AsyncOpaClient` calls its session. Of one event loop.

    Args:
        socket: where OPA listens.
        seconds: for one request, connecting and all.
        connections_max: open at once; more wait their turn, within their time.
        to_json: writes a question.
    """

    def __init__(self, socket: Path, seconds: float, connections_max: int, to_json: Callable[[Any], str]) -> None:
        self._socket = str(socket)
        self._seconds = seconds
        self._to_json = to_json
        self._loop = asyncio.get_running_loop()
        self._places = asyncio.Semaphore(connections_max)
        self._idle: list[_Connection] = []
        self._open: set[_Connection] = set()
        self.closed = False

    async def request(self, method: str, url: str, **given: Any) -> Answer:
        """One request, one answer.

        Raises:
            TimeoutError: not in time.
            aiohttp.ClientError: no connection, or not an answer.
            ValueError: what is given is not JSON.
        """
        until = self._loop.time() + self._seconds
        body = self._to_json(given["json"]).encode() if "json" in given else b""
        path = url.split("/", 3)[3]
        head = (
            f"{method} /{path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
            f"content-length: {len(body)}\r\n\r\n"
        )
        if self._places.locked():
            async with asyncio.timeout_at(until):
                await self._places.acquire()
        else:
            await self._places.acquire()  # at once
        try:
            connection = self._idle.pop() if self._idle else await self._connected(until)
            return await connection.ask(head.encode("ascii") + body, until)
        finally:
            self._places.release()

    async def close(self) -> None:
        """Close every connection."""
        self.closed = True
        for connection in tuple(self._open):
            connection.abort()

    async def _connected(self, until: float) -> _Connection:
        try:
            async with asyncio.timeout_at(until):
                _, made = await self._loop.create_unix_connection(
                    lambda: _Connection(self._idle.append, self._forget), self._socket
                )
        except TimeoutError:
            raise
        except OSError as error:
            raise aiohttp.ClientConnectionError(type(error).__name__) from None
        self._open.add(made)
        return made

    def _forget(self, connection: _Connection) -> None:
        self._open.discard(connection)
        if connection in self._idle:
            self._idle.remove(connection)


def read_answer(got: bytes | bytearray) -> tuple[Answer, bool] | None:
    """The answer, and whether the connection may be asked again; None while there is more to come.

    Raises:
        ValueError: not one answer of HTTP/1.1 (RFC 9112), or of a form that Go's server does not use.
    """
    end = got.find(_HEAD_END)
    if end < 0:
        return None
    status_line, *lines = bytes(got[:end]).split(b"\r\n")
    version, _, rest = status_line.partition(b" ")
    code = rest[:3]
    if version != b"HTTP/1.1" or not code.isdigit() or len(code) != 3 or code[:1] == b"1":
        raise ValueError("status line")
    fields = [(name.lower(), value.strip()) for name, colon, value in (line.partition(b":") for line in lines) if colon]
    lengths = [value for name, value in fields if name == b"content-length"]
    codings = [value.lower() for name, value in fields if name == b"transfer-encoding"]
    is_kept = (b"connection", b"close") not in fields
    start = end + len(_HEAD_END)
    if codings == [b"chunked"] and not lengths:
        body = _unchunked(got, start)
    elif len(lengths) == 1 and lengths[0].isdigit() and not codings:
        size = int(lengths[0])
        if len(got) > start + size:
            raise ValueError("more than one answer")
        body = bytes(got[start:]) if len(got) == start + size else None
    else:
        raise ValueError("length")
    return None if body is None else (Answer(int(code), body), is_kept)


def _unchunked(got: bytes | bytearray, at: int) -> bytes | None:
    parts: list[bytes] = []
    while True:
        end = got.find(b"\r\n", at)
        if end < 0:
            return None
        line = bytes(got[at:end])
        if not _CHUNK_SIZE.fullmatch(line):
            raise ValueError("chunk")
        size, at = int(line, 16), end + 2
        after = at + size + 2
        if len(got) < after:
            return None
        if got[after - 2 : after] != b"\r\n" or (size == 0 and len(got) > after):
            raise ValueError("chunk")  # trailers too: Go's server sends none that were not announced
        if size == 0:
            return b"".join(parts)
        parts.append(bytes(got[at : after - 2]))
        at = after
