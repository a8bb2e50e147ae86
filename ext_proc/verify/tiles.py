"""The trees that an export lays out for other tools (C2SP tlog-tiles): does each follow from the records?

Every entry is hashed into level 0 and every tile into the level above, up to the root. If that is the root that the
records of the bucket gave, every tile is theirs: no second copy of the records is held in memory.
"""

from __future__ import annotations

import re
import struct
from typing import TYPE_CHECKING, Final

from ext_proc.verify import notes
from ext_proc.verify.source import Absent, TooLarge
from ext_proc.verify.tree import Range, leaf_hash

if TYPE_CHECKING:
    from collections.abc import Callable

    from ext_proc.verify.directory import DirectorySource

_WIDTH: Final = 256
_TILE_BYTES: Final = _WIDTH * 32
_BUNDLE_MAX_BYTES: Final = _WIDTH * (2 + 65535)
_LENGTH: Final = struct.Struct(">H")
_PATH: Final = re.compile(r"tile/(entries|\d{1,2})/((?:x\d{3}/)*\d{3})(?:\.p/(\d{1,3}))?", re.ASCII)


def tile_path(level: str, number: int, width: int = _WIDTH) -> str:
    """Where a tile stands: ``tile/0/x001/234``, with ``.p/<width>`` if it is partial."""
    parts = [f"{number % 1000:03d}"]
    while number >= 1000:
        number //= 1000
        parts.insert(0, f"x{number % 1000:03d}")
    return f"tile/{level}/{'/'.join(parts)}" + ("" if width == _WIDTH else f".p/{width}")


class LogFolder:
    """One log's folder.

    Args:
        source: the export.
        folder: of the log in it, ending in a slash.
        fault: told of each file that does not follow.
    """

    def __init__(self, source: DirectorySource, folder: str, fault: Callable[[str, str], None]) -> None:
        self._source = source
        self._folder = folder
        self._fault = fault

    def check(self, names: list[str], origin: str, note: bytes, keys: list[bytes]) -> None:
        """All files.

        Args:
            names: every file in the folder.
            origin: of the log.
            note: the newest checkpoint in the bucket, the bytes of the whole note; its root was checked.
            keys: those that signed it.
        """
        head = notes.checkpoint(notes.parse(note))
        if self._read("checkpoint", len(note)) != note:
            self._fault(self._folder + "checkpoint", "It is not the newest checkpoint of the bucket.")
        vkeys = [notes.vkey(origin, key).encode() for key in keys]
        if (self._read("log.vkey", 4096) or b"").removesuffix(b"\n") not in vkeys:
            self._fault(self._folder + "log.vkey", "It is not the key that signed the checkpoint.")
        expected = {"checkpoint", "log.vkey", *self._check_levels(head.size, head.root_hash)}
        for name in sorted(set(names) - expected):
            if not self._is_part(name, expected):
                self._fault(self._folder + name, "No such file belongs to this log.")

    def _check_levels(self, size: int, root_hash: bytes) -> set[str]:
        """Every level from the entries up. Returns the files that must be there."""
        whole = Range(0)
        expected: set[str] = set()
        level, count = 0, size
        while count:
            for number in range((count + _WIDTH - 1) // _WIDTH):
                width = min(_WIDTH, count - number * _WIDTH)
                name = tile_path(str(level), number, width)
                expected.add(name)
                tile = self._read(name, _TILE_BYTES) or b""
                if len(tile) != width * 32:
                    self._fault(self._folder + name, "The tile is missing or has not the size that the tree gives it.")
                    continue
                hashes = [tile[at : at + 32] for at in range(0, len(tile), 32)]
                if level == 0:
                    expected.add(self._check_entries(number, hashes))
                    if whole.end == number * _WIDTH:
                        whole.add_leaves(hashes)
                elif hashes != self._above(level, number, width):
                    self._fault(self._folder + name, "The tile does not follow from those below it.")
            level, count = level + 1, count // _WIDTH
        if whole.end != size or whole.root_hash() != root_hash:
            self._fault(self._folder + "tile/0", "The tiles do not give the root that the records gave.")
        return expected

    def _check_entries(self, number: int, hashes: list[bytes]) -> str:
        name = tile_path("entries", number, len(hashes))
        bundle = self._read(name, _BUNDLE_MAX_BYTES) or b""
        at = 0
        found: list[bytes] = []
        while at + _LENGTH.size <= len(bundle) and len(found) <= len(hashes):
            (length,) = _LENGTH.unpack_from(bundle, at)
            at += _LENGTH.size
            found.append(leaf_hash(bundle[at : at + length]))
            at += length
        if found != hashes or at != len(bundle):
            self._fault(self._folder + name, "The records in it are not those of the tree.")
        return name

    def _above(self, level: int, number: int, width: int) -> list[bytes]:
        """The hashes of full tiles one level below."""
        found = []
        for below in range(number * _WIDTH, number * _WIDTH + width):
            tile = self._read(tile_path(str(level - 1), below), _TILE_BYTES) or b""
            made = Range(0)
            made.add_leaves([tile[at : at + 32] for at in range(0, len(tile), 32)])
            found.append(made.root_hash())
        return found

    def _is_part(self, name: str, expected: set[str]) -> bool:
        """A partial tile of an earlier size: the beginning of one that was checked."""
        found = _PATH.fullmatch(name)
        if found is None or found[3] is None:
            return False
        base, width = f"tile/{found[1]}/{found[2]}", int(found[3])
        larger = [one for one in expected if one == base or one.startswith(base + ".p/")]
        part, whole = self._read(name, _BUNDLE_MAX_BYTES), self._read(larger[0], _BUNDLE_MAX_BYTES) if larger else None
        if not part or not whole or not 0 < width < _WIDTH or not whole.startswith(part):
            return False
        return len(part) == 32 * width if found[1] != "entries" else _entries_in(part) == width

    def _read(self, name: str, limit: int) -> bytes | None:
        try:
            return self._source.read(self._folder + name, limit)
        except (Absent, TooLarge):
            return None


def _entries_in(bundle: bytes) -> int:
    at = count = 0
    while at + _LENGTH.size <= len(bundle):
        at += _LENGTH.size + _LENGTH.unpack_from(bundle, at)[0]
        count += 1
    return count if at == len(bundle) else -1
