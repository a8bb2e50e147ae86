"""Tool calls of answers, whole and streamed, and the results that requests bring."""

from __future__ import annotations

import hashlib
import json

import pytest

from ext_proc.protocols.reading import read_request, read_response
from ext_proc.protocols.streaming import stream_reader
from tests.fakes.masker import FakeMaskers
from tests.unit.protocols.streams import sse

JSON = (("content-type", b"application/json"),)
SAID = '{"city":"Ulm"}'
DIGEST = hashlib.sha256(SAID.encode()).hexdigest()


def request(protocol, body):
    return read_request(protocol, JSON, json.dumps(body).encode())


def told(calls):
    return [(one.name, one.arguments_sha256, one.channel, one.call_id) for one in calls]


WHOLE = {
    "openai.chat": (
        {"choices": [{"message": {"tool_calls": [{"id": "c1", "function": {"name": "weather", "arguments": SAID}}]}}]},
        "/choices/0/message/tool_calls/0/function/arguments",
    ),
    "openai.chat, custom": (
        {"choices": [{"message": {"tool_calls": [{"id": "c1", "custom": {"name": "weather", "input": SAID}}]}}]},
        "/choices/0/message/tool_calls/0/custom/input",
    ),
    "anthropic.messages": (
        {"content": [{"type": "text", "text": "."}, {"type": "tool_use", "id": "c1", "name": "weather", "input": {"city": "Ulm"}}]},
        "/content/1/input",
    ),
    "anthropic.messages, an MCP server's": (
        {"content": [{"type": "mcp_tool_use", "id": "c1", "name": "weather", "input": {"city": "Ulm"}}]},
        "/content/0/input",
    ),
    "openai.responses": (
        {"output": [{"type": "function_call", "id": "f", "call_id": "c1", "name": "weather", "arguments": SAID}]},
        "/output/0/arguments",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", WHOLE)
def test_a_whole_answer_tells_its_tool_calls(case):
    body, channel = WHOLE[case]
    protocol = case.partition(",")[0]
    document = read_response(protocol, request(protocol, {}), 200, JSON, json.dumps(body).encode(), 10**6)
    document.rewritten({})
    assert told(document.tool_calls()) == [("weather", DIGEST, channel, "c1")]


def test_the_call_of_before_there_were_several_has_no_id():
    body = {"choices": [{"message": {"function_call": {"name": "weather", "arguments": SAID}}}]}
    document = read_response("openai.chat", request("openai.chat", {}), 200, JSON, json.dumps(body).encode(), 10**6)
    assert told(document.tool_calls()) == [("weather", DIGEST, "/choices/0/message/function_call/arguments", "")]


def call(said, **more):
    return {"choices": [{"index": 0, "delta": {"tool_calls": [{"index": 0, **more, "function": {"arguments": said}}]}}]}


def named(said):
    made = call(said, id="c1")
    made["choices"][0]["delta"]["tool_calls"][0]["function"]["name"] = "weather"
    return made


def block(**more):
    return {"type": "content_block_start", "index": 0, "content_block": {"id": "c1", "name": "weather", **more}}


STREAMS = {
    "openai.chat, in pieces": [named('{"city":'), call('"Ulm"}')],
    "openai.chat, in one event": [named(SAID)],
    "anthropic.messages, in pieces": [
        block(type="tool_use", input={}),
        {"type": "content_block_delta", "index": 0, "delta": {"type": "input_json_delta", "partial_json": SAID[:5]}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "input_json_delta", "partial_json": SAID[5:]}},
        {"type": "content_block_stop", "index": 0},
    ],
    "anthropic.messages, in one event": [
        block(type="server_tool_use", input={"city": "Ulm"}), {"type": "content_block_stop", "index": 0},
    ],
    "openai.responses, in one event": [
        {"type": "response.output_item.done", "output_index": 0, "sequence_number": 0,
         "item": {"type": "function_call", "call_id": "c1", "name": "weather", "arguments": SAID}},
    ],
}  # fmt: skip


@pytest.mark.parametrize("case", STREAMS)
def test_a_stream_tells_its_tool_calls(case):
    reader = stream_reader(case.partition(",")[0], "text/event-stream", FakeMaskers(), offered=frozenset({"weather"}))
    reader.feed(sse(*STREAMS[case]))
    reader.finish()
    ((name, digest, _, call_id),) = told(reader.learnt().tool_calls)
    assert (name, digest, call_id) == ("weather", DIGEST, "c1")


def test_what_is_said_whole_is_told_as_it_went_out():
    """An argument that was masked in the one event that said it: the digest is of what the caller got."""
    event = block(type="tool_use", input={"to": "bob@example.org"})
    reader = stream_reader("anthropic.messages", "text/event-stream", FakeMaskers())
    out = reader.feed(sse(event, {"type": "content_block_stop", "index": 0})).data
    released = json.loads(out.split(b"data: ")[1].split(b"\n")[0])["content_block"]["input"]
    assert released != {"to": "bob@example.org"}
    (one,) = reader.learnt().tool_calls
    assert one.arguments_sha256 == hashlib.sha256(json.dumps(released, separators=(",", ":")).encode()).hexdigest()


RESULTS = {
    "openai.chat": {"messages": [
        {"role": "user", "content": "?"}, {"role": "tool", "tool_call_id": "c1", "content": "x"},
        {"role": "tool", "tool_call_id": "c2", "content": "y"}, {"role": "tool", "tool_call_id": "c1", "content": "z"},
    ]},
    "anthropic.messages": {"messages": [{"role": "user", "content": [
        {"type": "tool_result", "tool_use_id": "c1", "content": "x"}, {"type": "text", "text": "."},
        {"type": "mcp_tool_result", "tool_use_id": "c2", "content": []},
    ]}]},
    "openai.responses": {"input": [
        {"type": "function_call_output", "call_id": "c1", "output": "x"}, {"role": "user", "content": "."},
        {"type": "custom_tool_call_output", "call_id": "c2", "output": "x"},
    ]},
}  # fmt: skip


@pytest.mark.parametrize("protocol", RESULTS)
def test_a_request_tells_whose_results_it_brings(protocol):
    assert request(protocol, RESULTS[protocol]).tool_results == ("c1", "c2")


@pytest.mark.parametrize("odd", [None, 7, "", "x" * 257, ["c1"]])
def test_an_id_that_is_none_joins_nothing(odd):
    body = {"messages": [{"role": "tool", "tool_call_id": odd, "content": "x"}]}
    assert request("generic", body).tool_results == ()
