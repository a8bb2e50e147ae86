"""An answer over HTTP that only drips is none.

A time-out is per read: whoever sends a byte now and then keeps a reader for ever. A deadline for all of it would end an
honest download over a slow line. So what counts is progress: within the connection's time-out so many bytes must have
come. The head of an answer is part of it; time in which the reader did something else does not count.
"""

from __future__ import annotations

import io
from http.client import HTTPResponse
from time import monotonic
from typing import TYPE_CHECKING, Any, Final, cast

if TYPE_CHECKING:
    import socket

LEAST_BYTES: Final = 64 * 1024
"""In each time-out, or the end of the answer: at 30 seconds 2 KiB/s, less than any line over which evidence fits."""


class PacedResponse(HTTPResponse):
    """What an `http.client.HTTPConnection` reads its answers with, by its ``response_class``."""

    def __init__(self, sock: socket.socket, *more: Any, **named: Any) -> None:
        super().__init__(sock, *more, **named)
        within = sock.gettimeout()
        if within:
            self.fp = io.BufferedReader(Paced(self.fp.detach(), within))


class Paced(io.RawIOBase):
    """What comes from a connection, as long as it comes.

    Args:
        raw: from where.
        within: seconds that `LEAST_BYTES` may take.
    """

    def __init__(self, raw: io.RawIOBase, within: float) -> None:
        super().__init__()
        self._raw = raw
        self._within = within
        self._got, self._waited = 0, 0.0

    def readable(self) -> bool:
        """See `io.IOBase`."""
        return True

    def readinto(self, buffer: Any, /) -> int | None:
        """See `io.RawIOBase`.

        Raises:
            TimeoutError: it drips.
        """
        began = monotonic()
        count = self._raw.readinto(buffer)
        self._waited += monotonic() - began
        self._got += count or 0
        if self._got >= LEAST_BYTES:
            self._got, self._waited = 0, 0.0
        elif count and self._waited > self._within:
            raise TimeoutError(f"{self._got} bytes in {self._waited:.0f} seconds")
        return cast("int | None", count)

    def close(self) -> None:
        """See `io.IOBase`."""
        self._raw.close()
        super().close()
