"""An export as a `VersionedStore`: whoever has a copy proves, lists and queries without the bucket.

The bytes are held against the inventory each time they are read; whether the inventory is true is `affidavit verify`'s
question.
"""

from __future__ import annotations

import hashlib
import json
import os
from bisect import bisect_left, bisect_right
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, BinaryIO, Final

from ext_proc.evidence.export import BUCKET, INVENTORY
from ext_proc.evidence.versions import Absent, Bucket, EvidenceError, Lock, Version

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_CHUNK_BYTES: Final = 1 << 20


class ExportedVersions:
    """The directory that `affidavit export` wrote.

    Raises:
        EvidenceError: it is not one.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._read: dict[tuple[str, str], dict[str, Any]] = {}
        try:
            told = json.loads((directory / BUCKET).read_bytes())
            lines = [json.loads(line) for line in (directory / INVENTORY).read_bytes().splitlines()]
            self._bucket = _bucket(told)
            self._versions = [self._version(line) for line in lines]
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            raise EvidenceError(f"{directory}: not a directory that `affidavit export` wrote") from None
        self._keys = [one.key for one in self._versions]
        if self._keys != sorted(self._keys):
            raise EvidenceError(f"{directory}: its inventory is out of order: export again")

    @property
    def name(self) -> str:
        """See `VersionedStore.name`."""
        return str(self._directory)

    def bucket(self) -> Bucket:
        """See `VersionedStore.bucket`; the time is the export's."""
        return self._bucket

    def versions(self, prefix: str, after: str = "") -> Iterator[Version]:
        """See `VersionedStore.versions`."""
        at = bisect_right(self._keys, after) if after >= prefix else bisect_left(self._keys, prefix)
        for version in self._versions[at:]:
            if not version.key.startswith(prefix):
                return
            yield version

    def download(self, version: Version, into: BinaryIO) -> Lock:
        """See `VersionedStore.download`."""
        line = self._read.get((version.key, version.version))
        if line is None or line["file"] is None:
            raise Absent(f"{version.key}: no such version in {self._directory}")
        found = hashlib.sha256()
        try:
            descriptor = os.open(self._directory / _inside(line["file"]), os.O_RDONLY | os.O_NOFOLLOW)
            with os.fdopen(descriptor, "rb") as file:
                while chunk := file.read(_CHUNK_BYTES):
                    found.update(chunk)
                    into.write(chunk)
        except OSError as error:
            raise EvidenceError(f"{self._directory}/{line['file']}: {error.strerror}") from None
        if found.hexdigest() != line["sha256"]:
            raise EvidenceError(f"{self._directory}/{line['file']} was changed after it was exported")
        until = line["retain_until"]
        return Lock(line["lock_mode"], _instant(until) if until else None, bool(line["legal_hold"]))

    def _version(self, line: dict[str, Any]) -> Version:
        key = str(line["key"])
        if not key.startswith(self._bucket.prefix):
            raise ValueError("outside the prefix")
        made = Version(
            key=key[len(self._bucket.prefix) :],
            version=str(line["version"]),
            is_latest=bool(line["is_latest"]),
            is_delete_marker=bool(line["is_delete_marker"]),
            size_bytes=int(line["bytes"]),
            last_modified=_instant(line["last_modified"]),
        )
        self._read[made.key, made.version] = line
        return made


def _inside(file: str) -> str:
    if file.startswith("/") or any(part in ("", ".", "..") for part in file.split("/")):
        raise EvidenceError(f"the inventory names {file!r}, which is not inside the export")
    return file


def _instant(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)


def _bucket(told: dict[str, Any]) -> Bucket:
    lock = told["object_lock"]
    return Bucket(
        name=str(told["bucket"]),
        prefix=str(told["prefix"]),
        versioning=str(told["versioning"]),
        is_lockable=bool(lock["enabled"]),
        lock_mode=lock["mode"],
        lock_days=lock["days"],
        at=_instant(told["exported_at"]),
    )
