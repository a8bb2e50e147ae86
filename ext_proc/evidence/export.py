"""``affidavit export``: the whole bucket as a directory that can be verified where there is no network.

Every version of every object, an inventory with their locks, and each log as a tree (section 10 of
``docs/record-format.md``). What is written to the bucket after the export began is not in it.
"""

from __future__ import annotations

import hashlib
import shutil
from collections import Counter, deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO, Final, cast

from ext_proc.audit.record import canonical, instant
from ext_proc.evidence import names
from ext_proc.evidence.places import place_of
from ext_proc.evidence.threads import readers
from ext_proc.evidence.trees import Trees
from ext_proc.evidence.versions import Absent, EvidenceError, Hashed, Lock

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from concurrent.futures import ThreadPoolExecutor
    from pathlib import Path

    from ext_proc.evidence.names import LogName
    from ext_proc.evidence.versions import Bucket, Version, VersionedStore

INVENTORY: Final = "inventory.jsonl"
SUMS: Final = "inventory.sha256"
BUCKET: Final = "bucket.json"
_THREADS: Final = 8
_AHEAD: Final = 32


@dataclass(frozen=True, slots=True)
class ExportProgress:
    """How far it is."""

    versions: int
    bytes: int
    leaves: int


@dataclass(frozen=True, slots=True)
class ExportReport:
    """What was written. ``problems``: where a tree could not be built whole; `affidavit verify` says what is behind."""

    versions: int
    bytes: int
    leaves: int
    logs: int
    inventory_sha256: str
    problems: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Copied:
    version: Version
    file: str | None
    sha256: str | None
    size_bytes: int
    lock: Lock


def export(store: VersionedStore, directory: Path, progress: Callable[[ExportProgress], None]) -> ExportReport:
    """Copy everything into ``directory``, which must be new or empty. It appears when it is complete.

    Raises:
        EvidenceError: the store cannot be read, or the directory cannot be written.
    """
    partial = directory.with_name(directory.name + ".partial")
    try:
        if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
            raise EvidenceError(f"{directory} is not empty: name a new directory")
        if partial.exists():
            raise EvidenceError(f"{partial} is left of an export that was interrupted: remove it, and run this again")
        partial.mkdir(parents=True)
        try:
            report = _Export(store, partial, progress).run()
            partial.replace(directory)
        except BaseException:
            shutil.rmtree(partial, ignore_errors=True)
            raise
    except OSError as error:
        raise EvidenceError(f"{error.filename or directory}: {error.strerror or type(error).__name__}") from None
    return report


class _Export:
    def __init__(self, store: VersionedStore, folder: Path, progress: Callable[[ExportProgress], None]) -> None:
        self._store = store
        self._folder = folder
        self._progress = progress
        self._bucket = store.bucket()
        self._trees = Trees(folder, self._sizes())
        self._versions = 0
        self._bytes = 0
        self._vanished: list[str] = []

    def run(self) -> ExportReport:
        with (self._folder / INVENTORY).open("xb") as inventory, readers(_THREADS) as pool:
            for copied in self._copied(pool):
                inventory.write(canonical(self._line(copied)) + b"\n")
                self._look_at(copied)
        logs = self._trees.close()
        self._write_bucket()
        return ExportReport(
            versions=self._versions,
            bytes=self._bytes,
            leaves=self._trees.leaf_count,
            logs=logs,
            inventory_sha256=self._write_sums(),
            problems=(*self._vanished, *self._trees.problems),
        )

    def _sizes(self) -> dict[LogName, int]:
        """How far each log's newest checkpoint reaches: leaves beyond it are in no tree."""
        found: dict[LogName, int] = {}
        for version in self._listed(names.LOG):
            name = names.tree_head(version.key)
            if name is not None and not name.is_cosigned and not version.is_delete_marker:
                found[name.log] = max(name.size, found.get(name.log, 0))
        return found

    def _listed(self, prefix: str) -> Iterator[Version]:
        return (one for one in self._store.versions(prefix) if one.last_modified <= self._bucket.at)

    def _copied(self, pool: ThreadPoolExecutor) -> Iterator[_Copied]:
        """Copies in the order of the listing, several at a time."""
        waiting: deque[Any] = deque()
        numbers: Counter[str] = Counter()
        for version in self._listed(""):
            if version.key not in numbers:
                numbers.clear()
            waiting.append(pool.submit(self._copy, version, numbers[version.key]))
            numbers[version.key] += not version.is_delete_marker
            if len(waiting) > _AHEAD:
                yield from self._finished(waiting.popleft())
        while waiting:
            yield from self._finished(waiting.popleft())

    def _finished(self, future: Any) -> Iterator[_Copied]:
        try:
            yield future.result()
        except Absent as error:
            self._vanished.append(error.detail)

    def _copy(self, version: Version, number: int) -> _Copied:
        if version.is_delete_marker:
            return _Copied(version, None, None, 0, Lock())
        place, file = self._opened(version.key, number)
        hashed = Hashed(file)
        with file:
            try:
                lock = self._store.download(version, cast("BinaryIO", hashed))
            except Absent:
                (self._folder / place).unlink()
                raise
        return _Copied(version, place, hashed.sha256, hashed.size_bytes, lock)

    def _opened(self, key: str, number: int) -> tuple[str, BinaryIO]:
        for is_plain in (True, False):
            place = place_of(key, number, is_plain=is_plain)
            path = self._folder / place
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                return place, path.open("x+b")
            except (FileExistsError, NotADirectoryError):
                continue
        raise EvidenceError(f"{self._folder / place_of(key, number, is_plain=False)}: two objects have one place")

    def _line(self, copied: _Copied) -> dict[str, Any]:
        version, lock = copied.version, copied.lock
        return {
            "key": self._bucket.prefix + version.key,
            "version": version.version,
            "is_latest": version.is_latest,
            "is_delete_marker": version.is_delete_marker,
            "bytes": copied.size_bytes,
            "sha256": copied.sha256,
            "lock_mode": lock.mode,
            "retain_until": instant(lock.retain_until) if lock.retain_until else None,
            "legal_hold": lock.is_held,
            "last_modified": instant(version.last_modified),
            "file": copied.file,
        }

    def _look_at(self, copied: _Copied) -> None:
        self._versions += 1
        self._bytes += copied.size_bytes
        key = copied.version.key
        if copied.file is not None and not copied.file.startswith("versions/"):
            path = self._folder / copied.file
            events, head, birth = names.events(key), names.tree_head(key), names.birth(key)
            if events is not None:
                self._trees.add_events(events, path)
            elif head is not None and not head.is_cosigned:
                self._trees.add_head(head.log, head.size, path)
            elif birth is not None:
                self._trees.add_birth(birth, path)
        self._progress(ExportProgress(self._versions, self._bytes, self._trees.leaf_count))

    def _write_bucket(self) -> None:
        (self._folder / BUCKET).write_bytes(canonical(described(self._bucket)) + b"\n")

    def _write_sums(self) -> str:
        """As ``sha256sum`` writes and checks them."""
        sums = {}
        for name in (BUCKET, INVENTORY):
            with (self._folder / name).open("rb") as file:
                sums[name] = hashlib.file_digest(file, "sha256").hexdigest()
        (self._folder / SUMS).write_text("".join(f"{digest}  {name}\n" for name, digest in sums.items()))
        return sums[INVENTORY]


def described(bucket: Bucket) -> dict[str, Any]:
    """The bucket as ``bucket.json`` has it."""
    return {
        "bucket": bucket.name,
        "prefix": bucket.prefix,
        "versioning": bucket.versioning,
        "object_lock": {"enabled": bucket.is_lockable, "mode": bucket.lock_mode, "days": bucket.lock_days},
        "exported_at": instant(bucket.at),
    }
