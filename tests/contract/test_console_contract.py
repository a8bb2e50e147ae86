"""The console's ports: its fake against the suite that the real one is held to, and sessions in memory."""

from __future__ import annotations

import asyncio
from itertools import count
from typing import TYPE_CHECKING, Any

import pytest

from ext_proc.app.approvals import Approvals
from ext_proc.app.console_approvals import DeskApprovals
from ext_proc.app.holds import HoldDesk
from ext_proc.approval.bell import Bell
from ext_proc.approval.register import Holder
from ext_proc.audit.keys import KeyRing
from ext_proc.console.sessions import MemorySessions
from ext_proc.model import ExchangeId
from tests.contract.console_suites import ApprovalsSuite, Made, SessionsSuite
from tests.fakes.console_rooms import Clock, FakeApprovals
from tests.fakes.desks import FakeLog, an_asking
from tests.fakes.register import FakeRegister
from tests.fakes.registry import FakeRegistry

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from ext_proc.model import Identity


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


class TestMemorySessions(SessionsSuite):
    @pytest.fixture
    async def sessions(self) -> MemorySessions:
        return MemorySessions()
