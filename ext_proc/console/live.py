"""Pages that change by themselves: server-sent events that say *that* something changed, never what.

The page's script then fetches the list anew, with all checks of any page. A stream ends with its session.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from aiohttp import web

from ext_proc.console.trouble import BUSY, Stopped

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from ext_proc.console.people import Viewer
    from ext_proc.console.ports import Approvals

STREAMS_MAX: Final = 1000
"""Of the whole console; each is a connection and a task."""
PERSON_MAX: Final = 20
"""Of one person: whoever opens more takes them from others. A browser opens six at most."""
PING_SECONDS: Final = 15.0
"""A line that says nothing: proxies keep the connection, and whether the session still lives is asked so often."""
PAUSE_SECONDS: Final = 0.2
"""Between two events: a thousand holds at once are not a thousand fetches."""
RETRY_MILLISECONDS: Final = 2000


class Streams:
    """All streams that are open.

    Args:
        approvals: what changes.
        ping_seconds: see `PING_SECONDS`.
    """

    def __init__(self, approvals: Approvals, ping_seconds: float = PING_SECONDS) -> None:
        self._approvals = approvals
        self._ping_seconds = ping_seconds
        self._open: dict[asyncio.Task[object], tuple[str, str | None, str]] = {}

    async def stream(
        self, request: web.Request, viewer: Viewer, is_alive: Callable[[], Awaitable[bool]]
    ) -> web.StreamResponse:
        """Tell a browser, or a program, of changes until it leaves or is not signed in any more.

        Raises:
            Stopped: there are too many.
        """
        who = viewer.identity
        person = (who.issuer, who.tenant, who.subject)
        if len(self._open) >= STREAMS_MAX or list(self._open.values()).count(person) >= PERSON_MAX:
            raise Stopped(BUSY)
        told = request.headers.get("last-event-id", "")
        number = int(told) if told.isascii() and told.isdigit() and len(told) < 16 else 0
        response = web.StreamResponse(headers={"content-type": "text/event-stream", "x-accel-buffering": "no"})
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - a handler runs in one
        self._open[task] = person
        try:
            await response.prepare(request)
            await response.write(f"retry: {RETRY_MILLISECONDS}\n\n".encode())
            await self._tell(response, viewer, number, is_alive)
        except (ConnectionError, asyncio.CancelledError) as error:
            # The browser left; or we stop (`close`), and it comes again by itself.
            if isinstance(error, asyncio.CancelledError) and task not in self._open:
                task.uncancel()
            elif isinstance(error, asyncio.CancelledError):
                raise
        finally:
            self._open.pop(task, None)
        return response

    async def _tell(
        self, response: web.StreamResponse, viewer: Viewer, number: int, is_alive: Callable[[], Awaitable[bool]]
    ) -> None:
        while True:
            line = b": still here\n\n"
            try:
                async with asyncio.timeout(self._ping_seconds):
                    number = await self._approvals.change_after(viewer, number)
                line = f"id: {number}\nevent: changed\ndata: {number}\n\n".encode()
            except TimeoutError:
                pass
            if not await is_alive():
                await response.write(b"event: signed_out\ndata:\n\n")
                return
            await response.write(line)
            await asyncio.sleep(PAUSE_SECONDS)

    async def close(self, _: web.Application | None = None) -> None:
        """End them all: the console stops."""
        ending, self._open = self._open, {}
        for task in ending:
            task.cancel()
