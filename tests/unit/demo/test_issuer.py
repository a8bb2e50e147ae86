from __future__ import annotations

import base64
import hashlib
from functools import cache
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlsplit

import jwt
import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from ext_proc.demo.issuer import AUDIENCE, PEOPLE, Issuer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

VERIFIER = "v" * 43
CHALLENGE = base64.urlsafe_b64encode(hashlib.sha256(VERIFIER.encode()).digest()).rstrip(b"=").decode()
BACK = "http://127.0.0.1:1/login/callback"
ASKED = {
    "response_type": "code",
    "client_id": "console",
    "redirect_uri": BACK,
    "state": "s-1",
    "nonce": "n-1",
    "code_challenge": CHALLENGE,
    "code_challenge_method": "S256",
}

Client = TestClient[web.Request, web.Application]


@cache
def _made() -> Issuer:
    """One for all: RSA keys take a while to make."""
    return Issuer("http://127.0.0.1:9")


@pytest.fixture
async def issuer() -> AsyncIterator[tuple[Issuer, Client]]:
    made = _made()
    async with TestClient(TestServer(made.app())) as client:
        yield made, client


async def _code(client: Client, person: str = "bob", **changes: str) -> str:
    answer = await client.post("/authorize", data={**ASKED, "person": person, **changes}, allow_redirects=False)
    assert answer.status == 303, await answer.text()
    told = dict(parse_qsl(urlsplit(answer.headers["location"]).query))
    assert answer.headers["location"].startswith(BACK + "?") and told["state"] == "s-1"
    return told["code"]


async def _redeemed(client: Client, code: str, **changes: str) -> tuple[int, dict[str, Any]]:
    form = {
        "grant_type": "authorization_code",
        "code": code,
        "redirect_uri": BACK,
        "client_id": "console",
        "code_verifier": VERIFIER,
        **changes,
    }
    answer = await client.post("/token", data=form)
    return answer.status, await answer.json()


def _claims(issuer: Issuer, token: str, audience: str) -> dict[str, Any]:
    key = issuer.private["rsa-1"][1].public_key()
    claims: dict[str, Any] = jwt.decode(token, key, algorithms=["RS256"], audience=audience)
    return claims


async def test_discovery_names_where_people_sign_in(issuer: tuple[Issuer, Client]) -> None:
    told = await (await issuer[1].get("/.well-known/openid-configuration")).json()

    assert told["authorization_endpoint"] == "http://127.0.0.1:9/authorize"
    assert told["code_challenge_methods_supported"] == ["S256"]


async def test_page_has_a_button_for_each_person_and_escapes(issuer: tuple[Issuer, Client]) -> None:
    answer = await issuer[1].get("/authorize", params={**ASKED, "state": '"><script>alert(1)</script>'})
    page = await answer.text()

    assert all(f'value="{name}"' in page for name in PEOPLE)
    assert "<script>" not in page and "&lt;script&gt;" in page


async def test_code_becomes_tokens_once(issuer: tuple[Issuer, Client]) -> None:
    code = await _code(issuer[1], "ada")

    status, told = await _redeemed(issuer[1], code)
    again, _ = await _redeemed(issuer[1], code)

    assert (status, again) == (200, 400)
    said = _claims(issuer[0], told["id_token"], "console")
    assert (said["sub"], said["nonce"], said["groups"]) == ("ada", "n-1", ["analysts", "approvers"])
    assert _claims(issuer[0], told["access_token"], AUDIENCE)["sub"] == "ada"


@pytest.mark.parametrize(
    "wrong",
    [
        {"code_verifier": "w" * 43},
        {"code_verifier": ""},
        {"client_id": "other"},
        {"redirect_uri": BACK + "/"},
        {"code": "x"},
    ],
)
async def test_code_is_for_who_asked(issuer: tuple[Issuer, Client], wrong: dict[str, str]) -> None:
    code = await _code(issuer[1])

    status, told = await _redeemed(issuer[1], **{"code": code, **wrong})

    assert (status, told) == (400, {"error": "invalid_grant"})


@pytest.mark.parametrize(
    "wrong",
    [
        {"redirect_uri": "https://evil.example/"},
        {"redirect_uri": "http://127.0.0.1@evil.example/"},
        {"redirect_uri": "http://[::1"},
        {"redirect_uri": "javascript:alert(1)"},
        {"code_challenge_method": "plain"},
        {"code_challenge": ""},
        {"response_type": "token"},
        {"client_id": ""},
    ],
)
async def test_nobody_is_sent_elsewhere(issuer: tuple[Issuer, Client], wrong: dict[str, str]) -> None:
    asked = {**ASKED, **wrong}

    page = await issuer[1].get("/authorize", params=asked)
    sent = await issuer[1].post("/authorize", data={**asked, "person": "bob"}, allow_redirects=False)

    assert (page.status, sent.status) == (400, 400)
    assert "location" not in sent.headers


async def test_strangers_do_not_sign_in(issuer: tuple[Issuer, Client]) -> None:
    answer = await issuer[1].post("/authorize", data={**ASKED, "person": "mallory"}, allow_redirects=False)

    assert answer.status == 400


async def test_programs_get_tokens_as_before(issuer: tuple[Issuer, Client]) -> None:
    form = {"grant_type": "client_credentials", "subject": "grace", "groups": "analysts"}
    told = await (await issuer[1].post("/token", data=form)).json()

    assert _claims(issuer[0], told["access_token"], AUDIENCE)["groups"] == ["analysts"]
