"""Content codings undone, with limits (RFC 9110 section 8.4.1): gzip, deflate, br, zstd, at most two in a row."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, Final

import brotli
import zstandard

if TYPE_CHECKING:
    from collections.abc import Callable

CODINGS_MAX: Final = 2
RATIO_MAX: Final = 200
"""Text compresses to about a tenth; gzip's ceiling is about 1,030. In between lies nothing that a model says."""
RATIO_FREE_BYTES: Final = 1024 * 1024
"""The ratio is not looked at below this size: short repetitive answers compress well."""
MEMBERS_MAX: Final = 64
"""Each costs a copy of what follows: an answer of nothing but empty members would take minutes."""
_STEP_BYTES: Final = 64 * 1024
_ZSTD_STEP_BYTES: Final = 256
_ZSTD_WINDOW_MAX_BYTES: Final = 8 * 1024 * 1024
"""RFC 9659: what a reader must support, and all that a writer may use."""


class CodingError(ValueError):
    """The coding is unknown, the data is damaged, or it grows beyond the limits."""


def decoded(body: bytes, codings: str, limit_bytes: int) -> bytes:
    """``body`` with the codings of a ``content-encoding`` field undone, last one first.

    Raises:
        CodingError: see the class.
    """
    names = [name.strip().lower() for name in codings.split(",") if name.strip()]
    names = [name for name in names if name != "identity"]
    if len(names) > CODINGS_MAX:
        raise CodingError("too many codings")
    for name in reversed(names):
        decoder = _DECODERS.get(name)
        if decoder is None:
            raise CodingError("unknown coding")
        body = decoder(body, limit_bytes)
        if len(body) > limit_bytes:
            raise CodingError("too large")
    return body


def _checked(grown: int, source: int, limit_bytes: int) -> None:
    if grown > limit_bytes:
        raise CodingError("too large")
    if grown > RATIO_FREE_BYTES and grown > source * RATIO_MAX:
        raise CodingError("grows too much")


def _zlib(body: bytes, limit_bytes: int, window: int) -> bytes:
    parts: list[bytes] = []
    grown = at = members = 0
    try:
        while at < len(body):  # gzip: members may follow each other (RFC 1952 section 2.2)
            members += 1
            if members > 1 and window != _GZIP:
                raise CodingError("bytes after the end")
            if members > MEMBERS_MAX:
                raise CodingError("too many members")
            engine = zlib.decompressobj(window)
            rest = b""
            while not engine.eof:
                if not rest:
                    rest = body[at : at + _STEP_BYTES]
                    at += len(rest)
                piece = engine.decompress(rest, _STEP_BYTES)
                rest = engine.unconsumed_tail
                grown += len(piece)
                _checked(grown, len(body), limit_bytes)
                parts.append(piece)
                if not piece and not rest and at >= len(body) and not engine.eof:
                    raise CodingError("cut short")
            at -= len(engine.unused_data)
    except zlib.error:
        raise CodingError("damaged") from None
    return b"".join(parts)


_GZIP: Final = 31


def _gzip(body: bytes, limit_bytes: int) -> bytes:
    return _zlib(body, limit_bytes, _GZIP)


def _deflate(body: bytes, limit_bytes: int) -> bytes:
    """``deflate`` means zlib's format; some servers send it bare."""
    try:
        return _zlib(body, limit_bytes, 15)
    except CodingError as error:
        if str(error) != "damaged":
            raise
    return _zlib(body, limit_bytes, -15)


def _brotli(body: bytes, limit_bytes: int) -> bytes:
    engine = brotli.Decompressor()
    parts: list[bytes] = []
    grown = 0
    try:
        feed = body
        while True:
            piece = engine.process(feed, output_buffer_limit=_STEP_BYTES)
            feed = b""
            grown += len(piece)
            _checked(grown, len(body), limit_bytes)
            parts.append(piece)
            if engine.is_finished():
                break
            if engine.can_accept_more_data() and not piece:
                raise CodingError("cut short")
    except brotli.error:
        raise CodingError("damaged") from None
    return b"".join(parts)


def _zstd(body: bytes, limit_bytes: int) -> bytes:
    # The library's reader takes a frame that was cut short for a whole one, so frames are fed by hand. Its other way
    # in has no limit on what comes out of one piece: pieces are small (four bytes can stand for 128 KiB).
    parts: list[bytes] = []
    grown = at = frames = 0
    engine = zstandard.ZstdDecompressor(max_window_size=_ZSTD_WINDOW_MAX_BYTES)
    try:
        while at < len(body):
            frames += 1
            if frames > MEMBERS_MAX:
                raise CodingError("too many members")
            frame = engine.decompressobj()
            while not frame.eof:
                if at >= len(body):
                    raise CodingError("cut short")
                piece = frame.decompress(body[at : at + _ZSTD_STEP_BYTES])
                at = min(at + _ZSTD_STEP_BYTES, len(body))
                grown += len(piece)
                _checked(grown, len(body), limit_bytes)
                parts.append(piece)
            at -= len(frame.unused_data)
    except zstandard.ZstdError:
        raise CodingError("damaged") from None
    return b"".join(parts)


_DECODERS: Final[dict[str, Callable[[bytes, int], bytes]]] = {
    "gzip": _gzip,
    "x-gzip": _gzip,
    "deflate": _deflate,
    "br": _brotli,
    "zstd": _zstd,
}
