"""The console as an application: every route of the list, and nothing else, each behind the same guard.

One request, once: 1. who is it? 2. did it come from a page of ours? 3. is it for their roles? 4. what is asked, read
strictly; 5. the view; 6. the page, or its twin. Whatever goes wrong on the way ends in `_frame`, in words.
"""

from __future__ import annotations

import json
from time import perf_counter
from typing import TYPE_CHECKING, Any, Final, cast
from urllib.parse import urlencode

from aiohttp import web

from ext_proc import telemetry
from ext_proc.approval.hold import words_of
from ext_proc.console import openapi, trouble
from ext_proc.console.asking import Asked, BadAsk
from ext_proc.console.doors import Doors, go, html
from ext_proc.console.garbage import ServerLog
from ext_proc.console.guard import Guard, Visitor, tell_browser
from ext_proc.console.hooks import Hooks
from ext_proc.console.live import Streams
from ext_proc.console.ports import Health, Objection
from ext_proc.console.rendering import Pages
from ext_proc.console.routes import API, BY_NAME, PUBLIC, ROUTES, is_for
from ext_proc.console.signing_in import Attempts
from ext_proc.console.trouble import Stopped, Trouble, Way
from ext_proc.console.views import NotHere
from ext_proc.errors import GateError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping
    from datetime import datetime

    from ext_proc.console.ports import Rooms
    from ext_proc.console.routes import Route
    from ext_proc.console.settings import Settings
    from ext_proc.console.signing_in import Provider

BODY_MAX_BYTES: Final = 64 * 1024
_ROUTE: Final = web.RequestKey("affidavit.route", str)
_log = telemetry.logger()


class Console:
    """The console.

    Args:
        settings: what it is.
        rooms: where things are got.
        provider: who vouches for people.
        clock: the time.
        hooks: who takes signed messages, if anybody does.
        health: how it stands, for whoever asks; answers at once.
    """

    def __init__(
        self,
        settings: Settings,
        rooms: Rooms,
        provider: Provider,
        clock: Callable[[], datetime],
        hooks: Hooks | None = None,
        health: Callable[[], Health] = Health,
    ) -> None:
        self._settings = settings
        self._rooms = rooms
        self._provider = provider
        self._clock = clock
        self._hooks = hooks or Hooks()
        self._told_health = health
        self._pages = Pages()
        self._guard = Guard(settings, rooms)
        self._doors = Doors(rooms, self._guard, provider, Attempts(), self._pages, clock)
        self._streams = Streams(rooms.approvals)

    def app(self) -> web.Application:
        """For aiohttp's server. It has no address but those of the list."""
        told = {"logger": ServerLog(), "auto_decompress": False}  # nobody needs to pack 64 KiB
        app = web.Application(client_max_size=BODY_MAX_BYTES, middlewares=[self._frame], handler_args=told)
        for route in ROUTES:
            if route.is_for_browsers:
                app.router.add_route(route.method, route.path, self._handler(route, is_api=False))
            if route.has_api:
                app.router.add_route(route.method, API + route.path, self._handler(route, is_api=True))
        app.on_response_prepare.append(self._prepared)
        app.on_shutdown.append(self._streams.close)
        app.on_cleanup.append(self._closed)
        return app

    async def _prepared(self, _: web.Request, response: web.StreamResponse) -> None:
        tell_browser(self._settings, response)

    async def _closed(self, _: web.Application) -> None:
        await self._provider.close()

    # One request ---------------------------------------------------------------------------------------------------

    def _handler(self, route: Route, *, is_api: bool) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
        handler = self._public(route) if route.audience == PUBLIC else self._guarded(route, is_api=is_api)

        async def handle(request: web.Request) -> web.StreamResponse:
            request[_ROUTE] = route.name
            return await handler(request)

        return handle

    def _guarded(self, route: Route, *, is_api: bool) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
        async def handle(request: web.Request) -> web.StreamResponse:
            now = self._clock()
            told = await _told(request, is_api=is_api) if route.method == "POST" else {}
            visitor = await self._guard.visitor(request, now, is_api=is_api, is_use=not route.is_part)
            if visitor is None:
                if is_api:
                    raise Stopped(trouble.NO_TOKEN)
                raise Stopped(_sign_in(request, told, is_page=not route.is_part))
            if route.method == "POST":
                self._guard.check_origin(request, visitor, told)
            if not is_for(route, visitor.viewer.roles):
                await self._rooms.refusals.note(visitor.viewer, route.name, trouble.NOT_FOR_YOU.code, is_api=is_api)
                raise Stopped(trouble.NOT_FOR_YOU if visitor.session else trouble.NOT_FOR_YOUR_TOKEN)
            asked = Asked(visitor.viewer, now, dict(request.match_info), dict(request.query), told, is_api=is_api)
            return await self._answered(route, request, visitor, asked)

        return handle

    async def _answered(self, route: Route, request: web.Request, visitor: Visitor, asked: Asked) -> web.StreamResponse:
        if route.view is None:
            return await self._without_view(route, request, visitor)
        try:
            answer = await route.view(self._rooms, asked)
        except Objection as objection:
            if route.name == "resolve" and not asked.is_api:
                return await self._said_again(visitor, asked, objection)
            if route.name != "resolve" and objection.code == "not_an_approver":  # what was said of it is on record
                await self._rooms.refusals.note(visitor.viewer, route.name, objection.code, is_api=asked.is_api)
            raise Stopped(trouble.of_objection(objection, self._settings.justification_min)) from None
        if asked.is_api:
            return web.Response(body=openapi.json_of(route, answer), content_type="application/json")
        if route.name == "resolve":
            # Loaded again, the page says how it stands, and nothing is sent twice.
            return go(f"/holds/{asked.path['hold_id']}")
        return html(self._pages.page(route, visitor, asked.now, answer, **self._more(route, asked)))

    def _more(self, route: Route, asked: Asked) -> dict[str, Any]:
        """What a template wants beside the answer: what was typed and asked for."""
        if route.name in {"hold", "hold_clear", "resolve"}:
            return {"problem": "", "typed": "", "justification_min": self._settings.justification_min}
        if route.name in {"inbox", "inbox_rows", "exchanges"}:
            return {"after": asked.after, "limit": asked.limit, "query": dict(asked.query)}
        if route.name == "charts":
            return {"since": asked.since}
        return {}

    async def _without_view(self, route: Route, request: web.Request, visitor: Visitor) -> web.StreamResponse:
        if route.name == "changes":
            return await self._streams.stream(request, visitor.viewer, lambda: self._is_alive(visitor))
        if route.name == "logout":
            return await self._doors.logout(visitor)
        return self._doors.home(visitor.viewer)

    async def _said_again(self, visitor: Visitor, asked: Asked, objection: Objection) -> web.StreamResponse:
        """The hold as it stands now, why that could not be said, and what somebody had written."""
        if objection.code in {"no_such_hold", "not_an_approver"}:
            raise Stopped(trouble.of_objection(objection, self._settings.justification_min))
        answer = await self._rooms.approvals.read(asked.viewer, asked.path["hold_id"], want_clear=False)
        more: dict[str, Any] = {"problem": words_of(objection.code, self._settings.justification_min)}
        more |= {"typed": asked.justification, "justification_min": self._settings.justification_min}
        page = self._pages.page(BY_NAME["hold"], visitor, asked.now, answer, **more)
        return html(page, trouble.objection_status(objection.code))

    async def _is_alive(self, visitor: Visitor) -> bool:
        now = self._clock()
        if visitor.session_id is not None:
            return await self._rooms.sessions.find(visitor.session_id, now, is_use=False) is not None
        ends_at = visitor.viewer.identity.expires_at
        return ends_at is None or now < ends_at

    def _public(self, route: Route) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
        found: dict[str, Callable[[web.Request], Awaitable[web.StreamResponse]]] = {
            "login": self._doors.login,
            "callback": self._doors.callback,
            "signed_out": self._doors.signed_out,
            "static": self._static,
            "hook_webhook": self._hooks.webhook,
            "hook_slack": self._hooks.slack,
            "openapi": _openapi,
            "health": self._health,
        }
        return found[route.name]

    async def _health(self, _: web.Request) -> web.Response:
        """200 or 503 is for probes: what is degraded is not mended by ending the console, nor by sending nobody."""
        found = self._told_health()
        if found.failure is not None:
            return web.Response(text=f"failed: {found.failure}\n", status=503)
        return web.Response(text="".join(("ok\n", *(f"degraded: {one}\n" for one in found.degraded))))

    async def _static(self, request: web.Request) -> web.Response:
        file = self._pages.files.get(request.match_info["file"])
        if file is None or file.address != request.path:
            raise Stopped(trouble.NOT_FOUND)
        kept = {"cache-control": "public, max-age=31536000, immutable"}
        return web.Response(body=file.body, content_type=file.content_type, charset="utf-8", headers=kept)

    # The outermost frame -------------------------------------------------------------------------------------------

    @web.middleware
    async def _frame(
        self, request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        began = perf_counter()
        try:
            answer = await handler(request)
        except Exception as error:  # noqa: BLE001 - the outermost frame: people get a page, and we a traceback
            answer = await self._told_trouble(request, _trouble_of(error))
        route = request.get(_ROUTE, "none")  # a name of the list, never an address that somebody made up
        if route != "changes":  # which goes on for as long as a page is open
            seconds = perf_counter() - began
            telemetry.CONSOLE_SECONDS.labels(route, f"{answer.status // 100}xx").observe(seconds)
        return answer

    async def _told_trouble(self, request: web.Request, found: Trouble) -> web.Response:
        if request.path.startswith(f"{API}/"):
            body = json.dumps({"error": {"code": found.code, "message": f"{found.title}. {found.text}"}})
            response = web.Response(text=body, status=found.status, content_type="application/json")
        elif found.status == 401 and request.method == "GET" and found.ways and not found.typed:
            response = go(found.ways[0].to)
        else:
            now = self._clock()
            response = html(self._pages.trouble(found, await self._known(request, now), now), found.status)
        for name, value in found.headers:
            response.headers[name] = value
        return response

    async def _known(self, request: web.Request, now: datetime) -> Visitor | None:
        """For the page's head only: what failed may be just this."""
        try:
            return await self._guard.visitor(request, now, is_api=False, is_use=False)
        except GateError:
            return None


def _trouble_of(error: Exception) -> Trouble:  # noqa: PLR0911 - one for each way to fail
    match error:
        case Stopped():
            return error.trouble
        case BadAsk():
            return trouble.of_ask(error)
        case NotHere() | web.HTTPNotFound():
            return trouble.NOT_FOUND
        case web.HTTPMethodNotAllowed():
            return trouble.of_method(frozenset(error.allowed_methods))
        case web.RequestPayloadError():  # a body that is not coded as its head says, or breaks off
            _log.info("console_not_http", kind=type(error).__name__)
            return trouble.NOT_READABLE
        case web.HTTPRequestEntityTooLarge():
            return trouble.TOO_LARGE
        case GateError():
            _log.warning("console_cannot", code=error.code, detail=error.detail)
            return trouble.of_gate(error)
        case _:
            _log.error("console_bug", kind=type(error).__name__, exc_info=error)
            return trouble.BUG


def _sign_in(request: web.Request, told: Mapping[str, object], *, is_page: bool) -> Trouble:
    """Nobody is signed in: where to do so, and what they had typed, which the issuer's page would lose."""
    found = trouble.NOT_SIGNED_IN
    if not is_page:
        return found
    to = request.path_qs if request.method == "GET" else request.path.rpartition("/")[0]
    typed = told.get("justification") or told.get("purpose")
    way = Way("Sign in again", f"/login?{_to(to)}")
    return Trouble(found.status, found.code, found.title, found.text, (way,), str(typed or ""), found.headers)


def _to(path: str) -> str:
    return urlencode({"to": path})


async def _told(request: web.Request, *, is_api: bool) -> Mapping[str, object]:
    """A form's fields, or a JSON object.

    Raises:
        Stopped: it is neither.
    """
    if is_api:
        if request.content_type != "application/json":
            raise Stopped(trouble.NOT_JSON)
        try:
            found = json.loads(await request.read())
        except (ValueError, RecursionError):
            raise Stopped(trouble.NOT_READABLE) from None
        if not isinstance(found, dict):
            raise Stopped(trouble.NOT_READABLE)
        return cast("Mapping[str, object]", found)
    if request.content_type != "application/x-www-form-urlencoded":
        raise Stopped(trouble.NOT_READABLE)
    try:
        form = await request.post()
    except (ValueError, LookupError):  # bytes that are no UTF-8, or a charset that nobody knows
        raise Stopped(trouble.NOT_READABLE) from None
    return {name: value for name, value in form.items() if isinstance(value, str)}


async def _openapi(_: web.Request) -> web.Response:
    return web.json_response(openapi.description())
