"""A store with faults: an HTTP server between the gateway and a real S3 server, which hands on or does as it is told."""

from __future__ import annotations

import http.client
import threading
from email.utils import format_datetime, parsedate_to_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import timedelta

WELL: Final = "well"
AWAY: Final = "away"
"""Every question is answered with 503."""
UNLOCKED: Final = "unlocked"
"""Nobody is told of a lock."""
OBLIGING: Final = "obliging"
"""Whoever wants a lock shortened or taken off hears that it was done."""
_LOCK: Final = "x-amz-object-lock-"
_NOT_HANDED_ON: Final = ("connection", "expect", "transfer-encoding")


class StoreBetween:
    """Starts with the first line of its life; `stop` ends it.

    Args:
        endpoint: the real server.
    """

    def __init__(self, endpoint: str) -> None:
        self.mood = WELL
        self.late: timedelta | None = None
        """How far the store's clock is behind."""
        parts = urlsplit(endpoint)
        between = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def _answer(self) -> None:
                body = self.rfile.read(int(self.headers.get("content-length") or 0))
                if between.mood == AWAY:
                    self._say(503, [("content-type", "application/xml")], b"<Error><Code>SlowDown</Code></Error>")
                elif between.mood == OBLIGING and self.command == "PUT" and "retention" in self.path:
                    self._say(200, [], b"")
                else:
                    self._say(*between.asked(parts, self.command, self.path, list(self.headers.items()), body))

            do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = _answer  # noqa: N815 - the library's names

            def _say(self, status: int, headers: list[tuple[str, str]], body: bytes) -> None:
                self.send_response_only(status)
                told = {name.lower(): value for name, value in headers} | (
                    {} if self.command == "HEAD" else {"content-length": str(len(body))}
                )
                for name, value in told.items():
                    self.send_header(name, value)
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                """Nobody reads it."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        self.endpoint = f"http://127.0.0.1:{self._server.server_address[1]}"

    def stop(self) -> None:
        """No more questions."""
        self._server.shutdown()
        self._server.server_close()

    def asked(
        self, real: object, method: str, path: str, headers: list[tuple[str, str]], body: bytes
    ) -> tuple[int, list[tuple[str, str]], bytes]:
        """The real server's answer, changed as the mood is. The request goes on as it was signed."""
        connection = http.client.HTTPConnection(real.hostname, real.port, timeout=30)  # type: ignore[attr-defined]
        try:
            connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
            for name, value in headers:
                if name.lower() not in _NOT_HANDED_ON:
                    connection.putheader(name, value)
            connection.endheaders(body)
            answer = connection.getresponse()
            return answer.status, list(self._told(answer)), answer.read()
        finally:
            connection.close()

    def _told(self, answer: http.client.HTTPResponse) -> Iterator[tuple[str, str]]:
        for name, value in answer.getheaders():
            lower = name.lower()
            if lower in _NOT_HANDED_ON or (self.mood == UNLOCKED and lower.startswith(_LOCK)):
                continue
            if lower == "date" and self.late is not None:
                yield name, format_datetime(parsedate_to_datetime(value) - self.late, usegmt=True)
            else:
                yield name, value
