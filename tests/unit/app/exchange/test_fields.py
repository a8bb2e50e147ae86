"""Field rules as a caller and an auditor see them: what passes, what is on record, and what cannot be undone."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import pytest

from ext_proc.model import Action, Direction, RedactionRule
from tests.unit.app.exchange.bodies import (
    CONNECTION,
    GATE,
    JSON,
    NDJSON,
    SSE,
    TEXT,
    blocks,
    deltas,
    events_of,
    stream,
    wire,
)
from tests.unit.app.exchange.fields import answered, asked, lines, rule, streamed

MAIL = "bob.planted@example.org"
ARGUMENTS = {"ssn": "12", "count": 5, "deep": {"mail": MAIL, "born": "06.05.1984"}}


def chat(**more: Any) -> dict[str, Any]:
    return {"model": "demo", "messages": [{"role": "user", "content": "hello", **more}]}


def message(body: bytes) -> dict[str, Any]:
    said: dict[str, Any] = json.loads(body)["messages"][0]
    return said


# Whole bodies --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("action", "more", "text", "number", "flag"),
    [
        ("mask", {}, "[FIELD]", None, None),
        ("mask", {"name": "CASE"}, "[CASE]", None, None),
        ("mask", {"keep": "date"}, "1900-01-01", 0, False),
        ("mask", {"keep": "number"}, "0", 0, False),
        ("mask", {"keep": "email"}, "masked@example.invalid", 0, False),
        ("mask", {"keep": "uuid"}, "00000000-0000-0000-0000-000000000000", 0, False),
        ("mask", {"keep": "length"}, "*" * 13, 0, False),
        ("partial", {}, "****wxyz", "[FIELD]", "[FIELD]"),
    ],
)
def test_what_becomes_of_a_value(action: str, more: dict[str, str], text: str, number: Any, flag: Any) -> None:
    made = asked(chat(m={"t": "the case wxyz", "n": 42, "b": True, "z": None, "e": ""}), rule("$..m", action, **more))
    assert message(made.body)["m"] == {"t": text, "n": number, "b": flag, "z": None, "e": ""}
    assert [(one.channel, one.end) for one in made.removals] == [
        ("/messages/0/m/t", 13),
        ("/messages/0/m/n", 2),
        ("/messages/0/m/b", 4),
    ]
    assert {(one.rule, one.version) for one in made.removals} == {(f"field:{more.get('name', 1)}", "decision")}


def test_a_pseudonym_is_the_same_for_the_same_value() -> None:
    made = message(
        asked(
            chat(a="x y", b="x y", c=7, d="7"),
            rule("$.messages[*]['a']", "hash"),
            rule("$..b", "hash"),
            rule("$..c", "hash"),
        ).body
    )
    assert made["a"] == made["b"] != made["c"]
    assert made["a"].startswith("[FIELD:")
    assert made["c"].startswith("[FIELD:")
    assert made["d"] == "7"


def test_what_is_dropped_is_not_there() -> None:
    made = asked(
        chat(m={"a": 1, "b": [1, 2, 3]}, n=None), rule("$..m.a", "drop"), rule("$..b[1]", "drop"), rule("$..n", "drop")
    )
    assert message(made.body) == {"role": "user", "content": "hello", "m": {"b": [1, 3]}}
    assert {one.action for one in made.removals} == {Action.DROP}


def test_items_keep_what_is_known_of_them_when_others_go() -> None:
    body = chat(m=["1984-05-06", "gone", "1984-05-06", json.dumps({"dob": "1984-05-06"}), MAIL])
    made = asked(
        body,
        rule("$..m[1]", "drop"),
        rule("$..m[2]", "mask", keep="date"),
        rule("$..dob", "mask", keep="date"),
        rule("$..m[4]", "exclude"),
    )
    assert message(made.body)["m"] == ["1984-05-06", "1900-01-01", '{"dob":"1900-01-01"}', MAIL]
    assert made.coverage.excluded_bytes == len(MAIL)


def test_a_masked_value_is_not_found_again() -> None:
    """Under these keys the scan would take anything for what it looks for."""
    body = chat(dob="1984-05-06", password="letmein", email=MAIL)
    made = asked(body, rule("$..dob", keep="date"), rule("$..password"), rule("$..email", keep="email"))
    assert message(made.body) == {
        "role": "user", "content": "hello", "dob": "1900-01-01", "password": "[FIELD]", "email": "masked@example.invalid",
    }  # fmt: skip
    assert {one.entity for one in made.removals} == {"FIELD"}


def test_a_tools_arguments_are_reached() -> None:
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": json.dumps(ARGUMENTS)}}
    at = "$.messages[*].tool_calls[*].function.arguments"
    made = asked(
        chat(tool_calls=[call]),
        rule(f"{at}.ssn"), rule(f"{at}.count", "drop"), rule(f"{at}.deep.born", keep="date"),
    )  # fmt: skip
    said = message(made.body)["tool_calls"][0]
    assert json.loads(said["function"]["arguments"]) == {
        "ssn": "[FIELD]",
        "deep": {"mail": "[EMAIL]", "born": "01.01.1900"},
    }
    assert (said["type"], said["id"]) == ("function", "c")


@pytest.mark.parametrize(
    "text",
    [
        '{"ssn":"5551212","ssn":"5551212"}',
        '{"ssn":"5551212","a":NaN}',
        '{"ssn":"5551212',
        '{"ssn":"5551212","a":tr',
        '[{"ssn":"5551212"},',
    ],
)
def test_what_only_a_careless_reader_takes_for_json_is_masked_whole(text: str) -> None:
    made = asked(chat(m=text), rule("$..ssn"))
    assert message(made.body)["m"] == "[FIELD]"
    made = asked(chat(m=text), rule("$..ssn", "block"))
    assert message(made.body)["m"] == "[FIELD]"  # nobody can say that it is there


@pytest.mark.parametrize(
    "text", ["[1] as the first one says", "{", "[", "{not json}", "[Note] see below", "tell me {x}"]
)
def test_what_is_no_json_is_text(text: str) -> None:
    assert message(asked(chat(m=text), rule("$..ssn")).body)["m"] == text


def test_json_in_json_in_json() -> None:
    text: Any = {"ssn": "5551212", "a": 1}
    for _ in range(3):
        text = json.dumps({"in": text})
    made = asked(chat(m=text), rule("$..ssn"))
    assert b"5551212" not in made.body
    deeper = json.dumps({"in": text})
    assert b"5551212" not in asked(chat(m=deeper), rule("$..ssn")).body


def test_names_of_members() -> None:
    body = chat(m={"555-1212": {"a b": 1}, "555-3434": 2, "ssn": "219-09-9999"})
    made = asked(body, rule("$..m.*~"), rule("$..m.*.*~", "hash"))
    said = message(made.body)["m"]
    assert list(said) == ["[FIELD]", "[FIELD]_2", "[FIELD]_3"]
    assert next(iter(said["[FIELD]"])).startswith("[FIELD:")
    assert said["[FIELD]_3"] == "[US_SSN]"  # the name still says what the value is
    assert b"555" not in made.body
    assert message(asked(body, rule("$.messages..*~")).body)["role"] == "user"  # what a protocol needs keeps its name


@pytest.mark.parametrize("path", ["$..m", "$..m.n", "$..deep.a", "$..m.*~"])
def test_what_blocks(path: str) -> None:
    body = chat(m={"n": 5, "t": json.dumps({"deep": {"a": 1}})})
    assert asked(body, rule(path, "block", name="SECRET_PLAN")).blocked == ("SECRET_PLAN",)
    assert asked(body, rule(path, "block"), rule("$..m", "drop")).blocked == ("FIELD",)  # the stricter of both
    assert asked(body, rule("$..nothing", "block")).blocked == ()


def test_what_is_looked_at_for_a_block_goes_as_a_whole() -> None:
    body = chat(m={"a": "x", "t": json.dumps({"b": "y"})}, n=json.dumps({"c": "z"}))
    for path, action in (("$..m", "drop"), ("$..n", "mask")):
        made = asked(body, rule(path, action), rule("$..nothing", "block"))
        assert [(one.channel, one.action.value) for one in made.removals] == [(f"/messages/0/{path[-1]}", action)]
        assert (made.blocked, made.coverage.excluded_bytes) == ((), 0)


def test_what_says_nothing_does_not_block() -> None:
    assert (
        asked(chat(m=None, n="", o=[]), rule("$..m", "block"), rule("$..n", "block"), rule("$..o", "block")).blocked
        == ()
    )


# Included and excluded -----------------------------------------------------------------------------------------------


def test_what_is_excluded_is_not_scanned_and_that_is_told() -> None:
    body = chat(m={"a": MAIL, "b": [MAIL, 5551212]}, n=MAIL)
    made = asked(body, rule("$..m", "exclude"))
    assert message(made.body)["m"] == body["messages"][0]["m"]
    assert message(made.body)["n"] == "[EMAIL]"
    assert made.coverage.excluded_bytes == 2 * len(MAIL) + len("5551212")
    assert asked(body, rule("$.messages[*].m", "exclude")).coverage == made.coverage
    assert asked(body).coverage.excluded_bytes == 0


def test_within_what_is_excluded_a_stricter_rule_counts() -> None:
    body = chat(m={"a": MAIL, "b": {"c": MAIL}, "j": json.dumps({"c": "5551212", "d": MAIL})})
    made = asked(body, rule("$..m", "exclude"), rule("$..c"))
    said = message(made.body)["m"]
    assert said == {
        "a": MAIL,
        "b": {"c": "[FIELD]"},
        "j": json.dumps({"c": "[FIELD]", "d": MAIL}, separators=(",", ":")),
    }


def test_only_what_is_included_passes() -> None:
    body = {**chat(name="Bob", m={"a": {"b": 1, "c": 2}}), "temperature": 1, "user": "bob", "stream": False}
    made = asked(body, rule("$.messages[*].content", "include"), rule("$..a.b", "include"))
    assert b"smuggled" not in asked({**body, "id": "smuggled"}, rule("$..content", "include")).body
    assert json.loads(made.body) == {
        "model": "demo",
        "messages": [{"role": "user", "content": "hello", "m": {"a": {"b": 1}}}],
        "stream": False,
    }
    assert {(one.rule, one.action) for one in made.removals} == {("field:include", Action.DROP)}


def test_what_is_included_is_scanned_and_may_be_masked() -> None:
    made = asked(chat(content=MAIL, a="x"), rule("$..content", "include"), rule("$..a", "include"), rule("$..a"))
    assert message(made.body) == {"role": "user", "content": "[EMAIL]", "a": "[FIELD]"}


def test_a_word_that_is_no_role_is_left_out() -> None:
    body = {"model": "demo", "messages": [{"role": "my number is 5551212", "content": "hello"}]}
    made = asked(body, rule("$..content", "include"))
    assert message(made.body) == {"content": "hello"}


# Two hands -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("theirs", "left"), [("exclude", "[FIELD]"), ("partial", "[FIELD]"), ("mask", "[FIELD]"), ("drop", None)]
)
def test_a_decision_cannot_undo_what_its_connection_says(theirs: str, left: str | None) -> None:
    made = asked(chat(m="5551212 wxyz"), rule("$..m", theirs), connection=(rule("$.messages[*].m"),))
    assert message(made.body).get("m") == left
    [removal] = made.removals
    assert removal.version == ("decision" if theirs == "drop" else "connection")


def test_who_includes_does_not_undo_what_another_includes() -> None:
    made = asked(
        chat(a=1, b=2, c=3), rule("$..a", "include"), rule("$..b", "include"),
        connection=(rule("$.messages[*].b", "include"), rule("$..c", "include")),
    )  # fmt: skip
    assert message(made.body) == {"role": "user", "b": 2}


def test_lines_for_entities_count_beside() -> None:
    inspection = GATE.inspect(CONNECTION, "POST", "/v1/chat/completions", JSON, wire(chat(m=MAIL, n=MAIL)))
    allow = RedactionRule("EMAIL", Action.ALLOW)
    field = lines(Direction.REQUEST, rule("$..m"))
    made = GATE.redact_request(inspection, (allow, *field))
    assert (message(made.body)["m"], message(made.body)["n"]) == ("[FIELD]", MAIL)


def test_without_a_field_the_same_body_goes_on() -> None:
    body = wire(chat(m=[1, {"a": "b"}]))
    plain, fielded = asked(body), asked(body, rule("$..nothing"))
    assert (plain.body, plain.coverage, plain.removals) == (fielded.body, fielded.coverage, fielded.removals)


# Answers -------------------------------------------------------------------------------------------------------------

CONTENT = "$.choices[*].message.content"
ANSWER = {
    "id": "a1", "object": "chat.completion", "model": "demo",
    "choices": [{
        "index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "one two three"},
        "logprobs": {"content": [{"token": "one", "bytes": [111, 110, 101], "logprob": -1.5, "top_logprobs": []}]},
    }],
    "usage": {"prompt_tokens": 5, "completion_tokens": 7},
}  # fmt: skip


def test_an_answer() -> None:
    made = answered(ANSWER, rule(CONTENT))
    said = json.loads(made.body)
    assert said["choices"][0]["message"] == {"role": "assistant", "content": "[FIELD]"}
    assert said["choices"][0]["logprobs"] is None  # its tokens say the same once more
    assert [one.rule for one in made.removals] == ["field:1", "field:logprobs"]
    assert (made.usage.output_tokens, made.finish_reasons, made.model_served) == (7, ("stop",), "demo")


def test_a_whole_message_can_go_and_the_frame_stays() -> None:
    made = answered(ANSWER, rule("$.choices"))
    said = json.loads(made.body)
    assert (said["choices"][0]["index"], said["choices"][0]["finish_reason"]) == (0, "stop")
    assert said["choices"][0]["message"] == {"role": "assistant", "content": "[FIELD]"}
    assert (made.usage.output_tokens, made.finish_reasons) == (7, ("stop",))


def test_an_answer_that_is_plain_text() -> None:
    assert answered(b"hello", rule("$..a"), headers=TEXT).body == b"hello"
    assert answered(b"hello", rule("$..a", "include"), headers=TEXT).body == b""
    assert answered(b'{"a":"5551212"}', rule("$..a"), headers=TEXT).body == b'{"a":"[FIELD]"}'
    assert answered("hello", rule("$..a", "include"), protocol="generic").body == b'""'


# Streams -------------------------------------------------------------------------------------------------------------


def finished(*events: Any) -> bytes:
    last = {"object": "chat.completion.chunk", "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}
    return stream(*events, last, "[DONE]")


def content(out: bytes) -> str:
    said = [one["choices"][0]["delta"].get("content", "") for one in events_of(out) if isinstance(one, dict)]
    return "".join(said)


@pytest.mark.parametrize(
    "path", [CONTENT, "$.choices[*].delta.content", "$.choices[0]..content", "$.choices[*].message"]
)
@pytest.mark.parametrize("size", [1, 7, 1 << 20])
def test_a_streamed_answer_goes_by_the_same_path(path: str, size: int) -> None:
    out, piece, told = streamed(finished(*deltas("one ", "two ", "three")), rule(path), size=size)
    assert content(out) == "[FIELD]"
    assert piece.unreadable is None
    assert [(one.start, one.end, one.rule) for one in told.removals] == [(0, 13, "field:1")]
    assert told.finish_reasons == ("stop",)


@pytest.mark.parametrize(
    "given",
    [
        {"action": "mask"}, {"action": "mask", "keep": "length"}, {"action": "mask", "keep": "email"},
        {"action": "mask", "keep": "date"}, {"action": "hash"}, {"action": "partial"}, {"action": "exclude"}, {"action": "include"},
    ],
)  # fmt: skip
@pytest.mark.parametrize("text", ["06.05.1984", "one two three " + MAIL, "short", ""])
def test_a_stream_says_what_the_whole_answer_says(given: dict[str, str], text: str) -> None:
    whole = {**ANSWER, "choices": [{"index": 0, "message": {"role": "assistant", "content": text}}]}
    wanted = json.loads(answered(whole, {"path": CONTENT, **given}).body)["choices"][0]["message"]["content"]
    for parts in (text, [text], [text[:3], text[3:]]):
        out, _, told = streamed(finished(*deltas(*parts)), {"path": CONTENT, **given}, size=5)
        assert content(out) == wanted
        assert told.coverage.excluded_bytes == (len(text) if given["action"] == "exclude" else 0)


def test_what_is_dropped_of_a_stream_is_an_empty_text() -> None:
    out, _, told = streamed(finished(*deltas("one ", "two")), rule(CONTENT, "drop"))
    assert content(out) == ""
    assert [one.action for one in told.removals] == [Action.DROP]


@pytest.mark.parametrize("path", ["$..account", "$.content[*].text.account", "$.content[7].text", "$.usage.account"])
@pytest.mark.parametrize("size", [7, 1 << 20])
def test_blocks_go_on_where_a_rule_may_lead_into_them(path: str, size: int) -> None:
    said = ["mail bob@exa", "mple.org now", '{"account": "12"}', "and ann@exa", "mple.org"]
    events = [event for at, text in enumerate(said) for event in blocks(*text.partition(" "), index=at)]
    out, piece, told = streamed(stream(*events), rule(path), protocol="anthropic.messages", size=size)
    assert piece.unreadable is None
    passed = ["".join(one["delta"]["text"] for one in events_of(out) if one["index"] == at) for at in range(5)]
    masked = "account" in path and "usage" not in path
    assert passed == [
        "mail bob@exa", "[EMAIL] now", '{"account":"[FIELD]"}' if masked else said[2], "and ann@exa", "[EMAIL]",
    ]  # fmt: skip
    assert [(one.start, one.end) for one in told.removals if one.entity == "EMAIL"] == [(0, 8), (0, 8)]


def test_a_stream_ends_where_a_rule_blocks() -> None:
    out, piece, told = streamed(finished(*deltas("", "one ", "two")), rule(CONTENT, "block", name="PLAN"), size=1)
    assert piece.blocked == told.blocked == ("PLAN",)
    assert b"one" not in out
    extra = {"choices": [{"index": 0, "delta": {"content": "x"}}], "internal": {"n": 5}}
    out, piece, told = streamed(finished(extra), rule("$.internal.n", "block"))
    assert piece.blocked == ("FIELD",)
    assert b"internal" not in out


def calls(arguments: str, cut: int) -> list[Any]:
    parts = [arguments[at : at + cut] for at in range(0, len(arguments), cut)]
    return [
        {"choices": [{"index": 0, "delta": {"tool_calls": [
            {"index": 0, "type": "function", "function": {"name": "f", "arguments": part}},
        ]}}]}
        for part in parts
    ]  # fmt: skip


def arguments(out: bytes) -> str:
    said = [one["choices"][0]["delta"].get("tool_calls") for one in events_of(out) if isinstance(one, dict)]
    return "".join(one[0]["function"].get("arguments", "") for one in said if one)


@pytest.mark.parametrize("cut", [1, 3, 100])
@pytest.mark.parametrize("size", [9, 1 << 20])
def test_streamed_arguments_are_reached(cut: int, size: int) -> None:
    at = "$.choices[*].message.tool_calls[*].function.arguments"
    rules = (rule(f"{at}.ssn"), rule(f"{at}.count", "drop"), rule(f"{at}.deep.born", keep="date"))
    out, _, told = streamed(finished(*calls(json.dumps(ARGUMENTS), cut)), *rules, size=size)
    assert json.loads(arguments(out)) == {"ssn": "[FIELD]", "deep": {"mail": "[EMAIL]", "born": "01.01.1900"}}
    assert sorted(one.entity for one in told.removals) == ["EMAIL", "FIELD", "FIELD", "FIELD"]
    assert {one.channel.rpartition("/")[0] for one in told.removals if one.entity == "EMAIL"} == {
        "/choices/0/delta/tool_calls/0/function/arguments/deep"
    }


def test_arguments_that_were_cut_off_are_masked_whole() -> None:
    at = "$.choices[*].message.tool_calls[*].function.arguments"
    out, piece, told = streamed(stream(*calls('{"a": 1, "ssn": "5551212', 4)), rule(f"{at}.ssn"))
    assert arguments(out) == "[FIELD]"
    assert piece.unreadable is None
    assert told.removals[0].end == 24


def test_json_without_end_ends_the_stream() -> None:
    body = finished(*deltas("[", *(['"' + "a" * 1000 + '",'] * 300)))
    out, piece, _ = streamed(body, rule("$..ssn"), size=1 << 16)
    assert piece.unreadable == "stream_json_too_large"
    assert b"aaa" not in out


def test_an_answer_in_json_is_reached_and_another_does_not_wait() -> None:
    text = json.dumps({"person": {"born": "06.05.1984", "name": "x"}})
    out, _, _ = streamed(finished(*deltas(*text)), rule("$..born", keep="date"))
    assert json.loads(content(out)) == {"person": {"born": "01.01.1900", "name": "x"}}
    out, _, _ = streamed(stream(*deltas("Once upon ", "a time ", "there was")), rule("$..born"))
    assert events_of(out)[0]["choices"][0]["delta"]["content"]


def test_members_of_events_that_are_no_text() -> None:
    first = {
        "id": "c",
        "choices": [{"index": 0, "delta": {"content": "hi"}}],
        "extra": {"n": 5, "who": 7, "b": True},
    }
    out, _, told = streamed(finished(first), rule("$.extra.n", "drop"), rule("$.extra.b"), rule("$.extra.*~"))
    assert events_of(out)[0]["extra"] == {"[FIELD]": 7, "[FIELD]_2": None}
    assert len(told.removals) == 5


def test_one_choice_of_several() -> None:
    events = [
        {"choices": [{"index": 1, "delta": {"content": "second "}}]},
        {"choices": [{"index": 0, "delta": {"content": "first "}}]},
        {"choices": [{"index": 1, "delta": {"content": "again"}}]},
    ]
    out, _, _ = streamed(stream(*events, "[DONE]"), rule("$.choices[1].message.content"))
    assert b"first" in out
    assert b"second" not in out
    assert b"again" not in out


@pytest.mark.parametrize("path", ["$..plan", "$..plan.*", "$.body.*.plan"])
def test_a_text_under_a_name_that_is_masked(path: str) -> None:
    """The event's reader knows it by its masked name, the rule by its own."""
    event = {"body": {MAIL: {"plan": "attack at dawn"}, "other@example.org": {"plan": {"a": "and at noon"}}}}
    more = {"body": {MAIL: {"plan": " or at dusk"}}}
    out, piece, _ = streamed(wire(event) + b"\n" + wire(more) + b"\n", rule(path), headers=NDJSON, protocol="generic")
    assert piece.unreadable is None
    assert b"noon" not in out
    assert (b"dawn" in out) == (path == "$..plan.*")
    assert (b"dusk" in out) == (path == "$..plan.*")
    assert b"bob.planted" not in out


def test_texts_of_events_that_nobody_says_are_in_pieces() -> None:
    """They are masked as both: as the whole that each may be, and as the text that they make together."""
    person = json.dumps({"ssn": "5551212", "a": 1})
    lines = [{"t": "first"}, {"t": person}, {"t": person.replace("a", "ssn")}]
    out, piece, told = streamed(
        b"".join(wire(one) + b"\n" for one in lines), rule("$..ssn"), headers=NDJSON, protocol="generic"
    )
    assert piece.unreadable is None
    assert b"5551212" not in out
    assert [one.end for one in told.removals] == [7, len(person) + 2]
    out, _, told = streamed(wire({"t": person}) + b"\n", rule("$..ssn", "hash"), headers=NDJSON, protocol="generic")
    whole = answered({"t": person}, rule("$..ssn", "hash"), protocol="generic")
    assert "".join(json.loads(line)["t"] for line in out.splitlines()) == json.loads(whole.body)["t"]
    assert len(told.removals) == 1
    lines = [{"t": '{"a":1,"b":2}'}, {"t": "and more"}]
    out, _, _ = streamed(
        b"".join(wire(one) + b"\n" for one in lines), rule("$.t.a", "include"), headers=NDJSON, protocol="generic"
    )
    assert "".join(json.loads(line)["t"] for line in out.splitlines()) == '{"a":1}'


def test_text_parts_in_a_row_are_not_moved_into_each_other() -> None:
    """Where a value spans several, the scan puts all into the first: not what a rule is about."""
    parts = [{"text": "bob.planted", "a": 1}, {"text": "@example.org"}, {"text": "secret plan"}]
    event = {"choices": [{"index": 0, "delta": {"content": "x"}}], "parts": parts}
    out, _, _ = streamed(finished(event), rule("$.parts[1].text"), rule("$.parts[2].text"))
    assert b"secret plan" not in out
    assert b"example.org" not in out


@pytest.mark.parametrize("path", ["$.content[*].text", "$.content[0].text", "$.delta.text"])
def test_anthropics_streams(path: str) -> None:
    out, _, told = streamed(
        stream(
            {
                "type": "message_start",
                "message": {"id": "m", "type": "message", "role": "assistant", "content": [], "model": "demo"},
            },
            {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
            {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "one two "}},
            {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "three"}},
            {"type": "content_block_stop", "index": 0},
            {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 3}},
            {"type": "message_stop"},
        ),
        rule(path),
        protocol="anthropic.messages",
    )
    said = [one["delta"]["text"] for one in events_of(out) if one["type"] == "content_block_delta"]
    assert "".join(said) == "[FIELD]"
    assert (told.usage.output_tokens, told.finish_reasons) == (3, ("end_turn",))


def test_anthropics_tool_input() -> None:
    text = json.dumps(ARGUMENTS)
    out, _, _ = streamed(
        stream(
            {"type": "content_block_start", "index": 1, "content_block": {"type": "tool_use", "id": "t", "name": "f", "input": {}}},
            *({"type": "content_block_delta", "index": 1, "delta": {"type": "input_json_delta", "partial_json": part}} for part in text),
            {"type": "content_block_stop", "index": 1},
            {"type": "message_stop"},
        ),
        rule("$.content[*].input.ssn"), rule("$..born", keep="date"), rule("$.content[1].input.count", "drop"),
        protocol="anthropic.messages",
    )  # fmt: skip
    said = [one["delta"]["partial_json"] for one in events_of(out) if one["type"] == "content_block_delta"]
    assert json.loads("".join(said)) == {"ssn": "[FIELD]", "deep": {"mail": "[EMAIL]", "born": "01.01.1900"}}


@pytest.mark.parametrize("given", [{"action": "mask"}, {"action": "hash"}, {"action": "partial"}, {"action": "drop"}])
def test_responses_say_it_thrice(given: dict[str, str]) -> None:
    text = "one two three"
    part = {"type": "output_text", "text": text, "annotations": []}
    item = {"id": "i", "type": "message", "role": "assistant", "status": "completed", "content": [part]}
    of = {"item_id": "i", "output_index": 0, "content_index": 0}
    answer = {
        "id": "r",
        "object": "response",
        "model": "demo",
        "status": "completed",
        "output": [item],
        "usage": {"output_tokens": 3},
    }
    events = [
        {"type": "response.created", "response": {**answer, "status": "in_progress", "output": []}},
        {"type": "response.output_item.added", "output_index": 0, "item": {**item, "content": []}},
        *({"type": "response.output_text.delta", **of, "delta": piece} for piece in ("one ", "two ", "three")),
        {"type": "response.output_text.done", **of, "text": text},
        {"type": "response.content_part.done", **of, "part": part},
        {"type": "response.output_item.done", "output_index": 0, "item": item},
        {"type": "response.completed", "response": answer},
    ]
    out, piece, told = streamed(
        stream(*events), {"path": "$.output[*].content[*].text", **given}, protocol="openai.responses"
    )
    assert piece.unreadable is None
    assert b"three" not in out
    assert b"two" not in out
    said = events_of(out)
    whole = json.loads(
        answered(answer, {"path": "$.output[*].content[*].text", **given}, protocol="openai.responses").body
    )
    wanted = whole["output"][0]["content"][0].get("text", "")
    assert "".join(one["delta"] for one in said if one["type"].endswith(".delta")) == wanted
    assert said[-1]["response"]["output"][0]["content"][0]["text"] == wanted
    assert told.usage.output_tokens == 3


def test_responses_arguments() -> None:
    text = json.dumps(ARGUMENTS)
    item = {"id": "i", "type": "function_call", "name": "f", "arguments": text, "status": "completed"}
    of = {"item_id": "i", "output_index": 0}
    events = [
        {"type": "response.output_item.added", "output_index": 0, "item": {**item, "arguments": ""}},
        *({"type": "response.function_call_arguments.delta", **of, "delta": piece} for piece in text),
        {"type": "response.function_call_arguments.done", **of, "arguments": text},
        {"type": "response.output_item.done", "output_index": 0, "item": item},
    ]
    out, _, _ = streamed(
        stream(*events), rule("$.output[*].arguments.ssn"), rule("$..born", keep="date"), protocol="openai.responses"
    )
    said = events_of(out)
    wanted = {"ssn": "[FIELD]", "count": 5, "deep": {"mail": "[EMAIL]", "born": "01.01.1900"}}
    assert json.loads("".join(one["delta"] for one in said if one["type"].endswith(".delta"))) == wanted
    assert json.loads(said[-1]["item"]["arguments"]) == wanted


@pytest.mark.parametrize("size", [1, 1 << 20])
def test_lines_of_json(size: int) -> None:
    events = [
        {"model": "demo", "message": {"role": "assistant", "content": part}, "n": 5, "done": part == "x"}
        for part in ("one ", "two", "x")
    ]
    body = b"".join(wire(one) + b"\n" for one in events)
    out, _, _ = streamed(
        body, rule("$.message.content"), rule("$.n", "drop"), headers=NDJSON, protocol="generic", size=size
    )
    said = [json.loads(line) for line in out.splitlines()]
    assert "".join(one["message"]["content"] for one in said) == "[FIELD]"
    assert all("n" not in one for one in said)


def test_only_what_is_included_passes_of_a_stream() -> None:
    first = {
        "id": "c",
        "choices": [{"index": 0, "delta": {"role": "assistant", "content": "hello", "reasoning": "why"}}],
        "extra": 5,
    }
    out, _, _ = streamed(finished(first), rule(CONTENT, "include"))
    assert content(out) == "hello"
    assert b"why" not in out
    assert b"extra" not in out
    assert events_of(out)[0]["choices"][0]["delta"]["role"] == "assistant"
    raw = b"data: some words\n\n"
    assert b"words" not in streamed(raw, rule("$..a", "include"), protocol="generic")[0]
    assert b"words" in streamed(raw, rule("$..a"), protocol="generic")[0]


@pytest.mark.parametrize("blanks", [[], [""], [" ", "\n"]], ids=["none", "empty", "some"])
@pytest.mark.parametrize("then", ["", " ", "x", '{"account":"12345678"}'])
@pytest.mark.parametrize("action", ["mask", "hash", "partial", "drop"])
def test_json_in_a_piece_of_unknown_text_is_masked_once(action: str, then: str, blanks: list[str]) -> None:
    """Whatever came before it that says nothing: its values go by their rule, not what became of them."""
    text = '{"account":"12345678","mail":"bob@example.org"}'
    raw = b"".join(b"data: " + wire({"note": part}) + b"\n\n" for part in (*blanks, text, then))
    one = rule("$..account", action)
    out, _, made = streamed(raw, one, protocol="generic")
    once = answered({"note": text}, one, protocol="generic")
    said = "".join(event["note"] for event in events_of(out))
    assert said.startswith("".join(blanks) + json.loads(once.body)["note"])
    assert "12345678" not in said
    told = [(of.entity, of.rule, of.end) for of in made.removals]
    of_then = [("FIELD", "field:1", 8)] if "account" in then else []
    assert sorted(told) == sorted([*((of.entity, of.rule, of.end) for of in once.removals), *of_then])


def responses_stream(*parts: str, arguments: str = '{"account":"12345678"}') -> tuple[bytes, dict[str, Any]]:
    """A stream of the Responses API, whose events say every text three times more; and the whole answer."""
    message: dict[str, Any] = {"type": "message", "id": "m1", "role": "assistant", "status": "completed", "note": "a"}
    message["content"] = [{"type": "output_text", "text": "".join(parts), "annotations": []}]
    call = {"type": "function_call", "id": "f1", "call_id": "c1", "name": "pay", "arguments": arguments}
    whole = {"id": "r1", "object": "response", "status": "completed", "model": "demo", "output": [message, call]}
    at = {"item_id": "m1", "output_index": 0, "content_index": 0}
    of = {"item_id": "f1", "output_index": 1}
    begun = {**message, "content": [], "status": "in_progress"}
    events = [
        {"type": "response.created", "response": {**whole, "status": "in_progress", "output": []}},
        {"type": "response.output_item.added", "output_index": 0, "item": begun},
        {"type": "response.content_part.added", **at, "part": {"type": "output_text", "text": "", "annotations": []}},
        *({"type": "response.output_text.delta", **at, "delta": part} for part in parts),
        {"type": "response.output_text.done", **at, "text": "".join(parts)},
        {"type": "response.content_part.done", **at, "part": message["content"][0]},
        {"type": "response.output_item.done", "output_index": 0, "item": message},
        {"type": "response.output_item.added", "output_index": 1, "item": {**call, "arguments": ""}},
        *({"type": "response.function_call_arguments.delta", **of, "delta": one} for one in arguments),
        {"type": "response.function_call_arguments.done", **of, "arguments": arguments},
        {"type": "response.output_item.done", "output_index": 1, "item": call},
        {"type": "response.completed", "response": whole},
    ]
    said = (wire({**one, "sequence_number": number}) for number, one in enumerate(events))
    return b"".join(b"data: " + one + b"\n\n" for one in said), whole


@pytest.mark.parametrize(
    ("rules", "of_events"),
    [
        ((rule("$.output[*].content[*].text", "include"), rule("$.output[*].arguments", "include")), {"/item_id"}),
        ((rule("$.output[*].content[*].text"),), set()),
        ((rule("$.output[*].content[*].text", "hash"), rule("$.output[*].note", "drop")), set()),
        ((rule("$.output[*].arguments.account"),), set()),
        ((rule("$.output[*].arguments", "drop"),), set()),
    ],
    ids=["include", "mask", "hash and drop", "in arguments", "arguments"],
)
def test_a_field_that_a_stream_says_again_counts_once(rules: tuple[Any, ...], of_events: set[str]) -> None:
    """As in the whole answer; what only events have counts once too."""
    raw, whole = responses_stream("Hello ", "my name ", "is bob ", "and on.")
    _, piece, made = streamed(raw, *rules, protocol="openai.responses")
    assert piece.unreadable is None
    told = Counter((one.entity, one.rule, one.action) for one in made.removals if one.channel not in of_events)
    expected = answered(whole, *rules, protocol="openai.responses").removals
    assert told == Counter((one.entity, one.rule, one.action) for one in expected)
    for path in of_events:
        assert len([one for one in made.removals if one.channel == path]) == 1


def test_a_field_that_is_first_said_at_the_end_counts() -> None:
    """An empty delta came before: no masker of its tells of the text."""
    raw, _ = responses_stream("")
    events = [json.loads(line[6:]) for line in raw.split(b"\n\n") if line]
    events[-1]["response"]["output"][0]["content"][0]["text"] = "late"
    late = b"".join(b"data: " + wire(one) + b"\n\n" for one in events)
    out, _, made = streamed(late, rule("$.output[*].content[*].text"), protocol="openai.responses")
    assert b"late" not in out
    assert [(one.rule, one.end) for one in made.removals] == [("field:1", 4)]


def test_a_stream_that_comes_whole_is_read_as_one() -> None:
    made = answered(finished(*deltas("one ", "two")), rule(CONTENT), headers=SSE)
    assert content(made.body) == "[FIELD]"
    assert made.decoded
    assert made.coverage.forwarded_bytes == len(made.body)
