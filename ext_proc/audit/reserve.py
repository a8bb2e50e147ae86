"""Space set apart for a file that another process appends to.

`fallocate(2)` with ``FALLOC_FL_KEEP_SIZE``: blocks beyond the end of the file belong to it, and its size stays. Whoever
appends uses them up, also when the disk has become full meanwhile. Python's `os.posix_fallocate` makes the file longer.
"""

from __future__ import annotations

import ctypes
import errno
import os
import stat
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Final

_KEEP_SIZE: Final = 1
_libc: Final = ctypes.CDLL(None, use_errno=True)
_fallocate: Final = getattr(_libc, "fallocate", None)
"""None where the system has no such call."""
if _fallocate is not None:
    _fallocate.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64)


def make_folder_for_others(folder: Path) -> None:
    """Make the folder, if it is not there: whoever may make files in the one above it may make them in it.

    Raises:
        OSError: the disk does not let us, or something else than a folder is there: a link may lead anywhere.
    """
    with suppress(FileNotFoundError):
        if not stat.S_ISDIR(folder.lstat().st_mode):
            raise NotADirectoryError(errno.ENOTDIR, "is there, and is no folder", str(folder))
        return
    # What is there under its own name is ready, and nobody could have put something else in the place of this one.
    made = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    above = folder.parent.stat()
    with suppress(OSError):  # its group is none of ours, or the file system has none
        os.chown(made, -1, above.st_gid)
    made.chmod(stat.S_IMODE(above.st_mode))
    made.rename(folder)


def make_for_others(path: Path) -> None:
    """Make the file, empty, for whoever may make files in its folder: they may write to it, and we may set space apart.

    Does nothing where it is there already, or where the folder is somebody else's: its owner might then be locked out.

    Raises:
        OSError: the disk does not let us.
    """
    folder = path.parent.stat()
    if folder.st_uid not in (0, os.geteuid()):
        return
    try:
        made = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return
    try:
        with suppress(PermissionError):  # the folder's group is none of ours, so nothing of it is owed to that group
            os.fchown(made, -1, folder.st_gid)
        others = folder.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
        os.fchmod(made, 0o644 | others)
    finally:
        os.close(made)


def reserve(path: Path, ahead: int) -> bool:
    """Have between ``ahead`` bytes and twice as many set apart behind the file's end. False: here that cannot be had
    (not our file, a file system that does not know it, no space).
    """
    if _fallocate is None:
        return False
    try:
        opened = os.open(path, os.O_WRONLY | os.O_NOFOLLOW | os.O_NONBLOCK)  # a link or a pipe: not ours
    except OSError:
        return False
    try:
        end = (os.fstat(opened).st_size // ahead + 2) * ahead
        return bool(_fallocate(opened, _KEEP_SIZE, 0, end) == 0)
    finally:
        os.close(opened)
