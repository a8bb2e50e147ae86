"""One question by HTTP to a receiver that somebody configured, and that may be hostile or wrong.

One deadline over all of it, no redirect, no proxy from the environment, no cookies, a bounded answer; https only, but
for loopback. A name that leads to an address of our own network (or to loopback, or a cloud's metadata) is refused
unless the configuration allows that: the address is looked at where the connection is made, so a name that changes its
mind is too.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.resolver import ThreadedResolver

from ext_proc.approval.channels.address import LOOPBACK, BadAddress, check_url, is_literal, is_public
from ext_proc.approval.channels.channel import Undelivered

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

ANSWER_MAX_BYTES: Final = 64 * 1024


@dataclass(frozen=True, slots=True)
class Answer:
    """What was answered. ``after_seconds``: when they want to be asked again, if they said so."""

    status: int
    body: bytes
    after_seconds: float


class Outgoing:
    """The way to one receiver.

    Args:
        url: checked (`check_url`).
        ca_file: PEM authorities of its TLS, if not public.
        may_be_private: it may be in our own network.
        deadline_seconds: over one question and its answer.

    Raises:
        BadAddress: the URL, or the file of authorities, is not as it must be.
    """

    def __init__(
        self, url: str, *, ca_file: Path | None = None, may_be_private: bool = False, deadline_seconds: float = 10.0
    ) -> None:
        check_url(url)
        self._url = url
        self._host = urlsplit(url).hostname or ""
        self._is_any = may_be_private or self._host in LOOPBACK
        self._deadline_seconds = deadline_seconds
        try:
            self._tls = ssl.create_default_context(cafile=ca_file)
        except (OSError, ssl.SSLError):
            raise BadAddress(f"{ca_file}: no certificates can be read") from None

    async def post(self, body: bytes, headers: Mapping[str, str], *, path: str = "", wants_body: bool = True) -> Answer:
        """POST, and what was answered, whatever its status; without ``wants_body`` only the status is waited for.

        Raises:
            Undelivered: no answer, too slow, too long, or none that anybody could read.
        """
        if not self._is_any and is_literal(self._host) and not is_public(self._host):
            raise Undelivered("address_refused")
        try:
            async with asyncio.timeout(self._deadline_seconds), self._session() as session:
                sent = session.post(self._url + path, data=body, headers=dict(headers), allow_redirects=False)
                async with sent as answer:
                    found = await _body(answer) if wants_body else b""
                    return Answer(answer.status, found, _after(answer.headers.get("retry-after", "")))
        except TimeoutError:
            raise Undelivered("too_slow") from None
        except aiohttp.ClientConnectorError as error:
            is_refused = isinstance(error.os_error, _PrivateAddressError)
            raise Undelivered("address_refused" if is_refused else "no_connection") from None
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise Undelivered(type(error).__name__) from None

    def _session(self) -> aiohttp.ClientSession:
        resolver = None if self._is_any else _PublicResolver()
        return aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(resolver=resolver, ssl=self._tls, force_close=True, use_dns_cache=False),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            timeout=aiohttp.ClientTimeout(total=self._deadline_seconds),
        )


class _PrivateAddressError(OSError):
    """A name leads into our own network."""


class _PublicResolver(AbstractResolver):
    """Names, and the addresses to connect to: one that is not public refuses all of them."""

    def __init__(self) -> None:
        self._inner = ThreadedResolver()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """The addresses of a name."""
        found = await self._inner.resolve(host, port, family)
        if not all(is_public(one["host"]) for one in found):
            raise _PrivateAddressError
        return found

    async def close(self) -> None:
        """Nothing is open."""
        await self._inner.close()


async def _body(answer: aiohttp.ClientResponse) -> bytes:
    found = bytearray()
    async for part in answer.content.iter_any():
        found += part
        if len(found) > ANSWER_MAX_BYTES:
            raise Undelivered("answer_too_long")
    return bytes(found)


def _after(text: str) -> float:
    return float(text) if text.isascii() and text.isdigit() and len(text) < 7 else 0.0
