"""Which policy decided since when, and what differs: as records tell it, with the bundles that the console has seen.

A record names a bundle by its digest, and the bucket does not hold it. So the console keeps a copy of each that it
finds in use, and says of the others that it does not know how they differ.
"""

from __future__ import annotations

import difflib
import hashlib
import tarfile
import zlib
from io import BytesIO
from typing import TYPE_CHECKING, Final, Literal

from ext_proc.console.seen import Activation, Activations, Difference

if TYPE_CHECKING:
    from pathlib import Path

    from ext_proc.evidence.index import Index, PolicySeen

SHOWN_MAX: Final = 100
_SEEN_MAX: Final = 5_000
_KEPT_MAX: Final = 100
_FILE_MAX_BYTES: Final = 1 << 20
_BUNDLE_MAX_BYTES: Final = 32 << 20
_LINES_MAX: Final = 500
_UNTOLD: Final = (".manifest", ".signatures.json")


class Bundles:
    """Copies of bundles, by digest.

    Args:
        folder: of the console.
        current: the file that is in use.
    """

    def __init__(self, folder: Path, current: Path) -> None:
        self._folder = folder / "bundles"
        self._current = current

    def keep_current(self) -> None:
        """Keep a copy of the one that is in use, if there is none yet. What cannot be kept is not there later."""
        try:
            raw = self._current.read_bytes()
            path = self._path(hashlib.sha256(raw).hexdigest())
            if path.exists() or len(raw) > _BUNDLE_MAX_BYTES:
                return
            self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            temporary = path.with_suffix(".new")
            temporary.write_bytes(raw)
            temporary.rename(path)
            kept = sorted(self._folder.glob("*.tar.gz"), key=lambda one: one.stat().st_mtime)
            for one in kept[:-_KEPT_MAX]:
                one.unlink(missing_ok=True)
        except OSError:
            return

    def differences(self, digest: str, before: str) -> tuple[Difference, ...] | None:
        """How a bundle differs from the one before; None: one of them is not at hand."""
        new, old = self._files(digest), self._files(before)
        if new is None or old is None:
            return None
        return tuple(
            _difference(name, old.get(name), new.get(name))
            for name in sorted({*old, *new})
            if old.get(name) != new.get(name)
        )

    def _path(self, digest: str) -> Path:
        return self._folder / f"{digest}.tar.gz"

    def _files(self, digest: str) -> dict[str, bytes] | None:
        """What is in it. A copy that is not what its name says is none."""
        if len(digest) != 64 or not digest.isalnum():
            return None
        found: dict[str, bytes] = {}
        try:
            raw = self._path(digest).read_bytes()
            if hashlib.sha256(raw).hexdigest() != digest:
                return None
            with tarfile.open(fileobj=BytesIO(raw)) as archive:
                for member in archive:
                    name = member.name.lstrip("/")
                    if member.isfile() and member.size <= _FILE_MAX_BYTES and name not in _UNTOLD:
                        content = archive.extractfile(member)
                        found[name] = content.read() if content else b""
        except (OSError, EOFError, zlib.error, tarfile.TarError, ValueError):
            return None
        return found


def activations_of(index: Index, bundles: Bundles, gateway: str) -> Activations:
    """The newest first.

    Raises:
        EvidenceError: there is no index yet, or it cannot be read.
    """
    bundles.keep_current()
    changes: list[PolicySeen] = []
    for one in reversed(index.policies(_SEEN_MAX)):
        # Several logs tell of one change: each worker has its own.
        if not changes or changes[-1].digest != one.digest:
            changes.append(one)
    made = [
        Activation(
            one.at,
            one.revision,
            one.digest,
            f"{gateway}/{one.log.replica}/{one.log.epoch}",
            number == len(changes) - 1,
            bundles.differences(one.digest, changes[number - 1].digest) if number else None,
        )
        for number, one in enumerate(changes)
    ]
    return Activations(tuple(reversed(made[-SHOWN_MAX:])))


def _difference(name: str, old: bytes | None, new: bytes | None) -> Difference:
    before, after = (one.decode(errors="replace").splitlines() if one is not None else [] for one in (old, new))
    lines = list(difflib.unified_diff(before, after, "before", "now", lineterm=""))[2:]
    if len(lines) > _LINES_MAX:
        lines = [*lines[:_LINES_MAX], f"... and {len(lines) - _LINES_MAX} more lines"]
    change: Literal["added", "removed", "changed"] = "added" if old is None else "removed" if new is None else "changed"
    return Difference(name, change, tuple(lines))
