"""What was tried against streamed answers and passed once: each in its smallest form, however it is cut."""

from __future__ import annotations

import base64
import json
from array import array
from dataclasses import replace
from typing import Any

import pytest

from ext_proc.model import Tokens
from ext_proc.protocols.json_text import JsonError
from ext_proc.protocols.openai import is_structure
from ext_proc.protocols.sse import Event, write_events
from ext_proc.protocols.streaming.masking import StreamRefused
from ext_proc.protocols.streaming.wires import EventWire
from tests.unit.app.exchange.bodies import (
    CHAT,
    GATE,
    JSON,
    SSE,
    blocks,
    events_of,
    inspect,
    request,
    response,
    stream,
    wire,
)
from tests.unit.app.exchange.fields import rule
from tests.unit.app.exchange.fields import streamed as fielded

ROUTING = '{"routing_number": 021000021}'


def passed(body: bytes, protocol: str = "openai.chat", size: int = 1 << 20) -> tuple[bytes, Any]:
    """What passes of a stream that nothing refuses, and what is told of it."""
    answer = GATE.open_stream(inspect(CHAT, protocol), (), SSE, 8 << 20)
    out = b""
    for at in range(0, len(body), size):
        piece = answer.feed(body[at : at + size], is_last=at + size >= len(body))
        assert not piece.blocked
        assert piece.unreadable is None
        out += piece.body
    return out, answer.told()


def choice(**delta: Any) -> dict[str, Any]:
    return {"id": "c", "choices": [{"index": 0, "delta": delta}]}


def calling(*pieces: str) -> bytes:
    """Chat's tool call, its arguments in pieces."""
    calls = [choice(tool_calls=[{"index": 0, "function": {"arguments": piece}}]) for piece in pieces]
    return stream(*calls, "[DONE]")


def arguments(out: bytes) -> str:
    said = [event["choices"][0]["delta"] for event in events_of(out) if event != "[DONE]"]
    return "".join(call["function"]["arguments"] for delta in said for call in delta["tool_calls"])


def whole_arguments(text: str) -> str:
    call = {"id": "x", "function": {"name": "f", "arguments": text}}
    made = response({"choices": [{"index": 0, "message": {"tool_calls": [call]}}]})
    return str(json.loads(made.body)["choices"][0]["message"]["tool_calls"][0]["function"]["arguments"])


# Arguments that are nearly JSON --------------------------------------------------------------------------------------

NEARLY = [
    ROUTING,
    '{"password": hunter2Secret99}',
    "{\"password\": 'hunter2Secret99'}",
    '{"user":"x", "password": `hunter2Secret99`}',
    '{"ssn": /* it is */ "219099999"}',
    '{"passport": C01X00T47}',
    '{"date_of_birth": 1984-06-05, }',
    '{"a": "routing number", 021000021}',
]


@pytest.mark.parametrize("text", NEARLY)
def test_a_key_that_went_out_says_what_comes_after_it(text: str) -> None:
    masked = whole_arguments(text)
    assert "[" in masked
    for at in range(1, len(text)):
        out, told = passed(calling(text[:at], text[at:]))
        assert arguments(out) == masked
        assert len(told.removals) == 1
    out, told = passed(calling(*text))
    assert arguments(out) == masked
    assert len(told.removals) == 1


def test_nearly_json_within_json() -> None:
    out, _ = passed(calling(*json.dumps({"a": ROUTING})))
    assert json.loads(arguments(out)) == {"a": '{"routing_number": [BANK_ACCOUNT]}'}


def test_what_was_masked_before_it_was_no_json_is_not_said_twice() -> None:
    out, told = passed(calling(*'{"to": "bob.planted@example.org", "password": hunter2Secret99}'))
    assert arguments(out) == '{"to": "[EMAIL]", "password": [SECRET_PASSWORD]'
    assert [one.entity for one in told.removals] == ["EMAIL", "SECRET_PASSWORD"]


@pytest.mark.parametrize(
    ("protocol", "events"),
    [
        ("anthropic.messages", blocks(*ROUTING, kind="input_json")),
        (
            "openai.responses",
            [
                {"type": "response.function_call_arguments.delta", "output_index": 0, "item_id": "i", "delta": one}
                for one in ROUTING
            ],
        ),
    ],
)
def test_every_protocols_arguments(protocol: str, events: list[Any]) -> None:
    out, _ = passed(stream(*events), protocol)
    said = [event.get("delta", "") for event in events_of(out)]
    assert "".join(one if isinstance(one, str) else one["partial_json"] for one in said) == (
        '{"routing_number": [BANK_ACCOUNT]}'
    )


# Names and ids -------------------------------------------------------------------------------------------------------

KEY = "ghp_" + "hsreltpuscta" * 3


@pytest.mark.parametrize(
    "body",
    [
        stream({"id": KEY, "choices": []}, "[DONE]"),
        stream({"model": KEY, "choices": []}, "[DONE]"),
        stream(choice(role=KEY), "[DONE]"),
        stream(choice(tool_calls=[{"index": 0, "function": {"name": KEY}}]), "[DONE]"),
        f"event: {KEY}\ndata: {{}}\n\n".encode(),
        f"id: {KEY}\ndata: {{}}\n\n".encode(),
    ],
)
def test_a_secret_in_lower_case_is_no_word(body: bytes) -> None:
    assert KEY.encode() not in passed(body)[0]


def test_a_secret_over_two_names_of_which_the_second_looks_like_a_word() -> None:
    first, second = "ghp_a8Fj2kLmN0pQrStUvWx", "abcdefghijklmnopq"
    out, _ = passed(stream(*[choice(tool_calls=[{"index": 0, "function": {"name": one}}]) for one in (first, second)]))
    assert second.encode() not in out


def test_words_of_the_protocols_pass() -> None:
    events = [{"type": kind} for kind in ("response.output_text.delta", "response.audio_transcript.done") * 3]
    assert events_of(passed(stream(*events), "generic")[0]) == events


PACKED = "Zk3vQ9dTn1LpW8sYb2Hc-AKIAIOSFODNN7EXAMPLQ-Rm5uJf7GxVt0Ke4NoDa6Iz8PiCq"


@pytest.mark.parametrize("at", [37, 40])  # from 41 on the first piece is a secret by itself
@pytest.mark.parametrize(
    ("protocol", "make"),
    [
        ("anthropic.messages", lambda said: blocks(said, kind="signature")[0]),
        ("openai.chat", lambda said: choice(audio={"data": said})),
        ("openai.responses", lambda said: {"type": "response.audio.delta", "delta": said}),
    ],
)
@pytest.mark.parametrize("last", [20, 80])
def test_a_secret_over_two_packed_pieces(protocol: str, make: Any, at: int, last: int) -> None:
    first, second = PACKED[:at], PACKED[at:][:last]
    out, _ = passed(stream(make(first), make(second)), protocol)
    assert first.encode() in out
    assert second.encode() not in out


def test_a_text_that_is_said_whole_and_ends_the_one_before() -> None:
    said = [{"error": {"message": one}} for one in ("4111 1111 1111 1", "111")]
    out, _ = passed(stream(*said, "[DONE]"))
    assert events_of(out)[1] == {"error": {"message": "[WITHHELD]"}}


# Field rules ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("action", ["block", "mask", "drop"])
@pytest.mark.parametrize("before", ["\ufeff", "\u200b", " \u200b\ufeff "])
def test_field_rules_reach_json_behind_blanks_that_json_has_not(action: str, before: str) -> None:
    text = before + '{"account":12345}'
    for at in range(1, len(text)):
        out, piece, told = fielded(calling(text[:at], text[at:]), rule("$..function.arguments.account", action))
        assert b"12345" not in out
        assert piece.blocked or told.removals


def test_more_blanks_than_any_json_begins_with_end_the_stream() -> None:
    text = " " * 5000 + '{"account":12345}'
    for size in (500, len(text)):
        pieces = [text[at : at + size] for at in range(0, len(text), size)]
        out, piece, _ = fielded(calling(*pieces), rule("$..function.arguments.account"))
        assert b"12345" not in out
        assert piece.unreadable == "stream_json_too_large"


def test_what_one_place_excludes_is_none_of_anothers() -> None:
    mail = "bob.planted@example.org"
    said = {"type": "response.output_text.done", "content_index": 0, "text": mail}
    begun = {"type": "response.output_text.delta", "output_index": 0, "content_index": 0, "delta": mail}
    body = stream(begun, {**said, "output_index": 0}, {**said, "output_index": 1})
    out, _, _ = fielded(body, rule("$.output[0].content[0].text", "exclude"), protocol="openai.responses")
    assert [event.get("delta") or event["text"] for event in events_of(out)] == [mail, mail, "[EMAIL]"]


# The caller's own values ---------------------------------------------------------------------------------------------

TOKEN = "EMAIL_QWRTZB"
MAIL = "ada@example.net"


def with_token(body: bytes, headers: Any, value: str = MAIL) -> bytes:
    asked = replace(inspect(CHAT), tokens=Tokens({("EMAIL", value): TOKEN}, {TOKEN: value}))
    if headers is SSE:
        return GATE.open_stream(asked, (), SSE, 1 << 20).feed(body, is_last=True).body
    return GATE.redact_response(asked, (), 200, headers, body, 1 << 20).body


def test_the_callers_values_are_not_put_back_in_names_and_ids() -> None:
    said = f"<{TOKEN}>"
    call = {"index": 0, "id": said, "type": said, "function": {"name": said, "arguments": json.dumps({"name": said})}}
    message = {"role": said, "content": said, "tool_calls": [call]}
    for key, headers in (("message", JSON), ("delta", SSE)):
        body = {"id": said, "model": said, "choices": [{"index": 0, "finish_reason": said, key: message}]}
        out = with_token(stream(body) if headers is SSE else wire(body), headers)
        assert out.count(MAIL.encode()) == 2
        assert out.count(said.encode()) == 7
        assert rb'"{\"name\":' in out.replace(b": ", b":")


def test_a_value_with_a_line_end_begins_no_field() -> None:
    out = with_token(f"event: a <{TOKEN}>\ndata: {{}}\n\n".encode(), SSE, "+49 170\n1234567")
    assert out == f"event: a <{TOKEN}>\ndata: {{}}\n\n".encode()


def test_an_event_of_ours_has_one_line_for_its_name() -> None:
    for write in (EventWire(1 << 10).event, EventWire(1 << 10).text):
        with pytest.raises(StreamRefused):
            write("x", "a\nb")
    with pytest.raises(JsonError, match="line end"):
        write_events([Event("a\rb", [1])])


# Whole bodies --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("parts", [["{note} my card is 4111 1111", " 1111 1111 ok"], ["[1] 4111 1111", " 1111 1111"]])
def test_text_that_begins_with_a_bracket_is_read_with_the_next(parts: list[str]) -> None:
    content = [{"type": "text", "text": one} for one in parts]
    made = request({"model": "demo", "messages": [{"role": "user", "content": content}]})
    assert [one.entity for one in made.removals] == ["PAYMENT_CARD"]


def test_many_numbers_under_a_telling_key() -> None:
    numbers = [12345678 + at for at in range(17)]
    made = response({"account_number": numbers, "prices": numbers})
    assert json.loads(made.body) == {"account_number": ["[BANK_ACCOUNT]"] * 17, "prices": numbers}


def test_text_is_no_embedding() -> None:
    text = b"".join(b"abc"[at % 3 : at % 3 + 1] * 3 + b":" for at in range(80))
    assert not is_structure("/data/0/embedding", base64.b64encode(text).decode())
    components = array("f", [((at * 7919) % 1000 - 500) / 3000 for at in range(80)]).tobytes()
    assert is_structure("/data/0/embedding", base64.b64encode(components).decode())
    halves = array("f", [0.5, -0.25] * 40).tobytes()
    assert is_structure("/data/0/embedding", base64.b64encode(halves).decode())


def test_what_stands_in_an_embeddings_place_is_read_as_floats_hide_it() -> None:
    said = "so bob@example.org has SSN 219-09-9999 " * 8
    hidden = "".join(said[at : at + 3].ljust(3) + ":" for at in range(0, len(said), 3))
    made = response({"data": [{"embedding": pack(hidden), "index": 0}]}, "openai.embeddings")
    assert json.loads(made.body)["data"][0]["embedding"] == "[WITHHELD]"
    assert {one.entity for one in made.removals} == {"EMAIL", "US_SSN"}
    words = "nothing that is anybody's, only words and words " * 8
    plain = pack("".join(words[at : at + 3].ljust(3) + ":" for at in range(0, len(words), 3)))
    made = response({"data": [{"embedding": plain, "index": 0}]}, "openai.embeddings")
    assert json.loads(made.body)["data"][0]["embedding"] == plain


HIDING = {
    "strictly": lambda v: v,
    "a line's end": lambda v: v + "\n",
    "a colon first": lambda v: ":" + v,
    "a blank first": lambda v: " " + v,
    "colons": lambda v: ":".join(v[at : at + 12] for at in range(0, len(v), 12)),
    "the other alphabet": lambda v: v.replace("+", "-").replace("/", "_"),
    "no padding": lambda v: v.rstrip("="),
    "more padding": lambda v: v.rstrip("=") + "====",
    "a byte more": lambda v: base64.b64encode(base64.b64decode(v) + b"\0").decode(),
    "few components": lambda v: base64.b64encode(base64.b64decode(v)[:252]).decode(),
}


@pytest.mark.parametrize("said", ["bob@example.org ssn 219-09-9999 " * 24, "bob@example.org ss"], ids=["all", "a few"])
@pytest.mark.parametrize("how", HIDING)
def test_text_in_floats_is_found_however_a_lenient_client_reads_them(how: str, said: str) -> None:
    raw = bytearray(array("f", [((at * 7919) % 1000 - 500) / 3000 for at in range(256)]).tobytes())
    for at, byte in enumerate(said.encode()):
        raw[at // 3 * 4 + at % 3] = byte
    hidden = HIDING[how](base64.b64encode(raw).decode())
    made = response({"object": "list", "data": [{"embedding": hidden, "index": 0}]}, "openai.embeddings")
    assert json.loads(made.body)["data"][0]["embedding"] == "[WITHHELD]"


def pack(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def test_a_cards_code_is_looked_at_as_a_number_too() -> None:
    """Other numbers of three digits are nobody's."""
    made = response({"cvv": 123, "card": {"card_security_code": 1234, "cvc": [907]}, "pages": 123, "top_k": 40})
    assert json.loads(made.body) == {
        "cvv": "[PAYMENT_CARD]",
        "card": {"card_security_code": "[SECRET_PASSWORD]", "cvc": ["[PAYMENT_CARD]"]},
        "pages": 123,
        "top_k": 40,
    }
    out, _ = passed(calling('{"cvv": 12', '3, "pages": 123}'), size=7)
    assert json.loads(arguments(out)) == {"cvv": "[PAYMENT_CARD]", "pages": 123}
    out, _ = passed(stream({"id": "c", "choices": [], "cvv": 123, "pages": 123}))
    assert b"[PAYMENT_CARD]" in out and b'"pages":123' in out.replace(b" ", b"")
