"""`approval.watch` and the bell on real databases: what one register changes, others hear, also after bad times."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from contextlib import asynccontextmanager, contextmanager
from datetime import timedelta
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, Any

import pytest

from ext_proc.approval.bell import Bell
from ext_proc.approval.register_sql import SqlRegister
from ext_proc.approval.watch import SqliteWatch, Watch, open_watch
from ext_proc.audit.registry_sql import SqlRegistry
from ext_proc.errors import ApprovalUnavailable
from ext_proc.model import HoldEnding, HoldState
from tests.fakes.holds import HERE, NOW, X, Y, a_hold, no, yes

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from tests.contract.databases import Database

ROOT = Path(__file__).resolve().parents[2]
LONG = timedelta(hours=1)
PENDING = HoldState.PENDING


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: Any, open_database: Callable[[str], Database]) -> Database:
    return open_database(request.param)


@pytest.fixture
def register(database: Database) -> Iterator[SqlRegister]:
    found = SqlRegister.from_url(database.url)
    yield found
    found.close()


@contextmanager
def watching(database: Database) -> Iterator[Watch]:
    watch = open_watch(database.url)
    try:
        yield watch
    finally:
        watch.close()


@asynccontextmanager
async def ringing(database: Database, register: SqlRegister) -> AsyncIterator[Bell]:
    with watching(database) as watch:
        bell = Bell(watch, register, lambda: NOW)
        async with asyncio.TaskGroup() as tasks:
            running = tasks.create_task(bell.run_forever())
            yield bell
            running.cancel()


def test_changes_ring_and_nothing_else_does(database: Database, register: SqlRegister) -> None:
    with watching(database) as watch:
        assert watch.wait(60)  # who knows what was before
        assert not watch.wait(0.1)
        hold = register.ask(a_hold(), X, HERE, NOW)  # the tables are made under its eyes
        assert watch.wait(60) and not watch.wait(0.1)
        register.ask(a_hold(), Y, HERE, NOW)  # one more that waits: nobody's business
        register.claim(hold.hold_id, X, HERE, NOW)
        register.beat(HERE.origin, NOW + LONG)
        keys = SqlRegistry.from_url(database.url)
        keys.add("a", 1, b"wrapped")  # the registry of keys is a busy neighbour
        keys.close()
        assert not watch.wait(0.3)
        register.resolve(hold.hold_id, yes(), b"", NOW)
        assert watch.wait(60)
        register.claim(hold.hold_id, X, HERE, NOW)
        assert watch.wait(60)
        register.ended(hold.hold_id, X, HoldEnding.PASSED, NOW)
        assert watch.wait(60)


def test_what_changed_between_two_calls_rings(database: Database, register: SqlRegister) -> None:
    with watching(database) as watch:
        watch.wait(0)
        for what in "abc":
            register.ask(a_hold(what), X, HERE, NOW)
        assert watch.wait(60)


def test_closing_lets_go(database: Database) -> None:
    watch = open_watch(database.url)
    watch.wait(0)
    waits = Thread(target=watch.wait, args=(3600,))
    waits.start()
    watch.close()
    waits.join()
    assert not watch.wait(3600)


@pytest.mark.parametrize("database", ["postgresql"], indirect=True)
def test_deaf_and_hearing_again(database: Database, register: SqlRegister) -> None:
    register.ask(a_hold("a"), X, HERE, NOW)
    with watching(database) as watch:
        watch.wait(0)
        database.break_()
        for _ in range(2):
            with pytest.raises(ApprovalUnavailable, match="not heard"):
                watch.wait(60)
        database.mend()
        assert watch.wait(60)  # who knows what was missed
        register.ask(a_hold("b"), X, HERE, NOW)
        assert watch.wait(60)


def test_not_a_database(tmp_path: Path) -> None:
    (tmp_path / "registry.sqlite").write_bytes(b"something else" * 100)
    watch = open_watch(f"sqlite:///{tmp_path}/registry.sqlite")
    assert isinstance(watch, SqliteWatch)
    with pytest.raises(ApprovalUnavailable):
        watch.wait(0)
    watch.close()


async def test_an_approval_elsewhere_releases_the_call_held_here(database: Database, register: SqlRegister) -> None:
    other = SqlRegister.from_url(database.url)
    hold = register.ask(a_hold(), X, HERE, NOW)
    async with ringing(database, register) as bell, asyncio.TaskGroup() as tasks:
        waits = tasks.create_task(bell.changed(hold.hold_id, PENDING, NOW + LONG))
        inbox = tasks.create_task(bell.any_change())
        await inbox  # the watch is up
        again = tasks.create_task(bell.any_change(inbox.result()))
        await asyncio.to_thread(other.resolve, hold.hold_id, yes(), b"", NOW)
        await waits
        assert await again > inbox.result()
        mine = await asyncio.to_thread(register.claim, hold.hold_id, X, HERE, NOW)
        assert mine is not None and mine.claimed_by == X
    other.close()


ELSEWHERE = """
import sys
from datetime import datetime
from ext_proc.approval.register_sql import SqlRegister
from ext_proc.model import HoldId, Resolution
now = datetime.fromisoformat(sys.argv[3])
register = SqlRegister.from_url(sys.argv[1])
print(register.resolve(HoldId(sys.argv[2]), Resolution(False, "bob", now, "gw/console/1", 1), b"", now).state)
"""


async def test_a_denial_by_another_process_is_heard(database: Database, register: SqlRegister) -> None:
    hold = register.ask(a_hold(), X, HERE, NOW)
    async with ringing(database, register) as bell, asyncio.TaskGroup() as tasks:
        waits = tasks.create_task(bell.changed(hold.hold_id, PENDING, NOW + LONG))
        command = [sys.executable, "-c", ELSEWHERE, database.url, hold.hold_id, NOW.isoformat()]
        said = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, timeout=120, cwd=ROOT)
        assert said.stdout == "denied\n", said.stderr
        await waits


async def test_the_bell_outlives_its_database(database: Database, register: SqlRegister) -> None:
    hold = register.ask(a_hold(), X, HERE, NOW)
    async with ringing(database, register) as bell, asyncio.TaskGroup() as tasks:
        waits = tasks.create_task(bell.changed(hold.hold_id, PENDING, NOW + LONG))
        await bell.any_change()
        await asyncio.to_thread(database.break_)
        await bell.changed(hold.hold_id, PENDING, NOW + timedelta(seconds=1.5))
        assert not waits.done()
        await asyncio.to_thread(database.mend)
        await asyncio.to_thread(register.resolve, hold.hold_id, no(), b"", NOW)
        await waits
