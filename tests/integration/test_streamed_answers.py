"""The real listener and an answer that streams: pieces in order, each recorded before it goes, one answer a question."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import grpc
import pytest

from ext_proc import errors
from ext_proc.phases.streaming import DRAINED_MAX_BYTES
from ext_proc.server.computing import STEP_BYTES
from tests.fakes import envoy
from tests.fakes.content import FakeStream
from tests.fakes.gate import running_gate

if TYPE_CHECKING:
    from datetime import datetime

    from ext_proc.model import Entry, Piece, Receipt
    from tests.fakes.gate import FakeGate

KIND, INTERNAL, OK = "inference.part", grpc.StatusCode.INTERNAL, grpc.StatusCode.OK
PIECES = (b"data: ada@example.com\n\n", b"data: two\n\n", b"data: three\n\n")
MASKED = b"data: <email>\n\n"


async def being_recorded(gate: FakeGate, exchange: Any, piece: bytes) -> None:
    """A piece whose record is on its way; it is held there."""
    kinds = gate.recorder.begun
    while not kinds.empty():
        kinds.get_nowait()
    await exchange.send(envoy.piece(piece))
    assert await asyncio.wait_for(kinds.get(), 20) == KIND


async def begun(gate: FakeGate) -> Any:
    """An exchange whose answer's head is released."""
    exchange = gate.begin()
    await exchange.ask(envoy.request_headers())
    await exchange.ask(envoy.request_body())
    released = await exchange.ask(envoy.response_headers(envoy.STREAM))
    assert envoy.metadata(released)["response"] == "released"
    return exchange


def body(answer: Any) -> bytes:
    """What is let on."""
    said: bytes = answer.response_body.response.body_mutation.body
    return said


async def test_whole_stream() -> None:
    async with running_gate() as gate:
        exchange = gate.begin()
        await exchange.ask(envoy.request_headers())
        await exchange.ask(envoy.request_body())
        released = await exchange.ask(envoy.response_headers(envoy.STREAM))
        mode = released.mode_override
        assert (mode.request_body_mode, mode.response_body_mode) == (2, 1)  # BUFFERED, STREAMED: on Envoy's list
        assert "content-length" in released.response_headers.response.header_mutation.remove_headers
        answers = [await exchange.ask(envoy.piece(piece)) for piece in PIECES]
        answers.append(await exchange.ask(envoy.piece(b"", is_last=True)))
        await exchange.half_close()

        assert await exchange.status() is OK
        assert [body(answer) for answer in answers] == [MASKED, *PIECES[1:], b""]
        assert [envoy.metadata(answer).get("piece") for answer in answers] == ["1", "2", "3", "4"]
        assert gate.recorder.kinds() == ["intent", "part", "part", "part", "part", "outcome"]
        assert gate.recorder.entries[-1].facts["outcome"]["released_bytes"] == len(MASKED + b"".join(PIECES[1:]))


async def test_no_piece_before_its_record_is_durable() -> None:
    async with running_gate() as gate:
        exchange = await begun(gate)
        hold = gate.recorder.hold(KIND)
        await exchange.send(envoy.piece(PIECES[0]))
        asking = asyncio.create_task(exchange.answer())
        await asyncio.sleep(0.1)
        assert not asking.done()
        hold.set()
        assert body(await asking) == MASKED


async def test_pieces_that_come_meanwhile_go_together() -> None:
    """Three reads while one record is on its way: one record for the rest, and an answer for each question (L3)."""
    async with running_gate() as gate:
        exchange = await begun(gate)
        hold = gate.recorder.hold(KIND)
        await being_recorded(gate, exchange, PIECES[0])
        last = envoy.piece(b"data: 4\n\n", is_last=True)
        async with gate.hearing(3):
            await exchange.send(*(envoy.piece(piece) for piece in PIECES[1:]), last)
        hold.set()
        answers = [await exchange.answer() for _ in range(4)]
        await exchange.half_close()

        assert await exchange.status() is OK
        assert [body(answer) for answer in answers] == [MASKED, b"", b"", b"".join(PIECES[1:]) + b"data: 4\n\n"]
        assert gate.recorder.kinds() == ["intent", "part", "part", "outcome"]


async def test_a_caller_who_leaves_is_told_to_the_byte() -> None:
    async with running_gate() as gate:
        exchange = await begun(gate)
        await exchange.ask(envoy.piece(PIECES[0]))
        exchange.leave()
        await gate.recorder.until(4)

        assert gate.recorder.statuses() == ["abandoned"]
        assert gate.recorder.entries[-1].facts["outcome"]["released_bytes"] == len(MASKED)


async def test_a_caller_who_leaves_during_a_record_gets_nothing_more() -> None:
    async with running_gate() as gate:
        exchange = await begun(gate)
        await exchange.ask(envoy.piece(PIECES[0]))
        hold = gate.recorder.hold(KIND)
        await being_recorded(gate, exchange, PIECES[1])
        async with gate.hearing():
            exchange.leave()
        hold.set()
        await gate.recorder.until(5)

        assert gate.recorder.statuses() == ["abandoned"]
        assert gate.recorder.entries[-1].facts["outcome"]["released_bytes"] == len(MASKED)


@pytest.mark.parametrize(
    ("how", "status", "code"),
    [("unreadable", "error", "upstream_unreadable"), ("blocked", "denied", "content_blocked")],
)
async def test_a_stream_that_may_not_go_on_ends_in_the_protocols_words(how: str, status: str, code: str) -> None:
    async with running_gate() as gate:
        exchange = await begun(gate)
        await exchange.ask(envoy.piece(PIECES[0]))
        if how == "blocked":
            gate.content.blocked["feed"] = ("SECRET_KEY",)
        else:
            gate.content.errors["feed"] = errors.UpstreamError("sse")
        last_words = await exchange.ask(envoy.piece(PIECES[1]))
        drained = [await exchange.ask(envoy.piece(PIECES[2], is_last=is_last)) for is_last in (False, True)]
        await exchange.half_close()

        assert await exchange.status() is OK
        assert body(last_words).endswith(b"event: error\ndata: " + code.encode() + b"\n\n")
        assert envoy.metadata(last_words)["outcome"] == status
        assert [body(answer) for answer in drained] == [b"", b""]
        assert gate.recorder.statuses() == [status]
        told = gate.recorder.entries[-1].facts["outcome"]
        assert (told["code"], told["released_bytes"]) == (code, len(MASKED) + len(body(last_words)))


async def test_a_piece_that_cannot_be_recorded_does_not_pass() -> None:
    async with running_gate() as gate:
        exchange = await begun(gate)
        await exchange.ask(envoy.piece(PIECES[0]))
        gate.recorder.errors[KIND] = errors.AuditUnavailable("full")
        answer = await exchange.ask(envoy.piece(PIECES[1]))
        await exchange.ask(envoy.piece(b"", is_last=True))
        await exchange.half_close()
        await gate.recorder.until(4)

        assert body(answer) == b"event: error\ndata: audit_unavailable\n\n"
        assert gate.recorder.statuses() == ["unrecorded"]


async def test_a_head_that_cannot_be_recorded_is_refused() -> None:
    async with running_gate() as gate:
        gate.recorder.errors[KIND] = errors.AuditUnavailable("full")
        exchange = gate.begin()
        await exchange.ask(envoy.request_headers())
        await exchange.ask(envoy.request_body())
        answer = await exchange.ask(envoy.response_headers(envoy.STREAM))

        assert answer.immediate_response.status.code == 503


async def test_a_bug_half_way_is_an_end_with_a_word() -> None:
    """Never a clean close: Envoy would take it for consent (L2)."""
    async with running_gate() as gate:
        exchange = await begun(gate)
        gate.content.errors["feed"] = RuntimeError("planted")
        answer = await exchange.ask(envoy.piece(PIECES[0]))
        assert body(answer) == b"event: error\ndata: internal\n\n"
        exchange.leave()


@pytest.mark.parametrize(
    "headers",
    [
        ((":status", "200"), ("content-type", "application/json")),
        ((":status", "500"), ("content-type", "text/event-stream")),
        ((":status", "200"), ("content-type", "text/event-stream"), ("content-encoding", "gzip")),
        ((":status", "200"), ("content-type", "text/event-stream"), ("content-type", "text/event-stream")),
        ((":status", "200"), ("content-type", "text/html")),
    ],
)
async def test_what_does_not_stream_is_waited_for(headers: Any) -> None:
    async with running_gate() as gate:
        exchange = gate.begin()
        await exchange.ask(envoy.request_headers())
        await exchange.ask(envoy.request_body())
        answer = await exchange.ask(envoy.response_headers(headers))

        assert not answer.HasField("mode_override")
        assert "response" not in envoy.metadata(answer)


@pytest.mark.parametrize("size", [1, 64 * 1024], ids=["byte by byte", "in large pieces"])
async def test_an_upstream_that_does_not_stop_is_broken_off(size: int) -> None:
    """Its answer is over for us: what it says on is let run dry, but not for ever."""
    async with running_gate() as gate:
        exchange = await begun(gate)
        gate.content.errors["feed"] = errors.UpstreamError("sse")
        await exchange.ask(envoy.piece(PIECES[0]))
        most = DRAINED_MAX_BYTES // max(size, 256)
        for _ in range(most):
            assert body(await exchange.ask(envoy.piece(b"x" * size))) == b""
        broken_off = await exchange.ask(envoy.piece(b"x" * size))
        assert broken_off.WhichOneof("response") == "immediate_response"
        await exchange.send(envoy.piece(b"x" * size))  # was on its way: nobody asks for an answer any more
        await exchange.half_close()

        assert await exchange.status() is OK
        assert gate.recorder.statuses() == ["error"]


class _Slow(FakeStream):
    """Each look takes until ``go_on``."""

    def __init__(self, content: Any) -> None:
        super().__init__(content)
        self.sizes: list[int] = []
        self.has_begun, self.go_on, self.is_done = threading.Event(), threading.Event(), threading.Event()

    def feed(self, data: bytes, *, is_last: bool) -> Piece:
        self.sizes.append(len(data))
        self.has_begun.set()
        assert self.go_on.wait(20)
        self.is_done.set()
        return super().feed(data, is_last=is_last)


async def test_nobody_masks_on_for_a_caller_who_left() -> None:
    """A large piece is masked step by step: where its caller has left, only the step in progress is done."""
    async with running_gate() as gate:
        gate.content.stream = slow = _Slow(gate.content)
        exchange = await begun(gate)
        await exchange.send(envoy.piece(b"data: %s\n\n" % (b"x" * 10 * STEP_BYTES)))
        await asyncio.to_thread(slow.has_begun.wait, 20)
        exchange.leave()
        await gate.recorder.until(3)
        assert gate.recorder.statuses() == ["abandoned"]
        slow.go_on.set()
        await asyncio.to_thread(slow.is_done.wait, 20)
    assert len(slow.sizes) == 1
    assert slow.sizes[0] <= STEP_BYTES


async def test_who_left_is_on_record_without_their_key() -> None:
    """A registry of keys that does not answer: what came cannot be kept, but that they left, and when, can."""
    async with running_gate() as gate:
        gate.content.stream = slow = _Slow(gate.content)
        record = gate.recorder.record

        async def without_keys(entry: Entry, now: datetime) -> Receipt:
            if entry.payloads:
                raise errors.AuditUnavailable("registry")
            return await record(entry, now)

        exchange = await begun(gate)
        slow.go_on.set()
        await exchange.ask(envoy.piece(PIECES[0]))
        slow.has_begun.clear()
        slow.go_on.clear()
        gate.recorder.record = without_keys  # type: ignore[method-assign]
        await exchange.send(envoy.piece(b"data: %s\n\n" % (b"x" * STEP_BYTES)))
        await asyncio.to_thread(slow.has_begun.wait, 20)
        exchange.leave()
        await gate.recorder.until(4)
        slow.go_on.set()
        assert gate.recorder.statuses() == ["unrecorded"]
        assert gate.recorder.entries[-1].facts["outcome"]["released_bytes"] == len(MASKED)


async def test_a_large_piece_is_one_piece() -> None:
    """One record, and one answer, however many steps there were; what ends a stream ends them too."""
    said = b"data: %s\n\n" % (b"x" * 10 * STEP_BYTES)
    async with running_gate() as gate:
        gate.content.stream = slow = _Slow(gate.content)
        slow.go_on.set()
        exchange = await begun(gate)
        assert body(await exchange.ask(envoy.piece(said))) == said
        assert gate.recorder.kinds() == ["intent", "part", "part"]
        assert len(slow.sizes) == 11
        gate.content.blocked["feed"] = ("EMAIL",)
        await exchange.ask(envoy.piece(said))
        assert len(slow.sizes) == 12


@pytest.mark.parametrize(
    ("said", "where"), [(b"x" * 1000, "MainThread"), (b"4" * 1000, "computing"), (b"x" * 3000, "computing")]
)
async def test_pieces_of_numbers_are_not_masked_in_the_loop(said: bytes, where: str) -> None:
    """A dozen streams of nothing but numbers kept all other callers waiting for 11 s a call."""
    threads: list[str] = []

    class Watched(FakeStream):
        def feed(self, data: bytes, *, is_last: bool) -> Piece:
            threads.append(threading.current_thread().name.partition("_")[0])
            return super().feed(data, is_last=is_last)

    async with running_gate() as gate:
        gate.content.stream = Watched(gate.content)
        exchange = await begun(gate)
        await exchange.ask(envoy.piece(b"data: %s\n\n" % said))
    assert threads == [where]


async def test_bodies_do_not_stand_before_what_waits_for_a_disk() -> None:
    """What computes for long has threads of its own: those of the loop are for keys and credentials."""

    class Loops(ThreadPoolExecutor):
        def submit(self, *_: Any, **__: Any) -> Any:
            raise AssertionError("for what waits only")

    asyncio.get_running_loop().set_default_executor(Loops(1))
    async with running_gate() as gate:
        gate.content.stream = slow = _Slow(gate.content)
        slow.go_on.set()
        exchange = gate.begin()
        await exchange.ask(envoy.request_headers())
        await exchange.ask(envoy.request_body(b'"' + b"x" * 100_000 + b'"'))
        await exchange.ask(envoy.response_headers(envoy.STREAM))
        await exchange.ask(envoy.piece(b"data: %s\n\n" % (b"x" * STEP_BYTES)))
        assert len(slow.sizes) == 2
        assert gate.recorder.kinds() == ["intent", "part", "part"]
