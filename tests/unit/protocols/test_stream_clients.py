"""The official clients read what goes out: every event, put together by their own code."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import anthropic
import httpx2
import openai
import pytest

from tests.fakes.masker import CARD, EMAIL, FORBIDDEN
from tests.unit.protocols.streams import RECORDED, chunk, cut, read, reader, recorded, sse

if TYPE_CHECKING:
    from collections.abc import Iterator


def transport(data: bytes, size: int = 50) -> Any:
    """A server that says ``data``, in pieces."""

    class Pieces(httpx2.SyncByteStream):
        def __iter__(self) -> Iterator[bytes]:
            return cut(data, size)

    def answer(request: Any) -> Any:
        return httpx2.Response(200, headers={"content-type": "text/event-stream"}, stream=Pieces())

    return httpx2.Client(transport=httpx2.MockTransport(answer))


def open_ai(data: bytes) -> openai.OpenAI:
    return openai.OpenAI(api_key="x", base_url="http://gate/v1", http_client=transport(data), max_retries=0)


def an_thropic(data: bytes) -> anthropic.Anthropic:
    return anthropic.Anthropic(api_key="x", base_url="http://gate", http_client=transport(data), max_retries=0)


def out(name: str) -> bytes:
    protocol, kind = RECORDED[name]
    return read(recorded(name), protocol, kind).data


MESSAGES: Any = [{"role": "user", "content": "hi"}]


def test_chat_helper() -> None:
    """`stream()` joins the deltas itself, choice by choice."""
    with open_ai(out("openai_chat.sse")).chat.completions.stream(model="m", messages=MESSAGES) as stream:
        for _ in stream:
            pass
        first, second = stream.get_final_completion().choices
    assert (first.message.content, first.finish_reason) == (f"Write to {EMAIL}, it is fine.", "stop")
    assert (second.message.content, second.finish_reason) == (f"Card {CARD} is héllo wörld 😀", "stop")
    assert first.message.role == "assistant"


def test_chat_helper_with_tools() -> None:
    with open_ai(out("openai_tools.sse")).chat.completions.stream(model="m", messages=MESSAGES) as stream:
        kinds = [event.type for event in stream]
        choice = stream.get_final_completion().choices[0]
    calls = choice.message.tool_calls or []
    assert [(call.id, call.function.name) for call in calls] == [
        ("call_DdmO9pD3xa9XTPNJ32zg2hcA", "send_mail"),
        ("call_x82hs", "search"),
    ]
    assert json.loads(calls[0].function.arguments) == {"to": EMAIL, "n": CARD, "l": [{EMAIL: 1}], "t": 'a\n"q" 😀'}
    assert json.loads(calls[1].function.arguments) == {"q": f"see {CARD}"}
    assert choice.message.content == "Looking up"
    assert "tool_calls.function.arguments.done" in kinds


def test_completions() -> None:
    stream = open_ai(out("openai_completions.sse")).completions.create(model="m", prompt="x", stream=True)
    chunks = list(stream)
    assert "".join(one.choices[0].text for one in chunks) == f"Hi {EMAIL}"
    assert chunks[-1].choices[0].finish_reason == "stop"


def test_responses_helper() -> None:
    with open_ai(out("openai_responses.sse")).responses.stream(model="m", input="x") as stream:
        snapshots = [event.snapshot for event in stream if event.type == "response.output_text.delta"]
        final = stream.get_final_response()
    assert snapshots[-1] == f"Mail {EMAIL} it is  late" == final.output_text
    call: Any = final.output[2]
    assert json.loads(call.arguments) == {"to": EMAIL, "n": CARD}
    reasoning: Any = final.output[0]
    assert reasoning.summary[0].text == f"Think of {EMAIL}"
    assert final.usage is not None
    assert final.usage.output_tokens == 11


def test_messages_helper() -> None:
    with an_thropic(out("anthropic_messages.sse")).messages.stream(
        model="m", max_tokens=9, messages=MESSAGES
    ) as stream:
        text = "".join(event.text for event in stream if event.type == "text")
        final = stream.get_final_message()
    blocks: list[Any] = final.content
    assert text == f"Mail to {EMAIL} at once" == blocks[1].text
    assert blocks[0].thinking == f"He is {EMAIL}"
    assert blocks[0].signature.startswith("EqQB")
    assert blocks[2].input == {"to": EMAIL, "n": CARD}
    assert (final.stop_reason, final.usage.output_tokens) == ("tool_use", 89)


def test_openai_raises_what_ends_a_stream() -> None:
    one = reader()
    data = one.feed(sse(chunk({"content": "fine "}), chunk({"content": f"{FORBIDDEN} "}))).data
    stream = open_ai(data + one.farewell("content_blocked")).chat.completions.create(
        model="m", messages=MESSAGES, stream=True
    )
    assert next(stream).choices[0].delta.content == "fine "
    with pytest.raises(openai.APIError, match="may not be released") as caught:
        list(stream)
    assert caught.value.code == "content_blocked"


def test_openai_raises_what_ends_a_response() -> None:
    one = reader("openai.responses")
    raw = recorded("openai_responses.sse")
    data = one.feed(raw[: len(raw) // 2]).data
    stream = open_ai(data + one.farewell("stream_truncated")).responses.create(model="m", input="x", stream=True)
    with pytest.raises(openai.APIError, match="cut short"):
        list(stream)


def test_anthropic_raises_what_ends_a_stream() -> None:
    one = reader("anthropic.messages")
    raw = recorded("anthropic_messages.sse")
    data = one.feed(raw[: len(raw) // 2]).data
    stream = an_thropic(data + one.farewell("content_blocked")).messages.create(
        model="m", max_tokens=9, messages=MESSAGES, stream=True
    )
    with pytest.raises(anthropic.APIStatusError, match="may not be released"):
        list(stream)
