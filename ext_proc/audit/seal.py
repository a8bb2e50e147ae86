"""From a sealed segment to objects: the leaves to read and query, the payloads to keep apart. Pure and deterministic.

``events``: one leaf a line, the exact bytes that are hashed, zstd. ``pack``: the ciphertexts, each after its SHA-256
and length, so that one can be found without an index.
"""

from __future__ import annotations

import hashlib
import json
import struct
from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

import zstandard

from ext_proc.audit import frames
from ext_proc.audit.merkle import hash_leaf
from ext_proc.audit.origin import Origin
from ext_proc.errors import IntegrityError
from ext_proc.record_kinds import LOG_ENDS

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

PACK_MAGIC: Final = b"AFP1"
_ENTRY: Final = struct.Struct(">32sQ")


@dataclass(frozen=True, slots=True)
class SealedObject:
    """One object: its key (a pure function of its content), its bytes and their SHA-256."""

    key: str
    body: bytes
    sha256: str

    @classmethod
    def named(cls, key: str, body: bytes) -> SealedObject:
        """The object ``body`` under ``key``."""
        return cls(key, body, hashlib.sha256(body).hexdigest())


@dataclass(frozen=True, slots=True)
class Sealed:
    """A segment as the store gets it: the pack first (if it has payloads), the events last; and what the tree needs."""

    objects: tuple[SealedObject, ...]
    origin: str
    first: int
    last: int
    first_at: str
    last_at: str
    leaf_hashes: tuple[bytes, ...]
    counts: Counter[str]

    def of(self, objects: tuple[SealedObject, ...]) -> Sealed:
        """The same leaves in these objects."""
        return replace(self, objects=objects)

    @property
    def end(self) -> str | None:
        """How the log ends in this segment; None if it goes on."""
        return next((end for kind, end in LOG_ENDS.items() if self.counts[kind]), None)


def seal(segment: bytes) -> Sealed | None:
    """The objects of a sealed segment; None if it holds no leaf.

    Raises:
        IntegrityError: the segment does not check from end to end.
    """
    scan = frames.scan(segment)
    if scan.good_bytes != len(segment):
        raise IntegrityError("sealed segment does not check")
    leaves = [frame for frame in scan.frames if frame.type == frames.LEAF]
    if not leaves:
        return None
    return seal_leaves(leaves[0].sequence, [one.leaf for one in leaves], [c for one in leaves for c in one.ciphertexts])


def seal_leaves(first: int, leaves: Sequence[bytes], ciphertexts: Sequence[bytes]) -> Sealed:
    """The objects of leaves in order, the first of which is number ``first``.

    Raises:
        IntegrityError: they are no leaves of one log, or not in order.
    """
    told = _told(first, leaves)
    place = place_of(told.origin, told.first_at)
    span = f"{first:016d}-{told.last:016d}"
    events = zstandard.ZstdCompressor(level=3).compress(b"".join(leaf + b"\n" for leaf in leaves))
    made = [named_object(f"v1/events/{place}/{span}", events, "jsonl.zst")]
    if ciphertexts:
        pack = PACK_MAGIC + b"".join(_ENTRY.pack(hashlib.sha256(one).digest(), len(one)) + one for one in ciphertexts)
        made.insert(0, named_object(f"v1/payload/{place}/{span}", pack, "pack"))
    return replace(told, objects=tuple(made))


def reopen(first: int, objects: tuple[SealedObject, ...]) -> Sealed:
    """What was sealed, from its objects: the events are the last.

    Raises:
        IntegrityError: they are no leaves of one log, or not in order.
    """
    try:
        leaves = list(read_events(objects[-1].body))
    except zstandard.ZstdError:
        raise IntegrityError("events object cannot be read") from None
    return replace(_told(first, leaves), objects=objects)


def _told(first: int, leaves: Sequence[bytes]) -> Sealed:
    """What leaves say of themselves; no objects yet."""
    try:
        heads = [json.loads(leaf) for leaf in leaves]
        origin, times = heads[0]["origin"], [head["at"] for head in heads]
        counts = Counter(head["kind"] for head in heads)
        place_of(origin, times[0])
        is_in_order = all(
            head["sequence"] == first + index and head["origin"] == origin for index, head in enumerate(heads)
        )
    except (ValueError, LookupError, TypeError, AttributeError):
        raise IntegrityError("sealed leaf is not a leaf") from None
    if not is_in_order:
        raise IntegrityError("sealed leaf is of another place")
    hashes = tuple(hash_leaf(leaf) for leaf in leaves)
    return Sealed((), origin, first, first + len(leaves) - 1, times[0], times[-1], hashes, counts)


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


def place_of(origin: str, at: str) -> str:
    """Hive partitions, so that query engines find their way."""
    name = Origin.read(origin)
    return f"dt={at[:10]}/hour={at[11:13]}/replica={name.log}/epoch={name.epoch}"


def named_object(stem: str, body: bytes, suffix: str) -> SealedObject:
    """An object whose key ends in the beginning of its SHA-256: equal bytes, equal key."""
    sha256 = hashlib.sha256(body).hexdigest()
    return SealedObject(f"{stem}-{sha256[:16]}.{suffix}", body, sha256)
