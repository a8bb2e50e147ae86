"""Events objects on this disk: they never change, so they are fetched once, and their hash is looked at each time."""

from __future__ import annotations

import hashlib
import os
from itertools import islice
from typing import TYPE_CHECKING, BinaryIO, Final, cast

from ext_proc.evidence.threads import readers
from ext_proc.evidence.versions import EvidenceError, Hashed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from ext_proc.evidence.names import EventsName
    from ext_proc.evidence.versions import Version, VersionedStore

_THREADS: Final = 8
_BATCH: Final = 64


def cached(
    store: VersionedStore,
    found: Iterable[tuple[EventsName, Version]],
    folder: Path,
    progress: Callable[[int], None],
) -> Iterator[Path]:
    """Each object as a file below ``folder``, under its key.

    Raises:
        EvidenceError: an object cannot be fetched or kept, or is not what its key says.
    """
    count = 0
    source = iter(found)
    with readers(_THREADS) as pool:
        while batch := list(islice(source, _BATCH)):
            yield from pool.map(lambda pair: _kept(store, pair[0], pair[1], folder), batch)
            count += len(batch)
            progress(count)


def _kept(store: VersionedStore, name: EventsName, version: Version, folder: Path) -> Path:
    path = folder / version.key
    try:
        if path.exists():
            with path.open("rb") as file:
                if hashlib.file_digest(file, "sha256").hexdigest().startswith(name.sha16):
                    return path
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f"{path.name}.{os.getpid()}.new")
        with temporary.open("w+b") as file:
            hashed = Hashed(file)
            store.download(version, cast("BinaryIO", hashed))
        if not hashed.sha256.startswith(name.sha16):
            temporary.unlink()
            raise EvidenceError(f"{version.key}: is not what its key says; run `affidavit verify`")
        temporary.replace(path)
    except OSError as error:
        raise EvidenceError(f"{error.filename or path}: {error.strerror}") from None
    return path
