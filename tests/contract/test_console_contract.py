"""The console's ports: its fake against the suite that the real one is held to, and sessions in memory."""

from __future__ import annotations

from itertools import count
from typing import TYPE_CHECKING, Any

import pytest

from ext_proc.console.sessions import MemorySessions
from tests.contract.console_suites import ApprovalsSuite, Made, SessionsSuite
from tests.fakes.console_rooms import Clock, FakeApprovals

if TYPE_CHECKING:
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


class TestMemorySessions(SessionsSuite):
    @pytest.fixture
    async def sessions(self) -> MemorySessions:
        return MemorySessions()
