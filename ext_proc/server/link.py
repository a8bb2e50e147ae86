"""One HTTP/2 connection of Envoy's: its frames to calls, and theirs to it.

Envoy keeps one connection to each worker and opens a stream on it for each exchange. What comes in that is not HTTP/2
ends the connection, and with it every exchange on it: Envoy lets none of them pass.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final, NamedTuple, cast

from ext_proc import telemetry
from ext_proc.server import http2
from ext_proc.server.rpc import INTERNAL, UNIMPLEMENTED, AbortedError, Rpc

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

_LINK_CREDIT_BYTES: Final = 1024 * 1024
"""What a connection may have sent before it is told that it may go on: a stream's own window is what holds it back."""
_UNREAD_MAX_BYTES: Final = 4 * 1024 * 1024
"""A peer that asks and does not read what it is told: it is left."""
_LONGER_THAN_A_MESSAGE: Final = 64 * 1024

_log = telemetry.logger()


class Method(NamedTuple):
    """What is served under a path: how its messages are read, and who answers them."""

    parse: Callable[[bytes], Any]
    serve: Callable[[Rpc], Awaitable[None]]


class Link(asyncio.Protocol):
    """See the module.

    Args:
        methods: by path.
        message_max_bytes: the longest message in either direction.
        links: where it is listed as long as it lasts.
        serving: where the tasks that serve its calls are listed as long as they last.
    """

    def __init__(
        self,
        methods: Mapping[bytes, Method],
        message_max_bytes: int,
        links: set[Link],
        serving: set[asyncio.Task[None]],
    ) -> None:
        self.loop = asyncio.get_running_loop()
        self._methods = methods
        self._most = message_max_bytes
        self._links = links
        self._serving = serving
        self._transport: asyncio.Transport = cast("asyncio.Transport", None)
        self._rest = http2.PREFACE  # of the preface: what is still to come; then: what is not a whole frame yet
        self._is_greeted = False
        self._heads = http2.Heads()
        self._calls: dict[int, Rpc] = {}
        self._last = 0
        self._block: tuple[int, int, bytes] | None = None  # a head whose CONTINUATION is to come
        self._owed = 0
        self._window = min(message_max_bytes + _LONGER_THAN_A_MESSAGE, http2.WINDOW_MAX)
        self._credit = http2.WINDOW_DEFAULT
        self._calls_credit = http2.WINDOW_DEFAULT
        self._frame_max = http2.FRAME_MAX_BYTES
        self._is_paused = False
        self._waiting_for_room: asyncio.Future[None] | None = None
        self._is_leaving = False
        self._is_lost = False

    # asyncio's -----------------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Say at once what we take."""
        self._transport = cast("asyncio.Transport", transport)
        self._links.add(self)
        ours = [(http2.HEADER_TABLE_SIZE, 0), (http2.INITIAL_WINDOW_SIZE, self._window)]
        widened = http2.WINDOW_MAX - http2.WINDOW_DEFAULT
        self.write(http2.settings(ours) + http2.frame(http2.WINDOW_UPDATE, 0, 0, widened.to_bytes(4, "big")))

    def connection_lost(self, exc: Exception | None) -> None:
        """Envoy is gone: so are its streams."""
        del exc
        self._is_lost = True
        self._links.discard(self)
        calls, self._calls = self._calls, {}
        for call in calls.values():
            call.cut()
        self._tell_of_room()

    def data_received(self, data: bytes) -> None:
        """Bytes in, as they come."""
        try:
            self._read(data)
        except http2.Http2Error as error:
            _log.error("connection of Envoy's ended", why=str(error), code=error.code)
            self._end(error.code)

    def pause_writing(self) -> None:
        """Envoy does not read fast enough."""
        self._is_paused = True

    def resume_writing(self) -> None:
        """It has."""
        self._is_paused = False
        self._tell_of_room()

    # What calls need -----------------------------------------------------------------------------------------------

    def write(self, data: bytes) -> None:
        """On its way."""
        if not self._is_lost:
            self._transport.write(data)

    def room(self) -> int:
        """So much may be written in one frame now."""
        return 0 if self._is_paused else min(self._credit, self._frame_max)

    def spend(self, size_bytes: int) -> None:
        """So much was."""
        self._credit -= size_bytes

    def more_room(self) -> asyncio.Future[None]:
        """Done when it is worth looking again."""
        if self._waiting_for_room is None:
            self._waiting_for_room = self.loop.create_future()
        return asyncio.shield(
            self._waiting_for_room
        )  # of all that wait: one that leaves must not take the others along

    def forget(self, call: Rpc) -> None:
        """The call is over."""
        self._calls.pop(call.number, None)

    def _tell_of_room(self) -> None:
        waiting, self._waiting_for_room = self._waiting_for_room, None
        if waiting is not None:
            waiting.set_result(None)

    # The end -------------------------------------------------------------------------------------------------------

    def leave(self) -> None:
        """No new streams; those that are open go on."""
        if not self._is_leaving:
            self._is_leaving = True
            self._say_goodbye(http2.NO_ERROR)

    def cut(self) -> None:
        """The streams that are open have had their time."""
        for call in tuple(self._calls.values()):
            self._reset(call, http2.CANCEL)

    def close(self) -> None:
        """The connection goes when what was written is written."""
        self._transport.close()

    def _end(self, code: int) -> None:
        self._say_goodbye(code)
        self.connection_lost(None)
        self._transport.close()

    def _say_goodbye(self, code: int) -> None:
        self.write(http2.frame(http2.GOAWAY, 0, 0, self._last.to_bytes(4, "big") + code.to_bytes(4, "big")))

    # Frames --------------------------------------------------------------------------------------------------------

    def _read(self, data: bytes) -> None:
        if not self._is_greeted:
            expected = self._rest[: len(data)]
            if data[: len(expected)] != expected:
                raise http2.Http2Error(http2.PROTOCOL_ERROR, "no HTTP/2")
            self._rest, data = self._rest[len(expected) :], data[len(expected) :]
            if self._rest:
                return
            self._is_greeted = True
        if self._rest:
            data = self._rest + data
        at, end = 0, len(data)
        while end - at >= http2.HEAD_BYTES and not self._is_lost:
            size = int.from_bytes(data[at : at + 3], "big")
            if size > http2.FRAME_MAX_BYTES:
                raise http2.Http2Error(http2.FRAME_SIZE_ERROR, "frame too large")
            begin = at + http2.HEAD_BYTES
            if end - begin < size:
                break
            stream = int.from_bytes(data[at + 5 : begin], "big") & http2.WINDOW_MAX
            self._take(data[at + 3], data[at + 4], stream, data[begin : begin + size])
            at = begin + size
        self._rest = data[at:]

    def _take(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        if self._block is not None and kind != http2.CONTINUATION:
            raise http2.Http2Error(http2.PROTOCOL_ERROR, "a head cut off")
        if kind == http2.DATA:
            self._on_data(flags, stream, payload)
        elif kind == http2.HEADERS:
            self._on_headers(flags, stream, payload)
        elif kind == http2.WINDOW_UPDATE:
            self._on_window_update(stream, payload)
        elif kind == http2.RST_STREAM:
            self._on_reset(stream, payload)
        elif kind == http2.SETTINGS:
            self._on_settings(flags, stream, payload)
        elif kind == http2.PING:
            self._on_ping(flags, stream, payload)
        elif kind == http2.CONTINUATION:
            self._on_continuation(flags, stream, payload)
        elif kind == http2.PUSH_PROMISE:
            raise http2.Http2Error(http2.PROTOCOL_ERROR, "push")

    def _on_data(self, flags: int, stream: int, payload: bytes) -> None:
        size = len(payload)
        self._owed += size
        if self._owed >= _LINK_CREDIT_BYTES:
            self.write(http2.frame(http2.WINDOW_UPDATE, 0, 0, self._owed.to_bytes(4, "big")))
            self._owed = 0
        call = self._known(stream)
        if call is None:
            return
        try:
            if size:
                call.fed(http2.unpadded(flags, payload) if flags & http2.PADDED else payload, size)
            if flags & http2.END_STREAM:
                call.peer_done()
        except http2.Http2Error as error:
            self._reset(call, error.code)

    def _known(self, stream: int) -> Rpc | None:
        """The call on it; None where it is over (its peer may not have heard yet)."""
        call = self._calls.get(stream)
        if call is None and (not stream % 2 or stream > self._last):
            raise http2.Http2Error(http2.PROTOCOL_ERROR, "no such stream")
        return call

    def _reset(self, call: Rpc, code: int) -> None:
        call.reset(code)
        call.cut()

    def _on_headers(self, flags: int, stream: int, payload: bytes) -> None:
        payload = http2.unpadded(flags, payload)
        if flags & http2.WITH_PRIORITY:
            payload = payload[5:]
        if not flags & http2.END_HEADERS:
            self._block = stream, flags, payload
            return
        self._on_head(flags, stream, payload)

    def _on_continuation(self, flags: int, stream: int, payload: bytes) -> None:
        if self._block is None or self._block[0] != stream:
            raise http2.Http2Error(http2.PROTOCOL_ERROR, "no head to go on with")
        _, first, begun = self._block
        told = begun + payload
        if len(told) > http2.HEADER_BLOCK_MAX_BYTES:
            raise http2.Http2Error(http2.ENHANCE_YOUR_CALM, "header block")
        self._block = None if flags & http2.END_HEADERS else (stream, first, told)
        if self._block is None:
            self._on_head(first, stream, told)

    def _on_head(self, flags: int, stream: int, told: bytes) -> None:
        path = self._heads.path(told)  # read in any case: the next one may depend on it
        if stream <= self._last:
            self._on_trailers(flags, stream)
            return
        if not stream % 2:
            raise http2.Http2Error(http2.PROTOCOL_ERROR, "a server's stream")
        self._last = stream
        if self._is_leaving:
            self.write(http2.frame(http2.RST_STREAM, 0, stream, http2.REFUSED_STREAM.to_bytes(4, "big")))
            return
        method = self._methods.get(path)
        call = Rpc(
            self,
            stream,
            parse=_nothing if method is None else method.parse,
            message_max_bytes=self._most,
            window=self._window,
            credit=self._calls_credit,
        )
        self._calls[stream] = call
        if flags & http2.END_STREAM:
            call.peer_done()
        if method is None:
            call.finish(UNIMPLEMENTED, "no such method")
            return
        call.task = task = self.loop.create_task(_serve(method, call))
        self._serving.add(task)
        task.add_done_callback(self._serving.discard)

    def _on_trailers(self, flags: int, stream: int) -> None:
        call = self._known(stream)
        if call is None:
            return
        if not flags & http2.END_STREAM:
            raise http2.Http2Error(http2.PROTOCOL_ERROR, "a second head")
        try:
            call.peer_done()
        except http2.Http2Error as error:
            self._reset(call, error.code)

    def _on_reset(self, stream: int, payload: bytes) -> None:
        http2.number(payload)
        call = self._known(stream)
        if call is not None:
            self.forget(call)
            call.cut()

    def _on_window_update(self, stream: int, payload: bytes) -> None:
        more = http2.number(payload)
        if not stream:
            self._credit += more
            if not more or self._credit > http2.WINDOW_MAX:
                raise http2.Http2Error(http2.FLOW_CONTROL_ERROR, "connection window")
        elif (call := self._known(stream)) is not None:
            call.credit += more
            if not more or call.credit > http2.WINDOW_MAX:
                self._reset(call, http2.FLOW_CONTROL_ERROR)
        self._tell_of_room()

    def _on_settings(self, flags: int, stream: int, payload: bytes) -> None:
        if stream:
            raise http2.Http2Error(http2.PROTOCOL_ERROR, "settings of a stream")
        if flags & http2.ACK:
            self._heads.forbid_table()
            return
        for name, value in http2.read_settings(payload):
            if name == http2.MAX_FRAME_SIZE:
                self._frame_max = value
            elif name == http2.INITIAL_WINDOW_SIZE:
                for call in self._calls.values():
                    call.credit += value - self._calls_credit
                self._calls_credit = value
        self._answer(http2.frame(http2.SETTINGS, http2.ACK, 0))
        self._tell_of_room()

    def _on_ping(self, flags: int, stream: int, payload: bytes) -> None:
        if stream or len(payload) != 8:
            raise http2.Http2Error(http2.PROTOCOL_ERROR, "ping")
        if not flags & http2.ACK:
            self._answer(http2.frame(http2.PING, http2.ACK, 0, payload))

    def _answer(self, data: bytes) -> None:
        """What the protocol makes us say, however little the peer reads."""
        if self._transport.get_write_buffer_size() > _UNREAD_MAX_BYTES:
            raise http2.Http2Error(http2.ENHANCE_YOUR_CALM, "nothing is read")
        self.write(data)


async def _serve(method: Method, call: Rpc) -> None:
    """Serve a call to its end, whatever that is. Nothing but a peer that has ended its side makes it OK."""
    try:
        await method.serve(call)
    except AbortedError:
        return
    except asyncio.CancelledError:
        call.reset()
        raise
    except Exception as bug:  # noqa: BLE001 - nobody awaits this task
        _log.error("call failed", bug=type(bug).__name__)
        call.finish(INTERNAL, "affidavit: failed")
    else:
        call.finish()


def _nothing(_: bytes) -> None:
    raise ValueError
