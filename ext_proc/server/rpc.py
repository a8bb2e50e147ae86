"""One gRPC call on one HTTP/2 stream: messages in, messages out, and how it ends. What `stream` drives.

A message is a flag that says "not compressed", its length, and a proto. The call ends with trailers: OK only where the
peer has ended its side before (L2 holds here too, whatever the driver does), an error in every other case.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

from ext_proc.errors import PeerError
from ext_proc.server import http2

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Awaitable, Callable
    from typing import Protocol

    class Way(Protocol):
        """What a call needs of the connection it is on."""

        loop: asyncio.AbstractEventLoop

        def write(self, data: bytes) -> None:
            """Send these bytes."""

        def room(self) -> int:
            """So much may be sent in one frame now, as far as the connection goes."""
            ...

        def spend(self, size_bytes: int) -> None:
            """So much was."""

        def more_room(self) -> asyncio.Future[None]:
            """Done when it is worth looking again."""
            ...

        def forget(self, call: Rpc) -> None:
            """The call is over."""

    class Caller(Protocol):
        """What the driver needs of a call: see `Rpc`."""

        def read(self) -> Awaitable[Any]:
            """The next message, or None."""
            ...

        async def write(self, message: Any) -> None:
            """Send a message."""

        async def abort(self, code: int, details: str) -> None:
            """End with an error."""


OK: Final = 0
RESOURCE_EXHAUSTED: Final = 8
UNIMPLEMENTED: Final = 12
INTERNAL: Final = 13
NOT_FOUND: Final = 5

_PREFIX_BYTES: Final = 5
_HEAD: Final = http2.block([(b":status", b"200"), (b"content-type", b"application/grpc")])
_WELL: Final = http2.block([(b"grpc-status", b"0")])


class AbortedError(Exception):
    """The call has been ended with an error: nothing is left to do but to leave."""


class Rpc:
    """One call.

    Args:
        way: the connection.
        number: the HTTP/2 stream's.
        parse: bytes to message; raises whatever it likes.
        message_max_bytes: a longer message ends the call.
        window: what the peer may have sent and we have not read.
        credit: what we may send, as the peer's settings say.
    """

    __slots__ = (
        "_buffer",
        "_failure",
        "_has_begun",
        "_is_over",
        "_messages",
        "_most",
        "_number",
        "_owed",
        "_parse",
        "_peer_is_done",
        "_waiter",
        "_way",
        "_window",
        "_window_max",
        "credit",
        "task",
    )

    def __init__(
        self,
        way: Way,
        number: int,
        *,
        parse: Callable[[bytes], Any],
        message_max_bytes: int,
        window: int,
        credit: int,
    ) -> None:
        self._way = way
        self._number = number
        self._parse = parse
        self._most = message_max_bytes
        self._window = self._window_max = window
        self.credit = credit
        self.task: asyncio.Task[None] | None = None
        self._messages: deque[tuple[Any, int]] = deque()
        self._buffer = bytearray()
        self._owed = 0
        self._waiter: asyncio.Future[Any] | None = None
        self._failure: PeerError | None = None
        self._peer_is_done = False
        self._has_begun = False
        self._is_over = False

    # From the connection -------------------------------------------------------------------------------------------

    @property
    def number(self) -> int:
        """The HTTP/2 stream's."""
        return self._number

    def fed(self, data: bytes, size_bytes: int) -> None:
        """A DATA frame's content; ``size_bytes`` counts its padding too.

        Raises:
            Http2Error: more than the peer was allowed.
        """
        if self._peer_is_done:
            raise http2.Http2Error(http2.STREAM_CLOSED, "data after the end")
        self._window -= size_bytes
        if self._window < 0:
            raise http2.Http2Error(http2.FLOW_CONTROL_ERROR, "stream window")
        if size_bytes != len(data):
            self._consumed(size_bytes - len(data))
        if self._failure is not None:
            return
        length = len(data) - _PREFIX_BYTES
        if not self._buffer and 0 <= length <= self._most and int.from_bytes(data[:_PREFIX_BYTES], "big") == length:
            self._take(data[_PREFIX_BYTES:])  # as nearly always: one whole message; a flag that is set fits no length
            return
        self._buffer += data
        while len(self._buffer) >= _PREFIX_BYTES and self._failure is None:
            length = int.from_bytes(self._buffer[1:5], "big")
            if self._buffer[0] or length > self._most:
                self._fail("compressed message" if self._buffer[0] else "message too large")
            elif len(self._buffer) < _PREFIX_BYTES + length:
                return
            else:
                message = bytes(memoryview(self._buffer)[5 : 5 + length])
                del self._buffer[: 5 + length]
                self._take(message)

    def peer_done(self) -> None:
        """The peer sends nothing more."""
        if self._peer_is_done:
            raise http2.Http2Error(http2.STREAM_CLOSED, "ended twice")
        self._peer_is_done = True
        if self._buffer:
            self._fail("message cut off")
        self._wake()

    def cut(self) -> None:
        """The peer has reset the stream, or is gone: nothing can be said any more, and whoever serves it is told."""
        self._is_over = True
        if self.task is not None:
            self.task.cancel()

    def _take(self, data: bytes) -> None:
        try:
            message = self._parse(data)
        except Exception:  # noqa: BLE001 - whatever the parser's is: no question that we know
            self._fail("not a message")
            return
        if self._waiter is not None and not self._waiter.done():
            self._consumed(_PREFIX_BYTES + len(data))
            self._waiter.set_result(message)
            return
        self._messages.append((message, _PREFIX_BYTES + len(data)))

    def _fail(self, what: str) -> None:
        self._failure = PeerError(what)
        self._buffer.clear()
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._settle(self._waiter)

    def _settle(self, waiter: asyncio.Future[Any]) -> None:
        if self._failure is not None:
            waiter.set_exception(self._failure)
        elif self._peer_is_done:
            waiter.set_result(None)

    def _consumed(self, size_bytes: int) -> None:
        """What was read may be sent again, told in lumps: a peer that we do not read from must wait."""
        self._owed += size_bytes
        if self._owed * 2 >= self._window_max and not self._peer_is_done and not self._is_over:
            self._way.write(http2.frame(http2.WINDOW_UPDATE, 0, self._number, self._owed.to_bytes(4, "big")))
            self._window += self._owed
            self._owed = 0

    # For the driver ------------------------------------------------------------------------------------------------

    def read(self) -> asyncio.Future[Any]:
        """The next message; None when the peer has ended its side. One at a time; a future, so that it costs no task.

        It ends in `PeerError` where what came is no message.
        """
        waiter = self._waiter = self._way.loop.create_future()
        if self._messages:
            message, size_bytes = self._messages.popleft()
            self._consumed(size_bytes)
            waiter.set_result(message)
        else:
            self._settle(waiter)
        return waiter

    async def write(self, message: Any) -> None:
        """Send a message; done when it is on its way.

        Raises:
            ConnectionResetError: the call is over.
        """
        told = message.SerializeToString()
        data: bytes = b"\x00%b%b" % (len(told).to_bytes(4, "big"), told)
        if self._is_over:
            raise ConnectionResetError
        if len(data) <= self._room():
            self._send(data)
            return
        rest = memoryview(data)
        while rest:
            room = self._room()
            if room <= 0:
                await self._way.more_room()
            else:
                self._send(bytes(rest[:room]))
                rest = rest[room:]
            if self._is_over:
                raise ConnectionResetError

    async def abort(self, code: int, details: str) -> None:
        """End the call with an error.

        Raises:
            AbortedError: always.
        """
        self.finish(code, details)
        raise AbortedError(details)

    def finish(self, code: int = OK, details: str = "") -> None:
        """Say how it ended. OK becomes an error where the peer has not ended its side (L2)."""
        if self._is_over:
            return
        self._is_over = True
        if code == OK and not self._peer_is_done:
            code, details = INTERNAL, "ended before its peer"
        told = _WELL
        if code != OK:
            said = (b"grpc-status", str(code).encode()), (b"grpc-message", quote(details, safe=" ").encode())
            told = http2.block(said)
        ended = http2.frame(
            http2.HEADERS, http2.END_HEADERS | http2.END_STREAM, self._number, told if self._has_begun else _HEAD + told
        )
        if not self._peer_is_done:  # it need not send what nobody will read
            ended += self._reset(http2.NO_ERROR)
        self._way.write(ended)
        self._way.forget(self)

    def reset(self, code: int = http2.CANCEL) -> None:
        """End the call without a word. No peer takes that for success."""
        if not self._is_over:
            self._is_over = True
            self._way.write(self._reset(code))
        self._way.forget(self)

    def _reset(self, code: int) -> bytes:
        return http2.frame(http2.RST_STREAM, 0, self._number, code.to_bytes(4, "big"))

    def _room(self) -> int:
        return min(self.credit, self._way.room())

    def _send(self, data: bytes) -> None:
        self.credit -= len(data)
        self._way.spend(len(data))
        sent = http2.frame(http2.DATA, 0, self._number, data)
        if not self._has_begun:
            self._has_begun = True
            sent = http2.frame(http2.HEADERS, http2.END_HEADERS, self._number, _HEAD) + sent
        self._way.write(sent)
