"""A refusal in each client's own error shape."""

from __future__ import annotations

import json

import anthropic
import httpx2
import openai
import pytest

from ext_proc.model import Refusal
from ext_proc.protocols import refusal_body
from tests.fakes.exchange import HELD

STATUSES = (400, 401, 403, 404, 413, 415, 429, 500, 502, 503)


def said(protocol: str, status: int, reasons: tuple[str, ...] = ()) -> dict[str, object]:
    kind, body = refusal_body(protocol, Refusal(status, "some_code", "Some text.", reasons))
    assert kind == "application/json"
    return json.loads(body)  # type: ignore[no-any-return]


@pytest.mark.parametrize("status", STATUSES)
@pytest.mark.parametrize("protocol", ["openai.chat", "openai.completions", "openai.embeddings", "openai.models"])
def test_openai(protocol: str, status: int) -> None:
    error = said(protocol, status)["error"]
    kinds = {401: "authentication_error", 403: "permission_error", 404: "not_found_error", 429: "rate_limit_error"}
    kind = kinds.get(status, "server_error" if status >= 500 else "invalid_request_error")
    assert error == {"message": "Some text.", "type": kind, "param": None, "code": "some_code"}


@pytest.mark.parametrize("status", STATUSES)
@pytest.mark.parametrize("protocol", ["anthropic.messages", "anthropic.count_tokens"])
def test_anthropic(protocol: str, status: int) -> None:
    body = said(protocol, status)
    kinds = {
        401: "authentication_error", 403: "permission_error", 404: "not_found_error", 413: "request_too_large", 429: "rate_limit_error",
        500: "api_error", 502: "api_error", 503: "overloaded_error",
    }  # fmt: skip
    assert body["type"] == "error"
    assert body["error"] == {
        "type": kinds.get(status, "invalid_request_error"),
        "message": "Some text.",
        "code": "some_code",
    }


@pytest.mark.parametrize("protocol", ["generic", "opaque", "", "something"])
def test_anyone_else_finds_both(protocol: str) -> None:
    body = said(protocol, 403)
    assert body["type"] == "error"
    assert body["error"] == {"message": "Some text.", "type": "permission_error", "param": None, "code": "some_code"}


@pytest.mark.parametrize("protocol", ["openai.chat", "anthropic.messages", "generic"])
def test_reasons(protocol: str) -> None:
    assert said(protocol, 403, ("model_not_allowed",))["error"]["reasons"] == ["model_not_allowed"]  # type: ignore[index]
    assert "reasons" not in said(protocol, 403)["error"]  # type: ignore[operator]


@pytest.mark.parametrize("protocol", ["openai.chat", "anthropic.messages", "generic"])
@pytest.mark.parametrize(
    ("reasons", "message"),
    [
        ((), "Some text."),
        (("not_permitted",), "Some text: not_permitted."),
        (("a", "b"), "Some text: a, b."),
    ],
)
def test_reasons_are_in_the_message_too(protocol: str, reasons: tuple[str, ...], message: str) -> None:
    """OpenAI's client shows people nothing else."""
    assert said(protocol, 403, reasons)["error"]["message"] == message  # type: ignore[index]


def pending(*, is_event: bool) -> Refusal:
    return Refusal(202, "approval_pending", "It waits.", (), 5, held=HELD, is_event=is_event)


def answered(protocol: str) -> httpx2.Client:
    """An HTTP client that is answered what a client of a stream is told while its call waits."""
    kind, body = refusal_body(protocol, pending(is_event=True))
    reply = httpx2.Response(202, headers={"content-type": kind}, content=body)
    return httpx2.Client(transport=httpx2.MockTransport(lambda _: reply))


def test_openais_client_raises_where_its_stream_is_held() -> None:
    with answered("openai.chat") as http:
        client = openai.OpenAI(api_key="k", base_url="http://gateway.test/v1", http_client=http)
        with pytest.raises(openai.APIError, match="It waits") as raised:
            list(client.chat.completions.create(model="m", messages=[], stream=True))
        assert raised.value.code == "approval_pending"
        with pytest.raises(openai.APIError, match="It waits"):
            list(client.responses.create(model="m", input="x", stream=True))


def test_anthropics_client_raises_where_its_stream_is_held() -> None:
    with answered("anthropic.messages") as http:
        client = anthropic.Anthropic(api_key="k", base_url="http://gateway.test", http_client=http)
        with pytest.raises(anthropic.APIStatusError, match="approval_pending"):
            list(client.messages.create(model="m", max_tokens=1, messages=[], stream=True))


@pytest.mark.parametrize("protocol", ["openai.chat", "openai.responses", "anthropic.messages"])
def test_an_event_of_a_hold_says_all_that_the_object_says(protocol: str) -> None:
    kind, event = refusal_body(protocol, pending(is_event=True))
    _, plain = refusal_body(protocol, pending(is_event=False))
    assert kind == "text/event-stream"
    data = json.loads(event.rpartition(b"data: ")[2])
    assert data.items() >= json.loads(plain).items()


@pytest.mark.parametrize(
    ("protocol", "is_event"), [("openai.chat", False), ("anthropic.messages", False), ("generic", True)]
)
def test_whoever_reads_no_stream_gets_the_object(protocol: str, is_event: bool) -> None:
    kind, body = refusal_body(protocol, pending(is_event=is_event))
    assert (kind, json.loads(body)["object"]) == ("application/json", "affidavit.hold")
