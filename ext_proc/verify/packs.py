"""One pack: every ciphertext against its digest, and the digests against what the leaves commit to."""

from __future__ import annotations

import hashlib
import struct
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from ext_proc.verify.source import CHUNK_BYTES, Lock, Opened

if TYPE_CHECKING:
    from collections.abc import Iterator

_MAGIC: Final = b"AFP1"
_ENTRY: Final = struct.Struct(">32sQ")
_OVERHEAD_BYTES: Final = 28  # nonce and tag
_FAULTS_MAX: Final = 50


@dataclass(slots=True)
class PackFacts:
    """What a pack holds, without its ciphertexts."""

    sha256: str = ""
    size_bytes: int = 0
    lock: Lock | None = None
    is_absent: bool = False
    ciphertexts: int = 0
    payloads_sha256: str = ""
    faults: list[tuple[str, str]] = field(default_factory=list)


def read_pack(opened: Opened) -> PackFacts:
    """Read all of it; every byte is hashed with its ciphertext and with the whole."""
    facts = PackFacts(lock=opened.lock)
    digests = hashlib.sha256()
    for digest, is_true in _ciphertexts(opened, facts):
        facts.ciphertexts += 1
        digests.update(digest)
        if not is_true and len(facts.faults) < _FAULTS_MAX:
            what = f"The ciphertext {digest.hex()} in the pack has another digest than it says."
            facts.faults.append(("payload_changed", what))
    opened.drain()
    facts.sha256, facts.size_bytes = opened.sha256, opened.size_bytes
    facts.payloads_sha256 = digests.hexdigest()
    return facts


def digests_of(opened: Opened, most: int) -> set[str]:
    """The digests of the ciphertexts that are there and true; at most so many."""
    found: set[str] = set()
    for digest, is_true in _ciphertexts(opened, PackFacts()):
        if is_true and len(found) < most:
            found.add(digest.hex())
    return found


def _ciphertexts(opened: Opened, facts: PackFacts) -> Iterator[tuple[bytes, bool]]:
    source = _Buffered(opened)
    if source.take(len(_MAGIC)) != _MAGIC:
        facts.faults.append(("object_unreadable", "It is not a pack."))
        return
    while head := source.take(_ENTRY.size):
        if len(head) < _ENTRY.size:
            facts.faults.append(("object_unreadable", "The pack breaks off in the middle."))
            return
        digest, length = _ENTRY.unpack(head)
        found = source.hashed(length)
        if found is None or length < _OVERHEAD_BYTES:
            facts.faults.append(("object_unreadable", "The pack breaks off in the middle of a ciphertext."))
            return
        yield digest, found == digest


class _Buffered:
    def __init__(self, opened: Opened) -> None:
        self._opened = opened
        self._chunk = memoryview(b"")

    def take(self, size: int) -> bytes:
        """So many bytes; fewer at the end."""
        taken = bytes(self._chunk[:size])
        self._chunk = self._chunk[size:]
        while len(taken) < size and self._fill():
            more = size - len(taken)
            taken += bytes(self._chunk[:more])
            self._chunk = self._chunk[more:]
        return taken

    def hashed(self, length: int) -> bytes | None:
        """SHA-256 of so many bytes. None: there are not so many."""
        made = hashlib.sha256()
        while length:
            if not self._chunk and not self._fill():
                return None
            part, self._chunk = self._chunk[:length], self._chunk[length:]
            made.update(part)
            length -= len(part)
        return made.digest()

    def _fill(self) -> bool:
        self._chunk = memoryview(self._opened.read(CHUNK_BYTES))
        return len(self._chunk) > 0
