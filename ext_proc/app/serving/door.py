"""HTTP on one address for one other process, from threads of its own: whatever else hangs, it is answered."""

from __future__ import annotations

from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from time import sleep
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import socket

_PAUSE_SECONDS: Final = 0.5
"""Without a file descriptor, until somebody gave one back."""
_ANSWER_SECONDS: Final = 10


class Door(ThreadingHTTPServer):
    """Listens from when it is made, answers from `open` to `close`.

    Args:
        address: host and port; port 0 is any.
        handler: who answers.

    Raises:
        OSError: it cannot listen.
        ValueError: that is no port.
        OverflowError: likewise.
    """

    daemon_threads = True

    def __init__(self, address: str, handler: type[Handler]) -> None:
        host, _, port = address.rpartition(":")
        super().__init__((host.strip("[]"), int(port)), handler)

    def open(self, name: str) -> None:
        """Answer, in threads of this name."""
        Thread(target=self.serve_forever, name=name, daemon=True).start()

    def get_request(self) -> tuple[socket.socket, object]:
        """See `socketserver.BaseServer`, which would ask again at once, on a whole core."""
        try:
            return super().get_request()
        except OSError:
            sleep(_PAUSE_SECONDS)
            raise

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self.server_address[1])

    def close(self) -> None:
        """Stop listening."""
        self.shutdown()
        self.server_close()


class Handler(BaseHTTPRequestHandler):
    """Keeps a connection, waits ten seconds for what comes on it, and logs nothing: what happened is told elsewhere."""

    protocol_version = "HTTP/1.1"
    timeout = _ANSWER_SECONDS

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the library's name
        """Nothing."""
