"""One suite for `ports.Identities`: the fake, the authenticator with a commanded issuer, and with the demo's issuer."""

from __future__ import annotations

import asyncio
import json
import socket
import urllib.request
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp import web

from ext_proc.demo.issuer import Issuer
from ext_proc.errors import BadToken, KeysUnavailable
from ext_proc.identity.authenticator import Authenticator, MtlsTrust
from ext_proc.identity.keys import KeySet, KeySource
from ext_proc.identity.token import Trust
from ext_proc.model import Connection, Identity, Presented, Secret
from tests.fakes.identity import FakeIdentities
from tests.fakes.issuer import AUDIENCE, FakeIssuer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from ext_proc.ports import Identities

OIDC = Connection("demo", (), None, 1, 1)
BOTH = replace(OIDC, accepts=("oidc", "mtls"))
MTLS = replace(OIDC, accepts=("mtls",))
ELEMENT = "URI=spiffe://acme/ada"
ADA = Identity("http://issuer", "ada", "oidc", ("analysts",))


@dataclass(frozen=True, slots=True)
class Setting:
    identities: Identities
    good: str
    now: datetime
    bad: str


@asynccontextmanager
async def setting(kind: str) -> AsyncIterator[Setting]:
    now = datetime.now(UTC)
    if kind == "fake":
        good = replace(ADA, expires_at=now + timedelta(hours=1))
        certificate = Identity("mtls:corp", "spiffe://acme/ada", "mtls")
        yield Setting(FakeIdentities({"good": good}, {ELEMENT: certificate}), "good", now, "bad")
        return
    async with FakeIssuer() as commanded:
        url, good_token = commanded.url, commanded.mint(now, exp=int(now.timestamp()) + 3600)
        runner: web.AppRunner | None = None
        if kind == "demo issuer":
            demo, runner, url = await _demo_issuer()
            good_token = demo.mint("ada", ["analysts"])
        trust = Trust(url, (AUDIENCE,), ("RS256", "ES256"))
        made = Authenticator([(trust, KeySet(KeySource(url)))], MtlsTrust("corp"))
        await made.start()
        header, claims, signature = good_token.split(".")
        forged = f"{header}.{claims}.{signature[:-8]}AAAAAAAA"
        try:
            yield Setting(made, good_token, now, forged)
        finally:
            await made.close()
            if runner is not None:
                await runner.cleanup()


async def _demo_issuer() -> tuple[Issuer, web.AppRunner, str]:
    held = socket.create_server(("127.0.0.1", 0))
    port = held.getsockname()[1]
    issuer = Issuer(f"http://127.0.0.1:{port}")
    runner = web.AppRunner(issuer.app(), access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.SockSite(runner, held).start()
    return issuer, runner, issuer.url


def _fetched(url: str, form: bytes | None = None) -> dict[str, Any]:
    with urllib.request.urlopen(url, form, timeout=5) as answer:
        found: dict[str, Any] = json.load(answer)
    return found


every = pytest.mark.parametrize("kind", ["fake", "commanded issuer", "demo issuer"])


@every
@pytest.mark.asyncio
async def test_a_good_token(kind: str) -> None:
    async with setting(kind) as here:
        for connection in (OIDC, BOTH):
            identity = await here.identities.authenticate(Presented(Secret(here.good)), connection, here.now)
            assert (identity.subject, identity.groups, identity.method) == ("ada", ("analysts",), "oidc")
            assert identity.expires_at is not None


@every
@pytest.mark.asyncio
async def test_refusals(kind: str) -> None:
    async with setting(kind) as here:
        later = here.now + timedelta(hours=2)
        for presented, connection, now, words in (
            (Presented(None), OIDC, here.now, {"missing"}),
            (Presented(None, ELEMENT), OIDC, here.now, {"not_accepted_here"}),
            (Presented(Secret(here.good)), MTLS, here.now, {"not_accepted_here"}),
            (Presented(Secret(here.bad)), BOTH, here.now, {"signature"}),
            (Presented(Secret(here.bad), ELEMENT), BOTH, here.now, {"signature"}),
            (Presented(Secret(here.good)), OIDC, later, {"expired"}),
        ):
            with pytest.raises(BadToken) as caught:
                await here.identities.authenticate(presented, connection, now)
            assert caught.value.detail in words


@every
@pytest.mark.asyncio
async def test_certificates(kind: str) -> None:
    async with setting(kind) as here:
        identity = await here.identities.authenticate(Presented(None, ELEMENT), BOTH, here.now)
        assert (identity.issuer, identity.subject, identity.method) == (
            "mtls:corp",
            "spiffe://acme/ada",
            "mtls",
        )
        with pytest.raises(BadToken):
            await here.identities.authenticate(Presented(None, "Hash=ab"), MTLS, here.now)


@pytest.mark.asyncio
async def test_without_keys_both_are_unavailable() -> None:
    now = datetime(2026, 11, 24, tzinfo=UTC)
    fake = FakeIdentities({})
    fake.is_down = True
    async with FakeIssuer() as issuer:
        issuer.behaviour = "error"
        trust = Trust(issuer.url, (AUDIENCE,), ("RS256",))
        real = Authenticator([(trust, KeySet(KeySource(issuer.url)))])
        for identities in (fake, real):
            with pytest.raises(KeysUnavailable):
                await identities.authenticate(Presented(Secret(issuer.mint(now))), OIDC, now)
        await real.close()


@pytest.mark.asyncio
async def test_demo_issuer_publishes_two_kinds_of_key_and_no_private_part() -> None:
    issuer, runner, url = await _demo_issuer()
    try:
        keys = (await asyncio.to_thread(_fetched, f"{url}/jwks.json"))["keys"]
        assert {key["alg"] for key in keys} == {"RS256", "ES256"}
        assert all("d" not in key and key["kid"] for key in keys)
        form = b"grant_type=client_credentials&subject=ada&groups=analysts"
        answer = await asyncio.to_thread(_fetched, f"{url}/token", form)
        trust = Trust(url, (AUDIENCE,), ("RS256",))
        made = Authenticator([(trust, KeySet(KeySource(url)))])
        shown = Presented(Secret(answer["access_token"]))
        now = datetime.now(UTC)
        assert (await made.authenticate(shown, OIDC, now)).groups == ("analysts",)
        await made.close()
        assert issuer.url == url
    finally:
        await runner.cleanup()
