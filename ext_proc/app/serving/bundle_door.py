"""Where OPA fetches its bundle, and says what became of it: HTTP on loopback, for who knows the word.

``GET /bundle`` gives what is offered, with its digest as ETag; ``POST /status`` takes OPA's status.
"""

from __future__ import annotations

import hmac
import json
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final

from ext_proc.app.serving.door import Door, Handler
from ext_proc.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

    from ext_proc.app.serving.distribution import Distributor

STATUS_MAX_BYTES: Final = 4 << 20


class BundleDoor(Door):
    """Open from when it is made until `close`.

    Args:
        distributor: whom it asks.
        address: host and port; port 0 is any.
        token_file: holds the word.

    Raises:
        ConfigError: it cannot listen, or the word cannot be read.
    """

    def __init__(self, distributor: Distributor, address: str, token_file: Path) -> None:
        self.distributor = distributor
        try:
            self.word = f"Bearer {token_file.read_text().strip()}".encode()
            super().__init__(address, _Handler)
        except OSError as error:
            raise ConfigError(f"policy.distribution.listen: {address}: {error.strerror}") from None
        self.open("bundles")


class _Handler(Handler):
    server: BundleDoor

    def do_GET(self) -> None:  # noqa: N802 - the name that the library calls
        """The bundle, unless OPA has it already."""
        found = self.server.distributor.serving() if self._may("/bundle") else None
        if found is None:
            self._refuse(HTTPStatus.NOT_FOUND)
            return
        digest, raw = found
        if self.headers.get("if-none-match") == f'"{digest}"':
            self._answer(HTTPStatus.NOT_MODIFIED, etag=digest)
            return
        self._answer(HTTPStatus.OK, raw, digest)
        self.server.distributor.gave(digest)

    def do_POST(self) -> None:  # noqa: N802 - likewise
        """OPA's status."""
        length = self.headers.get("content-length", "")
        if not self._may("/status") or not length.isdecimal() or int(length) > STATUS_MAX_BYTES:
            self._refuse(HTTPStatus.BAD_REQUEST)
            return
        status = _read(self.rfile.read(int(length)))
        if status is None:
            self._refuse(HTTPStatus.BAD_REQUEST)
            return
        self.server.distributor.heard(status)
        self._answer(HTTPStatus.OK)

    def _may(self, path: str) -> bool:
        shown = self.headers.get("authorization", "").encode("latin-1", "replace")
        return hmac.compare_digest(shown, self.server.word) and self.path.partition("?")[0] == path

    def _refuse(self, status: HTTPStatus) -> None:
        """What else comes on this connection is not looked at."""
        self.close_connection = True
        self._answer(status)

    def _answer(self, status: HTTPStatus, body: bytes = b"", etag: str = "") -> None:
        self.send_response(status)
        if etag:
            self.send_header("etag", f'"{etag}"')
        if status is not HTTPStatus.NOT_MODIFIED:
            self.send_header("content-type", "application/gzip" if body else "text/plain")
            self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def _read(body: bytes) -> dict[str, Any] | None:
    try:
        status = json.loads(body)
    except (ValueError, RecursionError):
        return None
    return status if isinstance(status, dict) else None
