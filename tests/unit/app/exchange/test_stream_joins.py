"""What clients put together, or take for another thing, though its events say otherwise: it is one text to us too."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

import pytest

from ext_proc.errors import UpstreamError
from ext_proc.protocols.streaming import Limits, Masked
from tests.unit.app.exchange.bodies import CHAT, GATE, JSON, NDJSON, SSE, blocks, events_of, inspect, response, stream
from tests.unit.protocols.streams import reader, sse
from tests.unit.redaction.streams import in_chunks

if TYPE_CHECKING:
    from ext_proc.model import Redaction

CARD = ("my card is 4111 1111 ", "1111 1111 ok")
MASKED = "my card is [PAYMENT_CARD] ok"


def streamed(body: bytes, protocol: str = "openai.chat", headers: Any = SSE) -> tuple[bytes, str | None, Any]:
    """What passes of a stream, why it was refused, if it was, and what is told of it."""
    answer = GATE.open_stream(inspect(CHAT, protocol), (), headers, 8 << 20)
    piece = answer.feed(body, is_last=True)
    return piece.body, piece.unreadable, answer.told()


def said(text: str, kind: str = "response.output_text.delta", **more: Any) -> dict[str, Any]:
    """A delta of the Responses API."""
    return {"type": kind, "item_id": "m", "output_index": 0, "delta": text, **more}


def read_whole(body: bytes, protocol: str) -> Redaction:
    return response(body, protocol, SSE)


# Indexes that are not the event's ------------------------------------------------------------------------------------

STRAY = [
    ("response.output_text.delta", {"content_index": 0, "summary_index": 1}, {"content_index": 0, "summary_index": 2}),
    ("response.output_text.delta", {"content_index": 0, "command_index": 1}, {"content_index": 0}),
    ("response.output_text.delta", {"content_index": 0}, {}),
    ("response.refusal.delta", {}, {"content_index": 0, "summary_index": 3}),
    ("response.reasoning_text.delta", {}, {"content_index": 0, "summary_index": 3}),
    ("response.reasoning_summary_text.delta", {"summary_index": 0, "content_index": 1}, {"content_index": 2}),
    ("response.function_call_arguments.delta", {}, {"content_index": 3}),
    ("response.custom_tool_call_input.delta", {"command_index": 0}, {"content_index": 3}),
    ("response.shell_call_command.delta", {"command_index": 0}, {"content_index": 3}),
    ("response.of_tomorrow.delta", {"content_index": 0}, {"summary_index": 0}),
]


@pytest.mark.parametrize(("kind", "first", "second"), STRAY)
def test_an_index_that_is_not_the_events_keeps_nothing_apart(
    kind: str, first: dict[str, int], second: dict[str, int]
) -> None:
    body = stream(said(CARD[0], kind, **first), said(CARD[1], kind, **second))
    out, refused, told = streamed(body, "openai.responses")
    assert refused is None
    assert "".join(event["delta"] for event in events_of(out)) == MASKED
    assert [one.entity for one in told.removals] == ["PAYMENT_CARD"]
    made = read_whole(body, "openai.responses")
    assert "".join(event["delta"] for event in events_of(made.body)) == MASKED


@pytest.mark.parametrize(
    ("kind", "index"),
    [
        ("response.output_text.delta", "output_index"),
        ("response.reasoning_summary_text.delta", "summary_index"),
        ("response.shell_call_command.delta", "command_index"),
        ("response.function_call_arguments.delta", "output_index"),
    ],
)
def test_the_events_own_index_does_keep_apart(kind: str, index: str) -> None:
    first, second = said("bob.planted@", kind, **{index: 0}), said("example.org", kind, **{index: 1})
    out, refused, _ = streamed(stream(first, second), "openai.responses")
    assert refused is None
    assert b"[EMAIL]" not in out


# Blocks and parts that are read as one --------------------------------------------------------------------------------

IN_TWO = [
    (("mail bob@exa", "mple.org now"), ["mail bob@exa", "[EMAIL] now"]),
    (("my ssn is ", "219099999 ok"), ["my ssn is ", "[US_SSN] ok"]),
    (CARD, ["my card is 4111 1111 ", "[PAYMENT_CARD] ok"]),
    (("sk-abcdefgh12345678abcdefgh", "12345678abcdefgh and on"), ["[SECRET_API_KEY]", " and on"]),
    (
        ("my card is 4111 1111 1111 1111. ", "It is fine. ", "All of it."),
        ["my card is [PAYMENT_CARD]. ", "It is fine. ", "All of it."],
    ),
    (("word " * 300 + "bob", "@exa", "mple.org"), ["word " * 300 + "bob", "@exa", "[EMAIL]"]),
]


@pytest.mark.parametrize("size", [1, 4, 5000])
@pytest.mark.parametrize(("texts", "passed"), IN_TWO)
def test_a_block_of_text_goes_on_with_the_one_before(texts: tuple[str, ...], passed: list[str], size: int) -> None:
    """Half of a value may have gone out with the block before; the other half does not."""
    events: list[Any] = []
    for index, text in enumerate(texts):
        begun = {"type": "content_block_start", "index": index, "content_block": {"type": "text", "text": ""}}
        events += [begun, *blocks(*in_chunks(text, size), index=index), {"type": "content_block_stop", "index": index}]
    out, refused, told = streamed(stream(*events), "anthropic.messages")
    assert refused is None
    assert [_said(events_of(out), "index", index) for index in range(len(texts))] == passed
    assert told.removals


@pytest.mark.parametrize("size", [1, 4, 5000])
@pytest.mark.parametrize(("texts", "passed"), IN_TWO)
def test_so_does_a_part_of_a_message(texts: tuple[str, ...], passed: list[str], size: int) -> None:
    events: list[Any] = []
    for index, text in enumerate(texts):
        events += [said(piece, content_index=index) for piece in in_chunks(text, size)]
        done = {"type": "response.output_text.done", "output_index": 0, "content_index": index, "text": text}
        events.append(done)
    out, refused, _ = streamed(stream(*events), "openai.responses")
    assert refused is None
    assert [_said(events_of(out), "content_index", index) for index in range(len(texts))] == passed
    assert [event["text"] for event in events_of(out) if event["type"].endswith(".done")] == passed


PEM = f"-----BEGIN PRIVATE KEY-----\n{'MIIEvQIBADANBgkqhkiG9w0BAQEFAASCBKcw' * 40}\n-----END PRIVATE KEY-----"
LONG = [PEM, "password: " + "aB3$dE5!gH7j" * 60]


@pytest.mark.parametrize("value", LONG)
@pytest.mark.parametrize("before", ["", "in words before it " * 40])
@pytest.mark.parametrize("count", [2, 9, 40])
def test_a_long_secret_goes_on_over_any_number_of_blocks(value: str, before: str, count: int) -> None:
    size = -(-len(value) // count)
    first, *others = in_chunks(value, size)
    out, refused, told = streamed(stream(*in_blocks(before + first, "", *others, " and on")), "anthropic.messages")
    assert refused is None
    passed = "".join(_said(events_of(out), "index", index) for index in range(count + 2))
    begun = value.find(" ") + 1 if value.startswith("password") else 0
    assert passed.startswith(before + value[:begun])
    assert passed.endswith(" and on")
    shown = passed.removeprefix(before + value[:begun]).removesuffix(" and on")
    assert len(shown) <= max(size, len("[SECRET_PASSWORD]"))
    assert told.removals


@pytest.mark.parametrize("unspaced", ["\u6211\u60f3\u8bf4\u3002" * 150, "a,b\n" * 150, "a\tb\n" * 150])
def test_what_a_block_goes_on_from_is_not_cut_at_a_blank_in_a_value(unspaced: str) -> None:
    out, refused, _ = streamed(stream(*in_blocks(unspaced + "4111 1111 ", "1111 1111 ok")), "anthropic.messages")
    assert refused is None
    assert _said(events_of(out), "index", 1) == "[PAYMENT_CARD] ok"


BEGUN = [{"type": "content_block_start", "index": at, "content_block": {"type": "text", "text": ""}} for at in (0, 1)]


@pytest.mark.parametrize(
    "events",
    [
        [*BEGUN, *blocks("mail bob@exa"), *blocks("mple.org", index=1)],
        [*blocks("mple.org", index=1), *blocks("mail bob@exa")],
        [*blocks("mail "), *blocks("mple.org", index=1), *blocks("bob@exa")],
    ],
)
def test_blocks_of_text_come_one_after_the_other(events: list[Any]) -> None:
    """Who joins them by their index would read what nobody looked at."""
    out, refused, _ = streamed(stream(*events), "anthropic.messages")
    assert refused == "stream_text_out_of_place"
    assert b"bob@exa" not in out or b"mple.org" not in out


def test_parts_come_one_after_the_other() -> None:
    events = [said("mple.org", content_index=1), said("mail bob@exa", content_index=0)]
    assert streamed(stream(*events), "openai.responses")[1] == "stream_text_out_of_place"


def test_a_tool_call_and_a_thought_may_come_between_the_pieces_of_a_block() -> None:
    thought, call = blocks("so", index=1, kind="thinking"), blocks("{}", index=2, kind="input_json")
    events = [*blocks("mail bob@exa"), *thought, *call, *blocks("mple.org now")]
    out, refused, _ = streamed(stream(*events), "anthropic.messages")
    assert refused is None
    assert _said(events_of(out), "index", 0) == "mail [EMAIL] now"


@pytest.mark.parametrize("protocol", ["anthropic.messages", "openai.responses"])
def test_nor_does_it_pass_where_the_stream_is_read_whole(protocol: str) -> None:
    events = in_blocks("mail bob@exa", "mple.org now")
    if protocol == "openai.responses":
        events = [said("mail bob@exa", content_index=0), said("mple.org now", content_index=1)]
    made = read_whole(stream(*events), protocol)
    index = "index" if protocol.startswith("anthropic") else "content_index"
    assert [_said(events_of(made.body), index, at) for at in (0, 1)] == ["mail [EMAIL]", " now"]
    assert [(one.entity, one.start, one.end) for one in made.removals] == [("EMAIL", 5, 20)]


def in_blocks(*texts: str) -> list[Any]:
    """Anthropic's blocks of text."""
    events: list[Any] = []
    for index, text in enumerate(texts):
        begun = {"type": "content_block_start", "index": index, "content_block": {"type": "text", "text": ""}}
        events += [begun, *blocks(text, index=index), {"type": "content_block_stop", "index": index}]
    return events


def test_a_thought_does_not_go_on_in_the_answer() -> None:
    events = [*blocks("mail bob@exa", kind="thinking"), {"type": "content_block_stop", "index": 0}]
    out, refused, told = streamed(stream(*events, *blocks("mple.org now", index=1)), "anthropic.messages")
    assert (refused, list(told.removals)) == (None, [])
    assert _said(events_of(out), "index", 1) == "mple.org now"


def _said(events: list[Any], name: str, index: int) -> str:
    """What the deltas of one block or part say."""
    deltas = [event["delta"] for event in events if event.get(name) == index and "delta" in event]
    return "".join(delta if isinstance(delta, str) else delta.get("text", "") for delta in deltas)


# Texts that are whole, and are said in pieces --------------------------------------------------------------------------


@pytest.mark.parametrize(
    "make",
    [
        lambda text: {"type": "response.of_tomorrow", "text": text},
        lambda text: {"type": "response.of_tomorrow", "content_index": len(text), "message": text},
        lambda text: {"type": "response.of_tomorrow", "item": {"x": text}},
        lambda text: {"type": "response.output_text.done", "output_index": 0, "content_index": 0, "text": text},
        lambda text: {"type": "response.output_text.done", "summary_index": len(text), "text": text},
        lambda text: {"type": "response.output_text.done", "item": {"content": [{"text": text}]}},
        lambda text: {"type": "response.custom_tool_call_input.done", "output_index": 2, "input": text},
    ],
)
def test_a_text_that_is_said_whole_twice_is_held_together(make: Any) -> None:
    out, refused, _ = streamed(stream(*map(make, CARD)), "openai.responses")
    assert refused is None
    assert b"4111" in out
    assert b"1111 ok" not in out
    assert b"[WITHHELD]" in out


@pytest.mark.parametrize(("index", "passed"), [("output_index", "1111 1111 ok"), ("content_index", "[WITHHELD]")])
def test_parts_that_are_said_whole_are_held_together_messages_are_not(index: str, passed: str) -> None:
    def events(at: int, text: str) -> list[dict[str, Any]]:
        where = {"output_index": 0, "content_index": 0, index: at}
        part = {"type": "output_text", "text": text}
        return [
            {"type": "response.output_text.done", **where, "text": text},
            {"type": "response.content_part.done", **where, "part": part},
            {"type": "response.output_item.done", "output_index": at, "item": {"content": [part]}},
        ]

    first, second = events(0, CARD[0]), events(1, CARD[1])
    out, refused, _ = streamed(stream(*first, *second), "openai.responses")
    assert refused is None
    done, part, item = second
    second = [{**done, "text": passed}, {**part, "part": {**part["part"], "text": passed}}, item]
    assert events_of(out) == [*first, *second]


def test_a_part_that_is_said_whole_goes_on_from_one_that_something_was_taken_out_of() -> None:
    texts = ["ann@example.org, mail bob@exa", "mple.org", "ssn 219099999", "It is fine."]
    events = [
        {"type": "response.output_text.done", "output_index": 0, "content_index": at, "text": text}
        for at, text in enumerate(texts)
    ]
    out, refused, _ = streamed(stream(*events), "openai.responses")
    assert refused is None
    passed = [event["text"] for event in events_of(out)]
    assert passed == ["[EMAIL], mail bob@exa", "[WITHHELD]", "ssn [US_SSN]", "It is fine."]


@pytest.mark.parametrize("at", [0, 1])
def test_what_is_said_again_is_what_lost_more(at: int) -> None:
    """The same text in two places: in one of them it goes on from what says that it is a value."""
    places: list[dict[str, Any]] = [{"output_index": 0, "content_index": 1}, {"output_index": 1, "content_index": 0}]
    events = [said("my ssn is ", content_index=0)]
    for where in places if at else places[::-1]:
        events.append(said("219099999", **where))
        events.append({"type": "response.output_text.done", **where, "text": "219099999"})
    part = {"type": "output_text", "text": "219099999"}
    out, refused, _ = streamed(
        stream(*events, {"type": "response.content_part.done", **places[0], "part": part}), "openai.responses"
    )
    assert refused is None
    assert [event["part"]["text"] for event in events_of(out) if "part" in event] == ["[US_SSN]"]


# Names that are not the event's --------------------------------------------------------------------------------------


def named(name: str, body: Any) -> bytes:
    return f"event: {name}\ndata: {json.dumps(body)}\n\n".encode()


@pytest.mark.parametrize(
    ("protocol", "first", "name", "second"),
    [
        ("openai.responses", said(CARD[0]), "response.output_text.delta", said(CARD[1], "x.2")),
        ("openai.responses", said(CARD[0]), "response.output_text.done", said(CARD[1])),
        ("anthropic.messages", blocks(CARD[0])[0], "content_block_delta", {**blocks(CARD[1])[0], "type": "ping"}),
    ],
)
def test_a_name_and_a_type_that_differ_end_the_stream(protocol: str, first: Any, name: str, second: Any) -> None:
    body = stream(first, names=True) + named(name, second)
    out, refused, _ = streamed(body, protocol)
    assert refused == "stream_not_json"
    assert b"1111 ok" not in out
    with pytest.raises(UpstreamError):
        read_whole(body, protocol)


def test_a_name_says_the_type_that_is_left_out() -> None:
    second = said(CARD[1])
    del second["type"]
    body = stream(said(CARD[0]), names=True) + named("response.output_text.delta", second)
    out, refused, _ = streamed(body, "openai.responses")
    assert refused is None
    assert "".join(event["delta"] for event in events_of(out)) == MASKED
    made = read_whole(body, "openai.responses")
    assert "".join(event["delta"] for event in events_of(made.body)) == MASKED


@pytest.mark.parametrize("name", ["message", "error"])
def test_names_that_say_no_type_pass(name: str) -> None:
    """The one that an event without a name has, and that of an error, in the words of whoever had it."""
    told = {"type": "overloaded_error", "message": "later"}
    for protocol in ("openai.responses", "anthropic.messages", "openai.chat"):
        out, refused, _ = streamed(named(name, told), protocol)
        assert refused is None
        assert "".join(event["message"] for event in events_of(out)) == "later"


# Keys that are nearly the protocol's ---------------------------------------------------------------------------------


def chunk(text: str = CARD[1], *, choices: str = "choices", delta: str = "delta", key: str = "content") -> Any:
    return {"id": "c", choices: [{"index": 0, delta: {key: text}}]}


def calling(arguments: Any, key: str = "tool_calls", function: str = "function") -> dict[str, Any]:
    call = {"index": 0, "id": "x", "type": "function", function: {"name": "pay", "arguments": arguments}}
    return {"id": "c", "choices": [{"index": 0, "delta": {key: [call]}}]}


BLOCK = blocks(CARD[1])[0]
NEARLY = [
    ("openai.chat", chunk(key="Content")),
    ("openai.chat", {"choices": [{"index": 0, "delta": {"content": "", "Content": CARD[1]}}]}),
    ("openai.chat", chunk(choices="Choices")),
    ("openai.chat", chunk(delta="Delta")),
    ("openai.chat", chunk(delta="Message")),
    ("openai.chat", {"choices": [{"index": 1, "Index": 0, "delta": {"content": CARD[1]}}]}),
    ("openai.chat", {"choices": {"0": {"index": 0, "delta": {"content": CARD[1]}}}}),
    ("openai.chat", calling(CARD[1], key="Tool_Calls")),
    ("openai.chat", calling(CARD[1], key="tool_call\u017f")),
    ("openai.chat", calling(CARD[1], function="Function")),
    ("openai.chat", {"choices": [{"delta": {"tool_calls": {"0": {"function": {"arguments": CARD[1]}}}}}]}),
    ("openai.chat", {"choices": [{"delta": [{"content": CARD[1]}]}]}),
    ("openai.completions", {"choices": [{"index": 0, "Text": CARD[1]}]}),
    ("anthropic.messages", {**BLOCK, "delta": {"type": "text_delta", "Text": CARD[1]}}),
    ("anthropic.messages", {**BLOCK, "Index": 0}),
    ("anthropic.messages", {"type": "message_start", "message": {"content": {"0": {"text": CARD[1]}}}}),
    ("anthropic.messages", {"type": "message", "content": [{"type": "text", "Text": CARD[1]}]}),
    ("openai.responses", {"type": "response.output_text.delta", "Delta": CARD[1]}),
    ("openai.responses", {"output": [{"type": "message", "content": [{"type": "output_text", "TEXT": CARD[1]}]}]}),
    ("openai.responses", {"output": {"0": {"type": "function_call", "arguments": "{}"}}}),
]


@pytest.mark.parametrize(("protocol", "body"), NEARLY)
def test_keys_that_are_nearly_the_protocols_are_refused(protocol: str, body: Any) -> None:
    out, refused, _ = streamed(stream(body), protocol)
    assert refused == "stream_not_json"
    assert b"1111 ok" not in out
    out, refused, _ = streamed(json.dumps(body).encode() + b"\n", protocol, NDJSON)
    assert refused == "stream_not_json"
    with pytest.raises(UpstreamError):
        response(body, protocol)
    with pytest.raises(UpstreamError):
        read_whole(stream(body), protocol)
    with pytest.raises(UpstreamError):
        response(json.dumps(body).encode(), protocol, NDJSON)


@pytest.mark.parametrize(
    ("protocol", "body"),
    [
        ("openai.chat", {"choices": [{"index": 0, "delta": []}], "X_Content": 1, "usage": {"Content": 1}}),
        ("openai.chat", {"choices": [{"index": 0, "delta": {"content": None, "tool_calls": {}}}]}),
        ("anthropic.messages", {"content_block": {"type": "tool_use", "input": {"Text": "hello", "Input": {"0": 1}}}}),
        ("openai.responses", {"response": {"metadata": {"Type": "mine"}, "output": []}, "type": "response.completed"}),
        ("generic", {"Choices": {"0": 1}, "Content": "hello"}),
    ],
)
def test_keys_that_are_nobodys_business_pass(protocol: str, body: Any) -> None:
    """A tool's arguments, what the caller said of itself; PHP writes an empty object as a list."""
    _, refused, _ = streamed(stream(body), protocol)
    assert refused is None
    assert json.loads(response(body, protocol).body) == body


def test_an_error_may_say_its_words_as_it_likes() -> None:
    told = {"Message": "no such model", "Type": "Sender", "Code": "Missing"}
    made = GATE.redact_response(inspect(CHAT, "anthropic.messages"), (), 404, JSON, json.dumps(told).encode(), 1 << 20)
    assert json.loads(made.body) == told
    with pytest.raises(UpstreamError):
        response(told, "anthropic.messages")


def test_odds_under_another_spelling_spell_the_text_again() -> None:
    odds = {"tokens": ["my card is 4111", " 1111 1111 1111"]}
    for protocol, event in (
        ("openai.chat", {"choices": [{"index": 0, "delta": {}, "Logprobs": odds}]}),
        ("openai.responses", {**said("my"), "LogProbs": [{"token": "4111 1111"}, {"token": "1111 1111"}]}),
    ):
        _, refused, _ = streamed(stream(event), protocol)
        assert refused == "stream_not_json"


# What is no text where a text's pieces stand -------------------------------------------------------------------------


@pytest.mark.parametrize("value", [11111111, 111, -9, 1.5, ["1111 1111"], [["1111 1111"]], [{"text": "a"}, 1111]])
@pytest.mark.parametrize(
    ("protocol", "make"),
    [
        ("openai.chat", chunk),
        ("openai.chat", lambda value: chunk(value, key="reasoning_content")),
        ("openai.chat", calling),
        ("openai.completions", lambda value: {"choices": [{"index": 0, "text": value}]}),
        ("anthropic.messages", lambda value: blocks(value)[0]),
        ("anthropic.messages", lambda value: blocks(value, kind="input_json")[0]),
        ("openai.responses", said),
        ("openai.responses", lambda value: said(value, "response.function_call_arguments.delta")),
        (
            "openai.responses",
            lambda value: {"type": "response.content_part.added", "part": {"type": "output_text", "text": value}},
        ),
    ],
)
def test_numbers_and_lists_are_no_piece_of_a_text(protocol: str, make: Any, value: Any) -> None:
    _, refused, _ = streamed(stream(make(value)), protocol)
    assert refused == "stream_not_json"
    with pytest.raises(UpstreamError):
        read_whole(stream(make(value)), protocol)


def test_nothing_and_a_list_of_parts_are_pieces() -> None:
    parts = [{"type": "text", "text": "hello"}]
    for value in (None, "", [], parts):
        _, refused, _ = streamed(stream(chunk("say "), chunk(value), chunk(".")))
        assert refused is None


@pytest.mark.parametrize(
    "pieces",
    [
        ("card 4111 1111 ", 11111111, " ok"),
        ("mail bob@example.org from 4111 1111 ", 11111111),
        ("card 4111 1111", 1111, "1111 ok"),
        (41111111, "11111111 ok"),
        (4111, 1111, 1111, "1111 ok"),
    ],
)
def test_a_number_in_the_midst_of_a_text_that_nobody_knows(pieces: tuple[Any, ...]) -> None:
    """It stays one where it may: whoever reads it may count with it."""
    lines = b"".join(json.dumps({"response": piece}).encode() + b"\n" for piece in pieces)
    out, refused, _ = streamed(lines, "generic", NDJSON)
    assert refused is None
    together = "".join(str(json.loads(line)["response"]) for line in out.splitlines())
    assert "[WITHHELD]" in together
    assert "".join(map(str, pieces)) not in together


def test_numbers_and_texts_in_one_place_that_are_no_value_pass() -> None:
    told = ["abc", 5, "of 1200", 1200, -3, 4.5, "done", 1732600000]
    lines = b"".join(json.dumps({"value": one}).encode() + b"\n" for one in told)
    out, refused, _ = streamed(lines, "generic", NDJSON)
    assert refused is None
    values = [json.loads(line)["value"] for line in out.splitlines()]
    assert [one for one in values if not isinstance(one, str)] == [5, 1200, -3, 4.5, 1732600000]
    assert "".join(one for one in values if isinstance(one, str)) == "abcof 1200done"


# Arguments that are no text ------------------------------------------------------------------------------------------

PAID: dict[str, Any] = {"to": "bob.planted@example.org", "sum": [1, {"of": "caf\u00e9"}]}
RELEASED = '{"to":"[EMAIL]","sum":[1,{"of":"caf\u00e9"}]}'
DIGEST = hashlib.sha256(RELEASED.encode()).hexdigest()


def whole(**message: Any) -> dict[str, Any]:
    return {"choices": [{"index": 0, "message": {"role": "assistant", **message}}]}


@pytest.mark.parametrize(
    ("protocol", "body"),
    [
        ("openai.chat", whole(tool_calls=[{"id": "x", "function": {"name": "pay", "arguments": PAID}}])),
        ("openai.chat", whole(function_call={"name": "pay", "arguments": PAID})),
        ("openai.responses", {"output": [{"type": "function_call", "name": "pay", "arguments": PAID}]}),
    ],
)
def test_arguments_that_are_an_object_are_digested(protocol: str, body: Any) -> None:
    made = response(body, protocol)
    assert [one.arguments_sha256 for one in made.tool_calls] == [DIGEST]


@pytest.mark.parametrize(
    "event", [calling(PAID), {"choices": [{"delta": {"function_call": {"name": "pay", "arguments": PAID}}}]}]
)
def test_arguments_of_a_stream_that_are_an_object_are_digested_as_they_went_out(event: Any) -> None:
    out, refused, told = streamed(stream(event, "[DONE]"))
    assert refused is None
    delta = events_of(out)[0]["choices"][0]["delta"]
    function = delta.get("function_call") or delta["tool_calls"][0]["function"]
    assert json.dumps(function["arguments"], separators=(",", ":"), ensure_ascii=False) == RELEASED
    assert [one.arguments_sha256 for one in told.tool_calls] == [DIGEST]
    made = read_whole(stream(calling(PAID), "[DONE]"), "openai.chat")
    assert [one.arguments_sha256 for one in made.tool_calls] == [DIGEST]


@pytest.mark.parametrize("two", [(PAID, "{}"), ("{}", PAID), ("", PAID), (PAID, PAID)])
def test_no_text_goes_on_with_an_object(two: tuple[Any, Any]) -> None:
    """The record has one digest, which could not cover both."""
    _, refused, _ = streamed(stream(*map(calling, two)))
    assert refused == "stream_not_json"


# What it costs -------------------------------------------------------------------------------------------------------


def test_keys_that_are_masked_alike_stay_several() -> None:
    _, _, told = streamed(stream({"x": {f"b{at}@ex.org": at for at in range(5)}}))
    out, _, _ = streamed(stream({"x": {**{f"b{at}@ex.org": at for at in range(3)}, "[EMAIL]_2": 9}}))
    assert len(told.removals) == 5
    assert events_of(out) == [{"x": {"[EMAIL]": 0, "[EMAIL]_3": 1, "[EMAIL]_4": 2, "[EMAIL]_2": 9}}]


class Counted(str):
    """A key's new name that counts how often another one is made of it."""

    __slots__ = ()
    made = 0

    def __format__(self, spec: str) -> str:
        Counted.made += 1
        return super().__format__(spec)


def test_a_key_is_not_compared_with_all_that_are_masked_alike() -> None:
    """What it costs grows with the keys, not with their square."""

    def mask(path: str, context: str, text: str) -> Masked:
        del path, context
        return Masked(Counted("[EMAIL]")) if "@" in text else Masked(text)

    Counted.made = 0
    released = reader(mask_whole=mask).feed(sse({"x": {f"b{at}@example.org": 0 for at in range(500)}}))
    assert released.refused is None
    assert len(events_of(released.data)[0]["x"]) == 500
    assert Counted.made == 499


def test_removals_are_limited_within_an_event() -> None:
    limited = reader(limits=Limits(removals=10))
    keys = {f"b{at}@example.org": 0 for at in range(1000)}
    released = limited.feed(sse({"x": keys}))
    assert released.refused == "stream_too_many_removals"
    assert len(limited.learnt().removals) == 11
