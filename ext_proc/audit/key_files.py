"""Keys in files: 32 random bytes each, readable by the owner only."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

from ext_proc.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

KEY_BYTES: Final = 32


def read_key(path: Path) -> bytes:
    """32 bytes from a file.

    Raises:
        ConfigError: unreadable, or another size, or readable by everyone.
    """
    try:
        raw = path.read_bytes()
        is_public = path.stat().st_mode & 0o007
    except FileNotFoundError:
        # Another key in its place could not open what the lost one sealed: that is for new installations.
        cure = f"put your copy of it back, or for a new installation make it with: affidavit keys create {path}"
        raise ConfigError(f"key file {path}: is not there; {cure}") from None
    except OSError as error:
        raise ConfigError(f"key file {path}: {error.strerror}") from None
    if len(raw) != KEY_BYTES:
        raise ConfigError(f"key file {path}: {KEY_BYTES} bytes are needed; make them with: head -c 32 /dev/urandom")
    if is_public:
        raise ConfigError(f"key file {path}: others may read it; mend with: chmod 600 {path}")
    return raw


def create_key_files(folder: Path, *names: str) -> list[Path]:
    """Make key files of random bytes, readable by the owner only."""
    made: list[Path] = []
    for name in names:
        path = folder / name
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(os.urandom(KEY_BYTES))
            file.flush()
            os.fsync(file.fileno())
        made.append(path)
    return made
