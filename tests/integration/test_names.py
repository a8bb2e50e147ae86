"""The real listener, the real `ContentGate` and a recogniser in a process of its own: names out, failures recorded."""

from __future__ import annotations

import json
import threading
from typing import TYPE_CHECKING, Any

import grpc
import pytest

from ext_proc.app.exchange.content import ContentGate
from ext_proc.model import Connection, Operation, Recognition
from ext_proc.ner import Pool, Recipe
from tests.fakes import envoy
from tests.fakes.gate import LIMIT_BYTES, running_gate
from tests.fakes.recogniser import MAKE_NAUGHTY, FakeRecogniser

if TYPE_CHECKING:
    from collections.abc import Iterator

OPERATIONS = (Operation("POST", "/v1/chat/completions", "openai.chat"),)
OK = grpc.StatusCode.OK


def connection(**use: Any) -> Connection:
    return Connection("demo", OPERATIONS, None, LIMIT_BYTES, LIMIT_BYTES, recognition=Recognition(**use))


def chat(text: str) -> bytes:
    return json.dumps({"model": "demo", "messages": [{"role": "user", "content": text}]}).encode()


def answer(text: str) -> bytes:
    return json.dumps({"choices": [{"index": 0, "message": {"role": "assistant", "content": text}}]}).encode()


def delta(text: str) -> bytes:
    return f"data: {json.dumps({'choices': [{'index': 0, 'delta': {'content': text}}]})}\n\n".encode()


def body(reply: Any, side: str = "response_body") -> bytes:
    made: bytes = getattr(reply, side).response.body_mutation.body
    return made


@pytest.fixture
def pool() -> Iterator[Pool]:
    made = Pool(Recipe(MAKE_NAUGHTY), deadline_seconds=15)
    made.start()
    yield made
    made.close()


async def test_a_whole_exchange(pool: Pool) -> None:
    content = ContentGate(b"k" * 32, recogniser=pool)
    async with running_gate(content=content, connection=connection()) as gate:
        exchange = gate.begin()
        await exchange.ask(envoy.request_headers())
        forwarded = await exchange.ask(envoy.request_body(chat("I am Ada Lovelace.")))
        await exchange.ask(envoy.response_headers())
        released = await exchange.ask(envoy.response_body(answer("Hello Ada Lovelace of London.")))
        await exchange.half_close()

        assert await exchange.status() is OK
        assert b"I am [PERSON]." in body(forwarded, "request_body")
        assert b"Hello [PERSON] of [LOCATION]." in body(released)
        intent, outcome = gate.recorder.entries
        assert intent.facts["request_redaction"]["ner"]["status"] == "complete"
        assert outcome.facts["response_redaction"]["ner"] == {
            "recogniser": "fake@1",
            "mode": "whole",
            "status": "complete",
            "failure": None,
            "scanned_bytes": len("Hello Ada Lovelace of London."),
            "failed_bytes": 0,
        }
        assert {one["version"] for one in outcome.facts["response_redaction"]["removed"]} == {"fake@1"}


async def test_a_failure_is_refused_and_recorded(pool: Pool) -> None:
    content = ContentGate(b"k" * 32, recogniser=pool)
    async with running_gate(content=content, connection=connection()) as gate:
        exchange = gate.begin()
        await exchange.ask(envoy.request_headers())
        refused = await exchange.ask(envoy.request_body(chat("now DIE please")))
        await exchange.half_close()

        assert refused.immediate_response.status.code == 503
        assert b"recogniser_unavailable" in refused.immediate_response.body
        [entry] = gate.recorder.entries
        told = entry.facts["outcome"]
        assert (told["status"], told["code"], told["detail"]) == ("error", "recogniser_unavailable", "dead")
        assert "request_redaction" not in entry.facts


async def test_an_answer_that_cannot_be_looked_at_is_not_released(pool: Pool) -> None:
    content = ContentGate(b"k" * 32, recogniser=pool)
    async with running_gate(content=content, connection=connection()) as gate:
        exchange = gate.begin()
        await exchange.ask(envoy.request_headers())
        await exchange.ask(envoy.request_body(chat("hello")))
        await exchange.ask(envoy.response_headers())
        refused = await exchange.ask(envoy.response_body(answer("FAR away with Ada Lovelace")))
        await exchange.half_close()

        assert refused.immediate_response.status.code == 503
        assert b"Ada" not in refused.SerializeToString()
        told = gate.recorder.entries[-1].facts["outcome"]
        assert (told["code"], told["detail"], told["released_bytes"]) == ("recogniser_unavailable", "garbage", 0)


async def test_a_stream_ends_in_the_protocols_words(pool: Pool) -> None:
    content = ContentGate(b"k" * 32, recogniser=pool)
    async with running_gate(content=content, connection=connection()) as gate:
        exchange = gate.begin()
        await exchange.ask(envoy.request_headers())
        await exchange.ask(envoy.request_body(chat("hello")))
        await exchange.ask(envoy.response_headers(envoy.STREAM))
        first = await exchange.ask(envoy.piece(delta("I met Ada Lovelace. And ")))
        last = await exchange.ask(envoy.piece(delta("then Bob Smith did RAISE it. And ")))
        drained = await exchange.ask(envoy.piece(delta("more"), is_last=True))
        await exchange.half_close()

        assert await exchange.status() is OK
        assert b"I met [PERSON]." in body(first)
        assert b"recogniser_unavailable" in body(last)
        assert b"Bob" not in body(last)
        assert body(drained) == b""
        told = gate.recorder.entries[-1].facts
        assert (told["outcome"]["status"], told["outcome"]["code"]) == ("error", "recogniser_unavailable")
        assert told["response_redaction"]["ner"]["status"] == "failed"
        assert told["response_redaction"]["ner"]["failure"] == "error"
        assert told["response_redaction"]["ner"]["failed_bytes"] > 0


async def test_a_stream_that_may_goes_on_and_the_record_says_so(pool: Pool) -> None:
    content = ContentGate(b"k" * 32, recogniser=pool)
    async with running_gate(content=content, connection=connection(may_fail=True)) as gate:
        exchange = gate.begin()
        await exchange.ask(envoy.request_headers())
        await exchange.ask(envoy.request_body(chat("hello")))
        await exchange.ask(envoy.response_headers(envoy.STREAM))
        first = await exchange.ask(envoy.piece(delta("Bob Smith did RAISE it at bob@example.org. ")))
        last = await exchange.ask(envoy.piece(delta("And Paris."), is_last=True))
        await exchange.half_close()

        assert await exchange.status() is OK
        both = body(first) + body(last)
        assert b"Bob Smith did RAISE it at [EMAIL]" in both
        told = gate.recorder.entries[-1].facts
        assert told["outcome"]["status"] == "completed"
        assert told["response_redaction"]["ner"]["status"] == "failed"
        assert told["response_redaction"]["ner"]["scanned_bytes"] == 0


async def test_nobody_waits_in_the_event_loop() -> None:
    """Every question to the recogniser comes from another thread, however small the body."""
    recogniser = FakeRecogniser()
    content = ContentGate(b"k" * 32, recogniser=recogniser)
    async with running_gate(content=content, connection=connection()) as gate:
        exchange = gate.begin()
        await exchange.ask(envoy.request_headers())
        await exchange.ask(envoy.request_body(chat("hello")))
        await exchange.ask(envoy.response_headers(envoy.STREAM))
        await exchange.ask(envoy.piece(delta("I met Ada Lovelace. And "), is_last=True))
        await exchange.half_close()
        another = gate.begin()
        await another.ask(envoy.request_headers())
        await another.ask(envoy.request_body(chat("hello")))
        await another.ask(envoy.response_headers())
        await another.ask(envoy.response_body(answer("Hello.")))
        await another.half_close()
    assert len(recogniser.asked) >= 4
    assert threading.get_ident() not in recogniser.threads
