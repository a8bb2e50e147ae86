"""From a sealed segment to objects: the leaves to read and query, the payloads to keep apart. Pure and deterministic.

``events``: one leaf a line, the exact bytes that are hashed, zstd. ``pack``: the ciphertexts, each after its SHA-256
and length, so that one can be found without an index.
"""

from __future__ import annotations

import hashlib
import json
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import zstandard

from ext_proc.audit import frames
from ext_proc.errors import IntegrityError

if TYPE_CHECKING:
    from collections.abc import Iterator

PACK_MAGIC: Final = b"AFP1"
_ENTRY: Final = struct.Struct(">32sQ")


@dataclass(frozen=True, slots=True)
class SealedObject:
    """One object: its key (a pure function of its content), its bytes and their SHA-256."""

    key: str
    body: bytes
    sha256: str


def seal(segment: bytes) -> tuple[SealedObject, ...]:
    """The objects of a sealed segment: the pack first (if it has payloads), the events last.

    Raises:
        IntegrityError: the segment does not check from end to end.
    """
    scan = frames.scan(segment)
    if scan.good_bytes != len(segment):
        raise IntegrityError("sealed segment does not check")
    leaves = [frame for frame in scan.frames if frame.type == frames.LEAF]
    if not leaves:
        return ()
    place = _place(leaves[0].leaf)
    span = f"{leaves[0].sequence:016d}-{leaves[-1].sequence:016d}"
    events = zstandard.ZstdCompressor(level=3).compress(b"".join(frame.leaf + b"\n" for frame in leaves))
    ciphertexts = [one for frame in leaves for one in frame.ciphertexts]
    made = [_object("v1/events", place, span, events, "jsonl.zst")]
    if ciphertexts:
        pack = PACK_MAGIC + b"".join(_ENTRY.pack(hashlib.sha256(one).digest(), len(one)) + one for one in ciphertexts)
        made.insert(0, _object("v1/payload", place, span, pack, "pack"))
    return tuple(made)


def read_events(body: bytes) -> Iterator[bytes]:
    """The leaves of an events object."""
    yield from zstandard.ZstdDecompressor().decompressobj().decompress(body).splitlines()


def read_pack(body: bytes) -> Iterator[tuple[str, bytes]]:
    """The ciphertexts of a pack, each with its SHA-256 in lower-case hex.

    Raises:
        IntegrityError: it is not a pack, or not a whole one.
    """
    if not body.startswith(PACK_MAGIC):
        raise IntegrityError("not a pack")
    at = len(PACK_MAGIC)
    while at < len(body):
        if at + _ENTRY.size > len(body):
            raise IntegrityError("pack cut off")
        digest, length = _ENTRY.unpack_from(body, at)
        at += _ENTRY.size
        if at + length > len(body):
            raise IntegrityError("pack cut off")
        yield digest.hex(), body[at : at + length]
        at += length


def _place(leaf: bytes) -> str:
    """Hive partitions, so that query engines find their way."""
    try:
        head = json.loads(leaf)
        replica, epoch = head["origin"].rsplit("/", 2)[-2:]
        return f"dt={head['at'][:10]}/hour={head['at'][11:13]}/replica={replica}/epoch={epoch}"
    except (ValueError, LookupError, TypeError, AttributeError):
        raise IntegrityError("sealed leaf is not a leaf") from None


def _object(kind: str, place: str, span: str, body: bytes, suffix: str) -> SealedObject:
    sha256 = hashlib.sha256(body).hexdigest()
    return SealedObject(f"{kind}/{place}/{span}-{sha256[:16]}.{suffix}", body, sha256)
