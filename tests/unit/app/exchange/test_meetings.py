"""Where field rules, names and tokens meet in one body: none of them switches another one's look off."""

from __future__ import annotations

import json
from typing import Any

import pytest

from ext_proc.model import Direction
from tests.unit.app.exchange.bodies import CHAT, SSE, deltas, stream
from tests.unit.app.exchange.fields import LIMIT, answered, lines, rule, streamed
from tests.unit.app.exchange.test_names import Gate

CARD = "4111111111111111"
SSN_RULE = rule("$..ssn")


def test_a_rule_that_may_lead_there_does_not_keep_parts_from_being_read_in_a_row():
    out, _, _ = streamed(
        stream({"content": [{"text": "my card 4111 1111 "}, {"text": "1111 1111 ok"}]}), SSN_RULE, protocol="generic"
    )
    assert b"PAYMENT_CARD" in out


def test_nor_a_piece_from_being_looked_at_by_itself():
    out, _, _ = streamed(stream({"out": "It is 4"}, {"out": f"{CARD} ok"}), SSN_RULE, protocol="generic")
    assert CARD.encode() not in out


def test_an_index_is_not_a_position_for_what_lets_through():
    events = stream(
        {"choices": [{"index": 0, "text": "a "}]}, {"choices": [{"index": 1, "text": f"{CARD} ok"}]}, "[DONE]"
    )
    for action in ("exclude", "include"):
        out, _, _ = streamed(events, rule("$.choices[0].text", action), protocol="openai.completions")
        assert CARD.encode() not in out and (action == "exclude" or b"PAYMENT" not in out), action


def test_nor_of_tool_calls():
    def call(at: int, said: str) -> Any:
        return {
            "choices": [
                {"index": 0, "delta": {"tool_calls": [{"index": at, "function": {"name": "f", "arguments": said}}]}}
            ]
        }

    out, _, _ = streamed(
        stream(call(0, "{}"), call(1, json.dumps({"a": CARD})), "[DONE]"),
        rule("$.choices[*].message.tool_calls[0].function.arguments", "exclude"),
    )
    assert CARD.encode() not in out


def test_a_stream_that_came_whole_is_looked_at_for_names_as_ever():
    gate = Gate(streams="off")
    body = stream(*deltas("I met Ada Lovelace. "), "[DONE]")
    for rules in ((), lines(Direction.RESPONSE, SSN_RULE)):
        made = gate.content.redact_response(gate.asked(CHAT), rules, 200, SSE, body, LIMIT)
        assert b"Lovelace" not in made.body, rules


def test_one_word_that_a_stream_says_whole_may_be_a_name():
    cited = {
        "type": "content_block_delta",
        "index": 0,
        "delta": {"type": "citations_delta", "citation": {"cited_text": "London"}},
    }
    assert b"London" not in Gate().streamed(stream(cited, names=True), protocol="anthropic.messages")[0]


def test_names_in_parts_of_a_request():
    told = [{"type": "text", "text": text} for text in ("I met Ada Lovelace", "She lives here")]
    made = Gate().request({"model": "demo", "messages": [{"role": "user", "content": told}]})
    assert b"Lovelace" not in made.body


def test_the_model_stays_where_fields_go():
    gate = Gate()
    asked = gate.asked({"model": "London", "messages": [{"role": "user", "content": "hi", "ssn": "1"}]})
    made = gate.content.redact_request(asked, lines(Direction.REQUEST, SSN_RULE))
    assert json.loads(made.body)["model"] == "London"


@pytest.mark.parametrize("lead", ["\ufeff", "\u00a0", "\u2028"])
def test_blanks_that_a_reader_trims_do_not_undo_a_field_rule(lead):
    said = {"choices": [{"message": {"content": lead + json.dumps({"ssn": "5551212"})}}]}
    assert b"5551212" not in answered(said, SSN_RULE).body
