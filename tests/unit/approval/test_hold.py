"""Who may say what, when, and what comes of it. What follows from all of it together: `tests/laws/test_hold_laws.py`."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any, Final

import pytest

from ext_proc.approval import hold as rules
from ext_proc.approval.hold import OBJECTIONS, Hold, Person, binding_of
from ext_proc.model import (
    Asking,
    Call,
    Connection,
    Decision,
    ExchangeId,
    HoldEnding,
    HoldState,
    Identity,
    Inspection,
    PolicyVersion,
    Redaction,
    Source,
)
from tests.fakes.holds import (
    ADA,
    BOB,
    EVE,
    KIM,
    NOW,
    SECOND,
    TERMS,
    TWO,
    VALID,
    WITHIN,
    X,
    Y,
    Z,
    a_hold,
    no,
    person,
    yes,
)

BECAUSE: Final = "I know why."
ABANDONED, APPROVED, CLAIMED = HoldState.ABANDONED, HoldState.APPROVED, HoldState.CLAIMED
DENIED, EXPIRED, PENDING = HoldState.DENIED, HoldState.EXPIRED, HoldState.PENDING
USED, WITHDRAWN = HoldState.USED, HoldState.WITHDRAWN


def waiting(*exchanges: ExchangeId, **kept: Any) -> Hold:
    return a_hold(waiting=exchanges or (X,), **kept)


# Who -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("who", "hold", "justification", "code"),
    [
        (person(), waiting(), BECAUSE, None),
        (person(BOB, "others", "approvers"), waiting(), "x" * 2000, None),
        (person(tenant="acme"), waiting(tenant="acme"), BECAUSE, None),
        (person(tenant="acme"), waiting(), BECAUSE, "no_such_hold"),
        (person(), waiting(tenant="acme"), BECAUSE, "no_such_hold"),
        (person(tenant=""), waiting(), BECAUSE, "no_such_hold"),
        (person(ADA, "approvers", "admins"), waiting(), BECAUSE, "own_call"),
        (person(ADA, "admins"), waiting(), BECAUSE, "own_call"),
        (person(BOB, "admins", "Approvers"), waiting(), BECAUSE, "not_an_approver"),
        (Person(BOB, None, ()), waiting(), BECAUSE, "not_an_approver"),
        (person(), waiting(terms=TWO, resolutions=(yes(BOB),)), BECAUSE, "already_said"),
        (person(BOB, "officers"), waiting(terms=TWO, resolutions=(yes(BOB),)), BECAUSE, "already_said"),
        (person(), waiting(), "", "justification_required"),
        (person(), waiting(), " \n\t", "justification_required"),
        (person(), waiting(), "x" * 2001, "justification_required"),
        (person(), waiting(state=APPROVED), BECAUSE, "already_approved"),
        (person(), waiting(state=CLAIMED), BECAUSE, "already_approved"),
        (person(), waiting(state=USED), BECAUSE, "already_used"),
        (person(), waiting(state=DENIED), BECAUSE, "already_denied"),
        (person(), waiting(state=EXPIRED), BECAUSE, "expired"),
        (person(), waiting(state=WITHDRAWN), BECAUSE, "withdrawn"),
        (person(), waiting(state=ABANDONED), BECAUSE, "abandoned"),
        # The first rule that speaks is the one that is told: nobody learns of what is not theirs.
        (person(ADA, tenant="acme"), waiting(state=DENIED), "", "no_such_hold"),
        (person(ADA), waiting(state=DENIED), "", "own_call"),
        (person(BOB, "others"), waiting(state=DENIED), "", "not_an_approver"),
        (person(BOB), waiting(state=DENIED, resolutions=(no(BOB),)), "", "already_said"),
    ],
)
def test_who_may_say_what(who: Person, hold: Hold, justification: str, code: str | None) -> None:
    assert rules.objection(hold, who, justification) == code
    assert code is None or OBJECTIONS[code]


def test_every_state_has_a_word_for_whoever_comes_too_late() -> None:
    told = {rules.objection(waiting(state=state), person(), BECAUSE) for state in HoldState}
    assert told <= {None, *OBJECTIONS} and len(told) == len(HoldState) - 1  # claimed and approved are one


def test_who_may_see_and_read() -> None:
    hold = waiting(terms=TWO, tenant="acme")
    officer, approver = person(BOB, "officers", tenant="acme"), person(EVE, "approvers", tenant="acme")
    caller, stranger = person(ADA, "none", tenant="acme"), person(KIM, "none", tenant="acme")
    assert [rules.may_see(hold, one) for one in (officer, approver, caller, stranger)] == [True, True, True, False]
    assert [rules.may_read_clear(hold, one) for one in (officer, approver, caller)] == [True, False, False]
    assert not rules.may_see(hold, replace(officer, tenant=None))
    assert not rules.may_read_clear(hold, replace(officer, tenant=None))
    assert not rules.may_read_clear(hold, person(ADA, "officers", tenant="acme"))


def test_what_got_there_late_does_not_count() -> None:
    assert rules.counts(waiting(), yes())
    assert not any(rules.counts(waiting(state=state), yes()) for state in HoldState if state is not PENDING)
    assert not rules.counts(waiting(terms=TWO, resolutions=(yes(),)), no())
    assert not rules.counts(waiting(), yes(ADA))


# What becomes of it --------------------------------------------------------------------------------------------------


def test_several_people_or_one_no() -> None:
    once = rules.resolved(waiting(terms=TWO), yes(BOB))
    assert (once.state, once.valid_until) == (PENDING, None)
    twice = rules.resolved(once, yes(EVE, NOW + SECOND))
    assert (twice.state, twice.valid_until, twice.waiting) == (APPROVED, NOW + SECOND + VALID, (X,))
    denied = rules.resolved(once, no(EVE))
    assert (denied.state, denied.valid_until, denied.waiting) == (DENIED, None, ())
    assert denied.resolutions == (yes(BOB), no(EVE))


@pytest.mark.parametrize("state", list(HoldState))
def test_time_ends_what_is_not_over(state: HoldState) -> None:
    hold = waiting(state=state, valid_until=NOW + VALID if state in {APPROVED, CLAIMED, USED} else None)
    end = {PENDING: WITHIN, WITHDRAWN: WITHIN, ABANDONED: WITHIN, APPROVED: VALID, CLAIMED: VALID}.get(state)
    assert rules.due_at(hold) == (None if end is None else NOW + end)
    if end is None:
        assert rules.at(hold, NOW + timedelta(days=999)) is hold
        return
    assert rules.at(hold, NOW + end - SECOND) is hold
    late = rules.at(hold, NOW + end)
    assert (late.state, late.waiting) == (EXPIRED, ())
    assert rules.at(late, NOW) is late  # the clock went back
    assert rules.state_at(state, NOW + end, NOW + end) is EXPIRED


def test_which_hold_the_same_call_finds() -> None:
    found = {state for state in HoldState if rules.is_found_again(waiting(state=state), NOW)}
    assert found == {PENDING, WITHDRAWN, ABANDONED, APPROVED, CLAIMED, DENIED}
    assert not rules.is_found_again(waiting(state=DENIED), NOW + WITHIN)


def test_joining() -> None:
    for state in (PENDING, WITHDRAWN, ABANDONED):
        joined = rules.joined(a_hold(state=state, resolutions=(yes(),)), Y)
        assert (joined.state, joined.waiting, joined.resolutions) == (PENDING, (Y,), (yes(),))
    for state in (APPROVED, CLAIMED):
        joined = rules.joined(waiting(state=state), Y)
        assert (joined.state, joined.waiting) == (state, (X, Y))
    for state in (USED, DENIED, EXPIRED):
        assert rules.joined(a_hold(state=state), Y) == a_hold(state=state)
    assert rules.joined(waiting(X, Y), X).waiting == (Y, X)


def test_claiming() -> None:
    hold = waiting(X, Y, state=APPROVED, valid_until=NOW + VALID)
    mine = rules.claimed(hold, X)
    assert (mine.state, mine.claimed_by) == (CLAIMED, X)
    assert rules.claimed(mine, Y) is mine and rules.claimed(mine, X) is mine
    assert rules.claimed(hold, Z) is hold  # it does not wait
    for state in set(HoldState) - {APPROVED}:
        assert rules.claimed(waiting(state=state), X) == waiting(state=state)


def test_claimed_is_said_to_whom_it_is_only() -> None:
    mine = waiting(X, Y, state=CLAIMED, claimed_by=X, valid_until=NOW + VALID, resolutions=(yes(),))
    said = mine.standing(X, "https://example.com/status")
    assert (said.hold_id, said.state, said.status_url) == (mine.hold_id, CLAIMED, "https://example.com/status")
    assert (said.binding_sha256, said.valid_until, said.resolutions) == (mine.binding_sha256, NOW + VALID, (yes(),))
    assert mine.standing(Y).state is mine.standing().state is APPROVED
    nobodys = waiting(state=CLAIMED)
    assert nobodys.standing().state is APPROVED
    for state in set(HoldState) - {CLAIMED}:
        assert waiting(state=state).standing(Y).state is state


@pytest.mark.parametrize(
    ("hold", "ending", "state", "left"),
    [
        (waiting(), HoldEnding.LEFT, WITHDRAWN, ()),
        (waiting(X, Y), HoldEnding.LEFT, PENDING, (Y,)),
        (waiting(is_detached=True), HoldEnding.LEFT, PENDING, ()),
        (waiting(state=APPROVED), HoldEnding.LEFT, APPROVED, ()),
        (waiting(state=CLAIMED, claimed_by=X), HoldEnding.LEFT, APPROVED, ()),
        (waiting(X, Y, state=CLAIMED, claimed_by=Y), HoldEnding.LEFT, CLAIMED, (Y,)),
        (waiting(), HoldEnding.TOLD, PENDING, ()),
        (a_hold(state=ABANDONED), HoldEnding.TOLD, PENDING, ()),
        (waiting(state=CLAIMED, claimed_by=X), HoldEnding.TOLD, APPROVED, ()),
        (a_hold(state=DENIED), HoldEnding.TOLD, DENIED, ()),
        (waiting(X, Y, state=CLAIMED, claimed_by=X), HoldEnding.PASSED, USED, ()),
        (a_hold(state=EXPIRED, claimed_by=X), HoldEnding.PASSED, USED, ()),
        (a_hold(state=EXPIRED), HoldEnding.PASSED, EXPIRED, ()),
        (waiting(X, Y, state=CLAIMED, claimed_by=Y), HoldEnding.PASSED, CLAIMED, (Y,)),
        (a_hold(state=USED, claimed_by=X), HoldEnding.LEFT, USED, ()),
    ],
)
def test_an_exchange_that_was_held_ends(
    hold: Hold, ending: HoldEnding, state: HoldState, left: tuple[ExchangeId, ...]
) -> None:
    after = rules.ended(hold, X, ending)
    assert (after.state, after.waiting) == (state, left)
    assert after.is_detached is (hold.is_detached or ending is HoldEnding.TOLD)
    assert (after.claimed_by is None) is (state not in {CLAIMED, USED})
    assert rules.ended(after, X, ending) == after  # idempotent


def test_a_worker_that_died() -> None:
    gone = frozenset({X, Z})
    assert rules.abandoned(waiting(X, Z), gone).state is ABANDONED
    shared = rules.abandoned(waiting(X, Y, Z), gone)
    assert (shared.state, shared.waiting) == (PENDING, (Y,))
    assert rules.abandoned(waiting(is_detached=True), gone).state is PENDING
    mine = rules.abandoned(waiting(state=CLAIMED, claimed_by=X), gone)
    assert (mine.state, mine.claimed_by, mine.waiting) == (CLAIMED, X, ())


@pytest.mark.parametrize(
    ("passed", "is_readable", "becomes"), [({Y}, True, APPROVED), ({X}, True, USED), ((), False, USED)]
)
def test_what_a_dead_workers_log_tells(passed: Any, is_readable: bool, becomes: HoldState) -> None:
    mine = a_hold(state=CLAIMED, claimed_by=X)
    assert rules.settled(mine, frozenset(passed), is_readable=is_readable).state is becomes
    late = a_hold(state=EXPIRED, claimed_by=X)
    expected = USED if becomes is USED else EXPIRED
    assert rules.settled(late, frozenset(passed), is_readable=is_readable).state is expected
    assert rules.settled(waiting(), frozenset(passed), is_readable=is_readable) == waiting()


# What it is bound to -------------------------------------------------------------------------------------------------

CONNECTION: Final = Connection("demo", (), None, 1 << 20, 1 << 20)
VERSION: Final = PolicyVersion("r1", "0" * 64)
CALL: Final = Call(
    exchange_id=X,
    connection=CONNECTION,
    identity=Identity("https://idp.example.com", "ada", "oidc", ("a",)),
    method="POST",
    path="/v1/chat/completions",
    body_bytes=2,
    inspection=Inspection("openai", "chat", "demo", False, {}, {}, 0),
    source=Source("10.0.0.1", "x"),
    received_at=NOW,
)
DECISION: Final = Decision(True, ("a",), (), (), TERMS, True, "d1", VERSION)
ASKING: Final = Asking(CALL, DECISION, TERMS, b"{}", Redaction(b"{}", b"{}"))


def of_call(**changed: Any) -> Asking:
    return replace(ASKING, call=replace(CALL, **changed))


def of_terms(**changed: Any) -> Asking:
    return replace(ASKING, terms=replace(TERMS, **changed))


@pytest.mark.parametrize(
    ("asking", "caller_ref"),
    [
        (ASKING, BOB),
        (replace(ASKING, body=b"{} "), ADA),
        (of_call(method="PUT"), ADA),
        (of_call(path="/v1/chat/completions/"), ADA),
        (of_call(query=(("a", "b"),)), ADA),
        (of_call(betas=("b",)), ADA),
        (of_call(query=(("a", ""),), betas=("b",)), ADA),
        (of_call(connection=replace(CONNECTION, name="other")), ADA),
        (of_call(identity=replace(CALL.identity, tenant="acme")), ADA),
        (replace(ASKING, decision=replace(DECISION, policy=replace(VERSION, digest="1" * 64))), ADA),
        (replace(ASKING, decision=replace(DECISION, policy=replace(VERSION, revision="r2"))), ADA),
        *((of_terms(groups=groups), ADA) for groups in (("others",), ("approvers", "others"), ("appro", "vers"))),
        (of_terms(count=2), ADA),
        (of_terms(valid_seconds=1), ADA),
        (of_terms(within_seconds=1), ADA),
        (of_terms(reason="other"), ADA),
        (of_terms(clear_to=("approvers",)), ADA),
    ],
)
def test_one_thing_changed_is_another_hold(asking: Asking, caller_ref: str) -> None:
    assert binding_of(asking, caller_ref) != binding_of(ASKING, ADA)


def test_the_same_sent_again_is_the_same_hold() -> None:
    again = of_call(exchange_id=Y, received_at=NOW + SECOND, source=Source("10.0.0.2", "y"))
    again = replace(again, decision=replace(DECISION, decision_id="d2"))
    assert binding_of(again, ADA) == binding_of(ASKING, ADA)
    assert len(binding_of(ASKING, ADA)) == 64


@pytest.mark.parametrize(
    ("said", "least", "is_enough"),
    [
        ("ok", 10, False), ("no", 10, False), (".", 10, False), ("." * 40, 10, False), ("1234567890", 10, False),
        ("o" + " " * 20 + "k", 10, False), ("case 17", 10, False), ("case 17 ok", 10, True), ("Prüfung 17", 10, True),
        ("案件十七について確認済", 10, True), ("ok", 2, True), ("x" * 2000, 10, True), ("x" * 2001, 10, False),
    ],
)  # fmt: skip
def test_a_reason_is_in_words(said: str, least: int, is_enough: bool) -> None:
    assert rules.objection(waiting(), person(), said, least) == (None if is_enough else "justification_required")
    assert rules.words_of("justification_required", least).startswith(f"Say why, in {least} to 2000 characters")


def test_where_nobody_says_anything_yet_no_reason_is_missing() -> None:
    assert rules.objection(waiting(), person(), None) is None
