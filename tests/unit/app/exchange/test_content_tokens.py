"""Tokens in requests and in answers, as the driver sees it: `ext_proc.app.exchange.content` and `ext_proc.app.exchange.streams`."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from ext_proc.app.exchange.restoring import RestoringMasker
from ext_proc.model import Action, Direction, RedactionRule, Tokens
from ext_proc.policy.field_rules import read_rules
from ext_proc.redaction import Restorer, StreamRedactor
from tests.unit.app.exchange.bodies import (
    CHAT,
    CONNECTION,
    GATE,
    JSON,
    NDJSON,
    PATHS,
    SSE,
    TEXT,
    blocks,
    deltas,
    events_of,
    inspect,
    stream,
    wire,
)  # fmt: skip
from tests.unit.app.exchange.fields import lines, rule

if TYPE_CHECKING:
    from ext_proc.model import Inspection, Redaction

TOKENISE = (RedactionRule("EMAIL", Action.TOKENISE),)
ADA_MAIL = "ada@example.net"
KEPT = Tokens({("EMAIL", ADA_MAIL): "EMAIL_QWRTZB"}, {"EMAIL_QWRTZB": ADA_MAIL})


def with_tokens(body: Any, protocol: str = "openai.chat", tokens: Tokens = KEPT) -> Inspection:
    return replace(inspect(body, protocol), tokens=tokens)


def test_what_the_rules_tokenise_is_wanted() -> None:
    told = {**CHAT, "messages": [{"role": "user", "content": f"{ADA_MAIL}, 078-05-1120, {ADA_MAIL}"}]}
    assert GATE.wanted(inspect(told), TOKENISE).values == (("EMAIL", ADA_MAIL),)
    assert GATE.wanted(inspect(told), ()).values == ()
    every = GATE.wanted(inspect(told), (RedactionRule("*", Action.TOKENISE),))
    assert every.values == (("EMAIL", ADA_MAIL), ("US_SSN", "078-05-1120"))
    many = {**CHAT, "messages": [{"role": "user", "content": " ".join(f"a{n}@example.net" for n in range(1200))}]}
    assert len(GATE.wanted(inspect(many), TOKENISE).values) == 1000


@pytest.mark.parametrize("action", ["mask", "hash", "partial", "drop", "block"])
@pytest.mark.parametrize("is_connections", [True, False])
def test_what_a_field_rule_takes_out_gets_no_token(action: str, *, is_connections: bool) -> None:
    """Nothing goes on that it could come back for: it must not be kept either."""
    told = {"model": "demo", "messages": [{"role": "user", "content": f"{ADA_MAIL}", "note": "to bob@example.org"}]}
    rules = (rule("$.messages[*].note", action),)
    if is_connections:
        own = replace(CONNECTION, request_fields=read_rules(rules, Direction.REQUEST, "connection"))
        asked, decided = GATE.inspect(own, "POST", PATHS["openai.chat"], JSON, wire(told)), TOKENISE
    else:
        asked, decided = inspect(told), (*TOKENISE, *lines(Direction.REQUEST, *rules))
    wanted = GATE.wanted(asked, decided).values
    assert wanted == (() if action == "block" else (("EMAIL", ADA_MAIL),))
    made = GATE.redact_request(replace(asked, tokens=KEPT), decided)
    assert b"<EMAIL_QWRTZB>" in made.body
    assert b"bob@" not in made.body
    assert bool(made.blocked) is (action == "block")


def test_a_masked_key_and_an_excluded_value_get_no_token_and_the_conversation_stays() -> None:
    told = {
        "model": "demo",
        "input": "hello",
        "conversation": "conv_1",
        "metadata": {ADA_MAIL: 1, "a": "bob@example.org"},
    }
    rules = (*TOKENISE, *lines(Direction.REQUEST, rule("$.metadata.*~"), rule("$.metadata.a", "exclude")))
    wanted = GATE.wanted(inspect(told, "openai.responses"), rules)
    assert (wanted.values, wanted.conversation) == ((), "conv_1")


@pytest.mark.parametrize(
    ("protocol", "body", "conversation"),
    [
        ("openai.responses", {"model": "demo", "input": "hello", "conversation": "conv_1"}, "conv_1"),
        ("openai.responses", {"model": "demo", "input": "hello", "conversation": {"id": "conv_2"}}, "conv_2"),
        ("openai.responses", {"model": "demo", "input": "hello", "previous_response_id": "resp_1"}, ""),
        ("openai.responses", {"model": "demo", "input": "hello", "conversation": {"id": 7}}, ""),
        ("openai.chat", {**CHAT, "conversation": "conv_1", "user": "u", "metadata": {"conversation": "c"}}, ""),
    ],
)
def test_only_what_the_protocol_calls_a_conversation_is_one(protocol: str, body: Any, conversation: str) -> None:
    assert GATE.wanted(inspect(body, protocol), ()).conversation == conversation


def test_a_value_without_a_token_is_masked_and_said_to_be() -> None:
    told = {**CHAT, "messages": [{"role": "user", "content": f"{ADA_MAIL} or bob@example.org"}]}
    made = GATE.redact_request(with_tokens(told), TOKENISE)
    assert json.loads(made.body)["messages"][0]["content"] == "<EMAIL_QWRTZB> or [EMAIL]"
    assert [one.action for one in made.removals] == [Action.TOKENISE, Action.MASK]
    assert [one.action for one in GATE.redact_request(inspect(told), TOKENISE).removals] == [Action.MASK] * 2


def test_a_key_and_a_number_become_tokens_too() -> None:
    kept = Tokens(
        {("EMAIL", ADA_MAIL): "EMAIL_QWRTZB", ("PAYMENT_CARD", "4111111111111111"): "PAYMENT_CARD_BCDFGH"}, {}
    )
    told = {**CHAT, "metadata": {ADA_MAIL: 4111111111111111}}
    made = GATE.redact_request(with_tokens(told, tokens=kept), (RedactionRule("*", Action.TOKENISE),))
    assert json.loads(made.body)["metadata"] == {"<EMAIL_QWRTZB>": "<PAYMENT_CARD_BCDFGH>"}


def answered(body: Any, protocol: str = "openai.chat", headers: Any = JSON) -> Redaction:
    asked = with_tokens(CHAT, protocol)
    return GATE.redact_response(asked, (), 200, headers, wire(body), 1 << 20)


def test_arguments_stay_json_whatever_the_value_is() -> None:
    kept = Tokens({}, {"EMAIL_QWRTZB": '"a\\b"@example.net\n'})
    said = json.dumps({"to": "<EMAIL_QWRTZB>", "in": json.dumps({"<EMAIL_QWRTZB>": ["<email_qwrtzb>"]})})
    body = {"choices": [{"message": {"tool_calls": [{"function": {"name": "f", "arguments": said}}]}}]}
    made = GATE.redact_response(with_tokens(CHAT, tokens=kept), (), 200, JSON, wire(body), 1 << 20)
    arguments = json.loads(json.loads(made.body)["choices"][0]["message"]["tool_calls"][0]["function"]["arguments"])
    value = kept.restorable["EMAIL_QWRTZB"]
    assert arguments["to"] == value and json.loads(arguments["in"]) == {value: [value]}
    assert made.restored == (("EMAIL", 3),)
    assert made.tool_calls[0].arguments_sha256 != hashlib.sha256(said.encode()).hexdigest()  # as released


def test_restoring_and_masking_side_by_side() -> None:
    made = answered(
        {"choices": [{"message": {"content": f"<EMAIL_QWRTZB>, bob@example.org <EMAIL_QWRTZB {ADA_MAIL}"}}]}
    )
    content = json.loads(made.body)["choices"][0]["message"]["content"]
    assert content == f"{ADA_MAIL}, [EMAIL] {ADA_MAIL} [EMAIL]"
    assert [one.entity for one in made.removals] == ["EMAIL", "EMAIL"] and made.restored == (("EMAIL", 2),)


@pytest.mark.parametrize("headers", [SSE, NDJSON, TEXT])
def test_other_kinds_of_answers_that_were_read_whole(headers: Any) -> None:
    text = f"to <EMAIL_QWRTZB> and <EMAIL_ZZZZZZ>, not {ADA_MAIL} "
    events = deltas(*(text[at : at + 3] for at in range(0, len(text), 3)))
    body = {
        SSE: stream(*events, "[DONE]"), NDJSON: b"".join(wire(one) + b"\n" for one in events), TEXT: text.encode()
    }[headers]  # fmt: skip
    made = answered(body, headers=headers)
    said = made.body.decode()
    if headers is not TEXT:
        lines = [line.removeprefix("data: ") for line in said.split("\n") if "{" in line]
        said = "".join(json.loads(line)["choices"][0]["delta"]["content"] for line in lines)
    assert said == f"to {ADA_MAIL} and <EMAIL_ZZZZZZ>, not [EMAIL] "


def test_no_value_gets_into_what_is_recorded() -> None:
    """Paths, names and reasons are as the model said them."""
    body = {
        "model": "<EMAIL_QWRTZB>",
        "choices": [{"finish_reason": "<EMAIL_QWRTZB>", "message": {"<EMAIL_QWRTZB>": {"x": "bob@example.org"}}}],
    }
    made = answered(body)
    assert ADA_MAIL in made.body.decode()
    told = repr((made.removals, made.finish_reasons, made.model_served, made.tool_calls, made.restored))
    assert ADA_MAIL not in told and "QWRTZB" not in told


# Streams --------------------------------------------------------------------------------------------------------------


def streamed(body: bytes, protocol: str = "openai.chat", size: int = 7, headers: Any = SSE) -> tuple[bytes, Redaction]:
    """What goes out of a stream that comes in reads of this size, and what is told of it."""
    answer = GATE.open_stream(with_tokens(CHAT, protocol), (), headers, 1 << 20)
    reads = [body[at : at + size] for at in range(0, len(body), size)]
    out = b"".join(answer.feed(read, is_last=False).body for read in reads)
    return out + answer.feed(b"", is_last=True).body, answer.told()


def three(text: str) -> list[str]:
    return [text[at : at + 3] for at in range(0, len(text), 3)]


def test_texts_of_two_choices_do_not_mix() -> None:
    one, other = three("to <EMAIL_QWRTZB>."), three("<EMAIL_QWR tzb> and bob@example.org")
    events = []
    for at in range(max(len(one), len(other))):
        events += [deltas(some[at], index=index)[0] for index, some in enumerate((one, other)) if at < len(some)]
    out, told = streamed(stream(*events, "[DONE]"))
    said = {0: "", 1: ""}
    for event in events_of(out)[:-1]:
        said[event["choices"][0]["index"]] += event["choices"][0]["delta"]["content"]
    assert said == {0: f"to {ADA_MAIL}.", 1: "<EMAIL_QWR tzb> and [EMAIL]"}
    assert told.restored == (("EMAIL", 1),) and [one.entity for one in told.removals] == ["EMAIL"]


def test_anthropics_text_and_tool_input() -> None:
    events = [
        *blocks(*three("Write to <EMAIL_QWRTZB>!")),
        {"type": "content_block_stop", "index": 0},
        *blocks(*three(json.dumps({"<EMAIL_QWRTZB>": "<EMAIL_QWRTZB>", "n": 1})), index=1, kind="input_json"),
        {"type": "content_block_stop", "index": 1},
        {"type": "message_stop"},
    ]
    out, told = streamed(stream(*events, names=True), "anthropic.messages")
    parts = [event["delta"] for event in events_of(out) if "delta" in event]
    assert "".join(part.get("text", "") for part in parts) == f"Write to {ADA_MAIL}!"
    assert json.loads("".join(part.get("partial_json", "") for part in parts)) == {ADA_MAIL: ADA_MAIL, "n": 1}
    assert told.restored == (("EMAIL", 3),)


def test_what_is_said_again_is_said_as_it_was() -> None:
    """The Responses API says every text three times."""
    text, at = (
        "Write to <EMAIL_QWRTZB>, not to bob@example.org.",
        {"output_index": 0, "content_index": 0, "item_id": "m"},
    )
    item = {"type": "message", "id": "m", "content": [{"type": "output_text", "text": text}]}
    events = [
        *({"type": "response.output_text.delta", **at, "delta": piece} for piece in three(text)),
        {"type": "response.output_text.done", **at, "text": text},
        {"type": "response.output_item.done", "output_index": 0, "item": item},
        {"type": "response.completed", "response": {"id": "r", "status": "completed", "output": [item]}},
    ]
    out, _ = streamed(stream(*events, names=True), "openai.responses")
    back = f"Write to {ADA_MAIL}, not to [EMAIL]."
    told = events_of(out)
    assert "".join(event["delta"] for event in told if event["type"].endswith(".delta")) == back
    assert next(event["text"] for event in told if event["type"] == "response.output_text.done") == back
    assert told[-1]["response"]["output"][0]["content"][0]["text"] == back
    assert b"EMAIL_" not in out and b"bob" not in out


@pytest.mark.parametrize("size", [1, 5, 1000])
def test_a_generic_stream_masks_once_and_restores_once(size: int) -> None:
    """A piece that is looked at by itself and then as a part of its text: no value is taken for the model's own."""
    events = [{"out": f"<EMAIL_QWRTZB> and bob@example.org and <EMAIL_QWRTZB> {n} "} for n in ("a", "b")]
    out, told = streamed(stream(*events), "generic", size)
    said = "".join(event["out"] for event in events_of(out))
    assert said == "".join(f"{ADA_MAIL} and [EMAIL] and {ADA_MAIL} {n} " for n in ("a", "b"))
    assert told.restored == (("EMAIL", 4),)


def test_a_token_hides_no_value_that_is_said_by_and_by() -> None:
    """Texts that the protocol says are whole, one after the other in one place: together they may be a value."""

    def cited(*texts: str) -> bytes:
        deltas_ = ({"type": "citations_delta", "citation": {"cited_text": text}} for text in texts)
        events = [{"type": "content_block_delta", "index": 0, "delta": delta} for delta in deltas_]
        return streamed(stream(*events, names=True), "anthropic.messages")[0]

    assert b"[WITHHELD]" in cited("my ssn is 078-05", "-1120")
    out = cited("<EMAIL_QWRTZB>: my ssn is 078-05", "-1120 <EMAIL_QWRTZB>")
    assert b"-1120" not in out and b"[WITHHELD]" in out and ADA_MAIL.encode() in out
    assert cited("<EMAIL_QWRTZB> a", "<EMAIL_QWRTZB> b").count(ADA_MAIL.encode()) == 2


def test_keys_of_events_stay_as_they_are() -> None:
    out, told = streamed(stream({"<EMAIL_QWRTZB>": {"x": "bob@example.org"}}), "generic")
    assert ADA_MAIL.encode() not in out and b"<EMAIL_QWRTZB>" in out
    assert ADA_MAIL not in repr(told.removals) and "QWRTZB" not in repr(told.removals)


def test_after_a_block_nothing_comes_out() -> None:
    answer = GATE.open_stream(with_tokens(CHAT), (RedactionRule("US_SSN", Action.BLOCK),), SSE, 1 << 20)
    events = stream(*deltas(*three("078-05-1120 and <EMAIL_QWRTZB> and more")), "[DONE]")
    piece = answer.feed(events, is_last=True)
    assert piece.blocked == ("US_SSN",) and ADA_MAIL.encode() not in piece.body


def test_what_was_waited_for_long_enough_goes_on_masked() -> None:
    made = RestoringMasker(StreamRedactor(), Restorer(KEPT.restorable))
    assert made.feed("to <EMAIL_QW") == "to "
    assert made.flush_masked() == "<[WITHHELD]"
    assert (made.feed(" and <EMAIL_QWRTZB> ") + made.finish()).endswith(f" {ADA_MAIL} ")
    held = RestoringMasker(StreamRedactor(), Restorer(KEPT.restorable))
    assert held.feed("to <EMAIL_QWRTZB ") == "to "
    assert held.flush_masked().startswith("<")
