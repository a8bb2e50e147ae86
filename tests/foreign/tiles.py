"""A log in files, as C2SP tlog-tiles says, written from the specification alone: it shares nothing with the package."""

from __future__ import annotations

import base64
from hashlib import sha256
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

WIDTH = 256


class Tree:
    """RFC 6962 over entries: roots and consistency proofs of every size."""

    def __init__(self, entries: Sequence[bytes]) -> None:
        self.entries = entries
        # levels[k][i]: hash of the complete subtree of 2**k leaves that begins at leaf i * 2**k
        self.levels = [[sha256(b"\0" + entry).digest() for entry in entries]]
        while len(below := self.levels[-1]) > 1:
            self.levels.append([_node(below[i], below[i + 1]) for i in range(0, len(below) - 1, 2)])

    def root(self, size: int) -> bytes:
        """Root hash of the first ``size`` entries."""
        return self._hash(0, size) if size else sha256(b"").digest()

    def consistency(self, old: int, new: int) -> list[bytes]:
        """RFC 6962 section 2.1.2."""
        return self._subproof(old, 0, new, is_whole=True)

    def _hash(self, low: int, high: int) -> bytes:
        size = high - low
        if size & (size - 1) == 0:
            return self.levels[size.bit_length() - 1][low // size]
        middle = low + _split(size)
        return _node(self._hash(low, middle), self._hash(middle, high))

    def _subproof(self, old: int, low: int, high: int, *, is_whole: bool) -> list[bytes]:
        if old == high - low:
            return [] if is_whole else [self._hash(low, high)]
        half = _split(high - low)
        if old <= half:
            return [*self._subproof(old, low, low + half, is_whole=is_whole), self._hash(low + half, high)]
        return [*self._subproof(old - half, low + half, high, is_whole=False), self._hash(low, low + half)]

    def write(self, folder: Path, origin: str, key: Ed25519PrivateKey) -> None:
        """``checkpoint``, ``log.vkey``, ``tile/<L>/<N>`` and ``tile/entries/<N>``."""
        for level in range(0, len(self.levels), 8):
            _write(folder / "tile" / str(level // 8), self.levels[level])
        _write(folder / "tile" / "entries", [len(entry).to_bytes(2, "big") + entry for entry in self.entries])
        size = len(self.entries)
        (folder / "checkpoint").write_bytes(checkpoint(origin, size, self.root(size), key))
        (folder / "log.vkey").write_text(vkey(origin, key) + "\n")


def checkpoint(origin: str, size: int, root: bytes, key: Ed25519PrivateKey) -> bytes:
    """A signed checkpoint."""
    text = f"{origin}\n{size}\n{base64.b64encode(root).decode()}\n"
    signature = base64.b64encode(_key_id(origin, key) + key.sign(text.encode())).decode()
    return f"{text}\n\u2014 {origin} {signature}\n".encode()


def vkey(name: str, key: Ed25519PrivateKey) -> str:
    """The verifier's key of a log."""
    public = base64.b64encode(b"\1" + key.public_key().public_bytes_raw()).decode()
    return f"{name}+{_key_id(name, key).hex()}+{public}"


def _key_id(name: str, key: Ed25519PrivateKey) -> bytes:
    return sha256(name.encode() + b"\n\1" + key.public_key().public_bytes_raw()).digest()[:4]


def _write(folder: Path, items: Sequence[bytes]) -> None:
    for first in range(0, len(items), WIDTH):
        part = items[first : first + WIDTH]
        number = f"{first // WIDTH:0{3 * (1 + len(str(first // WIDTH)) // 4)}}"
        groups = [number[i : i + 3] for i in range(0, len(number), 3)]
        name = "/".join([*(f"x{group}" for group in groups[:-1]), groups[-1]])
        path = folder / (name if len(part) == WIDTH else f"{name}.p/{len(part)}")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"".join(part))


def _split(size: int) -> int:
    """The largest power of two below ``size``."""
    return 1 << ((size - 1).bit_length() - 1)


def _node(left: bytes, right: bytes) -> bytes:
    return sha256(b"\1" + left + right).digest()
