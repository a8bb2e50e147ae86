"""The console's ``/metrics``: how it answers, how telling people goes, and how many calls wait for them."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from aiohttp import web
from prometheus_client import PROCESS_COLLECTOR, CollectorRegistry

from ext_proc import telemetry
from ext_proc.app.process import clock
from ext_proc.app.serving.scraping import encoded
from ext_proc.errors import ApprovalUnavailable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from prometheus_client.metrics_core import Metric

    from ext_proc.approval.register import Register

OURS: Final = (telemetry.CONSOLE_SECONDS, telemetry.NOTICES, telemetry.KEY_FETCHES)
"""What this process counts: the gate's own counters would only be zeros here."""


class WaitingCollector:
    """How many holds wait for people, and how long the first of them has. Nothing where the register is away."""

    def __init__(self, register: Register) -> None:
        self._register = register

    def collect(self) -> Iterator[Metric]:
        """See `prometheus_client.registry.Collector`."""
        now = clock()
        with suppress(ApprovalUnavailable):
            waiting, oldest = self._register.count_pending(now), self._register.oldest_pending(now)
            yield telemetry.APPROVALS_PENDING.of(waiting)
            yield telemetry.APPROVALS_OLDEST.of((now - oldest).total_seconds() if oldest else 0.0)


def metrics_app(register: Register) -> web.Application:
    """For an address of its own: browsers never come here."""
    found = CollectorRegistry()
    for ours in (*OURS, PROCESS_COLLECTOR):
        found.register(ours)
    found.register(WaitingCollector(register))

    async def metrics(request: web.Request) -> web.Response:
        return await asyncio.to_thread(encoded, found, request.headers.get("accept", ""))

    app = web.Application()
    app.router.add_get("/metrics", metrics)
    return app
