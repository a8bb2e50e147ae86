"""The ways in and out: login, the issuer's answer, logout, and where somebody comes first."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from aiohttp import web

from ext_proc.console import trouble
from ext_proc.console.routes import BY_NAME, NAVIGATION, is_for, safe_return
from ext_proc.console.signing_in import ATTEMPT_SECONDS, REFUSALS, SignInRefused
from ext_proc.console.trouble import Stopped

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from ext_proc.console.guard import Guard, Visitor
    from ext_proc.console.people import Viewer
    from ext_proc.console.ports import Rooms
    from ext_proc.console.rendering import Pages
    from ext_proc.console.signing_in import Attempts, Provider

_SEE_OTHER: Final = 303


class Doors:
    """Handlers of the ways in and out.

    Args:
        rooms: where sessions are.
        guard: for cookies.
        provider: the issuer.
        attempts: of signing in.
        pages: for what is shown.
        clock: the time.
    """

    def __init__(
        self,
        rooms: Rooms,
        guard: Guard,
        provider: Provider,
        attempts: Attempts,
        pages: Pages,
        clock: Callable[[], datetime],
    ) -> None:
        self._rooms = rooms
        self._guard = guard
        self._provider = provider
        self._attempts = attempts
        self._pages = pages
        self._clock = clock

    async def login(self, request: web.Request) -> web.Response:
        """To the issuer; or, for somebody who is signed in, to where they wanted to go.

        Raises:
            Stopped: nobody can sign in.
        """
        now = self._clock()
        return_to = safe_return(request.query.get("to"))
        if await self._guard.visitor(request, now, is_api=False) is not None:
            return go(return_to)
        attempt, sealed = self._attempts.begin(return_to, now)
        try:
            response = go(await self._provider.address(attempt))
        except SignInRefused as error:
            raise Stopped(trouble.of_sign_in(error, REFUSALS)) from None
        self._guard.give(response, self._guard.attempt_cookie, sealed, ATTEMPT_SECONDS)
        return response

    async def callback(self, request: web.Request) -> web.Response:
        """Back from the issuer: a new session under a new id, whatever the browser had before.

        Raises:
            Stopped: nobody signed in.
        """
        now = self._clock()
        sealed = request.cookies.get(self._guard.attempt_cookie)
        try:
            attempt = self._attempts.found(sealed, request.query.get("state"), now)
            identity = await self._provider.redeem(dict(request.query), attempt, now)
        except SignInRefused as error:
            raise Stopped(trouble.of_sign_in(error, REFUSALS)) from None
        before = request.cookies.get(self._guard.session_cookie)
        if before:
            await self._rooms.sessions.end(before)
        session_id = await self._rooms.sessions.begin(identity, now)
        response = go(attempt.return_to)
        self._guard.take(response, self._guard.attempt_cookie)
        self._guard.give(response, self._guard.session_cookie, session_id)
        return response

    async def logout(self, visitor: Visitor) -> web.Response:
        """The session is over, here and at once."""
        if visitor.session_id:
            await self._rooms.sessions.end(visitor.session_id)
        response = go(BY_NAME["signed_out"].path)
        self._guard.take(response, self._guard.session_cookie)
        return response

    async def signed_out(self, _: web.Request) -> web.Response:
        """What is left."""
        return html(self._pages.plain("signed_out.html", None, self._clock()))

    def home(self, viewer: Viewer) -> web.Response:
        """The first page that somebody may see; with no role, who they are."""
        may = (BY_NAME[name] for name, _ in NAVIGATION if is_for(BY_NAME[name], viewer.roles))
        return go(next(may, BY_NAME["me"]).path)


def go(to: str) -> web.Response:
    """Look there, with GET, whatever this was."""
    return web.Response(status=_SEE_OTHER, headers={"location": to})


def html(text: str, status: int = 200) -> web.Response:
    """A page."""
    return web.Response(text=text, status=status, content_type="text/html")
