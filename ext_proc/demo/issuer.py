"""The demo's OIDC issuer: discovery, a key set of two keys, and a token for whoever asks. For loopback only.

Whoever asks may also choose the key (``key``) and change claims (``claims``, JSON; null takes one away): how a gate
takes a token that is well signed and still wrong can be seen in no other way.

``python -m ext_proc.demo.issuer --port 9000`` serves it. Tests use `Issuer` directly.
"""

from __future__ import annotations

import argparse
import json
import uuid
from typing import Any, Final

import jwt
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from ext_proc.app.process import clock

AUDIENCE: Final = "affidavit"
LIFETIME_SECONDS: Final = 3600


class Issuer:
    """Keys and tokens of one issuer.

    Args:
        url: its name, and where it is.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self.private: dict[str, tuple[str, Any]] = {}
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
        return app

    async def _discovery(self, _: web.Request) -> web.Response:
        return web.json_response(
            {
                "issuer": self.url,
                "jwks_uri": f"{self.url}/jwks.json",
                "token_endpoint": f"{self.url}/token",
                "response_types_supported": ["token"],
                "subject_types_supported": ["public"],
                "id_token_signing_alg_values_supported": ["RS256", "ES256"],
            }
        )

    async def _keys(self, _: web.Request) -> web.Response:
        return web.json_response(self.key_set())

    async def _token(self, request: web.Request) -> web.Response:
        form = await request.post()
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


def main() -> None:
    """Serve until stopped."""
    parser = argparse.ArgumentParser(description="the demo's OIDC issuer, on loopback")
    parser.add_argument("--port", type=int, required=True)
    port = parser.parse_args().port
    web.run_app(Issuer(f"http://127.0.0.1:{port}").app(), host="127.0.0.1", port=port, print=None, access_log=None)


if __name__ == "__main__":
    main()
