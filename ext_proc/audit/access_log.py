"""Envoy's own access log on its way to the store: the authority on what happened, written by Envoy and not by us.

A *generation* is the life of one file. Its parts are shipped in order, each from the byte where the last one ended. The
cursor is durable. It says what is about to be shipped before it is, and moves on after a part was read back: a crash in
between ships the very same part again, and no other bytes of the same place.

A file that has grown large is renamed, and Envoy is asked to reopen its logs. Until it has, it writes into the old one:
that goes only when all of it is in the store, the new one has lines, and nothing has been written to it for a while.

Envoy's user may write in the folder, and so may whoever got into Envoy: nothing there is followed or read that is no
plain file of one of our names. A link would lead to the gate's own keys, and a pipe would never end.

Each file is made here before Envoy opens it, and has space set apart: on a full disk the gate refuses calls and records
that (`WalSection.emergency_bytes`), and Envoy's lines of those refusals must not be lost, or reconciliation would miss
them.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import stat as modes
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, BinaryIO, Final

import zstandard

from ext_proc import files
from ext_proc.audit.reserve import make_folder_for_others, make_for_others, reserve
from ext_proc.audit.seal import named_object
from ext_proc.errors import IntegrityError

if TYPE_CHECKING:
    from pathlib import Path

    from ext_proc.audit.seal import SealedObject

PART_MAX_BYTES: Final = 16 * 1024 * 1024
"""Read at once: an object of about a tenth of it."""
ROTATE_BYTES: Final = 256 * 1024 * 1024
QUIET: Final = timedelta(seconds=60)
"""A file that was put aside is over when Envoy writes another and this long nothing was written to it."""
RESERVE_BYTES: Final = 8 * 1024 * 1024
"""Set apart for lines to come: about 6,000 of them."""
_HEAD_BYTES: Final = 4096
_ASIDE: Final = re.compile(r"access-[0-9]+\.jsonl")
_EARLIER: Final = re.compile(r"access(?:-[0-9]+)?\.jsonl")
_CURSOR: Final = "access-cursor.json"
_NAME: Final = "%Y%m%dT%H%M%S%f"


@dataclass(frozen=True, slots=True)
class Part:
    """Whole lines of one generation: bytes ``first_offset`` up to (not with) ``last_offset``."""

    generation: str
    first_offset: int
    last_offset: int
    lines: int
    sealed: SealedObject

    def facts(self) -> dict[str, Any]:
        """For the leaf ``access.shipped``."""
        return {
            "key": self.sealed.key,
            "sha256": self.sealed.sha256,
            "generation": self.generation,
            "first_offset": self.first_offset,
            "last_offset": self.last_offset,
            "lines": self.lines,
        }


@dataclass(slots=True)
class _Generation:
    """What the cursor says of one file.

    ``inode`` alone does not tell a file: its number is given to the next one as soon as it is gone. So does its
    beginning: ``head_sha256`` is of the first ``head_bytes``. ``offset``: up to here it is in the store; ``promised``:
    up to here goes the part that is on its way, 0 if there is none.
    """

    inode: int
    offset: int = 0
    promised: int = 0
    head_bytes: int = 0
    head_sha256: str = ""


@dataclass(frozen=True, slots=True)
class _File:
    path: Path
    name: str
    size: int
    written_at: float


class AccessLogTail:
    """Follows one access log. One process at a time.

    Args:
        path: the file that Envoy writes.
        state_dir: where the cursor is kept, and where the file was in earlier versions: what is left is shipped, too.
        replica: whose Envoy it is.
    """

    def __init__(self, path: Path, state_dir: Path, replica: str) -> None:
        self._path = path
        self._state_dir = state_dir
        self._cursor_path = state_dir / _CURSOR
        self._replica = replica
        self._generations = self._load()

    def next_part(self, now: datetime) -> Part | None:
        """The oldest lines that are not in the store yet, at most `PART_MAX_BYTES`; None if there are none.

        Raises:
            OSError: the disk does not let us.
            IntegrityError: a single line is longer than a part.
        """
        files = self._files(now)
        self._forget_vanished({file.name for file in files})
        for file in files:
            try:
                data = self._unshipped(file, now, is_replaced=any(one.path == self._path and one.size for one in files))
            except FileNotFoundError:
                continue  # gone since we looked: the next round forgets it
            if data:
                return self._promise(file.name, data)
        return None

    def shipped(self, part: Part) -> None:
        """The part was read back from the store: move the cursor, durably."""
        told = self._generations[part.generation]
        told.offset, told.promised = part.last_offset, 0
        self._save()

    def rotate_if_large(self) -> bool:
        """Put a large file aside. True: Envoy must now be asked to reopen its logs (again, if it did not listen).

        Raises:
            OSError: the disk does not let us.
        """
        prepare(self._path)
        for earlier in self._earlier():
            reserve(earlier, RESERVE_BYTES)
        stat = _stat(self._path)
        if stat is None:  # where Envoy must make it
            return any(self._aside())
        if stat.st_size < ROTATE_BYTES:
            return stat.st_size == 0 and any(self._aside())
        self._path.rename(self._path.with_name(f"access-{stat.st_ino}.jsonl"))
        prepare(self._path)
        files.sync_folder(self._path.parent)
        return True

    # Parts ---------------------------------------------------------------------------------------------------------

    def _unshipped(self, file: _File, now: datetime, *, is_replaced: bool) -> bytes:
        """The next bytes of a file to ship: whole lines, or of a file that is over all that is left."""
        told = self._generations[file.name]
        wanted = told.promised - told.offset if told.promised else PART_MAX_BYTES
        with _opened(file.path) as opened:
            opened.seek(told.offset)
            data = opened.read(wanted)
        if told.promised and len(data) == wanted:
            return data
        whole = data[: data.rfind(b"\n") + 1]
        if whole:
            return whole
        if len(data) == PART_MAX_BYTES:
            raise IntegrityError("access log line is too long")
        is_over = (
            file.path != self._path
            and is_replaced
            and now.timestamp() - file.written_at > QUIET.total_seconds()
            and told.offset + len(data) == file.path.lstat().st_size
        )
        if is_over and not data:
            self._forget(file)
        return data if is_over else b""  # half a line that nobody will end: Envoy died in the middle of it

    def _promise(self, name: str, data: bytes) -> Part:
        told = self._generations[name]
        if told.promised != told.offset + len(data):
            told.promised = told.offset + len(data)
            self._save()
        stem = f"v1/access/replica={self._replica}/{name}/{told.offset:016d}-{told.promised:016d}"
        body = zstandard.ZstdCompressor(level=3).compress(data)
        return Part(name, told.offset, told.promised, data.count(b"\n"), named_object(stem, body, "jsonl.zst"))

    # Files ---------------------------------------------------------------------------------------------------------

    def _aside(self) -> list[Path]:
        return sorted((*_plain(self._path.parent, _ASIDE), *self._earlier()))

    def _earlier(self) -> list[Path]:
        """Where the file was once. An Envoy that still has its old configuration writes there: it is followed until
        another's lines are here.
        """
        return [] if self._state_dir == self._path.parent else _plain(self._state_dir, _EARLIER)

    def _files(self, now: datetime) -> list[_File]:
        """What there is to read, the oldest generation first; each has its entry in the cursor."""
        found = [(path, stat) for path in (*self._aside(), self._path) if (stat := _stat(path)) is not None]
        found.sort(key=lambda one: (one[0] == self._path, one[1].st_mtime))  # as new ones get their names
        files: list[_File] = []
        for path, stat in found:
            with suppress(FileNotFoundError):
                files.append(_File(path, self._name_of(path, stat, now), stat.st_size, stat.st_mtime))
        return sorted(files, key=lambda one: one.name)

    def _name_of(self, path: Path, stat: os.stat_result, now: datetime) -> str:
        for name, told in self._generations.items():
            if told.inode == stat.st_ino and max(told.offset, told.promised) <= stat.st_size and _begins_as(path, told):
                self._learn_head(path, told, stat.st_size)
                return name
        # A new file, or one that is not any more what it was when a part of it was shipped.
        self._generations = {n: told for n, told in self._generations.items() if told.inode != stat.st_ino}
        name = f"{self._next_name(now)}-{stat.st_ino}"
        self._generations[name] = _Generation(stat.st_ino)
        self._learn_head(path, self._generations[name], stat.st_size)
        self._save()
        return name

    def _next_name(self, now: datetime) -> str:
        """Later than every other: several may be new at once, and a clock may be set back; their order must hold."""
        newest = max((name.partition("-")[0] for name in self._generations), default="")
        made = now.strftime(_NAME)
        if made > newest:
            return made
        return (datetime.strptime(newest, _NAME).replace(tzinfo=UTC) + timedelta(microseconds=1)).strftime(_NAME)

    def _learn_head(self, path: Path, told: _Generation, size: int) -> None:
        """Know more of a file's beginning, as long as it is still short."""
        wanted = min(size, _HEAD_BYTES)
        if wanted > told.head_bytes:
            head = _head_of(path, wanted)
            told.head_bytes, told.head_sha256 = len(head), hashlib.sha256(head).hexdigest()
            self._save()

    def _forget_vanished(self, there: set[str]) -> None:
        gone = self._generations.keys() - there
        if gone:
            self._generations = {name: told for name, told in self._generations.items() if name in there}
            self._save()

    def _forget(self, file: _File) -> None:
        file.path.unlink(missing_ok=True)
        files.sync_folder(file.path.parent)
        self._generations.pop(file.name, None)
        self._save()

    # The cursor ----------------------------------------------------------------------------------------------------

    def _load(self) -> dict[str, _Generation]:
        try:
            told = json.loads(self._cursor_path.read_bytes())
            return {str(name): _Generation(**one) for name, one in told.items()}
        except FileNotFoundError:
            return {}
        except (ValueError, TypeError, AttributeError):
            # Better twice than never: what was shipped is shipped again, as another generation, and that shows.
            self._cursor_path.replace(self._cursor_path.with_suffix(".damaged"))
            return {}

    def _save(self) -> None:
        told = {name: asdict(generation) for name, generation in self._generations.items()}
        files.replace(self._cursor_path, json.dumps(told))


def prepare(path: Path) -> None:
    """Have the file there before Envoy opens it, with space for what Envoy writes next.

    Raises:
        OSError: the disk does not let us.
    """
    make_folder_for_others(path.parent)
    make_for_others(path)
    reserve(path, RESERVE_BYTES)


def _plain(folder: Path, name: re.Pattern[str]) -> list[Path]:
    """Plain files of such names."""
    if not folder.is_dir():
        return []
    return [one for one in folder.iterdir() if name.fullmatch(one.name) and _stat(one) is not None]


def _stat(path: Path) -> os.stat_result | None:
    """Of a plain file; None where there is none."""
    try:
        found = path.lstat()
    except FileNotFoundError:
        return None
    return found if modes.S_ISREG(found.st_mode) else None


def _opened(path: Path) -> BinaryIO:
    """To be read: a plain file, whatever took its place meanwhile.

    Raises:
        FileNotFoundError: there is none.
    """
    try:
        number = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise FileNotFoundError(error.errno, "is a link", str(path)) from None
        raise
    file = os.fdopen(number, "rb")
    if not modes.S_ISREG(os.fstat(number).st_mode):
        file.close()
        raise FileNotFoundError(errno.ENOENT, "is no plain file", str(path))
    return file


def _head_of(path: Path, size: int) -> bytes:
    with _opened(path) as file:
        return file.read(size)


def _begins_as(path: Path, told: _Generation) -> bool:
    head = _head_of(path, told.head_bytes)
    return len(head) == told.head_bytes and hashlib.sha256(head).hexdigest() == (told.head_sha256 or _EMPTY_SHA256)


_EMPTY_SHA256: Final = hashlib.sha256(b"").hexdigest()
