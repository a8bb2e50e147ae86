"""Two answers held against each other: every field that differs, and what it means for people."""

from __future__ import annotations

from typing import Any

import pytest

from ext_proc.policy.differing import EFFECTS, contradictions, differences, effects

TERMS = {"groups": ["g"], "count": 1, "valid_seconds": 9, "within_seconds": 9, "reason": "r"}


def answer(**changes: Any) -> dict[str, Any]:
    made = {
        "allow": True, "reasons": [], "approval": None, "record": {"payloads": True},
        "redact": {"request": [{"entity": "*", "action": "mask"}], "response": [{"entity": "*", "action": "mask"}]},
    }  # fmt: skip
    return {**made, **changes}


def masking(*request: tuple[str, str], **more: Any) -> dict[str, Any]:
    rules = [{"entity": entity, "action": action} for entity, action in request]
    return {"request": rules, "response": [{"entity": "*", "action": "mask"}], **more}


FIELD = {"path": "$.messages..birth_date", "action": "mask"}
CHANGES: dict[str, tuple[dict[str, Any], Any, tuple[str, ...]]] = {
    "denied": (answer(), answer(allow=False, reasons=["x"]), ("newly_denied",)),
    "allowed": (answer(allow=False, reasons=["x"]), answer(), ("newly_allowed",)),
    "held": (answer(), answer(approval=TERMS), ("newly_held",)),
    "allowed and held": (answer(allow=False, reasons=["x"]), answer(approval=TERMS), ("newly_allowed", "newly_held")),
    "not held": (answer(approval=TERMS), answer(), ("no_longer_held",)),
    "denied, not held": (answer(approval=TERMS), answer(allow=False), ("newly_denied",)),
    "unmasked": (answer(), answer(redact=masking()), ("newly_unmasked",)),
    "one unmasked": (answer(), answer(redact=masking(("*", "mask"), ("EMAIL", "allow"))), ("newly_unmasked",)),
    "all but one": (answer(), answer(redact=masking(("EMAIL", "mask"))), ("newly_unmasked",)),
    "masked": (answer(redact=masking()), answer(), ("newly_masked",)),
    "both": (
        answer(redact=masking(("EMAIL", "mask"))),
        answer(redact=masking(("IBAN", "mask"))),
        ("newly_unmasked", "newly_masked"),
    ),
    "another way": (answer(), answer(redact=masking(("*", "hash"))), ("otherwise",)),
    "a field": (
        answer(redact={"request": [FIELD], "response": []}), answer(redact={"request": [], "response": []}), ("newly_unmasked",)
    ),
    "given back": (answer(), answer(redact=masking(("*", "mask"), restore=["EMAIL"])), ("newly_unmasked",)),
    "given back as before": (
        answer(redact=masking(("*", "mask"), restore=["*"])),
        answer(redact=masking(("*", "mask"), restore=["EMAIL"])),
        ("otherwise",),
    ),
    "unmasked, but denied": (answer(), answer(allow=False, redact=masking()), ("newly_denied",)),
    "other reasons": (answer(allow=False, reasons=["x"]), answer(allow=False, reasons=["y"]), ("otherwise",)),
    "undefined": (answer(), None, ("no_decision",)),
    "no decision": (answer(), answer(allow="yes"), ("no_decision",)),
    "a field more": (answer(), answer(more=1), ("no_decision",)),
    "the same": (answer(), answer(), ()),
}  # fmt: skip


@pytest.mark.parametrize(("before", "now", "expected"), CHANGES.values(), ids=CHANGES)
def test_what_it_means(before: Any, now: Any, expected: tuple[str, ...]) -> None:
    assert effects(before, now, ["EMAIL"]) == expected
    assert set(expected) <= set(EFFECTS)
    assert bool(differences(before, now)) == bool(expected), "an effect is a difference and the other way round"


def test_each_field() -> None:
    before = answer()
    now = answer(allow=False, redact=masking(restore=["*"]), record={"payloads": False}, new=1)
    assert {one.field: (one.before, one.now) for one in differences(before, now)} == {
        "allow": (True, False),
        "redact.request": ([{"entity": "*", "action": "mask"}], []),
        "redact.restore": ("absent", ["*"]),
        "record.payloads": (True, False),
        "new": ("absent", 1),
    }
    [allow] = differences(answer(allow=True), answer(allow=1))
    assert allow.field == "allow", "1 is not true"


def test_an_answer_that_is_none() -> None:
    assert [(one.field, one.now) for one in differences(answer(), None)] == [("decision", "absent")]
    assert differences(None, None) == ()


def test_a_leaf_and_its_answer() -> None:
    leaf = {"allow": True, "reasons": [], "approval_required": False, "bundle_digest": "d"}
    assert contradictions(leaf, answer()) == ()
    assert [one.field for one in contradictions(leaf, answer(allow=False))] == ["allow"]
    assert [one.field for one in contradictions(leaf, answer(approval=TERMS))] == ["approval_required"]
    assert [one.field for one in contradictions(leaf, answer(break_glass="x"))] == ["break_glass"]
    assert len(contradictions({}, {})) == 1
