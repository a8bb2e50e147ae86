"""The console's `/metrics`: how many wait and how long, how it answers; no address that somebody made up."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from aiohttp.test_utils import TestClient, TestServer
from prometheus_client.parser import text_string_to_metric_families

from ext_proc import telemetry
from ext_proc.app.console import metrics
from ext_proc.app.process import clock
from ext_proc.errors import ApprovalUnavailable
from tests.fakes.holds import HERE, X, Y, a_hold
from tests.fakes.register import FakeRegister


async def _scraped(register: Any) -> dict[str, Any]:
    async with TestClient(TestServer(metrics.metrics_app(register))) as client:
        answer = await client.get("/metrics")
        assert answer.status == 200
        text = await answer.text()
    return {one.name: one for one in text_string_to_metric_families(text)}


async def test_who_waits() -> None:
    register, now = FakeRegister(), clock()
    assert (await _scraped(register))["affidavit_approvals_oldest_pending_seconds"].samples[0].value == 0
    for what, who, age in (("a", X, 100), ("b", Y, 10)):
        register.ask(a_hold(what, at=now - timedelta(seconds=age)), who, HERE, now)
    found = await _scraped(register)
    assert found["affidavit_approvals_pending"].samples[0].value == 2
    assert 100 <= found["affidavit_approvals_oldest_pending_seconds"].samples[0].value < 220
    assert found["process_resident_memory_bytes"].samples[0].value > 0
    assert "affidavit_exchanges" not in found  # the gate's


async def test_register_that_is_away_leaves_the_rest() -> None:
    class Away(FakeRegister):
        def count_pending(self, now: Any) -> int:
            raise ApprovalUnavailable("approval_register")

    telemetry.CONSOLE_SECONDS.labels("me", "2xx").observe(0.1)
    found = await _scraped(Away())
    assert "affidavit_approvals_pending" not in found
    assert {"me"} <= {one.labels["route"] for one in found["affidavit_console_request_seconds"].samples}
