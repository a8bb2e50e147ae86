"""A console that runs, on loopback: the real server, the demo's issuer, and rooms in memory."""

from __future__ import annotations

import re
import socket
from contextlib import asynccontextmanager
from functools import cache
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import aiohttp
from aiohttp import web

from ext_proc.console.people import Role
from ext_proc.console.ports import Health, Rooms
from ext_proc.console.server import Console
from ext_proc.console.sessions import MemorySessions
from ext_proc.console.settings import Client, Settings
from ext_proc.console.signing_in import Provider
from ext_proc.demo.issuer import PEOPLE, Issuer
from ext_proc.identity.keys import KeySet, KeySource
from ext_proc.identity.token import Trust
from tests.fakes.console_rooms import Clock, FakeApprovals, FakeBearers, FakeExchanges, FakeRefusals, person

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from typing import Self

    from ext_proc.model import Identity

ROLES = {
    Role.APPROVER: ("approvers",),
    Role.AUDITOR: ("auditors",),
    Role.OPERATOR: ("operators",),
    Role.POLICY_AUTHOR: ("policy-authors",),
}


def named(name: str, tenant: str | None = None) -> Identity:
    """One of the demo's people."""
    return person(name, *PEOPLE[name], tenant=tenant)


class Desk:
    """Inside ``async with``. ``url`` is the console, ``issuer`` its issuer."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.approvals = FakeApprovals(self.clock)
        self.exchanges = FakeExchanges(self.clock)
        self.refusals = FakeRefusals(self.clock)
        self.bearers = FakeBearers()
        self.sessions = MemorySessions()
        self.health = Health()
        self.console: Console
        self._runners: list[web.AppRunner] = []
        self._clients: list[aiohttp.ClientSession] = []

    async def __aenter__(self) -> Self:
        self.issuer = _issuer()
        self.issuer.url = await self._serve(self.issuer.app(), socket.create_server(("127.0.0.1", 0)))
        listening = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        settings = Settings(self.url, Client("console"), ROLES)
        self.provider = Provider(
            Trust(self.issuer.url, ("console",), ("RS256", "ES256")),
            KeySet(KeySource(self.issuer.url)),
            settings.client,
            f"{self.url}/login/callback",
        )
        rooms = Rooms(self.approvals, self.exchanges, self.refusals, self.bearers, self.sessions)
        self.console = Console(settings, rooms, self.provider, self.clock, health=lambda: self.health)
        await self._serve(self.console.app(), listening)
        return self

    async def __aexit__(self, *_: object) -> None:
        for client in self._clients:
            await client.close()
        for runner in reversed(self._runners):
            await runner.cleanup()

    async def _serve(self, app: web.Application, listening: socket.socket) -> str:
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.5)
        await runner.setup()
        self._runners.append(runner)
        await web.SockSite(runner, listening).start()
        return f"http://127.0.0.1:{listening.getsockname()[1]}"

    def browser(self) -> Browser:
        """Somebody who is not signed in."""
        client = aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True))
        self._clients.append(client)
        return Browser(self, client)

    async def signed_in(self, identity: Identity | str) -> Browser:
        """Somebody with a session, without the way through the issuer."""
        found = self.browser()
        who = named(identity) if isinstance(identity, str) else identity
        found.session_id = await self.sessions.begin(who, self.clock())
        return found

    async def with_token(self, identity: Identity | str) -> Browser:
        """A program with an access token."""
        found = self.browser()
        who = named(identity) if isinstance(identity, str) else identity
        found.token = f"token-of-{who.subject}-of-{who.tenant}"
        self.bearers.people[found.token] = who
        return found


class Browser:
    """Asks the console for things, as a browser does that runs no scripts; never follows a redirect by itself."""

    def __init__(self, desk: Desk, client: aiohttp.ClientSession) -> None:
        self.desk = desk
        self._client = client
        self.session_id: str | None = None
        self.token: str | None = None
        self.jar: dict[str, str] = {}

    async def get(self, path: str, **more: Any) -> Answer:
        return await self._ask("GET", path, more)

    async def post(self, path: str, form: dict[str, Any], *, csrf: str | None = None, **more: Any) -> Answer:
        """A form of ours, with this session's token and origin unless told otherwise."""
        whole = {**form, "csrf": await self.csrf() if csrf is None else csrf}
        headers = {"origin": self.desk.url, **more.pop("headers", {})}
        told = {name: value for name, value in headers.items() if value is not None}
        return await self._ask("POST", path, {"data": whole, "headers": told, **more})

    async def send(self, path: str, told: Any, **more: Any) -> Answer:
        """JSON, as a program."""
        return await self._ask("POST", f"/api/v1{path}", {"json": told, **more})

    async def csrf(self) -> str:
        session = await self.desk.sessions.find(self.session_id or "", self.desk.clock(), is_use=False)
        return session.csrf if session else ""

    async def _ask(self, method: str, path: str, more: dict[str, Any]) -> Answer:
        headers = dict(more.pop("headers", {}))
        cookies = dict(self.jar)
        if self.session_id is not None:
            cookies["affidavit"] = self.session_id
        if cookies:
            headers["cookie"] = "; ".join(f"{name}={value}" for name, value in cookies.items())
        if self.token is not None:
            headers.setdefault("authorization", f"Bearer {self.token}")
        url = path if path.startswith("http") else self.desk.url + path
        async with self._client.request(method, url, headers=headers, allow_redirects=False, **more) as answer:
            text = await answer.text()
            for name, morsel in answer.cookies.items():
                if morsel.value:
                    self.jar[name] = morsel.value
                else:
                    self.jar.pop(name, None)
            return Answer(answer.status, answer.headers, text)

    async def sign_in(self, who: str, to: str = "/") -> Answer:
        """The whole way through the issuer; the console's last answer, and its cookies in ``jar``."""
        begun = await self.get("/login", params={"to": to})
        return await self.get(await self.vouched(begun.headers["location"], who))

    async def vouched(self, address: str, who: str) -> str:
        """Where the issuer sends the browser back to."""
        page = await self.get(address)
        assert page.status == 200, page.text
        hidden = dict(re.findall(r'name="(\w+)" value="([^"]*)"', page.text))
        parts = urlsplit(address)
        form = {**hidden, "person": who}
        sent = await self._ask("POST", f"{parts.scheme}://{parts.netloc}/authorize", {"data": form})
        assert sent.status == 303, sent.text
        return str(sent.headers["location"])


class Answer:
    """What came."""

    def __init__(self, status: int, headers: Any, text: str) -> None:
        self.status = status
        self.headers = headers
        self.text = text

    def json(self) -> Any:
        import json

        return json.loads(self.text)


@cache
def _issuer() -> Issuer:
    """One for all: RSA keys take a while to make."""
    return Issuer("")


@asynccontextmanager
async def running() -> AsyncIterator[Desk]:
    """A desk."""
    async with Desk() as desk:
        yield desk
