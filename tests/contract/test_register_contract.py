"""One suite for `approval.register.Register`: the fake, SQLite, and a real PostgreSQL."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from ext_proc.approval.register import Limits
from ext_proc.approval.register_sql import SqlRegister
from ext_proc.errors import ApprovalUnavailable, TooManyHolds
from ext_proc.model import HoldEnding, HoldId, HoldState
from tests.fakes.holds import (
    ADA,
    APPROVERS,
    BOB,
    EVE,
    HERE,
    KIM,
    NOW,
    SECOND,
    THERE,
    TWO,
    VALID,
    WITHIN,
    X,
    Y,
    Z,
    a_hold,
    exchange,
    no,
    yes,
)
from tests.fakes.register import FakeRegister

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ext_proc.approval.hold import Hold
    from ext_proc.approval.register import Register
    from tests.contract.databases import Database

LIMITS = Limits(pending_max=5, pending_max_per_caller=3, kept_max_per_caller=6)
LATER = NOW + timedelta(minutes=1)
PENDING, APPROVED, CLAIMED, USED = HoldState.PENDING, HoldState.APPROVED, HoldState.CLAIMED, HoldState.USED
DENIED, EXPIRED = HoldState.DENIED, HoldState.EXPIRED
WITHDRAWN, ABANDONED = HoldState.WITHDRAWN, HoldState.ABANDONED


@dataclass
class Setting:
    register: Register
    database: Database | None = None

    @property
    def there(self) -> Database:
        assert self.database is not None
        return self.database

    def break_(self) -> None:
        if isinstance(self.register, FakeRegister):
            self.register.is_down = True
        else:
            self.there.break_()

    def mend(self) -> None:
        if isinstance(self.register, FakeRegister):
            self.register.is_down = False
        else:
            self.there.mend()


@pytest.fixture(params=["fake", "sqlite", "postgresql"])
def here(request: Any, open_database: Callable[[str], Database]) -> Iterator[Setting]:
    if request.param == "fake":
        yield Setting(FakeRegister(LIMITS))
        return
    found = open_database(request.param)
    register = SqlRegister.from_url(found.url, limits=LIMITS)
    yield Setting(register, found)
    register.close()


@pytest.fixture
def register(here: Setting) -> Register:
    return here.register


def state(register: Register, hold: Hold, now: Any = NOW) -> HoldState:
    found = register.find(hold.hold_id, now)
    assert found is not None
    assert register.states([hold.hold_id], now) == {hold.hold_id: found.state}
    return found.state


def approved(register: Register, what: str = "a") -> Hold:
    hold = register.ask(a_hold(what), X, HERE, NOW)
    after = register.resolve(hold.hold_id, yes(), b"", NOW)
    assert after is not None and after.state is APPROVED
    return after


def claimed(register: Register, what: str = "a") -> Hold:
    after = register.claim(approved(register, what).hold_id, X, HERE, NOW)
    assert after is not None and (after.state, after.claimed_by) == (CLAIMED, X)
    return after


# Asking --------------------------------------------------------------------------------------------------------------


def test_what_is_asked_is_kept_whole(register: Register) -> None:
    hold = a_hold(tenant="acme", terms=TWO, sealed=b"masked", sealed_clear=b"clear")
    asked = register.ask(hold, X, HERE, NOW)
    assert asked == replace(hold, waiting=(X,), sealed=None, sealed_clear=None)
    assert register.find(hold.hold_id, NOW) == replace(hold, waiting=(X,))
    assert register.find(HoldId("0" * 32), NOW) is None and register.said(hold.hold_id) == {}


def test_strange_names_are_kept(register: Register) -> None:
    """Tenants come from tokens, groups from policies: whatever a text can be."""
    strange = "a\0b\ud800'\u2028\""
    hold = a_hold(tenant=strange, terms=replace(TWO, groups=(strange,), reason=strange), facts={strange: strange})
    register.ask(hold, X, HERE, NOW)
    assert register.find(hold.hold_id, NOW) == replace(hold, waiting=(X,))
    assert [one.hold_id for one in register.pending(strange, [strange], NOW, 9)] == [hold.hold_id]
    assert register.pending(None, [strange], NOW, 9) == []


def test_the_same_asked_again_is_the_same_hold(register: Register) -> None:
    first = register.ask(a_hold(), X, HERE, NOW)
    again = register.ask(a_hold(at=LATER), Y, THERE, LATER)
    assert again.hold_id == first.hold_id and again.asked_at == NOW and set(again.waiting) == {X, Y}
    assert register.ask(a_hold(at=LATER), Y, THERE, LATER) == again
    other = register.ask(a_hold("b"), Z, HERE, NOW)
    assert other.hold_id != first.hold_id


def test_what_is_over_is_asked_anew(register: Register) -> None:
    first = claimed(register)
    register.ended(first.hold_id, X, HoldEnding.PASSED, NOW)
    assert state(register, first) is USED
    second = register.ask(a_hold(at=LATER), Y, HERE, LATER)
    assert second.hold_id != first.hold_id and second.state is PENDING and second.resolutions == ()
    late = NOW + 2 * WITHIN
    third = register.ask(a_hold(at=late), Z, HERE, late)
    assert third.hold_id not in {first.hold_id, second.hold_id} and third.state is PENDING
    assert state(register, second, late) is EXPIRED


def test_a_denial_stands_until_the_time_is_over(register: Register) -> None:
    hold = register.ask(a_hold(), X, HERE, NOW)
    denied = register.resolve(hold.hold_id, no(), b"", NOW)
    assert denied is not None and denied.state is DENIED and denied.waiting == ()
    again = register.ask(a_hold(at=LATER), Y, HERE, hold.expires_at - SECOND)
    assert (again.hold_id, again.state, again.waiting) == (hold.hold_id, DENIED, ())
    asked_anew = register.ask(a_hold(at=LATER), Y, HERE, hold.expires_at)
    assert asked_anew.hold_id != hold.hold_id and asked_anew.state is PENDING


def test_too_many_of_one_caller(register: Register) -> None:
    for what in "abc":
        register.ask(a_hold(what), X, HERE, NOW)
    with pytest.raises(TooManyHolds, match="of this caller"):
        register.ask(a_hold("d"), X, HERE, NOW)
    assert register.count_pending(NOW) == 3
    register.ask(a_hold("c"), Y, HERE, NOW)  # no new one
    register.ask(a_hold("d", caller_ref=KIM), X, HERE, NOW)
    register.ended(a_hold("a").hold_id, X, HoldEnding.LEFT, NOW)
    with pytest.raises(TooManyHolds, match="of this caller"):  # what was withdrawn is kept, and can be sent again
        register.ask(a_hold("e"), X, HERE, NOW)
    assert state(register, a_hold("a")) is WITHDRAWN
    assert register.ask(a_hold("a"), X, HERE, NOW).state is PENDING
    register.resolve(a_hold("b").hold_id, yes(), b"", NOW)
    register.ask(a_hold("e"), X, HERE, NOW)
    late = NOW + WITHIN
    assert register.count_pending(late) == 0  # nobody had to write down that they expired
    register.ask(a_hold("f", at=late), X, HERE, late)


def test_the_one_that_waits_longest(register: Register) -> None:
    assert register.oldest_pending(NOW) is None
    register.ask(a_hold("b", at=NOW), Y, HERE, NOW)
    first = register.ask(a_hold("a", at=NOW - timedelta(seconds=90)), X, HERE, NOW)
    assert register.oldest_pending(NOW) == NOW - timedelta(seconds=90)
    register.resolve(first.hold_id, no(), b"", NOW)
    assert register.oldest_pending(NOW) == NOW
    assert register.oldest_pending(NOW + WITHIN) is None  # what expired waits no more, also where nobody wrote it down


def test_too_many_in_all(register: Register) -> None:
    for number, what in enumerate("abcde"):
        register.ask(a_hold(what, caller_ref=f"hmac-sha256:{number}"), X, HERE, NOW)
    with pytest.raises(TooManyHolds, match="of all"):
        register.ask(a_hold("f"), X, HERE, NOW)
    register.resolve(a_hold("a").hold_id, yes(), b"", NOW)
    register.ask(a_hold("f"), X, HERE, NOW)


def test_who_sends_and_leaves_does_not_fill_the_register(register: Register) -> None:
    """Each with other bytes, and nobody waits: kept they are all the same, until their time is over."""
    kept = 0
    for number in range(40):
        try:
            register.ask(a_hold(f"flood-{number}"), X, HERE, NOW)
            kept += 1
        except TooManyHolds:
            continue
        register.ended(a_hold(f"flood-{number}").hold_id, X, HoldEnding.LEFT, NOW)
    assert kept == 3 and register.count_pending(NOW) == 0
    for number in range(2):
        register.ask(a_hold(f"other-{number}", caller_ref=f"hmac-sha256:{number}"), X, HERE, NOW)
    with pytest.raises(TooManyHolds, match="of all"):
        register.ask(a_hold("one-more", caller_ref=KIM), X, HERE, NOW)


def test_of_what_is_over_the_newest_are_kept(register: Register) -> None:
    asked = []
    for round_ in range(4):
        at = NOW + round_ * 2 * WITHIN
        for number in range(3):
            hold = a_hold(f"{round_}-{number}", at=at + number * SECOND)
            asked.append(register.ask(hold, X, HERE, at).hold_id)
    last = NOW + 6 * WITHIN
    assert [one.hold_id for one in register.of_caller(ADA, last, 99)] == asked[:-7:-1]
    assert register.find(asked[0], last) is None and register.said(asked[0]) == {}
    later = last + 2 * WITHIN
    register.ask(a_hold("other", at=later, caller_ref=KIM), X, HERE, later)
    assert len(register.of_caller(ADA, later, 99)) == 6  # somebody else's ask takes nothing of theirs


# Resolving and passing -----------------------------------------------------------------------------------------------


def test_several_people_agree(register: Register) -> None:
    hold = register.ask(a_hold(terms=TWO), X, HERE, NOW)
    first = register.resolve(hold.hold_id, yes(BOB), b"because", NOW)
    assert first is not None and first.state is PENDING and first.resolutions == (yes(BOB),)
    assert register.resolve(hold.hold_id, yes(BOB, sequence=99), b"again", NOW) is None
    second = register.resolve(hold.hold_id, yes(EVE, LATER), b"too", LATER)
    assert second is not None and second.state is APPROVED and second.valid_until == LATER + VALID
    assert register.resolve(hold.hold_id, no(KIM), b"", LATER) is None
    assert register.said(hold.hold_id) == {BOB: b"because", EVE: b"too"}
    found = register.find(hold.hold_id, LATER)
    assert found is not None and found.resolutions == (yes(BOB), yes(EVE, LATER))


def test_what_does_not_count_changes_nothing(register: Register) -> None:
    hold = register.ask(a_hold(), X, HERE, NOW)
    before = register.find(hold.hold_id, NOW)
    assert register.resolve(hold.hold_id, yes(ADA), b"", NOW) is None  # their own
    assert register.resolve(HoldId("0" * 32), yes(), b"", NOW) is None
    assert register.find(hold.hold_id, NOW) == before and register.said(hold.hold_id) == {}
    assert register.resolve(hold.hold_id, yes(), b"", hold.expires_at) is None
    assert register.said(hold.hold_id) == {}


def test_one_approval_lets_one_pass(register: Register) -> None:
    hold = approved(register)
    waits = register.ask(a_hold(), Y, THERE, NOW)  # whoever asks next claims it
    assert (waits.state, waits.claimed_by) == (CLAIMED, Y)
    other = register.claim(hold.hold_id, X, HERE, NOW)
    assert other is not None and other.claimed_by == Y
    assert other.standing(X).state is APPROVED and other.standing(Y).state is CLAIMED
    register.ended(hold.hold_id, Y, HoldEnding.PASSED, NOW)
    register.ended(hold.hold_id, Y, HoldEnding.LEFT, NOW)  # idempotent, and what passed passed
    assert state(register, hold) is USED
    last = register.claim(hold.hold_id, X, HERE, NOW)
    assert last is not None and last.state is USED and last.claimed_by == Y


def test_what_was_not_used_is_there_for_the_next(register: Register) -> None:
    hold = claimed(register)
    register.ended(hold.hold_id, X, HoldEnding.LEFT, NOW)
    assert state(register, hold) is APPROVED
    late_claim = register.claim(hold.hold_id, X, HERE, NOW)  # it left: it takes nothing with it
    assert late_claim is not None and late_claim.state is APPROVED
    again = register.ask(a_hold(at=LATER), Y, HERE, LATER)
    assert (again.hold_id, again.claimed_by) == (hold.hold_id, Y)


def test_whoever_waits_for_anothers_claim_gets_what_it_gives_back(register: Register) -> None:
    hold = claimed(register)
    waits = register.ask(a_hold(), Y, THERE, NOW)
    assert waits.claimed_by == X and set(waits.waiting) == {X, Y}
    register.ended(hold.hold_id, X, HoldEnding.LEFT, NOW)
    mine = register.claim(hold.hold_id, Y, THERE, NOW)
    assert mine is not None and mine.claimed_by == Y


def test_an_approval_ends(register: Register) -> None:
    hold = approved(register)
    assert hold.valid_until == NOW + VALID
    assert state(register, hold, NOW + VALID - SECOND) is APPROVED
    late = register.claim(hold.hold_id, X, HERE, NOW + VALID)
    assert late is not None and late.state is EXPIRED and late.claimed_by is None
    early = register.claim(hold.hold_id, X, HERE, NOW)  # the clock went back: what has expired has expired
    assert early is not None and early.state is EXPIRED


def test_what_was_claimed_in_time_may_pass_late(register: Register) -> None:
    hold = claimed(register)
    late = NOW + VALID + SECOND
    assert register.expire(late) == 1
    assert state(register, hold, late) is EXPIRED
    register.ended(hold.hold_id, X, HoldEnding.PASSED, late)
    assert state(register, hold, late) is USED


# Leaving and coming back ---------------------------------------------------------------------------------------------


def test_the_last_one_who_leaves_withdraws(register: Register) -> None:
    hold = register.ask(a_hold(terms=TWO), X, HERE, NOW)
    register.ask(a_hold(terms=TWO), Y, THERE, NOW)
    register.resolve(hold.hold_id, yes(BOB), b"", NOW)
    register.ended(hold.hold_id, X, HoldEnding.LEFT, NOW)
    assert state(register, hold) is PENDING
    register.ended(hold.hold_id, Y, HoldEnding.LEFT, NOW)
    assert state(register, hold) is WITHDRAWN
    assert register.resolve(hold.hold_id, yes(EVE), b"", NOW) is None
    assert register.pending(None, APPROVERS, NOW, 9) == []
    again = register.ask(a_hold(at=LATER), Z, HERE, LATER)
    assert (again.hold_id, again.state, again.waiting) == (hold.hold_id, PENDING, (Z,))
    assert again.resolutions == (yes(BOB),)  # what was said still counts
    last = register.resolve(hold.hold_id, yes(EVE, LATER), b"", LATER)
    assert last is not None and last.state is APPROVED


def test_whoever_was_told_to_come_back_may(register: Register) -> None:
    hold = register.ask(a_hold(), X, HERE, NOW)
    for _ in range(2):
        register.ended(hold.hold_id, X, HoldEnding.TOLD, NOW)
    found = register.find(hold.hold_id, NOW)
    assert found is not None and (found.state, found.waiting, found.is_detached) == (PENDING, (), True)
    register.ask(a_hold(), Y, THERE, NOW)
    register.ended(hold.hold_id, Y, HoldEnding.LEFT, NOW)
    assert state(register, hold) is PENDING
    register.resolve(hold.hold_id, yes(), b"", NOW)
    assert register.ask(a_hold(), Z, THERE, NOW).claimed_by == Z


def test_whoever_is_told_to_come_back_gives_back_what_it_claimed(register: Register) -> None:
    hold = claimed(register)
    register.ended(hold.hold_id, X, HoldEnding.TOLD, NOW)
    assert state(register, hold) is APPROVED


# Lists ---------------------------------------------------------------------------------------------------------------


def test_an_exchange_ends_whose_hold_nobody_knows(register: Register) -> None:
    """The answer to its question was lost: what it claimed is there for the next one, what it waits for withdrawn."""
    hold = register.ask(a_hold(), X, HERE, NOW)
    assert register.resolve(hold.hold_id, yes(), b"said", NOW)
    assert register.ask(a_hold(), Y, HERE, NOW).claimed_by == Y
    assert register.ended_anywhere(Z, HoldEnding.LEFT, NOW) == 0
    assert register.ended_anywhere(Y, HoldEnding.LEFT, NOW) == 1
    assert register.ended_anywhere(Y, HoldEnding.LEFT, NOW) == 0
    assert register.claim(hold.hold_id, X, HERE, NOW).claimed_by == X
    other = register.ask(a_hold("b"), Z, THERE, NOW)
    assert register.ended_anywhere(Z, HoldEnding.LEFT, NOW) == 1
    assert register.find(other.hold_id, NOW).state is WITHDRAWN
    register.abandon_silent(register.beats(), NOW)
    assert register.find(hold.hold_id, NOW).waiting == ()
    assert register.ended_anywhere(X, HoldEnding.LEFT, NOW) == 1, "it does not wait any more, and claims still"
    assert register.find(hold.hold_id, NOW).state is APPROVED


def test_the_inbox_of_a_group(register: Register) -> None:
    for number, (what, terms, tenant) in enumerate(
        [("a", a_hold().terms, None), ("b", TWO, None), ("c", TWO, "acme"), ("d", TWO, None)]
    ):
        asked = NOW + number * SECOND
        register.ask(a_hold(what, what * 32, asked, terms=terms, tenant=tenant, caller_ref=what), X, HERE, asked)

    def inbox(tenant: str | None, groups: tuple[str, ...], limit: int = 9, **more: Any) -> str:
        found = register.pending(tenant, groups, more.pop("now", LATER), limit, **more)
        assert all(one.sealed is None and one.facts and one.waiting == (X,) for one in found)
        return "".join(one.hold_id[0] for one in found)

    assert inbox(None, ("approvers", "officers", "approvers")) == "abd"
    assert inbox(None, ("officers",)) == "bd" and inbox("acme", ("officers",)) == "c"
    assert inbox(None, ()) == inbox(None, ("strangers",)) == inbox("other", ("officers",)) == ""
    assert inbox(None, APPROVERS, 2) == "ab"
    assert inbox(None, APPROVERS, 2, after=HoldId("b" * 32)) == "d"
    assert inbox(None, APPROVERS, 2, after=HoldId("f" * 32)) == "ab"
    assert inbox(None, APPROVERS, now=NOW + WITHIN) == "bd"
    register.resolve(HoldId("b" * 32), no(), b"", LATER)
    assert inbox(None, APPROVERS) == "ad" and inbox(None, APPROVERS, 1, after=HoldId("a" * 32)) == "d"
    assert register.count_pending(LATER) == 3


def test_what_waits_for_a_person_and_what_they_have_answered(register: Register) -> None:
    register.ask(a_hold("a", "a" * 32, NOW, terms=TWO), X, HERE, NOW)
    register.ask(a_hold("b", "b" * 32, NOW + SECOND, terms=TWO, caller_ref=KIM), X, HERE, NOW)
    register.ask(a_hold("c", "c" * 32, NOW, tenant="acme", caller_ref=EVE), X, HERE, NOW)
    groups = ("approvers", "officers")

    def waiting(who: str, now: Any = LATER, tenant: str | None = None, groups: tuple[str, ...] = groups) -> int:
        return register.count_waiting_for(tenant, groups, who, now)

    assert (waiting(BOB), waiting(ADA), waiting(KIM), waiting(BOB, tenant="acme")) == (2, 1, 1, 1)
    assert (waiting(BOB, groups=()), waiting(BOB, NOW + 9 * WITHIN)) == (0, 0)
    assert register.answered_by(BOB, LATER, 9) == []
    register.resolve(HoldId("b" * 32), yes(BOB), b"", NOW)
    register.resolve(HoldId("a" * 32), yes(BOB), b"", NOW)
    assert (waiting(BOB), waiting(EVE), len(register.pending(None, groups, LATER, 9))) == (0, 2, 2)
    found = register.answered_by(BOB, LATER, 9)
    assert [one.hold_id[0] for one in found] == ["a", "b"] and all(one.sealed is None for one in found)
    assert [one.hold_id[0] for one in register.answered_by(BOB, LATER, 1)] == ["a"]
    assert register.answered_by(EVE, LATER, 9) == register.answered_by(BOB, NOW + 9 * WITHIN, 9) == []
    register.resolve(HoldId("a" * 32), yes(EVE), b"", NOW)
    assert [one.hold_id[0] for one in register.answered_by(BOB, LATER, 9)] == ["b"]


def test_a_callers_own(register: Register) -> None:
    for number, what in enumerate("abc"):
        register.ask(a_hold(what, what * 32, NOW + number * SECOND), X, HERE, NOW)
    register.ask(a_hold("d", caller_ref=KIM), X, HERE, NOW)
    assert [one.hold_id[0] for one in register.of_caller(ADA, LATER, 2)] == ["c", "b"]
    assert [one.state for one in register.of_caller(ADA, NOW + WITHIN + SECOND, 9)] == [PENDING, EXPIRED, EXPIRED]
    assert register.of_caller(BOB, LATER, 9) == []


def test_many_states_at_once(here: Setting) -> None:
    asked = [here.register.ask(a_hold(what), X, HERE, NOW).hold_id for what in "abc"]
    here.register.resolve(asked[1], no(), b"", NOW)
    unknown = [HoldId(f"{number:032x}") for number in range(1200)]
    assert here.register.states([*unknown, *asked], NOW) == dict(zip(asked, [PENDING, DENIED, PENDING], strict=True))
    assert set(here.register.states(asked, NOW + WITHIN).values()) == {EXPIRED, DENIED}
    assert here.register.states([], NOW) == {}


# Workers that die ----------------------------------------------------------------------------------------------------


def test_a_silent_workers_exchanges_are_gone(register: Register) -> None:
    alone = register.ask(a_hold("a"), X, HERE, NOW)
    shared = register.ask(a_hold("b"), X, HERE, NOW)
    register.ask(a_hold("b"), Y, THERE, NOW)
    told = register.ask(a_hold("c"), X, HERE, NOW)
    register.ended(told.hold_id, X, HoldEnding.TOLD, NOW)
    register.ask(a_hold("c"), Z, HERE, NOW)
    before = register.beats()
    register.beat(THERE.origin, LATER)
    assert register.abandon_silent({}, LATER) == 0
    assert register.abandon_silent(before, LATER) == 1
    assert [state(register, one) for one in (alone, shared, told)] == [ABANDONED, PENDING, PENDING]
    found = register.find(shared.hold_id, LATER)
    assert found is not None and found.waiting == (Y,)
    assert register.abandon_silent(before, LATER) == 0
    assert register.beats().keys() == {THERE.origin}, "the dead are forgotten"
    late = register.claim(alone.hold_id, X, HERE, LATER)
    assert late is not None and late.state is ABANDONED
    assert register.ask(a_hold("a"), X, HERE, LATER).state is PENDING  # it lived after all: it asks again


def test_whoever_asks_lives(register: Register) -> None:
    register.ask(a_hold("a"), X, HERE, NOW)
    before = register.beats()
    register.ask(a_hold("b"), Y, HERE, LATER)
    assert register.abandon_silent(before, LATER) == 0
    assert state(register, a_hold("a"), LATER) is PENDING


def test_clocks_of_workers_lie_apart(register: Register) -> None:
    """What a worker says tells only whether it said something since, also where its clock went back."""
    register.ask(a_hold("a"), X, HERE, NOW)
    register.ask(a_hold("b"), Y, THERE, NOW - timedelta(days=1))
    before = register.beats()
    register.beat(HERE.origin, NOW - timedelta(hours=1))
    register.beat(THERE.origin, NOW - timedelta(days=1) + 2 * SECOND)
    after = register.beats()
    assert before.keys() == after.keys() == {HERE.origin, THERE.origin}
    assert all(before[one] != after[one] for one in before)
    assert register.abandon_silent(before, NOW + timedelta(minutes=1)) == 0
    assert register.abandon_silent({HERE.origin: after[THERE.origin]}, NOW) == 0
    assert register.abandon_silent({HERE.origin: after[HERE.origin]}, NOW) == 1
    assert [state(register, a_hold(what)) for what in "ab"] == [ABANDONED, PENDING]


def test_silence_tells_nothing_of_a_claim(register: Register) -> None:
    hold = claimed(register)
    register.abandon_silent(register.beats(), LATER)
    assert state(register, hold, LATER) is CLAIMED


@pytest.mark.parametrize(
    ("first_sequence", "passed", "becomes"),
    [
        (0, frozenset(), APPROVED),  # killed between claim and intent
        (HERE.next_sequence, frozenset({Y}), APPROVED),
        (HERE.next_sequence, frozenset({X}), USED),  # killed after the intent
        (HERE.next_sequence + 1, frozenset(), USED),  # nobody knows
    ],
)
def test_a_dead_workers_log_tells(register: Register, first_sequence: int, passed: Any, becomes: HoldState) -> None:
    hold, others = claimed(register), register.ask(a_hold("b"), Y, THERE, NOW)
    waits, shared = register.ask(a_hold("c"), Z, HERE, NOW), register.ask(a_hold("b"), Z, HERE, NOW)
    assert register.recovered("gw/worker-7/1", 0, frozenset(), NOW) == 0
    assert register.recovered(HERE.origin, first_sequence, passed, NOW) == 2
    assert [state(register, one) for one in (hold, others, waits, shared)] == [becomes, PENDING, ABANDONED, PENDING]
    assert register.recovered(HERE.origin, first_sequence, passed, NOW) == 0
    again = register.ask(a_hold(at=LATER), Y, THERE, LATER)
    assert (again.hold_id == hold.hold_id and again.claimed_by == Y) is (becomes is APPROVED)


def test_a_log_tells_only_of_its_own_claims(register: Register) -> None:
    hold = claimed(register)
    register.ended(hold.hold_id, X, HoldEnding.LEFT, NOW)
    register.ask(a_hold(), Y, THERE, NOW)
    assert register.recovered(HERE.origin, 0, frozenset(), NOW) == 0
    found = register.find(hold.hold_id, NOW)
    assert found is not None and (found.state, found.claimed_by) == (CLAIMED, Y)
    assert register.recovered(THERE.origin, 0, frozenset({Y}), NOW) == 1
    assert state(register, hold) is USED


def test_a_late_log_tells_also_of_what_has_expired(register: Register) -> None:
    passed, left = claimed(register, "a"), claimed(register, "b")
    late = NOW + VALID
    register.expire(late)
    assert register.recovered(HERE.origin, 11, frozenset({X}), late) == 2
    assert state(register, passed, late) is USED
    assert state(register, left, late) is USED  # also X's


# Time ----------------------------------------------------------------------------------------------------------------


def test_what_time_has_done_is_written_down(register: Register) -> None:
    pending, agreed = register.ask(a_hold("a"), X, HERE, NOW), approved(register, "b")
    denied = register.ask(a_hold("c"), X, HERE, NOW)
    register.resolve(denied.hold_id, no(), b"", NOW)
    assert register.expire(NOW + VALID - SECOND) == 0
    assert register.expire(NOW + VALID) == 1 and register.expire(NOW + WITHIN) == 1
    assert register.expire(NOW + WITHIN) == 0
    assert [state(register, one) for one in (pending, agreed, denied)] == [EXPIRED, EXPIRED, DENIED]
    found = register.find(pending.hold_id, NOW)
    assert found is not None and found.waiting == ()


def test_what_is_long_over_is_forgotten(register: Register) -> None:
    old, new = register.ask(a_hold("a", terms=TWO), X, HERE, NOW), a_hold("b", at=LATER)
    register.resolve(old.hold_id, yes(), b"why", NOW)
    register.ask(new, X, HERE, LATER)
    assert register.sweep(NOW + WITHIN - SECOND) == 0
    assert register.sweep(NOW + WITHIN) == 1
    assert register.find(old.hold_id, NOW) is None and register.said(old.hold_id) == {}
    assert register.states([old.hold_id, new.hold_id], LATER) == {new.hold_id: PENDING}
    assert register.sweep(NOW + 2 * WITHIN) == 1
    assert register.ask(a_hold("a"), X, HERE, NOW).state is PENDING


def test_a_valid_approval_is_not_forgotten(register: Register) -> None:
    hold = register.ask(a_hold(), X, HERE, NOW)
    last = NOW + WITHIN - SECOND
    register.resolve(hold.hold_id, yes(at=last), b"", last)
    assert register.sweep(NOW + WITHIN) == 0 and state(register, hold, NOW + WITHIN) is APPROVED
    assert register.sweep(last + VALID) == 1


# Out of reach --------------------------------------------------------------------------------------------------------


def test_out_of_reach_and_back(here: Setting) -> None:
    register = here.register
    hold = register.ask(a_hold(), X, HERE, NOW)
    before = register.find(hold.hold_id, NOW)
    here.break_()
    try:
        asks: tuple[Any, ...] = (
            lambda: register.ask(a_hold("b"), Y, HERE, NOW),
            lambda: register.claim(hold.hold_id, X, HERE, NOW),
            lambda: register.ended(hold.hold_id, X, HoldEnding.LEFT, NOW),
            lambda: register.resolve(hold.hold_id, yes(), b"", NOW),
            lambda: register.find(hold.hold_id, NOW),
            lambda: register.said(hold.hold_id),
            lambda: register.pending(None, APPROVERS, NOW, 9),
            lambda: register.of_caller(ADA, NOW, 9),
            lambda: register.count_pending(NOW),
            lambda: register.oldest_pending(NOW),
            lambda: register.states([hold.hold_id], NOW),
            lambda: register.beat(HERE.origin, NOW),
            register.beats,
            lambda: register.abandon_silent({HERE.origin: "a"}, NOW),
            lambda: register.recovered(HERE.origin, 0, frozenset(), NOW),
            lambda: register.expire(NOW),
            lambda: register.sweep(NOW),
        )
        for ask in asks:
            with pytest.raises(ApprovalUnavailable, match="approval_register"):
                ask()
    finally:
        here.mend()
    assert register.find(hold.hold_id, NOW) == before
    assert register.claim(hold.hold_id, exchange(9), HERE, NOW) == replace(hold, sealed=None)
