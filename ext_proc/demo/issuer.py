"""The demo's OIDC issuer: discovery, a key set of two keys, and a token for whoever asks. For loopback only.

People sign in (`/authorize`) by saying who they are; the rest is as OpenID Connect has it: a code for once, S256, a
nonce. Programs get a token for any subject at `/token`.

Whoever asks may also choose the key (``key``) and change claims (``claims``, JSON; null takes one away): how a gate
takes a token that is well signed and still wrong can be seen in no other way.

``python -m ext_proc.demo.issuer --port 9000`` serves it. Tests use `Issuer` directly.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import html
import json
import secrets
import uuid
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlencode, urlsplit

import jwt
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from ext_proc.app.process import clock

if TYPE_CHECKING:
    from collections.abc import Mapping

AUDIENCE: Final = "affidavit"
LIFETIME_SECONDS: Final = 3600
CODE_SECONDS: Final = 60
CODES_MAX: Final = 1000
PEOPLE: Final[dict[str, tuple[str, ...]]] = {
    "ada": ("analysts", "approvers"),
    "bob": ("approvers",),
    "carol": ("approvers",),
    "audrey": ("auditors",),
    "oscar": ("operators",),
    "paula": ("policy-authors",),
}
"""Who can sign in, and their groups. Ada asks and approves, so that it shows that nobody approves their own."""

_ASKED: Final = (
    "response_type",
    "client_id",
    "redirect_uri",
    "state",
    "nonce",
    "code_challenge",
    "code_challenge_method",
)
_PAGE: Final = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>Demo sign-in</title></head>
<body><main><h1>Who are you?</h1><p>This is the demo's issuer: it believes you.</p>
<form method="post" action="/authorize">{hidden}{buttons}</form></main></body></html>
"""


@dataclass(frozen=True, slots=True)
class _Code:
    """What a code stands for, until it is used."""

    subject: str
    client_id: str
    redirect_uri: str
    nonce: str
    challenge: str
    ends_at: float


class Issuer:
    """Keys and tokens of one issuer.

    Args:
        url: its name, and where it is.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self.private: dict[str, tuple[str, Any]] = {}
        self._codes: OrderedDict[str, _Code] = OrderedDict()
        self.add_key("rsa-1", "RS256")
        self.add_key("ec-1", "ES256")

    def add_key(self, key_id: str, algorithm: str) -> None:
        """Make a key and publish it."""
        key: Any = (
            rsa.generate_private_key(public_exponent=65537, key_size=2048)
            if algorithm.startswith("RS")
            else ec.generate_private_key(ec.SECP256R1())
        )
        self.private[key_id] = (algorithm, key)

    def key_set(self) -> dict[str, Any]:
        """RFC 7517."""
        keys = []
        for key_id, (algorithm, key) in self.private.items():
            kind = jwt.algorithms.RSAAlgorithm if algorithm.startswith("RS") else jwt.algorithms.ECAlgorithm
            told: dict[str, Any] = json.loads(kind.to_jwk(key.public_key()))
            keys.append({**told, "kid": key_id, "alg": algorithm, "use": "sig"})
        return {"keys": keys}

    def mint(self, subject: str, groups: list[str], key_id: str = "rsa-1", **claims: Any) -> str:
        """An access token; ``claims`` override or (with None) take away."""
        now = int(clock().timestamp())
        whole: dict[str, Any] = {
            "iss": self.url,
            "aud": AUDIENCE,
            "sub": subject,
            "groups": groups,
            "iat": now,
            "nbf": now,
            "exp": now + LIFETIME_SECONDS,
            "jti": str(uuid.uuid4()),
            **claims,
        }
        algorithm, key = self.private[key_id]
        kept = {name: value for name, value in whole.items() if value is not None}
        return jwt.encode(kept, key, algorithm, headers={"kid": key_id})

    def app(self) -> web.Application:
        """Discovery, keys, tokens."""
        app = web.Application()
        app.router.add_get("/.well-known/openid-configuration", self._discovery)
        app.router.add_get("/jwks.json", self._keys)
        app.router.add_post("/token", self._token)
        app.router.add_get("/authorize", self._ask_who)
        app.router.add_post("/authorize", self._sign_in)
        return app

    async def _discovery(self, _: web.Request) -> web.Response:
        return web.json_response(
            {
                "issuer": self.url,
                "jwks_uri": f"{self.url}/jwks.json",
                "authorization_endpoint": f"{self.url}/authorize",
                "token_endpoint": f"{self.url}/token",
                "response_types_supported": ["code"],
                "grant_types_supported": ["authorization_code", "client_credentials"],
                "code_challenge_methods_supported": ["S256"],
                "authorization_response_iss_parameter_supported": True,
                "subject_types_supported": ["public"],
                "id_token_signing_alg_values_supported": ["RS256", "ES256"],
            }
        )

    async def _keys(self, _: web.Request) -> web.Response:
        return web.json_response(self.key_set())

    # A person signs in ----------------------------------------------------------------------------------------------

    async def _ask_who(self, request: web.Request) -> web.Response:
        problem = _problem_of(request.query)
        if problem is not None:
            return web.Response(text=problem, status=400)
        told = {name: request.query.get(name, "") for name in _ASKED}
        hidden = "".join(f'<input type="hidden" name="{n}" value="{html.escape(v)}">' for n, v in told.items())
        buttons = "".join(
            f'<p><button name="person" value="{name}">{name}</button> {", ".join(groups)}</p>'
            for name, groups in PEOPLE.items()
        )
        return web.Response(text=_PAGE.format(hidden=hidden, buttons=buttons), content_type="text/html")

    async def _sign_in(self, request: web.Request) -> web.Response:
        form = {name: value for name, value in (await request.post()).items() if isinstance(value, str)}
        problem = _problem_of(form)
        if problem is None and form.get("person") not in PEOPLE:
            problem = "nobody of that name is in the demo"
        if problem is not None:
            return web.Response(text=problem, status=400)
        code = secrets.token_urlsafe(32)
        self._codes[code] = _Code(
            form["person"],
            form["client_id"],
            form["redirect_uri"],
            form.get("nonce", ""),
            form["code_challenge"],
            clock().timestamp() + CODE_SECONDS,
        )
        if len(self._codes) > CODES_MAX:
            self._codes.popitem(last=False)
        answer = urlencode({"code": code, "state": form.get("state", ""), "iss": self.url})
        return web.Response(status=303, headers={"location": f"{form['redirect_uri']}?{answer}"})

    def _redeem(self, form: Mapping[str, str]) -> web.Response:
        """Tokens for a code: once, within a minute, to whoever has the verifier."""
        code = self._codes.pop(form.get("code", ""), None)
        challenge = base64.urlsafe_b64encode(hashlib.sha256(form.get("code_verifier", "").encode()).digest())
        if (
            code is None
            or clock().timestamp() >= code.ends_at
            or form.get("client_id") != code.client_id
            or form.get("redirect_uri") != code.redirect_uri
            or challenge.rstrip(b"=").decode() != code.challenge
        ):
            return web.json_response({"error": "invalid_grant"}, status=400)
        groups = list(PEOPLE[code.subject])
        return web.json_response(
            {
                "access_token": self.mint(code.subject, groups),
                "id_token": self.mint(code.subject, groups, aud=code.client_id, nonce=code.nonce or None),
                "token_type": "Bearer",
                "expires_in": LIFETIME_SECONDS,
            },
            headers={"cache-control": "no-store"},
        )

    async def _token(self, request: web.Request) -> web.Response:
        form = await request.post()
        if form.get("grant_type") == "authorization_code":
            return self._redeem({name: value for name, value in form.items() if isinstance(value, str)})
        subject = form.get("subject")
        if form.get("grant_type") != "client_credentials" or not isinstance(subject, str):
            return web.json_response({"error": "invalid_request"}, status=400)
        groups = [group for one in form.getall("groups", []) for group in str(one).split()]
        try:
            token = self.mint(
                subject, groups, str(form.get("key", "rsa-1")), **json.loads(str(form.get("claims", "{}")))
            )
        except (ValueError, TypeError, KeyError):
            return web.json_response({"error": "invalid_request"}, status=400)
        return web.json_response({"access_token": token, "token_type": "Bearer", "expires_in": LIFETIME_SECONDS})


def _problem_of(asked: Mapping[str, str]) -> str | None:
    """Why nobody can sign in with this. People are sent back to loopback only."""
    if asked.get("response_type") != "code" or not asked.get("client_id"):
        return "response_type must be code, and there must be a client_id"
    if asked.get("code_challenge_method") != "S256" or not asked.get("code_challenge"):
        return "code_challenge_method must be S256 (RFC 7636)"
    try:
        place = urlsplit(asked.get("redirect_uri", ""))
    except ValueError:
        place = urlsplit("")
    if place.scheme not in {"http", "https"} or place.hostname not in {"127.0.0.1", "localhost"} or place.query:
        return "redirect_uri must be on 127.0.0.1 or localhost"
    return None


def main() -> None:
    """Serve until stopped."""
    parser = argparse.ArgumentParser(description="the demo's OIDC issuer, on loopback")
    parser.add_argument("--port", type=int, required=True)
    port = parser.parse_args().port
    web.run_app(Issuer(f"http://127.0.0.1:{port}").app(), host="127.0.0.1", port=port, print=None, access_log=None)


if __name__ == "__main__":
    main()
