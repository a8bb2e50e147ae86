"""An upstream that answers with exact bytes, write by write, and remembers everything that reached it.

A raw asyncio server: no framework tidies up what it sends. Which answer a request gets is chosen by its path.
"""

from __future__ import annotations

import asyncio
import gzip
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

PAUSE_SECONDS: Final = 0.05
"""Between two writes: long enough that Envoy reads them apart."""


@dataclass(frozen=True, slots=True)
class Reset:
    """Break the connection off with a TCP reset."""


@dataclass(frozen=True, slots=True)
class Pause:
    """Wait."""

    seconds: float = PAUSE_SECONDS


@dataclass(frozen=True, slots=True)
class Until:
    """Wait until something is so."""

    is_so: Callable[[], bool]


Step = bytes | Reset | Pause | Until
Answer = tuple[Step, ...]


@dataclass(frozen=True, slots=True)
class Received:
    """A request as it arrived. ``headers`` are lower-case names with values, in order."""

    method: str
    path: str
    headers: tuple[tuple[str, str], ...]
    body: bytes

    def header(self, name: str) -> str | None:
        """The first value of ``name``."""
        return next((value for key, value in self.headers if key == name), None)


def plain(body: bytes, content_type: str = "application/json", status: str = "200 OK", extra: str = "") -> bytes:
    """A whole HTTP/1.1 response with Content-Length, as one run of bytes."""
    return head(content_type, f"content-length: {len(body)}\r\n{extra}", status) + body


def head(content_type: str, fields: str, status: str = "200 OK") -> bytes:
    """Status line and header fields; ``fields`` end in CRLF each."""
    return f"HTTP/1.1 {status}\r\ncontent-type: {content_type}\r\n{fields}\r\n".encode()


def chunk(data: bytes) -> bytes:
    """One chunk of a chunked body; an empty one ends it."""
    return f"{len(data):x}\r\n".encode() + data + b"\r\n"


def shapes(text: str) -> dict[str, Answer]:
    """Answers that carry ``text`` in every shape in which an upstream may send it (must show 3), by path."""
    document = json.dumps({"choices": [{"message": {"role": "assistant", "content": text}}]}).encode()
    large = json.dumps({"choices": [{"message": {"content": f"{text} {'lorem ' * 17000}{text}"}}]}).encode()
    huge = json.dumps({"choices": [{"message": {"content": f"{text} {'lorem ' * 170000}{text}"}}]}).encode()
    packed = gzip.compress(document)
    middle = len(document) // 2
    cut = len(text) // 2
    return {
        "/plain": (plain(document),),
        "/apart": (plain(document)[: -len(document)], Pause(), document),
        "/pieces": (
            plain(document)[: -len(document)],
            Pause(),
            document[:middle],
            Pause(),
            document[middle:],
        ),
        "/chunked": (
            head("application/json", "transfer-encoding: chunked\r\n"),
            Pause(),
            chunk(document[:middle]),
            Pause(),
            chunk(document[middle:]) + chunk(b""),
        ),
        "/sse": (
            head("text/event-stream", "transfer-encoding: chunked\r\n"),
            chunk(_delta(text)),
            chunk(b"data: [DONE]\n\n") + chunk(b""),
        ),
        "/sse-split": (
            head("text/event-stream", "transfer-encoding: chunked\r\n"),
            chunk(_delta(text[:cut])),
            Pause(),
            chunk(_delta(text[cut:])),
            Pause(),
            chunk(b"data: [DONE]\n\n") + chunk(b""),
        ),
        "/gzip": (plain(packed, extra="content-encoding: gzip\r\n"),),
        "/100k": (plain(large),),
        "/1m": (plain(huge)[: -len(huge)], Pause(), huge),
        "/header": (plain(b"{}", extra=f"x-note: {text}\r\nset-cookie: a={text}\r\n"),),
        "/status": (plain(document, status="201 Created"),),
        "/error": (plain(document, status="500 Internal Server Error"),),
        "/until-close": (head("application/json", "connection: close\r\n"), document),
        "/reset": (plain(document)[: -len(document)], document[:middle], Pause(), Reset()),
        "/early-hints": (
            f"HTTP/1.1 103 Early Hints\r\nlink: <{text}>\r\n\r\n".encode(),
            Pause(),
            plain(document),
        ),
        "/trailers": (
            head("application/json", "transfer-encoding: chunked\r\ntrailer: x-note\r\n"),
            chunk(document) + f"0\r\nx-note: {text}\r\n\r\n".encode(),
        ),
        "/empty": (b"HTTP/1.1 204 No Content\r\nx-note: " + text.encode() + b"\r\n\r\n",),
    }


def _delta(text: str) -> bytes:
    return b"data: " + json.dumps({"choices": [{"delta": {"content": text}}]}).encode() + b"\n\n"


@dataclass(slots=True)
class Upstream:
    """Answers by path, ``default`` where none is set; ``received`` is everything that got here, in order."""

    answers: Mapping[str, Answer]
    default: Answer = (plain(b'{"ok":true}'),)
    received: list[Received] = field(default_factory=list)
    port: int = 0
    _server: asyncio.Server | None = None

    async def start(self) -> None:
        """Listen on a free port of loopback."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, limit=8 << 20)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Stop listening and break off what is open."""
        if self._server is not None:
            self._server.close()

    def seen(self, marker: str) -> list[Received]:
        """The requests whose path holds ``marker`` (tests share one upstream)."""
        return [request for request in self.received if marker in request.path]

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while (request := await _read(reader)) is not None:
                self.received.append(request)
                is_over = await self._answer(request, writer)
                if is_over:
                    break
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # Envoy left; what arrived whole is in `received`
        finally:
            writer.close()

    async def _answer(self, request: Received, writer: asyncio.StreamWriter) -> bool:
        path = request.path.partition("?")[0]
        answer = self.answers.get(path, self.default)
        if request.header("upgrade") is not None:
            writer.write(b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\n")
            writer.write(b"hello from behind")
            await writer.drain()
            await asyncio.sleep(5)
            return True
        for step in answer:
            match step:
                case Pause(seconds):
                    await asyncio.sleep(seconds)
                case Until(is_so):
                    while not is_so():  # noqa: ASYNC110 - it may be another thread's
                        await asyncio.sleep(0.01)
                case Reset():
                    writer.transport.abort()
                    return True
                case bytes():
                    is_head = request.method == "HEAD"
                    writer.write(step.partition(b"\r\n\r\n")[0] + b"\r\n\r\n" if is_head else step)
                    await writer.drain()
                    if is_head:
                        return False
        return any(isinstance(step, bytes) and b"connection: close" in step for step in answer)


async def _read(reader: asyncio.StreamReader) -> Received | None:
    try:
        raw = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError:
        return None
    first, *lines = raw.decode("latin-1").split("\r\n")
    method, path, _ = first.split(" ", 2)
    headers = tuple(
        (name.strip().lower(), value.strip()) for name, _, value in (line.partition(":") for line in lines if line)
    )
    fields = dict(headers)
    if "chunked" in fields.get("transfer-encoding", ""):
        body = await _chunks(reader)
    else:
        body = await reader.readexactly(int(fields.get("content-length", "0")))
    return Received(method, path, headers, body)


async def _chunks(reader: asyncio.StreamReader) -> bytes:
    body = b""
    while size := int((await reader.readline()).strip(), 16):
        body += await reader.readexactly(size)
        await reader.readline()
    await reader.readline()
    return body
