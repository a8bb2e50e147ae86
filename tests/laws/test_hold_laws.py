"""The laws of holds, over callers, approvers, workers that die, logs that are read late, and a clock that errs.

- Never do two exchanges pass with one approval, and none without as many different people as were demanded.
- Nobody's own yes counts. A denial that was first is the last word.
- An approval that is valid, and that nobody used, is there for whoever sends the call next.
- Every hold ends, in a state that says how; nothing waits for what is over; what is pending is waited for.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Final

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from ext_proc.approval.hold import Hold, objection
from ext_proc.approval.register import Holder
from ext_proc.approval.register_sql import SqlRegister
from ext_proc.database import sqlite_url
from ext_proc.model import ExchangeId, HoldEnding, HoldId, HoldState
from tests.fakes.holds import ADA, BOB, EVE, KIM, NOW, TERMS, TWO, a_hold, exchange, no, person, yes
from tests.fakes.register import FakeRegister

if TYPE_CHECKING:
    from ext_proc.approval.register import Register

OVER: Final = {HoldState.USED, HoldState.DENIED, HoldState.EXPIRED}
FOREVER: Final = timedelta(days=9)
ASKED: Final = {"one": TERMS, "two": TWO}
PICK: Final = st.integers(0, 9)
PEOPLE: Final = st.sampled_from([ADA, BOB, EVE, KIM])


@dataclass
class Worker:
    """One life of a worker: the intents in its log are the exchanges that passed."""

    origin: str
    log: list[ExchangeId | None] = field(default_factory=list)

    def holder(self) -> Holder:
        return Holder(self.origin, len(self.log))


@dataclass
class Held:
    """An exchange that lives and was held."""

    exchange_id: ExchangeId
    worker: Worker
    hold_id: HoldId
    is_claimer: bool


class World(RuleBasedStateMachine):
    """What everybody does."""

    makes: ClassVar[Any] = None

    @initialize()
    def begin(self) -> None:
        self.folder = tempfile.TemporaryDirectory(prefix="affidavit-holds-")
        self.register: Register = type(self).makes(Path(self.folder.name))
        self.now: datetime = NOW
        self.count = 0
        self.workers = [self.new_worker() for _ in range(2)]
        self.dead: list[Worker] = []
        self.living: list[Held] = []
        self.held: dict[ExchangeId, HoldId] = {}
        self.passed: list[ExchangeId] = []
        self.lost: set[HoldId] = set()
        self.told: dict[HoldId, Hold] = {}
        self.beats: dict[str, str] = {}

    def new_worker(self) -> Worker:
        self.count += 1
        return Worker(f"gw/worker/{self.count}")

    def find(self, hold_id: HoldId) -> Hold:
        found = self.register.find(hold_id, self.now)
        assert found is not None
        return found

    # Callers

    @rule(what=st.sampled_from(sorted(ASKED)), pick=PICK)
    def ask(self, what: str, pick: int) -> None:
        self.count += 1
        worker, mine = self.workers[pick % 2], exchange(self.count)
        valid = [hold for hold in map(self.find, self.told) if hold.state is HoldState.APPROVED]
        asked = a_hold(what, f"{self.count:032x}", self.now, terms=ASKED[what])
        hold = self.register.ask(asked, mine, worker.holder(), self.now)
        self.told.setdefault(hold.hold_id, hold)
        self.held[mine] = hold.hold_id
        if any(one.binding_sha256 == hold.binding_sha256 for one in valid):
            assert (hold.state, hold.claimed_by) == (HoldState.CLAIMED, mine)
        assert hold.state in {HoldState.PENDING, HoldState.CLAIMED, HoldState.DENIED}
        if hold.state is not HoldState.DENIED:
            self.living.append(Held(mine, worker, hold.hold_id, self.may_pass(hold, mine)))

    def may_pass(self, hold: Hold, mine: ExchangeId) -> bool:
        """By the standing that the gate goes by."""
        is_claimed = hold.standing(mine).state is HoldState.CLAIMED
        if is_claimed:
            assert hold.valid_until is not None and self.now < hold.valid_until
            assert not any(not one.is_yes for one in hold.resolutions)
            assert len({one.person_ref for one in hold.resolutions}) >= hold.terms.count
        return is_claimed

    @rule(what=st.sampled_from(sorted(ASKED)), pick=PICK)
    def ask_and_agree(self, what: str, pick: int) -> None:
        """The usual way, so that what may go wrong after it is tried often."""
        self.ask(what, pick)
        if self.living:
            hold_id = self.living[-1].hold_id
            for who in (BOB, EVE):
                self.register.resolve(hold_id, yes(who, self.now), b"", self.now)
            self.claim(len(self.living) - 1)

    @precondition(lambda self: self.living)
    @rule(pick=PICK)
    def claim(self, pick: int) -> None:
        mine = self.living[pick % len(self.living)]
        hold = self.register.claim(mine.hold_id, mine.exchange_id, mine.worker.holder(), self.now)
        assert hold is not None
        mine.is_claimer = mine.is_claimer or self.may_pass(hold, mine.exchange_id)

    @precondition(lambda self: any(one.is_claimer for one in self.living))
    @rule(pick=PICK, is_said=st.booleans())
    def passes(self, pick: int, is_said: bool) -> None:
        """Its intent is durable; whether the register hears of it is another matter."""
        claimers = [one for one in self.living if one.is_claimer]
        mine = claimers[pick % len(claimers)]
        mine.worker.log.append(mine.exchange_id)
        self.passed.append(mine.exchange_id)
        self.living.remove(mine)
        if is_said:
            self.register.ended(mine.hold_id, mine.exchange_id, HoldEnding.PASSED, self.now)
            assert self.find(mine.hold_id).state is HoldState.USED

    @precondition(lambda self: self.living)
    @rule(pick=PICK, ending=st.sampled_from([HoldEnding.LEFT, HoldEnding.TOLD]), again=st.booleans())
    def leave(self, pick: int, ending: HoldEnding, again: bool) -> None:
        mine = self.living.pop(pick % len(self.living))
        for _ in range(1 + again):
            self.register.ended(mine.hold_id, mine.exchange_id, ending, self.now)
        late = self.register.claim(mine.hold_id, mine.exchange_id, mine.worker.holder(), self.now)
        assert late is not None
        assert late.state is not HoldState.CLAIMED or late.claimed_by != mine.exchange_id

    # Approvers

    @precondition(lambda self: self.told)
    @rule(pick=PICK, who=PEOPLE, is_yes=st.booleans(), is_checked=st.booleans())
    def resolve(self, pick: int, who: str, is_yes: bool, is_checked: bool) -> None:
        """Between the check and the change others may have spoken: then the check says nothing."""
        hold = self.find(list(self.told)[-1 - pick % len(self.told)])
        said = (yes if is_yes else no)(who, self.now)
        after = self.register.resolve(hold.hold_id, said, b"", self.now)
        if objection(hold, person(who), "I know why.") is None:
            assert after is not None and after.resolutions == (*hold.resolutions, said)
        else:
            assert after is None and self.find(hold.hold_id).resolutions == hold.resolutions
        assert is_checked or who != ADA or after is None

    # Bad times

    @rule(seconds=st.sampled_from([1, 1, 30, 200, 400, 700, -3, -60]))
    def time_passes(self, seconds: int) -> None:
        self.now += timedelta(seconds=seconds)

    @rule(pick=PICK)
    def other_records(self, pick: int) -> None:
        self.workers[pick % 2].log.append(None)

    @rule(pick=PICK)
    def kill(self, pick: int) -> None:
        worker = self.workers[pick % 2]
        self.workers[pick % 2] = self.new_worker()
        self.dead.append(worker)
        self.living = [one for one in self.living if one.worker is not worker]

    @precondition(lambda self: self.dead)
    @rule(pick=PICK, is_torn=st.booleans(), is_kept=st.booleans())
    def recover(self, pick: int, is_torn: bool, is_kept: bool) -> None:
        """Of a log that is torn, only what comes after half of it can be read; some are read twice."""
        worker = self.dead[pick % len(self.dead)]
        if not is_kept:
            self.dead.remove(worker)
        first = (len(worker.log) + 1) // 2 if is_torn else 0
        self.read(worker, first)

    def read(self, worker: Worker, first: int) -> None:
        passed = frozenset(one for one in worker.log[first:] if one is not None)
        if first:
            self.lost |= {self.held[one] for one in self.held}
        self.register.recovered(worker.origin, first, passed, self.now)

    @rule(is_wrong=st.booleans())
    def housekeeping(self, is_wrong: bool) -> None:
        """Who has said nothing since the last time is taken for dead; or somebody looks who is wrong about everybody."""
        silent = self.register.beats() if is_wrong else self.beats
        self.register.beat(self.workers[0].origin, self.now)
        self.register.abandon_silent(silent, self.now)
        self.register.expire(self.now)
        self.beats = self.register.beats()

    # Laws

    @invariant()
    def one_approval_lets_one_pass(self) -> None:
        holds = [self.held[one] for one in self.passed]
        assert len(holds) == len(set(holds))

    @invariant()
    def every_hold_is_in_order(self) -> None:
        for hold in map(self.find, self.told):
            said = hold.resolutions
            assert len({one.person_ref for one in said}) == len(said) and ADA not in {one.person_ref for one in said}
            assert (hold.state is HoldState.DENIED) == any(not one.is_yes for one in said)
            assert all(one.is_yes for one in said[:-1])
            assert hold.state is not HoldState.PENDING or hold.waiting or hold.is_detached
            assert not (hold.is_detached and hold.state in {HoldState.WITHDRAWN, HoldState.ABANDONED})
            assert hold.state not in OVER or not hold.waiting
            assert (hold.claimed_by is None) or hold.state in {HoldState.CLAIMED, HoldState.USED, HoldState.EXPIRED}
            if hold.state in {HoldState.APPROVED, HoldState.CLAIMED, HoldState.USED}:
                assert len(said) == hold.terms.count
            if hold.state is HoldState.USED and hold.hold_id not in self.lost:
                assert hold.claimed_by in self.passed

    @invariant()
    def lists_agree(self) -> None:
        holds = list(map(self.find, self.told))
        assert self.register.states(self.told, self.now) == {hold.hold_id: hold.state for hold in holds}
        pending = {hold.hold_id for hold in holds if hold.state is HoldState.PENDING}
        assert {one.hold_id for one in self.register.pending(None, ("approvers",), self.now, 999)} == pending
        assert self.register.count_pending(self.now) == len(pending)
        assert len(self.register.of_caller(ADA, self.now, 999)) == len(holds)

    def teardown(self) -> None:
        """Everybody dies, every log is read, time passes: every hold has ended."""
        if not hasattr(self, "folder"):
            return
        for worker in (*self.dead, *self.workers):
            self.read(worker, 0)
        for hold in map(self.find, self.told):
            assert hold.state is not HoldState.CLAIMED and not hold.waiting
            used = hold.hold_id in {self.held[one] for one in self.passed}
            assert not used or hold.state is HoldState.USED
        self.now += FOREVER
        self.register.expire(self.now)
        assert all(self.find(one).state in OVER for one in self.told)
        assert self.register.sweep(self.now) == len(self.told)
        if isinstance(self.register, SqlRegister):
            self.register.close()
        self.folder.cleanup()


class InMemory(World):
    makes = staticmethod(lambda _: FakeRegister())


class InSqlite(World):
    makes = staticmethod(lambda folder: SqlRegister.from_url(sqlite_url(folder / "registry.sqlite")))


def _laws(world: type[World], examples: int, steps: int) -> None:
    run_state_machine_as_test(  # type: ignore[no-untyped-call]
        world,
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )


def test_the_laws_hold_of_the_rules() -> None:
    _laws(InMemory, 100, 50)


def test_the_laws_hold_in_a_database() -> None:
    _laws(InSqlite, 8, 30)
