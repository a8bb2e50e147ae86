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
_STEP_BYTES: Final = 64 * 1024


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
    grown = 0
    rest = body
    try:
        while rest:  # gzip: members may follow each other (RFC 1952 section 2.2)
            engine = zlib.decompressobj(window)
            while not engine.eof:
                piece = engine.decompress(rest, _STEP_BYTES)
                grown += len(piece)
                _checked(grown, len(body), limit_bytes)
                parts.append(piece)
                rest = engine.unconsumed_tail
                if not piece and not rest and not engine.eof:
                    raise CodingError("cut short")
            rest = engine.unused_data
            if rest and window != _GZIP:
                raise CodingError("bytes after the end")
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
    parts: list[bytes] = []
    grown = 0
    try:
        engine = zstandard.ZstdDecompressor(max_window_size=8 * 1024 * 1024)
        with engine.stream_reader(body, read_across_frames=True) as reader:
            while piece := reader.read(_STEP_BYTES):
                grown += len(piece)
                _checked(grown, len(body), limit_bytes)
                parts.append(piece)
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
