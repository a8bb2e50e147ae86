"""The real listener and an answer that streams: pieces in order, each recorded before it goes, one answer a question."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import grpc
import pytest

from ext_proc import errors
from tests.fakes import envoy
from tests.fakes.gate import running_gate

if TYPE_CHECKING:
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
