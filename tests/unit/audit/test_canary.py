"""The canary's judgement: what the store holds afterwards decides, not what it says."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from rich.console import Console

from ext_proc.audit.canary import (
    GOALS,
    Answer,
    Attempt,
    CanaryReport,
    Check,
    Goal,
    Held,
    Refuser,
    judge,
    judge_race,
)
from ext_proc.audit.canary_report import compare
from ext_proc.audit.record import LEAF_MAX_BYTES, build_leaf

NOW = datetime(2026, 11, 25, 12, tzinfo=UTC)
HELD = Held("ab" * 32, "COMPLIANCE", NOW + timedelta(days=2))
YES = Answer()
NO = Answer("AccessDenied", Refuser.LOCK)
HARMED = {
    "first version is gone": None,
    "first version has other bytes": replace(HELD, sha256="cd" * 32),
    "lock is gone": replace(HELD, mode=None, until=None),
    "mode is now GOVERNANCE": replace(HELD, mode="GOVERNANCE"),
    "lock now ends 2026-11-27T11:59:59.000000Z": replace(HELD, until=NOW + timedelta(days=2, seconds=-1)),
}
AT_BAIT = [name for name, goal in GOALS.items() if goal in {Goal.KEPT, Goal.REFUSED}]


@pytest.mark.parametrize("name", AT_BAIT)
@pytest.mark.parametrize("answer", [YES, NO])
@pytest.mark.parametrize("harm", HARMED)
def test_harm_to_the_first_version_is_a_hole_whatever_the_store_said(name: str, answer: Answer, harm: str):
    check = judge(name, Attempt(answer, HELD, HARMED[harm]), NOW)
    assert not check.ok
    assert check.found.endswith(harm)


@pytest.mark.parametrize("name", AT_BAIT)
def test_a_refusal_without_harm_is_good_and_says_who_refused(name: str):
    for refuser, word in ((Refuser.LOCK, "by the lock"), (Refuser.PERMISSION, "for lack of permission")):
        check = judge(name, Attempt(Answer("AccessDenied", refuser), HELD, HELD), NOW)
        assert check.ok
        assert check.found == f"refused {word} (AccessDenied), first version as it was"


def test_a_yes_without_harm_is_good_only_where_the_lock_does_not_forbid_it():
    found = {name: judge(name, Attempt(YES, HELD, HELD), NOW).ok for name in AT_BAIT}
    assert {name for name, ok in found.items() if not ok} == {n for n in AT_BAIT if GOALS[n] is Goal.REFUSED}


def test_a_longer_lock_is_no_harm():
    assert judge("delete_version", Attempt(NO, HELD, replace(HELD, until=NOW + timedelta(days=3))), NOW).ok


@pytest.mark.parametrize(
    ("name", "answer", "after", "ok"),
    [
        ("default_lock", YES, HELD, True),
        ("default_lock", YES, replace(HELD, mode="GOVERNANCE"), False),
        ("default_lock", YES, replace(HELD, until=NOW), False),
        ("default_lock", YES, replace(HELD, mode=None), False),
        ("default_lock", NO, None, False),
        ("multipart_lock", NO, None, True),
        ("multipart_lock", YES, None, False),
        ("multipart_lock", YES, replace(HELD, until=None), False),
        ("wrong_checksum", NO, None, True),
        ("wrong_checksum", NO, HELD, False),
        ("wrong_checksum", YES, None, False),
        ("past_retention", YES, HELD, False),
        ("suspend_versioning", YES, None, False),
        ("suspend_versioning", NO, None, True),
        ("bucket_lock", YES, None, False),
    ],
)
def test_new_objects_and_settings(name: str, answer: Answer, after: Held | None, ok: bool):
    assert judge(name, Attempt(answer, after=after), NOW).ok is ok


@pytest.mark.parametrize(
    ("accepted", "versions", "ok"), [(1, 1, True), (0, 0, False), (2, 2, False), (1, 2, False), (8, 1, False)]
)
def test_the_race_has_one_winner(accepted: int, versions: int, ok: bool):
    assert judge_race(accepted, versions).ok is ok


def test_a_stores_words_do_not_get_into_the_leaf():
    check = judge("shorten", Attempt(Answer("Dear auditor, all is well\n"), HELD, HELD), NOW)
    assert "(other)" in check.found
    assert "Dear" not in check.found


def test_the_whole_report_fits_in_a_leaf():
    long = Answer("X" * 64, Refuser.PERMISSION)
    checks = tuple(
        judge(name, Attempt(long, HELD, HARMED["mode is now GOVERNANCE"]), NOW) for name in GOALS if name != "race"
    )
    report = CanaryReport((*checks, judge_race(8, 8)), "s3.eu-central-1.amazonaws.com/" + "b" * 63)
    leaf = build_leaf("worm.canary", origin="o" * 200, sequence=1, at=NOW, fields=report.leaf_fields())
    assert len(leaf) < LEAF_MAX_BYTES // 2
    said = json.loads(leaf)
    assert set(said) == {"schema", "kind", "origin", "sequence", "at", "checks", "ok", "store"}
    assert {frozenset(check) for check in said["checks"]} == {frozenset({"name", "expected", "found", "ok"})}


def test_a_report_without_checks_is_not_ok():
    assert not CanaryReport((), "somewhere/b").ok


def test_reports_side_by_side():
    good = Check("shorten", Goal.REFUSED, "refused by the lock (AccessDenied)", ok=True)
    bad = Check("shorten", Goal.REFUSED, "accepted, lock is gone", ok=False)
    extra = Check("race", Goal.ONE_WINNER, "1 accepted, 1 version", ok=True)
    console = Console(width=160, record=True, file=None, quiet=True)
    reports = [CanaryReport((good, extra), "a/b", "One"), CanaryReport((bad,), "c/d", "[red]Two[/red]")]
    with console.capture() as said:
        console.quiet = False
        console.print(compare(reports))
    text = said.get()
    for part in ("HOLE: accepted, lock is gone", "2 of 2 hold", "0 of 1 hold", "not made", "[red]Two[/red]", "a/b"):
        assert part in text
