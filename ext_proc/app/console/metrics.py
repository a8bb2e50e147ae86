"""The console's ``/metrics``: how it answers, how telling people goes, how many calls wait for them, and how its own
evidence gets to the store.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from aiohttp import web
from prometheus_client import PROCESS_COLLECTOR, CollectorRegistry

from ext_proc import telemetry
from ext_proc.app.process import clock, read_states
from ext_proc.app.serving.scraping import encoded
from ext_proc.app.serving.standing import EvidenceCollector, is_shipping
from ext_proc.errors import ApprovalUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from prometheus_client.metrics_core import Metric
    from prometheus_client.registry import Collector

    from ext_proc.approval.register import Register
    from ext_proc.config import Config

OURS: Final = (
    telemetry.CONSOLE_SECONDS,
    telemetry.NOTICES,
    telemetry.KEY_FETCHES,
    telemetry.COMMIT_SECONDS,
    telemetry.COMMIT_RECORDS,
)
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


class ShippingCollector:
    """Can its log be written, and how does what is on the disk get to the store: by the names that a gateway's
    supervisor has for it, so that the same alerts look at it. Beside a gateway the supervisor tells the rest: it is the
    same disk and the same shipper, and nobody is to be woken twice. What no console has (workers, a policy) is not
    here: it would be an alert for nothing, or silence one (`AffidavitAbsent`).

    Args:
        config: the configuration.
        failure: why nothing can be written any more.
    """

    def __init__(self, config: Config, failure: Callable[[], str | None]) -> None:
        self._config, self._failure = config, failure

    def collect(self) -> Iterator[Metric]:
        """See `prometheus_client.registry.Collector`."""
        now, states = clock().timestamp(), read_states(self._config.run_dir)
        parts = {"evidence": self._failure() is None}
        if "supervisor" not in states:
            shipper = states.get("shipper", {})
            parts |= {"store": not shipper.get("canary_holes"), "shipper": is_shipping(shipper, now)}
            yield from EvidenceCollector(self._config, shipper, now).collect()
            yield telemetry.as_told(telemetry.SHIPPED_OBJECTS, {(): shipper.get("shipped_total", 0)})
            failed = shipper.get("failed_total", {}).items()
            yield telemetry.as_told(telemetry.SHIPPING_FAILURES, {(code,): count for code, count in failed})
        yield telemetry.PART_READY.family({(part,): is_well for part, is_well in parts.items()})


def metrics_app(register: Register, shipping: Collector) -> web.Application:
    """For an address of its own: browsers never come here."""
    found = CollectorRegistry()
    for ours in (*OURS, PROCESS_COLLECTOR):
        found.register(ours)
    found.register(WaitingCollector(register))
    found.register(shipping)

    async def metrics(request: web.Request) -> web.Response:
        return await asyncio.to_thread(encoded, found, request.headers.get("accept", ""))

    app = web.Application()
    app.router.add_get("/metrics", metrics)
    return app
