"""The logs of an export as trees that other people's tools verify: tiles, the newest checkpoint, the log's key.

An export is also taken of a bucket that somebody tampered with. Where leaves are missing or damaged the tree stops, the
report says so, and the tools that read it will refuse it, as they should.
"""

from __future__ import annotations

import base64
import binascii
import shutil
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from ext_proc.audit.note import json_of, open_note, vkey_of
from ext_proc.errors import IntegrityError
from ext_proc.evidence.events import read_leaves
from ext_proc.evidence.names import LogName
from ext_proc.evidence.tiles import TileWriter

if TYPE_CHECKING:
    from pathlib import Path

    from ext_proc.evidence.names import EventsName

LOGS: Final = "logs"
_NOTE_MAX_BYTES: Final = 64 * 1024
_KEY_BYTES: Final = 32


@dataclass(slots=True)
class _Tree:
    size: int
    writer: TileWriter
    is_stopped: bool = False
    early: dict[int, tuple[EventsName, Path]] = field(default_factory=dict)
    """Objects that came before their turn, by their first leaf."""


class Trees:
    """Every log of an export.

    Args:
        folder: the export's.
        sizes: how many leaves the newest checkpoint of each log covers.
    """

    def __init__(self, folder: Path, sizes: dict[LogName, int]) -> None:
        self.folder = folder
        self.sizes = sizes
        self.problems: list[str] = []
        self._trees: dict[LogName, _Tree] = {}
        self._heads: dict[LogName, Path] = {}
        self._births: dict[LogName, Path] = {}
        self._headless: set[LogName] = set()

    @property
    def leaf_count(self) -> int:
        """Leaves in trees so far."""
        return sum(tree.writer.size for tree in self._trees.values())

    def add_head(self, log: LogName, size: int, path: Path) -> None:
        """A checkpoint: the newest is kept, of two of one size the first."""
        if size == self.sizes.get(log):
            self._heads.setdefault(log, path)

    def add_birth(self, log: LogName, path: Path) -> None:
        """A birth record: it has the log's key."""
        self._births.setdefault(log, path)

    def add_events(self, name: EventsName, path: Path) -> None:
        """An events object. They come by day and hour, which is another order where a clock was put back: some wait.

        Raises:
            OSError: the disk does not take the tiles.
        """
        size = self.sizes.get(name.log)
        if size is None:
            self._headless.add(name.log)
            return
        tree = self._trees.setdefault(name.log, _Tree(size, TileWriter(self._folder_of(name.log))))
        if name.first > tree.writer.size:
            tree.early.setdefault(name.first, (name, path))
            return
        self._add(tree, name, path)
        while (next_ := tree.early.pop(tree.writer.size, None)) is not None:
            self._add(tree, *next_)

    def _add(self, tree: _Tree, name: EventsName, path: Path) -> None:
        if tree.is_stopped or tree.writer.size == tree.size:
            return
        if name.first != tree.writer.size:
            self._stop(tree, name.log, f"leaf {name.first} is there twice")
            return
        wanted = min(name.last + 1, tree.size)
        try:
            with path.open("rb") as file:
                for leaf in read_leaves(file):
                    if tree.writer.size == wanted:
                        break
                    tree.writer.add(leaf)
        except IntegrityError as error:
            self._stop(tree, name.log, error.detail)
        else:
            if tree.writer.size != wanted:
                self._stop(tree, name.log, "an events object holds fewer leaves than its key says")

    def close(self) -> int:
        """Write what is left, and each log's checkpoint and key. Returns how many logs there are.

        Raises:
            OSError: the disk does not take it.
        """
        for log, size in sorted(self.sizes.items(), key=lambda one: (one[0].replica, one[0].epoch)):
            folder = self._folder_of(log)
            tree = self._trees.get(log)
            if tree is not None:
                if tree.early and not tree.is_stopped and tree.writer.size < size:
                    self._stop(tree, log, f"leaf {tree.writer.size} is missing")
                tree.writer.close()
            if tree is None or (tree.writer.size != size and not tree.is_stopped):
                self.problems.append(f"{log.replica}/{log.epoch}: {size} leaves are signed for, not all are there")
            folder.mkdir(parents=True, exist_ok=True)
            if log in self._heads:
                shutil.copyfile(self._heads[log], folder / "checkpoint")
            vkey = self._vkey(log)
            if vkey is None:
                self.problems.append(f"{log.replica}/{log.epoch}: no birth record that says the log's key")
            else:
                (folder / "log.vkey").write_text(f"{vkey}\n")
        for log in sorted(self._headless, key=lambda one: (one.replica, one.epoch)):
            self.problems.append(f"{log.replica}/{log.epoch}: leaves without any checkpoint")
        return len(self.sizes)

    def _vkey(self, log: LogName) -> str | None:
        path = self._births.get(log)
        if path is None or path.stat().st_size > _NOTE_MAX_BYTES:
            return None
        try:
            told = json_of(open_note(path.read_text()))
            origin, key = str(told["origin"]), base64.b64decode(str(told["log_key"]), validate=True)
        except (IntegrityError, KeyError, ValueError, binascii.Error):
            return None
        is_right = LogName.of_origin(origin) == log and len(key) == _KEY_BYTES and origin.isprintable()
        return vkey_of(origin, key) if is_right else None

    def _folder_of(self, log: LogName) -> Path:
        return self.folder / LOGS / log.replica / log.epoch

    def _stop(self, tree: _Tree, log: LogName, why: str) -> None:
        tree.is_stopped = True
        self.problems.append(f"{log.replica}/{log.epoch}: the tree ends at leaf {tree.writer.size}: {why}")
