"""The tree over a log's leaves (RFC 6962 section 2.1), and proofs from it. Pure.

A `Frontier` is what a writer must remember of a tree to add leaves to it: one hash for each perfect subtree, largest
first, as many as the size has one-bits.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Any

from ext_proc.errors import IntegrityError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

HASH_BYTES = 32


def hash_leaf(leaf: bytes) -> bytes:
    """SHA-256 of a zero byte and the leaf."""
    return hashlib.sha256(b"\0" + leaf).digest()


def hash_node(left: bytes, right: bytes) -> bytes:
    """SHA-256 of a one byte and both children."""
    return hashlib.sha256(b"\1" + left + right).digest()


@dataclass(slots=True)
class Frontier:
    """The right edge of a tree of ``size`` leaves."""

    size: int = 0
    hashes: list[bytes] = field(default_factory=list)

    def append(self, leaf_hashes: Iterable[bytes]) -> None:
        """Add leaves: two subtrees of one size become one, as a counter carries."""
        for one in leaf_hashes:
            node = one
            carry = self.size
            while carry & 1:
                node = hash_node(self.hashes.pop(), node)
                carry >>= 1
            self.hashes.append(node)
            self.size += 1

    def copy(self) -> Frontier:
        """Another one, equal now."""
        return Frontier(self.size, list(self.hashes))

    def root(self) -> bytes:
        """The tree's root; of an empty tree the SHA-256 of nothing."""
        if not self.hashes:
            return hashlib.sha256(b"").digest()
        node = self.hashes[-1]
        for left in reversed(self.hashes[:-1]):
            node = hash_node(left, node)
        return node

    def to_json(self) -> dict[str, Any]:
        """For a state file."""
        return {"size": self.size, "hashes": [one.hex() for one in self.hashes]}

    @classmethod
    def from_json(cls, told: dict[str, Any]) -> Frontier:
        """From a state file.

        Raises:
            IntegrityError: it is not a frontier.
        """
        try:
            size, hashes = int(told["size"]), [bytes.fromhex(one) for one in told["hashes"]]
        except (KeyError, TypeError, ValueError):
            raise IntegrityError("frontier") from None
        if len(hashes) != size.bit_count() or any(len(one) != HASH_BYTES for one in hashes):
            raise IntegrityError("frontier")
        return cls(size, hashes)


def root_of(leaf_hashes: Sequence[bytes]) -> bytes:
    """The root over all of ``leaf_hashes``."""
    frontier = Frontier()
    frontier.append(leaf_hashes)
    return frontier.root()


def inclusion_proof(leaf_hashes: Sequence[bytes], index: int) -> list[bytes]:
    """The path that proves leaf ``index`` (RFC 6962 section 2.1.1), from the leaf's sibling upwards."""
    size = len(leaf_hashes)
    if size == 1:
        return []
    split = _split(size)
    if index < split:
        return [*inclusion_proof(leaf_hashes[:split], index), root_of(leaf_hashes[split:])]
    return [*inclusion_proof(leaf_hashes[split:], index - split), root_of(leaf_hashes[:split])]


def consistency_proof(leaf_hashes: Sequence[bytes], old_size: int) -> list[bytes]:
    """The path that proves that the tree of ``old_size`` is the beginning of this one (RFC 6962 section 2.1.2)."""
    if not 0 < old_size < len(leaf_hashes):
        return []
    return _subproof(leaf_hashes, old_size, is_whole=True)


def _subproof(leaf_hashes: Sequence[bytes], old_size: int, *, is_whole: bool) -> list[bytes]:
    size = len(leaf_hashes)
    if old_size == size:
        return [] if is_whole else [root_of(leaf_hashes)]
    split = _split(size)
    if old_size <= split:
        return [*_subproof(leaf_hashes[:split], old_size, is_whole=is_whole), root_of(leaf_hashes[split:])]
    return [*_subproof(leaf_hashes[split:], old_size - split, is_whole=False), root_of(leaf_hashes[:split])]


def extension_proof(old: Frontier, added: Iterable[bytes], size: int) -> list[bytes]:
    """`consistency_proof` from ``old`` to ``size`` for someone who has only the old tree's edge and what was added.

    Args:
        old: the right edge of the old tree; it is left as it is.
        added: hashes of the leaves from ``old.size`` on, in order; not one more than is needed is taken.
        size: of the new tree.

    Raises:
        IntegrityError: there are fewer leaves than that.
    """
    left = iter(added)
    edge, start = {}, 0
    for one in old.hashes:  # the largest subtree first
        end = start + (1 << ((old.size - start).bit_length() - 1))
        edge[start, end], start = one, end

    def node(first: int, end: int) -> bytes:
        if (first, end) in edge:
            return edge[first, end]
        subtree = Frontier()
        subtree.append(islice(left, end - first))
        if subtree.size != end - first:
            raise IntegrityError("leaves of the tree are missing")
        return subtree.root()

    def proof(first: int, end: int, *, is_whole: bool) -> list[bytes]:
        if end == old.size:
            return [] if is_whole else [node(first, end)]
        middle = first + _split(end - first)
        if old.size <= middle:
            return [*proof(first, middle, is_whole=is_whole), node(middle, end)]
        return [*proof(middle, end, is_whole=False), node(first, middle)]

    return proof(0, size, is_whole=True) if 0 < old.size < size else []


def _split(size: int) -> int:
    """The largest power of two below ``size``."""
    return 1 << ((size - 1).bit_length() - 1)
