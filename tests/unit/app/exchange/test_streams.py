"""Streamed answers as the driver sees them: each way in which a value was tried to be carried through, however it is cut."""

from __future__ import annotations

import json
from typing import Any

import pytest

from ext_proc.errors import UpstreamError
from ext_proc.model import Action, RedactionRule
from tests.unit.app.exchange.bodies import CHAT, GATE, NDJSON, SSE, blocks, deltas, events_of, inspect, stream
from tests.unit.app.exchange.test_content import ANSWERS, PLANTED, holds, joined

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
    answer = GATE.open_stream(inspect(CHAT, protocol), rules, headers, 8 << 20)
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
    answer = GATE.open_stream(inspect(CHAT), (), (*SSE, ("x-note", MAIL.encode())), 8 << 20)
    assert answer.told().tainted_headers == ("x-note",)


@pytest.mark.parametrize("charset", ["utf-7", "utf-16", "latin-1"])
def test_another_charset_is_not_opened(charset: str) -> None:
    """Nobody knows what the bytes say to whoever believes it."""
    with pytest.raises(UpstreamError):
        GATE.open_stream(
            inspect(CHAT), (), (("content-type", f"text/event-stream; charset={charset}".encode()),), 1 << 20
        )


def test_what_is_no_stream_is_not_opened() -> None:
    with pytest.raises(UpstreamError):
        GATE.open_stream(inspect(CHAT), (), (("content-type", b"application/json"),), 8 << 20)


def one_text(*events: Any, protocol: str) -> tuple[bytes, Any]:
    out, piece, _ = streamed(stream(*events, names=protocol.startswith("anthropic")), protocol, size=1 << 20)
    return out, piece


HALF, REST = "my card 4111 1111 ", "1111 1111"
ADDED = {"type": "response.content_part.added", "output_index": 0, "content_index": 0}
RESPONSE_DELTA = {"type": "response.output_text.delta", "output_index": 0, "content_index": 0, "delta": REST}
FUNCTION = {
    "type": "response.output_item.added",
    "output_index": 0,
    "item": {"type": "function_call", "arguments": HALF},
}
BEGUN = {"type": "message_start", "message": {"id": "m", "content": [{"type": "text", "text": HALF}]}}


@pytest.mark.parametrize(
    ("events", "protocol"),
    [
        ([{**ADDED, "part": {"type": "output_text", "text": HALF}}, RESPONSE_DELTA], "openai.responses"),
        ([FUNCTION, {**RESPONSE_DELTA, "type": "response.function_call_arguments.delta"}], "openai.responses"),
        ([BEGUN, *blocks(REST)], "anthropic.messages"),
    ],
    ids=["content part", "function call", "message"],
)
def test_a_text_begins_empty(events: list[Any], protocol: str) -> None:
    """Clients put what an opening event says before the deltas; no provider says anything there."""
    out, piece = one_text(*events, protocol=protocol)
    assert piece.unreadable == "stream_text_out_of_place"
    assert b"1111" not in out


@pytest.mark.parametrize("index", [1.0, "1", True, -1, [1]])
def test_an_index_is_a_whole_number(index: Any) -> None:
    """Written otherwise it would be another text to us, and the same to whoever reads the events."""
    event = {"id": "c", "choices": [{"index": index, "delta": {"content": REST}}]}
    out, piece = one_text(*deltas(HALF, index=1), event, protocol="openai.chat")
    assert piece.unreadable == "stream_not_json"
    assert REST.encode() not in out


def test_raw_tokens_that_are_numbers_are_text_like_the_others() -> None:
    tokens = ("card ", "4111", "1111", "1111", "1111", "ok")
    out, _, _ = streamed("".join(f"data: {token}\n\n" for token in tokens).encode(), "generic", size=9)
    assert out.replace(b"data: ", b"").replace(b"\n\n", b"") == b"card [PAYMENT_CARD]ok"


def test_packed_fields_are_looked_at_too() -> None:
    token = "ghp_aB3dE5fG7hJ9kL1mN2pQ4rS6tU8vW0xYzAbC"
    out, _ = one_text(*blocks(token, kind="signature"), protocol="anthropic.messages")
    assert token.encode() not in out


def test_what_is_said_again_under_a_telling_key_is_looked_at_again() -> None:
    said = [
        {**RESPONSE_DELTA, "delta": "219099999"},
        {"type": "response.output_text.done", "output_index": 0, "content_index": 0, "text": "219099999"},
        {"type": "response.output_item.done", "output_index": 0, "item": {"ssn": "219099999"}},
    ]
    out, _ = one_text(*said, protocol="openai.responses")
    assert b'"ssn":"219099999"' not in out


def test_the_connections_limit_bounds_a_stream() -> None:
    answer = GATE.open_stream(inspect(CHAT), (), SSE, 1000)
    assert answer.feed(stream(*deltas(*["word "] * 50)), is_last=False).unreadable == "stream_too_large"


def test_who_leaves_while_a_large_piece_is_read_is_told_what_was_known() -> None:
    answer: Any = GATE.open_stream(inspect(CHAT), (), SSE, 1 << 20)
    answer.feed(stream(*deltas("hello ")), is_last=False)
    before = answer.told()
    seen: list[Any] = []
    fed = answer._fed
    answer._fed = lambda data, *, is_last: (seen.append(answer.told()), fed(data, is_last=is_last))[1]
    answer.feed(stream(*deltas(*["word "] * 100)), is_last=False)
    assert seen == [before]
    assert answer.told().coverage.scanned_bytes > before.coverage.scanned_bytes


def test_what_is_told_is_kept_while_a_thread_reads_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """The driver asks before it hands over a large piece: from then on nobody looks into what a thread changes."""
    answer: Any = GATE.open_stream(inspect(CHAT), (), SSE, 1 << 20)
    answer.feed(stream(*deltas("hello ")), is_last=False)
    before = answer.told()
    with monkeypatch.context() as changed:
        changed.setattr(answer, "_told", None)  # whoever looks anew fails
        assert answer.told() is before
    answer.farewell("content_blocked", "")
    assert answer.told().coverage.forwarded_bytes > before.coverage.forwarded_bytes
