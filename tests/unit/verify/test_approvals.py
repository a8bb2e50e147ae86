"""What is not a finding, and what an attacker who signs may not make of the verifier. The rules: tests/tamper."""

from __future__ import annotations

from datetime import timedelta

import pytest

from ext_proc.verify import approvals as module
from ext_proc.verify import verify
from ext_proc.verify.approvals import is_plain, told_of
from tests.fakes.forge import ALLOWED, NOW, TO_BE_APPROVED, Draft, build, held_call, instant, standard_plans

CLAIMED = {
    "state": "claimed", "hold_id": "a", "binding_sha256": "b", "count": 1, "valid_until": instant(NOW),
    "resolutions": [],
}  # fmt: skip


def found(plans, folder) -> list[tuple[str, str]]:
    forge = build(plans=plans)
    forge.bucket.export(folder / "export", NOW)
    report = verify(str(folder / "export"), forge.policy(folder / "policy.yaml"), jobs=1)
    return [(one.code, one.explanation) for one in report.findings]


def test_an_outcome_in_a_later_object_says_that_the_call_was_not_let_on(tmp_path):
    plans = standard_plans()
    left = plans.held[1]
    plans.second.drafts.remove(left)
    left.at, left.segment = left.at + timedelta(minutes=12), left.segment + 1
    heartbeats = [one for one in plans.second.drafts if one.segment == left.segment and one.at > left.at]
    plans.second.drafts.insert(plans.second.drafts.index(heartbeats[0]), left)
    assert found(plans, tmp_path) == []


def test_words_that_were_not_shipped_yet_are_not_missed(tmp_path):
    """The call is of the last minutes: the console's log may come later."""
    plans = standard_plans()
    late = plans.held[2:]
    for one in late:
        plans.second.drafts.remove(one)
        one.at = plans.third.drafts[-1].at - timedelta(seconds=5)
        one.segment = plans.third.drafts[-1].segment
    late[0].fields["approval"]["valid_until"] = instant(late[0].at)
    plans.asked.fields["terms"]["valid_seconds"] = 86_400
    late[0].fields["approval"]["resolutions"][0]["record"] = {"origin": "not-here", "sequence": 5}
    plans.third.drafts = sorted([*plans.third.drafts, *late], key=lambda one: one.at)
    assert found(plans, tmp_path) == []


LATE = {"status": "unrecorded", "code": "audit_unavailable"}


def test_an_intent_that_was_durable_too_late_uses_no_approval(tmp_path):
    """Its caller got 503 and the approval was given back; the last word on it does not know its number."""
    plans = standard_plans()
    end = plans.held[1]
    end.fields |= {"outcome": LATE, "time": {"recorded": instant(end.at)}, "intent_sequence": None}
    end.intent = None
    assert found(plans, tmp_path) == []


def test_an_intent_that_was_durable_too_late_has_its_end(tmp_path):
    plans = standard_plans()
    end = next(one for one in plans.first.drafts if one.kind == "inference.outcome")
    end.fields |= {"outcome": LATE, "time": {"recorded": instant(end.at)}, "intent_sequence": None}
    end.intent, end.ciphertexts = None, []
    assert found(plans, tmp_path) == []


@pytest.mark.parametrize("later", [0, 2])
def test_an_outcome_that_was_durable_too_late_is_set_right(tmp_path, later):
    """At once, or in an object that follows."""
    plans = standard_plans()
    intent, end = plans.held[2:]
    fields = {"exchange_id": intent.fields["exchange_id"], "outcome": LATE, "time": {"recorded": instant(end.at)}}
    at = end.at + timedelta(minutes=6 * later)
    plans.second.drafts.append(Draft("inference.outcome", at, fields, [], intent, int(at.timestamp()) // 600))
    plans.second.drafts.sort(key=lambda one: (one.segment, one.at))
    assert found(plans, tmp_path) == []


def test_a_call_whose_end_is_on_its_way_has_not_used_its_approval_for_sure(tmp_path):
    """Its log goes on, and says in the next object that the caller had left; elsewhere the approval served another call."""
    plans = standard_plans()
    late = held_call("elsewhere", plans.third.drafts[-1].at - timedelta(seconds=5), plans.words, is_let_on=False)[:1]
    late[0].segment = plans.third.drafts[-1].segment
    late[0].fields["approval"]["valid_until"] = instant(late[0].at)
    plans.asked.fields["terms"]["valid_seconds"] = 86_400
    plans.third.drafts = sorted([*plans.third.drafts, *late], key=lambda one: one.at)
    assert found(plans, tmp_path) == []


def test_an_emergency_of_another_exchange_is_none(tmp_path):
    plans = standard_plans()
    plans.emergency[0].fields["exchange_id"] = "another"
    assert [code for code, _ in found(plans, tmp_path)] == ["approval_missing"]


def test_what_is_kept_is_limited(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_KEPT_MAX", 1)
    assert "leaf_invalid" in {code for code, _ in found(standard_plans(), tmp_path)}


@pytest.mark.parametrize(
    "told",
    [
        {"state": "claimed"},
        {"state": "claimed", "hold_id": 5},
        {
            "state": "claimed",
            "hold_id": "a",
            "binding_sha256": "b",
            "count": True,
            "valid_until": "",
            "resolutions": [],
        },
        {"state": "claimed", "hold_id": "a", "binding_sha256": "b", "count": 1, "valid_until": "", "resolutions": []},
        {**CLAIMED, "valid_until": "2026-11-24T22:00:00"},
        {**CLAIMED, "resolutions": [5]},
        {**CLAIMED, "resolutions": {}},
        "claimed",
    ],
)
def test_an_approval_that_is_none_makes_the_leaf_invalid(tmp_path, told):
    plans = standard_plans()
    plans.held[2].fields["approval"] = told
    assert "leaf_invalid" in {code for code, _ in found(plans, tmp_path)}


def test_who_needs_nobody():
    intent = {"kind": "inference.intent", "policy": ALLOWED}
    assert is_plain(intent)
    assert is_plain({"kind": "inference.outcome"})
    assert not is_plain(intent | {"policy": TO_BE_APPROVED})
    assert not is_plain(intent | {"approval": {}})
    assert not is_plain(intent | {"policy": ALLOWED | {"break_glass": "incident"}})
    for broken in ({"kind": "inference.intent"}, intent | {"policy": None}, intent | {"policy": {}}):
        with pytest.raises((KeyError, TypeError)):
            is_plain(broken)


def test_an_intent_that_claims_no_approval_names_none():
    told = told_of(3, {
        "kind": "inference.intent", "at": instant(NOW), "exchange_id": "x", "actor": None, "policy": TO_BE_APPROVED,
        "request": {},
    })  # fmt: skip
    assert (told.sequence, told.hold_id, told.words) == (3, "", ())


def test_hundreds_of_calls_that_people_agreed_to_are_never_taken_for_plain_ones(tmp_path):
    """Patterns are learnt of leaves that are alike: none of those."""
    plans = standard_plans()
    intent = plans.held[2]
    for n in range(300):
        fields = intent.fields | {"exchange_id": f"again-{n}"}
        plans.second.drafts.append(Draft("inference.intent", intent.at, fields, segment=intent.segment))
    plans.second.drafts.sort(key=lambda one: (one.segment, one.at))
    assert len([code for code, _ in found(plans, tmp_path) if code == "approval_reused"]) >= 200
