"""Bundles out of the bucket, by digest: what is not what its name says is refused."""

from __future__ import annotations

import hashlib
import re
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from ext_proc.app.serving.policy_archive import archive_key
from ext_proc.errors import ConfigError
from ext_proc.evidence.versions import fetch, firsts
from ext_proc.policy.again import Asker
from ext_proc.policy.bundle import BUNDLE_MAX_BYTES

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

    from ext_proc.evidence.versions import VersionedStore


_COPIES_MAX: Final = 64
"""Tried before it is given up, the oldest first: what others put beside them comes later."""
_DIGEST: Final = re.compile(r"[0-9a-f]{64}")


class NoBundle(Exception):
    """It cannot be asked; the text says why."""


class ArchivedBundles:
    """Each is fetched once, and asked through its own `Asker`. A context manager.

    Args:
        store: the bucket.
        opa: the program.
        decision: the rule that is asked, with dots.
    """

    def __init__(self, store: VersionedStore, opa: Path, decision: str) -> None:
        self._store = store
        self._opa = opa
        self._decision = decision
        self._folder: Any = None
        self._askers: dict[str, Asker | NoBundle] = {}

    def __enter__(self) -> Self:
        self._folder = tempfile.TemporaryDirectory(prefix="affidavit-bundles-")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for asker in self._askers.values():
            if isinstance(asker, Asker):
                asker.__exit__(kind, error, trace)
        self._folder.cleanup()

    def asker(self, digest: str) -> Asker:
        """The bundle with this digest, ready to be asked.

        Raises:
            NoBundle: it is not there, not what its name says, or OPA cannot load it.
            EvidenceError: the store cannot be read.
        """
        found = self._askers.get(digest)
        if found is None:
            found = self._askers[digest] = self._opened(digest)
        if isinstance(found, NoBundle):
            raise found
        return found

    def _opened(self, digest: str) -> Asker | NoBundle:
        try:
            raw = bytes_of(self._store, digest)
            path = Path(self._folder.name) / f"{digest}.tar.gz"
            path.write_bytes(raw)
            return Asker(self._opa, path, self._decision).__enter__()
        except NoBundle as refused:
            return refused
        except ConfigError as error:
            return NoBundle(str(error.detail))


def bytes_of(store: VersionedStore, digest: str) -> bytes:
    """The bundle with this digest, out of the bucket: of all copies the first that is what its name says.

    Raises:
        NoBundle: it is not there, or not what its name says.
        EvidenceError: the store cannot be read.
    """
    if not _DIGEST.fullmatch(digest):
        raise NoBundle(f"the record names no bundle: {digest[:80]}")
    key = archive_key(digest)
    why = "is not in the bucket: it was active before bundles were archived, or was removed"
    copies = sorted(
        firsts(store, key.removesuffix("tar.gz")), key=lambda one: (one.key != key, one.last_modified, one.key)
    )
    for version in copies[:_COPIES_MAX]:
        if version.size_bytes > BUNDLE_MAX_BYTES:
            why = "is far larger than a bundle can be: run `affidavit verify`"
            continue
        raw = fetch(store, version)
        if hashlib.sha256(raw).hexdigest() == digest:
            return raw
        why = "does not have the digest that the record names, so it is not asked: it was changed"
    raise NoBundle(f"{key} {why}")
