"""Keys: fetched when needed, seldom, by one at a time, from where the configuration says, and kept when all else fails."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest

from ext_proc.errors import BadToken, ConfigError, KeysUnavailable
from ext_proc.identity.keys import KeySet, KeySource
from ext_proc.identity.token import Unverified
from tests.fakes.issuer import FakeIssuer, private_key

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


class Clock:
    def __init__(self) -> None:
        self.seconds = 1000.0

    def __call__(self) -> float:
        return self.seconds


def keys_of(issuer: FakeIssuer, clock: Clock, **settings: object) -> KeySet:
    """Where the test is not about time, a fetch has enough of it: of a busy machine, too."""
    return KeySet(KeySource(issuer.url, **({"fetch_seconds": 60} | settings)), clock)  # type: ignore[arg-type]


async def until(is_so: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not is_so():  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0.01)


async def until_usable(keys: KeySet, clock: Clock) -> None:
    async with asyncio.timeout(60):
        while not keys.is_usable:
            with suppress(KeysUnavailable):
                await keys.key(named("rsa-1"))
            clock.seconds += 1.1


def named(key_id: str | None, algorithm: str = "RS256") -> Unverified:
    return Unverified("any", key_id, algorithm)


@pytest.mark.asyncio
async def test_discovery_then_keys_and_no_more() -> None:
    async with FakeIssuer() as issuer:
        keys = keys_of(issuer, Clock())
        for _ in range(5):
            assert (await keys.key(named("rsa-1"))).key_id == "rsa-1"
            assert (await keys.key(named("ec-1", "ES256"))).key_id == "ec-1"
        assert issuer.asked == {"discovery": 1, "keys": 1}
        assert keys.generation == 1
        await keys.close()


@pytest.mark.asyncio
async def test_configured_address_needs_no_discovery(tmp_path: Path) -> None:
    async with FakeIssuer() as issuer:
        file = tmp_path / "token"
        file.write_text("kube\n")
        source = KeySource("https://kubernetes.default.svc", f"{issuer.url}/jwks", bearer_token_file=file)
        keys = KeySet(source, Clock())
        await keys.key(named("rsa-1"))
        assert issuer.asked == {"keys": 1}
        assert issuer.headers["Authorization"] == "Bearer kube"
        await keys.close()


@pytest.mark.asyncio
async def test_unknown_key_fetches_once_an_interval_and_overlapping_fetches_are_one() -> None:
    async with FakeIssuer() as issuer:
        clock = Clock()
        keys = keys_of(issuer, clock, refetch_interval_seconds=10)
        await keys.key(named("rsa-1"))
        clock.seconds += 11
        issuer.behaviour = "slow"
        asking = asyncio.gather(*(keys.key(named(f"guess-{n}")) for n in range(200)), return_exceptions=True)
        await until(lambda: issuer.asked["keys"] == 2)
        assert not asking.done()
        issuer.goes_on.set()
        results = await asking
        assert all(isinstance(result, BadToken) and result.detail == "unknown_key" for result in results)
        assert issuer.asked["keys"] == 2
        for n in range(50):
            with pytest.raises(BadToken):
                await keys.key(named(f"more-{n}"))
        assert issuer.asked["keys"] == 2
        await keys.close()


@pytest.mark.asyncio
async def test_rotation() -> None:
    async with FakeIssuer() as issuer:
        clock = Clock()
        keys = keys_of(issuer, clock)
        await keys.key(named("rsa-1"))
        issuer.rotate("rsa-2")
        clock.seconds += 11
        assert (await keys.key(named("rsa-2"))).key_id == "rsa-2"
        assert keys.generation == 2
        with pytest.raises(BadToken, match="unknown_key"):
            await keys.key(named("rsa-1"))
        await keys.close()


@pytest.mark.asyncio
async def test_same_name_with_another_key_is_a_change() -> None:
    async with FakeIssuer() as issuer:
        clock = Clock()
        keys = keys_of(issuer, clock, fresh_seconds=5)
        first = await keys.key(named("rsa-1"))
        issuer.keys["rsa-1"] = ("RS256", _renamed())
        clock.seconds += 11
        await keys.refresh()
        assert keys.generation == 2
        assert (await keys.key(named("rsa-1"))).fingerprint != first.fingerprint
        await keys.close()


def _renamed() -> object:
    class Renamed:
        def as_dict(self, *, private: bool) -> dict[str, object]:
            return {**private_key("RS256", "other").as_dict(private=private), "kid": "rsa-1"}

    return Renamed()


@pytest.mark.asyncio
@pytest.mark.parametrize("behaviour", ["error", "redirect", "garbage", "array", "empty", "huge", "drip"])
async def test_without_keys_nobody_passes(behaviour: str) -> None:
    async with FakeIssuer() as issuer:
        issuer.behaviour = behaviour
        clock = Clock()
        keys = keys_of(issuer, clock, **({"fetch_seconds": 0.5} if behaviour == "drip" else {}))
        with pytest.raises(KeysUnavailable, match="never_fetched"):
            async with asyncio.timeout(60):  # the drip has no end
                await keys.key(named("rsa-1"))
        assert keys.failure is not None
        assert not keys.is_usable
        with pytest.raises(KeysUnavailable):  # at once: not a second has passed
            await keys.key(named("rsa-1"))
        assert issuer.asked["keys"] == 1
        assert "/elsewhere" not in issuer.asked
        issuer.behaviour = "ok"
        clock.seconds += 1.1
        if behaviour == "drip":  # with its short time a busy machine may be late itself, once or twice
            await until_usable(keys, clock)
        await keys.key(named("rsa-1"))
        assert keys.failure is None
        await keys.close()


@pytest.mark.asyncio
async def test_stale_keys_serve_up_to_a_limit() -> None:
    async with FakeIssuer() as issuer:
        clock = Clock()
        keys = keys_of(issuer, clock, fresh_seconds=60, stale_limit_seconds=600)
        await keys.key(named("rsa-1"))
        issuer.behaviour = "error"
        clock.seconds += 599
        await keys.key(named("rsa-1"))
        clock.seconds += 2
        with pytest.raises(KeysUnavailable, match="stale"):
            await keys.key(named("rsa-1"))
        clock.seconds += 11
        issuer.behaviour = "ok"
        await keys.key(named("rsa-1"))
        await keys.close()


@pytest.mark.asyncio
async def test_nobody_waits_for_a_slow_issuer_while_there_are_keys() -> None:
    async with FakeIssuer() as issuer:
        clock = Clock()
        keys = keys_of(issuer, clock, fresh_seconds=60)
        await keys.key(named("rsa-1"))
        issuer.behaviour = "slow"
        clock.seconds += 61
        await keys.key(named("rsa-1"))  # it has not answered yet, and never will
        await until(lambda: issuer.asked["keys"] == 2)
        await keys.close()


@pytest.mark.asyncio
async def test_a_waiter_that_gives_up_does_not_stop_the_fetch() -> None:
    async with FakeIssuer() as issuer:
        issuer.behaviour = "slow"
        keys = keys_of(issuer, Clock())
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await keys.key(named("rsa-1"))
        issuer.goes_on.set()
        await keys.key(named("rsa-1"))
        assert issuer.asked["keys"] == 1
        await keys.close()


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"issuer": "http://127.0.0.1:1"}, "discovery_names_another_issuer"),
        ({"issuer": None}, "discovery_names_another_issuer"),
        ({"jwks_uri": None}, "unsafe_jwks_uri"),
        ({"jwks_uri": "http://keys.example.com/jwks"}, "unsafe_jwks_uri"),
        ({"jwks_uri": "file:///etc/passwd"}, "unsafe_jwks_uri"),
        ({"jwks_uri": "https://a:b@keys.example.com/"}, "unsafe_jwks_uri"),
        ({"jwks_uri": "http://[bad"}, "ValueError"),
    ],
)
async def test_discovery_is_checked(change: dict[str, object], word: str) -> None:
    async with FakeIssuer() as issuer:
        issuer.discovery.update(change)
        keys = keys_of(issuer, Clock())
        with pytest.raises(KeysUnavailable):
            await keys.key(named("rsa-1"))
        assert keys.failure == word
        assert issuer.asked == {"discovery": 1}
        await keys.close()


@pytest.mark.asyncio
async def test_nobody_listens() -> None:
    issuer = FakeIssuer()
    issuer._socket.close()
    keys = keys_of(issuer, Clock())
    with pytest.raises(KeysUnavailable):
        await keys.key(named("rsa-1"))
    await keys.close()


@pytest.mark.parametrize(
    "source",
    [
        {"issuer": "http://idp.example.com"},
        {"issuer": "https://idp.example.com", "jwks_uri": "http://idp.example.com/jwks"},
        {"issuer": "ftp://idp.example.com"},
        {"issuer": "https://user@idp.example.com"},
        {"issuer": "idp.example.com"},
    ],
)
def test_unsafe_addresses_are_refused(source: dict[str, str]) -> None:
    with pytest.raises(ConfigError):
        KeySource(**source)  # type: ignore[arg-type]


def test_http_elsewhere_only_by_name() -> None:
    assert KeySource("http://idp.example.com", unsafe_allow_http=True).unsafe_allow_http
