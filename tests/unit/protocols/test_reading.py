"""From bytes to a document: what each operation takes, and what is refused with which word."""

from __future__ import annotations

import gzip
import json
from typing import Any

import pytest

from ext_proc.errors import BadBody, UnsupportedContent, UpstreamError
from ext_proc.protocols import read_request, read_response
from ext_proc.protocols.document import Document
from tests.unit.app.exchange.bodies import JSON, NDJSON, PATHS, SSE, TEXT, blocks, deltas, stream, wire

PROTOCOLS = [protocol for protocol in PATHS if protocol not in ("opaque", "openai.models")]
ASKED = Document("generic", "generic", b"", bytes)


def answer(body: Any, protocol: str = "openai.chat", headers: Any = JSON, limit: int = 1 << 20) -> Document:
    return read_response(protocol, ASKED, 200, headers, wire(body), limit)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_request(protocol: str) -> None:
    body = b'{"model":"demo","stream":true,"temperature":0.5}'
    made = read_request(protocol, JSON, body)
    assert (made.protocol, made.model, made.is_stream, made.decoded) == (protocol, "demo", True, body)
    assert made.parameters["temperature"] == 0.5
    assert json.loads(made.rewritten({})) == json.loads(body)


@pytest.mark.parametrize(
    ("body", "word"),
    [
        (b"", "json"), (b"[", "json"), (b'{"a":1,"a":1}', "json"), (b'{"a":NaN}', "json"), (b'{"a":"\xff"}', "json"), (b'{"a":"\\ud800"}', "json"),
        (b"{}{}", "json"), (b"\xef\xbb\xbf{}", "json"), (b'{"a":' * 70 + b"1" + b"}" * 70, "json"), (b'{"a":' * 100_000, "json"),
        (b'{"a":' + b"1" * 5000 + b"}", "json"), (b"{} \x00", "json"), ('{"a":1}'.encode("utf-16"), "json"), (b'"x"', "not_an_object"), (b"null", "not_an_object"),
        (b'{"model":"a","Model":"b"}', "key_repeated"), (b'{"model":"a","\\u212a":1,"k":2}', "key_repeated"), ('{"messages":1,"me\u017fsages":2}'.encode(), "key_repeated"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("protocol", ["openai.chat", "anthropic.messages", "generic"])
def test_bad_request(protocol: str, body: bytes, word: str) -> None:
    with pytest.raises(BadBody) as caught:
        read_request(protocol, JSON, body)
    assert caught.value.detail == word


def test_only_generic_takes_a_list() -> None:
    assert read_request("generic", JSON, b"[1]").model is None
    for protocol in set(PROTOCOLS) - {"generic"}:
        with pytest.raises(BadBody, match="not_an_object"):
            read_request(protocol, JSON, b"[1]")


@pytest.mark.parametrize(
    "kind",
    [b"", b"text/plain", b"application/x-www-form-urlencoded", b"multipart/form-data; boundary=x", b"application/xml", b"application/json; charset=utf-16",
     b"application/json; charset*=utf-7''", b"application/json; charset*=utf-8''utf-7; charset=utf-8", b"application/json; charset*0=utf-7", b"application/json; CharSet*0*=utf-7''", b"application/json; charset",
     b"application/json; charset=latin-1", b"application/json; charset=utf-8; charset=utf-16", b"application/json; x=charset=utf-8; charset=utf-7", b"application/json, text/plain", b"application/jsonp"],
)  # fmt: skip
def test_content_types_refused(kind: bytes) -> None:
    with pytest.raises(UnsupportedContent, match="content_type"):
        read_request("openai.chat", (("content-type", kind),), b"{}")
    with pytest.raises(UpstreamError, match="content_type"):
        answer({}, headers=(("content-type", kind.replace(b"text/plain", b"text/html")),))


@pytest.mark.parametrize(
    "kind",
    [
        b"application/json",
        b"Application/JSON ; charset=UTF-8",
        b'application/json;charset="utf-8"',
        b"application/json; charset=us-ascii",
    ],
)
def test_content_types_taken(kind: bytes) -> None:
    assert read_request("openai.chat", (("content-type", kind),), b"{}")
    assert answer({}, headers=(("content-type", kind),))


@pytest.mark.parametrize("coding", [b"gzip", b"br", b"compress", b"identity, gzip"])
def test_coded_requests_are_refused(coding: bytes) -> None:
    with pytest.raises(UnsupportedContent, match="content_encoding"):
        read_request("openai.chat", (*JSON, ("content-encoding", coding)), gzip.compress(b"{}"))
    assert read_request("openai.chat", (*JSON, ("content-encoding", b"identity")), b"{}")


def test_no_body_where_none_belongs() -> None:
    assert read_request("openai.models", (), b"").operation == "models"
    with pytest.raises(BadBody, match="body_not_expected"):
        read_request("openai.models", JSON, b"{}")
    with pytest.raises(UnsupportedContent, match="protocol"):
        read_request("kserve", JSON, b"{}")


@pytest.mark.parametrize(
    ("body", "headers", "word"),
    [
        (b"{", JSON, "json: not JSON"), (b'{"a":1,"a":2}', JSON, "json: a key is repeated"), (b"\xff", JSON, "json: not UTF-8"), (b"data: x\n\n", SSE, "json: not JSON"),
        (b"data: \xff\n\n", SSE, "json: not UTF-8"), (b"{}\n{", NDJSON, "json: not JSON"), (b"\xff", NDJSON, "json: not UTF-8"), (b"\xff", TEXT, "not UTF-8"),
        (b"{}", (*JSON, ("content-encoding", b"gzip")), "coding: damaged"), (b"{}", (*JSON, ("content-encoding", b"foo")), "coding: unknown coding"),
        (b"{}", (*JSON, ("content-encoding", b"br"), ("content-encoding", b"gzip, br")), "coding: too many codings"), (b"{}", (), "content_type"),
    ],
)  # fmt: skip
def test_bad_answer(body: bytes, headers: Any, word: str) -> None:
    with pytest.raises(UpstreamError) as caught:
        answer(body, headers=headers)
    assert caught.value.detail == word


def test_limit_of_an_answer() -> None:
    packed = gzip.compress(b"[" + b" " * 5000 + b"]")
    with pytest.raises(UpstreamError, match="too large"):
        answer(packed, headers=(*JSON, ("content-encoding", b"gzip")), limit=5001)
    assert answer(packed, headers=(*JSON, ("content-encoding", b"gzip")), limit=5002).rewritten({}) == b"[]"


@pytest.mark.parametrize("headers", [JSON, SSE, NDJSON, TEXT, (), (("content-type", b"image/png"),)])
def test_empty_answer(headers: Any) -> None:
    made = answer(b"", headers=headers)
    assert (made.rewritten({}), made.channels, made.tool_calls()) == (b"", [], ())


@pytest.mark.parametrize(
    ("body", "out"), [(b'{"a":1}\n\n{"b":2}', b'{"a":1}\n{"b":2}\n'), (b'{"a":1}\r\n"x"\r\n', b'{"a":1}\n"x"\n')]
)
def test_lines(body: bytes, out: bytes) -> None:
    assert answer(body, headers=NDJSON).rewritten({}) == out


def test_text() -> None:
    made = answer("grüße".encode(), headers=TEXT)
    assert ([one.text for one in made.channels], made.rewritten({})) == (["grüße"], "grüße".encode())


@pytest.mark.parametrize("scalar", ["x", 1, True, None, 4111111111111111])
def test_scalar_answer(scalar: Any) -> None:
    assert json.loads(answer(scalar).rewritten({})) == scalar


def calls(document: Document) -> list[str]:
    document.rewritten({})
    return [call.name for call in document.tool_calls()]


def test_openai_answer() -> None:
    made = answer({"model": "m", "choices": [{"finish_reason": "tool_calls", "message": {"tool_calls": [{"function": {"name": "f", "arguments": "{}"}}, {}]}}], "usage": {"prompt_tokens": 1, "completion_tokens": "x"}})  # fmt: skip
    assert (
        made.facts.model_served,
        made.facts.finish_reasons,
        made.facts.usage.input_tokens,
        made.facts.usage.output_tokens,
    ) == ("m", ("tool_calls",), 1, None)
    assert calls(made) == ["f", ""]


def test_openai_stream() -> None:
    tool = [{"choices": [{"index": 0, "delta": {"tool_calls": [{"index": at, "function": part}]}}]} for at, part in ((0, {"name": "f", "arguments": ""}), (1, {"name": "g"}), (0, {"arguments": '{"a":'}), (1, {"arguments": "{}"}), (0, {"arguments": "1}"}))]  # fmt: skip
    last = {
        "model": "m",
        "system_fingerprint": "fp",
        "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 1, "completion_tokens": 2},
    }
    made = answer(stream(*deltas("a", "b"), *deltas("x", index=1), *tool, last, "[DONE]"), headers=SSE)
    texts = {one.path: one.text for one in made.channels}
    assert texts["/choices/0/delta/content"] == "ab"
    assert texts["/choices/1/delta/content"] == "x"
    assert (made.facts.model_served, made.facts.model_fingerprint, made.facts.finish_reasons) == ("m", "fp", ("stop",))
    assert (made.facts.usage.input_tokens, made.facts.usage.output_tokens) == (1, 2)
    assert calls(made) == ["f", "g"]


def test_anthropic_answer() -> None:
    made = answer({"model": "m", "stop_reason": "end_turn", "usage": {"input_tokens": 1, "output_tokens": 2}, "content": [{"type": "text", "text": "x"}, {"type": "tool_use", "name": "f", "input": {"a": 1}}]}, "anthropic.messages")  # fmt: skip
    assert (made.facts.model_served, made.facts.finish_reasons, made.facts.usage.output_tokens) == (
        "m",
        ("end_turn",),
        2,
    )
    assert calls(made) == ["f"]


def test_anthropic_stream() -> None:
    start = {"type": "message_start", "message": {"model": "m", "usage": {"input_tokens": 5, "output_tokens": 1}}}
    tool = {
        "type": "content_block_start",
        "index": 1,
        "content_block": {"type": "tool_use", "id": "t", "name": "f", "input": {}},
    }
    last = {"type": "message_delta", "delta": {"stop_reason": "tool_use"}, "usage": {"output_tokens": 9}}
    body = stream(
        start,
        *blocks("a", "b"),
        tool,
        *blocks('{"k":', '"v"}', index=1, kind="input_json"),
        last,
        {"type": "message_stop"},
        names=True,
    )
    made = answer(body, "anthropic.messages", SSE)
    texts = {one.path: one.text for one in made.channels}
    assert texts["/content/0/text"] == "ab"
    assert texts["/content/1/partial_json/k"] == "v"
    assert (made.facts.model_served, made.facts.finish_reasons) == ("m", ("tool_use",))
    assert (made.facts.usage.input_tokens, made.facts.usage.output_tokens) == (5, 9)
    assert calls(made) == ["f"]
    assert made.rewritten({}).startswith(b"event: message_start\ndata: {")


@pytest.mark.parametrize("body", [None, 1, [], {}, {"choices": 1}, {"choices": [1, None, {"message": 1, "delta": [], "logprobs": {"content": [1, {"token": 5, "top_logprobs": [1]}], "tokens": [1]}}]}, {"content": [1, {"type": "tool_use"}], "usage": []}])  # fmt: skip
@pytest.mark.parametrize(
    "protocol",
    [
        "openai.chat",
        "openai.completions",
        "openai.embeddings",
        "openai.models",
        "anthropic.messages",
        "anthropic.count_tokens",
        "generic",
    ],
)
def test_answers_of_no_known_shape_pass_as_they_are(protocol: str, body: Any) -> None:
    for data, headers in ((body, JSON), (stream(json.dumps(body)), SSE), (wire(body) + b"\n", NDJSON)):
        if headers != JSON and protocol == "anthropic.messages" and isinstance(body, dict) and "content" in body:
            with pytest.raises(UpstreamError):  # a number among the pieces of a text: clients join it
                answer(data, protocol, headers)
            continue
        made = answer(data, protocol, headers)
        out = made.rewritten({})
        made.tool_calls()
        assert json.loads(out.decode().removeprefix("data: ")) == body


@pytest.mark.parametrize(
    ("protocol", "body", "counts"),
    [
        (
            "openai.chat",
            {
                "messages": [{"content": [{"type": "image_url"}, {"type": "text"}, {"type": "input_audio"}]}, {}],
                "tools": [{}],
            },
            (2, 1, 2),
        ),
        (
            "anthropic.messages",
            {
                "messages": [
                    {"content": [{"type": "image"}, {"type": "tool_result", "content": [{"type": "document"}]}]}
                ]
            },
            (1, 0, 2),
        ),
        ("generic", {"messages": "x", "tools": None}, (0, 0, 0)),
    ],
)
def test_parameters(protocol: str, body: Any, counts: tuple[int, int, int]) -> None:
    told = read_request(protocol, JSON, wire({**body, "max_tokens": 5, "temperature": None})).parameters
    assert (told["message_count"], told["tool_count"], told["media_count"]) == counts
    assert told["max_tokens"] == 5
    assert told["temperature"] is None, "a provider takes it as left out"
    assert "n" not in told


@pytest.mark.parametrize("protocol", [protocol for protocol in PROTOCOLS if protocol != "generic"])
@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("max_tokens", value) for value in ("100000", True, [100000], {"v": 100000}, 1.5, -1, 2**63, 1e300)),
        *((name, "5") for name in ("n", "best_of", "max_completion_tokens", "max_output_tokens", "max_tokens_to_sample", "n_predict", "dimensions", "temperature", "top_p", "top_k")),
        *((name, value) for name in ("stream", "store") for value in (1, "true", [True])),
        *((name, value) for name in ("encoding_format", "reasoning_effort", "service_tier") for value in (1, False, ["low"], {"a": 1})),
        ("n", "Patient-John-Smith-has-HIV"), ("temperature", [1]),
    ],
)  # fmt: skip
def test_a_parameter_of_another_type_is_refused(protocol: str, name: str, value: Any) -> None:
    """Some upstreams read "100000" as a number, and a limit of the policy would not see it."""
    with pytest.raises(BadBody) as caught:
        read_request(protocol, JSON, wire({"model": "demo", name: value}))
    assert caught.value.detail == "parameter_type"


@pytest.mark.parametrize("value", ["100000", "Patient-John-Smith-has-HIV", [100000], {"v": 1}, True, -1, 1e300, 10**20])
def test_of_a_generic_service_such_a_parameter_is_no_number_to_the_policy(value: Any) -> None:
    assert read_request("generic", JSON, wire({"max_tokens": value})).parameters["max_tokens"] == "unlisted"


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_parameters_as_they_are(protocol: str) -> None:
    body = {"max_tokens": 5.0, "n": 2**63 - 1, "temperature": 0.5, "top_p": 1, "top_k": -1, "stream": False, "n_predict": 0,
            "encoding_format": "base64", "reasoning_effort": "high", "service_tier": "Patient-John-Smith-has-HIV"}  # fmt: skip
    told = read_request(protocol, JSON, wire(body)).parameters
    assert {name: told[name] for name in body} == {**body, "max_tokens": 5, "service_tier": "unlisted"}
    assert type(told["max_tokens"]) is int


@pytest.mark.parametrize(
    "key", ["Max_Tokens", "MAX_TOKENS", "Model", "Messages", "\u017ftream", "\u212aey", "Tools", "System", "N"]
)
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_known_key_but_for_its_case_is_refused(protocol: str, key: str) -> None:
    """Go's reader takes it for the known one; the policy was told of none."""
    body = {key: 1_000_000_000, "key" if "ey" in key else "x": 1}
    with pytest.raises(BadBody) as caught:
        read_request(protocol, JSON, wire(body))
    assert caught.value.detail == ("key_repeated" if "ey" in key else "key_case")


@pytest.mark.parametrize("key", ["maxTokens", "MaxTokens", "max-tokens", "topP", "Max_Completion_Tokens", "nPredict"])
def test_a_known_key_in_another_spelling_is_refused(key: str) -> None:
    """protobuf's JSON reader takes "maxTokens"; a generic service may have such a name of its own."""
    with pytest.raises(BadBody, match="key_case"):
        read_request("openai.chat", JSON, wire({key: 1}))
    if key != "Max_Completion_Tokens":
        assert read_request("generic", JSON, wire({key: 1}))


def test_keys_below_the_first_level_are_the_callers_own() -> None:
    body = {"metadata": {"Model": "x", "model": "y"}, "tools": [{"Name": "x"}], "whatever": {"Max_Tokens": 1}}
    assert read_request("openai.chat", JSON, wire(body)).parameters["media_count"] == 0


def test_tools_that_are_offered() -> None:
    body = {
        "tools": [{"function": {"name": "a"}}, {"custom": {"name": "b"}}, {"name": "c"}, {"name": 5}, 1, None, {"function": []}],
        "functions": [{"name": "d"}],
    }  # fmt: skip
    assert read_request("openai.chat", JSON, wire(body)).tool_names == {"a", "b", "c", "d"}
    assert read_request("generic", JSON, b'{"tools":{"name":"a"}}').tool_names == frozenset()
    assert read_request("generic", JSON, b"[1]").tool_names == frozenset()


@pytest.mark.parametrize("tokens", [10**20, 2**53, -1, 1.0, "5", True, [1]])
def test_what_an_upstream_cannot_have_counted_is_not_told(tokens: Any) -> None:
    openai = {"usage": {"prompt_tokens": tokens, "completion_tokens": tokens}}
    anthropic = {"usage": {"input_tokens": tokens, "output_tokens": tokens}}
    for protocol, body in (("openai.chat", openai), ("anthropic.messages", anthropic)):
        for data, headers in ((body, JSON), (stream(json.dumps(body)), SSE)):
            usage = answer(data, protocol, headers).facts.usage
            assert (usage.input_tokens, usage.output_tokens) == (None, None)
