"""Streamed answers as the driver sees them: each way in which a value was tried to be carried through, however it is cut."""

from __future__ import annotations

import json
from typing import Any

import pytest

from ext_proc.errors import UpstreamError
from ext_proc.model import Action, RedactionRule
from tests.unit.app.bodies import CHAT, GATE, NDJSON, SSE, blocks, deltas, events_of, inspect, stream
from tests.unit.app.test_content import ANSWERS, PLANTED, holds, joined

STREAMED = {name: answer for name, answer in ANSWERS.items() if answer("x" * 8)[1] in (SSE, NDJSON)}
MAIL = "bob.planted@example.org"


def streamed(
    body: bytes,
    protocol: str = "openai.chat",
    headers: Any = SSE,
    *,
    size: int = 1,
    rules: tuple[RedactionRule, ...] = (),
) -> tuple[bytes, Any, Any]:
    """What passes of an answer that comes ``size`` bytes at a time, how it ended, and what is told of it."""
    answer = GATE.open_stream(inspect(CHAT, protocol), rules, headers)
    out = b""
    piece = None
    for at in range(0, len(body), size):
        piece = answer.feed(body[at : at + size], is_last=at + size >= len(body))
        out += piece.body
        if piece.blocked or piece.unreadable:
            break
    return out, piece, answer


@PLANTED
@pytest.mark.parametrize("name", STREAMED)
@pytest.mark.parametrize("protocol", ["openai.chat", "anthropic.messages", "generic"])
@pytest.mark.parametrize("size", [7, 1 << 20], ids=["in pieces", "at once"])
def test_answer_attempt(name: str, value: str, protocol: str, size: int) -> None:
    body, headers = STREAMED[name](value)
    out, piece, _ = streamed(body, protocol, headers, size=size)
    if not out or (piece is not None and piece.unreadable):
        assert value.encode() not in out
        return
    assert not holds(out, value)
    assert value not in joined(out, ndjson=headers == NDJSON)


@pytest.mark.parametrize("size", [1, 2, 3, 50, 10_000])
def test_however_it_is_cut_the_same_comes_out(size: int) -> None:
    body = stream(*deltas(*f"Write to {MAIL}, or to 4111 1111 1111 1111."), "[DONE]")
    out, _, answer = streamed(body, size=size)
    said = "".join(one["choices"][0]["delta"]["content"] for one in events_of(out)[:-1])
    assert said == "Write to [EMAIL], or to [PAYMENT_CARD]."
    told = answer.told()
    assert sorted(one.entity for one in told.removals) == ["EMAIL", "PAYMENT_CARD"]
    assert told.coverage.scanned_bytes >= len(MAIL)
    assert told.coverage.forwarded_bytes == len(out)


def test_what_is_told_of_the_model_is_told_as_of_a_whole_answer() -> None:
    first = {"id": "c1", "model": "demo-2024", "system_fingerprint": "my name is Bob", "choices": []}
    last = {
        "id": "c1",
        "choices": [{"index": 0, "delta": {}, "finish_reason": "because"}],
        "usage": {"prompt_tokens": 7},
    }
    call = {
        "choices": [
            {"index": 0, "delta": {"tool_calls": [{"index": 0, "function": {"name": "unasked", "arguments": "{}"}}]}}
        ]
    }
    _, _, answer = streamed(stream(first, *deltas("hello "), call, last, "[DONE]"))
    told = answer.told()
    assert (told.model_served, told.model_fingerprint) == ("demo-2024", "unlisted")
    assert told.finish_reasons == ("unlisted",)
    assert told.usage.input_tokens == 7
    assert [one.name for one in told.tool_calls] == ["unlisted"]


def test_a_block_is_told_and_nothing_after_it_passes() -> None:
    rules = (RedactionRule("EMAIL", Action.BLOCK),)
    out, piece, answer = streamed(stream(*deltas("first ", MAIL, " last"), "[DONE]"), size=9, rules=rules)
    assert piece.blocked == ("EMAIL",)
    assert b"planted" not in out
    assert b"last" not in out
    assert b"content_blocked" in answer.farewell("content_blocked", "No.")


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (b"data: {\n\n", "stream_not_json"),
        (b"data: \xff\xfe\n\n", "stream_not_utf8"),
        (b"data: " + b"[" * 300 + b"]" * 300 + b"\n\n", "stream_too_deep"),
        (b"data: " + b"x" * 3_000_000, "stream_line_too_long"),
    ],
)
def test_what_cannot_be_read_ends_with_its_code(body: bytes, why: str) -> None:
    _, piece, _ = streamed(body, size=1 << 16)
    assert piece.unreadable == why


def test_anthropic_in_its_own_words() -> None:
    _, _, answer = streamed(stream(*blocks("hello "), names=True), "anthropic.messages")
    said = answer.farewell("content_blocked", "No.")
    assert said.startswith(b"event: error\n")
    assert json.loads(said.split(b"data: ")[1])["type"] == "error"


def test_fields_of_the_head_are_looked_at() -> None:
    answer = GATE.open_stream(inspect(CHAT), (), (*SSE, ("x-note", MAIL.encode())))
    assert answer.told().tainted_headers == ("x-note",)


def test_what_is_no_stream_is_not_opened() -> None:
    with pytest.raises(UpstreamError):
        GATE.open_stream(inspect(CHAT), (), (("content-type", b"application/json"),))
