"""``/hooks/*``: signed messages from outside. Nobody is signed in here; the signature is all there is.

A cookie or a bearer token that comes along is not looked at, so no form token is needed: another site's page can make a
browser send something here, but not sign it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol

from aiohttp import web

from ext_proc import telemetry
from ext_proc.console import trouble
from ext_proc.console.trouble import Stopped
from ext_proc.errors import GateError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ext_proc.approval.channels.answers import Reply

_RETRY_SECONDS: Final = "5"

_log = telemetry.logger()


class Takes(Protocol):
    """One way in: see `ext_proc.approval.channels.answers`."""

    async def take(self, headers: Mapping[str, str], body: bytes) -> Reply:
        """One message.

        Raises:
            GateError: nobody can be heard at present.
        """
        ...


class Hooks:
    """Handlers of the ways in; where there is none, there is nothing at its address.

    Args:
        webhook: takes signed webhooks.
        slack: takes what Slack sends.
    """

    def __init__(self, webhook: Takes | None = None, slack: Takes | None = None) -> None:
        self._webhook = webhook
        self._slack = slack

    async def webhook(self, request: web.Request) -> web.Response:
        """``POST /hooks/webhook``."""
        return await _taken(self._webhook, request)

    async def slack(self, request: web.Request) -> web.Response:
        """``POST /hooks/slack``."""
        return await _taken(self._slack, request)


async def _taken(way: Takes | None, request: web.Request) -> web.Response:
    if way is None:
        raise Stopped(trouble.NOT_FOUND)
    try:
        body = await request.read()
    except web.HTTPRequestEntityTooLarge:
        return _refusal(413, trouble.TOO_LARGE.code, trouble.TOO_LARGE.text)
    # A header that stands twice is none: which of the two would have been signed?
    headers = {name.lower(): values[0] for name in request.headers if len(values := request.headers.getall(name)) == 1}
    try:
        reply = await way.take(headers, body)
    except GateError as error:
        _log.warning("console_cannot", code=error.code, detail=error.detail)
        response = _refusal(503, error.code, "Nobody can be heard at present. Send it again, with the same id.")
        response.headers["retry-after"] = _RETRY_SECONDS
        return response
    if reply.status != 200:
        return _refusal(reply.status, reply.code, reply.text)
    if reply.state is None or not reply.text:
        return web.Response()
    return web.json_response({"code": reply.code, "state": reply.state})


def _refusal(status: int, code: str, text: str) -> web.Response:
    return web.json_response({"error": {"code": code, "message": text}}, status=status)
