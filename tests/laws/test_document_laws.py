"""Laws of documents: every string is looked at once, what comes out is of the shape that went in, pieces make no difference."""

from __future__ import annotations

import json
from itertools import count, pairwise
from typing import Any

from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from ext_proc.errors import BadBody
from ext_proc.protocols import read_request, read_response
from ext_proc.protocols.answer_keys import refuse_ambiguous_answer, refuse_ambiguous_event
from ext_proc.protocols.document import Document
from ext_proc.protocols.json_text import JsonError, parse, render
from tests.unit.app.exchange.bodies import JSON, NDJSON, SSE, blocks, deltas, events_of, request, response, stream, wire
from tests.unit.redaction.samples import texts as trapped

texts = trapped.filter(lambda text: text.isascii() or not any(0xD800 <= ord(char) < 0xE000 for char in text))
scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(10**18), 10**18)
    | st.floats(allow_nan=False, allow_infinity=False)
    | texts
)
NAMES = ("text", "content", "messages", "delta", "choices", "logprobs", "token", "bytes", "top_logprobs", "tokens", "index", "type", "message", "arguments", "function", "tool_calls", "input", "metadata", "password", "partial_json", "content_block")  # fmt: skip
keys = st.sampled_from(NAMES) | texts
trees = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(keys, inner, max_size=4), max_leaves=16
)
objects = st.dictionaries(keys, trees, max_size=5)
protocols = st.sampled_from(("openai.chat", "openai.completions", "openai.models", "anthropic.messages", "generic"))

token = st.fixed_dictionaries({"token": texts}, optional={"bytes": st.lists(st.integers(0, 255), max_size=3), "top_logprobs": st.lists(st.fixed_dictionaries({"token": texts}), max_size=2)})  # fmt: skip
delta = st.fixed_dictionaries({}, optional={"content": texts, "role": texts, "refusal": texts, "extra": trees, "tool_calls": st.lists(st.fixed_dictionaries({"index": st.integers(0, 2)}, optional={"function": st.fixed_dictionaries({}, optional={"name": texts, "arguments": texts})}), max_size=2)})  # fmt: skip
choice = st.fixed_dictionaries({}, optional={"index": st.integers(0, 2), "delta": delta, "text": texts, "message": trees, "logprobs": st.fixed_dictionaries({}, optional={"content": st.lists(token, max_size=2), "tokens": st.lists(texts, max_size=3), "top_logprobs": st.lists(st.dictionaries(texts, st.just(-0.5), max_size=2), max_size=3)})})  # fmt: skip
openai_events = st.fixed_dictionaries({"id": texts}, optional={"choices": st.lists(choice, max_size=2), "x": trees})
anthropic_events = st.fixed_dictionaries({"type": st.sampled_from(("content_block_start", "content_block_delta", "message_start"))}, optional={"index": st.integers(0, 2), "delta": st.fixed_dictionaries({}, optional={"text": texts, "thinking": texts, "signature": texts, "partial_json": texts, "x": trees}), "content_block": st.fixed_dictionaries({}, optional={"text": texts, "input": trees}), "message": trees})  # fmt: skip
events = st.lists(openai_events | anthropic_events | trees, min_size=1, max_size=5)
ASKED = Document("generic", "generic", b"", bytes)


def marked(tree: Any, numbers: Any, found: list[str]) -> Any:
    """The tree with each of its strings made one of a kind; keys that protocols know keep their names."""
    if isinstance(tree, dict):
        made = {}
        for key, value in tree.items():
            name = (
                key
                if key in NAMES or key in ("id", "x", "extra", "role", "refusal", "signature", "thinking")
                else f"q{next(numbers)}q"
            )
            if name != key:
                found.append(name)
            made[name] = marked(value, numbers, found)
        return made
    if isinstance(tree, list):
        return [marked(value, numbers, found) for value in tree]
    if isinstance(tree, str):
        found.append(f"q{next(numbers)}q")
        return found[-1]
    return tree


@settings(deadline=None)
@given(trees)
def test_what_is_written_reads_the_same(tree: Any) -> None:
    assert parse(render(tree)) == tree


PLAIN = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"))
odd_numbers = st.sampled_from([1e-7, 1e16, 1.5e300, -0.0, 5e-324, 0.1, 2**63, -(2**70), 10**30])
odd_trees = st.recursive(
    scalars | odd_numbers,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=16,
)


@settings(deadline=None)
@given(odd_trees)
def test_the_fast_writer_writes_what_the_plain_one_does(tree: Any) -> None:
    document = read_response("generic", ASKED, 200, JSON, json.dumps(tree).encode(), 10**6)
    assert document.rewritten({}) == PLAIN.encode(tree).encode()


@settings(deadline=None)
@given(st.text(max_size=30) | trees.map(json.dumps))
def test_what_is_read_writes_and_reads_the_same(text: str) -> None:
    try:
        value = parse(text)
    except JsonError:
        return
    assert parse(render(value)) == value


@settings(deadline=None)
@given(st.binary(max_size=40) | trees.map(wire), protocols)
def test_any_bytes_are_read_or_refused(body: bytes, protocol: str) -> None:
    if protocol == "openai.models":
        return
    try:
        made = read_request(protocol, JSON, body)
    except BadBody:
        return
    assert parse(made.rewritten({}).decode()) == parse(body.decode())


def assume_plain(protocol: str, *bodies: Any, of: Any = refuse_ambiguous_answer) -> None:
    """Leave out what is refused, as other readers could take it for another answer."""
    try:
        for body in bodies:
            of(protocol, body)
    except JsonError:
        assume(False)


def looked_at(document: Document, names: list[str]) -> None:
    whole = [channel.text for channel in document.channels]
    together = "\0".join(whole)
    for name in names:
        assert together.count(name) == 1, name


@settings(max_examples=200, deadline=None)
@given(trees, protocols)
def test_every_string_of_an_answer_is_in_one_channel(tree: Any, protocol: str) -> None:
    names: list[str] = []
    body = marked(tree, count(), names)
    assume_plain(protocol, body)
    looked_at(read_response(protocol, ASKED, 200, JSON, wire(body), 1 << 20), names)


@settings(max_examples=300, deadline=None)
@given(events, protocols)
def test_every_string_of_a_stream_is_in_one_channel(made: list[Any], protocol: str) -> None:
    names: list[str] = []
    numbers = count()
    bodies = [marked(one, numbers, names) for one in made]
    assume_plain(protocol, *bodies, of=refuse_ambiguous_event)
    looked_at(read_response(protocol, ASKED, 200, SSE, stream(*map(json.dumps, bodies)), 1 << 20), names)
    looked_at(
        read_response(protocol, ASKED, 200, NDJSON, b"".join(wire(one) + b"\n" for one in bodies), 1 << 20), names
    )


@settings(max_examples=200, deadline=None)
@given(objects, protocols.filter(lambda one: one != "openai.models"))
def test_every_string_of_a_request_is_in_one_channel(tree: Any, protocol: str) -> None:
    names: list[str] = []
    body = marked(tree, count(), names)
    looked_at(read_request(protocol, JSON, wire(body)), names)


def same_shape(one: Any, other: Any) -> bool:
    """Same lists and objects; texts and long numbers may have become other texts, keys other keys."""
    if isinstance(one, dict):
        return isinstance(other, dict) and len(one) == len(other) and all(map(same_shape, one.values(), other.values()))
    if isinstance(one, list):
        return isinstance(other, list) and len(one) == len(other) and all(map(same_shape, one, other))
    return isinstance(other, str) or (type(one) is type(other) and one == other)


def keys_of(body: bytes, headers: Any = JSON) -> list[str]:
    """Keys, those of nested JSON too. One that was masked says other things about its value than before."""
    channels = read_response("generic", ASKED, 200, headers, body, 1 << 20).channels
    return [channel.text for channel in channels if channel.kind == "key"]


def fields(tree: Any) -> dict[str, Any]:
    """A request's fields, less those that are read as labels."""
    return {f"x{at}{key}": value for at, (key, value) in enumerate(tree.items())}


@settings(max_examples=300, deadline=None)
@given(objects.map(fields))
def test_a_masked_request_has_the_shape_of_the_request(tree: Any) -> None:
    made = request(tree)
    after = json.loads(made.body)
    assert same_shape(tree, after)
    if not made.removals:
        assert after == tree
    again = request(after)
    if keys_of(wire(tree)) == keys_of(made.body):
        assert again.removals == ()
        assert json.loads(again.body) == after


@settings(max_examples=200, deadline=None)
@given(trees, protocols)
def test_a_masked_answer_settles(tree: Any, protocol: str) -> None:
    assume_plain(protocol, tree)
    once = response(tree, protocol)
    again = response(once.body, protocol)
    assert (again.removals, again.body) == ((), once.body) or keys_of(wire(tree)) != keys_of(once.body)


@settings(max_examples=200, deadline=None)
@example([{"id": "0"}, {"id": "call @@@passport Ym9iQGV4YW1wbGUuY29t@00001.00"}], "openai.chat")
@given(events, protocols)
def test_a_masked_stream_settles_and_keeps_its_events(made: list[Any], protocol: str) -> None:
    assume_plain(protocol, *made, of=refuse_ambiguous_event)
    body = stream(*map(json.dumps, made), "[DONE]")
    once = response(body, protocol, SSE)
    assert len(events_of(once.body)) == len(made) + 1
    again = response(once.body, protocol, SSE)
    assert (again.removals, again.body) == ((), once.body) or keys_of(body, SSE) != keys_of(once.body, SSE)


def cut(text: str, places: list[int]) -> list[str]:
    ends = [0, *sorted(place % (len(text) + 1) for place in places), len(text)]
    return [text[begin:end] for begin, end in pairwise(ends)]


places = st.lists(st.integers(0, 10**6), max_size=12)


@settings(max_examples=300, deadline=None)
@given(texts, places, places)
def test_cutting_a_stream_differently_makes_no_difference(text: str, one: list[int], other: list[int]) -> None:
    def chat(parts: list[str]) -> str:
        out = response(stream(*deltas(*parts), "[DONE]"), "openai.chat", SSE)
        return "".join(event["choices"][0]["delta"]["content"] for event in events_of(out.body)[:-1])

    def messages(parts: list[str], kind: str, key: str) -> str:
        out = response(stream(*blocks(*parts, kind=kind), names=True), "anthropic.messages", SSE)
        return "".join(event["delta"][key] for event in events_of(out.body))

    assert chat(cut(text, one)) == chat(cut(text, other)) == chat([text])
    assert messages(cut(text, one), "text", "text") == messages(cut(text, other), "text", "text")
    assert messages(cut(text, one), "thinking", "thinking") == messages([text], "thinking", "thinking")


@settings(max_examples=200, deadline=None)
@given(objects, places, st.booleans())
def test_tool_arguments_stay_json(arguments: Any, where: list[int], is_ascii: bool) -> None:
    said = json.dumps(arguments, ensure_ascii=is_ascii)
    parts = cut(said, where)
    chunks = [
        {"choices": [{"index": 0, "delta": {"tool_calls": [{"index": 0, "function": {"arguments": part}}]}}]}
        for part in parts
    ]
    out = response(stream(*chunks), "openai.chat", SSE)
    joined = "".join(
        one["choices"][0]["delta"]["tool_calls"][0]["function"]["arguments"] for one in events_of(out.body)
    )
    whole = response({"choices": [{"message": {"tool_calls": [{"function": {"name": "f", "arguments": said}}]}}]})
    plain = json.loads(whole.body)["choices"][0]["message"]["tool_calls"][0]["function"]["arguments"]
    block = response(stream(*blocks(*parts, kind="input_json"), names=True), "anthropic.messages", SSE)
    inputs = "".join(one["delta"]["partial_json"] for one in events_of(block.body))
    assert same_shape(arguments, json.loads(joined))
    assert joined == plain == inputs
