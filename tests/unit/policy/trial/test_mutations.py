"""`mutations`: every field is spoiled, in one place at a time, and what is given stays as it is."""

from __future__ import annotations

import copy
from typing import Any

from ext_proc.policy.trial.mutations import MANY, mutants, omissions, shown
from ext_proc.policy.trial.schema import question_schema
from tests.fakes.policies import chat


def _leaves(value: Any, path: tuple[Any, ...] = ()) -> dict[tuple[Any, ...], Any]:
    if isinstance(value, dict) and value:
        return {at: one for name, inner in value.items() for at, one in _leaves(inner, (*path, name)).items()}
    return {path: repr(value)}


def test_every_field_is_left_out_and_mistyped() -> None:
    asked = chat()
    left_out = {mutant.field for mutant in mutants(asked) if mutant.change == "left out"}
    mistyped = {mutant.field for mutant in mutants(asked) if mutant.change == "an object" and mutant.is_malformed}

    for section, schema in question_schema()["properties"].items():
        assert section in left_out
        for name in schema.get("required", ()):
            assert f"{section}.{name}" in left_out
            if name != "parameters":
                assert f"{section}.{name}" in mistyped


def test_one_place_at_a_time_and_a_copy() -> None:
    asked = chat(findings={"EMAIL": 1})
    before = copy.deepcopy(asked)

    for mutant in mutants(asked):
        changed = _leaves(mutant.of(asked)).items() ^ _leaves(asked).items()
        steps = tuple(step for step in mutant.path if not isinstance(step, int))
        assert changed, mutant
        assert all(path[: len(steps)] == steps or steps[: len(path)] == path for path, _ in changed), mutant
    assert asked == before


def test_what_the_caller_leaves_out_is_no_less() -> None:
    """A limit that nobody asked for, an entity that was not found: other facts, not less of them."""
    fields = {(mutant.field, mutant.change) for mutant in mutants(chat(findings={"EMAIL": 1}))}

    assert ("request.parameters.max_tokens", "left out") not in fields
    assert ("findings.EMAIL", "left out") not in fields
    assert ("request.parameters.tool_count", "left out") in fields  # the gate counts
    assert ("request.model", "an unknown word") in fields


def test_what_a_caller_may_leave_out() -> None:
    asked = chat()
    [one] = omissions(asked)

    assert (one.field, one.is_malformed) == ("request.parameters.max_tokens", False)
    assert "max_tokens" not in one.of(asked)["request"]["parameters"]
    assert "max_tokens" in asked["request"]["parameters"]


def test_more_than_there_can_be() -> None:
    many = {mutant.field for mutant in mutants(chat(findings={"EMAIL": 1})) if mutant.value == MANY}

    assert {"request.body_bytes", "request.text_bytes", "findings.EMAIL", "request.parameters.max_tokens"} <= many


def test_names() -> None:
    assert shown(("identity", "groups", 0)) == "identity.groups[]"
