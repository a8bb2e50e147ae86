"""Field rules as authors write them: what a path means, and where the refusal of a bad one points."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ext_proc.model import Direction, FieldAction, FieldStep, Keep
from ext_proc.policy.field_rules import BadFieldRule, parse_path, read_rule, read_rules

ANY = FieldStep()


def step(name: str, *, is_deep: bool = False) -> FieldStep:
    return FieldStep(name, is_deep=is_deep)


@pytest.mark.parametrize(
    ("path", "steps", "is_key"),
    [
        ("$.a", [step("a")], False),
        ("$.messages[*].content", [step("messages"), ANY, step("content")], False),
        ("$['x-y'][\"it's\"]", [step("x-y"), step("it's")], False),
        ("$..ssn", [step("ssn", is_deep=True)], False),
        ("$.a..*", [step("a"), FieldStep(is_deep=True)], False),
        ("$.a..[*]", [step("a"), FieldStep(is_deep=True)], False),
        ("$.a..[3]", [step("a"), FieldStep(index=3, is_deep=True)], False),
        ("$.a..['b c']", [step("a"), step("b c", is_deep=True)], False),
        ("$.a.*", [step("a"), ANY], False),
        ("$[0]", [FieldStep(index=0)], False),
        ("$.a[12]", [step("a"), FieldStep(index=12)], False),
        ("$.a.*~", [step("a"), ANY], True),
        ("$.a['b']~", [step("a"), step("b")], True),
    ],
)
def test_a_path(path: str, steps: list[FieldStep], is_key: bool) -> None:
    assert parse_path(path) == (tuple(steps), is_key)


@pytest.mark.parametrize(
    ("path", "at", "what"),
    [
        ("", 1, "begins with $"),
        ("messages", 1, "begins with $"),
        ("$", 2, "the whole body"),
        ("$~", 2, "~ stands at the end"),
        ("$a", 2, "a step begins with"),
        ("$.", 3, "a name of letters"),
        ("$..", 4, "a name of letters"),
        ("$...a", 4, "a name of letters"),
        ("$.x-y", 4, "go in brackets"),
        ("$.1a", 3, "a name of letters"),
        ("$.é", 3, "go in brackets"),
        ("$.a b", 4, "go in brackets"),
        ("$[", 3, "in brackets"),
        ("$[0", 4, "] is missing"),
        ("$[01]", 4, "] is missing"),
        ("$[1234567]", 9, "] is missing"),
        ("$[-1]", 3, "from the end"),
        ("$[0,1]", 4, "one rule for each"),
        ("$[0:2]", 4, "one rule for each"),
        ("$[?@.a]", 3, "no filters"),
        ("$['a]", 3, "quotes are not closed"),
        (r"$['a\'b']", 3, "backslash"),
        ("$['']", 3, "1 to 64"),
        ("$.a~.b", 4, "~ stands at the end"),
        ("$.a[*]~b", 7, "~ stands at the end"),
        ("$." + "a" * 65, 3, "1 to 64"),
        ("$" + ".a" * 17, 36, "at most 16 steps"),
    ],
)
def test_a_bad_path_is_refused_where_it_is_bad(path: str, at: int, what: str) -> None:
    with pytest.raises(BadFieldRule) as caught:
        parse_path(path)
    assert f"character {at}: " in str(caught.value)
    assert what in str(caught.value)


def test_a_path_is_bounded() -> None:
    with pytest.raises(BadFieldRule, match="at most 256"):
        parse_path("$" + "['" + "a" * 300 + "']")


def test_a_rule() -> None:
    value = {"path": "$..birth", "action": "mask", "keep": "date", "name": "BIRTH_DATE"}
    rule = read_rule(value, Direction.REQUEST, "decision", 3)
    assert (rule.action, rule.keep, rule.entity) == (FieldAction.MASK, Keep.DATE, "BIRTH_DATE")
    assert (rule.rule, rule.source, rule.is_key) == ("field:BIRTH_DATE", "decision", False)
    plain = read_rule({"path": "$.a.*~", "action": "hash"}, Direction.REQUEST, "connection", 3)
    assert (plain.entity, plain.rule, plain.is_key, plain.keep) == ("FIELD", "field:3", True, Keep.NONE)


GOOD = {"path": "$.a", "action": "mask"}


@pytest.mark.parametrize(
    ("value", "what"),
    [
        (None, "must have path and action"),
        ([], "must have path and action"),
        ({"path": "$.a"}, "must have path and action"),
        ({**GOOD, "why": "so"}, "nothing else"),
        ({**GOOD, "path": 1}, "path must be a text"),
        ({**GOOD, "path": "a"}, "begins with"),
        ({**GOOD, "action": "allow"}, "action must be one of mask"),
        ({**GOOD, "action": ["mask"]}, "action must be one of"),
        ({**GOOD, "keep": "phone"}, "keep must be one of none, date"),
        ({**GOOD, "keep": None}, "keep must be"),
        ({**GOOD, "name": "birth"}, "capitals"),
        ({**GOOD, "name": None}, "capitals"),
        ({**GOOD, "action": "hash", "keep": "date"}, "with the action mask only"),
        ({"path": "$.a.*~", "action": "drop"}, "name of a member"),
        ({"path": "$.a.*~", "action": "include"}, "name of a member"),
        ({"path": "$.a.*~", "action": "mask", "keep": "date"}, "name of a member"),
    ],
)
def test_a_bad_rule_is_refused_by_its_number(value: Any, what: str) -> None:
    with pytest.raises(BadFieldRule, match="rule 7: ") as caught:
        read_rule(value, Direction.REQUEST, "decision", 7)
    assert what in str(caught.value)


@pytest.mark.parametrize("action", ["mask", "hash", "drop", "partial", "block"])
@pytest.mark.parametrize(
    ("path", "direction"),
    [
        ("$.model", Direction.REQUEST),
        ("$['model']", Direction.REQUEST),
        ("$.stream", Direction.REQUEST),
        ("$..model", Direction.REQUEST),
        ("$.*", Direction.REQUEST),
        ("$..*", Direction.RESPONSE),
        ("$.usage", Direction.RESPONSE),
        ("$..model", Direction.RESPONSE),
    ],
)
def test_what_no_call_works_without_is_refused(path: str, direction: Direction, action: str) -> None:
    with pytest.raises(BadFieldRule, match="must stay"):
        read_rule({"path": path, "action": action}, direction, "decision", 1)


@pytest.mark.parametrize(
    ("path", "direction"),
    [("$.usage", Direction.REQUEST), ("$.stream", Direction.RESPONSE), ("$.messages..model", Direction.REQUEST)],
)
def test_elsewhere_the_same_names_are_fields(path: str, direction: Direction) -> None:
    assert read_rule({"path": path, "action": "drop"}, direction, "decision", 1).steps


def test_a_model_may_be_kept_from_the_scan_or_listed() -> None:
    for action in ("include", "exclude"):
        assert read_rule({"path": "$.model", "action": action}, Direction.REQUEST, "decision", 1)


def test_so_many_rules_and_no_more() -> None:
    assert len(read_rules([GOOD] * 64, Direction.REQUEST, "connection")) == 64
    with pytest.raises(BadFieldRule, match="65 rules"):
        read_rules([GOOD] * 65, Direction.REQUEST, "connection")


@settings(deadline=None)
@given(st.text(alphabet="$.[]*'\"~0123-?:,ab_ \\é", max_size=30))
def test_any_text_is_a_path_or_is_refused_in_words(text: str) -> None:
    said, steps = "", ()
    try:
        steps, _ = parse_path(text)
    except BadFieldRule as bad:
        said = str(bad)
    assert ("character " in said) != bool(1 <= len(steps) <= 16 and text.startswith("$"))
