"""What the gate and a recogniser's process say to each other: JSON in frames, over a socket pair. No pickles: nothing
that comes back is ever run.
"""

from __future__ import annotations

import json
import struct
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    import socket

FRAME_MAX_BYTES: Final = 64 * 1024 * 1024
_LENGTH: Final = struct.Struct(">I")


class Broken(Exception):
    """The other side is gone, or says what is no frame of JSON."""


def send(line: socket.socket, said: Any) -> None:
    """One frame.

    Raises:
        Broken: the other side is gone.
        TimeoutError: it does not take it.
    """
    data = json.dumps(said, separators=(",", ":")).encode()
    try:
        line.sendall(_LENGTH.pack(len(data)) + data)
    except TimeoutError:
        raise
    except OSError:
        raise Broken from None


def receive(line: socket.socket) -> Any:
    """The next frame.

    Raises:
        Broken: there is none.
        TimeoutError: not yet.
    """
    (length,) = _LENGTH.unpack(_exactly(line, _LENGTH.size))
    if length > FRAME_MAX_BYTES:
        raise Broken
    try:
        return json.loads(_exactly(line, length))
    except (ValueError, RecursionError):
        raise Broken from None


def _exactly(line: socket.socket, count: int) -> bytes:
    parts = []
    while count:
        try:
            part = line.recv(min(count, 1 << 20))
        except TimeoutError:
            raise
        except OSError:
            raise Broken from None
        if not part:
            raise Broken
        parts.append(part)
        count -= len(part)
    return b"".join(parts)
