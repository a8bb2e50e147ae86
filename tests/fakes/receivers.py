"""Receivers of what channels tell, on loopback: a webhook's, which checks signatures by a third party's library, and
Slack's API. Each does what it is told to do wrong.
"""

from __future__ import annotations

import asyncio
import base64
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from aiohttp import web
from standardwebhooks import Webhook as Verifier

if TYPE_CHECKING:
    from pathlib import Path
    from typing import Self

SECRET, OLDER = b"0123456789abcdef0123456789abcdef", b"fedcba9876543210fedcba9876543210"


def written(secret: bytes) -> str:
    """As a file has it."""
    return f"whsec_{base64.b64encode(secret).decode()}"


def secret_file(folder: Path, *secrets: bytes, name: str = "secret") -> Path:
    path = folder / name
    path.write_text("\n".join(map(written, secrets or (SECRET,))))
    return path


class _Server:
    """Inside ``async with``: ``url`` is where it listens."""

    def __init__(self) -> None:
        self.url = ""
        self.status = 200
        self.headers: dict[str, str] = {}
        self.slow_seconds = 0.0
        self.body: bytes | None = None

    async def __aenter__(self) -> Self:
        app = web.Application(client_max_size=2**24)
        app.router.add_route("*", "/{path:.*}", self.answer)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._runner.cleanup()

    async def answer(self, request: web.Request) -> web.Response:
        raise NotImplementedError


class Receiver(_Server):
    """Keeps what was signed as it must be, in ``got``; ``ids`` are all that came, ``paths`` where to."""

    def __init__(self, *secrets: bytes) -> None:
        super().__init__()
        self.verifiers = [Verifier(one) for one in secrets or (SECRET,)]
        self.got: list[dict[str, Any]] = []
        self.ids: list[str] = []
        self.paths: list[str] = []

    async def answer(self, request: web.Request) -> web.Response:
        body = await request.read()
        self.paths.append(request.path)
        self.ids.append(request.headers["webhook-id"])
        for one in self.verifiers:
            said = one.verify(body, dict(request.headers))
        await asyncio.sleep(self.slow_seconds)
        if self.status == 200:
            self.got.append(said)
        return web.Response(status=self.status, headers=self.headers, body=self.body or b"")


class Garbage:
    """Answers with bytes that are no HTTP, or with a head that never ends."""

    def __init__(self, said: bytes) -> None:
        self._said = said
        self.url = ""

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._answer, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        await self._server.wait_closed()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(self._said)
        writer.close()


@dataclass
class Asked:
    method: str
    body: dict[str, Any]


class FakeSlack(_Server):
    """Slack's API: keeps what was asked, and the messages by their time stamp. ``error``: it says no, so."""

    def __init__(self, token: str = "xoxb-test-token") -> None:
        super().__init__()
        self.asked: list[Asked] = []
        self.messages: dict[str, dict[str, Any]] = {}
        self.error: str | None = None
        self._token = token

    async def answer(self, request: web.Request) -> web.Response:
        told, method = await request.json(), request.path.rpartition("/")[2]
        await asyncio.sleep(self.slow_seconds)
        if self.status != 200 or self.body is not None:
            return web.Response(status=self.status, headers=self.headers, body=self.body or b"")
        if request.headers["authorization"] != f"Bearer {self._token}":
            return web.json_response({"ok": False, "error": "invalid_auth"})
        if self.error is not None:
            return web.json_response({"ok": False, "error": self.error})
        self.asked.append(Asked(method, told))
        if method == "chat.postMessage":
            stamp = f"1700000000.{len(self.messages):06}"
            self.messages[stamp] = told
            return web.json_response({"ok": True, "channel": told["channel"], "ts": stamp})
        if method == "chat.update":
            if told["ts"] not in self.messages:
                return web.json_response({"ok": False, "error": "message_not_found"})
            self.messages[told["ts"]] = told
        return web.json_response({"ok": True, "channel": told["channel"], "ts": told.get("ts")})


def texts(blocks: list[dict[str, Any]]) -> str:
    """Everything that people read in a message, with its types."""
    return json.dumps(blocks)
