"""One stream, one exchange: perform what the session asks for. The laws that hold here, each with a test:

L1  Nothing passes before its record is durable (the session orders it; nothing here reorders).
L2  The stream ends with status OK only after Envoy ended it. Every other way out awaits ``context.abort``.
L3  One question from Envoy, exactly one answer (a question that Envoy itself overtook gets none).
L4  The record outlives the caller: it runs in a task of the server's own, with its own deadline.
L5  Unknown is deny: what the table does not know aborts the stream.
L6  Nothing that a caller sends can reduce what is captured, scanned or masked.
L7  The record never claims more than happened.

A reader is always waiting beside the step in progress, so a caller who leaves, or a time-out of Envoy's, is seen at
once and not after the step.
"""

from __future__ import annotations

import asyncio
import traceback
from dataclasses import dataclass
from time import perf_counter
from typing import TYPE_CHECKING, Any, Final

import grpc
import grpc.aio

from ext_proc import telemetry
from ext_proc.errors import ApprovalUnavailable, AuditUnavailable, GateError, PeerError
from ext_proc.phases import StreamingSession
from ext_proc.phases import effects as do
from ext_proc.phases import events as ev
from ext_proc.server import meters, wire
from ext_proc.server.computing import masked, takes_long

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from concurrent.futures import Executor
    from datetime import datetime

    from ext_proc.model import Call, Connection, Decision, Receipt, Tokens
    from ext_proc.ports import Content, Credentials, Holds, Identities, Policy, Recorder, TokenDesk
    from ext_proc.tracing import Trace, Tracing

RECORD_DEADLINE_SECONDS: Final = 10.0
"""After this a record is taken as failed and the caller refused: a disk that takes longer is broken."""

INLINE_BYTES: Final = 16 * 1024
"""Bodies up to this are scanned in the event loop (prose takes 0.3 ms, but nothing but numbers 60); larger ones in a
thread: no stream waits for them."""

_EOF: Final[Any] = grpc.aio.EOF  # type: ignore[attr-defined]  # the stubs leave it out

TRACE_HEADER: Final = "traceparent"
"""W3C Trace Context: in Envoy's own call of the gate where Envoy traces, else what the caller sent."""

_log = telemetry.logger()


@dataclass(frozen=True, slots=True)
class Rooms:
    """Everything a stream needs of the rooms, joined by ``app``."""

    identities: Identities
    content: Content
    policy: Policy
    recorder: Recorder
    credentials: Credentials
    connections: Callable[[], Mapping[str, Connection]]
    clock: Callable[[], datetime]
    computing: Executor
    """Threads for what computes for long (`server.computing`)."""
    record_deadline_seconds: float = RECORD_DEADLINE_SECONDS
    tokens: TokenDesk | None = None
    holds: Holds | None = None
    tracing: Tracing | None = None


class Stream:
    """Drives one session over one gRPC stream."""

    def __init__(self, rooms: Rooms, context: grpc.aio.ServicerContext[Any, Any], lasting: asyncio.TaskGroup) -> None:
        self._rooms = rooms
        self._context = context
        self._lasting = lasting
        self._loop = asyncio.get_running_loop()
        self._session = StreamingSession(rooms.connections())
        self._phase: str | None = None
        self._waiting: list[ev.ResponseBody] = []  # pieces of a streamed answer that came while a step was in progress
        self._began = perf_counter()
        self._took: dict[str, float] = {}  # seconds, by step
        self._mark = telemetry.NOBODY
        self._trace: Trace | None = None
        self._joined = 0  # pieces that came before the one that is asked about, and are answered with it
        self._step: asyncio.Future[ev.AnswerEvent] | None = None

    async def run(self) -> None:
        """The whole stream, with its one checked exit (L2): only a conversation that Envoy ended returns."""
        telemetry.exchange_began()
        fault: GateError | None = None
        try:
            await self._converse()
        except asyncio.CancelledError:
            if _is_cancelled():  # Envoy reset the stream: what is left to record goes on without us (L4)
                self._begin_end()
                raise
            fault = GateError("stray cancellation")
        except GateError as error:
            fault = error
        except Exception as bug:  # noqa: BLE001 - the outermost frame: a bug must refuse, never pass
            self._log_bug("stream failed", bug)
            fault = GateError("bug")
        if fault is not None:
            self._session.blame(fault)
            telemetry.count(telemetry.ABORTED)
            _log.error("stream aborted", exchange=self._session.exchange_id, detail=fault.detail)
        ending = self._begin_end()
        if ending is not None:
            await asyncio.shield(ending)
        if fault is not None:
            await self._context.abort(grpc.StatusCode.INTERNAL, "affidavit: stream aborted")

    # ---------------------------------------------------------------------------------------------------------------

    async def _converse(self) -> None:
        """Take Envoy's questions and the steps' answers as they come, until Envoy ends the stream."""
        reading: asyncio.Task[Any] | None = None  # only while a step is in progress, and what is left of it then
        try:
            while True:
                if self._step is not None:
                    if reading is None:
                        reading = self._loop.create_task(self._context.read())
                    await _first_of(reading, self._step)
                    if not reading.done():  # else before the step: where both came at once, Envoy has gone its own way
                        step, self._step = self._step, None
                        await self._perform(self._session.handle(step.result()))
                        if self._waiting and self._step is None:
                            await self._ask_joined()
                        continue
                message = await (self._context.read() if reading is None else reading)
                reading = None
                if message is _EOF:
                    return
                await self._ask(message)
        finally:
            if reading is not None and not reading.done():
                reading.cancel()

    async def _ask(self, message: Any) -> None:
        phase, event = wire.read_question(message, self._rooms.clock())
        if self._step is not None and self._session.is_streaming and isinstance(event, ev.ResponseBody):
            self._waiting.append(event)
            return
        self._phase = phase
        if isinstance(event, ev.RequestHeaders):
            self._mark = (event.attributes.exchange_id, self._begin_trace(event))
        effects = self._session.handle(event)
        if effects and self._step is not None:  # overtaken: the step's answer is not wanted any more
            self._step.cancel()
            self._step = None
        await self._perform(effects)

    def _begin_trace(self, event: ev.RequestHeaders) -> str:
        """The trace that Envoy is in, or else the caller, goes on here; its id, empty where nobody traces."""
        if self._rooms.tracing is None:
            return ""
        ours = [str(value) for name, value in self._context.invocation_metadata() or () if name == TRACE_HEADER]
        theirs = [value.decode("latin-1") for name, value in event.headers if name == TRACE_HEADER]
        self._trace = self._rooms.tracing.begin(ours or theirs, event.attributes.exchange_id, event.at)
        return self._trace.trace_id

    async def _ask_joined(self) -> None:
        """Pieces that came meanwhile are masked, recorded and released as one; each question has its answer (L3)."""
        pieces, self._waiting = self._waiting, []
        self._phase, self._joined = wire.RESPONSE_BODY, len(pieces) - 1
        last = pieces[-1]
        joined = ev.ResponseBody(last.at, b"".join(piece.body for piece in pieces), last.is_last)
        await self._perform(self._session.handle(joined))

    def _begin_end(self) -> asyncio.Task[None] | None:
        """The stream is over. If something is left to record, do it in a task that outlives the stream (L4)."""
        step, self._step = self._step, None
        effects = self._session.handle(ev.StreamEnded(self._rooms.clock()))
        if not effects and step is None:
            self._closed()
            return None
        if effects and step is not None:
            step.cancel()
            step = None
        return self._lasting.create_task(self._end(effects, step))

    async def _end(self, effects: tuple[do.Effect, ...], step: asyncio.Future[ev.AnswerEvent] | None) -> None:
        """Record what must be recorded; nobody is there to be answered any more."""
        try:
            if step is not None:
                effects = self._session.handle(await step)
            while effects and isinstance(effects[0], do.Record):
                effects = self._session.handle(await self._recorded(effects[0]))
        except Exception as bug:  # noqa: BLE001 - part of the outermost frame: the task must not take the server down
            self._log_bug("stream end failed", bug)
        finally:
            self._closed()

    # ---------------------------------------------------------------------------------------------------------------

    async def _perform(self, effects: tuple[do.Effect, ...]) -> None:
        """Steps that only compute are done here and now; those that wait become the step in progress."""
        while effects:
            [effect] = effects
            match effect:
                case do.Continue():
                    phase = self._open_phase()
                    while self._joined:
                        self._joined -= 1
                        await self._send(wire.answer(phase, do.Continue(body=b"")))
                    await self._send(wire.answer(phase, effect))
                    return
                case do.Refuse():
                    self._open_phase()
                    content_type, body = self._rooms.content.refusal(effect.connection, effect.path, effect.refusal)
                    await self._send(wire.refuse(effect.refusal, content_type, body, effect.metadata))
                    return
                case do.Record():
                    self._step = self._recorded(effect)
                    return
                case do.Authenticate() if (known := self._recalled(effect)) is not None:
                    effects = self._session.handle(known)
                case _ if _is_waited_for(effect):
                    self._step = self._lasting.create_task(self._done(effect))
                    return
                case _:
                    effects = self._session.handle(self._computed(effect))

    def _open_phase(self) -> str:
        """The question that is being answered, closed by this call (L3)."""
        phase, self._phase = self._phase, None
        if phase is None:
            raise PeerError("an answer to no question")
        return phase

    async def _send(self, message: Any) -> None:
        try:
            await self._context.write(message)
        except Exception:  # of any kind: passed on as it is (a reset is none: then it may have been delivered)
            self._session.unanswered()
            raise

    # The steps -----------------------------------------------------------------------------------------------------

    async def _done(self, effect: do.Step) -> ev.AnswerEvent:
        """Do a step that waits. Always an event, never an exception."""
        started = perf_counter()
        told: ev.AnswerEvent | None = None
        try:
            told = await self._do(effect)
        except GateError as error:
            told = ev.Failed(self._rooms.clock(), error)
        except asyncio.CancelledError as stray:
            if _is_cancelled():
                raise
            told = self._failed_by_bug(effect, stray)  # a room's own: it must not pass for the caller having left
        except Exception as bug:  # noqa: BLE001 - the outermost frame of a step's task
            told = self._failed_by_bug(effect, bug)
        finally:
            self._took_step(effect, perf_counter() - started, told)
        return told

    def _took_step(self, effect: do.Step, seconds: float, told: ev.AnswerEvent | None) -> None:
        """Measured: how long, whose, and how it went (None: nobody waits for it any more)."""
        name = type(effect).__name__
        telemetry.step_took(name, seconds, self._mark)
        self._took[name] = self._took.get(name, 0.0) + seconds
        if self._trace is not None:
            self._trace.step(name, seconds, "left" if told is None else _code_of(told))
        meters.count_step(effect, told, seconds)

    async def _do(self, effect: do.Step) -> ev.AnswerEvent:  # noqa: PLR0911 - one for each step
        rooms = self._rooms
        match effect:
            case do.Decide(call):
                decision = await rooms.policy.decide(call)
                return ev.Decided(rooms.clock(), decision)
            case do.AskApproval(asking):
                standing = await self._holds.ask(asking, rooms.clock())
                return ev.HoldStands(rooms.clock(), standing)
            case do.AwaitApproval(hold_id, exchange_id, until):
                standing = await self._holds.wait(hold_id, exchange_id, until)
                return ev.HoldStands(rooms.clock(), standing)
            case do.OpenTokens(call, decision):
                tokens = await self._tokens(call, decision)
                return ev.TokensOpened(rooms.clock(), tokens)
            case do.Authenticate(presented, connection):
                identity = await rooms.identities.authenticate(presented, connection, rooms.clock())
                return ev.Authenticated(rooms.clock(), identity)
            case do.RedactPiece(answer, body, is_last):
                piece = await masked(rooms.computing, answer, body, is_last=is_last)
                return ev.PieceRedacted(rooms.clock(), piece)
            case _:
                return await self._loop.run_in_executor(rooms.computing, self._compute, effect)

    @property
    def _holds(self) -> Holds:
        if self._rooms.holds is None:
            raise ApprovalUnavailable("none is joined")
        return self._rooms.holds

    async def _tokens(self, call: Call, decision: Decision) -> Tokens:
        rooms, told = self._rooms, (call.inspection, decision.redact_request)
        if rooms.tokens is None:
            raise AuditUnavailable("token_vault: none is joined")
        is_large = call.inspection.waits or call.inspection.text_bytes > INLINE_BYTES
        if is_large:
            wanted = await self._loop.run_in_executor(rooms.computing, rooms.content.wanted, *told)
        else:
            wanted = rooms.content.wanted(*told)
        return await rooms.tokens.open(call, decision, wanted, rooms.clock())

    def _recorded(self, effect: do.Record) -> asyncio.Future[ev.AnswerEvent]:
        """Begin a record. It goes on by itself (L4): whoever waits for the answer may leave.

        No task and no time-out of asyncio's: two of them an exchange cost more than making the record.
        """
        started = perf_counter()
        answered: asyncio.Future[ev.AnswerEvent] = self._loop.create_future()
        try:
            begun = self._rooms.recorder.record(effect.entry, self._rooms.clock())
            recording = asyncio.ensure_future(begun)  # noqa: TID251 - a future already, or cancelled at the deadline
        except Exception as bug:  # noqa: BLE001 - the outermost frame of a step
            answered.set_result(self._failed_by_bug(effect, bug))
            return answered
        deadline = self._loop.call_later(self._rooms.record_deadline_seconds, recording.cancel)

        def tell(done: asyncio.Future[Receipt]) -> None:
            deadline.cancel()
            told = self._told_of(effect, done)
            if not answered.done():
                answered.set_result(told)
            self._took_step(effect, perf_counter() - started, told)

        recording.add_done_callback(tell)
        return answered

    def _told_of(self, effect: do.Record, done: asyncio.Future[Receipt]) -> ev.AnswerEvent:
        at = self._rooms.clock()
        if done.cancelled():  # by the deadline, or by a room's own doing: either way nobody knows whether it is durable
            return ev.Failed(at, AuditUnavailable("deadline"))
        error = done.exception()
        if error is None:
            return ev.Recorded(at, done.result())
        return ev.Failed(at, error) if isinstance(error, GateError) else self._failed_by_bug(effect, error)

    def _recalled(self, effect: do.Authenticate) -> ev.AnswerEvent | None:
        """The caller, if known from just before: then there is nothing to wait for."""
        now = self._rooms.clock()
        try:
            identity = self._rooms.identities.recall(effect.presented, effect.connection, now)
        except Exception as bug:  # noqa: BLE001 - the outermost frame of a step
            return self._failed_by_bug(effect, bug)
        if identity is None:
            return None
        telemetry.count(telemetry.AUTHENTICATIONS, "remembered")
        return ev.Authenticated(now, identity)

    def _computed(self, effect: do.Step) -> ev.AnswerEvent:
        """Do a step that only computes. Always an event, never an exception."""
        if self._trace is None:
            return self._settled(effect)
        started = perf_counter()
        told = self._settled(effect)
        self._trace.step(type(effect).__name__, perf_counter() - started, _code_of(told))
        return told

    def _settled(self, effect: do.Step) -> ev.AnswerEvent:
        try:
            return self._compute(effect)
        except GateError as error:
            return ev.Failed(self._rooms.clock(), error)
        except (Exception, asyncio.CancelledError) as bug:  # noqa: BLE001 - the outermost frame of a step
            return self._failed_by_bug(effect, bug)

    def _failed_by_bug(self, effect: do.Step, bug: BaseException) -> ev.Failed:
        self._log_bug("step failed", bug, step=type(effect).__name__)
        return ev.Failed(self._rooms.clock(), GateError("bug"))

    def _compute(self, effect: do.Step) -> ev.AnswerEvent:  # noqa: PLR0911 - one for each step
        rooms = self._rooms
        match effect:
            case do.Admit(size_bytes):
                rooms.recorder.admit(size_bytes)
                return ev.Admitted(rooms.clock())
            case do.Inspect(connection, method, path, headers, body):
                return ev.Inspected(rooms.clock(), rooms.content.inspect(connection, method, path, headers, body))
            case do.RedactRequest(inspection, rules):
                return ev.Redacted(rooms.clock(), rooms.content.redact_request(inspection, rules))
            case do.RedactResponse(inspection, rules, status, headers, body, limit_bytes):
                redaction = rooms.content.redact_response(inspection, rules, status, headers, body, limit_bytes)
                return ev.Redacted(rooms.clock(), redaction)
            case do.OpenStream(inspection, rules, headers, limit_bytes):
                answer = rooms.content.open_stream(inspection, rules, headers, limit_bytes)
                return ev.StreamOpened(rooms.clock(), answer)
            case do.RedactPiece(answer, body, is_last):
                return ev.PieceRedacted(rooms.clock(), answer.feed(body, is_last=is_last))
            case do.Unlock(connection):
                return ev.Unlocked(rooms.clock(), rooms.credentials.reveal(connection))
            case _:
                raise PeerError(f"no such computing step: {type(effect).__name__}")

    def _log_bug(self, what: str, bug: BaseException, **more: str) -> None:
        """Where it happened, without the exception's own words: those may quote what a caller sent."""
        where = "".join(traceback.format_tb(bug.__traceback__))
        _log.error(what, exchange=self._session.exchange_id, bug=type(bug).__name__, where=where, **more)

    def _closed(self) -> None:
        session = self._session
        if session.exchange_id is not None:
            self._rooms.recorder.ended(session.exchange_id)
            if session.was_held and self._rooms.holds is not None:
                self._rooms.holds.ended(session.exchange_id, session.hold_ending)
        seconds = perf_counter() - self._began
        meters.count_exchange(session, seconds, self._mark)
        if session.is_glass_broken:
            told = {"exchange": session.exchange_id, "connection": meters.named(session)}
            _log.warning("passed without approval, in an emergency", **told)
        if self._trace is not None:
            if (times := session.upstream_times) is not None:
                self._trace.upstream(meters.spoken_of_model(session), times)
            self._trace.end(meters.spoken(session))
        _log.info("exchange", **meters.line(session, self._took, seconds, self._mark[1]))


def _code_of(told: ev.AnswerEvent) -> str | None:
    """Why a step did not go well."""
    return told.error.code if isinstance(told, ev.Failed) else None


def _is_cancelled() -> bool:
    """Was this very task told to stop? Else a CancelledError is only some library's way to fail."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


async def _first_of(one: asyncio.Future[Any], other: asyncio.Future[Any]) -> None:
    """Wait until either is done. As `asyncio.wait` does, at a fifth of its cost: this is done thrice an exchange."""
    if one.done() or other.done():
        return
    woken = one.get_loop().create_future()

    def wake(_: asyncio.Future[Any]) -> None:
        if not woken.done():
            woken.set_result(None)

    one.add_done_callback(wake)
    other.add_done_callback(wake)
    try:
        await woken
    finally:
        one.remove_done_callback(wake)
        other.remove_done_callback(wake)


def _is_waited_for(effect: do.Step) -> bool:
    """Does the step wait (or compute for so long that no stream should wait for it)?"""
    match effect:
        case do.Authenticate() | do.Decide() | do.OpenTokens() | do.AskApproval() | do.AwaitApproval():
            return True
        case do.RedactRequest(inspection):
            return inspection.waits or inspection.text_bytes > INLINE_BYTES
        case do.Inspect(connection=connection, body=body):
            return connection.recognition is not None or len(body) > INLINE_BYTES
        case do.RedactResponse(inspection=inspection, body=body):
            return inspection.waits or len(body) > INLINE_BYTES
        case do.RedactPiece(answer=answer, body=body):
            return answer.waits or takes_long(body)
        case _:
            return False
