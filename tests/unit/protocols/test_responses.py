"""OpenAI's Responses API, whole: what is asked, what is answered, and a stream that was read whole."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import pytest

from ext_proc.errors import BadBody
from ext_proc.model import Edit, Refusal, Usage
from ext_proc.protocols import Document, read_request, read_response, refusal_body
from ext_proc.protocols.parts import count_media
from tests.unit.protocols.streams import events_of, recorded, sse

JSON = (("content-type", b"application/json"),)
ASKED = Document("openai.responses", "response", b"", bytes)
INPUT: list[Any] = [
    {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "mail bob"}]},
    {"role": "assistant", "content": "which bob?"},
    {
        "type": "reasoning",
        "id": "rs_1",
        "summary": [{"type": "summary_text", "text": "bob?"}],
        "encrypted_content": None,
    },
    {"type": "function_call", "call_id": "call_1", "name": "find", "arguments": '{"name":"bob"}'},
    {"type": "function_call_output", "call_id": "call_1", "output": "bob@example.org"},
    {"type": "item_reference", "id": "msg_1"},
]
TOOLS = [{"type": "function", "name": "find", "parameters": {"type": "object"}}, {"type": "web_search"}]


def request(**more: Any) -> Document:
    body = {"model": "gpt-4.1", "input": INPUT, "tools": TOOLS, **more}
    return read_request("openai.responses", JSON, json.dumps(body).encode())


def answer(**more: Any) -> dict[str, Any]:
    token = {"token": "bob", "bytes": [98, 111, 98], "logprob": -0.1, "top_logprobs": []}
    text = {"type": "output_text", "text": "bob@example.org", "annotations": [], "logprobs": [token]}
    return {
        "id": "resp_1",
        "object": "response",
        "status": "completed",
        "model": "gpt-4.1-2025-04-14",
        "output": [
            {"id": "rs_1", "type": "reasoning", "summary": [{"type": "summary_text", "text": "who is bob"}]},
            {"id": "msg_1", "type": "message", "role": "assistant", "status": "completed", "content": [text]},
            {"id": "fc_1", "type": "function_call", "call_id": "call_1", "name": "send", "arguments": '{"to":"bob"}'},
            {"id": "ct_1", "type": "custom_tool_call", "call_id": "call_2", "name": "run", "input": "print(1)"},
        ],
        "usage": {"input_tokens": 3, "output_tokens": 5, "total_tokens": 8},
        **more,
    }


def read(body: Any, kind: bytes = b"application/json") -> Document:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return read_response("openai.responses", ASKED, 200, (("content-type", kind),), raw, 1 << 20)


def test_request() -> None:
    made = request(stream=True, temperature=0.5, max_output_tokens=9, store=False, background=True)
    assert (made.operation, made.model, made.is_stream) == ("response", "gpt-4.1", True)
    assert made.tool_names == {"find"}
    told = dict(made.parameters)
    assert told == {
        "stream": True, "temperature": 0.5, "max_output_tokens": 9, "store": False, "background": True,
        "message_count": 6, "tool_count": 2, "media_count": 0,
    }  # fmt: skip


@pytest.mark.parametrize("text", ["mail bob", "which bob?", "bob?", "bob", "bob@example.org", "call_1"])
def test_every_text_of_a_request_is_a_channel(text: str) -> None:
    assert text in [channel.text for channel in request().channels]


def test_input_may_be_one_text() -> None:
    made = read_request("openai.responses", JSON, b'{"model":"m","input":"hello bob","instructions":"be kind"}')
    assert {"hello bob", "be kind"} <= {channel.text for channel in made.channels}
    assert made.parameters["media_count"] == 0


@pytest.mark.parametrize("name", ["background", "stream", "store"])
def test_flags_are_flags(name: str) -> None:
    with pytest.raises(BadBody, match="parameter_type"):
        request(**{name: "true"})


@pytest.mark.parametrize(
    "item",
    [
        {"type": "input_image", "image_url": "https://example.org/x.png"},
        {
            "type": "message",
            "role": "user",
            "content": [{"type": "input_image", "image_url": "data:image/png;base64,x"}],
        },
        {"type": "message", "role": "user", "content": [{"type": "input_file", "file_data": "x"}]},
        {"type": "computer_call_output", "output": {"type": "computer_screenshot", "image_url": "x"}},
        {"type": "function_call_output", "output": [{"type": "input_image", "image_url": "x"}]},
        {"type": "image_generation_call", "result": "x"},
        {"type": "unheard_of"},
    ],
)
def test_what_is_no_text_counts(item: dict[str, Any]) -> None:
    assert count_media({"input": [item]}) > 0


def test_answer() -> None:
    made = read(answer())
    assert made.facts.model_served == "gpt-4.1-2025-04-14"
    assert made.facts.usage == Usage(3, 5)
    assert made.facts.finish_reasons == ("completed",)
    assert [(call.name, call.arguments_sha256) for call in made.tool_calls()] == [
        ("send", hashlib.sha256(b'{"to":"bob"}').hexdigest()),
        ("run", hashlib.sha256(b"print(1)").hexdigest()),
    ]
    assert {"bob@example.org", "who is bob", "bob", "print(1)"} <= {channel.text for channel in made.channels}


@pytest.mark.parametrize(
    ("more", "reasons"),
    [
        ({"status": "incomplete", "incomplete_details": {"reason": "max_output_tokens"}}, ("max_output_tokens",)),
        ({"status": "failed", "error": {"code": "x", "message": "y"}}, ("failed",)),
        ({"status": "in_progress"}, ()),
        ({"status": 5}, ()),
    ],
)
def test_how_it_ended(more: dict[str, Any], reasons: tuple[str, ...]) -> None:
    assert read(answer(**more)).facts.finish_reasons == reasons


def edit(document: Document, text: str) -> Any:
    """The answer with every channel that says ``text`` masked."""
    found = [index for index, channel in enumerate(document.channels) if channel.text == text]
    assert found
    return document.rewritten({index: [Edit(0, len(text), "[X]")] for index in found})


def test_arguments_are_json_again() -> None:
    document = read(answer())
    made = json.loads(edit(document, "bob"))
    assert json.loads(made["output"][2]["arguments"]) == {"to": "[X]"}
    (token,) = made["output"][1]["content"][0]["logprobs"]
    assert (token["token"], token["bytes"]) == ("[X]", None)
    assert document.tool_calls()[0].arguments_sha256 == hashlib.sha256(b'{"to":"[X]"}').hexdigest()


def test_a_stream_read_whole() -> None:
    document = read(recorded("openai_responses.sse"), b"text/event-stream")
    assert document.facts.finish_reasons == ("completed",)
    assert document.facts.usage == Usage(37, 11)
    assert [call.name for call in document.tool_calls()] == ["send_mail"]
    by_path = {channel.path: channel.text for channel in document.channels}
    assert by_path["/output/1/response.output_text/0/delta"] == "Mail bob@example.org it is  late"
    assert by_path["/output/2/response.function_call_arguments/arguments/to"] == "bob@example.org"
    events = events_of(edit(document, "bob@example.org"))
    said = "".join(e["delta"] for e in events if e["type"] == "response.function_call_arguments.delta")
    assert json.loads(said)["to"] == "[X]"


def test_tokens_of_a_stream_read_whole() -> None:
    def delta(text: str) -> dict[str, Any]:
        token = {"token": text, "logprob": -0.1, "top_logprobs": []}
        event = {"type": "response.output_text.delta", "output_index": 0, "content_index": 0}
        return {**event, "delta": text, "logprobs": [token]}

    document = read(sse(delta("bob@"), delta("example.org")), b"text/event-stream")
    assert [c.text for c in document.channels if c.path == "/output/0/logprobs"] == ["bob@example.org"]


def test_refusal() -> None:
    kind, body = refusal_body("openai.responses", Refusal(403, "denied", "No."))
    assert kind == "application/json"
    assert json.loads(body)["error"]["code"] == "denied"
