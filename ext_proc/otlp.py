"""Spans to a collector, by OTLP over HTTP: one deadline over all of it, whatever the collector does.

OpenTelemetry's own exporter takes proxies and passwords (``.netrc``) from the environment, reads the whole answer into
memory, for as long as something drips, and puts the collector's words into our log. This one goes where the
configuration says, or nowhere: no proxy, no redirect, no cookie; of the answer it reads the status and nothing else.
"""

from __future__ import annotations

import asyncio
import ssl
from time import monotonic
from typing import TYPE_CHECKING, Final

import aiohttp
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from opentelemetry.sdk.trace import ReadableSpan

DEADLINE_SECONDS: Final = 5.0
"""For one batch, attempts that failed included; and for all that waits where we end."""
_FIRST_PAUSE_SECONDS: Final = 0.5
_PASSING: Final = (429, 502, 503, 504)
"""What the specification has tried again (OTLP 1.x, "Failures")."""


class Exporter(SpanExporter):
    """Used by one thread of the library's.

    Args:
        url: where to, with its path.
        headers: what the collector wants to be told.
        ca_file: PEM authorities of its certificate, if not public.
        tell: told when the collector begins not to take what it gets, and why; and None when it takes it again.
        deadline_seconds: see `DEADLINE_SECONDS`.
    """

    def __init__(
        self,
        url: str,
        headers: Mapping[str, str],
        ca_file: str | None,
        tell: Callable[[str | None], None],
        deadline_seconds: float = DEADLINE_SECONDS,
    ) -> None:
        self._url = url
        self._headers = {**headers, "content-type": "application/x-protobuf"}
        self._tls = ssl.create_default_context(cafile=ca_file)
        self._tell = tell
        self._deadline_seconds = deadline_seconds
        self._why: str | None = None
        self._over_at: float | None = None

    def hurry(self) -> None:
        """From here on there is one deadline for all that is sent: what comes later is dropped."""
        self._over_at = monotonic() + self._deadline_seconds

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Send them. Blocks until the collector took them, or the deadline is over."""
        seconds = self._deadline_seconds if self._over_at is None else self._over_at - monotonic()
        if seconds <= 0:
            return SpanExportResult.FAILURE
        why = asyncio.run(self._sent(encode_spans(spans).SerializeToString(), seconds))
        if (why is None) != (self._why is None):
            self._tell(why)
        self._why = why
        return SpanExportResult.SUCCESS if why is None else SpanExportResult.FAILURE

    async def _sent(self, body: bytes, seconds: float) -> str | None:
        """Why they were not taken; None where they were. A word of ours: the collector's may be anything."""
        why, pause = "too_slow", _FIRST_PAUSE_SECONDS
        try:
            async with asyncio.timeout(seconds), self._session() as session:
                while True:
                    why, may_pass = await self._posted(session, body)
                    if not why or not may_pass:
                        return why or None
                    await asyncio.sleep(pause)
                    pause *= 2
        except TimeoutError:
            return why

    async def _posted(self, session: aiohttp.ClientSession, body: bytes) -> tuple[str, bool]:
        try:
            async with session.post(self._url, data=body, headers=self._headers, allow_redirects=False) as answer:
                is_taken = 200 <= answer.status < 300
                return "" if is_taken else f"status_{answer.status}", answer.status in _PASSING
        except aiohttp.ClientConnectionError as error:
            return type(error).__name__, True
        except (aiohttp.ClientError, OSError, ValueError) as error:
            return type(error).__name__, False

    def _session(self) -> aiohttp.ClientSession:
        connector = aiohttp.TCPConnector(ssl=self._tls, force_close=True)
        return aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar(), auto_decompress=False)
