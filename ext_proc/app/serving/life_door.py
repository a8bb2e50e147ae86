"""Where a shipper that no supervisor watches says whether it goes on, as in the pod of a console: ``GET /live``."""

from __future__ import annotations

import json
from http import HTTPStatus
from threading import Event, Thread
from typing import TYPE_CHECKING

from ext_proc.app.serving.door import Door, Handler
from ext_proc.app.serving.pulse import LOOK_SECONDS, SHIPPER_SECONDS, Pulse
from ext_proc.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable


class LifeDoor(Door):
    """Open from when it is made until `close`. Threads of its own answer: what hangs is the thread that ships.

    Args:
        said_at: when whoever is watched last said something. One that never does is gone, too, after as long.
        address: host and port; port 0 is any.

    Raises:
        ConfigError: it cannot listen.
    """

    def __init__(self, said_at: Callable[[], float], address: str) -> None:
        self._said_at = said_at
        self._pulse = Pulse(SHIPPER_SECONDS)
        self._is_closed = Event()
        self.is_live = True
        try:
            super().__init__(address, _Handler)
        except (OSError, ValueError, OverflowError) as error:
            why = getattr(error, "strerror", None) or "host:port is wanted"
            raise ConfigError(f"--listen {address}: {why}") from None
        self.open("life")
        Thread(target=self._look_forever, name="life", daemon=True).start()

    def look(self) -> None:
        """Look once."""
        self.is_live = not self._pulse.is_gone(self._said_at())

    def _look_forever(self) -> None:
        while not self._is_closed.wait(LOOK_SECONDS):
            self.look()

    def close(self) -> None:
        """Stop listening."""
        self._is_closed.set()
        super().close()


class _Handler(Handler):
    server: LifeDoor

    def do_GET(self) -> None:  # noqa: N802 - the name that the library calls
        """Does it go on?"""
        if self.path.partition("?")[0] != "/live":
            self._answer(HTTPStatus.NOT_FOUND, {})
            return
        is_live = self.server.is_live
        self._answer(HTTPStatus.OK if is_live else HTTPStatus.SERVICE_UNAVAILABLE, {"live": is_live})

    def _answer(self, status: HTTPStatus, told: dict[str, bool]) -> None:
        body = json.dumps(told).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
