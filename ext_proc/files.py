"""Files that are there whole, or as they were."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


def replace(path: Path, content: str | bytes, *, is_durable: bool = True) -> None:
    """Put ``content`` in the file's place: whoever reads sees the old one or the new one, never a part.

    Args:
        path: its folder must be there.
        content: texts are written as UTF-8.
        is_durable: on the disk when this returns, after a power cut too; one process at a time. Not: for what a
            reboot may forget.

    Raises:
        OSError: it could not be written; what was there stands.
    """
    beside = unborn(path) if is_durable else path.with_name(f".{path.name}.{os.getpid()}.new")
    with beside.open("wb") as file:
        file.write(content.encode() if isinstance(content, str) else content)
        if is_durable:
            file.flush()
            os.fsync(file.fileno())
    beside.replace(path)
    if is_durable:
        sync_folder(path.parent)


def unborn(path: Path) -> Path:
    """Where a file is made that is to be durable; what a crash leaves there, the next attempt takes."""
    return path.with_name(f".{path.name}.new")


def sync_folder(folder: Path) -> None:
    """Make renames and new names in ``folder`` durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
