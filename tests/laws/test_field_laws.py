"""Laws: what a field rule leads to never passes, whatever the body; and a stream says what the whole answer says."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ext_proc.model import Direction
from ext_proc.policy.field_rules import read_rule
from tests.unit.app.exchange.bodies import NDJSON, events_of, stream, wire
from tests.unit.app.exchange.fields import answered, asked, rule, streamed

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ext_proc.model import FieldStep

LAW = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])

NAMES = ("a", "b", "x-y", "ssn", "content")
STEPS = (".a", ".b", ".ssn", "['x-y']", "[*]", ".*", "[0]", "[1]", "..a", "..ssn", "..*", "..[0]", ".content")
ACTIONS = ("mask", "hash", "drop")  # `partial` shows something of a value, and is no help here

_ODD = "_of_a_string"
leaves = st.sampled_from(["text", "number", "flag", "nothing"])
trees = st.recursive(
    leaves,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(NAMES), inner, max_size=3)
        | st.fixed_dictionaries(
            {_ODD: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(NAMES), inner, max_size=2)}
        )
    ),
    max_leaves=10,
)
paths = st.lists(st.sampled_from(STEPS), min_size=1, max_size=3).map(lambda steps: "$.messages" + "".join(steps))


class Planter:
    """Gives every leaf a value that stands nowhere else, and knows where each of them is."""

    def __init__(self, levels: int = 3) -> None:
        self.levels = levels  # JSON in strings in JSON: deeper it is not read, and masked whole
        self.planted: dict[str, tuple[str | int, ...]] = {}

    def made(self, tree: Any, place: tuple[str | int, ...], depth: int = 0) -> Any:
        if isinstance(tree, dict) and _ODD in tree:
            inner = tree[_ODD]
            is_read = depth < self.levels
            made = self.made(inner, place, depth + is_read)
            return json.dumps(made) if is_read else made
        if isinstance(tree, dict):
            return {key: self.made(inner, (*place, key), depth) for key, inner in tree.items()}
        if isinstance(tree, list):
            return [self.made(inner, (*place, at), depth) for at, inner in enumerate(tree)]
        return self._leaf(tree, place)

    def _leaf(self, kind: str, place: tuple[str | int, ...]) -> Any:
        number = 701 + len(self.planted)  # below a thousand: no rule of the scan is that short
        if kind == "text":
            self.planted[f"v{number}q"] = place
            return f"v{number}q"
        if kind == "number":
            self.planted[str(number)] = place
            return number
        return True if kind == "flag" else None


def leads(steps: tuple[FieldStep, ...], place: tuple[str | int, ...]) -> bool:
    """By the book (RFC 9535), and as slow as it likes: do the steps lead to this place?"""
    if not steps or not place:
        return not steps and not place
    step, here = steps[0], place[0]
    is_here = (step.name is None and step.index is None) or here == (step.index if step.name is None else step.name)
    return (is_here and leads(steps[1:], place[1:])) or (step.is_deep and leads(steps, place[1:]))


def is_under(path: str, place: tuple[str | int, ...]) -> bool:
    """Does the path lead to the place, or to something that it is in?"""
    steps = read_rule(rule(path), Direction.REQUEST, "decision", 1).steps
    return any(leads(steps, place[:length]) for length in range(1, len(place) + 1))


def strings(value: Any) -> Iterator[str]:
    """Every text and number, of JSON in strings too."""
    if isinstance(value, dict):
        for inner in value.values():
            yield from strings(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from strings(inner)
    elif isinstance(value, str) and value[:1] in ("{", "["):
        try:
            yield from strings(json.loads(value))
        except ValueError:
            yield value  # a placeholder
    elif value is not None and not isinstance(value, bool):
        yield str(value)


@LAW
@given(trees, st.lists(st.tuples(paths, st.sampled_from(ACTIONS)), min_size=1, max_size=3))
def test_what_a_rule_leads_to_never_passes_and_all_else_does(tree: Any, rules: list[tuple[str, str]]) -> None:
    planter = Planter()
    body = {"model": "demo", "messages": planter.made([tree], ("messages",))}
    made = asked(body, *(rule(path, action) for path, action in rules))
    left = set(strings(json.loads(made.body)))
    for value, place in planter.planted.items():
        is_named = any(is_under(path, place) for path, _ in rules)
        assert (value in left) != is_named, (value, place)
        assert not is_named or value not in made.body.decode()
    assert {one.rule for one in made.removals} <= {f"field:{number}" for number in range(1, 4)}


@LAW
@given(trees, st.lists(paths, min_size=1, max_size=2))
def test_what_is_included_passes_and_nothing_else(tree: Any, lists: list[str]) -> None:
    planter = Planter()
    body = {"model": "demo", "messages": planter.made([tree], ("messages",))}
    made = asked(body, *(rule(path, "include") for path in lists))
    left = set(strings(json.loads(made.body)))
    for value, place in planter.planted.items():
        assert (value in left) == any(is_under(path, place) for path in lists), (value, place)


@LAW
@given(trees, paths, paths)
def test_a_decision_undoes_nothing_of_its_connection(tree: Any, theirs: str, ours: str) -> None:
    planter = Planter()
    body = {"model": "demo", "messages": planter.made([tree], ("messages",))}
    made = asked(body, rule(theirs, "exclude"), connection=(rule(ours),))
    left = set(strings(json.loads(made.body)))
    assert not any(value in left and is_under(ours, place) for value, place in planter.planted.items())


GIVEN = st.sampled_from(
    [
        {"action": "mask"}, {"action": "mask", "keep": "length"}, {"action": "mask", "keep": "date"},
        {"action": "hash"}, {"action": "partial"}, {"action": "exclude"}, {"action": "include"},
    ]
)  # fmt: skip
TEXTS = st.text(alphabet="ab1.@ \n-", max_size=20) | st.sampled_from(
    ["06.05.1984", "write to bob.planted@example.org now", ""]
)


def cut(text: str, at: list[int]) -> list[str]:
    ends = sorted({min(one, len(text)) for one in at} | {len(text)})
    begins = [0, *ends[:-1]]
    return [text[begin:end] for begin, end in zip(begins, ends, strict=True)]


def said(out: bytes, *keys: str) -> str:
    found = []
    for event in events_of(out):
        value: Any = event["choices"][0]["delta"] if isinstance(event, dict) else {}
        for key in keys:
            value = value.get(key) if isinstance(value, dict) else value[0].get(key) if value else None
        found.append(value or "")
    return "".join(found)


@LAW
@given(TEXTS, st.lists(st.integers(0, 40), max_size=4), st.integers(1, 60), GIVEN)
def test_a_streamed_text_is_the_whole_ones(text: str, at: list[int], size: int, what: dict[str, str]) -> None:
    told = {"path": "$.choices[*].message.content", **what}
    message = {"role": "assistant", "content": text}
    whole = answered({"choices": [{"index": 0, "message": message}]}, told)
    wanted = json.loads(whole.body)["choices"][0]["message"]["content"]
    events = [{"choices": [{"index": 0, "delta": {"content": part}}]} for part in cut(text, at)]
    out, piece, _ = streamed(stream(*events, "[DONE]"), told, size=size)
    assert piece.unreadable is None
    assert said(out, "content") == wanted


@LAW
@given(
    trees,
    st.lists(st.sampled_from(STEPS), min_size=1, max_size=2),
    st.sampled_from([*ACTIONS, "partial"]),
    st.lists(st.integers(0, 200), max_size=6),
    st.integers(1, 200),
)
def test_streamed_arguments_are_the_whole_ones(
    tree: Any, steps: list[str], action: str, at: list[int], size: int
) -> None:
    planter = Planter(levels=2)
    text = json.dumps(planter.made({"a": tree, "b": [tree]}, ()))
    told = rule("$.choices[*].message.tool_calls[*].function.arguments" + "".join(steps), action)
    call = {"index": 0, "function": {"name": "f", "arguments": text}}
    whole = answered({"choices": [{"index": 0, "message": {"tool_calls": [call]}}]}, told)
    wanted = json.loads(whole.body)["choices"][0]["message"]["tool_calls"][0]["function"]["arguments"]
    events = [
        {"choices": [{"index": 0, "delta": {"tool_calls": [{"index": 0, "function": {"arguments": part}}]}}]}
        for part in cut(text, at)
    ]
    out, piece, _ = streamed(stream(*events, "[DONE]"), told, size=size)
    assert piece.unreadable is None
    assert json.loads(said(out, "tool_calls", "function", "arguments")) == json.loads(wanted)


@LAW
@given(
    st.lists(trees, min_size=1, max_size=3),
    st.lists(st.sampled_from(STEPS), min_size=1, max_size=2),
    st.sampled_from(ACTIONS),
    st.integers(1, 300),
)
def test_events_of_any_kind(some: list[Any], steps: list[str], action: str, size: int) -> None:
    planter = Planter()
    events = [{"model": "demo", "body": planter.made(tree, ("body",))} for tree in some]
    path = "$.body" + "".join(steps)
    body = b"".join(wire(event) + b"\n" for event in events)
    out, piece, told = streamed(body, rule(path, action), headers=NDJSON, protocol="generic", size=size)
    assert piece.unreadable is None
    for line in out.splitlines():
        json.loads(line)
    for value, place in planter.planted.items():
        if is_under(path, place):
            assert value not in out.decode()
    assert out == streamed(body, rule(path, action), headers=NDJSON, protocol="generic")[0]
    assert told.coverage.forwarded_bytes == len(out)
