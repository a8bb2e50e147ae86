"""Decisions: one shape is one; the published schema agrees with the code about every example here."""

from __future__ import annotations

import copy
import json
from dataclasses import replace
from typing import Any

import jsonschema
import pytest

from ext_proc.errors import PolicyUndefined
from ext_proc.model import Action, ApprovalTerms, PolicyVersion, RedactionRule
from ext_proc.policy.decision import read_decision
from tests.fakes.policy import ROOT

VERSION = PolicyVersion("sha256:ab", "cd")
DECISION_SCHEMA = json.loads((ROOT / "opa" / "schemas" / "decision.json").read_text())
APPROVAL = {
    "groups": ["approvers"],
    "count": 1,
    "valid_seconds": 900,
    "within_seconds": 60,
    "reason": "Risky.",
}
GOOD: dict[str, Any] = {
    "allow": True,
    "reasons": [],
    "redact": {
        "request": [{"entity": "*", "action": "mask"}],
        "response": [{"entity": "EMAIL", "action": "hash"}],
    },
    "approval": None,
    "record": {"payloads": True},
}


def changed(path: str, value: Any) -> dict[str, Any]:
    whole = copy.deepcopy(GOOD)
    *parents, last = path.split("/")
    target = whole
    for name in parents:
        target = target[name]
    target[last] = value
    return whole


def agrees(answer: Any) -> bool:
    return bool(jsonschema.Draft7Validator(DECISION_SCHEMA).is_valid(answer))


def test_allow() -> None:
    decision = read_decision(GOOD, "d-1", VERSION)
    assert decision.allow
    assert decision.redact_request == (RedactionRule("*", Action.MASK),)
    assert decision.redact_response == (RedactionRule("EMAIL", Action.HASH),)
    assert (decision.approval, decision.record_payloads) == (None, True)
    assert (decision.decision_id, decision.policy) == ("d-1", VERSION)
    assert agrees(GOOD)


def test_tokens() -> None:
    answer = changed("redact/request", [{"entity": "EMAIL", "action": "tokenise"}])
    answer["redact"]["restore"] = ["EMAIL", "*"]
    decision = read_decision(answer, "d-1", VERSION)
    assert decision.redact_request == (RedactionRule("EMAIL", Action.TOKENISE),)
    assert decision.restore == ("EMAIL", "*")
    assert read_decision(GOOD, "d-1", VERSION).restore == ()
    assert agrees(answer)


def test_deny_with_reasons() -> None:
    answer = {**GOOD, "allow": False, "reasons": ["secret_in_prompt", "a.b-c_1"]}
    decision = read_decision(answer, "d-1", VERSION)
    assert not decision.allow
    assert decision.reasons == ("secret_in_prompt", "a.b-c_1")
    assert agrees(answer)


def test_approval() -> None:
    terms = ApprovalTerms(("approvers",), 1, 900, 60, "Risky.")
    for told, wanted in (
        (APPROVAL, terms),
        ({**APPROVAL, "clear_to": ["leads"]}, replace(terms, clear_to=("leads",))),
        ({**APPROVAL, "clear_to": []}, terms),
    ):
        answer = {**GOOD, "approval": told}
        assert read_decision(answer, "d-1", VERSION).approval == wanted
        assert agrees(answer)


def test_break_glass() -> None:
    answer = {**GOOD, "break_glass": "emergency"}
    assert read_decision(answer, "d-1", VERSION).break_glass == "emergency"
    assert read_decision(GOOD, "d-1", VERSION).break_glass is None
    assert agrees(answer)
    assert agrees(GOOD)


def each(path: str, *values: Any) -> list[Any]:
    return [changed(path, value) for value in values]


WRONG: list[Any] = [
    None,
    True,
    1,
    "allow",
    [],
    [GOOD],
    {},
    {"allow": True},
    {**GOOD, "extra": 1},
    *({name: value for name, value in GOOD.items() if name != left} for left in GOOD),
    *each("allow", 1, 0, "true", None, [], {}, [True]),
    *each("reasons", None, "x", {}, ["Bad"], [1], [None], ["a" * 65], ["a"] * 65, [""]),
    *each("redact", None, [], {}, {"request": []}, {**GOOD["redact"], "both": []}, {"request": [], "restore": []}),
    *each("redact/restore", None, "*", {}, [1], ["email"], [["EMAIL"]], [{"entity": "EMAIL"}], ["E"] * 65),
    changed("redact/response", [{"entity": "EMAIL", "action": "tokenise"}]),
    *each(
        "redact/request",
        None,
        {},
        ["EMAIL"],
        [{}],
        [{"entity": "EMAIL"}],
        [{"entity": "EMAIL", "action": "mask", "why": ""}],
        [{"entity": "email", "action": "mask"}],
        [{"entity": 1, "action": "mask"}],
        [{"entity": "EMAIL", "action": "Mask"}],
        [{"entity": "EMAIL", "action": None}],
        [{"entity": "EMAIL", "action": ["mask"]}],
        [{"entity": f"E{n}", "action": "mask"} for n in range(65)],
        [{"path": "$.a"}],
        [{"path": "$.a", "action": "allow"}],
        [{"path": "$.a", "action": "mask", "why": ""}],
        [{"path": "$.a", "entity": "EMAIL", "action": "mask"}],
        [{"path": "a", "action": "mask"}],
        [{"path": "$", "action": "mask"}],
        [{"path": "$.x-y", "action": "mask"}],
        [{"path": "$[-1]", "action": "mask"}],
        [{"path": "$[?@.a]", "action": "mask"}],
        [{"path": "$" + ".a" * 17, "action": "mask"}],
        [{"path": "$['" + "a" * 256 + "']", "action": "mask"}],
        [{"path": 1, "action": "mask"}],
        [{"path": "$.a", "action": "mask", "keep": "phone"}],
        [{"path": "$.a", "action": "hash", "keep": "date"}],
        [{"path": "$.a.*~", "action": "drop"}],
        [{"path": "$.a.*~", "action": "mask", "keep": "date"}],
        [{"path": "$.a", "action": "mask", "name": "case"}],
        [{"path": "$.a", "action": "mask"}] * 65,
    ),
    *each("record", None, True, {}, {"payloads": 1}, {"payloads": True, "more": 1}),
    *each("approval", False, [], {}, "approvers", {**APPROVAL, "more": 1}),
    *each("break_glass", None, True, "", "Not a code", ["emergency"]),
    {**GOOD, "break_glass": "emergency", "approval": APPROVAL},
    {**GOOD, "break_glass": "emergency", "allow": False, "reasons": ["no"]},
    *(
        changed("approval", {**APPROVAL, name: value})
        for name, value in (
            ("groups", []),
            ("groups", "approvers"),
            ("groups", [1]),
            ("groups", [""]),
            ("groups", ["g"] * 65),
            ("groups", ["g" * 513]),
            ("clear_to", None),
            ("clear_to", "leads"),
            ("clear_to", [""]),
            ("clear_to", ["g"] * 65),
            ("count", 17),
            ("within_seconds", 30 * 24 * 3600 + 1),
            ("count", 0),
            ("count", True),
            ("count", "1"),
            ("valid_seconds", -1),
            ("within_seconds", 1.5),
            ("reason", None),
            ("reason", "x" * 513),
        )
    ),
]


@pytest.mark.parametrize("answer", WRONG)
def test_anything_else_is_no_decision(answer: Any) -> None:
    with pytest.raises(PolicyUndefined):
        read_decision(answer, "d-1", VERSION)
    assert not agrees(answer)


def test_lines_for_fields() -> None:
    lines = [
        {"entity": "*", "action": "mask"},
        {"path": "$.messages..birth_date", "action": "mask", "keep": "date", "name": "BIRTH_DATE"},
        {"path": "$.messages[*]['x-y']", "action": "drop"},
        {"path": "$.messages[*]['x-y']", "action": "exclude"},
        {"path": "$.metadata.*~", "action": "hash", "keep": "none"},
    ]
    answer = changed("redact/request", lines)
    decision = read_decision(answer, "d-1", VERSION)
    assert agrees(answer)
    first, *others = decision.redact_request
    assert first == RedactionRule("*", Action.MASK)
    assert [one.field and (one.field.rule, one.field.source) for one in others] == [
        ("field:BIRTH_DATE", "decision"), ("field:3", "decision"), ("field:4", "decision"), ("field:5", "decision"),
    ]  # fmt: skip
    assert {one.entity for one in others} == {""}  # no entity is called so


@pytest.mark.parametrize(
    ("direction", "path"),
    [
        ("request", "$.model"),
        ("request", "$..stream"),
        ("request", "$.*"),
        ("response", "$.usage"),
        ("response", "$..*"),
    ],
)
def test_no_decision_takes_what_no_call_works_without(direction: str, path: str) -> None:
    with pytest.raises(PolicyUndefined, match="redact_field"):
        read_decision(changed(f"redact/{direction}", [{"path": path, "action": "drop"}]), "d-1", VERSION)


def test_two_lines_for_one_entity_are_no_decision() -> None:
    twice = [{"entity": "EMAIL", "action": "mask"}, {"entity": "EMAIL", "action": "allow"}]
    with pytest.raises(PolicyUndefined):
        read_decision(changed("redact/response", twice), "d-1", VERSION)


def test_an_allow_with_reasons_against_it_is_no_decision() -> None:
    with pytest.raises(PolicyUndefined, match="allow_with_reasons"):
        read_decision({**GOOD, "reasons": ["secret_in_prompt"]}, "d-1", VERSION)
    assert not read_decision({**GOOD, "allow": False, "reasons": []}, "d-1", VERSION).allow


@pytest.mark.parametrize("decision_id", ["", "d" * 129, "d 1", "d\n", "d\x00", "\ud800", "ä", "d\x7f"])
def test_a_decision_id_that_a_record_has_no_room_for(decision_id: str) -> None:
    with pytest.raises(PolicyUndefined, match="decision_id"):
        read_decision(GOOD, decision_id, VERSION)
    assert len(read_decision(GOOD, "d" * 128, VERSION).decision_id) == 128


def test_no_content_is_told() -> None:
    with pytest.raises(PolicyUndefined) as caught:
        read_decision(changed("reasons", ["Planted value"]), "d-1", VERSION)
    assert "Planted" not in str(caught.value)
