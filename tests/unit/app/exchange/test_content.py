"""Content as the driver sees it: what is found, what is done, what is said about it, and attempts to get round it.

Each attempt is a way in which one planted value was tried to be carried through a request or an answer. What stays
possible by design is listed at the end, so that a change of it is noticed.
"""

from __future__ import annotations

import base64
import gzip
import json
from typing import Any

import pytest

from ext_proc.errors import BadBody, UnknownOperation, UnsupportedContent, UpstreamError
from ext_proc.model import Action, Connection, RedactionRule, Refusal
from tests.unit.app.exchange.bodies import (
    CHAT,
    CONNECTION,
    GATE,
    JSON,
    NDJSON,
    SSE,
    TEXT,
    blocks,
    deltas,
    events_of,
    inspect,
    request,
    response,
    stream,
    wire,
)  # fmt: skip

MAIL = "bob.planted@example.org"
CARD = "4111111111111111"
IBAN = "DE89370400440532013000"
TOKEN = "ghp_" + "a1B2c3D4e" * 4
VALUES = (MAIL, CARD, IBAN, TOKEN)
PLANTED = pytest.mark.parametrize("value", VALUES)


def chat(said: Any, **more: Any) -> dict[str, Any]:
    return {"model": "demo", "messages": [{"role": "user", "content": said}], **more}


def readable(body: bytes) -> str:
    """All that a reader could make of a body: its escapes undone, without blanks and separators, numbers in full."""
    text = body.decode()
    said = [text]

    def walk(node: Any) -> None:
        if isinstance(node, dict):
            for key, inner in node.items():
                said.append(key)
                walk(inner)
        elif isinstance(node, list):
            said.append("".join(chr(one) for one in node if isinstance(one, int) and 0 < one < 0x110000))
            said.append("".join(one for one in node if isinstance(one, str)))
            said.append("".join(str(one.get("text", "")) for one in node if isinstance(one, dict)))
            said.append("".join(str(one.get("token", "")) for one in node if isinstance(one, dict)))
            for inner in node:
                walk(inner)
        elif isinstance(node, str):
            said.append(node)
            try:
                inner = json.loads(node)
            except ValueError:
                return
            if isinstance(inner, dict | list | str):
                walk(inner)
        elif isinstance(node, int | float) and not isinstance(node, bool):
            said.append(f"{node:.0f}" if abs(node) < 1e30 else str(node))

    try:
        walk(json.loads(text))
    except ValueError:
        walk(events_of(body) if b"data: " in body else [json.loads(line) for line in text.split("\n") if line])
    return "\n".join(said)


def holds(body: bytes, value: str) -> bool:
    plain = readable(body)
    packed = plain.replace(" ", "").replace("-", "")
    return value in plain or value in packed or base64.b64encode(value.encode()).decode().rstrip("=")[:-1] in plain


def nested(value: Any, levels: int) -> Any:
    for _ in range(levels):
        value = json.dumps({"v": value})
    return value


def escaped(value: str) -> str:
    return "".join(f"\\u{ord(char):04x}" for char in value)


def halves(value: str) -> tuple[str, str]:
    return value[: len(value) // 2], value[len(value) // 2 :]


REQUESTS: dict[str, Any] = {
    "content": lambda v: chat(f"it is {v}."),
    "system message": lambda v: {"model": "demo", "system": f"x {v}", "messages": [{"role": "system", "content": v}]},
    "content part": lambda v: chat([{"type": "text", "text": v}]),
    "split over content parts": lambda v: chat([{"type": "text", "text": part} for part in halves(v)]),
    "one character each part": lambda v: chat([{"type": "text", "text": char} for char in v]),
    "key": lambda v: chat("x", metadata={v: "1"}),
    "keys, many alike": lambda v: chat("x", metadata={v: "1", f" {v}": "2", f"{v} ": "3"}),
    "key above nested JSON": lambda v: chat("x", metadata={v: json.dumps({"inner": v, v: [v]})}),
    "key inside nested JSON": lambda v: chat(json.dumps({v: {v: v}})),
    "metadata": lambda v: chat("x", metadata={"customer": v}),
    "user": lambda v: chat("x", user=v),
    "name of a message": lambda v: {"model": "demo", "messages": [{"role": "user", "name": v, "content": "x"}]},
    "stop": lambda v: chat("x", stop=[v]),
    "unknown field": lambda v: chat("x", whatever={"deep": [[[{"er": v}]]]}),
    "tool name and description": lambda v: chat("x", tools=[{"type": "function", "function": {"name": "f", "description": v, "parameters": {"properties": {"a": {"enum": [v], "default": v}}}}}]),
    "tool call arguments": lambda v: {"model": "demo", "messages": [{"role": "assistant", "tool_calls": [{"id": "1", "function": {"name": "f", "arguments": json.dumps({"to": v})}}]}]},
    "tool call arguments, escaped": lambda v: {"model": "demo", "messages": [{"role": "assistant", "tool_calls": [{"id": "1", "function": {"name": "f", "arguments": '{"to":"' + escaped(v) + '"}'}}]}]},
    "arguments that are not JSON": lambda v: {"model": "demo", "messages": [{"role": "assistant", "tool_calls": [{"id": "1", "function": {"name": "f", "arguments": '{"to":"' + escaped(v)}}]}]},
    "tool result": lambda v: {"model": "demo", "messages": [{"role": "tool", "tool_call_id": v, "content": v}]},
    "tool result blocks": lambda v: {"model": "demo", "messages": [{"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t", "content": [{"type": "text", "text": v}]}]}]},
    "tool use input": lambda v: {"model": "demo", "messages": [{"role": "assistant", "content": [{"type": "tool_use", "id": v, "name": "f", "input": {v: v}}]}]},
    "thinking and signature": lambda v: {"model": "demo", "messages": [{"role": "assistant", "content": [{"type": "thinking", "thinking": v, "signature": v}]}]},
    "document title and source": lambda v: chat([{"type": "document", "title": v, "context": v, "source": {"type": "text", "data": v}}]),
    "file name": lambda v: chat([{"type": "file", "file": {"filename": f"{v}.pdf", "file_id": v}}]),
    "image url": lambda v: chat([{"type": "image_url", "image_url": {"url": f"https://host.example/{v}?a={v}"}}]),
    "url, percent": lambda v: chat([{"type": "image_url", "image_url": {"url": "https://host.example/" + v.replace("@", "%40")}}]),
    "url, percent twice": lambda v: chat("https://host.example/?q=" + v.replace("@", "%2540")),
    "data url": lambda v: chat([{"type": "image_url", "image_url": {"url": "data:text/plain;base64," + base64.b64encode(f"it is {v} ok".encode()).decode()}}]),
    "base64": lambda v: chat(base64.b64encode(f"it is {v} ok".encode()).decode()),
    "base64 as a parameter": lambda v: chat("q=" + base64.b64encode(f"it is {v} ok".encode()).decode()),
    "base64, URL-safe, unpadded": lambda v: chat(base64.urlsafe_b64encode(f"??>> {v} ??>>".encode()).decode().rstrip("=")),
    "base64 of UTF-8": lambda v: chat(base64.b64encode(f"größe {v} ¿".encode()).decode()),
    "base64 in lines": lambda v: chat(base64.encodebytes(f"{'x ' * 40}{v} {'y ' * 40}".encode()).decode()),
    "file data": lambda v: chat([{"type": "file", "file": {"file_data": base64.b64encode(f"%PDF {v} \n".encode()).decode()}}]),
    "unicode escapes": lambda v: ('{"model":"demo","messages":[{"role":"user","content":"' + escaped(v) + '"}]}').encode(),
    "unicode escapes of a key": lambda v: ('{"model":"demo","messages":[],"metadata":{"' + escaped(v) + '":1}}').encode(),
    "escapes written out": lambda v: chat(f"say {escaped(v)} now"),
    "escapes written out twice": lambda v: chat("say " + escaped(v).replace("\\", "\\\\\\\\") + " now"),
    "nested once": lambda v: chat(nested(v, 1)),
    "nested three times": lambda v: chat(nested(v, 3)),
    "nested deeper than the limit": lambda v: chat(nested(v, 6)),
    "nested deeper, escaped": lambda v: chat(json.dumps({"v": json.dumps({"v": json.dumps({"v": json.dumps({"v": '{"v":"' + escaped(v) + '"}'})})})})),
    "nested, a key twice": lambda v: chat('{"v":"' + v + '","v":"x"}'),
    "nested list": lambda v: chat(json.dumps([[v], {"a": [v]}])),
    "string in a string": lambda v: chat(json.dumps(v)),
    "zero width": lambda v: chat("\u200b".join(v)),
    "soft hyphens and tags": lambda v: chat("\u00ad\U000e0041\ufe0f".join(v)),
    "control characters": lambda v: chat("\x00".join(v)),
    "delete characters": lambda v: chat("\x7f\x08".join(v)),
    "full width": lambda v: chat("".join(chr(ord(char) + 0xFEE0) if "!" <= char <= "~" else char for char in v)),
    "HTML entities": lambda v: chat("".join(f"&#{ord(char)};" for char in v)),
    "HTML entities, hex, no semicolon at the end": lambda v: chat("".join(f"&#x{ord(char):x};" for char in v)),
    "HTML entities, escaped": lambda v: chat("".join(f"&amp;#{ord(char)};" for char in v)),
    "glued to Chinese": lambda v: chat(f"\u8bf4{v}\u8c22"),
    "in Markdown": lambda v: chat(f"**{v}** `{v}` [{v}](mailto:{v}) | {v} |"),
    "after a long text": lambda v: chat("lorem ipsum " * 5000 + v),
    "behind bait": lambda v: chat("@ " * 5000 + v + " @" * 5000),
    "completions prompt": lambda v: {"model": "demo", "prompt": [v, v]},
    "embeddings input": lambda v: {"model": "demo", "input": [v]},
    "long key above": lambda v: chat("x", metadata={"k" * 3000: {"k" * 3000: v}}),
    "path-like key": lambda v: chat("x", metadata={"data/0/embedding": v, "a/~b": v}),
}  # fmt: skip


@PLANTED
@pytest.mark.parametrize("name", REQUESTS)
@pytest.mark.parametrize("protocol", ["openai.chat", "anthropic.messages", "generic"])
def test_request_attempt(name: str, value: str, protocol: str) -> None:
    body = wire(REQUESTS[name](value))
    made = request(body, protocol)
    assert not holds(made.body, value)
    assert made.removals
    assert json.loads(made.body)["model"] == "demo"


@pytest.mark.parametrize(
    "number",
    [CARD, f"-{CARD}", f"{CARD}.0", "4.111111111111111e15", "4.111111111111111E+15", "411111111111111.1e1", "4111111111111111000e-3", f"{CARD}e0"],
)  # fmt: skip
def test_card_as_a_number(number: str) -> None:
    made = request(f'{{"model":"demo","messages":[],"metadata":{{"n":{number}}}}}'.encode())
    assert not holds(made.body, CARD)
    assert json.loads(made.body)["metadata"]["n"].lstrip("-") == "[PAYMENT_CARD]"


def test_long_card_as_a_number_with_an_exponent() -> None:
    made = request(b'{"model":"demo","messages":[],"metadata":{"n":6.2e18}}')
    assert json.loads(made.body)["metadata"]["n"] == "[PAYMENT_CARD]"


def test_parts_do_not_spoil_each_other() -> None:
    """Run together, the number would follow a letter and be none."""
    made = request(
        chat(
            [
                {"type": "text", "text": "abc"},
                {"type": "text", "text": "+1 212 555 0123"},
                {"type": "text", "text": "x"},
            ]
        )
    )
    assert [part["text"] for part in json.loads(made.body)["messages"][0]["content"]] == ["abc", "[PHONE]", "x"]


@pytest.mark.parametrize(
    ("key", "number", "entity"),
    [("ssn", 123456789, "US_SSN"), ("passport", 1234567, "PASSPORT"), ("phone", 2125550123, "PHONE"), ("password", 123456, "SECRET_PASSWORD"), ("passport", 1234567.0, "PASSPORT"), ("driver_license", [12345], "DRIVER_LICENSE")],
)  # fmt: skip
def test_numbers_that_a_key_explains(key: str, number: Any, entity: str) -> None:
    assert str(number).strip("[]").removesuffix(".0") not in request(chat("x", metadata={key: number})).body.decode()
    assert inspect(chat("x", metadata={key: number})).findings == {entity: 1}


def test_numbers_stay_numbers() -> None:
    body = chat("x", temperature=0.25, max_tokens=4096, seed=12345678, logit_bias={"50256": -100}, stamps=[1732540786, -4.123456789012345], ids=list(range(50_000, 50_100)))  # fmt: skip
    assert json.loads(request(body).body) == body


def both(value: str, **choice: Any) -> dict[str, Any]:
    return {
        "id": "c1",
        "model": "demo",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": value}, **choice}],
    }


def tokens(value: str, **more: Any) -> list[dict[str, Any]]:
    return [
        {"token": part, "logprob": -0.1, "bytes": list(part.encode()), "top_logprobs": [{"token": part, "logprob": -0.1, "bytes": list(part.encode())}], **more}
        for part in (value[at : at + 3] for at in range(0, len(value), 3))
    ]  # fmt: skip


ANSWERS: dict[str, Any] = {
    "content": lambda v: (both(f"it is {v}"), JSON),
    "refusal": lambda v: (both("", message={"refusal": v}), JSON),
    "reasoning": lambda v: (both("", message={"reasoning_content": v, "reasoning": v}), JSON),
    "logprobs": lambda v: (both("x", logprobs={"content": tokens(v)}), JSON),
    "logprobs of a refusal": lambda v: (both("x", logprobs={"refusal": tokens(v)}), JSON),
    "bytes that are not the token's": lambda v: (both("x", logprobs={"content": [{"token": "x", "bytes": list(v.encode()), "top_logprobs": [{"token": "y", "bytes": list(v.encode())}]}]}), JSON),
    "bytes with one that is no text": lambda v: (both("x", logprobs={"content": [{"token": "x", "bytes": [255, *v.encode()]}]}), JSON),
    "logprobs of completions": lambda v: ({"choices": [{"text": v, "logprobs": {"tokens": list(v), "top_logprobs": [{char: -0.1} for char in v], "token_logprobs": [-0.1] * len(v)}}]}, JSON),
    "logprobs in a stream": lambda v: (stream(*({"choices": [{"index": 0, "delta": {}, "logprobs": {"content": [one]}}]} for one in tokens(v))), SSE),
    "tool call": lambda v: (both("", message={"tool_calls": [{"id": v, "function": {"name": v, "arguments": json.dumps({"a": v, v: 1})}}]}), JSON),
    "id and model": lambda v: ({"id": v, "model": v, "system_fingerprint": v, "choices": []}, JSON),
    "error": lambda v: ({"error": {"message": v, "param": v, "code": v}}, JSON),
    "annotations": lambda v: (both("", message={"annotations": [{"url_citation": {"url": f"https://x/{v}", "title": v}}]}), JSON),
    "bare string": lambda v: (v, JSON),
    "list": lambda v: ([v, [v]], JSON),
    "problem": lambda v: ({"title": v}, (("content-type", b"application/problem+json"),)),
    "gzip": lambda v: (gzip.compress(wire(both(v))), (*JSON, ("content-encoding", b"gzip"))),
    "Anthropic": lambda v: ({"id": "m", "type": "message", "content": [{"type": "text", "text": v}, {"type": "thinking", "thinking": v, "signature": v}, {"type": "tool_use", "id": "t", "name": "f", "input": {"a": v, v: 1}}], "stop_sequence": v}, JSON),
    "split over content blocks": lambda v: ({"content": [{"type": "text", "text": part} for part in halves(v)]}, JSON),
    "stream": lambda v: (stream(*deltas(f"it is {v}"), "[DONE]"), SSE),
    "stream, one character each": lambda v: (stream(*deltas(*v), "[DONE]"), SSE),
    "stream, reasoning": lambda v: (stream(*deltas(*halves(v), name="reasoning_content"), *deltas(*v, name="reasoning"), *deltas(*v, name="refusal")), SSE),
    "stream, a field nobody knows": lambda v: (stream(*deltas(*v, name="afterthought")), SSE),
    "stream, content as parts": lambda v: (stream(*({"choices": [{"index": 0, "delta": {"content": [{"type": "text", "text": char}]}}]} for char in v)), SSE),
    "stream, audio transcript": lambda v: (stream(*({"choices": [{"index": 0, "delta": {"audio": {"transcript": char}}}]} for char in v)), SSE),
    "stream, legacy function call": lambda v: (stream(*({"choices": [{"index": 0, "delta": {"function_call": {"arguments": char}}}]} for char in json.dumps({"a": v}))), SSE),
    "stream, two choices mixed": lambda v: (stream(*(one for char in v for one in (*deltas(char), *deltas("z", index=1)))), SSE),
    "stream, completions": lambda v: (stream(*({"choices": [{"index": 0, "text": char}]} for char in v)), SSE),
    "stream, tool call": lambda v: (stream(*({"choices": [{"index": 0, "delta": {"tool_calls": [{"index": 1, "function": {"arguments": char}}]}}]} for char in json.dumps({"a": v}))), SSE),
    "stream, tool call escaped and cut short": lambda v: (stream(*({"choices": [{"index": 0, "delta": {"tool_calls": [{"index": 1, "function": {"arguments": char}}]}}]} for char in '{"a":"' + escaped(v))), SSE),
    "stream, tool name in pieces": lambda v: (stream(*({"choices": [{"index": 0, "delta": {"tool_calls": [{"index": 0, "function": {"name": char}}]}}]} for char in v)), SSE),
    "stream, no index": lambda v: (stream(*({"choices": [{"delta": {"content": char}}]} for char in v)), SSE),
    "stream, comment, id, retry": lambda v: (f": {v}\nid: {v}\nretry: {v}\n{v}: {v}\ndata: 1\n\n".encode(), SSE),
    "stream, event name": lambda v: (f"event: {v}\ndata: 1\n\n".encode(), SSE),
    "stream, CRLF, BOM, many data lines, unfinished": lambda v: (f'\ufeffdata: {{"a":\r\ndata: "{v}"}}'.encode(), SSE),
    "stream, bare strings": lambda v: (stream(*(json.dumps(char) for char in v)), SSE),
    "Responses API": lambda v: (stream(*({"type": "response.output_text.delta", "output_index": 0, "delta": char} for char in v)), SSE),
    "NDJSON": lambda v: (b"".join(wire({"response": v}) + b"\n" for _ in "ab"), NDJSON),
    "NDJSON, one character each": lambda v: (b"".join(wire({"message": {"content": char}}) + b"\n" for char in v), NDJSON),
    "NDJSON, bare strings": lambda v: (b"".join(wire(json.dumps(char).encode()) + b"\n" for char in v), NDJSON),
    "Anthropic stream": lambda v: (stream({"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": v[:2]}}, *blocks(*v[2:]), names=True), SSE),
    "Anthropic stream, thinking and signature": lambda v: (stream(*blocks(*v, kind="thinking"), *blocks(*v, kind="signature"), names=True), SSE),
    "Anthropic stream, tool input": lambda v: (stream({"type": "content_block_start", "index": 2, "content_block": {"type": "tool_use", "id": v, "name": "f", "input": {}}}, *blocks(*json.dumps({"to": v, v: 1}), index=2, kind="input_json"), names=True), SSE),
    "Anthropic stream, tool input escaped": lambda v: (stream(*blocks(*('{"to":"' + escaped(v) + '"}'), kind="input_json"), names=True), SSE),
    "Anthropic stream, citation": lambda v: (stream({"type": "content_block_delta", "index": 0, "delta": {"type": "citations_delta", "citation": {"cited_text": v, "document_title": v}}}, names=True), SSE),
    "Anthropic stream, error": lambda v: (stream({"type": "error", "error": {"message": v}}, names=True), SSE),
}  # fmt: skip


@PLANTED
@pytest.mark.parametrize("name", ANSWERS)
@pytest.mark.parametrize("protocol", ["openai.chat", "openai.embeddings", "anthropic.messages", "generic"])
def test_answer_attempt(name: str, value: str, protocol: str) -> None:
    body, headers = ANSWERS[name](value)
    made = response(body, protocol, headers)
    assert not holds(made.body, value)
    if headers == SSE:
        assert value not in joined(made.body)
    elif headers == NDJSON:
        assert value not in joined(made.body, ndjson=True)


def joined(body: bytes, *, ndjson: bool = False) -> str:
    """Every string of a stream, those of the same place in a row: what a client would put together."""
    roots = [json.loads(line) for line in body.decode().split("\n") if line] if ndjson else events_of(body)
    said: dict[tuple[Any, ...], str] = {}

    def walk(node: Any, path: tuple[Any, ...]) -> None:
        if isinstance(node, dict):
            for key, inner in node.items():
                walk(inner, (*path, "delta" if key == "content_block" else key))
        elif isinstance(node, list):
            for index, inner in enumerate(node):
                walk(inner, (*path, inner.get("index", index) if isinstance(inner, dict) else index))
        elif isinstance(node, str):
            said[path] = said.get(path, "") + node

    for root in roots:
        walk(root, (root.get("index"),) if isinstance(root, dict) else ())
    plain = []
    for text in said.values():
        try:
            plain.append(json.dumps(json.loads(text), ensure_ascii=False))
        except ValueError:
            plain.append(text.encode().decode("unicode_escape", "replace") if "\\u" in text else text)
    return "\n".join([*said.values(), *plain])


@PLANTED
def test_plain_text(value: str) -> None:
    made = response(f"it is {value}.".encode(), "generic", TEXT)
    assert value.encode() not in made.body
    assert made.body.startswith(b"it is [")


def test_embedding_that_is_text() -> None:
    """The official client asks for vectors as base64: those pass, text in their clothes does not."""
    import struct

    vector = base64.b64encode(struct.pack("<384f", *(((at % 17) - 8) / 100 for at in range(384)))).decode()
    text = base64.b64encode((f"write to {MAIL} " * 32)[:512].encode()).decode()
    for place in ({"data": [{"embedding": vector}]}, {"data": [{"embedding": [0.25, -0.5]}]}):
        made = response(place, "openai.embeddings")
        assert json.loads(made.body) == place
        assert made.coverage.structure_bytes
    for body in ({"data": [{"embedding": text}]}, {"data/0/embedding": text}):
        assert text not in response(body, "openai.embeddings").body.decode()


@pytest.mark.parametrize(
    "query",
    [
        f"?u={MAIL}",
        "?u=bob%40example.org",
        "?u=bob%2540example.org",
        f"?card={CARD}",
        f"?{TOKEN}",
        "?password=hunter2x",
    ],
)
def test_query_is_refused(query: str) -> None:
    with pytest.raises(UnsupportedContent, match="data_in_query_or_header"):
        inspect(CHAT, query=query)
    assert inspect(CHAT, query="?beta=true&version=2024-10-21").model == "demo"


@pytest.mark.parametrize("name", ["accept", "anthropic-beta", "anthropic-version", "openai-beta", "traceparent"])
@PLANTED
def test_header_is_refused(name: str, value: str) -> None:
    with pytest.raises(UnsupportedContent, match="data_in_query_or_header"):
        inspect(CHAT, headers=(*JSON, (name, value.encode())))
    with pytest.raises(UnsupportedContent):
        inspect(CHAT, headers=(("content-type", f"application/json; boundary={value}".encode()),))


@pytest.mark.parametrize("model", [MAIL, "a b", "", "x" * 129, "-x", TOKEN])
def test_model_must_look_like_one(model: str) -> None:
    with pytest.raises(BadBody, match="model_name"):
        inspect({**CHAT, "model": model})


@PLANTED
def test_a_parameter_is_no_place_for_text(value: str) -> None:
    for name in ("temperature", "n", "stream"):
        with pytest.raises(BadBody, match="parameter_type"):
            inspect(chat("x", **{name: value}))
    assert value not in repr(inspect(chat("x", reasoning_effort=value)).parameters)
    assert value.encode() not in request(chat("x", temperature=value), "generic").body


def called(*names: Any, **more: Any) -> dict[str, Any]:
    calls = [{"function": {"name": name, "arguments": "{}"}} for name in names]
    return {**more, "choices": [{"finish_reason": "stop", "message": {"tool_calls": calls}}]}


def answered(body: Any, asked: Any) -> Any:
    return GATE.redact_response(inspect({**CHAT, **asked}), (), 200, JSON, wire(body), 1 << 20)


def test_labels_of_an_answer_that_do_not_look_like_labels_are_not_recorded() -> None:
    made = response({"model": MAIL, "system_fingerprint": "a b", "choices": [{"finish_reason": CARD, "message": {"tool_calls": [{"function": {"name": f"x {MAIL}", "arguments": "{}"}}]}}]})  # fmt: skip
    assert (made.model_served, made.model_fingerprint, made.finish_reasons) == ("unlisted", "unlisted", ("unlisted",))
    assert [call.name for call in made.tool_calls] == ["unlisted"]
    assert MAIL not in repr(made.removals)


def test_only_what_a_label_of_its_kind_can_be_is_recorded() -> None:
    free = "Patient-John-Smith-has-HIV"
    made = response({"model": free, "system_fingerprint": free, "choices": [{"finish_reason": free}, {"finish_reason": "stop"}]})  # fmt: skip
    assert (made.model_served, made.model_fingerprint) == ("unlisted", "unlisted")
    assert made.finish_reasons == ("unlisted", "stop")
    for served in ("gpt-4o-2024-08-06", "demo-1", "demo", "meta-llama/Llama-3.1-8B", "m1"):
        assert response({"model": served}).model_served == served
    assert response({"model": "m1" + "x" * 62}).model_served == "m1" + "x" * 62
    assert response({"model": "m1" + "x" * 63}).model_served == "unlisted"


def test_only_tools_that_were_offered_are_named() -> None:
    offers = {"tools": [{"type": "function", "function": {"name": name}} for name in ("weather", "x" * 65, MAIL)]}
    made = answered(called("weather", "Patient-John-Smith-has-HIV", "x" * 65, MAIL, ""), offers)
    assert [call.name for call in made.tool_calls] == ["weather", *["unlisted"] * 4]
    assert [call.name for call in answered(called("weather"), {}).tool_calls] == ["unlisted"]


def test_what_is_kept_between_exchanges_has_an_end() -> None:
    """Both caches are a caller's to fill, without a token: long values must not stay."""
    GATE._labels.is_clean_kept.cache_clear()
    GATE._labels.is_clean_label.cache_clear()
    for number in range(20):
        value = b"a" * 257 + str(number).encode()
        with pytest.raises(BadBody, match="model_name"):
            inspect({**CHAT, "model": "x" * 1000 + str(number)})
        inspect(CHAT, headers=(*JSON, ("accept", value)))
        response(both("hi"), headers=(*JSON, ("date", value + b" " + MAIL.encode())))
    assert GATE._labels.is_clean_label.cache_info().currsize <= 2
    assert GATE._labels.is_clean_kept.cache_info().currsize <= 2
    with pytest.raises(UnsupportedContent):
        inspect(CHAT, headers=(*JSON, ("accept", b"a" * 300 + b" " + MAIL.encode())))


def test_paths_on_record_hold_no_text_of_the_caller() -> None:
    made = request(chat("x", metadata={f"Name of {MAIL}": [MAIL], "a" * 99: MAIL}))
    paths = {one.channel for one in made.removals}
    assert MAIL not in " ".join(paths)
    assert paths == {"/metadata", "/metadata/*/0", "/metadata/*"}


def test_findings_and_coverage() -> None:
    body = chat(f"{MAIL} and {MAIL}, card {CARD}")
    seen = inspect(body)
    assert (seen.protocol, seen.operation, seen.model, seen.is_stream) == ("openai.chat", "chat", "demo", False)
    assert seen.findings == {"EMAIL": 2, "PAYMENT_CARD": 1}
    made = request(body)
    assert made.coverage.scanned_bytes == seen.text_bytes == sum(len(text) for text in ("model", "demo", "messages", "role", "user", "content", body["messages"][0]["content"]))  # fmt: skip
    assert made.coverage.forwarded_bytes == len(made.body)
    assert made.decoded == wire(body)


@pytest.mark.parametrize("side", ["request", "response"])
def test_actions_by_direction(side: str) -> None:
    rules = (
        RedactionRule("EMAIL", Action.ALLOW),
        RedactionRule("PAYMENT_CARD", Action.BLOCK),
        RedactionRule("*", Action.DROP),
    )
    text = f"{MAIL} {CARD} {IBAN} {TOKEN}"
    made = request(chat(text), rules=rules) if side == "request" else response(both(text), rules=rules)
    assert made.blocked == ("PAYMENT_CARD",)
    assert MAIL.encode() in made.body
    assert not any(value.encode() in made.body for value in (CARD, IBAN, TOKEN))
    assert {(one.entity, one.action) for one in made.removals} == {("PAYMENT_CARD", Action.BLOCK), ("IBAN", Action.DROP), ("SECRET_GITHUB", Action.DROP)}  # fmt: skip


def test_facts_of_an_answer() -> None:
    made = response(
        {
            **both("hi", finish_reason="stop"),
            "system_fingerprint": "fp_1",
            "usage": {"prompt_tokens": 3, "completion_tokens": 4},
        }
    )
    assert (made.model_served, made.model_fingerprint, made.finish_reasons) == ("demo", "fp_1", ("stop",))
    assert (made.usage.input_tokens, made.usage.output_tokens) == (3, 4)


def test_opaque_is_not_read() -> None:
    seen = inspect(b"\xff\x00", "opaque", headers=())
    assert (seen.protocol, seen.findings, seen.text_bytes, seen.document) == ("opaque", {}, 0, None)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v1/chat/completions"),
        ("POST", "/v1/chat/completions/"),
        ("POST", "/V1/chat/completions"),
        ("POST", "/"),
        ("POST", "/v1//chat/completions"),
    ],
)
def test_unknown_operation(method: str, path: str) -> None:
    with pytest.raises(UnknownOperation):
        GATE.inspect(CONNECTION, method, path, JSON, wire(CHAT))


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/v1/messages?beta=1", None),
        ("/v1/chat/completions", "invalid_request_error"),
        ("/nowhere", "invalid_request_error"),
    ],
)
def test_refusal_in_the_words_of_the_path(path: str, kind: str | None) -> None:
    refusal = Refusal(400, "unreadable_body", "No.")
    body = json.loads(GATE.refusal(CONNECTION, path, refusal)[1])
    assert body["error"]["type"] == "invalid_request_error"
    assert ("param" in body["error"]) is (kind is not None)
    assert json.loads(GATE.refusal(None, path, refusal)[1])["error"]["code"] == "unreadable_body"
    assert isinstance(Connection, type)


@pytest.mark.parametrize(
    "headers",
    [
        (("content-type", b"text/html"),),
        (),
        (("content-type", b"application/json; charset=latin-1"),),
        (*JSON, ("content-encoding", b"compress")),
    ],
)
def test_answers_that_cannot_be_read_are_not_released(headers: Any) -> None:
    with pytest.raises(UpstreamError):
        response(both(MAIL), headers=headers)


# By design ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "said",
    [
        "My name is Ada Planted, 12 Example Street",  # names and addresses: no rule can
        "nalp.bob",  # reversed, rot13, hex, spelled out: the caller's own cipher
        [list(MAIL.encode())],  # numbers that stand for letters
    ],
)
def test_what_passes_by_design(said: Any) -> None:
    assert request(chat(said)).removals == ()


def test_split_over_messages_passes_by_design() -> None:
    one, other = halves(MAIL)
    body = {"model": "demo", "messages": [{"role": "user", "content": one}, {"role": "user", "content": other}]}
    assert json.loads(request(body).body) == body


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("request-id", b"4111 1111 1111 1111"),
        ("openai-version", b"ghp_" + b"Zq8" * 12),
        ("x-request-id", b"ada.lovelace%40example.net"),
    ],
)
def test_a_field_of_the_answer_that_holds_what_a_body_would_be_masked_for(name: str, value: bytes) -> None:
    made = response(both("hi"), headers=(*JSON, (name, value), ("retry-after", b"5")))
    assert made.tainted_headers == (name,)


def test_ordinary_fields_of_an_answer_pass() -> None:
    fields = (
        ("date", b"Wed, 25 Nov 2026 14:00:00 GMT"),
        ("openai-processing-ms", b"812"),
        ("x-ratelimit-limit-tokens", b"150000"),
        ("request-id", b"req_011CSHoEeqs5C35K2UUqR7Fy"),
    )
    assert response(both("hi"), headers=(*JSON, *fields)).tainted_headers == ()
