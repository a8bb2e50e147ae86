"""Answers that stream, through real Envoy, with the official clients: nothing leaks, every event can be read, and the
record tells what was released, whoever leaves or dies."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Any, Final

import anthropic
import openai
import pytest

from tests.e2e.conftest import CHAT, Gateway, running_gateway
from tests.e2e.test_completeness import verify
from tests.e2e.test_kill_rounds import running_workers
from tests.e2e.upstream import Pause, Until, Upstream, chunk, head

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.e2e.upstream import Answer

ADDRESS: Final = "ada.lovelace@example.net"
SECRET: Final = "AKIA" + "IOSFODNN7EXAMPLE"
MESSAGES: Final = "/v1/messages"
SLOW: Final = "/v1/slow"
WAITS: Final = "/v1/waits"
ENDLESS: Final = "/v1/endless"
BLOCKED: Final = "/v1/blocked"
RUNAWAY: Final = "/v1/runaway"
GAP_SECONDS: Final = 0.02
GOES_ON: Final = threading.Event()
"""Unset: the upstream waits before its last words."""


def sse(*events: Any, gap: float = GAP_SECONDS, done: bool = True) -> Answer:
    """One event a write, as a model says them."""
    steps: list[Any] = [head("text/event-stream", "transfer-encoding: chunked\r\n")]
    for event in events:
        name = f"event: {event['type']}\n" if "type" in event else ""
        steps += [chunk(f"{name}data: {json.dumps(event)}\n\n".encode()), Pause(gap)]
    last = chunk(b"data: [DONE]\n\n") if done else b""
    return (*steps, last + chunk(b""))


def said(index: int = 0, **delta: Any) -> dict[str, Any]:
    """An event of OpenAI's chat."""
    return {
        "id": "c1",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": "demo-1",
        "choices": [{"index": index, "delta": delta, "finish_reason": None}],
    }


def ended(index: int = 0, reason: str = "stop") -> dict[str, Any]:
    """Its last event of a choice."""
    return {
        "id": "c1", "object": "chat.completion.chunk", "created": 1, "model": "demo-1",
        "choices": [{"index": index, "delta": {}, "finish_reason": reason}],
    }  # fmt: skip


def word(number: int) -> str:
    """One that can be told from all others, and that no rule waits for: no digits."""
    return f"go{''.join(chr(ord('a') + int(digit)) for digit in str(number))}end"


def split(text: str, size: int = 3) -> list[str]:
    """In tokens."""
    return [text[at : at + size] for at in range(0, len(text), size)]


def interleaved() -> list[dict[str, Any]]:
    """Two choices by turns; a tool call of the second one; an address and a secret in each, split over deltas."""
    words = split(f"Write to {ADDRESS} or use {SECRET} today.")
    arguments = split(json.dumps({"to": ADDRESS, "key": SECRET, "n": 1}))
    first = said(
        1, tool_calls=[{"index": 0, "id": "t1", "type": "function", "function": {"name": "send", "arguments": ""}}]
    )
    events = [said(0, role="assistant", content=""), said(1, role="assistant"), first]
    for at in range(max(len(words), len(arguments))):
        if at < len(words):
            events.append(said(0, content=words[at]))
        if at < len(arguments):
            events.append(said(1, tool_calls=[{"index": 0, "function": {"arguments": arguments[at]}}]))
    return [*events, ended(0), ended(1, "tool_calls")]


def anthropic_events() -> list[dict[str, Any]]:
    """A text and a tool call, both with an address and a secret in pieces."""
    message = {
        "id": "m1", "type": "message", "role": "assistant", "model": "demo-1", "content": [], "stop_reason": None,
        "stop_sequence": None, "usage": {"input_tokens": 5, "output_tokens": 1},
    }  # fmt: skip
    tool = {"type": "tool_use", "id": "t1", "name": "send", "input": {}}
    return [
        {"type": "message_start", "message": message},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        *(
            {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": piece}}
            for piece in split(f"Write to {ADDRESS} or use {SECRET} today.")
        ),
        {"type": "content_block_stop", "index": 0},
        {"type": "content_block_start", "index": 1, "content_block": tool},
        *(
            {"type": "content_block_delta", "index": 1, "delta": {"type": "input_json_delta", "partial_json": piece}}
            for piece in split(json.dumps({"to": ADDRESS, "key": SECRET}))
        ),
        {"type": "content_block_stop", "index": 1},
        {
            "type": "message_delta",
            "delta": {"stop_reason": "tool_use", "stop_sequence": None},
            "usage": {"output_tokens": 9},
        },
        {"type": "message_stop"},
    ]


@pytest.fixture(scope="module")
def streaming(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    plain = [said(content=f"{word(number)} ") for number in range(20)]
    answers = {
        CHAT: sse(*interleaved()),
        MESSAGES: sse(*anthropic_events(), done=False),
        SLOW: sse(*plain, ended(), gap=0.1),
        WAITS: (*sse(*plain)[:-1], Until(GOES_ON.is_set), *sse(ended())[1:]),
        RUNAWAY: (head("text/event-stream", "transfer-encoding: chunked\r\n"), Pause(0.3))
        + (chunk(b"x" * 65536),) * 200
        + (Pause(3600),),
        ENDLESS: sse(*(said(content=f"{word(number)} ") for number in range(600)), gap=0.05),
    }
    upstream = Upstream(answers)
    operations = [
        {"path": path, "protocol": "anthropic.messages" if path == MESSAGES else "openai.chat"} for path in answers
    ]
    with running_gateway(tmp_path_factory.mktemp("streaming"), upstream, operations=operations) as made:
        yield made


def show(gateway: Gateway, exchange_id: str) -> dict[str, str]:
    """The bodies as an auditor reads them, by role."""
    command = [sys.executable, "-m", "ext_proc", "show", exchange_id, "--config", str(gateway.stack.config)]
    done = subprocess.run(
        [*command, "--payloads", "--purpose", "test", "--by", "test", "--json"],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found: dict[str, str] = {}
    for line in done.stdout.splitlines():
        found |= json.loads(line).get("payloads", {})
    return found


def begun(gateway: Gateway, path: str) -> socket.socket:
    """A stream whose caller has read its first event."""
    body = json.dumps({"model": "demo", "stream": True, "messages": [{"role": "user", "content": "hello"}]}).encode()
    caller = socket.create_connection(("127.0.0.1", gateway.stack.ports["http"]), timeout=20)
    caller.sendall(
        (
            f"POST {path} HTTP/1.1\r\nhost: gateway.test\r\ncontent-type: application/json\r\n"
            f"authorization: Bearer {gateway.analyst}\r\ncontent-length: {len(body)}\r\n\r\n"
        ).encode()
        + body
    )
    return caller


def read_until(caller: socket.socket, wanted: bytes) -> bytes:
    """What came until these bytes did."""
    came = b""
    while wanted not in came:
        data = caller.recv(65536)
        assert data, came
        came += data
    return came


def exchange_of(came: bytes) -> str:
    """The id that the head says."""
    return came.split(b"x-affidavit-exchange: ")[1].split(b"\r\n")[0].decode()


# The official clients -------------------------------------------------------------------------------------------------


def test_openai_stream_with_two_choices_and_a_tool_call(streaming: Gateway) -> None:
    client = openai.OpenAI(base_url=f"{streaming.stack.gateway}/v1", api_key=streaming.analyst, max_retries=0)
    texts = {0: "", 1: ""}
    arguments, name, reasons = "", "", {}
    stream = client.chat.completions.create(
        model="demo", n=2, stream=True, messages=[{"role": "user", "content": "hello"}]
    )
    events = 0
    for event in stream:
        events += 1
        for choice in event.choices:
            texts[choice.index] += choice.delta.content or ""
            for call in choice.delta.tool_calls or ():
                arguments += (call.function.arguments or "") if call.function else ""
                name = (call.function.name if call.function else None) or name
            if choice.finish_reason:
                reasons[choice.index] = choice.finish_reason
    assert texts[0].startswith("Write to [EMAIL] or use [")
    assert texts[0].endswith("] today.")
    assert json.loads(arguments) == {"to": "[EMAIL]", "key": json.loads(arguments)["key"], "n": 1}
    assert (name, reasons) == ("send", {0: "stop", 1: "tool_calls"})
    assert ADDRESS not in texts[0] + arguments
    assert SECRET not in texts[0] + arguments
    assert events > 10, "it streams"


def test_anthropic_stream_with_a_tool_call(streaming: Gateway) -> None:
    client = anthropic.Anthropic(base_url=streaming.stack.gateway, api_key=streaming.analyst, max_retries=0)
    with client.messages.stream(model="demo", max_tokens=30, messages=[{"role": "user", "content": "hello"}]) as stream:
        text = "".join(stream.text_stream)
        final = stream.get_final_message()
    assert text.startswith("Write to [EMAIL] or use [")
    assert text.endswith("] today.")
    [block] = [one for one in final.content if one.type == "tool_use"]
    assert block.input["to"] == "[EMAIL]"
    assert SECRET not in json.dumps(block.input)
    assert final.stop_reason == "tool_use"
    assert final.usage.output_tokens == 9


# What is on record ----------------------------------------------------------------------------------------------------


def test_a_tool_call_is_on_record_and_linked_to_the_request_that_brings_its_result(streaming: Gateway) -> None:
    tools = [{"type": "function", "function": {"name": "send", "parameters": {"type": "object"}}}]
    reply = streaming.chat("hello", stream=True, tools=tools)
    asked = reply.header("x-affidavit-exchange") or ""
    [(_, call)] = streaming.records(asked, "effect.tool_call")
    assert call["tool_call"]["name"] == "send"
    result = {"role": "tool", "tool_call_id": "t1", "content": "sent"}
    body = {"model": "demo", "messages": [{"role": "user", "content": "hello"}, result], "stream": True}
    second = streaming.send("POST", CHAT, json.dumps(body).encode(), streaming.analyst)
    brought = second.header("x-affidavit-exchange") or ""
    [(_, intent)] = streaming.records(brought, "inference.intent")
    assert intent["tool_results"] == [call["tool_call"]["call_ref"]]
    for exchange_id in (asked, brought):
        run = [
            sys.executable,
            "-m",
            "ext_proc",
            "records",
            "show",
            exchange_id,
            "--config",
            str(streaming.stack.config),
        ]
        shown = subprocess.run(run, capture_output=True, text=True, timeout=120, check=True).stdout
        assert f"asked for in {asked}, its result came with {brought}" in shown


def test_the_record_holds_what_was_answered_and_what_was_released(streaming: Gateway) -> None:
    reply = streaming.chat("hello", stream=True)
    exchange_id = reply.header("x-affidavit-exchange")
    assert exchange_id
    assert reply.header("x-affidavit-receipt")
    outcome = streaming.outcome(reply)
    assert outcome["outcome"]["status"] == "completed"
    assert outcome["outcome"]["released_bytes"] == len(reply.body)
    removed = {one["entity"]: one["count"] for one in outcome["response_redaction"]["removed"]}
    assert removed["EMAIL"] == 2
    assert outcome["model"]["tool_calls"][0]["name"] in ("send", "unlisted")
    assert outcome["response_redaction"]["coverage"]["scanned_bytes"] > 100
    bodies = show(streaming, exchange_id)
    assert bodies["response.released"].encode() == reply.body
    together = "".join(
        choice["delta"].get("content") or ""
        for line in bodies["response.upstream"].split("\n\n")
        if line.startswith("data: {")
        for choice in json.loads(line.removeprefix("data: "))["choices"]
        if choice["index"] == 0
    )
    assert ADDRESS in together, "the upstream's own words, encrypted"


def test_events_come_as_they_are_said(streaming: Gateway) -> None:
    """Not one burst at the end: the first words are there before the last ones are said."""
    caller = begun(streaming, WAITS)
    assert b"[DONE]" not in read_until(caller, word(2).encode())
    GOES_ON.set()
    read_until(caller, b"[DONE]")
    caller.close()


def test_a_caller_who_leaves(streaming: Gateway) -> None:
    caller = begun(streaming, ENDLESS)
    came = read_until(caller, word(3).encode())
    exchange_id = exchange_of(came)
    caller.close()
    [(_, outcome)] = streaming.records(exchange_id, "inference.outcome")
    assert outcome["outcome"]["status"] == "abandoned"
    released = outcome["outcome"]["released_bytes"]
    assert released > 0
    bodies = show(streaming, exchange_id)
    assert len(bodies["response.released"].encode()) >= released
    assert word(3) in bodies["response.released"]


def test_an_upstream_that_runs_away_is_broken_off(streaming: Gateway) -> None:
    """A line without end, megabytes of it: the caller gets the error event and then the end, not a call for ever."""
    caller = begun(streaming, RUNAWAY)
    came = read_until(caller, b"stream_line_too_long")
    while data := caller.recv(65536):
        came += data
    caller.close()
    assert len(came) < 2048
    [(_, outcome)] = streaming.records(exchange_of(came), "inference.outcome")
    assert (outcome["outcome"]["status"], outcome["outcome"]["code"]) == ("error", "upstream_unreadable")
    assert streaming.chat("hello", path=SLOW, stream=True).status == 200


def test_a_worker_killed_half_way_tells_what_was_released(streaming: Gateway) -> None:
    caller = begun(streaming, ENDLESS)
    came = read_until(caller, word(20).encode())
    exchange_id = exchange_of(came)
    for pid in running_workers(streaming).values():
        os.kill(pid, signal.SIGKILL)
    while data := caller.recv(65536):  # Envoy breaks the stream off
        came += data
    assert b"[DONE]" not in came
    [(_, outcome)] = streaming.records(exchange_id, "inference.outcome", seconds=90)
    told = outcome["outcome"]
    assert told["status"] == "interrupted"
    assert 0 < told["released_bytes"] <= told["covered_bytes"]
    bodies = show(streaming, exchange_id)
    assert len(bodies["response.released"].encode()) == told["covered_bytes"]
    streaming.wait_for(lambda: len(running_workers(streaming)) == 2, "no worker comes back", 60)
    streaming.wait_for(lambda: streaming.chat("hello", path=SLOW, stream=True).status == 200, "not served")


def test_the_auditor_accepts_what_streams_leave(streaming: Gateway) -> None:
    """Parts, interrupted ends and all."""
    streaming.chat("hello", stream=True)
    kinds = {leaf["kind"] for leaf in streaming.leaves()}
    assert {"inference.part", "log.recovered"} <= kinds
    found = verify(streaming)
    assert found["ok"], found["findings"]
