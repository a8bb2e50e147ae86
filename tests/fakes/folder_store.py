"""`Store` in a folder, for several processes: what is put survives the one that put it. A file is there whole or not at all."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from ext_proc.audit.store import Stored, StoreRefused, StoreUnavailable
from tests.fakes.store import RETENTION, Version

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass
class FolderStore:
    """Objects below ``folder``, each locked for the retention from its writing. An error of the disk is no answer."""

    folder: Path
    retention: timedelta = RETENTION
    puts: list[str] = field(default_factory=list)

    def put(self, key: str, body: bytes, sha256: str) -> None:
        """See `Store.put`."""
        if hashlib.sha256(body).hexdigest() != sha256:
            raise StoreRefused("BadDigest")
        path = self.folder / "objects" / key
        temporary = self.folder / f"{os.urandom(8).hex()}.new"  # never again: a linked file must not be written to
        self.puts.append(key)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with temporary.open("wb") as file:
                file.write(body)
                file.flush()
                os.fsync(file.fileno())
            os.link(temporary, path)
            temporary.unlink()
        except FileExistsError:
            return
        except OSError as error:
            raise StoreUnavailable(type(error).__name__) from None

    def read_back(self, key: str) -> Stored | None:
        """See `Store.read_back`."""
        one = self._read(key)
        if one is None:
            return None
        return Stored(hashlib.sha256(one.body).hexdigest(), len(one.body), one.lock_mode, one.retain_until, "0")

    def fetch(self, key: str) -> bytes:
        """See `Store.fetch`."""
        one = self._read(key)
        if one is None:
            raise StoreUnavailable("no such object")
        return one.body

    def keys(self, prefix: str) -> Iterator[str]:
        """See `Store.keys`."""
        try:
            yield from sorted(key for key in self._all() if key.startswith(prefix))
        except OSError as error:
            raise StoreUnavailable(type(error).__name__) from None

    @property
    def objects(self) -> dict[str, list[Version]]:
        """As `FakeStore.objects`."""
        return {key: [one] for key in self._all() if (one := self._read(key)) is not None}

    def _all(self) -> list[str]:
        root = self.folder / "objects"
        found = os.walk(root, onerror=_raise_unless_new)
        return [str(Path(where, name).relative_to(root)) for where, _, names in found for name in names]

    def _read(self, key: str) -> Version | None:
        path = self.folder / "objects" / key
        try:
            body, at = path.read_bytes(), datetime.fromtimestamp(path.stat().st_mtime, tz=UTC)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise StoreUnavailable(type(error).__name__) from None
        return Version(body, "COMPLIANCE", at + self.retention, at)


def _raise_unless_new(error: OSError) -> None:
    """Nothing was put yet, or a folder is being made."""
    if not isinstance(error, FileNotFoundError):
        raise error
