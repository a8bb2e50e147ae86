"""What was tried against streamed answers and passed once: each in its smallest form, however it is cut."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.unit.app.bodies import CHAT, GATE, SSE, blocks, events_of, inspect, response, stream

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
