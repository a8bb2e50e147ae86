"""Envoy's admin interface as `affidavit drain` uses it. What it says was seen on Envoy 1.40.0 (tests/e2e/test_drain.py)."""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from aiohttp import web

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path


@dataclass
class FakeAdmin:
    """Says ``counts`` one after the other, the last one for ever; before that, ``refusals`` times nothing of use. Asked
    for ``ends_at``, it is gone.
    """

    counts: list[int] = field(default_factory=lambda: [0])
    asked: list[str] = field(default_factory=list)
    is_live: bool = True
    refusals: int = 0
    ends_at: str | None = None
    address: str = ""
    socket: Path | None = None
    _site: web.BaseSite | None = None

    @asynccontextmanager
    async def running(self) -> AsyncIterator[FakeAdmin]:
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._answer)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        site = web.UnixSite(runner, self.socket) if self.socket else web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        self.address = f"unix:{self.socket}" if self.socket else f"127.0.0.1:{runner.addresses[0][1]}"
        self._site = site
        try:
            yield self
        finally:
            await runner.cleanup()

    async def _answer(self, request: web.Request) -> web.Response:
        self.asked.append(f"{request.method} {request.path_qs}")
        if request.path == self.ends_at and self._site is not None:
            await self._site.stop()
            raise web.HTTPServiceUnavailable(headers={"connection": "close"})
        if self.refusals:
            self.refusals -= 1
            return web.Response(status=503)
        match request.method, request.path:
            case "POST", "/healthcheck/fail":
                self.is_live = False
                return web.Response(text="OK\n")
            case "POST", "/drain_listeners":
                return web.Response(text="OK\n")
            case "GET", "/ready":
                return web.Response(
                    text="LIVE\n" if self.is_live else "DRAINING\n", status=200 if self.is_live else 503
                )
            case "GET", "/stats":
                count = self.counts.pop(0) if len(self.counts) > 1 else self.counts[0]
                return web.json_response({"stats": [{"name": "http.gate.downstream_rq_active", "value": count}]})
        return web.Response(status=404)
