"""`ext_proc.app.exchange.names`: a recogniser's finds beside the rules', through the whole of `ports.Content`."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from jsonschema import Draft202012Validator

from ext_proc.app.exchange.content import ContentGate
from ext_proc.audit import kinds
from ext_proc.errors import RECOGNISER_FAILURES, RecogniserUnavailable
from ext_proc.model import Action, Direction, Recognised, Recognition, RedactionRule
from ext_proc.phases.facts import redaction_facts
from ext_proc.policy.field_rules import read_rule
from tests.fakes.recogniser import FakeRecogniser
from tests.unit.app.exchange.bodies import CHAT, CONNECTION, JSON, PATHS, SSE, blocks, deltas, events_of, stream, wire

if TYPE_CHECKING:
    from ext_proc.model import Inspection, Redaction

TEXT = "Ada Lovelace (ada@example.org) flew to London."
MASKED = "[PERSON] ([EMAIL]) flew to [LOCATION]."
LIMIT = 1 << 20
LISTED: Any = {"type": "object", "properties": {}}


class Gate:
    """A gate with one connection that looks for names."""

    def __init__(self, failure: str | None = None, *, has_recogniser: bool = True, **use: Any) -> None:
        self.recogniser = FakeRecogniser(failure)
        self.content = ContentGate(b"k" * 32, recogniser=self.recogniser if has_recogniser else None)
        self.connection = replace(CONNECTION, recognition=Recognition(**use))

    def asked(self, body: Any, protocol: str = "openai.chat") -> Inspection:
        return self.content.inspect(self.connection, "POST", PATHS[protocol], JSON, wire(body))

    def request(self, body: Any, *rules: RedactionRule) -> Redaction:
        return self.content.redact_request(self.asked(body), rules)

    def answer(self, body: Any, *rules: RedactionRule, asked: Any = CHAT) -> Redaction:
        return self.content.redact_response(self.asked(asked), rules, 200, JSON, wire(body), LIMIT)

    def streamed(
        self, body: bytes, *rules: RedactionRule, size: int = 1 << 20, protocol: str = "openai.chat"
    ) -> tuple[bytes, Any, Redaction]:
        answer = self.content.open_stream(self.asked({**CHAT, "max_tokens": 9}, protocol), rules, SSE, LIMIT)
        out, piece = b"", None
        for at in range(0, len(body), size):
            piece = answer.feed(body[at : at + size], is_last=at + size >= len(body))
            out += piece.body
            if piece.blocked or piece.unreadable:
                break
        return out, piece, answer.told()


def chat(text: str) -> dict[str, Any]:
    return {"model": "demo", "messages": [{"role": "user", "content": text}]}


def said(out: bytes) -> str:
    """The text of OpenAI's chunks."""
    chunks = [one for one in events_of(out) if one != "[DONE]"]
    return "".join(one["choices"][0]["delta"].get("content", "") for one in chunks)


# Whole -----------------------------------------------------------------------------------------------------------


def test_the_policy_is_told_of_names_and_they_are_masked() -> None:
    gate = Gate()
    asked = gate.asked(chat(TEXT))
    assert asked.findings == {"EMAIL": 1, "LOCATION": 1, "PERSON": 1}
    assert asked.waits
    made = gate.content.redact_request(asked, ())
    assert json.loads(made.body)["messages"][0]["content"] == MASKED
    told = {(one.entity, one.rule, one.version) for one in made.removals}
    assert {("PERSON", "ner:custom", "fake@1"), ("LOCATION", "ner:custom", "fake@1")} <= told
    assert all(version != "fake@1" for entity, _, version in told if entity == "EMAIL")
    size = len(TEXT.encode())
    assert made.recognised == Recognised("fake@1", "whole", size, 0, None)


def test_a_whole_answer_too() -> None:
    made = Gate().answer({"choices": [{"message": {"role": "assistant", "content": TEXT}}]})
    assert json.loads(made.body)["choices"][0]["message"]["content"] == MASKED
    assert made.recognised is not None
    assert made.recognised.mode == "whole"


@pytest.mark.parametrize(
    ("rules", "wanted"),
    [
        ((RedactionRule("PERSON", Action.ALLOW),), "Ada Lovelace ([EMAIL]) flew to [LOCATION]."),
        ((RedactionRule("PERSON", Action.DROP),), " ([EMAIL]) flew to [LOCATION]."),
        ((RedactionRule("PERSON", Action.PARTIAL),), "****lace ([EMAIL]) flew to [LOCATION]."),
        ((RedactionRule("*", Action.ALLOW),), TEXT),
    ],
)
def test_the_decision_says_what_becomes_of_a_name(rules: tuple[RedactionRule, ...], wanted: str) -> None:
    assert json.loads(Gate().request(chat(TEXT), *rules).body)["messages"][0]["content"] == wanted


def test_a_name_can_block() -> None:
    assert Gate().request(chat(TEXT), RedactionRule("PERSON", Action.BLOCK)).blocked == ("PERSON",)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("to Paris@example.org or so", ["EMAIL"]),  # within what a rule found
        ("in [LOCATION] and [PERSON:abcdefgh]", []),  # placeholders of before
    ],
)
def test_what_a_rule_found_stands(text: str, wanted: list[str]) -> None:
    made = Gate().request(chat(text))
    assert [one.entity for one in made.removals] == wanted


def test_of_a_name_around_a_value_the_rest_goes_too() -> None:
    class Greedy(FakeRecogniser):
        def recognise(self, texts: Any) -> Any:
            return [[replace(s, start=0, end=len(text)) for s in spans[:1]] for text, spans in zip(texts, super().recognise(texts), strict=True)]  # fmt: skip

    gate = Gate()
    gate.content = ContentGate(b"k" * 32, recogniser=Greedy())
    made = gate.request(chat("Ada Lovelace ada@example.org Byron"))
    assert json.loads(made.body)["messages"][0]["content"] == "[PERSON] [EMAIL] [PERSON]"


def test_labels_of_the_protocol_are_not_asked_about() -> None:
    gate = Gate()
    body = {
        **chat("hello"),
        "model": "London",
        "tools": [{"type": "function", "function": {"name": "Paris", "parameters": LISTED}}],
    }
    made = gate.request(body)
    assert json.loads(made.body) == body
    answer = {"choices": [{"message": {"tool_calls": [{"function": {"name": "Paris", "arguments": "{}"}}]}}]}
    assert json.loads(gate.answer(answer, asked=body).body) == answer


def test_a_key_with_a_name_is_masked_and_one_word_is_a_fields() -> None:
    made = Gate().request({**chat("hello"), "metadata": {"Ada Lovelace": "yes", "Paris": "no"}})
    assert json.loads(made.body)["metadata"] == {"[PERSON]": "yes", "Paris": "no"}


def test_tool_arguments_are_looked_at() -> None:
    call = {"function": {"name": "f", "arguments": json.dumps({"who": "Ada Lovelace"})}}
    made = Gate().answer({"choices": [{"message": {"tool_calls": [call]}}]})
    arguments = json.loads(made.body)["choices"][0]["message"]["tool_calls"][0]["function"]["arguments"]
    assert json.loads(arguments) == {"who": "[PERSON]"}


def test_a_long_text_is_asked_about_in_parts() -> None:
    gate = Gate()
    text = "All is well here. " * 600 + TEXT
    made = gate.request(chat(text))
    assert json.loads(made.body)["messages"][0]["content"].endswith(MASKED)
    [asked] = gate.recogniser.asked
    assert len(asked) > 2
    removals = [one for one in made.removals if one.rule == "ner:custom"]
    assert {text[one.start : one.end] for one in removals} == {"Ada Lovelace", "London"}


def test_another_connection_is_left_alone() -> None:
    gate = Gate()
    asked = gate.content.inspect(CONNECTION, "POST", PATHS["openai.chat"], JSON, wire(chat(TEXT)))
    made = gate.content.redact_request(asked, ())
    assert b"Ada Lovelace" in made.body
    assert made.recognised is None
    assert not asked.waits
    assert not gate.recogniser.asked


# Where it fails --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("failure", RECOGNISER_FAILURES)
def test_nothing_passes_that_could_not_be_looked_at(failure: str) -> None:
    gate = Gate(failure)
    with pytest.raises(RecogniserUnavailable, match=rf"^{failure}$"):
        gate.asked(chat(TEXT))


def test_nor_an_answer() -> None:
    gate = Gate()
    asked = gate.asked(CHAT)
    gate.recogniser.failure = "dead"
    with pytest.raises(RecogniserUnavailable, match=r"^dead$"):
        gate.content.redact_response(asked, (), 200, JSON, wire({"choices": [{"message": {"content": TEXT}}]}), LIMIT)


@pytest.mark.parametrize("failure", RECOGNISER_FAILURES)
def test_what_may_pass_unlooked_at_says_so(failure: str) -> None:
    made = Gate(failure, may_fail=True).request(chat(TEXT))
    assert json.loads(made.body)["messages"][0]["content"] == "Ada Lovelace ([EMAIL]) flew to London."
    assert made.recognised == Recognised("fake@1", "whole", 0, len(TEXT.encode()), failure)
    assert redaction_facts(made)["ner"]["status"] == "failed"


@pytest.mark.parametrize("may_fail", [False, True])
def test_what_was_found_does_not_pass_because_a_second_look_failed(may_fail: bool) -> None:
    """A field rule makes another body of it, which is looked at anew."""
    gate = Gate(may_fail=may_fail)
    asked = gate.asked({**chat(TEXT), "metadata": {"ssn": "078-05-1120"}})
    drop = read_rule({"path": "$.metadata.ssn", "action": "drop"}, Direction.REQUEST, "decision", 1)
    gate.recogniser.failure = "late"
    with pytest.raises(RecogniserUnavailable, match=r"^late$"):
        gate.content.redact_request(asked, (RedactionRule("", Action.MASK, drop),))


@pytest.mark.parametrize("may_fail", [False, True])
def test_a_connection_that_asks_where_there_is_no_recogniser(may_fail: bool) -> None:
    """A valid configuration has one; whoever gets here all the same does not pass unlooked at in silence."""
    gate = Gate(has_recogniser=False, may_fail=may_fail)
    if not may_fail:
        with pytest.raises(RecogniserUnavailable, match=r"^absent$"):
            gate.asked(chat(TEXT))
        return
    told = gate.request(chat(TEXT)).recognised
    assert told == Recognised("none", "whole", 0, len(TEXT.encode()), "absent")


# Streams ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["sentence", "window"])
@pytest.mark.parametrize("size", [1, 3, 20, 1 << 20])
def test_a_stream_is_looked_at_sentence_by_sentence(mode: str, size: int) -> None:
    gate = Gate(streams=mode)
    body = stream(*deltas(*f"{TEXT} And Bob Smith?"), "[DONE]")
    out, _, told = gate.streamed(body, size=size)
    assert said(out) == f"{MASKED} And [PERSON]?"
    looked_at = sum(len(text) for asked in gate.recogniser.asked for text in asked if "hello" not in text)
    assert looked_at >= len(f"{MASKED} And Bob Smith?")
    assert told.recognised == Recognised("fake@1", mode, looked_at)
    names = [one for one in told.removals if one.rule == "ner:custom"]
    assert [(one.entity, f"{TEXT} And Bob Smith?"[one.start : one.end]) for one in names] == [
        ("PERSON", "Ada Lovelace"),
        ("LOCATION", "London"),
        ("PERSON", "Bob Smith"),
    ]
    assert {one.version for one in names} == {"fake@1"}


def test_what_is_held_comes_with_the_end_of_the_sentence() -> None:
    gate = Gate()
    answer = gate.content.open_stream(gate.asked(CHAT), (), SSE, LIMIT)
    assert answer.waits
    first = answer.feed(stream(*deltas("I met Ada Lovelace in", " London")), is_last=False)
    assert said(first.body) == ""
    second = answer.feed(stream(*deltas(". Then")), is_last=False)
    assert said(second.body) == "I met [PERSON] in [LOCATION]."
    third = answer.feed(stream("[DONE]"), is_last=True)
    assert said(third.body) == " Then"


def test_other_protocols_and_arguments_too() -> None:
    gate = Gate()
    body = stream(*blocks(*"I met Ada Lovelace. ", kind="text"), {"type": "message_stop"}, names=True)
    out, _, _ = gate.streamed(body, protocol="anthropic.messages")
    assert "".join(one["delta"]["text"] for one in events_of(out) if "delta" in one) == "I met [PERSON]. "
    arguments = '{"who": "Ada Lovelace", "n": 3}'
    chunk = {"choices": [{"index": 0, "delta": {"tool_calls": [{"index": 0, "function": {"arguments": arguments}}]}}]}
    out, _, _ = gate.streamed(stream(chunk, "[DONE]"))
    joined = "".join(
        call["function"]["arguments"]
        for one in events_of(out)[:-1]
        for call in one["choices"][0]["delta"].get("tool_calls", ())
    )
    assert json.loads(joined) == {"who": "[PERSON]", "n": 3}


def test_a_text_in_one_piece_of_an_event() -> None:
    out, _, _ = Gate().streamed(stream({"note": "I met Ada Lovelace.", "type": "Paris"}), protocol="generic")
    assert b"Ada" not in out


def test_off_is_off_and_said() -> None:
    gate = Gate(streams="off")
    out, _, told = gate.streamed(stream(*deltas(TEXT), "[DONE]"))
    assert said(out) == "Ada Lovelace ([EMAIL]) flew to London."
    assert told.recognised == Recognised("fake@1", "off")
    assert redaction_facts(told)["ner"]["status"] == "off"


def test_a_name_is_not_dropped_from_a_stream() -> None:
    """What stands around it was looked at before: joined, it could be a card's number."""
    text = "It is 4111 1111 London 1111 1111, he said."
    out, _, told = Gate().streamed(stream(*deltas(text), "[DONE]"), RedactionRule("LOCATION", Action.DROP))
    assert said(out) == "It is 4111 1111 [LOCATION] 1111 1111, he said."
    assert [(one.entity, one.action) for one in told.removals] == [("LOCATION", Action.MASK)]


@pytest.mark.parametrize("size", [1, 1 << 20])
def test_a_name_can_block_a_stream(size: int) -> None:
    body = stream(*deltas(*"Well then. I met Ada Lovelace. More."), "[DONE]")
    out, piece, _ = Gate().streamed(body, RedactionRule("PERSON", Action.BLOCK), size=size)
    assert piece.blocked == ("PERSON",)
    assert b"Ada" not in out
    assert "More" not in said(out)


def fed_to_the_end(answer: Any, body: bytes, size: int) -> None:
    for at in range(0, len(body), size):
        piece = answer.feed(body[at : at + size], is_last=at + size >= len(body))
        assert b"Ada" not in piece.body


@pytest.mark.parametrize("size", [30, 1 << 20])
def test_a_stream_ends_where_the_recogniser_fails(size: int) -> None:
    gate = Gate()
    asked = gate.asked(CHAT)
    answer = gate.content.open_stream(asked, (), SSE, LIMIT)
    first = answer.feed(stream(*deltas("All is well. And then we ")), is_last=False)
    gate.recogniser.failure = "late"
    body = stream(*deltas("I met Ada Lovelace. "), "[DONE]")
    with pytest.raises(RecogniserUnavailable, match=r"^late$"):
        fed_to_the_end(answer, body, size)
    assert said(first.body).startswith("All is well.")
    told = answer.told().recognised
    assert told is not None
    assert told.failure == "late"
    assert told.failed_bytes > 0
    assert b"recogniser_unavailable" in answer.farewell("recogniser_unavailable", "No.")


def test_a_stream_that_may_goes_on_and_asks_no_more() -> None:
    gate = Gate(may_fail=True)
    asked = gate.asked({**CHAT, "max_tokens": 9})
    gate.recogniser.failure = "late"
    before = len(gate.recogniser.asked)
    answer = gate.content.open_stream(asked, (), SSE, LIMIT)
    pieces = [answer.feed(stream(one), is_last=False).body for one in deltas("One Paris. ", "Two Paris. ", "Three. ")]
    pieces.append(answer.feed(stream("[DONE]"), is_last=True).body)
    assert said(b"".join(pieces)) == "One Paris. Two Paris. Three. "
    assert len(gate.recogniser.asked) == before + 1
    told = answer.told()
    assert told.recognised == Recognised("fake@1", "sentence", 0, told.recognised.failed_bytes, "late")  # type: ignore[union-attr]
    assert told.recognised.failed_bytes >= len("One Paris. Two Paris. Three.")  # type: ignore[union-attr]
    assert redaction_facts(told)["ner"]["status"] == "failed"


# On record -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("made", "status"),
    [
        (Recognised("spacy:en@1", "whole", 10), "complete"),
        (Recognised("spacy:en@1", "off"), "off"),
        (Recognised("spacy:en@1", "sentence", 5, 5, "late"), "failed"),
        (Recognised("spacy:en@1", "whole", 0, 0, "dead"), "failed"),
        (Recognised("none", "off", 0, 7, "absent"), "failed"),
    ],
)
def test_what_is_recorded_keeps_to_the_schema(made: Recognised, status: str) -> None:
    told = redaction_facts(replace(Gate().request(chat("x")), recognised=made))
    assert told["ner"]["status"] == status
    schema = kinds.schema_of("inference.outcome")["properties"]["response_redaction"]
    assert [one.message for one in Draft202012Validator(schema).iter_errors(told)] == []
    del told["ner"]["failure"]
    assert list(Draft202012Validator(schema).iter_errors(told))


def test_without_a_recogniser_the_record_is_as_it_was() -> None:
    asked = Gate().content.inspect(CONNECTION, "POST", PATHS["openai.chat"], JSON, wire(chat(TEXT)))
    assert "ner" not in redaction_facts(Gate().content.redact_request(asked, ()))
