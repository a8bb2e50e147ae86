"""The register in SQLite and PostgreSQL when several come at once, when it breaks half way, and when it is not ours."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from threading import Barrier
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import event, text

from ext_proc.approval.register import Holder, Limits
from ext_proc.approval.register_sql import SqlRegister
from ext_proc.audit.registry_sql import SqlRegistry
from ext_proc.database import open_engine, sqlite_url
from ext_proc.errors import ApprovalUnavailable, TooManyHolds
from ext_proc.model import HoldEnding, HoldState
from tests.fakes.holds import (
    ADA,
    APPROVERS,
    BOB,
    EVE,
    HERE,
    KIM,
    NOW,
    TWO,
    WITHIN,
    X,
    Y,
    a_hold,
    exchange,
    no,
    yes,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ext_proc.approval.hold import Hold
    from tests.contract.databases import Database

ROOT = Path(__file__).resolve().parents[2]
AT_ONCE = 4


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: Any, open_database: Callable[[str], Database]) -> Database:
    return open_database(request.param)


@pytest.fixture
def register(database: Database) -> Iterator[SqlRegister]:
    found = SqlRegister.from_url(database.url)
    yield found
    found.close()


def all_at_once(act: Callable[[int], Any]) -> list[Any]:
    """Several threads, let go together."""
    gate = Barrier(AT_ONCE)

    def one(number: int) -> Any:
        gate.wait()
        return act(number)

    with ThreadPoolExecutor(AT_ONCE) as pool:
        return list(pool.map(one, range(AT_ONCE)))


# Several at once -----------------------------------------------------------------------------------------------------


def test_several_open_a_new_file_at_once(tmp_path: Path) -> None:
    """Workers of a gateway that starts for the first time: SQLite does not wait by itself where its log is begun."""
    for number in range(100):
        engines = [open_engine(sqlite_url(tmp_path / f"{number}.sqlite")) for _ in range(AT_ONCE)]

        def look(which: int, engines: list[Any] = engines) -> int:
            with engines[which].connect() as connection:
                return int(connection.execute(text("select 1")).scalar_one())

        assert all_at_once(look) == [1] * AT_ONCE
        for engine in engines:
            engine.dispose()


def test_the_same_call_many_times_at_once_is_one_hold(database: Database) -> None:
    """Each opens the register for itself; there are no tables yet."""
    registers = [SqlRegister.from_url(database.url) for _ in range(AT_ONCE)]

    def ask(number: int) -> list[str]:
        asked = [a_hold(f"{step}", f"{number:016}{step:016}") for step in range(5)]
        return [registers[number].ask(one, exchange(number), HERE, NOW).hold_id for one in asked]

    first, *others = all_at_once(ask)
    assert all(one == first for one in others)
    assert registers[0].count_pending(NOW) == 5
    for hold_id in first:
        found = registers[0].find(hold_id, NOW)  # type: ignore[arg-type]
        assert found is not None and len(found.waiting) == AT_ONCE
    for one in registers:
        one.close()


def test_of_two_approvers_who_speak_at_once_one_is_first(register: SqlRegister) -> None:
    people = (BOB, EVE, KIM, "hmac-sha256:" + "e" * 64)
    for round_ in range(5):
        hold = register.ask(a_hold(f"{round_}"), X, HERE, NOW)

        def speak(number: int, hold: Hold = hold) -> Hold | None:
            return register.resolve(hold.hold_id, (no if number % 2 else yes)(people[number]), b"%d" % number, NOW)

        won = [number for number, after in enumerate(all_at_once(speak)) if after is not None]
        assert len(won) == 1
        found = register.find(hold.hold_id, NOW)
        assert found is not None and len(found.resolutions) == 1
        assert found.state is (HoldState.DENIED if won[0] % 2 else HoldState.APPROVED)
        assert register.said(hold.hold_id) == {people[won[0]]: b"%d" % won[0]}


def test_somebody_who_clicks_twice_is_one_person(register: SqlRegister) -> None:
    hold = register.ask(a_hold(terms=TWO), X, HERE, NOW)
    after = all_at_once(lambda number: register.resolve(hold.hold_id, yes(BOB, sequence=number), b"", NOW))
    assert [one.state for one in after if one is not None] == [HoldState.PENDING]


def test_the_limits_are_exact(database: Database) -> None:
    register = SqlRegister.from_url(database.url, limits=Limits(pending_max=7, pending_max_per_caller=4))

    def ask(number: int) -> int:
        kept = 0
        for step in range(4):
            asked = a_hold(f"{number} {step}", f"{number:016}{step:016}", caller_ref=(ADA, KIM)[number % 2])
            try:
                register.ask(asked, exchange(number), HERE, NOW)
            except TooManyHolds:
                continue
            kept += 1
        return kept

    assert sum(all_at_once(ask)) == register.count_pending(NOW) == 7
    assert max(len(register.of_caller(one, NOW, 99)) for one in (ADA, KIM)) == 4
    register.close()


def test_everybody_does_everything_at_once(register: SqlRegister) -> None:
    """Nobody locks up: asking, leaving, resolving, expiring and recovering take their locks in one order."""
    holders = [Holder(f"gw/worker-{number}/1", 1) for number in range(AT_ONCE)]

    def live(number: int) -> None:
        for step in range(12):
            mine = exchange(100 * number + step)
            hold = register.ask(a_hold(f"{step % 3}", f"{number:016}{step:016}"), mine, holders[number], NOW)
            register.resolve(hold.hold_id, yes((BOB, EVE)[number % 2]), b"", NOW)
            register.claim(hold.hold_id, mine, holders[number], NOW)
            if number == 0:
                register.recovered(holders[1].origin, 0, frozenset(), NOW)
            if number == 1:
                register.expire(NOW)
                register.abandon_silent(register.beats(), NOW)
            register.ended(hold.hold_id, mine, (HoldEnding.PASSED, HoldEnding.LEFT)[step % 2], NOW)
            register.pending(None, APPROVERS, NOW, 9)

    all_at_once(live)
    found = register.of_caller(ADA, NOW, 999)
    assert found and all(not hold.waiting for hold in found)


RACER = """
import sys
from datetime import datetime
from ext_proc.approval.register import Holder
from ext_proc.approval.register_sql import SqlRegister
from ext_proc.model import ExchangeId, HoldId
register = SqlRegister.from_url(sys.argv[1])
number, now, holds = sys.argv[2], datetime.fromisoformat(sys.argv[3]), sys.argv[4:]
print("ready", flush=True)
sys.stdin.readline()
mine = ExchangeId(number)
for hold in holds:
    found = register.claim(HoldId(hold), mine, Holder("gw/worker/" + number, 1), now)
    if found.standing(mine).state == "claimed":
        print(hold)
register.close()
"""


def test_of_processes_that_would_pass_one_does(database: Database, register: SqlRegister) -> None:
    names = [f"racer-{number}" for number in range(3)]
    holds = []
    for step in range(12):
        for name in names:
            hold = register.ask(a_hold(f"{step}"), name, HERE, NOW)  # type: ignore[arg-type]
        holds.append(hold.hold_id)
        register.resolve(hold.hold_id, yes(), b"", NOW)
    command = [sys.executable, "-c", RACER, database.url]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    racers = [
        subprocess.Popen(
            [*command, name, NOW.isoformat(), *holds], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=env
        )
        for name in names
    ]
    try:
        for racer in racers:
            assert racer.stdout is not None and racer.stdout.readline() == "ready\n"
        for racer in racers:
            assert racer.stdin is not None
            racer.stdin.write("go\n")
            racer.stdin.flush()
        said = [line for racer in racers for line in racer.communicate(timeout=120)[0].split()]
    finally:
        for racer in racers:
            racer.kill()
            racer.wait()
    assert Counter(said) == dict.fromkeys(holds, 1)


def test_what_is_claimed_anew_while_a_log_is_read_is_not_that_logs(database: Database, register: SqlRegister) -> None:
    """Two read the log of the same dead worker; between the look of one and its change the other was done."""
    hold = register.ask(a_hold(), X, HERE, NOW)
    register.resolve(hold.hold_id, yes(), b"", NOW)
    register.claim(hold.hold_id, X, HERE, NOW)
    other = SqlRegister.from_url(database.url)
    looked = []

    def overtake(*_: object) -> None:
        if not looked:  # its look is over, its change has not begun
            looked.append(True)
            assert other.recovered(HERE.origin, 0, frozenset(), NOW) == 1
            assert other.ask(a_hold(), Y, Holder("gw/worker-1/1", 0), NOW).claimed_by == Y

    event.listen(register._tables.engine, "checkin", overtake)
    assert register.recovered(HERE.origin, 0, frozenset(), NOW) == 0
    found = register.find(hold.hold_id, NOW)
    assert looked and found is not None and (found.state, found.claimed_by) == (HoldState.CLAIMED, Y)
    other.close()


# Half way ------------------------------------------------------------------------------------------------------------


def test_what_breaks_half_way_has_not_happened(database: Database, register: SqlRegister) -> None:
    hold = register.ask(a_hold(), X, HERE, NOW)
    before = register.find(hold.hold_id, NOW)
    with breaking_half_way(database, register), pytest.raises(ApprovalUnavailable, match="approval_register"):
        register.resolve(hold.hold_id, no(), b"why", NOW)
    assert register.find(hold.hold_id, NOW) == before and register.said(hold.hold_id) == {}
    with breaking_half_way(database, register), pytest.raises(ApprovalUnavailable, match="approval_register"):
        register.ended(hold.hold_id, X, HoldEnding.LEFT, NOW)
    assert register.find(hold.hold_id, NOW) == before
    assert [one.hold_id for one in register.pending(None, APPROVERS, NOW, 9)] == [hold.hold_id]
    after = register.resolve(hold.hold_id, no(), b"why", NOW)
    assert after is not None and after.state is HoldState.DENIED


class breaking_half_way:  # noqa: N801 (reads as a context)
    """The server goes, or the disk fails, when the hold's row is written and its place in the inbox is not."""

    def __init__(self, database: Database, register: SqlRegister) -> None:
        self._database = database
        self._engine = register._tables.engine

    def __enter__(self) -> None:
        if self._database.postgres is not None:
            event.listen(self._engine, "before_cursor_execute", self._stop)
            return
        trigger = "CREATE TRIGGER failing BEFORE DELETE ON hold_inbox BEGIN SELECT RAISE(ABORT, 'disk'); END"
        self._database.execute(trigger)

    def _stop(self, connection: Any, cursor: Any, statement: str, *_: Any) -> None:
        if statement.startswith("DELETE FROM hold_inbox"):
            self._database.break_()

    def __exit__(self, *_: object) -> None:
        if self._database.postgres is not None:
            event.remove(self._engine, "before_cursor_execute", self._stop)
            self._database.mend()
            return
        self._database.execute("DROP TRIGGER failing")


# What is over weighs nothing ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_no_look_goes_through_all_holds(register: SqlRegister) -> None:
    hold = register.ask(a_hold(), X, HERE, NOW)
    looks: list[tuple[str, Any]] = []
    event.listen(register._tables.engine, "before_cursor_execute", lambda *a: looks.append((a[2], a[3])))
    register.ask(a_hold("b"), Y, HERE, NOW)
    register.resolve(hold.hold_id, yes(), b"", NOW)
    register.claim(hold.hold_id, X, HERE, NOW)
    register.pending(None, APPROVERS, NOW, 9, after=hold.hold_id)
    register.of_caller(ADA, NOW, 9)
    register.count_pending(NOW)
    register.states([hold.hold_id], NOW)
    register.beat(HERE.origin, NOW)
    register.recovered(HERE.origin, 0, frozenset({X}), NOW)
    register.abandon_silent(register.beats(), NOW)
    register.expire(NOW + WITHIN)
    with closing(register._tables.engine.raw_connection()) as connection, closing(connection.cursor()) as cursor:
        for statement, told in [(one, told) for one, told in looks if one.startswith(("SELECT", "UPDATE", "DELETE"))]:
            plan = [row[3] for row in cursor.execute(f"EXPLAIN QUERY PLAN {statement}", told)]
            assert not any(step.startswith("SCAN hold") for step in plan if "hold_workers" not in step), statement
    assert len(looks) > 40


def test_what_was_used_is_no_claim_any_more(database: Database, register: SqlRegister) -> None:
    """Or whoever recovers a log would read all that was ever claimed under it."""
    hold = register.ask(a_hold(), X, HERE, NOW)
    register.resolve(hold.hold_id, yes(), b"", NOW)
    for step, ending in enumerate((HoldEnding.LEFT, HoldEnding.PASSED)):
        register.ask(a_hold(), exchange(step), HERE, NOW)
        assert claims(register) == 1
        register.ended(hold.hold_id, exchange(step), ending, NOW)
        assert claims(register) == 0


def claims(register: SqlRegister) -> int:
    with register._tables.reading() as connection:
        return connection.execute(text("SELECT count(claim_origin) FROM holds")).scalar_one()


# Not ours ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE holds SET state = 'paused'",
        "UPDATE holds SET terms = '{}'",
        "UPDATE holds SET terms = '[]'",
        "UPDATE holds SET terms = replace(terms, '\"count\"', '\"number\"')",
        "UPDATE holds SET tenant = 'acme'",
        "UPDATE holds SET asked_at = 'yesterday'",
    ],
)
def test_a_hold_of_another_version_is_told_apart(database: Database, register: SqlRegister, change: str) -> None:
    hold = register.ask(a_hold(), X, HERE, NOW)
    database.execute(change)
    for act in (
        lambda: register.find(hold.hold_id, NOW),
        lambda: register.claim(hold.hold_id, X, HERE, NOW),
        lambda: register.ask(a_hold(), Y, HERE, NOW),
        lambda: register.of_caller(ADA, NOW, 9),
    ):
        with pytest.raises(ApprovalUnavailable, match="another version"):
            act()
    if "state" in change:
        with pytest.raises(ApprovalUnavailable, match="another version"):
            register.states([hold.hold_id], NOW)
    assert register.ask(a_hold("b"), Y, HERE, NOW).state is HoldState.PENDING


def test_tables_of_another_version_are_told_apart(database: Database, register: SqlRegister) -> None:
    database.execute("CREATE TABLE holds (hold_id TEXT PRIMARY KEY, state TEXT)")
    with pytest.raises(ApprovalUnavailable, match=r"holds was made by another version"):
        register.find(a_hold().hold_id, NOW)


def test_nobody_makes_tables_to_look_after_them(database: Database, register: SqlRegister) -> None:
    register.beat(HERE.origin, NOW)
    assert register.sweep(NOW) == register.expire(NOW) == register.abandon_silent({HERE.origin: "a"}, NOW) == 0
    assert register.beats() == {}
    assert register.recovered(HERE.origin, 0, frozenset(), NOW) == 0
    assert database._tables() == []
    with closing(SqlRegistry.from_url(database.url)) as keys:  # they stand side by side
        register.ask(a_hold(), X, HERE, NOW)
        keys.add("a", 1, b"wrapped")
        assert keys.newest("a") is not None
