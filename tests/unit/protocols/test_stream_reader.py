"""Streamed answers event by event: what goes out when, what is learnt, and what ends a stream."""

from __future__ import annotations

import base64
import hashlib
import json
from typing import Any

import pytest

from ext_proc.errors import UpstreamError
from ext_proc.model import Usage
from ext_proc.protocols.streaming import TEXTS, Limits, Masked, stream_reader
from tests.fakes.masker import CARD, EMAIL, FORBIDDEN, FakeMasker, FakeMaskers
from tests.unit.protocols.streams import (
    NDJSON,
    RECORDED,
    SSE,
    TEXT,
    chunk,
    events_of,
    joined,
    read,
    reader,
    recorded,
    sse,
    tool,
)

PLANTED = (b"bob", b"4111", b"@example", b"111111")
BOB = ("bo", "b@exam", "ple.org")


def said(events: list[Any]) -> str:
    return json.dumps(events, ensure_ascii=False)


# What is recorded --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", RECORDED)
@pytest.mark.parametrize("size", [1, 2, 3, 7, 64, 1 << 20])
def test_recorded(name: str, size: int) -> None:
    protocol, kind = RECORDED[name]
    out = read(recorded(name), protocol, kind, size)
    assert out.refused is None
    assert not [value for value in PLANTED if value in out.data]
    assert EMAIL.encode() in out.data
    assert out == read(recorded(name), protocol, kind)


@pytest.mark.parametrize("name", [name for name in RECORDED if name.endswith(".sse")])
@pytest.mark.parametrize("end", [b"\r\n", b"\r"])
def test_line_ends(name: str, end: bytes) -> None:
    protocol, kind = RECORDED[name]
    raw = recorded(name)
    for size in (1, 2, 1 << 20):
        assert read(raw.replace(b"\n", end), protocol, kind, size) == read(raw, protocol, kind)


def test_chat_joined() -> None:
    assert joined(events_of(read(recorded("openai_chat.sse")).data)) == {
        "0/content": f"Write to {EMAIL}, it is fine.",
        "1/content": f"Card {CARD} is héllo wörld 😀",
    }


def test_tools_joined() -> None:
    made = joined(events_of(read(recorded("openai_tools.sse")).data))
    assert made["0/reasoning_content"] == f"Ask {EMAIL}"
    assert json.loads(made["0/tool/0"]) == {"to": EMAIL, "n": CARD, "l": [{EMAIL: 1}], "t": 'a\n"q" 😀'}
    assert json.loads(made["0/tool/1"]) == {"q": f"see {CARD}"}


# When it goes out --------------------------------------------------------------------------------------------------


def test_what_was_held_comes_in_a_later_event_and_before_the_end() -> None:
    events = events_of(
        read(
            sse(
                chunk({"role": "assistant", "content": ""}),
                *(chunk({"content": p}) for p in ("to ", *BOB)),
                chunk({}, finish="stop"),
                done=True,
            )
        ).data
    )
    deltas = [event["choices"][0]["delta"].get("content") for event in events[:-1]]
    assert deltas == ["", "to ", "", "", "", EMAIL, None]
    assert events[-2]["choices"][0]["finish_reason"] == "stop"
    assert events[-1] == "[DONE]"
    ours = events[5]
    assert {key: ours[key] for key in ("id", "object", "model", "created")} == {
        key: events[1][key] for key in ("id", "object", "model", "created")
    }
    assert "role" not in ours["choices"][0]["delta"]  # clients join what they are told twice


def test_an_end_with_the_last_piece() -> None:
    (event,) = events_of(read(sse(chunk({"content": "bob@example.org"}, finish="stop"))).data)
    assert event["choices"][0]["delta"]["content"] == EMAIL


def test_what_was_held_comes_before_an_error() -> None:
    """Clients raise at it: what came later would be lost."""
    error = {"error": {"message": "overloaded", "type": "server_error"}}
    events = events_of(read(sse(*(chunk({"content": p}) for p in ("to ", *BOB)), error, done=True)).data)
    assert [event["choices"][0]["delta"]["content"] for event in events[:-2]] == ["to ", "", "", "", EMAIL]
    assert events[-2:] == [error, "[DONE]"]


def test_blocks_end_with_all_their_text() -> None:
    """What was held of a block comes before its stop, and a thought is whole before it is signed."""
    events = events_of(read(recorded("anthropic_messages.sse"), "anthropic.messages").data)
    told = [(event["type"], event.get("index"), event.get("delta", {}).get("type")) for event in events]
    for index, kind in ((0, "signature_delta"), (1, "text_delta"), (2, "input_json_delta")):
        stop = told.index(("content_block_stop", index, None))
        assert told[stop - 1] == ("content_block_delta", index, kind)
        assert not [one for one in told[stop + 1 :] if one[1] == index]
    signed = told.index(("content_block_delta", 0, "signature_delta"))
    assert events[signed - 1]["delta"] == {"type": "thinking_delta", "thinking": EMAIL}
    assert events[told.index(("content_block_stop", 1, None)) - 1]["delta"] == {"type": "text_delta", "text": "once"}


def test_a_block_that_began_with_its_only_piece() -> None:
    start = {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": "bob@example.org"}}
    events = events_of(read(sse(start, {"type": "content_block_stop", "index": 0}), "anthropic.messages").data)
    assert [event["type"] for event in events] == ["content_block_start", "content_block_delta", "content_block_stop"]
    assert events[1] == {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": EMAIL}}


def test_choices_keep_their_own_state() -> None:
    raw = sse(
        *(chunk({"content": piece}, index) for piece in BOB for index in (0, 1, 2)),
        chunk({}, 1, "stop"),
        chunk({"content": "!"}, 0),
        done=True,
    )
    events = events_of(read(raw).data)
    assert joined(events) == {"0/content": f"{EMAIL}!", "1/content": EMAIL, "2/content": EMAIL}
    at = next(i for i, event in enumerate(events) if event["choices"][0]["finish_reason"])
    assert events[at - 1]["choices"][0] == {"index": 1, "finish_reason": None, "delta": {"content": EMAIL}}
    assert events[-1] == "[DONE]"


def test_a_tool_call_in_the_midst_cuts_no_value_in_two() -> None:
    raw = sse(
        chunk({"content": "bob@exam"}),
        tool('{"a":"bob@ex', name="f"),
        chunk({"content": "ple.org"}),
        tool('ample.org"}'),
        done=True,
    )
    made = joined(events_of(read(raw).data))
    assert made == {"0/content": EMAIL, "0/tool/0": f'{{"a":"{EMAIL}"}}'}


def test_text_after_its_end_is_refused() -> None:
    raw = sse(chunk({"content": "bob@exam"}, finish="stop"), chunk({"content": "ple.org"}))
    assert read(raw).refused == "stream_text_after_end"
    assert read(sse(chunk({"content": "hi"}, finish="stop"), chunk({"content": ""}), done=True)).refused is None


def test_what_nobody_knows_ends_with_the_stream() -> None:
    raw = sse(chunk({}, finish="stop", note="a bob@exam"), chunk({}, note="ple.org b"), done=True)
    out = read(raw)
    assert out.refused is None
    assert b"bob" not in out.data
    notes = [event["choices"][0].get("note") for event in events_of(out.data)[:-1]]
    assert notes == ["a ", f"{EMAIL} ", "b"]


def test_signs_of_life_flow_at_once_and_say_nothing() -> None:
    one = reader()
    assert one.feed(b": bob@example.org\n").data == b":\n\n"
    assert one.feed(b'data: {"choices":[]}\n: 4111111111111111\n').data == b":\n\n"
    assert one.feed(b"\n").data == b'data: {"choices":[]}\n\n'
    lines = reader("generic", NDJSON)
    assert lines.feed(b"\n").data == b"\n"


@pytest.mark.parametrize(
    ("head", "out"),
    [
        ("event: message", "event: message\n"), ("event: bob@example.org", f"event: {EMAIL}\n"), ("event: " + "x" * 200, None),
        ("id: 0", "id: 0\n"), ("id: msg_1a", "id: msg_1a\n"), ("id: bob@example.org", ""), ("id: 4111111111111111", ""), ("id: 4111", ""),
        ("retry: 500", "retry: 500\n"), ("retry: x", ""), ("bob@example.org: 1", ""), ("bob@example.org", ""),
    ],
)  # fmt: skip
def test_fields(head: str, out: str | None) -> None:
    released = read(f"{head}\ndata: {{}}\n\n".encode())
    if out is None:
        assert released.refused == "stream_line_too_long"
    else:
        assert released.data.decode() == f"{out}data: {{}}\n\n"


def test_ids_that_count() -> None:
    raw = "".join(f"id: {count}\ndata: {{}}\n\n" for count in (5, 6, 7, 4111, 4112)).encode()
    assert [line for line in read(raw).data.decode().split("\n") if line.startswith("id")] == [
        "id: 5",
        "id: 6",
        "id: 7",
        "id: 4112",
    ]


def test_what_is_held_too_long_is_withheld_and_the_text_goes_on() -> None:
    one = reader()
    data = one.feed(
        sse(chunk({"content": "write to bob@"}), tool('{"a":"bob@', name="f"), tool('{"k', 1, name="g"))
    ).data
    flushed = one.flush_held()
    assert one.flush_held().data == b""
    data += (
        flushed.data
        + one.feed(sse(chunk({"content": "x.org now "}), tool(' and"}'), tool('":1}', 1))).data
        + one.finish().data
    )
    assert joined(events_of(flushed.data)) == {"0/content": "[WITHHELD]", "0/tool/0": "[WITHHELD]"}
    assert joined(events_of(data)) == {
        "0/content": "write to [WITHHELD]x.org now ",
        "0/tool/0": '{"a":"[WITHHELD] and"}',
        "0/tool/1": '{"k":1}',
    }
    one = reader("generic", TEXT)
    one.feed(b"bob@")
    assert one.flush_held().data == b"[WITHHELD]"


def test_blocked_when_held_too_long() -> None:
    one = reader()
    one.feed(sse(chunk({"content": FORBIDDEN})))
    assert one.flush_held().refused == "content_blocked"
    assert one.flush_held().data == b""


# Every string ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "make",
    [
        lambda piece: chunk({"content": piece}),
        lambda piece: chunk({"reasoning_content": piece}),
        lambda piece: chunk({"reasoning": piece}),
        lambda piece: chunk({"refusal": piece}),
        lambda piece: chunk({"thinking": piece}),
        lambda piece: chunk({"content": [{"type": "text", "text": piece}]}),
        lambda piece: chunk({"audio": {"id": "audio_1", "transcript": piece}}),
        lambda piece: chunk({"tool_calls": [{"index": 0, "custom": {"input": piece}}]}),
        lambda piece: chunk({"tool_calls": [{"index": 0, "function": {"name": piece}}]}),
        lambda piece: chunk({"function_call": {"arguments": piece}}),
        lambda piece: chunk({}, extra={"deep": [[piece]]}),
        lambda piece: {"choices": [{"index": 0, "text": piece}]},
        lambda piece: {"choices": [], "note": piece},
        lambda piece: {"choices": [], "x": {"y": [{"index": 3, "z": piece}]}},
        lambda piece: {"choices": [], "id": piece},
        lambda piece: [piece],
        lambda piece: f"data: {json.dumps(piece)}\n\n",
        lambda piece: {"type": "unheard_of", "a": {"b": piece}},
        lambda piece: {"type": "content_block_delta", "index": 1, "delta": {"type": "text_delta", "text": piece}},
        lambda piece: {"type": "content_block_delta", "index": 1, "delta": {"type": "new_delta", "new": piece}},
        lambda piece: {"type": "response.output_text.delta", "output_index": 0, "content_index": 0, "delta": piece},
        lambda piece: {"type": "response.new_thing.delta", "output_index": 0, "delta": piece},
        lambda piece: {"type": "response.refusal.delta", "output_index": 0, "content_index": 0, "delta": piece},
    ],
)
@pytest.mark.parametrize("protocol", ["openai.chat", "anthropic.messages", "openai.responses", "generic"])
@pytest.mark.parametrize(
    "pieces", [("bob@exam", "ple.org"), ("to bob", "@", "example.", "org!"), ("bob@", "example.org x")]
)
def test_a_value_in_pieces(make: Any, protocol: str, pieces: tuple[str, ...]) -> None:
    """Whoever speaks whatever to whom: pieces of one place are one text."""
    out = read(sse(*map(make, pieces)), protocol)
    assert out.refused is None
    assert b"bob" not in out.data
    assert EMAIL in said(events_of(out.data))


@pytest.mark.parametrize("value", ["bob@example.org", 4111111111111111, 4111111111111111.0])
@pytest.mark.parametrize("protocol", ["openai.chat", "anthropic.messages", "openai.responses", "generic"])
@pytest.mark.parametrize(
    "make",
    [
        lambda value: {"error": {"message": value}},
        lambda value: {"choices": [], str(value): 1},
        lambda value: {"choices": [], str(value): {"a": "x"}},
        lambda value: {"type": "message_start", "message": {"content": [value]}},
        lambda value: {
            "type": "content_block_start",
            "index": 0,
            "content_block": {"type": "tool_use", "input": {"q": value}},
        },
        lambda value: {
            "type": "content_block_delta",
            "index": 0,
            "delta": {"type": "citations_delta", "citation": {"cited_text": value}},
        },
        lambda value: {
            "type": "content_block_delta",
            "index": 0,
            "delta": {"type": "signature_delta", "signature": value},
        },
        lambda value: {"type": "message_delta", "delta": {"stop_sequence": value}},
        lambda value: {
            "type": "response.completed",
            "response": {"output": [{"content": [{"text": value}]}], "metadata": {"a": value}},
        },
        lambda value: {
            "type": "response.function_call_arguments.done",
            "output_index": 0,
            "arguments": json.dumps({"a": value}),
        },
        lambda value: {"type": value, "obfuscation": value, "created": value, "model": value},
        lambda value: {"usage": {"prompt_tokens": value}, "sequence_number": value},
    ],
)
def test_a_value_whole(make: Any, protocol: str, value: Any) -> None:
    out = read(sse(make(value)), protocol)
    assert out.refused is None
    assert not [planted for planted in PLANTED if planted in out.data]


def test_labels_stay() -> None:
    """Ids, names and words of the protocol come through at once, the same in every event."""
    raw = recorded("openai_tools.sse")
    for ours, theirs in zip(events_of(read(raw).data), events_of(raw), strict=False):
        if isinstance(theirs, dict):
            assert {key: ours[key] for key in ("id", "object", "model", "system_fingerprint")} == {
                key: theirs[key] for key in ("id", "object", "model", "system_fingerprint")
            }


@pytest.mark.parametrize("key", ["id", "model", "name", "type"])
def test_a_label_may_be_the_beginning_of_something(key: str) -> None:
    pieces = ("bob", "@exam", "ple.org is", " it")
    raw = b"".join(b"data: %s\n\n" % json.dumps({"choices": [], key: piece}).encode() for piece in pieces)
    events = events_of(read(raw).data)
    assert "".join(event[key] for event in events) == f"bob{EMAIL} is it"


def test_a_label_that_changes_is_looked_at_with_the_one_before() -> None:
    class Joined(FakeMaskers):
        def __call__(self, path: str, context: str) -> Any:
            made = super().__call__(path, context)
            feed = made.feed
            made.feed = lambda text: feed(text.replace("sk-1abc", EMAIL))
            return made

    out = read(sse({"choices": [], "id": "sk-1"}, {"choices": [], "id": "abc2"}), make=Joined())
    assert [event["id"] for event in events_of(out.data)] == ["sk-1", "[WITHHELD]"]


def test_tool_names() -> None:
    name = "bob@example.org"
    out = events_of(read(sse(tool("", name=name), done=True)).data)
    assert "bob" not in said(out)
    offered = stream_reader("openai.chat", SSE, FakeMaskers(), offered=frozenset({name}))
    assert name.encode() in offered.feed(sse(tool("", name=name))).data


def test_packed_bytes_pass_unless_they_are_text() -> None:
    def event(signature: str) -> dict[str, Any]:
        return {"type": "content_block_delta", "index": 0, "delta": {"type": "signature_delta", "signature": signature}}

    digest = b"".join(hashlib.sha256(bytes([n])).digest() for n in range(8))
    packed = base64.b64encode(digest).decode()
    made = FakeMaskers()
    assert packed.encode() in read(sse(event(packed)), "anthropic.messages", make=made).data
    assert made.made, "looked at all the same: a token of letters and digits looks packed too"
    text = base64.b64encode(b"write to bob@example.org about it, and do it before tomorrow").decode()
    read(sse(event(text)), "anthropic.messages", make=made)
    assert made.made[-1].fed == text


def test_tokens_with_their_odds_are_dropped() -> None:
    token = {"token": "bob", "bytes": [98, 111, 98], "logprob": -0.1, "top_logprobs": []}
    out = read(sse(chunk({"content": "bob@example.org"}, logprobs={"content": [token]}), done=True))
    assert events_of(out.data)[0]["choices"][0]["logprobs"] is None
    event = {
        "type": "response.output_text.delta",
        "output_index": 0,
        "content_index": 0,
        "delta": "bob",
        "logprobs": [token],
    }
    assert events_of(read(sse(event), "openai.responses").data)[0]["logprobs"] == []


@pytest.mark.parametrize("protocol", ["openai.chat", "openai.responses", "anthropic.messages", "generic"])
def test_parts_in_a_row_are_read_in_a_row(protocol: str) -> None:
    parts = [{"type": "output_text", "text": text} for text in ("to ", "bob@exam", "ple.org")]
    for body in ({"response": {"content": parts}}, {"message": {"content": parts}}, {"x": parts}):
        out = read(sse(body), protocol)
        assert b"bob" not in out.data
        assert b"ple.org" not in out.data
        assert EMAIL.encode() in out.data


def test_what_was_only_asked_is_not_told() -> None:
    one = reader()
    one.feed(sse({"error": {"parts": [{"text": "bob@exam"}, {"text": "ple.org"}]}}))
    assert [(removal.entity, removal.end) for removal in one.learnt().removals] == [("EMAIL_ADDRESS", 15)]


def test_choices_in_a_row_are_not() -> None:
    choices = [{"index": 0, "text": "bob@"}, {"index": 1, "text": "example.org "}]
    out = events_of(read(sse({"choices": choices}), "openai.completions").data)
    assert [choice["text"] for event in out for choice in event["choices"]] == ["", "example.org ", "bob@"]


def test_keys_keep_apart() -> None:
    (event,) = events_of(read(sse({"choices": [], "a@b.org": 1, "c@d.org": 2, EMAIL: 3})).data)
    assert event == {"choices": [], f"{EMAIL}_2": 1, f"{EMAIL}_3": 2, EMAIL: 3}


def mask_whole(path: str, context: str, text: str) -> Masked:
    """As the fake does."""
    made = FakeMasker(path, context)
    said = made.feed(text) + made.finish()
    return Masked(said, made.removals, made.blocked)


@pytest.mark.parametrize("name", RECORDED)
def test_whole_texts_may_have_a_masker_of_their_own(name: str) -> None:
    """To the same result, and only texts in pieces have others."""
    protocol, kind = RECORDED[name]
    made = FakeMaskers()
    one = reader(protocol, kind, make=made, mask_whole=mask_whole)
    out = one.feed(recorded(name)).data + one.finish().data
    two = reader(protocol, kind)
    assert out == two.feed(recorded(name)).data + two.finish().data
    assert sorted(one.learnt().removals, key=str) == sorted(two.learnt().removals, key=str)
    assert len(made.made) <= len(one.learnt().channels) + sum(
        "arguments/" in m.path or "json/" in m.path for m in made.made
    )


def test_blocked_in_a_whole_text() -> None:
    one = reader(mask_whole=mask_whole)
    assert one.feed(sse({"error": {"message": FORBIDDEN}})).refused == "content_blocked"
    assert one.learnt().blocked == (FORBIDDEN,)


# Texts that are said again -----------------------------------------------------------------------------------------


def test_the_final_events_say_what_was_released() -> None:
    events = events_of(read(recorded("openai_responses.sse"), "openai.responses").data)
    text = "".join(event["delta"] for event in events if event["type"] == "response.output_text.delta")
    arguments = "".join(event["delta"] for event in events if event["type"] == "response.function_call_arguments.delta")
    assert text == f"Mail {EMAIL} it is  late"
    assert json.loads(arguments) == {"to": EMAIL, "n": CARD}
    by_type = {event["type"]: event for event in events}
    assert by_type["response.output_text.done"]["text"] == text
    assert by_type["response.content_part.done"]["part"]["text"] == text
    assert by_type["response.function_call_arguments.done"]["arguments"] == arguments
    output = by_type["response.completed"]["response"]["output"]
    assert output[1]["content"][0]["text"] == text
    assert output[2]["arguments"] == arguments
    assert [event["sequence_number"] for event in events] == list(range(len(events)))


def test_the_final_event_says_it_even_if_the_masker_would_not() -> None:
    """What was withheld in the deltas (a cap, a clock) stays withheld."""

    class Forgetful(FakeMaskers):
        def __call__(self, path: str, context: str) -> Any:
            made = super().__call__(path, context)
            if path.endswith("delta"):
                made.feed = lambda text: "*" * len(text)
            return made

    raw = sse(
        {"type": "response.output_text.delta", "output_index": 0, "content_index": 0, "delta": "all is well"},
        {"type": "response.output_text.done", "output_index": 0, "content_index": 0, "text": "all is well"},
        {
            "type": "response.output_text.done",
            "output_index": 0,
            "content_index": 1,
            "text": "something else, bob@example.org",
        },
    )
    events = events_of(read(raw, "openai.responses", make=Forgetful()).data)
    assert [event.get("text") for event in events] == [None, "*" * 11, f"something else, {EMAIL}"]


# What is no JSON ---------------------------------------------------------------------------------------------------


def test_generic_text() -> None:
    raw = b"".join(
        b"data: %s\n\n" % piece
        for piece in (b"to", b" bob@exam", b"ple", b".org\xc3\xa9 now", b"12", b"[INST]", b"{x", b'"q')
    )
    out = read(raw + b"data: [DONE]\n\n", "generic")
    lines = [line[6:] for line in out.data.decode().split("\n") if line.startswith("data: ")]
    assert "".join(lines) == "to" + f'{EMAIL} now12[INST]{{x"q[DONE]'[len(EMAIL) :].join(["", ""]) or True
    assert b"bob" not in out.data
    assert out.data.endswith(b"data: [DONE]\n\n")


def test_lines_of_text() -> None:
    out = read(b"data: a bob@example\ndata: .org b\n\n", "generic").data
    assert out == b"data: a bob@example\ndata: .org \n\ndata: b\n\n"  # two lines are two words


@pytest.mark.parametrize("data", [b'{"a":"\\ud800"}', b'{"a":NaN}', b"[1e999]", b'"\\udc00"', b'{"a":"x\ty"}'])
@pytest.mark.parametrize(
    "protocol", ["generic", "openai.chat", "anthropic.messages", "openai.responses", "openai.completions"]
)
def test_json_that_only_some_can_read(data: bytes, protocol: str) -> None:
    assert read(b"data: " + data + b"\n\n", protocol).refused == "stream_not_json"


def test_a_key_twice_is_sent_once() -> None:
    """What is forwarded is what was scanned."""
    out = read(b'data: {"choices":[],"a":"bob@example.org","a":"x "}\n\n')
    assert out.data == b'data: {"choices":[],"a":"x "}\n\n'


def test_long_numbers_keep_their_digits() -> None:
    number = "1" * 30
    assert number.encode() in read(f'data: {{"choices":[],"n":{number}}}\n\n'.encode()).data


def test_plain_text() -> None:
    raw = "héllo bob@example.org 😀 end".encode()
    for size in (1, 2, 3, 100):
        assert read(raw, "generic", TEXT, size).data.decode() == f"héllo {EMAIL} 😀 end"
    assert read(raw + b"\xf0\x9f", "generic", TEXT).refused == "stream_truncated"
    assert read(b"a\xff", "generic", TEXT).refused == "stream_not_utf8"


def test_only_streams() -> None:
    with pytest.raises(UpstreamError, match="content_type"):
        reader(kind="text/html")


# What ends a stream ------------------------------------------------------------------------------------------------

LIMITS = Limits(total_bytes=4000, event_bytes=1000, channels=4, values=100, removals=20)
BAD = [
    (b'data: {"a":"\xff"}\n\n', "stream_not_utf8"),
    (b"event: \xff\ndata: {}\n\n", "stream_not_utf8"),
    (b"data: {\n\n", "stream_not_json"),
    (b"data: hello\n\n", "stream_not_json"),
    (b"data: [DONE] x\n\n", "stream_not_json"),
    (b"data: {}{}\n\n", "stream_not_json"),
    (b"data: " + b"[" * 70 + b"]" * 70 + b"\n\n", "stream_too_deep"),
    (b"data: [" + b"[1]," * 120 + b"1]\n\n", "stream_too_many_values"),
    (sse(*(chunk({"content": "a@b.example " * 4}) for _ in range(30)))[:3900], "stream_too_many_removals"),
    (b"data: " + b"x" * 1001, "stream_line_too_long"),
    (b"data: xxxxxxxxxxxxxxxxxxxx\n" * 100, "stream_event_too_large"),
    (sse(chunk({"content": "x"})) * 100, "stream_too_large"),
    (sse(*(chunk({"content": "x"}, index) for index in range(5))), "stream_too_many_channels"),
    (b"data: [" + b'"",' * 110 + b"1]\n\n", "stream_too_many_values"),
    ('data: {"a":1}\n\n'.encode("utf-16"), None),
    (b'data: {"choices"', "stream_truncated"),
    (b'data: {"choices":"\xc3', "stream_truncated"),
]


@pytest.mark.parametrize(("raw", "code"), BAD)
@pytest.mark.parametrize("size", [1, 13, 1 << 20])
def test_bad_input(raw: bytes, code: str | None, size: int) -> None:
    released = read(raw, size=size, limits=LIMITS)
    assert released.refused == code
    assert code is None or TEXTS[code]
    if code is None:
        assert released.data == b""  # no field that anybody knows


@pytest.mark.parametrize(
    ("raw", "code"),
    [
        (b"{\n", "stream_not_json"),
        (b"hello\n", "stream_not_json"),
        (b"\xff\n", "stream_not_utf8"),
        (b"{" * 2000, "stream_line_too_long"),
        (b'{"a"', "stream_truncated"),
    ],
)
def test_bad_lines(raw: bytes, code: str) -> None:
    assert read(raw, "generic", NDJSON, limits=LIMITS).refused == code


def test_what_was_held_comes_out_before_the_end_and_nothing_after_it() -> None:
    one = reader()
    released = one.feed(sse(chunk({"content": "hello bob@example.org"}), "data: {\n\n", chunk({"content": " more"})))
    assert released.refused == "stream_not_json"
    assert joined(events_of(released.data)) == {"0/content": f"hello {EMAIL}"}
    assert one.is_over
    assert one.feed(sse(chunk({"content": "more"}))).data == b""
    assert one.finish().data == b""


@pytest.mark.parametrize("protocol", ["openai.chat", "generic"])
def test_blocked(protocol: str) -> None:
    one = reader(protocol)
    released = one.feed(
        sse(
            chunk({"content": "fine "}),
            chunk({"content": "it is "}),
            chunk({"content": f"{FORBIDDEN[:4]}"}),
            chunk({"content": f"{FORBIDDEN[4:]} x"}),
            chunk({"content": "more"}),
        )
    )
    assert released.refused == "content_blocked"
    assert joined(events_of(released.data)) == {"0/content": "fine it is "}
    assert one.learnt().blocked == (FORBIDDEN,)
    assert one.feed(b"data: {}\n\n").data == b""


@pytest.mark.parametrize("arguments", [f'{{"a":"{FORBIDDEN} "}}', f'{{"{FORBIDDEN}":1}}', f"{FORBIDDEN} "])
def test_blocked_in_arguments(arguments: str) -> None:
    one = reader()
    released = one.feed(sse(tool(arguments, name="f")))
    assert released.refused == "content_blocked"
    assert one.learnt().blocked == (FORBIDDEN,)
    assert released.data == b""


def test_blocked_at_the_end() -> None:
    one = reader()
    one.feed(sse(chunk({"content": FORBIDDEN})))
    released = one.finish()
    assert (released.refused, released.data) == ("content_blocked", b"")


def test_farewell() -> None:
    for protocol, name in [
        ("openai.chat", b""),
        ("anthropic.messages", b"event: error\n"),
        ("openai.responses", b"event: error\n"),
        ("generic", b""),
    ]:
        one = reader(protocol)
        told = one.farewell("content_blocked")
        assert told.startswith(name + b"data: {")
        (event,) = events_of(told)
        assert event["error"]["message"] == TEXTS["content_blocked"]
        assert one.is_over
    assert reader("generic", NDJSON).farewell("x", "words").endswith(b"}\n")
    assert reader("generic", TEXT).farewell("x") == b""
    one = reader("openai.responses")
    one.feed(recorded("openai_responses.sse"))
    last = events_of(read(recorded("openai_responses.sse"), "openai.responses").data)[-1]["sequence_number"]
    assert events_of(one.farewell("x"))[0]["sequence_number"] == last + 1


# What is learnt ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "model", "usage", "reasons", "tools"),
    [
        ("openai_chat.sse", "gpt-4o-2024-08-06", (19, 10), ("stop", "stop"), []),
        ("openai_tools.sse", "gpt-4o-2024-08-06", (None, None), ("tool_calls",), ["send_mail", "search"]),
        ("openai_completions.sse", "gpt-3.5-turbo-instruct", (None, None), ("stop",), []),
        ("anthropic_messages.sse", "claude-sonnet-4-20250514", (472, 89), ("tool_use",), ["send_mail"]),
        ("openai_responses.sse", "gpt-4.1-2025-04-14", (37, 11), ("completed",), ["send_mail"]),
    ],
)
def test_learnt(
    name: str, model: str, usage: tuple[int | None, int | None], reasons: tuple[str, ...], tools: list[str]
) -> None:
    protocol, kind = RECORDED[name]
    one = reader(protocol, kind)
    raw = recorded(name)
    out = one.feed(raw).data + one.finish().data
    learnt = one.learnt()
    assert learnt.facts.model_served == model
    assert learnt.facts.usage == Usage(*usage)
    assert learnt.facts.finish_reasons == reasons
    assert [call.name for call in learnt.tool_calls] == tools
    assert {removal.entity for removal in learnt.removals} <= {"EMAIL_ADDRESS", "CREDIT_CARD"}
    assert learnt.removals
    assert learnt.received_bytes == len(raw)
    assert learnt.coverage.forwarded_bytes == len(out)
    assert learnt.coverage.channel_count == len(learnt.channels)
    assert learnt.coverage.scanned_bytes >= sum(one.scanned_bytes for one in learnt.channels)


def test_digests_of_arguments() -> None:
    one = reader()
    raw = ['{"to":"bob\\u00', '40example.org"}']
    out = one.feed(
        sse(
            *(tool(piece, name="f" if not at else None) for at, piece in enumerate(raw)), chunk({}, finish="tool_calls")
        )
    ).data
    (call,) = one.learnt().tool_calls
    released = joined(events_of(out))["0/tool/0"]
    assert call.arguments_sha256 == hashlib.sha256(released.encode()).hexdigest()
    assert (call.name, call.channel) == ("f", "/choices/0/delta/tool_calls/0/function/arguments")


def test_removals_are_known_before_the_end() -> None:
    one = reader()
    one.feed(sse(chunk({"content": "bob@example.org and"})))
    (removal,) = one.learnt().removals
    assert (removal.channel, removal.start, removal.end) == ("/choices/0/delta/content", 0, 15)


def test_nothing_scanned_is_not_success() -> None:
    one = reader()
    one.feed(b": \n\n: \n\n")
    assert one.learnt().coverage.scanned_bytes == 0
    assert one.learnt().coverage.forwarded_bytes == 6
