"""`ext_proc.phases.facts`: what a record says, and what it never does."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from ext_proc.model import Action, Call, Coverage, Redaction, Removal, ToolCall, Usage
from ext_proc.phases import facts
from ext_proc.phases.head import read_head
from tests.fakes.exchange import ADA, AT, BODY, DECISION, DEMO, HEADERS, ID, INSPECTION, attributes

HEAD = read_head(HEADERS, attributes())


def _call(**parameters: object):
    inspection = replace(INSPECTION, parameters=parameters)  # type: ignore[arg-type]
    return Call(ID, DEMO, ADA, "POST", "/v1/chat/completions", len(BODY), inspection, HEAD.source, AT)


def _removal(number: int, entity: str = "EMAIL", action: Action = Action.MASK) -> Removal:
    return Removal("/a", number, number + 1, entity, "email", "1", action)


def test_instant_is_utc_with_microseconds() -> None:
    assert facts.instant(datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)) == "2026-01-02T03:04:05.000000Z"


def test_request_before_it_was_read_has_no_text_of_the_callers() -> None:
    told = facts.request_facts(HEAD, DEMO, None, 3)

    assert told == {"connection": "demo", "body_bytes": 3, "method": None, "path": None}
    assert facts.request_facts(HEAD, None, None, 0)["connection"] is None


def test_request_once_read() -> None:
    told = facts.request_facts(HEAD, DEMO, _call(temperature=0.1, max_tokens=5, stream=True, user=None), 25)

    assert told["path"] == "/v1/chat/completions", "without its query"
    assert told["parameters"] == {"temperature": "0.1", "max_tokens": 5, "stream": True, "user": None}
    assert told["findings"] == {"EMAIL": 1}
    assert not [value for value in told["parameters"].values() if isinstance(value, float)]


def test_what_came_back_is_counted_and_a_token_is_no_mask() -> None:
    made = Redaction(b"", b"", removals=(_removal(1, action=Action.TOKENISE), _removal(5)), restored=(("EMAIL", 2),))
    told = facts.redaction_facts(made)

    assert [(one["action"], one["count"]) for one in told["removed"]] == [("mask", 1), ("tokenise", 1)]
    assert told["restored"] == [{"entity": "EMAIL", "count": 2}]
    assert "restored" not in facts.redaction_facts(Redaction(b"", b""))


def test_policy() -> None:
    told = facts.policy_facts(replace(DECISION, allow=False, reasons=("a", "b"), approval={"group": "x"}))

    assert told == {
        "allow": False,
        "reasons": ["a", "b"],
        "decision_id": "d-1",
        "bundle_revision": "r-1",
        "bundle_digest": "0" * 64,
        "approval_required": True,
    }


def test_removals_are_counted_whole_and_listed_to_a_limit() -> None:
    removals = (*(_removal(n) for n in range(100)), _removal(1, "PHONE", Action.HASH))
    coverage = Coverage(2, 300, 40, 350, 7)
    told = facts.redaction_facts(Redaction(b"", b"", removals, coverage, ("SECRET",)))

    assert [(c["entity"], c["action"], c["count"]) for c in told["removed"]] == [
        ("EMAIL", "mask", 100),
        ("PHONE", "hash", 1),
    ]
    assert (len(told["spans"]), told["spans_unlisted"]) == (facts.SPANS_MAX, 101 - facts.SPANS_MAX)
    assert told["spans"][3] == {"channel": "/a", "start": 3, "end": 4, "entity": "EMAIL", "action": "mask"}
    assert told["blocked"] == ["SECRET"]
    assert told["coverage"] == {
        "channels": 2, "scanned_bytes": 300, "structure_bytes": 40, "forwarded_bytes": 350, "excluded_bytes": 7,
    }  # fmt: skip


def test_exactly_the_limit_of_spans() -> None:
    told = facts.redaction_facts(Redaction(b"", b"", tuple(_removal(n) for n in range(facts.SPANS_MAX))))

    assert (len(told["spans"]), told["spans_unlisted"]) == (facts.SPANS_MAX, 0)


def test_model() -> None:
    answered = Redaction(
        b"secret", b"secret", (), Coverage(), (), "demo-2", "fp", Usage(3, None), ("stop",), (ToolCall("t", "0" * 64),)
    )
    told = facts.model_facts(answered, "demo")

    assert told == {
        "requested": "demo",
        "served": "demo-2",
        "fingerprint": "fp",
        "input_tokens": 3,
        "output_tokens": None,
        "finish_reasons": ["stop"],
        "tool_calls": [{"name": "t"}],
        "tool_calls_unlisted": 0,
    }
    assert "secret" not in json.dumps(told)


def test_many_tool_calls_are_counted_and_not_all_listed() -> None:
    calls = tuple(ToolCall(f"t{index}", "0" * 64) for index in range(facts.TOOLS_MAX + 5))
    told = facts.model_facts(Redaction(b"", b"", tool_calls=calls, finish_reasons=("stop",) * 99), None)
    assert (len(told["tool_calls"]), told["tool_calls_unlisted"]) == (facts.TOOLS_MAX, 5)
    assert len(told["finish_reasons"]) == facts.REASONS_MAX


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (2**53 - 1, 2**53 - 1), (-(2**53) + 1, -(2**53) + 1), (2**53, "9007199254740992"), (-(2**53), "-9007199254740992"), (10**20, "100000000000000000000"),
        (10**63, "1" + "0" * 63), (10**64, "unlisted"), (10**5000, "unlisted"), (-(10**5000), "unlisted"), (1e300, "1e+300"), (True, True), (None, None), ("x" * 64, "x" * 64), ("x" * 65, "unlisted"), ("\ud800", "unlisted"),
    ],
    ids=range(15),
)  # fmt: skip
def test_a_parameter_can_always_be_written_down(value: object, told: object) -> None:
    said = facts.request_facts(HEAD, DEMO, _call(n=value), 0)["parameters"]["n"]
    assert (said, type(said)) == (told, type(told))


@pytest.mark.parametrize("tokens", [2**53, -1, 10**20])
def test_tokens_that_nobody_can_have_counted(tokens: int) -> None:
    told = facts.model_facts(Redaction(b"", b"", usage=Usage(tokens, tokens)), None)
    assert (told["input_tokens"], told["output_tokens"]) == (None, None)


def test_the_most_tokens() -> None:
    assert facts.model_facts(Redaction(b"", b"", usage=Usage(0, 2**53 - 1)), None)["output_tokens"] == 2**53 - 1
