"""`ext_proc.phases.holding`: what becomes of a call that people must agree to."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from ext_proc.errors import ApprovalUnavailable, AuditUnavailable, TooManyHolds
from ext_proc.model import HoldEnding, HoldState, PolicyVersion
from ext_proc.phases import effects as do
from ext_proc.phases import events as ev
from ext_proc.phases.head import Preference, read_preference
from ext_proc.phases.table import State
from tests.fakes.exchange import (
    ADA,
    AGREED,
    ANSWER,
    AT,
    BODY,
    CREDENTIAL,
    HELD,
    ID,
    INSPECTION,
    SENT,
    TERMS,
    TO_BE_APPROVED,
    UPGRADES,
    Conversation,
    answer_head,
    done,
    head,
    local_reply,
    receipt,
)  # fmt: skip

if TYPE_CHECKING:
    from ext_proc.model import Standing

REQUEST = ev.RequestBody(AT, BODY)


def held(
    asked: Standing = HELD, resolved: Standing | None = AGREED, *, is_stream: bool = INSPECTION.is_stream
) -> Conversation:
    """A conversation where people must agree. ``resolved`` None: nobody says anything while it waits."""

    def room(effect: do.Effect) -> ev.AnswerEvent:
        match effect:
            case do.Inspect():
                return ev.Inspected(AT, replace(INSPECTION, is_stream=is_stream))
            case do.Decide():
                return ev.Decided(AT, TO_BE_APPROVED)
            case do.AskApproval():
                return ev.HoldStands(AT, asked)
            case do.AwaitApproval():
                return ev.HoldStands(AT, resolved or HELD)
            case _:
                return done(effect)

    return Conversation(room)


def kinds(told: Conversation) -> list[str]:
    """Of what was recorded, in order."""
    return [entry.kind for entry in told.entries]


def outcome(told: Conversation) -> Any:
    """What the last entry says of how it ended."""
    return told.entries[-1].facts["outcome"]


def test_waits_and_goes_on() -> None:
    """Asked with what the model would get; the asking is recorded before the wait, the agreement with the intent."""
    told = held()
    effect = told.settle(head(), REQUEST)

    assert isinstance(effect, do.Continue)
    assert effect.body == SENT
    steps = [type(one) for one in told.effects if not isinstance(one, do.Continue)]
    assert steps[-7:] == [
        do.RedactRequest, do.AskApproval, do.Record, do.AwaitApproval, do.Decide, do.Unlock, do.Record,
    ]  # fmt: skip
    [asked] = [one.asking for one in told.effects if isinstance(one, do.AskApproval)]
    assert (asked.body, asked.forwarded.body, asked.terms) == (BODY, SENT, TERMS)
    assert kinds(told) == ["approval.requested", "inference.intent"]
    requested, intent = told.entries
    assert requested.payloads == ()
    assert requested.facts["approval"]["state"] == "pending"
    assert requested.facts["terms"]["count"] == 1
    assert intent.facts["approval"]["state"] == "claimed"
    [said] = intent.facts["approval"]["resolutions"]
    assert (said["action"], said["record"]["sequence"]) == ("approve", 3)

    told.settle(answer_head(), ev.ResponseBody(AT, ANSWER), ev.StreamEnded(AT))
    assert told.entries[-1].facts["approval"]["hold_id"] == HELD.hold_id
    assert told.session.hold_ending is HoldEnding.PASSED


def test_the_question_is_kept_with_each_decision() -> None:
    """With the asking, with the intent, and with an outcome only if that tells of another one."""
    answers = iter([b"first", b"second", b"first", b"other"])

    def room(effect: do.Effect) -> ev.AnswerEvent:
        if isinstance(effect, do.Decide):
            said = next(answers)
            return ev.Decided(AT, replace(TO_BE_APPROVED, asked=said, reasons=("new",) if said == b"other" else ()))
        return done(effect)

    passed, outdated = Conversation(room), Conversation(room)
    passed.settle(head(), REQUEST, answer_head(), ev.ResponseBody(AT, ANSWER))
    outdated.settle(head(), REQUEST)

    def kept(told: Conversation) -> list[tuple[str, list[bytes]]]:
        return [(e.kind, [p.body for p in e.payloads if p.role == "policy.question"]) for e in told.entries]

    assert kept(passed) == [
        ("approval.requested", [b"first"]), ("inference.intent", [b"first"]), ("inference.outcome", []),
    ]  # fmt: skip
    assert kept(outdated) == [("approval.requested", [b"first"]), ("inference.outcome", [b"other"])]


def test_approved_before_goes_on_at_once() -> None:
    """Nothing is asked of anybody, so nothing is recorded of an asking."""
    told = held(asked=AGREED)
    assert isinstance(told.settle(head(), REQUEST), do.Continue)
    assert kinds(told) == ["inference.intent"]
    assert not [one for one in told.effects if isinstance(one, do.AwaitApproval)]


@pytest.mark.parametrize(
    ("state", "status", "code"),
    [
        (HoldState.DENIED, 403, "approval_denied"),
        (HoldState.EXPIRED, 403, "approval_expired"),
        (HoldState.USED, 409, "approval_used"),
    ],
)
@pytest.mark.parametrize("is_at_once", [True, False])
def test_refused(state: HoldState, status: int, code: str, *, is_at_once: bool) -> None:
    """Distinct outcomes, whether it stood so before or came to it meanwhile."""
    standing = replace(HELD, state=state)
    told = held(asked=standing) if is_at_once else held(resolved=standing)
    effect = told.settle(head(), REQUEST)

    assert isinstance(effect, do.Refuse)
    assert (effect.refusal.status, effect.refusal.code, effect.refusal.held) == (status, code, None)
    assert (outcome(told)["status"], outcome(told)["code"]) == ("denied", code)
    assert told.entries[-1].facts["approval"]["state"] == state.value
    assert told.say(ev.StreamEnded(AT)) is None
    assert told.session.hold_ending is HoldEnding.LEFT


@pytest.mark.parametrize(
    ("change", "status", "code"),
    [
        ({"allow": False, "reasons": ("not_permitted",), "approval": None}, 403, "denied"),
        ({"policy": PolicyVersion("r-2", "1" * 64)}, 409, "approval_outdated"),
        ({"approval": None}, 409, "approval_outdated"),
        ({"approval": replace(TERMS, count=2)}, 409, "approval_outdated"),
        ({"redact_request": ()}, 409, "approval_outdated"),
        ({"record_payloads": False}, 409, "approval_outdated"),
        ({"decision_id": "d-2"}, None, None),
    ],
)
def test_policy_changed_while_it_waited(change: dict[str, Any], status: int | None, code: str | None) -> None:
    """People agreed to what the policy said when they were asked: what it says now must be the same."""
    decisions = iter([TO_BE_APPROVED, replace(TO_BE_APPROVED, **change)])

    def room(effect: do.Effect) -> ev.AnswerEvent:
        return ev.Decided(AT, next(decisions)) if isinstance(effect, do.Decide) else done(effect)

    told = Conversation(room)
    effect = told.settle(head(), REQUEST)
    if status is None:
        assert isinstance(effect, do.Continue)
        return
    assert isinstance(effect, do.Refuse)
    assert (effect.refusal.status, effect.refusal.code) == (status, code)
    assert outcome(told)["status"] == "denied"
    assert told.session.hold_ending is HoldEnding.LEFT, "the approval is given back"


@pytest.mark.parametrize(("seconds", "passes"), [(-1, False), (0, False), (1, True)])
def test_token_ends_while_it_waits(seconds: int, *, passes: bool) -> None:
    ada = replace(ADA, expires_at=AT + timedelta(seconds=seconds))

    def room(effect: do.Effect) -> ev.AnswerEvent:
        match effect:
            case do.Authenticate():
                return ev.Authenticated(AT, ada)
            case do.Decide():
                return ev.Decided(AT, TO_BE_APPROVED)
            case _:
                return done(effect)

    effect = Conversation(room).settle(head(), REQUEST)
    assert isinstance(effect, do.Continue if passes else do.Refuse)
    assert passes or effect.refusal.status == 401


@pytest.mark.parametrize("state", [HoldState.WITHDRAWN, HoldState.ABANDONED])
def test_taken_for_dead(state: HoldState) -> None:
    """What waits is pending; where the register says otherwise, nothing is taken for a yes."""
    effect = held(resolved=replace(HELD, state=state)).settle(head(), REQUEST)
    assert isinstance(effect, do.Refuse)
    assert (effect.refusal.status, effect.refusal.code) == (503, "approval_unavailable")


def test_nobody_answers_in_time() -> None:
    """The caller is told to come back; the hold goes on."""
    told = held(resolved=None)
    effect = told.settle(head(), REQUEST)

    assert isinstance(effect, do.Refuse)
    assert (effect.refusal.status, effect.refusal.code, effect.refusal.retry_after_seconds) == (
        202,
        "approval_pending",
        5,
    )
    assert effect.refusal.held == HELD
    assert "decision" in effect.metadata, "the gate behind us stays shut"
    assert effect.metadata["decision"] == "deny"
    assert (outcome(told)["status"], outcome(told)["http_status"]) == ("held", 202)
    assert told.say(ev.StreamEnded(AT)) is None
    assert told.session.hold_ending is HoldEnding.TOLD


@pytest.mark.parametrize(
    ("is_stream", "prefer", "is_event"),
    [
        (True, (), True),
        (False, (), False),
        (True, (("prefer", b"respond-async"),), False),
        (True, (("prefer", b"wait=10"),), False),
    ],
)
def test_told_as_an_event(is_stream: bool, prefer: tuple[tuple[str, bytes], ...], is_event: bool) -> None:
    """Whoever reads a stream, and has not said that they know the other answer."""
    effect = held(resolved=None, is_stream=is_stream).settle(head(*prefer), REQUEST)
    assert isinstance(effect, do.Refuse)
    assert (effect.refusal.code, effect.refusal.is_event) == ("approval_pending", is_event)


@pytest.mark.parametrize(
    ("prefer", "seconds"),
    [
        ((), 50),
        ((("prefer", b"wait=10"),), 10),
        ((("prefer", b"wait=1000"),), 50),
        ((("prefer", b"wait=-1"),), 50),
    ],
)
def test_waits_as_long_as_both_would(prefer: tuple[tuple[str, bytes], ...], seconds: int) -> None:
    told = held()
    told.settle(head(*prefer), REQUEST)
    [wait] = [one for one in told.effects if isinstance(one, do.AwaitApproval)]
    assert (wait.hold_id, wait.exchange_id, wait.until) == (HELD.hold_id, ID, AT + timedelta(seconds=seconds))


def test_the_wait_is_over_before_envoy_loses_patience() -> None:
    """However long it took to ask: Envoy counts from the body on, and answers by itself when its time is over."""
    late = AT + timedelta(seconds=25)

    def room(effect: do.Effect) -> ev.AnswerEvent:
        match effect:
            case do.Decide():
                return ev.Decided(late, TO_BE_APPROVED)
            case do.AskApproval():
                return ev.HoldStands(late, HELD)
            case do.Record():
                return ev.Recorded(late, receipt())
            case _:
                return done(effect)

    told = Conversation(room)
    told.settle(head())
    wait = told.until(do.AwaitApproval, ev.RequestBody(AT + timedelta(seconds=2), BODY))
    assert isinstance(wait, do.AwaitApproval) and wait.until == AT + timedelta(seconds=52)


def test_caller_prefers_not_to_wait() -> None:
    told = held()
    effect = told.settle(head(("prefer", b"respond-async")), REQUEST)
    assert isinstance(effect, do.Refuse)
    assert effect.refusal.status == 202
    assert kinds(told) == ["approval.requested", "inference.outcome"]
    assert not [one for one in told.effects if isinstance(one, do.AwaitApproval)]


@pytest.mark.parametrize(
    ("values", "is_async", "wait"),
    [
        ([], False, None),
        ([b"respond-async"], True, None),
        ([b"Respond-Async, wait=10"], True, 10),
        ([b"return=minimal; foo=bar", b"wait = 7"], False, 7),
        ([b"wait=5, wait=9"], False, 5),
        ([b"respond-asyncx, wait=1e3, \xff"], False, None),
    ],
)
def test_preference(values: list[bytes], wait: int | None, *, is_async: bool) -> None:
    assert read_preference(tuple(("prefer", one) for one in values)) == Preference(is_async, wait)


@pytest.mark.parametrize("state", [State.ASKING_APPROVAL, State.RECORDING_HOLD, State.HOLDING])
def test_caller_leaves(state: State) -> None:
    """At any point: the outcome says so, and the hold learns that nobody waits."""
    told = held()
    told.settle(head())
    told.until({State.RECORDING_HOLD: do.Record, State.HOLDING: do.AwaitApproval}.get(state, do.AskApproval), REQUEST)
    assert told.session.state is state
    told.settle(ev.StreamEnded(AT))
    if state is State.RECORDING_HOLD:  # the record first (L4)
        told.settle(ev.Recorded(AT, receipt()))
    assert outcome(told)["status"] == "abandoned"
    assert told.session.was_held
    assert told.session.hold_ending is HoldEnding.LEFT


def test_caller_leaves_between_yes_and_the_call() -> None:
    """The intent is on record, but the call was never made: the approval serves the next one."""
    told = held()
    told.settle(head())
    told.until(do.Unlock, REQUEST)
    told.say(ev.Unlocked(AT, CREDENTIAL))
    assert told.session.state is State.RECORDING_INTENT
    told.say(ev.StreamEnded(AT))
    told.settle(ev.Recorded(AT, receipt()))
    assert kinds(told)[-2:] == ["inference.intent", "inference.outcome"]
    assert outcome(told)["status"] == "abandoned"
    assert told.session.hold_ending is HoldEnding.LEFT


def test_caller_leaves_before_being_told() -> None:
    """Nobody heard of "come back later": then it is as if they had left before."""
    told = held(resolved=None)
    told.settle(head())
    told.until(do.AwaitApproval, REQUEST)
    told.say(ev.HoldStands(AT, HELD))
    told.say(ev.StreamEnded(AT))
    told.settle(ev.Recorded(AT, receipt()))
    assert told.session.hold_ending is HoldEnding.LEFT


def test_envoy_loses_patience() -> None:
    told = held()
    told.settle(head())
    told.until(do.AwaitApproval, REQUEST)
    told.settle(local_reply())
    assert outcome(told)["status"] == "local_reply"
    assert told.session.hold_ending is HoldEnding.LEFT


@pytest.mark.parametrize("error", [ApprovalUnavailable("x"), TooManyHolds("caller")])
@pytest.mark.parametrize("step", [do.AskApproval, do.AwaitApproval])
def test_register_fails(step: type[Any], error: ApprovalUnavailable | TooManyHolds) -> None:
    told = held()
    told.settle(head())
    told.until(step, REQUEST)
    effect = told.settle(ev.Failed(AT, error))
    assert isinstance(effect, do.Refuse)
    assert (effect.refusal.status, effect.refusal.code) == (503, error.code)
    assert effect.refusal.retry_after_seconds is not None


def test_upgrade_cannot_be_approved() -> None:
    """Nobody can see what will be said there, so nobody can agree to it."""
    told = held()
    effect = told.settle(head(("connection", b"upgrade"), ("upgrade", b"websocket"), route=UPGRADES.name))
    assert isinstance(effect, do.Refuse)
    assert (effect.refusal.status, effect.refusal.code) == (403, "approval_required")
    assert not told.session.was_held


# In an emergency ---------------------------------------------------------------------------------------------------

WHY = "production is down, incident 4711"
EMERGENCY = replace(TO_BE_APPROVED, approval=None, break_glass="emergency")
SAID = ("x-affidavit-break-glass", WHY.encode())


def emergency() -> Conversation:
    """A conversation where the policy lets a call pass without people."""
    return Conversation(lambda effect: ev.Decided(AT, EMERGENCY) if isinstance(effect, do.Decide) else done(effect))


def test_emergency_is_a_record_of_its_own_before_the_call() -> None:
    told = emergency()
    effect = told.settle(head(SAID), REQUEST)
    assert isinstance(effect, do.Continue)
    assert kinds(told) == ["approval.break_glass", "inference.intent"]
    broken, intent = told.entries
    [why] = broken.payloads
    assert (why.role, why.body) == ("approval.justification", WHY.encode())
    assert broken.facts["policy"]["break_glass"] == intent.facts["policy"]["break_glass"] == "emergency"
    assert "x-affidavit-break-glass" in effect.remove_headers, "it is for us, not for the model"
    assert WHY not in repr([entry.facts for entry in told.entries]), "in clear nowhere"
    assert not told.session.was_held


def test_emergency_that_cannot_be_recorded_does_not_pass() -> None:
    told = emergency()
    told.settle(head(SAID))
    told.until(do.Record, REQUEST)
    effect = told.settle(ev.Failed(AT, AuditUnavailable("deadline")))
    assert isinstance(effect, do.Refuse)
    assert effect.refusal.status == 503


def test_emergency_that_the_caller_never_spoke_of() -> None:
    """A policy that breaks the glass for nobody who asked is not followed."""
    effect = emergency().settle(head(), REQUEST)
    assert isinstance(effect, do.Refuse)
    assert (effect.refusal.status, effect.refusal.code) == (403, "approval_required")


def test_caller_leaves_in_an_emergency() -> None:
    told = emergency()
    told.settle(head(SAID))
    told.until(do.Record, REQUEST)
    told.say(ev.StreamEnded(AT))
    told.settle(ev.Recorded(AT, receipt()))
    assert kinds(told) == ["approval.break_glass", "inference.outcome"]
    assert outcome(told)["status"] == "abandoned"


@pytest.mark.parametrize("value", [b"short", b"x" * 501, b"caf\xc3\xa9 is on fire"])
def test_emergency_must_say_why(value: bytes) -> None:
    effect = emergency().settle(head(("x-affidavit-break-glass", value)))
    assert isinstance(effect, do.Refuse)
    assert (effect.refusal.status, effect.refusal.code) == (400, "bad_break_glass")
    assert "x-affidavit-break-glass" in effect.refusal.text
    assert "8 to 500" in effect.refusal.text


def test_policy_is_told_of_it() -> None:
    told = emergency()
    told.settle(head(SAID), REQUEST)
    [asked] = [one.call for one in told.effects if isinstance(one, do.Decide)]
    assert asked.is_emergency
    calm = emergency()
    calm.settle(head(), REQUEST)
    [asked] = [one.call for one in calm.effects if isinstance(one, do.Decide)]
    assert not asked.is_emergency
