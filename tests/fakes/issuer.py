"""An OIDC issuer that the tests command: it counts what is asked of it, and misbehaves when told to.

Tokens are made with joserfc, another implementation than the one that verifies them.
"""

from __future__ import annotations

import asyncio
import base64
import functools
import hashlib
import hmac
import json
import socket
from collections import Counter
from typing import TYPE_CHECKING, Any

from aiohttp import web
from joserfc import jwk, jwt

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime
    from types import TracebackType
    from typing import Self

AUDIENCE = "affidavit"
_CURVES = {"ES256": "P-256", "ES384": "P-384", "ES512": "P-521"}


@functools.cache
def private_key(algorithm: str, name: str, bits: int = 2048) -> Any:
    """A key for signing; the same one for the same arguments, since RSA keys take a while to make."""
    parameters: Any = {"kid": name, "alg": algorithm, "use": "sig"}
    if algorithm.startswith(("RS", "PS")):
        return jwk.RSAKey.generate_key(bits, parameters)
    if algorithm in _CURVES:
        return jwk.ECKey.generate_key(_CURVES[algorithm], parameters)
    return jwk.OKPKey.generate_key("Ed25519", parameters)


def part(value: bytes | Mapping[str, Any]) -> str:
    """One part of a token: base64url without padding."""
    raw = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def sign(key: Any, algorithm: str, claims: Mapping[str, Any], header: Mapping[str, Any]) -> str:
    """A signed token with exactly these claims and this header (and ``alg``)."""
    registry: Any = None
    token: str = jwt.encode({"alg": algorithm, **header}, dict(claims), key, algorithms=[algorithm], registry=registry)
    return token


def sign_by_hand(secret: bytes, header: Mapping[str, Any], claims: Mapping[str, Any]) -> str:
    """An HS256 token that no honest library would make."""
    signed = f"{part(header)}.{part(claims)}"
    return f"{signed}.{part(hmac.digest(secret, signed.encode(), hashlib.sha256))}"


class FakeIssuer:
    """Discovery, keys and tokens on a free loopback port, inside ``async with``.

    ``behaviour`` is what it does when asked for its keys: ``ok``, ``error``, ``slow`` (it waits for ``goes_on``), ``drip``
    (without an end), ``huge``, ``redirect``, ``garbage``, ``array`` or ``empty``.
    """

    def __init__(self) -> None:
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._socket.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.behaviour = "ok"
        self.goes_on = asyncio.Event()
        self.asked: Counter[str] = Counter()
        self.headers: dict[str, str] = {}
        self.discovery: dict[str, Any] = {"issuer": self.url, "jwks_uri": f"{self.url}/jwks"}
        self.keys: dict[str, tuple[str, Any]] = {}
        self.rotate("rsa-1", "RS256")
        self.keys["ec-1"] = ("ES256", private_key("ES256", "ec-1"))
        self._runner: web.AppRunner | None = None

    def rotate(self, name: str, algorithm: str = "RS256") -> None:
        """A new key instead of all that there are."""
        self.keys = {name: (algorithm, private_key(algorithm, name))}

    def key_set(self) -> dict[str, Any]:
        """RFC 7517."""
        return {"keys": [key.as_dict(private=False) for _, key in self.keys.values()]}

    def claims(self, now: datetime, **changes: Any) -> dict[str, Any]:
        """Claims of a good token; a change to None takes one away."""
        at = int(now.timestamp())
        whole = {
            "iss": self.url,
            "aud": AUDIENCE,
            "sub": "ada",
            "groups": ["analysts"],
            "iat": at,
            "nbf": at,
            "exp": at + 600,
            "jti": "t-1",
            **changes,
        }
        return {name: value for name, value in whole.items() if value is not None}

    def mint(self, now: datetime, key_id: str = "rsa-1", **changes: Any) -> str:
        """A token with `claims`, signed with one of the keys."""
        algorithm, key = self.keys[key_id]
        return sign(key, algorithm, self.claims(now, **changes), {"kid": key_id})

    async def __aenter__(self) -> Self:
        app = web.Application()
        app.router.add_get("/.well-known/openid-configuration", self._discovery)
        app.router.add_get("/jwks", self._keys)
        app.router.add_post("/rotate", self._rotate)
        app.router.add_route("*", "/{rest:.*}", self._trap)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.SockSite(self._runner, self._socket).start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._runner is not None
        await self._runner.cleanup()

    async def _discovery(self, request: web.Request) -> web.Response:
        self.asked["discovery"] += 1
        self.headers = dict(request.headers)
        return web.json_response(self.discovery)

    async def _keys(self, request: web.Request) -> web.StreamResponse:  # noqa: PLR0911 - one for each behaviour
        self.asked["keys"] += 1
        self.headers = dict(request.headers)
        if self.behaviour == "error":
            return web.Response(status=500)
        if self.behaviour == "redirect":
            return web.Response(status=302, headers={"location": f"{self.url}/elsewhere"})
        if self.behaviour == "garbage":
            return web.Response(body=b'{"keys": [')
        if self.behaviour == "array":
            return web.json_response([])
        if self.behaviour == "empty":
            return web.json_response({"keys": []})
        if self.behaviour == "slow":
            await self.goes_on.wait()
        if self.behaviour in ("drip", "huge"):
            return await self._stream(request)
        return web.json_response(self.key_set())

    async def _stream(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        if self.behaviour == "drip":
            while True:  # until whoever asked has gone
                await response.write(b" ")
                await asyncio.sleep(0.05)
        for _ in range(100):
            await response.write(b" " * 64 * 1024)
        return response

    async def _rotate(self, request: web.Request) -> web.Response:
        form = await request.post()
        self.rotate(str(form["kid"]), str(form.get("alg", "RS256")))
        return web.Response()

    async def _trap(self, request: web.Request) -> web.Response:
        """Nobody has any business here: a counter for addresses that a token names."""
        self.asked[request.path] += 1
        return web.json_response(self.key_set())
