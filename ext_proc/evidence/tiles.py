"""A log as C2SP tlog-tiles, written leaf by leaf: what other people's tools verify. Flat in memory."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ext_proc.audit.merkle import hash_leaf, root_of

if TYPE_CHECKING:
    from pathlib import Path

WIDTH: Final = 256
"""Hashes of a full tile, and entries of a full bundle."""


def tile_name(number: int) -> str:
    """``x001/x234/067`` for 1234067."""
    groups = [f"{number % 1000:03d}"]
    while number >= 1000:
        number //= 1000
        groups.append(f"x{number % 1000:03d}")
    return "/".join(reversed(groups))


class TileWriter:
    """Writes the tiles of one log below a folder.

    Args:
        folder: gets ``tile/``.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._entries = bytearray()
        self._rows: list[list[bytes]] = [[]]
        self._full_tiles: list[int] = [0]
        self.size = 0

    def add(self, leaf: bytes) -> None:
        """The next leaf, at most 65,535 bytes.

        Raises:
            OSError: the disk does not take it.
        """
        self._entries += len(leaf).to_bytes(2, "big") + leaf
        self.size += 1
        self._add(0, hash_leaf(leaf))

    def close(self) -> None:
        """Write what is left: the partial tiles of the final size.

        Raises:
            OSError: the disk does not take it.
        """
        for level in range(len(self._rows)):
            self._write(level)

    def _add(self, level: int, one: bytes) -> None:
        if level == len(self._rows):
            self._rows.append([])
            self._full_tiles.append(0)
        row = self._rows[level]
        row.append(one)
        if len(row) == WIDTH:
            self._write(level)
            root = root_of(row)
            self._rows[level] = []
            self._full_tiles[level] += 1
            self._add(level + 1, root)

    def _write(self, level: int) -> None:
        row = self._rows[level]
        if not row:
            return
        name = tile_name(self._full_tiles[level])
        if len(row) < WIDTH:
            name = f"{name}.p/{len(row)}"
        self._file(f"tile/{level}/{name}", b"".join(row))
        if level == 0:
            self._file(f"tile/entries/{name}", bytes(self._entries))
            self._entries.clear()

    def _file(self, name: str, body: bytes) -> None:
        path = self._folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("xb") as file:
            file.write(body)
