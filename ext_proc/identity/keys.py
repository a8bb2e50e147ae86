"""An issuer's signing keys: found by discovery, kept, fetched again when a token names one that is not known.

Only configured addresses are asked, and what discovery names must be as safe as the issuer itself. An unknown
``kid`` makes at most one fetch an interval, whatever callers send; fetches that overlap are one. When the
issuer does not answer, the keys at hand serve until they are too old. Nobody waits while a key will do.
"""

from __future__ import annotations

import asyncio
import json
import ssl
from dataclasses import dataclass
from time import monotonic
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

import aiohttp

from ext_proc import telemetry
from ext_proc.errors import BadToken, ConfigError, KeysUnavailable
from ext_proc.identity.token import choose, read_keys

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from ext_proc.identity.token import Unverified, VerificationKey

ANSWER_MAX_BYTES: Final = 512 * 1024
"""Of a discovery document or key set. Large issuers publish about 10 KB."""
FIRST_RETRY_SECONDS: Final = 1.0
"""Between attempts while there are no keys at all: the issuer may start after us."""
_LOOPBACK: Final = frozenset({"127.0.0.1", "::1", "localhost"})
_OK: Final = 200


@dataclass(frozen=True, slots=True)
class KeySource:
    """Where an issuer's keys are and how long they serve; times in seconds.

    Raises:
        ConfigError: an address that is not safe to fetch keys from.
    """

    issuer: str
    jwks_uri: str | None = None
    ca_file: Path | None = None
    bearer_token_file: Path | None = None
    unsafe_allow_http: bool = False
    fresh_seconds: float = 600.0
    refetch_interval_seconds: float = 10.0
    stale_limit_seconds: float = 24 * 3600.0
    fetch_seconds: float = 5.0

    def __post_init__(self) -> None:
        asked = self.jwks_uri if self.jwks_uri is not None else self.issuer
        if not is_safe(asked, allow_http=self.unsafe_allow_http or _is_loopback(asked)):
            raise ConfigError(f"identity.issuers: {asked} must be https (or set unsafe_allow_http)")


def is_safe(url: str, *, allow_http: bool) -> bool:
    """An https address, or http where that is allowed; neither with a user name in it."""
    try:
        parts = urlsplit(url)
        host = parts.hostname
    except ValueError:
        return False
    schemes = ("https", "http") if allow_http else ("https",)
    return bool(host) and parts.username is None and parts.scheme in schemes


def _is_loopback(url: str) -> bool:
    parts = urlsplit(url)
    return parts.scheme == "http" and parts.hostname in _LOOPBACK


class KeySet:
    """One issuer's keys. Call from one event loop.

    Args:
        source: where they are.
        clock: seconds that only grow.
    """

    def __init__(self, source: KeySource, clock: Callable[[], float] = monotonic) -> None:
        self._source = source
        self._clock = clock
        telemetry.KEY_FETCHES.labels(source.issuer, "failed")  # 0: an alert sees the first one
        self._keys: tuple[VerificationKey, ...] = ()
        self._fetched_at: float | None = None
        self._tried_at: float | None = None
        self._fetching: asyncio.Task[None] | None = None
        self._session: aiohttp.ClientSession | None = None
        self.generation = 0
        """Grows when the keys change: what was verified with older ones is not remembered."""
        self.failure: str | None = None
        """Why the last fetch failed (a word or a type name); None after one that did not."""

    @property
    def is_usable(self) -> bool:
        """Are there keys, and are they young enough?"""
        return self._age() <= self._source.stale_limit_seconds

    async def key(self, said: Unverified) -> VerificationKey:
        """The key for a token that says so much of itself.

        Raises:
            BadToken: the issuer has no such key, the key does not fit, or several could be meant.
            KeysUnavailable: the issuer does not answer, and there are no keys fresh enough.
        """
        if not self.is_usable:
            await self.refresh()
        elif self._age() > self._source.fresh_seconds:
            self._begin()  # the keys at hand serve meanwhile: a slow issuer slows nobody down
        if not self.is_usable:
            raise KeysUnavailable("stale" if self._keys else "never_fetched")
        found = choose(self._keys, said)
        if found is None:
            await self.refresh()
            found = choose(self._keys, said)
        if found is None:
            raise BadToken("unknown_key")
        return found

    async def refresh(self) -> None:
        """Fetch, at most once an interval; whoever comes meanwhile waits for the same fetch. Never raises."""
        fetching = self._begin()
        if fetching is not None:
            await asyncio.wait((fetching,))  # does not cancel what it waits for: others wait for it too

    async def close(self) -> None:
        """Stop fetching."""
        fetching = self._fetching
        if fetching is not None:
            fetching.cancel()
            await asyncio.wait((fetching,))
        if self._session is not None:
            await self._session.close()
            self._session = None

    def _age(self) -> float:
        return float("inf") if self._fetched_at is None else self._clock() - self._fetched_at

    def _begin(self) -> asyncio.Task[None] | None:
        if self._fetching is None:
            now = self._clock()
            interval = self._source.refetch_interval_seconds
            if not self._keys:
                interval = min(interval, FIRST_RETRY_SECONDS)
            if self._tried_at is not None and now - self._tried_at < interval:
                return None
            self._tried_at = now
            # Bound to the loop and held here until done: no task group outlives the request that began it.
            self._fetching = asyncio.get_running_loop().create_task(self._fetch())
            self._fetching.add_done_callback(self._ended)
        return self._fetching

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._fetching = None
        error = None if task.cancelled() else task.exception()
        # Not raised to anyone: the keys at hand serve on, or `key` says that there are none.
        self.failure = None if error is None else getattr(error, "detail", "") or type(error).__name__
        if not task.cancelled():
            telemetry.KEY_FETCHES.labels(self._source.issuer, "failed" if error else "done").inc()

    async def _fetch(self) -> None:
        async with asyncio.timeout(self._source.fetch_seconds):
            document = await self._json(self._source.jwks_uri or await self._discover())
        keys = read_keys(document)
        if not keys:
            raise KeysUnavailable("no_usable_key")
        if {key.fingerprint for key in keys} != {key.fingerprint for key in self._keys}:
            self.generation += 1
        self._keys, self._fetched_at = keys, self._clock()

    async def _discover(self) -> str:
        """OpenID Connect Discovery 1.0, section 4: the document must name exactly the issuer asked."""
        issuer = self._source.issuer
        found = await self._json(issuer.rstrip("/") + "/.well-known/openid-configuration")
        if found.get("issuer") != issuer:
            raise KeysUnavailable("discovery_names_another_issuer")
        uri = found.get("jwks_uri")
        allow_http = self._source.unsafe_allow_http
        if not isinstance(uri, str) or not (
            is_safe(uri, allow_http=allow_http) or (_is_loopback(issuer) and _is_loopback(uri))
        ):
            raise KeysUnavailable("unsafe_jwks_uri")
        return uri

    async def _json(self, url: str) -> dict[str, Any]:
        # `identity`: nothing to unpack, so the size on the wire is the size in memory.
        headers = {"accept": "application/json", "accept-encoding": "identity"}
        if self._source.bearer_token_file is not None:
            # Read each time: Kubernetes renews it in place.
            token = await asyncio.to_thread(self._source.bearer_token_file.read_text)
            headers["authorization"] = f"Bearer {token.strip()}"
        async with self._http().get(url, headers=headers, allow_redirects=False) as answer:
            if answer.status != _OK:
                raise KeysUnavailable(f"status_{answer.status}")
            body = bytearray()
            while more := await answer.content.read(ANSWER_MAX_BYTES):
                body += more
                if len(body) > ANSWER_MAX_BYTES:
                    raise KeysUnavailable("too_large")
        found = json.loads(body)
        if not isinstance(found, dict):
            raise KeysUnavailable("not_an_object")
        return found

    def _http(self) -> aiohttp.ClientSession:
        if self._session is None:
            tls = ssl.create_default_context(cafile=self._source.ca_file)
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(ssl=tls),
                cookie_jar=aiohttp.DummyCookieJar(),
                trust_env=False,  # a proxy from the environment would see, and could change, the keys
                auto_decompress=False,
            )
        return self._session
