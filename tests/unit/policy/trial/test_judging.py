"""`judging`: weaker is weaker, and stricter is not."""

from __future__ import annotations

from typing import Any

import pytest

from ext_proc.policy.trial.judging import TEXTS, decision_of, shows, weaker

_TERMS: dict[str, Any] = {"groups": ["a", "b"], "count": 2, "valid_seconds": 60, "within_seconds": 60, "reason": "R"}


def _answer(**changes: Any) -> dict[str, Any]:
    return {
        "allow": True,
        "reasons": [],
        "redact": {"request": [{"entity": "EMAIL", "action": "hash"}], "response": []},
        "approval": None,
        "record": {"payloads": True},
        **changes,
    }


def _redact(*request: tuple[str, str], **more: Any) -> dict[str, Any]:
    lines = [{"entity": entity, "action": action} for entity, action in request]
    return _answer(redact={"request": lines, "response": [], **more})


DENIED = _answer(allow=False, reasons=["no"])
HELD = _answer(approval=_TERMS)
FIELD = {"path": "$.a", "action": "mask"}


@pytest.mark.parametrize(
    ("before", "after", "kind"),
    [
        (DENIED, _answer(), "deny_became_allow"),
        (None, _answer(), "deny_became_allow"),
        ("garbage", HELD, "deny_became_allow"),
        (HELD, _answer(), "approval_lost"),
        (HELD, _answer(approval={**_TERMS, "count": 1}), "approval_lost"),
        (HELD, _answer(approval={**_TERMS, "groups": ["a", "c"]}), "approval_lost"),
        (HELD, _answer(approval={**_TERMS, "clear_to": ["a"]}), "approval_lost"),
        (HELD, _answer(break_glass="emergency"), "approval_lost"),
        (_answer(), _redact(("EMAIL", "allow")), "unmasked"),
        (_answer(), _redact(("EMAIL", "partial")), "unmasked"),
        (_answer(), _redact(("EMAIL", "hash"), ("*", "allow")), "unmasked"),
        (_answer(), _redact(("EMAIL", "hash"), restore=["EMAIL"]), "unmasked"),
        (_answer(redact={"request": [FIELD], "response": []}), _redact(), "unmasked"),
        (_answer(), _answer(record={"payloads": False}), "less_recorded"),
    ],
)
def test_weaker(before: Any, after: Any, kind: str) -> None:
    assert weaker(decision_of(before), decision_of(after)) == kind
    assert kind in TEXTS


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (_answer(), _answer()),
        (_answer(), DENIED),
        (_answer(), None),
        (DENIED, DENIED),
        (_answer(), HELD),
        (HELD, _answer(approval={**_TERMS, "groups": ["a"], "count": 3})),
        (_answer(), _redact(("EMAIL", "block"))),
        (_answer(), _redact()),  # what has no line is masked
        (_redact(), _answer(redact={"request": [FIELD], "response": []})),
        (DENIED, _answer(reasons=["no"])),  # allowed with reasons is no decision
        (DENIED, {**_answer(), "more": 1}),
    ],
)
def test_not_weaker(before: Any, after: Any) -> None:
    assert weaker(decision_of(before), decision_of(after)) is None


def test_what_an_entity_without_a_line_does() -> None:
    for answer, is_shown in ((_redact(), False), (_redact(("*", "allow")), True), (_redact(("*", "mask")), False)):
        decision = decision_of(answer)
        assert decision is not None
        assert shows(decision, "ZZ") is is_shown
