"""What stands before every page: who it is, whether it came from a page of ours, and what browsers are told.

A request with a bearer token is a program's. No other site can make a browser send one, so it needs no form token; a
request with a session's cookie does, whatever else it has.
"""

from __future__ import annotations

import hmac
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from ext_proc.console.people import viewer_of
from ext_proc.console.trouble import BAD_TOKEN, FORGED, NO_TOKEN, Stopped
from ext_proc.errors import BadToken
from ext_proc.model import Secret

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from aiohttp import web

    from ext_proc.console.people import Viewer
    from ext_proc.console.ports import Rooms, Session
    from ext_proc.console.settings import Settings

CSRF_FIELD: Final = "csrf"
CSRF_HEADER: Final = "x-csrf-token"
ATTEMPT_COOKIE: Final = "affidavit-attempt"

# No script and no style but our own files: no inline ones, so no nonce. `same-origin` rather than `no-referrer`: under
# that browsers send `Origin: null` with our own forms.
_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self'; "
    "base-uri 'none'; frame-ancestors 'none'"
)
HEADERS: Final[Mapping[str, str]] = {
    "content-security-policy": _POLICY,
    "x-frame-options": "DENY",
    "x-content-type-options": "nosniff",
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
}


@dataclass(frozen=True, slots=True)
class Visitor:
    """Who asks. ``session`` and its ``session_id``: by cookie; None: by a bearer token."""

    viewer: Viewer
    session: Session | None = None
    session_id: str | None = None

    @property
    def csrf(self) -> str:
        """What their forms must bring."""
        return self.session.csrf if self.session else ""


class Guard:
    """Knows people by their cookies and tokens.

    Args:
        settings: the console's.
        rooms: where sessions are, and whose tokens are whose.
    """

    def __init__(self, settings: Settings, rooms: Rooms) -> None:
        self._settings = settings
        self._rooms = rooms
        prefix = "__Host-" if settings.is_https else ""
        self.session_cookie = f"{prefix}affidavit"
        self.attempt_cookie = f"{prefix}{ATTEMPT_COOKIE}"

    async def visitor(
        self, request: web.Request, now: datetime, *, is_api: bool, is_use: bool = True
    ) -> Visitor | None:
        """Who it is; None: nobody.

        Raises:
            Stopped: a bearer token that does not verify; that there is a cookie too does not help it.
            KeysUnavailable: it cannot be verified.
        """
        shown = request.headers.getall("authorization", [])
        if shown and is_api:
            return await self._by_token(shown, now)
        session_id = request.cookies.get(self.session_cookie)
        if not session_id:
            return None
        session = await self._rooms.sessions.find(session_id, now, is_use=is_use)
        if session is None:
            return None
        return Visitor(viewer_of(session.identity, self._settings.roles), session, session_id)

    async def _by_token(self, shown: list[str], now: datetime) -> Visitor:
        kind, _, token = shown[0].partition(" ")
        if len(shown) != 1 or kind.lower() != "bearer" or not token:
            raise Stopped(NO_TOKEN)
        try:
            identity = await self._rooms.bearers.identify(Secret(token.strip()), now)
        except BadToken:
            raise Stopped(BAD_TOKEN) from None
        return Visitor(viewer_of(identity, self._settings.roles))

    def check_origin(self, request: web.Request, visitor: Visitor, told: Mapping[str, object]) -> None:
        """It came from a page of this session.

        Raises:
            Stopped: it did not, or nobody can tell.
        """
        if visitor.session is None:
            return
        if request.headers.getall("origin", []) != [self._settings.public_url]:
            raise Stopped(FORGED)
        brought = request.headers.get(CSRF_HEADER) or told.get(CSRF_FIELD)
        if not isinstance(brought, str):
            raise Stopped(FORGED)
        if not hmac.compare_digest(brought.encode(errors="replace"), visitor.session.csrf.encode()):
            raise Stopped(FORGED)

    # Cookies -------------------------------------------------------------------------------------------------------

    def give(self, response: web.StreamResponse, name: str, value: str, seconds: int | None = None) -> None:
        """Set a cookie that no script reads and no other site's page sends along."""
        response.set_cookie(
            name, value, max_age=seconds, path="/", secure=self._settings.is_https, httponly=True, samesite="Lax"
        )

    def take(self, response: web.StreamResponse, name: str) -> None:
        """Remove it."""
        response.del_cookie(name, path="/", secure=self._settings.is_https, httponly=True, samesite="Lax")


def tell_browser(settings: Settings, response: web.StreamResponse) -> None:
    """The headers of every answer. Only the files of `static` may be kept by anybody."""
    for name, value in HEADERS.items():
        response.headers[name] = value
    response.headers.setdefault("cache-control", "no-store")
    if settings.is_https:
        response.headers["strict-transport-security"] = "max-age=31536000; includeSubDomains"
    response.headers["server"] = "affidavit"
