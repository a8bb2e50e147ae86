"""The lines in a compressed object. An attacker chooses every byte: window, output and length of a line are limited."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import zstandard

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ext_proc.verify.source import Opened

LEAF_MAX_BYTES: Final = 16 * 1024
WINDOW_MAX_BYTES: Final = 1 << 23
_STEP_BYTES: Final = 1024
"""Compressed bytes at a time: the worst zstd can make of them is 32 MiB."""
_BATCH_BYTES: Final = 1 << 18
"""So much text at a time: large enough for few calls, small enough for the processor's cache."""


class BadObject(Exception):
    """Nothing more can be read from it; says why."""


def batches(opened: Opened) -> Iterator[bytes]:
    """Whole lines of an object, some hundred at a time, without the last one's end.

    Raises:
        BadObject: it is not zstd of lines.
    """
    parts: list[bytes] = []
    size = 0
    for part in inflated(opened):
        parts.append(part)
        size += len(part)
        if size >= _BATCH_BYTES:
            lines, end, pending = b"".join(parts).rpartition(b"\n")
            parts, size = [pending], 0
            if len(pending) > LEAF_MAX_BYTES:
                raise BadObject("It holds a record that is far too long.")
            if end:
                yield lines
    lines, end, pending = b"".join(parts).rpartition(b"\n")
    if end:
        yield lines
    if pending:
        raise BadObject("Its last record breaks off.")


def inflated(opened: Opened) -> Iterator[bytes]:
    """The bytes in an object's zstd frames.

    Raises:
        BadObject: they are not whole, or need more memory than they may.
    """
    decompressor = zstandard.ZstdDecompressor(max_window_size=WINDOW_MAX_BYTES)
    frame = None
    while chunk := opened.read(1 << 16):
        view = memoryview(chunk)
        while view:
            if frame is None:
                frame = decompressor.decompressobj()
            piece, view = view[:_STEP_BYTES], view[_STEP_BYTES:]
            try:
                yield frame.decompress(piece)
            except zstandard.ZstdError:
                raise BadObject("It cannot be decompressed.") from None
            if frame.eof:
                rest = len(frame.unused_data)
                view = memoryview(chunk)[len(chunk) - len(view) - rest :]
                frame = None
    if frame is not None:
        raise BadObject("It breaks off in the middle.")
