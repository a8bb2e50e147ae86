"""Where aiohttp's applications are served, so that a process without file descriptors is one that waits for some."""

from __future__ import annotations

from typing import Any, Final

from aiohttp import web

WAITING_MAX: Final = 128
"""Connections that the kernel keeps until they are taken."""


async def serve_at(runner: web.AppRunner, host: str, port: int) -> None:
    """Serve there.

    asyncio takes as many connections at once as may wait. Where there is no descriptor for one it tries all the others
    too, logs each, and tries again after a second for each, as many times over: so it is told that one may wait, and
    only the kernel that many do.

    Raises:
        OSError: somebody else does, or there is no such address here.
        OverflowError: that is no port.
    """
    site = web.TCPSite(runner, host, port, backlog=1)
    await site.start()
    server: Any = site._server  # noqa: SLF001 - aiohttp has no other way to its sockets
    for listening in server.sockets:
        with listening.dup() as same:
            same.listen(WAITING_MAX)
