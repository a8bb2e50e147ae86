"""A TCP server that answers every connection with exact bytes, for as long as somebody listens."""

from __future__ import annotations

import socketserver
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@contextmanager
def raw_server(answer: Callable[[], Iterator[bytes]]) -> Iterator[tuple[str, list[bytes]]]:
    """Its address (http), and the beginning of what each connection sent. ``answer``: the bytes, write by write."""
    heard: list[bytes] = []

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            heard.append(self.request.recv(65536))
            try:
                for data in answer():
                    self.request.sendall(data)
            except OSError:
                return  # who asked has left

    class Server(socketserver.ThreadingTCPServer):
        daemon_threads = True

    with Server(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}", heard
        finally:
            server.shutdown()
