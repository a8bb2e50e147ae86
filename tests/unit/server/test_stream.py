"""`ext_proc.server.stream` where timing decides: a read and a step that end in one turn of the loop, and the exits."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import grpc
import grpc.aio
import pytest

from ext_proc.errors import PeerError
from ext_proc.model import Receipt, Refusal
from ext_proc.phases import effects as do
from ext_proc.server.stream import Rooms, Stream
from tests.fakes import envoy
from tests.fakes.content import FakeContent, FakeCredentials
from tests.fakes.exchange import ADA, AT, DEMO
from tests.fakes.identity import FakeIdentities
from tests.fakes.policy import FakePolicy

if TYPE_CHECKING:
    from datetime import datetime

    from ext_proc.model import Entry, ExchangeId

EOF: Any = grpc.aio.EOF  # type: ignore[attr-defined]  # the stubs leave it out


class AbortedError(Exception):
    """What gRPC raises where a handler aborts."""


class FakeContext:
    """gRPC's side of a stream, one read at a time."""

    def __init__(self) -> None:
        self.questions: asyncio.Queue[Any] = asyncio.Queue()
        self.answers: asyncio.Queue[Any] = asyncio.Queue()
        self.write_error: BaseException | None = None
        self.status: grpc.StatusCode | None = None

    async def read(self) -> Any:
        question = await self.questions.get()
        if isinstance(question, BaseException):
            raise question
        return question

    async def write(self, message: Any) -> None:
        if self.write_error is not None:
            raise self.write_error
        self.answers.put_nowait(message)

    async def abort(self, code: grpc.StatusCode, details: str) -> None:
        self.status = code
        raise AbortedError(details)

    async def ask(self, question: Any) -> Any:
        self.questions.put_nowait(question)
        return await asyncio.wait_for(self.answers.get(), 30)


class PromptRecorder:
    """Ends a record in the very turn in which it is told to."""

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self.over: list[tuple[ExchangeId, int]] = []
        self.begun = asyncio.Event()
        self.through: asyncio.Future[None] | None = None

    def admit(self, size_bytes: int) -> None:
        """See `ports.Recorder.admit`."""

    def hold(self) -> asyncio.Future[None]:
        self.begun.clear()
        self.through = asyncio.get_running_loop().create_future()
        return self.through

    async def record(self, entry: Entry, now: datetime) -> Receipt:
        """See `ports.Recorder.record`."""
        self.begun.set()
        if self.through is not None:
            await self.through
        self.entries.append(entry)
        return Receipt("fake", len(self.entries) - 1, "0" * 64)

    def ended(self, exchange_id: ExchangeId) -> None:
        """See `ports.Recorder.ended`."""
        self.over.append((exchange_id, len(self.entries)))

    def story(self) -> list[str]:
        return [
            e.facts["outcome"]["status"] if "outcome" in e.facts else e.kind.partition(".")[2] for e in self.entries
        ]


class Driven:
    """A stream under way over a `FakeContext`."""

    def __init__(self, group: asyncio.TaskGroup) -> None:
        self.context = FakeContext()
        self.recorder = PromptRecorder()
        self.policy = FakePolicy()
        self.rooms = Rooms(
            FakeIdentities({"callers-own": ADA}),
            FakeContent(),
            self.policy,
            self.recorder,
            FakeCredentials(),
            lambda: {"demo": DEMO},
            lambda: AT,
            ThreadPoolExecutor(1),
        )
        self.stream = Stream(self.rooms, self.context, group)  # type: ignore[arg-type]
        self.running = asyncio.create_task(self.stream.run())

    async def held_at(self, *questions: Any) -> asyncio.Future[None]:
        """Ask these; the record that the last one leads to is held."""
        for question in questions[:-1]:
            await self.context.ask(question)
        through = self.recorder.hold()
        self.context.questions.put_nowait(questions[-1])
        await asyncio.wait_for(self.recorder.begun.wait(), 30)
        return through

    async def both(self, through: asyncio.Future[None], question: Any) -> None:
        """The record and a word of Envoy's, in one turn."""
        self.recorder.through = None
        through.set_result(None)
        self.context.questions.put_nowait(question)


async def test_intent_and_the_end_in_one_turn() -> None:
    """Envoy is gone, so the call is not let on, and nothing is said to have been."""
    async with asyncio.TaskGroup() as group:
        driven = Driven(group)
        through = await driven.held_at(envoy.request_headers(), envoy.request_body())
        await driven.both(through, EOF)
        await driven.running

    assert driven.context.answers.empty()
    assert driven.recorder.story() == ["intent", "abandoned"]
    assert "forwarded" not in driven.recorder.entries[1].facts["time"]


async def test_intent_and_a_local_reply_in_one_turn() -> None:
    """Envoy has given up on us: its own 504 must not pass for the upstream's answer."""
    async with asyncio.TaskGroup() as group:
        driven = Driven(group)
        through = await driven.held_at(envoy.request_headers(), envoy.request_body())
        await driven.both(through, envoy.local_reply(is_last=True))
        answer = await asyncio.wait_for(driven.context.answers.get(), 30)
        driven.context.questions.put_nowait(EOF)
        await driven.running

    assert (answer.WhichOneof("response"), envoy.metadata(answer)) == ("response_headers", {})
    assert driven.recorder.story() == ["intent", "local_reply"]


async def test_outcome_and_the_end_in_one_turn() -> None:
    async with asyncio.TaskGroup() as group:
        driven = Driven(group)
        questions = (envoy.request_headers(), envoy.request_body(), envoy.response_headers(), envoy.response_body())
        through = await driven.held_at(*questions)
        await driven.both(through, EOF)
        await driven.running

    assert driven.recorder.story() == ["intent", "completed", "undelivered"]


async def test_intent_and_a_word_out_of_turn_at_once() -> None:
    async with asyncio.TaskGroup() as group:
        driven = Driven(group)
        through = await driven.held_at(envoy.request_headers(), envoy.request_body())
        await driven.both(through, envoy.trailers())
        with pytest.raises(AbortedError):
            await driven.running

    assert driven.context.answers.empty()
    assert driven.recorder.story() == ["intent", "abandoned"]


@pytest.mark.parametrize("error", [RuntimeError("rpc"), asyncio.CancelledError("not ours")])
async def test_read_that_fails_is_no_end(error: BaseException) -> None:
    """L2: only Envoy's own end may be answered with OK. A stray cancellation is no reset by Envoy either."""
    async with asyncio.TaskGroup() as group:
        driven = Driven(group)
        await driven.context.ask(envoy.request_headers())
        await driven.context.ask(envoy.request_body())
        driven.context.questions.put_nowait(error)
        with pytest.raises(AbortedError):
            await driven.running

    assert driven.context.status is grpc.StatusCode.INTERNAL
    assert driven.recorder.story() == ["intent", "abandoned"]


@pytest.mark.parametrize("error", [RuntimeError("rpc"), asyncio.CancelledError("not ours")])
async def test_write_that_fails_is_an_error(error: BaseException) -> None:
    async with asyncio.TaskGroup() as group:
        driven = Driven(group)
        await driven.context.ask(envoy.request_headers())
        driven.context.write_error = error
        driven.context.questions.put_nowait(envoy.request_body())
        with pytest.raises(AbortedError):
            await driven.running

    assert driven.recorder.story() == ["intent", "abandoned"]


async def test_release_that_fails_is_undelivered() -> None:
    """L7: the outcome says what was released; if the word could not even be written, that is put right."""
    async with asyncio.TaskGroup() as group:
        driven = Driven(group)
        for question in (envoy.request_headers(), envoy.request_body(), envoy.response_headers()):
            await driven.context.ask(question)
        driven.context.write_error = RuntimeError("rpc")
        driven.context.questions.put_nowait(envoy.response_body())
        with pytest.raises(AbortedError):
            await driven.running

    assert driven.recorder.story() == ["intent", "completed", "undelivered"]


@pytest.mark.parametrize("end", [EOF, asyncio.CancelledError])
async def test_what_is_over_is_said_to_be_over_when_everything_is_on_record(end: Any) -> None:
    """L7: until then recovery must not take the outcome at its word."""
    async with asyncio.TaskGroup() as group:
        driven = Driven(group)
        for question in (envoy.request_headers(), envoy.request_body(), envoy.response_headers()):
            await driven.context.ask(question)
        await driven.context.ask(envoy.response_body())
        assert driven.recorder.over == [], "Envoy has not ended the stream yet: it may not have the answer"
        if end is EOF:
            driven.context.questions.put_nowait(EOF)
            await driven.running
        else:
            driven.running.cancel()
            with pytest.raises(asyncio.CancelledError):
                await driven.running

    [(exchange_id, count)] = driven.recorder.over
    assert (exchange_id, count) == (driven.recorder.entries[0].exchange_id, 2)


async def test_what_was_not_taken_is_on_record_before_it_is_over() -> None:
    async with asyncio.TaskGroup() as group:
        driven = Driven(group)
        questions = (envoy.request_headers(), envoy.request_body(), envoy.response_headers(), envoy.response_body())
        through = await driven.held_at(*questions)
        await driven.both(through, EOF)
        await driven.running

    assert [count for _, count in driven.recorder.over] == [len(driven.recorder.story())]


async def test_answer_to_no_question() -> None:
    """L3: whatever the session says, one question gets one answer."""
    async with asyncio.TaskGroup() as group:
        driven = Driven(group)
        await driven.context.ask(envoy.request_headers())
        for effect in (do.Continue(), do.Refuse(Refusal(403, "denied", "no"), None, "/", {})):
            with pytest.raises(PeerError, match="an answer to no question"):
                await driven.stream._perform((effect,))
        driven.context.questions.put_nowait(EOF)
        await driven.running

    assert driven.context.answers.empty()


async def test_cancelled_by_envoys_reset() -> None:
    async with asyncio.TaskGroup() as group:
        driven = Driven(group)
        through = await driven.held_at(envoy.request_headers(), envoy.request_body())
        driven.running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await driven.running
        assert driven.recorder.entries == []
        driven.recorder.through = None
        through.set_result(None)

    assert driven.context.status is None
    assert driven.recorder.story() == ["intent", "abandoned"]


async def test_reset_while_the_end_is_being_recorded() -> None:
    """Half-closed, then reset: the record goes on without the stream."""
    async with asyncio.TaskGroup() as group:
        driven = Driven(group)
        await driven.context.ask(envoy.request_headers())
        through = driven.recorder.hold()
        driven.context.questions.put_nowait(EOF)
        await asyncio.wait_for(driven.recorder.begun.wait(), 30)
        driven.running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await driven.running
        through.set_result(None)

    assert driven.recorder.story() == ["abandoned"]
