"""The write-ahead log's frames: pure encoding and scanning.

A segment is a preallocated file of frames, then zeros::

    magic "AFW1" | type u8 | length u32 | sequence u64 | crc32 u32 | payload      (big endian)

The CRC covers type, length, sequence and payload. A scan ends at the zeros (clean) or at the first frame that does not
check (torn: the machine died in the middle of a write, or the disk changed what was written).
"""

from __future__ import annotations

import json
import struct
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

MAGIC: Final = b"AFW1"
LEAF: Final = 1
CARRY: Final = 2
PART: Final = 3
ENDED: Final = 4
_HEAD: Final = struct.Struct(">4sBIQI")
_CHECKED: Final = struct.Struct(">BIQ")
_LENGTH: Final = struct.Struct(">I")
_SEQUENCE: Final = struct.Struct(">Q")
HEAD_BYTES: Final = _HEAD.size


@dataclass(frozen=True, slots=True)
class Frame:
    """A leaf with the ciphertexts it commits to, or what recovery needs to know and no record tells.

    ``CARRY``: the exchanges that were open when the segment began (``carried``), and those whose outcome tells of an
    answer that nobody was known to have taken yet (``untaken``). ``ENDED``: outcomes, by sequence, of exchanges that
    have ended since (``ended``). ``PART``: a part of a streamed answer that no leaf tells of yet; ``leaf`` is what such
    a leaf would say of it, ``sequence`` the next leaf's.
    """

    type: int
    sequence: int
    leaf: bytes = b""
    ciphertexts: tuple[bytes, ...] = ()
    origin: str = ""
    carried: tuple[dict[str, Any], ...] = ()
    untaken: tuple[dict[str, Any], ...] = ()
    ended: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Scan:
    """What a segment holds. ``good_bytes``: up to where it checks. ``dropped_bytes``: what follows and is not zeros."""

    frames: tuple[Frame, ...]
    good_bytes: int
    dropped_bytes: int


def encode_leaf(sequence: int, leaf: bytes, ciphertexts: Sequence[bytes]) -> bytes:
    """One frame for a record and its payloads."""
    return _encode_with(LEAF, sequence, leaf, ciphertexts)


def encode_part(sequence: int, told: bytes, ciphertexts: Sequence[bytes]) -> bytes:
    """One frame for a part of a streamed answer (see `Frame`)."""
    return _encode_with(PART, sequence, told, ciphertexts)


def _encode_with(kind: int, sequence: int, leaf: bytes, ciphertexts: Sequence[bytes]) -> bytes:
    parts = [_LENGTH.pack(len(leaf)), leaf]
    for ciphertext in ciphertexts:
        parts += (_LENGTH.pack(len(ciphertext)), ciphertext)
    return _encode(kind, sequence, b"".join(parts))


def encode_carry(
    sequence: int, origin: str, carried: Sequence[dict[str, Any]], untaken: Sequence[dict[str, Any]] = ()
) -> bytes:
    """One frame for the exchanges of the log ``origin`` that are not over; ``sequence`` is the next leaf's."""
    told = {"origin": origin, "open": list(carried), "untaken": list(untaken)}
    return _encode(CARRY, sequence, json.dumps(told, sort_keys=True, separators=(",", ":")).encode())


def encode_ended(sequence: int, outcomes: Sequence[int]) -> bytes:
    """One frame for exchanges that ended, by the sequences of their outcomes; ``sequence`` is the next leaf's."""
    return _encode(ENDED, sequence, b"".join(map(_SEQUENCE.pack, outcomes)))


def scan(segment: bytes) -> Scan:
    """Every frame up to the first that does not check."""
    frames: list[Frame] = []
    at = 0
    view = memoryview(segment)
    while at + HEAD_BYTES <= len(segment):
        magic, kind, length, sequence, crc = _HEAD.unpack_from(segment, at)
        end = at + HEAD_BYTES + length
        if magic != MAGIC or end > len(segment):
            break
        payload = bytes(view[at + HEAD_BYTES : end])
        if crc != _crc(kind, sequence, payload):
            break
        try:
            frames.append(_decode(kind, sequence, payload))
        except (ValueError, LookupError, TypeError, struct.error):  # never written by us: whoever did knows CRC-32
            break
        at = end
    return Scan(tuple(frames), at, len(segment[at:].rstrip(b"\0")))


def _encode(kind: int, sequence: int, payload: bytes) -> bytes:
    return _HEAD.pack(MAGIC, kind, len(payload), sequence, _crc(kind, sequence, payload)) + payload


def _crc(kind: int, sequence: int, payload: bytes) -> int:
    return zlib.crc32(payload, zlib.crc32(_CHECKED.pack(kind, len(payload), sequence)))


def _decode(kind: int, sequence: int, payload: bytes) -> Frame:
    if kind == CARRY:
        told = json.loads(payload)
        carried, untaken = tuple(told["open"]), tuple(told["untaken"])
        return Frame(kind, sequence, origin=told["origin"], carried=carried, untaken=untaken)
    if kind == ENDED:
        return Frame(kind, sequence, ended=tuple(one for (one,) in _SEQUENCE.iter_unpack(payload)))
    if kind not in (LEAF, PART):
        raise ValueError("unknown type of frame")
    parts: list[bytes] = []
    at = 0
    while at < len(payload):
        (length,) = _LENGTH.unpack_from(payload, at)
        at += _LENGTH.size
        parts.append(payload[at : at + length])
        at += length
    if at != len(payload):
        raise ValueError("part longer than its frame")
    return Frame(kind, sequence, leaf=parts[0], ciphertexts=tuple(parts[1:]))
