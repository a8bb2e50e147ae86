"""The console's ports: its fake against the suite that the real one is held to, and sessions in memory."""

from __future__ import annotations

import asyncio
from itertools import count
from typing import TYPE_CHECKING, Any

import pytest
from jsonschema import Draft202012Validator

from ext_proc.app import quiet
from ext_proc.app.approval.approvals import Approvals
from ext_proc.app.approval.holds import HoldDesk
from ext_proc.app.console.approvals import DeskApprovals
from ext_proc.app.console.refusals import NotedRefusals
from ext_proc.approval.bell import Bell
from ext_proc.approval.register import Holder
from ext_proc.audit import kinds
from ext_proc.audit.keys import KeyRing
from ext_proc.audit.record import SCHEMA
from ext_proc.console.sessions import MemorySessions
from ext_proc.errors import AuditUnavailable
from ext_proc.model import ExchangeId
from tests.contract.console_suites import EVE, ApprovalsSuite, Made, Noted, RefusalsSuite, SessionsSuite
from tests.fakes.console_rooms import Clock, FakeApprovals, FakeRefusals
from tests.fakes.desks import FakeLog, an_asking
from tests.fakes.recorded import FakeJournal
from tests.fakes.register import FakeRegister
from tests.fakes.registry import FakeRegistry

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from ext_proc.model import Identity


ORIGIN, AT = "demo.example/gw-0-command/20261125T110000000000-0a0b0c0d", "2026-11-25T12:00:00.000000Z"


class TestFakeApprovals(ApprovalsSuite):
    @pytest.fixture
    async def made(self) -> Made:
        clock, numbers = Clock(), count(1)
        approvals = FakeApprovals(clock)

        async def ask(asker: Identity, **terms: Any) -> str:
            return await approvals.add(next(numbers), asker, **terms)

        return Made(
            approvals,
            ask,
            lambda: len(approvals.views),
            lambda: len(approvals.actions),
            lambda by: clock.move(seconds=by),
        )


class TestDeskApprovals(ApprovalsSuite):
    """The real one, over the register in memory: the register has a contract of its own."""

    @pytest.fixture
    async def made(self) -> AsyncIterator[Made]:
        clock, numbers = Clock(), count(1)
        register, log = FakeRegister(), FakeLog()
        keyring = KeyRing(b"k" * 32, b"p" * 32, FakeRegistry(), lambda: 100.0)
        bell = Bell(register.watch, register, clock)
        holder = Holder("demo/gw-0/1", 7)
        gate = HoldDesk(keyring, register, bell, lambda: holder, lambda _: None, clock)
        desk = DeskApprovals(
            Approvals(keyring, register, log, clock), bell, lambda one: keyring.subject_reference(one.identity)
        )

        async def ask(asker: Identity, **terms: Any) -> str:
            number = next(numbers)
            asking = an_asking(
                ExchangeId(f"exchange-{number}"), asker, f'{{"ask":"number {number}"}}'.encode(), **terms
            )
            return (await gate.ask(asking, clock())).hold_id

        ringing = asyncio.create_task(gate.live())
        yield Made(
            desk,
            ask,
            lambda: log.kinds.count("approval.viewed"),
            lambda: sum(one.is_yes for hold in register.kept.values() for one in hold.hold.resolutions),
            lambda by: clock.move(seconds=by),
        )
        ringing.cancel()


class TestFakeRefusals(RefusalsSuite):
    @pytest.fixture
    def made(self) -> Noted:
        clock = Clock()
        refusals = FakeRefusals(clock)

        def fail(is_down: bool) -> None:
            refusals.failure = AuditUnavailable("full") if is_down else None

        return Noted(
            refusals, lambda: [told[1:] for told in refusals.noted], fail, lambda minutes: clock.move(minutes=minutes)
        )


class TestNotedRefusals(RefusalsSuite):
    @pytest.fixture
    def made(self) -> Noted:
        clock, journal = Clock(), FakeJournal()
        keyring = KeyRing(b"k" * 32, b"p" * 32, FakeRegistry(), lambda: 100.0)
        validator = Draft202012Validator(kinds.schema_of("access.refused"))

        def leaves() -> list[tuple[str, str, str, int]]:
            made = []
            for number, (kind, told) in enumerate(journal.notes):
                common = {"schema": SCHEMA, "kind": kind, "origin": ORIGIN, "sequence": number, "at": AT}
                validator.validate({**common, **told})
                made.append((told["page"], told["code"], told["channel"], told["repeated"]))
            return made

        def fail(is_down: bool) -> None:
            journal.failure = AuditUnavailable("full") if is_down else None

        return Noted(NotedRefusals(keyring, journal, clock), leaves, fail, lambda minutes: clock.move(minutes=minutes))

    async def test_memory_is_bounded(self, made: Noted, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(quiet, "KEPT_MAX", 3)
        for page in ("inbox", "hold", "charts", "exchanges", "policies"):
            await made.refusals.note(EVE, page, "role_missing", is_api=False)

        assert isinstance(made.refusals, NotedRefusals)
        assert [page for _, page in made.refusals._quiet._last] == ["charts", "exchanges", "policies"]


class TestMemorySessions(SessionsSuite):
    @pytest.fixture
    async def sessions(self) -> MemorySessions:
        return MemorySessions()
