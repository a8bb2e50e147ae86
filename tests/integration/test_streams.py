"""The real listener, fake rooms, and an Envoy that misbehaves: laws L2, L3 and L4 on the wire."""

from __future__ import annotations

import asyncio
import gc
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

import grpc
import grpc.aio
import pytest
from structlog.testing import capture_logs

from ext_proc import errors
from ext_proc.phases import Session
from tests.fakes import envoy
from tests.fakes.gate import ADA, running_gate

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.fakes.gate import FakeGate

OK, INTERNAL = grpc.StatusCode.OK, grpc.StatusCode.INTERNAL
TALE: Final = (
    envoy.request_headers(),
    envoy.request_body(b'{"a":"ada@example.com"}'),
    envoy.response_headers(),
    envoy.response_body(b'{"b":"ada@example.com"}'),
)
"""An exchange as it should be."""

LEFT_RECORDS: Final = (
    ([], []),
    (["outcome"], ["abandoned"]),
    (["intent", "outcome"], ["abandoned"]),
    (["intent", "outcome"], ["abandoned"]),
    (["intent", "outcome"], ["completed"]),
)
"""What is on record where Envoy ends the stream after so many answered questions."""


async def begun(gate: FakeGate, count: int) -> Any:
    """A stream on which so many questions were asked and answered."""
    exchange = gate.begin()
    for question in TALE[:count]:
        assert (await exchange.ask(question)).WhichOneof("response") == question.WhichOneof("request")
    return exchange


async def on_record(gate: FakeGate, kinds: list[str]) -> None:
    """Wait for what must be on record, then a little for what must not."""
    await gate.recorder.until(len(kinds))
    await asyncio.sleep(0.02)
    assert gate.recorder.kinds() == kinds


async def test_whole_exchange() -> None:
    async with running_gate() as gate:
        exchange = gate.begin()
        answers = [await exchange.ask(question) for question in TALE]
        await exchange.half_close()

        assert await exchange.status() is OK
        assert answers[1].request_body.response.body_mutation.body == b'{"a":"<email>"}'
        assert answers[3].response_body.response.body_mutation.body == b'{"b":"<email>"}'
        words = [envoy.metadata(answer) for answer in answers]
        assert [w.get("decision") for w in words] == [None, "allow", None, None]
        assert [w.get("response") for w in words] == [None, None, None, "released"]
        assert gate.recorder.kinds() == ["intent", "outcome"]
        assert gate.recorder.statuses() == ["completed"]


async def test_request_and_answer_without_bodies() -> None:
    async with running_gate() as gate:
        exchange = gate.begin()
        asked = await exchange.ask(envoy.request_headers(is_last=True))
        answered = await exchange.ask(envoy.response_headers(is_last=True))
        await exchange.half_close()

        assert envoy.metadata(asked)["decision"] == "allow"
        assert envoy.metadata(answered)["response"] == "released"
        assert not answered.response_headers.response.HasField("body_mutation")
        assert await exchange.status() is OK


async def test_body_of_five_megabytes() -> None:
    """Over gRPC's own limit, and scanned in a thread."""
    body = b'"' + b"x" * 5_000_000 + b'"'
    async with running_gate() as gate:
        exchange = gate.begin()
        await exchange.ask(TALE[0])
        asked = await exchange.ask(envoy.request_body(body))
        await exchange.ask(TALE[2])
        answered = await exchange.ask(envoy.response_body(body))

        assert asked.request_body.response.body_mutation.body == body
        assert answered.response_body.response.body_mutation.body == body


@pytest.mark.parametrize(("size", "where"), [(1_000, "MainThread"), (20_000, "computing")])
async def test_who_else_calls_does_not_wait_for_a_body_of_numbers(size: int, where: str) -> None:
    """20 kB of prose are scanned in no time, 20 kB of numbers are not: they are not read in the loop."""
    threads: list[str] = []
    async with running_gate() as gate:
        for name in ("inspect", "redact_request", "redact_response"):
            done = getattr(gate.content, name)
            setattr(gate.content, name, lambda *told, _done=done: (threads.append(_thread()), _done(*told))[1])
        exchange = gate.begin()
        await exchange.ask(TALE[0])
        await exchange.ask(envoy.request_body(b"4" * size))
        await exchange.ask(TALE[2])
        await exchange.ask(envoy.response_body(b"4" * size))
    assert threads == [where] * 3


def _thread() -> str:
    return threading.current_thread().name.partition("_")[0]


# Envoy leaves ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", range(5))
async def test_half_close_after(count: int) -> None:
    async with running_gate() as gate:
        exchange = await begun(gate, count)
        await exchange.half_close()

        assert await exchange.status() is OK
        assert (gate.recorder.kinds(), gate.recorder.statuses()) == LEFT_RECORDS[count]


@pytest.mark.parametrize("count", range(5))
async def test_reset_after(count: int) -> None:
    async with running_gate() as gate:
        exchange = await begun(gate, count)
        exchange.leave()

        kinds, statuses = LEFT_RECORDS[count]
        await on_record(gate, kinds)
        assert gate.recorder.statuses() == statuses
        assert all(e.facts["outcome"]["code"] is None for e in gate.recorder.entries[-1:]), "nobody is to blame"


def _half_close(exchange: Any) -> Any:
    return exchange.half_close()


async def _reset(exchange: Any) -> None:
    exchange.leave()


@pytest.mark.parametrize("leave", [_half_close, _reset])
async def test_left_during_a_hold(leave: Callable[[Any], Any]) -> None:
    """L4: abandoned is on record although the stream is gone, and the hold does not go on for nobody."""
    async with running_gate() as gate:
        gate.policy.gate = asyncio.Event()
        exchange = await begun(gate, 1)
        await exchange.send(TALE[1])
        await asyncio.wait_for(gate.policy.begun.wait(), 10)
        await leave(exchange)

        await on_record(gate, ["outcome"])
        assert gate.recorder.statuses() == ["abandoned"]
        await asyncio.wait_for(gate.policy.cancelled.wait(), 10)


@pytest.mark.parametrize("leave", [_half_close, _reset])
async def test_left_while_the_intent_is_on_its_way(leave: Callable[[Any], Any]) -> None:
    """The record is not stopped, the call is not let on, and the record says so: abandoned, never forwarded."""
    async with running_gate() as gate:
        through = gate.recorder.hold("inference.intent")
        exchange = await begun(gate, 1)
        await exchange.send(TALE[1])
        await gate.recorder.begun.get()
        async with gate.hearing():
            await leave(exchange)
        through.set()

        await on_record(gate, ["intent", "outcome"])
        assert gate.recorder.statuses() == ["abandoned"]
        assert "forwarded" not in gate.recorder.entries[1].facts["time"]
        assert gate.recorder.entries[1].facts["intent_sequence"] == 0
        assert await exchange.answer() is None


@pytest.mark.parametrize("leave", [_half_close, _reset])
async def test_left_while_the_outcome_is_on_its_way(leave: Callable[[Any], Any]) -> None:
    """L7: what the outcome says was released was not."""
    async with running_gate() as gate:
        through = gate.recorder.hold("inference.outcome")
        exchange = await begun(gate, 3)
        await exchange.send(TALE[3])
        while await gate.recorder.begun.get() != "inference.outcome":
            pass
        async with gate.hearing():
            await leave(exchange)
        through.set()

        await on_record(gate, ["intent", "outcome", "undelivered"])
        assert await exchange.answer() is None


async def test_silence_holds_nobody_up() -> None:
    """A stream on which nothing is said takes nothing, and others go on beside it."""
    async with running_gate() as gate:
        silent = gate.begin()
        await silent.send()
        other = await begun(gate, 4)
        await other.half_close()
        assert await other.status() is OK
        await silent.half_close()
        assert await silent.status() is OK
        assert gate.recorder.statuses() == ["completed"]


# Envoy speaks out of turn ---------------------------------------------------------------------------------------------

EMPTY: Final = envoy.pb.ProcessingRequest()
OUT_OF_TURN: Final = [
    *((0, name, question) for name, question in (("body", TALE[1]), ("answer's body", TALE[3]))),
    *((1, name, question) for name, question in (("head", TALE[0]), ("answer's body", TALE[3]))),
    *((2, name, question) for name, question in (("head", TALE[0]), ("body", TALE[1]), ("answer's body", TALE[3]))),
    *((3, name, question) for name, question in (("head", TALE[0]), ("body", TALE[1]), ("answer", TALE[2]))),
    *((4, name, question) for name, question in zip(("head", "body", "answer", "answer's body"), TALE, strict=True)),
    *((count, "trailers", envoy.trailers()) for count in range(5)),
    *((count, "nothing", EMPTY) for count in range(5)),
]


@pytest.mark.parametrize(("count", "name", "question"), OUT_OF_TURN, ids=lambda value: str(value)[:12])
async def test_out_of_turn_is_an_error(count: int, name: str, question: Any) -> None:
    """L2 and L5: no answer, an error, and the record of the end tells why."""
    async with running_gate() as gate:
        exchange = await begun(gate, count)
        await exchange.send(question)

        assert await exchange.answer() is None
        assert await exchange.status() is INTERNAL
        assert (gate.recorder.kinds(), gate.recorder.statuses()) == LEFT_RECORDS[count]
        if 0 < count < 4:
            assert gate.recorder.entries[-1].facts["outcome"]["code"] == "peer_out_of_turn"


@pytest.mark.parametrize("question", [TALE[0], TALE[1], TALE[3], envoy.trailers(), EMPTY])
async def test_second_question_during_a_hold(question: Any) -> None:
    """L3: never an answer to both."""
    async with running_gate() as gate:
        gate.policy.gate = asyncio.Event()
        exchange = await begun(gate, 1)
        await exchange.send(TALE[1])
        await asyncio.wait_for(gate.policy.begun.wait(), 10)
        await exchange.send(question)

        assert await exchange.answer() is None
        assert await exchange.status() is INTERNAL
        assert gate.recorder.statuses() == ["abandoned"]


async def test_second_question_while_the_intent_is_on_its_way() -> None:
    """The intent is not stopped and gets its outcome, and only then is the stream aborted."""
    async with running_gate() as gate:
        through = gate.recorder.hold("inference.intent")
        exchange = await begun(gate, 1)
        await exchange.send(TALE[1])
        await gate.recorder.begun.get()
        async with gate.hearing():
            await exchange.send(TALE[1])
        through.set()

        assert await exchange.answer() is None
        assert await exchange.status() is INTERNAL
        assert gate.recorder.kinds() == ["intent", "outcome"]
        assert gate.recorder.statuses() == ["abandoned"]


async def test_all_questions_at_once() -> None:
    """Whatever the timing: no answer is given twice, the end is an error or a proper one, and L1 holds."""
    async with running_gate() as gate:
        exchange = gate.begin()
        with suppress(grpc.aio.AioRpcError):  # aborted before all was said
            await exchange.send(*TALE)
            await exchange.half_close()
        answers = []
        while (answer := await exchange.answer()) is not None:
            answers.append(answer.WhichOneof("response"))

        left = iter(question.WhichOneof("request") for question in TALE)
        assert all(answer in left for answer in answers), "in the order of the questions, each once"
        if "request_body" in answers:
            assert gate.recorder.kinds()[0] == "intent"
        status = await exchange.status()
        if status is OK and len(answers) == 3 and "request_body" in answers:
            # The end came before the outcome was durable: nothing was released.
            await on_record(gate, ["intent", "outcome", "undelivered"])
        elif status is OK and len(answers) < 4:
            assert gate.recorder.statuses() == ["local_reply"], "a head before our word is Envoy's own reply"
        else:
            assert status is (OK if len(answers) == 4 else INTERNAL)


# Envoy answers in our place -------------------------------------------------------------------------------------------


async def test_local_reply_overtakes_a_hold() -> None:
    async with running_gate() as gate:
        gate.policy.gate = asyncio.Event()
        exchange = await begun(gate, 1)
        await exchange.send(TALE[1])
        await asyncio.wait_for(gate.policy.begun.wait(), 10)
        answer = await exchange.ask(envoy.local_reply())

        assert (answer.WhichOneof("response"), envoy.metadata(answer)) == ("response_headers", {})
        assert (await exchange.ask(TALE[3])).WhichOneof("response") == "response_body"
        assert gate.recorder.statuses() == ["local_reply"]
        await asyncio.wait_for(gate.policy.cancelled.wait(), 10)


async def test_local_reply_while_the_intent_is_on_its_way() -> None:
    """It is no answer of the upstream's: the call was not let on, and neither gate is opened."""
    async with running_gate() as gate:
        through = gate.recorder.hold("inference.intent")
        exchange = await begun(gate, 1)
        await exchange.send(TALE[1])
        await gate.recorder.begun.get()
        async with gate.hearing():
            await exchange.send(envoy.local_reply())
        through.set()
        answer = await exchange.answer()

        assert (answer.WhichOneof("response"), envoy.metadata(answer)) == ("response_headers", {})
        assert gate.recorder.kinds() == ["intent", "outcome"]
        facts = gate.recorder.entries[1].facts
        assert (facts["outcome"]["status"], facts["upstream"]["status"]) == ("local_reply", None)
        assert "forwarded" not in facts["time"]


async def test_local_reply_while_a_refusal_is_on_its_way() -> None:
    """The caller gets what the record says."""
    async with running_gate() as gate:
        through = gate.recorder.hold("inference.outcome")
        gate.policy.deny("not_permitted")
        exchange = await begun(gate, 1)
        await exchange.send(TALE[1])
        await gate.recorder.begun.get()
        async with gate.hearing():
            await exchange.send(envoy.local_reply())
        through.set()
        answer = await exchange.answer()

        assert answer.immediate_response.status.code == 403
        assert gate.recorder.entries[0].facts["outcome"]["http_status"] == 403


async def test_second_head_cannot_pass_for_a_local_reply() -> None:
    """The answer was blocked; a second head while that is being recorded must not let the body through."""
    async with running_gate() as gate:
        gate.content.blocked["redact_response"] = ("SECRET_KEY",)
        through = gate.recorder.hold("inference.outcome")
        exchange = await begun(gate, 3)
        await exchange.send(TALE[3])
        while await gate.recorder.begun.get() != "inference.outcome":
            pass
        async with gate.hearing():
            await exchange.send(envoy.local_reply(200))
        through.set()

        assert await exchange.answer() is None
        assert await exchange.status() is INTERNAL


# The rooms fail -------------------------------------------------------------------------------------------------------


class OddError(Exception):
    """Nobody expects this one."""


def _fail(room: str, gate: FakeGate, error: BaseException) -> None:
    match room:
        case "identities":
            gate.identities.error = error
            gate.identities.authenticate = _raising(error)
        case "policy":
            gate.policy.bug = error
        case "credentials":
            gate.credentials.error = error
        case "admit":
            gate.recorder.admit_error = error
        case "intent" | "outcome":
            gate.recorder.errors[f"inference.{room}"] = error
        case _:
            gate.content.errors[room] = error


def _raising(error: BaseException) -> Any:
    async def authenticate(*_: Any) -> None:
        raise error

    return authenticate


ROOMS: Final = (
    "admit", "identities", "inspect", "policy", "redact_request", "credentials", "intent", "redact_response", "outcome",
)  # fmt: skip
FAILURES: Final = (
    errors.BadBody("x"),
    errors.PolicyUnavailable("x"),
    errors.UpstreamError("x"),
    errors.PeerError("x"),
    errors.ConfigError("x"),
    errors.IntegrityError("x"),
    OddError("ada@example.com"),
    TimeoutError("late"),
    asyncio.CancelledError("stray"),
)


@pytest.mark.parametrize("room", ROOMS)
@pytest.mark.parametrize("error", FAILURES, ids=lambda error: type(error).__name__)
async def test_failing_room_refuses(room: str, error: BaseException) -> None:
    """L2: an answer of ours instead, or an error; never OK with a question open. And nothing of the answer passes."""
    with capture_logs() as logs:
        async with running_gate() as gate:
            _fail(room, gate, error)
            exchange = gate.begin()
            answers: list[Any] = []
            for question in TALE:
                answers.append(await exchange.ask(question))
                if answers[-1] is None or answers[-1].WhichOneof("response") == "immediate_response":
                    break
            last = answers[-1]

            assert last is not None
            assert last.WhichOneof("response") == "immediate_response"
            assert last.immediate_response.status.code >= 400
            assert "response" not in envoy.metadata(last)
            if room in ("intent", "outcome"):
                assert last.immediate_response.details == "affidavit_audit_unavailable"
            elif isinstance(error, errors.GateError):
                assert last.immediate_response.details == f"affidavit_{error.code}"
            else:
                assert last.immediate_response.details == "affidavit_internal"
            is_let_on = room in ("redact_response", "outcome")
            assert ("decision" in envoy.metadata(last)) != is_let_on
            await exchange.half_close()
            assert await exchange.status() is OK
            if room != "outcome":
                await on_record(gate, ["intent", "outcome"] if is_let_on else ["outcome"])
    assert "ada@example.com" not in str(logs), "an exception's words may quote a caller"


async def test_known_caller_is_not_asked_about_again() -> None:
    async with running_gate() as gate:
        gate.identities.recalled.add("callers-own")
        exchange = gate.begin()
        for question in TALE:
            last = await exchange.ask(question)
        assert envoy.metadata(last)["response"] == "released"
        assert gate.identities.asked == 0
        assert [entry.identity for entry in gate.recorder.entries] == [ADA, ADA]


async def test_recall_that_fails_refuses() -> None:
    with capture_logs():
        async with running_gate() as gate:
            gate.identities.recall_error = OddError("x")
            last = await gate.begin().ask(TALE[0])
            assert last.immediate_response.details == "affidavit_internal"
            assert gate.identities.asked == 0
            await on_record(gate, ["outcome"])


async def test_refusal_that_cannot_be_written_is_an_error() -> None:
    async with running_gate() as gate:
        gate.content.errors["refusal"] = OddError("x")
        gate.policy.deny("not_permitted")
        exchange = await begun(gate, 1)

        assert await exchange.ask(TALE[1]) is None
        assert await exchange.status() is INTERNAL
        assert gate.recorder.statuses() == ["denied"]


# The record ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "count"), [("intent", 1), ("outcome", 3)])
async def test_recorder_over_its_deadline(kind: str, count: int) -> None:
    """Refused; and as the record may become durable later, the end says what really happened."""
    async with running_gate(record_deadline_seconds=0.05) as gate:
        gate.recorder.hold(f"inference.{kind}")
        exchange = await begun(gate, count)
        answer = await exchange.ask(TALE[count])

        assert answer.immediate_response.status.code == 503
        assert "response" not in envoy.metadata(answer)
        assert [entry.kind for entry in gate.recorder.late] == [f"inference.{kind}"]
        gate.recorder.gates.clear()
        await exchange.half_close()
        assert await exchange.status() is OK
        assert gate.recorder.statuses() == ["unrecorded"]
        facts = gate.recorder.entries[-1].facts["outcome"]
        assert (facts["http_status"], facts["released_bytes"]) == (503, 0)
        assert gate.recorder.entries[-1].payloads == ()


async def test_deadline_after_the_caller_left() -> None:
    async with running_gate(record_deadline_seconds=0.2) as gate:
        gate.recorder.hold("inference.intent")
        exchange = await begun(gate, 1)
        await exchange.send(TALE[1])
        await gate.recorder.begun.get()
        exchange.leave()

        await on_record(gate, ["outcome"])
        assert gate.recorder.statuses() == ["unrecorded"]
        assert gate.recorder.entries[0].facts["outcome"]["http_status"] is None


# The end of the process ------------------------------------------------------------------------------------------------


async def test_stop_lets_exchanges_end() -> None:
    async with running_gate(grace_seconds=20) as gate:
        exchange = await begun(gate, 2)
        gate.stop.set()
        await asyncio.sleep(0.05)
        assert gate.serving is not None and not gate.serving.done()
        assert (await exchange.ask(TALE[2])) is not None
        assert envoy.metadata(await exchange.ask(TALE[3]))["response"] == "released"
        await exchange.half_close()

        await asyncio.wait_for(gate.serving, 10)
        assert gate.recorder.statuses() == ["completed"]


@pytest.mark.parametrize("count", range(1, 4))
async def test_stop_without_patience_leaves_no_gap(count: int) -> None:
    """L4: what was in flight has its outcome before `serve` returns (and the writer behind it closes)."""
    async with running_gate(grace_seconds=0) as gate:
        exchanges = [await begun(gate, count) for _ in range(5)]
        gate.stop.set()
        assert gate.serving is not None
        await asyncio.wait_for(gate.serving, 10)

        assert gate.recorder.statuses() == ["abandoned"] * 5
        assert OK not in [await exchange.status() for exchange in exchanges]


async def test_stop_during_a_hold_and_a_record() -> None:
    async with running_gate(grace_seconds=0) as gate:
        through = gate.recorder.hold("inference.intent")
        recording = await begun(gate, 1)
        await recording.send(TALE[1])
        await gate.recorder.begun.get()
        gate.policy.gate = asyncio.Event()
        gate.policy.begun.clear()
        held = await begun(gate, 1)
        await held.send(TALE[1])
        await asyncio.wait_for(gate.policy.begun.wait(), 10)
        gate.stop.set()
        asyncio.get_running_loop().call_later(0.1, through.set)
        assert gate.serving is not None
        await asyncio.wait_for(gate.serving, 10)

        assert gate.recorder.statuses() == ["abandoned", "abandoned"]
        assert sorted(gate.recorder.kinds()) == ["intent", "outcome", "outcome"]


def _sessions() -> list[Session]:
    gc.collect()
    return [one for one in gc.get_objects() if isinstance(one, Session)]


async def test_nothing_is_kept_of_an_exchange() -> None:
    before = _sessions()  # other tests' exceptions hold some; held here too, so that the count stands
    async with running_gate() as gate:
        for count in (*range(5), *range(5)):
            exchange = await begun(gate, count)
            exchange.leave()
        exchange = await begun(gate, 4)
        await exchange.half_close()
        await exchange.status()
        await gate.recorder.until(14)
        async with asyncio.timeout(10):
            while len(_sessions()) > len(before):  # noqa: ASYNC110 - the collector rings no bell
                await asyncio.sleep(0.01)


# Upgrades ---------------------------------------------------------------------------------------------------------------


UPGRADE: Final = (*envoy.REQUEST, ("connection", "upgrade"), ("upgrade", "websocket"))


async def test_upgrade_is_uninspected_only_where_allowed() -> None:
    async with running_gate(upgrades=True) as gate:
        exchange = gate.begin()
        asked = await exchange.ask(envoy.request_headers(UPGRADE))
        answered = await exchange.ask(envoy.response_headers(((":status", "101"), ("upgrade", "websocket"))))

        assert asked.HasField("mode_override")
        assert envoy.metadata(answered)["response"] == "released"
    async with running_gate() as gate:
        exchange = gate.begin()
        answer = await exchange.ask(envoy.request_headers(UPGRADE))
        assert answer.immediate_response.status.code == 403


async def test_upgrade_that_the_upstream_declines() -> None:
    """Its body would pass unseen: both body phases were turned off for the upgrade."""
    async with running_gate(upgrades=True) as gate:
        exchange = gate.begin()
        await exchange.ask(envoy.request_headers(UPGRADE))
        answer = await exchange.ask(envoy.response_headers())

        assert answer.immediate_response.status.code == 502
        assert gate.recorder.statuses() == ["error"]
