"""HTTP/2 as far as gRPC from Envoy needs it (RFC 9113): frames and header blocks as bytes. No I/O, no state but HPACK.

What a client may do and Envoy never does (priorities) is read over; what no client may do (push) is an error.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from hpack import Decoder, HPACKError

if TYPE_CHECKING:
    from collections.abc import Sequence

PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
HEAD_BYTES: Final = 9
FRAME_MAX_BYTES: Final = 16_384
"""The largest frame that we take: the least that every peer may send (section 4.2), and we never ask for more."""
WINDOW_DEFAULT: Final = 65_535
WINDOW_MAX: Final = 2**31 - 1

DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(10)
END_STREAM: Final = 0x1
ACK: Final = 0x1
END_HEADERS: Final = 0x4
PADDED: Final = 0x8
WITH_PRIORITY: Final = 0x20

HEADER_TABLE_SIZE: Final = 1
INITIAL_WINDOW_SIZE: Final = 4
MAX_FRAME_SIZE: Final = 5

NO_ERROR: Final = 0
PROTOCOL_ERROR: Final = 1
INTERNAL_ERROR: Final = 2
FLOW_CONTROL_ERROR: Final = 3
STREAM_CLOSED: Final = 5
FRAME_SIZE_ERROR: Final = 6
REFUSED_STREAM: Final = 7
CANCEL: Final = 8
COMPRESSION_ERROR: Final = 9
ENHANCE_YOUR_CALM: Final = 11

HEADER_BLOCK_MAX_BYTES: Final = 64 * 1024
"""Of a question's own head (gRPC's, not a caller's): Envoy's is of 200 bytes."""
_KNOWN_BLOCKS_MAX: Final = 256


class Http2Error(Exception):
    """The peer broke the protocol: the connection ends, and with it every stream on it. ``code`` is HTTP/2's."""

    def __init__(self, code: int, what: str) -> None:
        super().__init__(what)
        self.code = code


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """One frame."""
    return b"%b%b%b%b%b" % (
        len(payload).to_bytes(3, "big"),
        kind.to_bytes(1, "big"),
        flags.to_bytes(1, "big"),
        stream.to_bytes(4, "big"),
        payload,
    )


def settings(values: Sequence[tuple[int, int]]) -> bytes:
    """A SETTINGS frame."""
    told = b"".join(name.to_bytes(2, "big") + value.to_bytes(4, "big") for name, value in values)
    return frame(SETTINGS, 0, 0, told)


def read_settings(payload: bytes) -> list[tuple[int, int]]:
    """What a SETTINGS frame says.

    Raises:
        Http2Error: it is no list of settings, or one of them cannot be.
    """
    if len(payload) % 6:
        raise Http2Error(FRAME_SIZE_ERROR, "settings")
    told = [
        (int.from_bytes(payload[at : at + 2], "big"), int.from_bytes(payload[at + 2 : at + 6], "big"))
        for at in range(0, len(payload), 6)
    ]
    for name, value in told:
        if name == INITIAL_WINDOW_SIZE and value > WINDOW_MAX:
            raise Http2Error(FLOW_CONTROL_ERROR, "initial window")
        if name == MAX_FRAME_SIZE and not FRAME_MAX_BYTES <= value < 2**24:
            raise Http2Error(PROTOCOL_ERROR, "frame size")
    return told


def number(payload: bytes) -> int:
    """The 31 bits of a RST_STREAM's or WINDOW_UPDATE's only field.

    Raises:
        Http2Error: not four bytes.
    """
    if len(payload) != 4:
        raise Http2Error(FRAME_SIZE_ERROR, "length")
    return int.from_bytes(payload, "big") & WINDOW_MAX


def unpadded(flags: int, payload: bytes) -> bytes:
    """Without padding, and of HEADERS without the priority.

    Raises:
        Http2Error: there is more padding than frame.
    """
    if flags & PADDED:
        if not payload or payload[0] >= len(payload):
            raise Http2Error(PROTOCOL_ERROR, "padding")
        payload = payload[1 : len(payload) - payload[0]]
    return payload


def block(fields: Sequence[tuple[bytes, bytes]]) -> bytes:
    """A header block of literals, none of them indexed and none compressed: what we say is short, or said once."""
    return b"".join(b"\x00" + _string(name) + _string(value) for name, value in fields)


def _string(text: bytes) -> bytes:
    if len(text) < 127:
        return len(text).to_bytes(1, "big") + text
    rest, length = len(text) - 127, b"\x7f"
    while rest >= 128:
        length += (rest % 128 | 128).to_bytes(1, "big")
        rest //= 128
    return length + rest.to_bytes(1, "big") + text


class Heads:
    """Reads the header blocks of one connection.

    We allow the peer no dynamic table, so the same bytes always mean the same, and a block that was read is known
    again. Until the peer has heard so, and used the table no more, every block is read.
    """

    def __init__(self) -> None:
        self._decoder = Decoder(max_header_list_size=HEADER_BLOCK_MAX_BYTES)
        self._paths: dict[bytes, bytes] = {}

    def forbid_table(self) -> None:
        """The peer has acknowledged that it may not have one."""
        self._decoder.max_allowed_table_size = 0

    def path(self, told: bytes) -> bytes:
        """The ``:path`` of a request, or nothing.

        Raises:
            Http2Error: the block cannot be read; then nothing after it can.
        """
        is_alone = self._decoder.header_table_size == 0
        if is_alone and (known := self._paths.get(told)) is not None:
            return known
        try:
            fields = self._decoder.decode(told, raw=True)
        except HPACKError:
            raise Http2Error(COMPRESSION_ERROR, "header block") from None
        found = next((bytes(value) for name, value in fields if name == b":path"), b"")
        if is_alone and self._decoder.header_table_size == 0:
            if len(self._paths) >= _KNOWN_BLOCKS_MAX:
                self._paths.clear()
            self._paths[told] = found
        return found
