"""Compressed answers, whatever the bytes: refused as documented, or undone as the codings' own libraries undo them.

The first three bytes choose the codings, whether the rest is what comes or what is compressed first, and where the
compressed bytes are then cut or bent: few bytes by chance are a whole gzip member with its checksum.
"""

from __future__ import annotations

import gzip
import zlib
from typing import TYPE_CHECKING

import brotli
import zstandard

from ext_proc.errors import UpstreamError
from ext_proc.protocols import read_request, read_response
from ext_proc.protocols.encoding import RATIO_FREE_BYTES, RATIO_MAX, CodingError, decoded

if TYPE_CHECKING:
    from collections.abc import Callable

LIMIT_BYTES = 2 * RATIO_FREE_BYTES


def _raw_deflate(data: bytes) -> bytes:
    engine = zlib.compressobj(wbits=-15)
    return engine.compress(data) + engine.flush()


def _zstd(data: bytes) -> bytes:
    return zstandard.ZstdCompressor().compress(data)


def _all_of_zstd(data: bytes) -> bytes:
    """Every frame, with the library's own reader."""
    with zstandard.ZstdDecompressor(max_window_size=8 << 20).stream_reader(data, read_across_frames=True) as reader:
        return bytes(reader.read(LIMIT_BYTES + 1))


def _all_of_deflate(data: bytes) -> bytes:
    try:
        return zlib.decompress(data)
    except zlib.error:
        return zlib.decompress(data, -15)


CODERS: tuple[tuple[str, Callable[[bytes], bytes], Callable[[bytes], bytes]], ...] = (
    ("gzip", lambda data: gzip.compress(data, mtime=0), gzip.decompress),
    ("deflate", zlib.compress, _all_of_deflate),
    ("br", lambda data: brotli.compress(data, quality=3), brotli.decompress),
    ("zstd", _zstd, _all_of_zstd),
    ("deflate", _raw_deflate, _all_of_deflate),
)
ODD = ("identity", "gzip, gzip, gzip", "gzip;q=1", "x-gzip", " , identity ,", "GZIP")


def one(data: bytes) -> None:
    """Undo one answer's codings."""
    if len(data) < 3:
        return
    choice, how, at = data[0], data[1], data[2]
    first, second = CODERS[choice % 5], CODERS[choice // 5 % 5]
    names = [first[0], second[0]] if choice & 0x80 else [first[0]]
    body = data[3:]
    if how & 1:
        body = first[1](body)
        body = second[1](body) if choice & 0x80 else body
        body = _bent(body, how >> 1, at)
    said = ", ".join(names) if how & 0xC0 != 0xC0 else ODD[at % len(ODD)]
    _judge(body, said, _undone_by_others(names))


def _bent(body: bytes, how: int, at: int) -> bytes:
    where = at * len(body) // 256
    match how % 6:
        case 0:
            return body[:where]
        case 1:
            return body[:where] + bytes([body[where] ^ (1 << (how & 7))]) + body[where + 1 :] if body else body
        case 2:
            return body + body[:where]
        case 3:
            return body * (1 + at % 70)
        case 4:
            return body + b"bytes after the end"
    return body


def _undone_by_others(names: list[str]) -> Callable[[bytes], bytes]:
    def undo(body: bytes) -> bytes:
        for name in reversed(names):
            if not body:
                return body  # an answer without a body may say that it is compressed
            body = next(undo for known, _, undo in CODERS if known == name)(body)
        return body

    return undo


def _judge(body: bytes, names: str, undo: Callable[[bytes], bytes]) -> None:
    headers = (("content-type", b"text/plain"), ("content-encoding", names.encode()))
    try:
        made = decoded(body, names, LIMIT_BYTES)
    except CodingError:
        assert _whole(headers, body) is None, "read, though it is refused"
        return
    assert len(made) <= LIMIT_BYTES
    layers = len([name for name in names.split(",") if name.strip() and name.strip() != "identity"])
    assert len(made) <= max(RATIO_FREE_BYTES, len(body) * RATIO_MAX) * RATIO_MAX ** max(0, layers - 1)
    if layers and not names.isupper() and "x-" not in names:
        assert made == undo(body), "another reader sees something else"
    read = _whole(headers, body)
    if read is not None:
        assert read.encode() == made, "decoded, but not scanned"


def _whole(headers: tuple[tuple[str, bytes], ...], body: bytes) -> str | None:
    """All the text that is scanned of an answer."""
    request = read_request("generic", (("content-type", b"application/json"),), b"{}")
    try:
        document = read_response("generic", request, 200, headers, body, LIMIT_BYTES)
    except UpstreamError:
        return None
    return "".join(channel.text for channel in document.channels)
