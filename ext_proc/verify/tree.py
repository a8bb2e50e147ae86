"""RFC 6962 in pieces: ranges of a tree that are computed apart and joined, and inclusion proofs. Pure.

A *range* of leaves is held as the roots of the largest perfect subtrees that tile it, each aligned to its size. Ranges
that meet can be joined without their leaves, so that processes hash apart and one joins: memory stays flat.
"""

from __future__ import annotations

from hashlib import sha256
from typing import Final

Node = tuple[int, bytes]
"""Level (0: a leaf) and hash of a perfect subtree."""
_BLOCK: Final = 1024
LEAF_HASH: Final = sha256(b"\0")
"""Where every leaf's hash begins; copied for each."""
_NODE_HASH: Final = sha256(b"\1")


def leaf_hash(leaf: bytes) -> bytes:
    """SHA-256 of a zero byte and the leaf."""
    made = LEAF_HASH.copy()
    made.update(leaf)
    return made.digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """SHA-256 of a one byte and both sides."""
    return sha256(b"\1" + left + right).digest()


class Range:
    """The leaves from ``first`` on, growing at its end."""

    def __init__(self, first: int) -> None:
        self.first = first
        self.end = first
        self.nodes: list[Node] = []

    def add_leaves(self, hashes: list[bytes]) -> None:
        """Append leaves, by their hashes: aligned blocks at once."""
        at = 0
        while at < len(hashes):
            size = _aligned(self.end, min(len(hashes) - at, _BLOCK))
            self.add_node((size.bit_length() - 1, _reduced(hashes[at : at + size])))
            at += size

    def add_node(self, node: Node) -> None:
        """Append a perfect subtree; it must be aligned where the range ends now.

        Raises:
            ValueError: it is not.
        """
        level, right = node
        if self.end % (1 << level):
            raise ValueError("subtree is not aligned")
        self.end += 1 << level
        nodes = self.nodes
        start = self.end - (1 << level)
        while nodes and nodes[-1][0] == level and start % (2 << level):
            right = node_hash(nodes.pop()[1], right)
            start -= 1 << level
            level += 1
        nodes.append((level, right))

    def add_range(self, nodes: list[Node]) -> None:
        """Append a range that begins where this one ends."""
        for node in nodes:
            self.add_node(node)

    def root_hash(self) -> bytes:
        """Root of the tree, if the range begins at 0."""
        if not self.nodes:
            return sha256(b"").digest()
        root = self.nodes[-1][1]
        for _, left in reversed(self.nodes[:-1]):
            root = node_hash(left, root)
        return root


def root_of_inclusion(index: int, size: int, leaf: bytes, path: list[bytes]) -> bytes | None:
    """The root that an inclusion proof leads to (RFC 9162 section 2.1.3.2). None: the proof has the wrong length."""
    if not 0 <= index < size:
        return None
    node, last, root = index, size - 1, leaf
    for one in path:
        if last == 0:
            return None
        if node & 1 or node == last:
            root = node_hash(one, root)
            while node and not node & 1:
                node, last = node >> 1, last >> 1
        else:
            root = node_hash(root, one)
        node, last = node >> 1, last >> 1
    return root if last == 0 else None


def _aligned(at: int, most: int) -> int:
    """The largest power of two that divides ``at`` and is no more than ``most``."""
    size = 1 << (most.bit_length() - 1)
    return size if at == 0 else min(size, at & -at)


def _reduced(hashes: list[bytes]) -> bytes:
    begin = _NODE_HASH.copy
    while len(hashes) > 1:
        above = []
        for left, right in zip(hashes[::2], hashes[1::2], strict=True):
            made = begin()
            made.update(left)
            made.update(right)
            above.append(made.digest())
        hashes = above
    return hashes[0]
