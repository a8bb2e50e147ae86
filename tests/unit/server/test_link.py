"""`ext_proc.server.link` and `rpc`: gRPC over HTTP/2, against another implementation (h2) and against whoever has none."""

from __future__ import annotations

import asyncio
from itertools import pairwise
from typing import Any

import h2.config
import h2.connection
import h2.events
import h2.settings
import pytest
from envoy.service.ext_proc.v3 import external_processor_pb2 as pb
from hypothesis import given
from hypothesis import strategies as st

from ext_proc.errors import PeerError
from ext_proc.server import http2
from ext_proc.server.link import Link, Method
from ext_proc.server.rpc import INTERNAL, AbortedError, Rpc
from tests.fakes import envoy

PATH = b"/some.Service/Method"
MOST = 200_000
WINDOW = MOST + 64 * 1024


class FakeTransport:
    """What asyncio gives a protocol: keeps what is written."""

    def __init__(self) -> None:
        self.written = bytearray()
        self.is_closed = False
        self.unread = 0

    def write(self, data: bytes) -> None:
        assert not self.is_closed
        self.written += data

    def get_write_buffer_size(self) -> int:
        return self.unread

    def close(self) -> None:
        self.is_closed = True

    def take(self) -> bytes:
        taken, self.written = bytes(self.written), bytearray()
        return taken


class Served:
    """A link, its transport, and what its one method was asked. ``echo`` answers each question with itself."""

    def __init__(self, serve: Any = None) -> None:
        self.transport = FakeTransport()
        self.read: list[Any] = []
        self.ends: list[Any] = []
        self.links: set[Link] = set()
        self.tasks: set[asyncio.Task[None]] = set()
        method = Method(pb.ProcessingRequest.FromString, serve or self.echo)
        self.link = Link({PATH: method}, MOST, self.links, self.tasks)
        self.link.connection_made(self.transport)  # type: ignore[arg-type]

    async def echo(self, call: Rpc) -> None:
        try:
            while (message := await call.read()) is not None:
                self.read.append(message.request_body.body)
                await call.write(message)
            self.ends.append("end")
        except BaseException as error:
            self.ends.append(type(error))
            raise


class Client:
    """h2 as the client of a link, without a socket."""

    def __init__(self, served: Served, *, window: int | None = None) -> None:
        self.served = served
        self.h2 = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True, header_encoding=None))
        self.events: list[Any] = []
        self.h2.initiate_connection()
        if window is not None:
            self.h2.update_settings({h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: window})

    def begin(self, path: bytes = PATH, *, is_over: bool = False) -> int:
        stream = self.h2.get_next_available_stream_id()
        head = [(b":method", b"POST"), (b":scheme", b"http"), (b":path", path), (b":authority", b"gate")]
        self.h2.send_headers(stream, [*head, (b"te", b"trailers")], end_stream=is_over)
        return stream

    def ask(self, stream: int, *messages: bytes, is_over: bool = False, pad: int | None = None) -> None:
        data = b"".join(messages)
        cut = range(0, max(1, len(data)), 16_000)
        for at in cut:
            is_last = is_over and at == cut[-1]
            self.h2.send_data(stream, data[at : at + 16_000], end_stream=is_last, pad_length=pad)

    def flush(self) -> None:
        self.served.link.data_received(self.h2.data_to_send())

    async def turn(self) -> list[Any]:
        """Both sides say what they have to say; what came."""
        came: list[Any] = []
        for _ in range(20):
            if out := self.h2.data_to_send():
                self.served.link.data_received(out)
            await asyncio.sleep(0)
            if told := self.served.transport.take():
                came += self.h2.receive_data(told)
        self.events += came
        return came

    def answer(self, stream: int) -> bytes:
        return b"".join(
            one.data for one in self.events if isinstance(one, h2.events.DataReceived) and one.stream_id == stream
        )

    def status(self, stream: int) -> int | None:
        """gRPC's, as the client reads it: from the trailers, or from a head that is all there is."""
        for one in self.events:
            if isinstance(one, (h2.events.TrailersReceived, h2.events.ResponseReceived)) and one.stream_id == stream:
                told = dict(one.headers or ())
                if b"grpc-status" in told:
                    return int(told[b"grpc-status"])
        return None

    def resets(self, stream: int) -> list[int]:
        return [
            int(one.error_code)
            for one in self.events
            if isinstance(one, h2.events.StreamReset) and one.stream_id == stream
        ]


def message(body: bytes = b"x") -> bytes:
    told: bytes = envoy.request_body(body).SerializeToString()
    return b"\0" + len(told).to_bytes(4, "big") + told


async def test_whole_call() -> None:
    served = Served()
    client = Client(served)
    stream = client.begin()
    client.ask(stream, message(b"one"))
    await client.turn()
    assert client.answer(stream) == message(b"one")
    assert client.status(stream) is None
    client.ask(stream, message(b"two"), is_over=True)
    await client.turn()

    assert (served.read, served.ends) == ([b"one", b"two"], ["end"])
    assert client.answer(stream) == message(b"one") + message(b"two")
    assert (client.status(stream), client.resets(stream)) == (0, [])
    assert not served.tasks


async def test_many_calls_at_once_each_with_its_own() -> None:
    served = Served()
    client = Client(served)
    streams = [client.begin() for _ in range(5)]
    for turn in range(3):
        for stream in reversed(streams):
            client.ask(stream, message(b"%d of %d" % (turn, stream)), is_over=turn == 2)
        await client.turn()

    for stream in streams:
        assert client.answer(stream) == b"".join(message(b"%d of %d" % (turn, stream)) for turn in range(3))
        assert client.status(stream) == 0


async def test_what_returns_before_the_peer_has_ended_is_no_success() -> None:
    """L2: Envoy lets a request pass, unprocessed, whose stream ends well."""

    async def leave_at_once(call: Rpc) -> None:
        await call.read()

    served = Served(leave_at_once)
    client = Client(served)
    stream = client.begin()
    client.ask(stream, message())
    await client.turn()

    assert client.status(stream) == INTERNAL


@pytest.mark.parametrize("error", [RuntimeError("bug"), AbortedError("no")])
async def test_whatever_is_raised_is_no_success(error: Exception) -> None:
    async def fail(call: Rpc) -> None:
        if isinstance(error, AbortedError):
            await call.abort(INTERNAL, "50 % föul\n")
        raise error

    served = Served(fail)
    client = Client(served)
    stream = client.begin(is_over=True)
    await client.turn()

    assert client.status(stream) == INTERNAL


async def test_error_after_an_answer_comes_after_it() -> None:
    async def half(call: Rpc) -> None:
        await call.write(await call.read())
        await call.abort(INTERNAL, "enough")

    client = Client(Served(half))
    stream = client.begin()
    client.ask(stream, message(b"one"))
    await client.turn()

    assert (client.answer(stream), client.status(stream)) == (message(b"one"), INTERNAL)


async def test_peer_that_resets_cancels_who_serves_it() -> None:
    served = Served()
    client = Client(served)
    stream, other = client.begin(), client.begin()
    client.ask(stream, message())
    await client.turn()
    client.h2.reset_stream(stream)
    await client.turn()
    assert served.ends == [asyncio.CancelledError]
    client.ask(other, message(b"still here"), is_over=True)
    await client.turn()

    assert client.status(other) == 0


async def test_peer_that_is_gone_cancels_all() -> None:
    served = Served()
    client = Client(served)
    client.begin()
    client.begin()
    await client.turn()
    served.link.connection_lost(None)
    await asyncio.sleep(0.01)

    assert served.ends == [asyncio.CancelledError] * 2
    assert (served.links, served.tasks) == (set(), set())


async def test_write_to_a_peer_that_is_gone_fails() -> None:
    failures: list[BaseException] = []

    async def stubborn(call: Rpc) -> None:
        asked = await call.read()
        while True:
            try:
                await call.read()
            except asyncio.CancelledError:
                break
        try:
            await call.write(asked)
        except ConnectionResetError as error:
            failures.append(error)

    served = Served(stubborn)
    client = Client(served)
    client.ask(client.begin(), message())
    await client.turn()
    served.link.connection_lost(None)
    await asyncio.sleep(0.01)

    assert len(failures) == 1


# How much ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("window", [1, 1000, 65_535])
async def test_long_answers_wait_for_their_reader(window: int) -> None:
    """More than a frame and more than the windows: nothing is lost, nothing overtakes, other calls go on."""
    size = 2000 if window == 1 else 150_000
    served = Served()
    client = Client(served, window=window)
    stream = client.begin()
    client.ask(stream, message(b"L" * size)[:16_000])
    await client.turn()
    long = message(b"L" * size)
    stream = client.begin()
    for at in range(0, len(long), 16_000):
        client.ask(stream, long[at : at + 16_000], is_over=at + 16_000 >= len(long))
        await client.turn()
    for _ in range(10 + 2 * len(long) // window):
        if client.answer(stream) == long:
            break
        for one in client.events:
            if isinstance(one, h2.events.DataReceived) and one.flow_controlled_length:
                client.h2.acknowledge_received_data(one.flow_controlled_length, one.stream_id)
                one.flow_controlled_length = 0
        await client.turn()

    assert client.answer(stream) == long
    assert client.status(stream) == 0


async def test_peer_that_does_not_read_is_waited_for() -> None:
    served = Served()
    client = Client(served)
    stream = client.begin()
    await client.turn()
    served.link.pause_writing()
    client.ask(stream, message(b"one"))
    await client.turn()
    assert client.answer(stream) == b""
    served.link.resume_writing()
    await client.turn()

    assert client.answer(stream) == message(b"one")


async def test_peer_that_asks_on_and_never_reads_is_left() -> None:
    served = Served()
    client = Client(served)
    await client.turn()
    served.transport.unread = 64 * 1024 * 1024
    client.h2.ping(b"12345678")
    client.flush()

    assert served.transport.is_closed


async def test_who_is_not_read_from_may_not_send_on() -> None:
    """The window is what a call may have sent unread; h2 would never break it, so the frame is made by hand."""

    async def never_read(_: Rpc) -> None:
        await asyncio.Event().wait()

    served = Served(never_read)
    client = Client(served)
    stream = client.begin()
    await client.turn()
    sent = 0
    while client.h2.local_flow_control_window(stream) >= 16_000:
        client.ask(stream, b"\0\0\0\0\0" * 3200)
        sent += 16_000
        await client.turn()
    assert sent >= WINDOW - 16_000
    served.link.data_received(http2.frame(http2.DATA, 0, stream, b"\0\0\0\0\0" * 3200) * 2)
    await client.turn()

    assert client.resets(stream) == [http2.FLOW_CONTROL_ERROR]
    assert not served.tasks


async def test_who_is_read_from_may_send_without_end() -> None:
    served = Served()
    client = Client(served)
    stream = client.begin()
    for _ in range(60):
        client.ask(stream, message(b"m" * 15_000))
        await client.turn()
        client.h2.acknowledge_received_data(len(message(b"m" * 15_000)), stream)

    assert len(served.read) == 60


@pytest.mark.parametrize(
    "data",
    [
        b"\1" + message()[1:],
        b"\0" + (MOST + 1).to_bytes(4, "big") + b"x" * 20,
        b"\0\0\0\0\3\xff\xff\xff",
        message()[:-1],
        b"\0\0",
    ],
    ids=["compressed", "too large", "no proto", "cut off", "cut off in its length"],
)
async def test_what_is_no_message_is_an_error_for_who_serves(data: bytes) -> None:
    """L5, and L2: it must not pass for the peer's end."""
    served = Served()
    client = Client(served)
    stream = client.begin()
    client.ask(stream, message(b"good"), data, is_over=True)
    await client.turn()

    assert (served.read, served.ends) == ([b"good"], [PeerError])
    assert client.status(stream) == INTERNAL


# What the protocol says --------------------------------------------------------------------------------------------


async def test_unknown_method() -> None:
    served = Served()
    client = Client(served)
    stream = client.begin(b"/some.Service/Other")
    client.ask(stream, message())
    await client.turn()

    assert (client.status(stream), served.read) == (12, [])


async def test_leaving() -> None:
    """What is open goes on, what is new is refused in a way that says that nothing was done with it."""
    served = Served()
    client = Client(served)
    stream = client.begin()
    await client.turn()
    late = client.begin()  # before the client has heard
    served.link.leave()
    client.ask(stream, message(b"one"), is_over=True)
    client.flush()
    await asyncio.sleep(0.01)
    told = served.transport.take()

    assert http2.frame(http2.RST_STREAM, 0, late, http2.REFUSED_STREAM.to_bytes(4, "big")) in told
    assert http2.frame(http2.GOAWAY, 0, 0, stream.to_bytes(4, "big") + bytes(4)) in told
    assert message(b"one") in told
    assert served.ends == ["end"]


async def test_cutting() -> None:
    served = Served()
    client = Client(served)
    stream = client.begin()
    await client.turn()
    served.link.cut()
    await client.turn()

    assert (served.ends, client.resets(stream)) == ([asyncio.CancelledError], [http2.CANCEL])


async def test_pings_settings_and_what_is_unknown() -> None:
    served = Served()
    client = Client(served)
    client.h2.ping(b"12345678")
    served.link.data_received(client.h2.data_to_send() + http2.frame(0x77, 0xFF, 0, b"what") + priority())
    came = await client.turn()

    assert any(isinstance(one, h2.events.PingAckReceived) and one.ping_data == b"12345678" for one in came)
    assert any(isinstance(one, h2.events.SettingsAcknowledged) for one in came)
    assert not served.transport.is_closed


def priority() -> bytes:
    return http2.frame(http2.PRIORITY, 0, 1, bytes(5))


def head(stream: int, flags: int = http2.END_HEADERS, told: bytes | None = None) -> bytes:
    fields = ((b":method", b"POST"), (b":path", PATH), (b":scheme", b"http"))
    return http2.frame(http2.HEADERS, flags, stream, http2.block(fields) if told is None else told)


async def test_heads_in_pieces_with_padding_and_priority() -> None:
    served = Served()
    told = b"\x03" + bytes(5) + http2.block([(b":path", PATH)]) + bytes(3)
    flags = http2.END_HEADERS | http2.PADDED | http2.WITH_PRIORITY
    whole = http2.block([(b":path", PATH)])
    served.link.data_received(
        http2.PREFACE
        + http2.settings([])
        + head(1, flags, told)
        + head(3, 0, whole[:5])
        + http2.frame(http2.CONTINUATION, 0, 3, whole[5:9])
        + http2.frame(http2.CONTINUATION, http2.END_HEADERS, 3, whole[9:])
        + http2.frame(http2.DATA, http2.PADDED | http2.END_STREAM, 3, b"\x04" + message(b"padded") + bytes(4))
    )
    await asyncio.sleep(0.01)

    assert (len(served.tasks), served.read) == (1, [b"padded"])


@pytest.mark.parametrize(
    ("bad", "code"),
    [
        (http2.frame(http2.DATA, 0, 9, b"x"), http2.PROTOCOL_ERROR),
        (http2.frame(http2.DATA, 0, 2, b"x"), http2.PROTOCOL_ERROR),
        (http2.frame(http2.RST_STREAM, 0, 9, bytes(4)), http2.PROTOCOL_ERROR),
        (http2.frame(http2.RST_STREAM, 0, 1, bytes(3)), http2.FRAME_SIZE_ERROR),
        (http2.frame(http2.WINDOW_UPDATE, 0, 9, bytes(4)), http2.PROTOCOL_ERROR),
        (http2.frame(http2.WINDOW_UPDATE, 0, 0, bytes(4)), http2.FLOW_CONTROL_ERROR),
        (http2.frame(http2.WINDOW_UPDATE, 0, 0, http2.WINDOW_MAX.to_bytes(4, "big")), http2.FLOW_CONTROL_ERROR),
        (http2.frame(http2.SETTINGS, 0, 0, bytes(5)), http2.FRAME_SIZE_ERROR),
        (http2.frame(http2.SETTINGS, 0, 1, b""), http2.PROTOCOL_ERROR),
        (http2.settings([(http2.MAX_FRAME_SIZE, 100)]), http2.PROTOCOL_ERROR),
        (http2.settings([(http2.INITIAL_WINDOW_SIZE, 2**31)]), http2.FLOW_CONTROL_ERROR),
        (http2.frame(http2.PING, 0, 0, bytes(7)), http2.PROTOCOL_ERROR),
        (http2.frame(http2.PUSH_PROMISE, 0, 1, bytes(9)), http2.PROTOCOL_ERROR),
        (http2.frame(http2.CONTINUATION, 0, 1, b""), http2.PROTOCOL_ERROR),
        (head(3, 0) + http2.frame(http2.PING, 0, 0, bytes(8)), http2.PROTOCOL_ERROR),
        (head(3, 0) + http2.frame(http2.CONTINUATION, 0, 5, b""), http2.PROTOCOL_ERROR),
        (head(3, 0) + http2.frame(http2.CONTINUATION, 0, 3, bytes(16_384)) * 5, http2.ENHANCE_YOUR_CALM),
        (head(2), http2.PROTOCOL_ERROR),
        (head(1), http2.PROTOCOL_ERROR),
        (head(3, http2.END_HEADERS, b"\xff\xff\xff\xff\xff\xff\xff"), http2.COMPRESSION_ERROR),
        (head(3, http2.END_HEADERS | http2.PADDED, b"\x09abc"), http2.PROTOCOL_ERROR),
        (b"\xff\xff\xff" + bytes(6), http2.FRAME_SIZE_ERROR),
    ],
)
async def test_what_is_no_http2_ends_the_connection_and_every_call(bad: bytes, code: int) -> None:
    served = Served()
    served.link.data_received(http2.PREFACE + http2.settings([]) + head(1))
    await asyncio.sleep(0)
    assert len(served.tasks) == 1
    served.link.data_received(bad)
    await asyncio.sleep(0.01)

    told = served.transport.take()
    [last] = [told[at + 9 : at + 17] for at in range(len(told)) if told[at : at + 9] == b"\0\0\x08\x07\0\0\0\0\0"]
    assert int.from_bytes(last[4:], "big") == code
    assert served.transport.is_closed
    assert served.ends == [asyncio.CancelledError]


async def test_no_preface() -> None:
    served = Served()
    served.link.data_received(b"GET / HTTP/1.1\r\n\r\n")

    assert served.transport.is_closed


@pytest.mark.parametrize("more", [http2.frame(http2.DATA, 0, 1, b"x"), head(1, http2.END_HEADERS | http2.END_STREAM)])
async def test_word_after_the_end_is_the_end_of_that_call_only(more: bytes) -> None:
    async def wait(_: Rpc) -> None:
        await asyncio.Event().wait()

    served = Served(wait)
    served.link.data_received(
        http2.PREFACE + http2.settings([]) + head(1, http2.END_HEADERS | http2.END_STREAM) + head(3) + more
    )
    await asyncio.sleep(0.01)

    told = served.transport.take()
    assert http2.frame(http2.RST_STREAM, 0, 1, http2.STREAM_CLOSED.to_bytes(4, "big")) in told
    assert len(served.tasks) == 1
    served.link.connection_lost(None)
    await asyncio.sleep(0.01)


async def test_trailers_end_the_peers_side() -> None:
    served = Served()
    client = Client(served)
    stream = client.begin()
    client.ask(stream, message(b"one"))
    client.h2.send_headers(stream, [(b"a", b"b")], end_stream=True)
    await client.turn()

    assert (served.ends, client.status(stream)) == (["end"], 0)


# Whatever the bytes ------------------------------------------------------------------------------------------------


@given(cuts=st.lists(st.integers(0, 3000), max_size=30), bodies=st.lists(st.binary(max_size=900), max_size=4))
def test_how_bytes_come_changes_nothing(cuts: list[int], bodies: list[bytes]) -> None:
    async def tried() -> tuple[list[Any], list[Any], bytes]:
        served = Served()
        client = Client(served)
        stream = client.begin()
        client.ask(stream, *map(message, bodies), is_over=True)
        data = client.h2.data_to_send()
        edges = sorted({0, len(data), *(cut for cut in cuts if cut < len(data))})
        for begin, end in pairwise(edges):
            served.link.data_received(data[begin:end])
            await asyncio.sleep(0)
        await client.turn()
        assert client.status(stream) == 0
        return served.read, served.ends, client.answer(stream)

    assert asyncio.run(tried()) == (bodies, ["end"], b"".join(map(message, bodies)))


@given(st.lists(st.tuples(st.integers(0, 12), st.integers(0, 255), st.integers(0, 5), st.binary(max_size=30))))
def test_frames_of_any_kind_raise_nothing(frames: list[tuple[int, int, int, bytes]]) -> None:
    """They are read, or they end the connection; nothing is said to be well that the peer did not end."""

    async def tried() -> None:
        served = Served()
        served.link.data_received(http2.PREFACE + head(1))
        for kind, flags, stream, payload in frames:
            if not served.transport.is_closed:
                served.link.data_received(http2.frame(kind, flags, stream, payload))
                await asyncio.sleep(0)
        served.link.connection_lost(None)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert not served.tasks

    asyncio.run(tried())


def test_heads_are_known_again_only_where_bytes_mean_the_same() -> None:
    """With a table (before the peer has heard that it has none) one byte means whatever was said before."""
    heads = http2.Heads()
    indexed = b"\x40\x05:path" + b"\x02/a"
    assert heads.path(indexed) == b"/a"
    assert heads.path(b"\xbe") == b"/a"
    assert heads.path(b"\x40\x05:path" + b"\x02/b") == b"/b"
    assert heads.path(b"\xbe") == b"/b"
    heads.forbid_table()
    with pytest.raises(http2.Http2Error):
        heads.path(b"\xbe")  # the peer must say first that it has heard
    heads = http2.Heads()
    heads.forbid_table()
    assert heads.path(b"\x20" + b"\x40\x05:path" + b"\x02/a") == b"/a"
    for path in (b"/c", b"/d", b"/c"):
        assert heads.path(b"\x40\x05:path\x02" + path) == path
    with pytest.raises(http2.Http2Error):
        heads.path(b"\xbe")


@given(st.lists(st.tuples(st.binary(min_size=1, max_size=300), st.binary(max_size=70_000)), max_size=3))
def test_blocks_are_read_as_they_were_meant(fields: list[tuple[bytes, bytes]]) -> None:
    from hpack import Decoder

    read = Decoder(max_header_list_size=10**6).decode(http2.block(fields), raw=True)
    assert [(bytes(name), bytes(value)) for name, value in read] == fields
