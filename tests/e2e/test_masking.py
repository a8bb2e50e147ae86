"""Must show 3: whatever shape the upstream's answer has, the address never reaches the caller and is on record."""

from __future__ import annotations

import json
import secrets
from typing import TYPE_CHECKING

import pytest

from tests.e2e.conftest import CHAT, PLANTED
from tests.e2e.harness import call_http2
from tests.e2e.upstream import plain, shapes

if TYPE_CHECKING:
    from tests.e2e.conftest import Gateway

# Answers whose planted text stands in a body that a caller may get.
MASKED = ("/plain", "/apart", "/pieces", "/chunked", "/sse", "/sse-split", "/gzip", "/100k", "/1m", "/status", "/error")


@pytest.mark.parametrize("shape", MASKED)
def test_address_is_masked_and_on_record(gateway: Gateway, shape: str) -> None:
    reply = gateway.chat(path=f"/v1/shape{shape}")
    exchange_id = reply.header("x-affidavit-exchange")
    assert exchange_id, reply
    assert PLANTED.encode() not in reply.raw
    assert b"[EMAIL]" in reply.body
    [record] = gateway.records(exchange_id, "inference.outcome")
    removed = {one["entity"]: one["count"] for one in record[1]["response_redaction"]["removed"]}
    assert removed["EMAIL"] >= 1
    coverage = record[1]["response_redaction"]["coverage"]
    assert coverage["scanned_bytes"] >= len(PLANTED)
    assert coverage["forwarded_bytes"] == len(reply.body) == record[1]["outcome"]["released_bytes"]
    bodies = gateway.payloads(record)
    assert bodies["response.released"] == reply.body
    text = bodies["response.upstream"].decode()
    assert PLANTED in text or shape == "/sse-split"


@pytest.mark.parametrize("shape", sorted(shapes("x")))
def test_no_shape_lets_it_through(gateway: Gateway, shape: str) -> None:
    reply = gateway.chat(path=f"/v1/shape{shape}")
    assert PLANTED.encode() not in reply.raw


def test_masked_stream_stays_a_stream(gateway: Gateway) -> None:
    reply = gateway.chat(path="/v1/shape/sse-split", stream=True)
    events = [line.removeprefix(b"data: ") for line in reply.body.split(b"\n\n") if line]
    said = "".join(json.loads(one)["choices"][0]["delta"]["content"] for one in events[:-1])
    assert (said, events[-1]) == ("write to [EMAIL] now", b"[DONE]")
    assert reply.header("content-type") == "text/event-stream"


def test_request_is_masked_before_the_model_sees_it(gateway: Gateway) -> None:
    reply = gateway.chat("I am bob@example.org, card 4111 1111 1111 1111, ssn 078-05-1120", metadata={"a@b.example": 1})
    [seen] = [one for one in gateway.upstream.received if b"ssn [US_SSN]" in one.body]  # type: ignore[union-attr]
    assert reply.status == 200
    assert b"bob@" not in seen.body and b"4111" not in seen.body and b"a@b.example" not in seen.body
    assert int(seen.header("content-length") or 0) == len(seen.body)
    [intent] = gateway.records(reply.header("x-affidavit-exchange") or "", "inference.intent")
    assert gateway.payloads(intent)["request.forwarded"] == seen.body
    assert b"bob@example.org" in gateway.payloads(intent)["request.raw"]
    counted = {one["entity"] for one in intent[1]["request_redaction"]["removed"]}
    assert counted == {"EMAIL", "PAYMENT_CARD", "US_SSN"}


def test_upstream_gets_our_credential_and_nothing_of_the_callers(gateway: Gateway) -> None:
    body = b'{"model":"demo","messages":[{"role":"user","content":"credential check"}]}'
    headers = {"x_note": "mine", "cookie": "a=b", "x_forwarded_for": "10.9.9.9", "accept_encoding": "gzip"}
    reply = gateway.send("POST", "/v1/chat/completions", body, gateway.analyst, **headers)
    [seen] = [one for one in gateway.upstream.received if b"credential check" in one.body]  # type: ignore[union-attr]
    assert reply.status == 200
    assert seen.header("authorization") == f"Bearer {gateway.stack.credential}"
    assert seen.header("accept-encoding") == "identity"
    assert seen.header("x-note") is None
    assert seen.header("cookie") is None
    assert gateway.analyst.encode() not in b"".join(str(seen).encode() for _ in (0,))


def test_upstream_headers_with_text_are_taken_off(gateway: Gateway) -> None:
    reply = gateway.chat(path="/v1/shape/header")
    assert reply.status == 200
    assert reply.header("x-note") is None
    assert reply.header("set-cookie") is None


def _random_names() -> list[str]:
    """Of the families that Envoy lets nobody take off, and of none."""
    families = ("x-envoy-", "x-forwarded-", "x-", "x-ratelimit-", "anthropic-ratelimit-", "openai-", "x-affidavit-")
    return [f"{family}{secrets.token_hex(4)}" for family in families]


FREE_TEXT = "Patient John Smith"
FIELDS = (
    "cache-control",
    "date",
    "openai-version",
    "request-id",
    "retry-after",
    "server",
    "x-ratelimit-limit-requests",
)


def test_no_header_of_a_caller_is_a_way_round(gateway: Gateway) -> None:
    """Whatever its name: it does not reach the model. What is known passes in its form only."""
    body = b'{"model":"demo","messages":[{"role":"user","content":"way round there"}]}'
    fields = {name.replace("-", "_"): FREE_TEXT for name in (*_random_names(), "accept", "traceparent", "user-agent")}
    kind = "application/json; note=John-Smith"
    reply = gateway.send("POST", CHAT, body, gateway.analyst, **fields, content_type=kind)

    [seen] = [one for one in gateway.upstream.received if b"way round there" in one.body]  # type: ignore[union-attr]
    assert reply.status == 200
    assert "Smith" not in repr(seen)
    assert sorted(name for name, _ in seen.headers) == [
        "accept-encoding", "authorization", "content-length", "content-type", "host", "x-request-id"
    ]  # fmt: skip
    assert seen.header("content-type") == "application/json"


@pytest.mark.parametrize("version", ["1.1", "2"])
def test_no_header_of_an_upstream_is_a_way_round(gateway: Gateway, version: str) -> None:
    """The record says what the caller got: to have Envoy take off what it forbids made a 503 of a recorded 200."""
    forged = ("x-request-id", "host", "x-envoy-note", "x-affidavit-exchange", "x-affidavit-receipt")
    extra = "".join(f"{name}: {FREE_TEXT}\r\n" for name in (*_random_names(), *FIELDS, *forged))
    body = b'{"choices":[]}'
    answer = plain(body, "application/json; note=John-Smith", extra=extra)
    gateway.upstream.answers[CHAT] = (answer,)  # type: ignore[index,union-attr]
    asked = b'{"model":"demo","messages":[]}'
    try:
        if version == "1.1":
            reply = gateway.send("POST", CHAT, asked, gateway.analyst)
        else:
            fields = {"authorization": f"Bearer {gateway.analyst}", "content-type": "application/json"}
            reply = call_http2(gateway.stack.ports["http"], "POST", CHAT, fields, asked)
    finally:
        del gateway.upstream.answers[CHAT]  # type: ignore[attr-defined,union-attr]

    assert (reply.status, reply.body) == (200, body)
    assert b"Smith" not in reply.raw
    assert {name for name, _ in reply.headers} == {
        *(() if version == "1.1" else (":status",)), *(("connection",) if version == "1.1" else ()), "content-length",
        "content-type", "date", "server", "x-affidavit-exchange", "x-affidavit-receipt", "x-request-id",
    }  # fmt: skip
    assert reply.header("x-request-id") == reply.header("x-affidavit-exchange")
    outcome = gateway.outcome(reply)["outcome"]
    assert (outcome["status"], outcome["http_status"], outcome["released_bytes"]) == ("completed", 200, len(body))


def test_query_and_betas_are_on_record(gateway: Gateway) -> None:
    body = b'{"model":"demo","messages":[{"role":"user","content":"beta record"}]}'
    fields = {
        "anthropic_beta": "prompt-caching-2024-07-31",
        "openai_beta": "assistants=v2",
        "accept": "application/json",
    }
    reply = gateway.send("POST", f"{CHAT}?beta=true", body, gateway.analyst, **fields)

    [seen] = [one for one in gateway.upstream.received if b"beta record" in one.body]  # type: ignore[union-attr]
    [(_, intent)] = gateway.records(reply.header("x-affidavit-exchange") or "", "inference.intent")
    assert (seen.path, seen.header("accept")) == (f"{CHAT}?beta=true", "application/json")
    assert (seen.header("anthropic-beta"), seen.header("openai-beta")) == tuple(fields.values())[:2]
    assert intent["request"]["query"] == {"beta": "true"}
    assert intent["request"]["betas"] == ["prompt-caching-2024-07-31", "assistants=v2"]
