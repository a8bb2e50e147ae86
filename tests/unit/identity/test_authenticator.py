"""The authenticator: attacks on it, what it remembers, and what it never fetches."""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from cryptography.hazmat.primitives import serialization

from ext_proc.errors import BadToken
from ext_proc.identity import authenticator as room
from ext_proc.identity.authenticator import Authenticator, MtlsTrust
from ext_proc.identity.keys import KeySet, KeySource
from ext_proc.identity.token import Trust
from ext_proc.model import Connection, Presented, Secret
from tests.fakes.issuer import AUDIENCE, FakeIssuer, part, private_key, sign, sign_by_hand

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
OIDC = Connection("demo", (), None, 1, 1)
MTLS = replace(OIDC, accepts=("mtls",))
BOTH = replace(OIDC, accepts=("oidc", "mtls"))
ELEMENT = "Hash=ab;URI=spiffe://acme/ada"


@asynccontextmanager
async def running() -> AsyncIterator[tuple[FakeIssuer, Authenticator, list[float]]]:
    seconds = [1000.0]
    async with FakeIssuer() as issuer:
        keys = KeySet(KeySource(issuer.url, fetch_seconds=60), lambda: seconds[0])
        trust = Trust(issuer.url, (AUDIENCE,), ("RS256", "ES256"))
        made = Authenticator([(trust, keys)], MtlsTrust("corp"))
        await made.start()
        try:
            yield issuer, made, seconds
        finally:
            await made.close()


def shown(token: str) -> Presented:
    return Presented(Secret(token))


async def word_of(made: Authenticator, token: str, now: datetime = NOW) -> str:
    with pytest.raises(BadToken) as caught:
        await made.authenticate(shown(token), OIDC, now)
    return caught.value.detail


def _pem() -> bytes:
    key: bytes = private_key("RS256", "rsa-1").public_key.public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return key


def _with(name: str) -> Callable[[FakeIssuer], str]:
    def make(issuer: FakeIssuer) -> str:
        """Signed by the attacker's key, with the address where the attacker publishes it."""
        header = {"kid": "evil", name: f"{issuer.url}/evil-keys"}
        signed = f"{part({'alg': 'RS256', **header})}.{part(issuer.claims(NOW))}"
        return f"{signed}.{part(b'signature')}"

    return make


ATTACKS: dict[str, tuple[Callable[[FakeIssuer], str], str]] = {
    "alg none": (lambda i: f"{part({'alg': 'none'})}.{part(i.claims(NOW))}.", "malformed"),
    "alg none, signed": (
        lambda i: f"{part({'alg': 'none', 'kid': 'rsa-1'})}.{part(i.claims(NOW))}.AA",
        "algorithm",
    ),
    "HS256 with the public key": (
        lambda i: sign_by_hand(_pem(), {"alg": "HS256", "kid": "rsa-1"}, i.claims(NOW)),
        "algorithm",
    ),
    "wrong iss": (lambda i: i.mint(NOW, iss="https://evil.example.com"), "issuer"),
    "iss with a slash more": (lambda i: i.mint(NOW, iss=i.url + "/"), "issuer"),
    "wrong aud": (lambda i: i.mint(NOW, aud="another"), "audience"),
    "expired": (lambda i: i.mint(NOW, exp=int(NOW.timestamp()) - 60), "expired"),
    "not yet valid": (lambda i: i.mint(NOW, nbf=int(NOW.timestamp()) + 60), "not_yet_valid"),
    "issued in the future": (lambda i: i.mint(NOW, iat=int(NOW.timestamp()) + 60), "issued_at"),
    "unknown kid": (
        lambda i: sign(private_key("RS256", "evil"), "RS256", i.claims(NOW), {"kid": "evil"}),
        "unknown_key",
    ),
    "another's key under a known kid": (
        lambda i: sign(private_key("RS256", "evil"), "RS256", i.claims(NOW), {"kid": "rsa-1"}),
        "signature",
    ),
    "no kid": (lambda i: sign(private_key("RS256", "rsa-1"), "RS256", i.claims(NOW), {}), "key_not_named"),
    "key of another kind": (
        lambda i: f"{part({'alg': 'RS256', 'kid': 'ec-1'})}.{part(i.claims(NOW))}.AAAA",
        "key_unfit",
    ),
    "jku": (_with("jku"), "brings_a_key"),
    "x5u": (_with("x5u"), "brings_a_key"),
    "jwk": (_with("jwk"), "brings_a_key"),
    "x5c": (_with("x5c"), "brings_a_key"),
    "1 MB": (lambda _: "a" * 1_048_576, "too_large"),
    "not ASCII": (lambda _: "é.é.é", "malformed"),
    "claims changed": (lambda i: _changed(i.mint(NOW)), "signature"),
    "no signature": (lambda i: i.mint(NOW).rpartition(".")[0] + ".", "malformed"),
}


def _changed(token: str) -> str:
    header, _, signature = token.split(".")
    return f"{header}.{part({'iss': 'x', 'sub': 'root'})}.{signature}"


@pytest.mark.asyncio
@pytest.mark.parametrize("name", ATTACKS)
async def test_attack(name: str) -> None:
    make, word = ATTACKS[name]
    async with running() as (issuer, made, _):
        token = make(issuer)
        if name == "claims changed":
            token = _resigned(issuer, token)
        assert await word_of(made, token) == word
        # Only the configured addresses were ever asked, and no more than once for a key that nobody knows.
        assert set(issuer.asked) <= {"discovery", "keys"}
        assert issuer.asked["keys"] <= 2


def _resigned(issuer: FakeIssuer, token: str) -> str:
    """The same attack with the right issuer, so that only the signature stands in its way."""
    header, _, signature = token.split(".")
    return f"{header}.{part({**issuer.claims(NOW), 'sub': 'root', 'groups': ['admins']})}.{signature}"


@pytest.mark.asyncio
async def test_a_flood_of_unknown_keys_makes_one_fetch() -> None:
    async with running() as (issuer, made, seconds):
        seconds[0] += 11
        forged = [f"{part({'alg': 'RS256', 'kid': f'k{n}'})}.{part(issuer.claims(NOW))}.AAAA" for n in range(300)]
        await asyncio.gather(*(word_of(made, token) for token in forged))
        assert issuer.asked["keys"] == 2


@pytest.mark.asyncio
async def test_tokens_of_other_issuers_fetch_nothing() -> None:
    async with FakeIssuer() as issuer:
        keys = KeySet(KeySource(issuer.url))
        made = Authenticator([(Trust(issuer.url, (AUDIENCE,), ("ES256",)), keys)])
        assert await word_of(made, issuer.mint(NOW, iss="http://127.0.0.1:1")) == "issuer"
        assert await word_of(made, issuer.mint(NOW)) == "algorithm"
        assert not issuer.asked
        await made.close()


@pytest.mark.asyncio
async def test_both_keys_verify_and_rotation_works() -> None:
    async with running() as (issuer, made, seconds):
        for key in ("rsa-1", "ec-1"):
            identity = await made.authenticate(shown(issuer.mint(NOW, key)), OIDC, NOW)
            assert (identity.subject, identity.groups) == ("ada", ("analysts",))
        old = issuer.mint(NOW)
        await made.authenticate(shown(old), OIDC, NOW)
        issuer.rotate("rsa-2")
        assert (await made.authenticate(shown(old), OIDC, NOW)).subject == "ada"  # remembered, keys not fetched yet
        seconds[0] += 11
        await made.authenticate(shown(issuer.mint(NOW, "rsa-2")), OIDC, NOW)
        assert await word_of(made, old) == "unknown_key"  # its key is gone, and so is the memory of it


@pytest.mark.asyncio
async def test_remembered_tokens_end_with_their_times() -> None:
    async with running() as (issuer, made, _):
        token = issuer.mint(NOW, exp=int(NOW.timestamp()) + 20)
        await made.authenticate(shown(token), OIDC, NOW)
        await made.authenticate(shown(token), OIDC, NOW + timedelta(seconds=49))  # leeway: verified again
        assert await word_of(made, token, NOW + timedelta(seconds=50)) == "expired"
        # A clock set back: what is not valid yet is not remembered as valid.
        assert await word_of(made, token, NOW - timedelta(seconds=31)) == "not_yet_valid"


@pytest.mark.asyncio
async def test_remembering_is_quick_and_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "REMEMBERED_MAX", 3)
    async with running() as (issuer, made, _):
        tokens = [issuer.mint(NOW, jti=f"t-{n}") for n in range(5)]
        for token in tokens:
            await made.authenticate(shown(token), OIDC, NOW)
            await made.authenticate(shown(tokens[0]), OIDC, NOW)  # used often: stays
        assert len(made._remembered) == 3
        presented = shown(tokens[0])
        best = float("inf")
        for _ in range(10):  # of several: what a machine takes from all its processes is counted as ours
            started = time.process_time()
            for _ in range(200):
                await made.authenticate(presented, OIDC, NOW)
            best = min(best, (time.process_time() - started) / 200)
        assert best < 0.000_1  # 5 us on an idle machine


@pytest.mark.asyncio
async def test_refused_tokens_are_not_remembered() -> None:
    async with running() as (issuer, made, _):
        for _ in range(3):
            await word_of(made, issuer.mint(NOW, aud="another"))
        assert not made._remembered


@pytest.mark.asyncio
async def test_recall_knows_only_what_verified_just_before() -> None:
    """Not another token, not one that was refused, not beyond its time, its minute or its key, not elsewhere."""
    async with running() as (issuer, made, seconds):
        token, short = issuer.mint(NOW), issuer.mint(NOW, exp=int(NOW.timestamp()) + 20)
        assert made.recall(shown(token), OIDC, NOW) is None
        for one in (token, short):
            identity = await made.authenticate(shown(one), OIDC, NOW)
            assert made.recall(shown(one), OIDC, NOW) == identity
        assert made.recall(shown(token + "A"), OIDC, NOW) is None
        assert made.recall(shown("é" * 10), OIDC, NOW) is None
        assert made.recall(Presented(Secret(token)), MTLS, NOW) is None
        assert made.recall(Presented(None), OIDC, NOW) is None
        assert made.recall(shown(short), OIDC, NOW + timedelta(seconds=20)) is None
        assert made.recall(shown(token), OIDC, NOW + timedelta(seconds=room.REMEMBERED_SECONDS)) is None
        await made.authenticate(shown(token), OIDC, NOW)
        issuer.rotate("rsa-2")
        seconds[0] += 11
        await made.authenticate(shown(issuer.mint(NOW, "rsa-2")), OIDC, NOW)
        assert made.recall(shown(token), OIDC, NOW) is None


@pytest.mark.asyncio
async def test_what_the_connection_accepts() -> None:
    async with running() as (issuer, made, _):
        token = Secret(issuer.mint(NOW))
        cases: list[tuple[Presented, Connection, str]] = [
            (Presented(token), OIDC, "ada"),
            (Presented(token, ELEMENT), BOTH, "ada"),
            (Presented(None, ELEMENT), BOTH, "spiffe://acme/ada"),
            (Presented(token, ELEMENT), MTLS, "spiffe://acme/ada"),
        ]
        for presented, connection, subject in cases:
            assert (await made.authenticate(presented, connection, NOW)).subject == subject
        refused: list[tuple[Presented, Connection, str]] = [
            (Presented(None), BOTH, "missing"),
            (Presented(None, ELEMENT), OIDC, "not_accepted_here"),
            (Presented(token), MTLS, "not_accepted_here"),
            (Presented(Secret("bad"), ELEMENT), BOTH, "malformed"),
        ]
        for presented, connection, word in refused:
            with pytest.raises(BadToken) as caught:
                await made.authenticate(presented, connection, NOW)
            assert caught.value.detail == word


@pytest.mark.asyncio
async def test_certificates_count_only_when_configured() -> None:
    made = Authenticator([])
    with pytest.raises(BadToken, match="not_accepted_here"):
        await made.authenticate(Presented(None, ELEMENT), MTLS, NOW)


def test_nothing_shows_a_token() -> None:
    presented: Any = shown("secret-token")
    assert "secret-token" not in repr(presented)
