"""Where an object's bytes lie in an export. Keys are anybody's to choose: no path may lead out, or hit another. Pure.

A key of the gateway's own form keeps its name. Only such a key ends in one of `_ENDINGS`, and none of its folders does,
so no file stands where another's folder must be. Everything else goes by the SHA-256 of its key below ``@``, which no
plain name contains.
"""

from __future__ import annotations

import hashlib
import re
from typing import Final

OBJECTS: Final = "objects"
VERSIONS: Final = "versions"
_ENDINGS: Final = (".note", ".note.tsr", ".jsonl.zst", ".pack")
_PART: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9=._-]{0,199}", re.ASCII)
_KEY_MAX: Final = 1024


def place_of(key: str, number: int, *, is_plain: bool = True) -> str:
    """The path below the export of version ``number`` (0: the oldest) of ``key``.

    Args:
        key: below the prefix.
        number: of the version, oldest first, delete markers not counted.
        is_plain: may it keep its name? No, where a file system that takes two names for one has it already.
    """
    name = key if is_plain and _is_plain(key) else f"@/{hashlib.sha256(key.encode()).hexdigest()}"
    return f"{OBJECTS}/{name}" if number == 0 else f"{VERSIONS}/{name}/{number}"


def _is_plain(key: str) -> bool:
    *folders, last = key.split("/")
    return (
        len(key) <= _KEY_MAX
        and last.endswith(_ENDINGS)
        and not any(folder.endswith(_ENDINGS) for folder in folders)
        and all(_PART.fullmatch(part) for part in (*folders, last))
    )
