"""The directory that ``affidavit export`` writes (section 10 of ``docs/record-format.md``).

Its inventory is as trustworthy as whoever made the export: an auditor makes it himself. What is checked here is that
the directory still is what was exported: every file is listed, nothing else is there, no byte has changed.
"""

from __future__ import annotations

import hashlib
import os
import re
import stat
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import orjson

from ext_proc.verify.findings import VerifyError
from ext_proc.verify.notes import is_a
from ext_proc.verify.source import Absent, BucketFacts, Lock, Opened, TooLarge, Version, instant

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from ext_proc.verify.findings import Findings

INVENTORY: Final = "inventory.jsonl"
SUMS: Final = "inventory.sha256"
BUCKET: Final = "bucket.json"
LOGS: Final = "logs"
_LINE_MAX: Final = 64 * 1024
_SUM: Final = re.compile(rb"([0-9a-f]{64})  (bucket\.json|inventory\.jsonl)\n")
_SHA: Final = re.compile(r"[0-9a-f]{64}")


class DirectorySource:
    """An export."""

    is_remote = False
    is_newest_first = False

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._prefix = ""

    def facts(self, findings: Findings) -> BucketFacts:
        """See `Source.facts`. The time is the export's; without one, that of the newest object."""
        for name in (INVENTORY, BUCKET):
            if not self._is_file(name):
                raise VerifyError(
                    f"{self._directory}: no {name} here. Name a directory that `affidavit export` wrote, a proof file, "
                    "or s3://bucket/prefix"
                )
        self._check_sums(findings)
        told: Any = {}
        lock: Any = None
        now = datetime(1970, 1, 1, tzinfo=UTC)
        try:
            with self._opened(BUCKET) as file:
                told = orjson.loads(file.read_all(_LINE_MAX))
            self._prefix, lock = told["prefix"], told["object_lock"]
            is_locked = lock["enabled"] is True
            if told.get("exported_at") is not None:
                now = instant(told["exported_at"])
            is_understood = all(isinstance(one, str) for one in (self._prefix, told["bucket"]))
        except (ValueError, KeyError, TypeError, AttributeError, Absent, TooLarge):
            is_understood = is_locked = False
        if not is_understood:
            findings.add("object_unreadable", BUCKET, "The description of the bucket cannot be read.")
            self._prefix = ""
        if self._prefix and not self._prefix.endswith("/"):
            self._prefix += "/"
        newest = max((one.last_modified for one in self.versions(None)), default=now)
        is_versioned = isinstance(told, dict) and told.get("versioning") == "Enabled"
        return BucketFacts(str(self._directory), is_versioned, is_locked, max(now, newest))

    def versions(self, findings: Findings | None) -> Iterator[Version]:
        """See `Source.versions`."""
        with (self._directory / INVENTORY).open("rb") as file:
            number = 0
            while line := file.readline(_LINE_MAX):
                number += 1
                made = self._version(line)
                if made is not None:
                    yield made
                elif findings is not None:
                    findings.add("object_unreadable", f"{INVENTORY}:{number}", "A line of the inventory is not valid.")
                    if not line.endswith(b"\n"):
                        return

    def open(self, version: Version) -> Opened:
        """See `Source.open`."""
        return self._opened(version.place, self.lock(version))

    def lock(self, version: Version) -> Lock:
        """See `Source.lock`."""
        return version.lock or Lock(None, None)

    def read(self, name: str, limit: int) -> bytes:
        """A file of the export that is no object.

        Raises:
            Absent: it is not there.
            TooLarge: it has more than ``limit`` bytes.
        """
        with self._opened(name) as file:
            return file.read_all(limit)

    def files(self) -> Iterator[str]:
        """Every file there is, by its path in the directory. Links and other oddities come with a ``@`` before."""
        waiting = [""]
        while waiting:
            folder = waiting.pop()
            with os.scandir(self._directory / folder) as entries:
                for entry in entries:
                    name = f"{folder}{entry.name}"
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append(name + "/")
                    else:
                        yield name if entry.is_file(follow_symlinks=False) else "@" + name

    def _version(self, line: bytes) -> Version | None:
        try:
            told = orjson.loads(line)
            is_canonical = orjson.dumps(told, None, orjson.OPT_SORT_KEYS | orjson.OPT_APPEND_NEWLINE) == line
            key, marker, size, sha256 = told["key"], told["is_delete_marker"], told["bytes"], told["sha256"]
            until = told["retain_until"]
            lock = Lock(told["lock_mode"], None if until is None else instant(until))
            is_valid = (
                is_canonical
                and isinstance(key, str)
                and key.startswith(self._prefix)
                and isinstance(marker, bool)
                and isinstance(told["is_latest"], bool)
                and (marker or (is_a(size, int) and _SHA.fullmatch(sha256) and isinstance(told["file"], str)))
            )
            at = instant(told["last_modified"])
        except (ValueError, KeyError, TypeError):
            return None
        if not is_valid:
            return None
        version, is_latest, file = str(told["version"]), told["is_latest"], "" if marker else told["file"]
        key = key[len(self._prefix) :]
        return Version(key, version, is_latest, marker, 0 if marker else size, at, file, sha256, lock)

    def _check_sums(self, findings: Findings) -> None:
        try:
            with self._opened(SUMS) as file:
                sums = file.read_all(_LINE_MAX)
        except (Absent, TooLarge):
            sums = b""
        told = {name.decode(): digest.decode() for digest, name in _SUM.findall(sums)}
        if set(told) != {INVENTORY, BUCKET} or len(sums) != sum(len(name) + 67 for name in told):
            findings.add("object_unreadable", SUMS, "The export's checksums are missing or cannot be read.")
        for name in (INVENTORY, BUCKET):
            with (self._directory / name).open("rb") as file_:
                found = hashlib.file_digest(file_, "sha256").hexdigest()
            if name in told and told[name] != found:
                findings.add("object_changed", name, "The file is not the one that the export wrote.")

    def _is_file(self, name: str) -> bool:
        try:
            return stat.S_ISREG((self._directory / name).lstat().st_mode)
        except OSError:
            return False

    def _opened(self, name: str, lock: Lock | None = None) -> Opened:
        """Open a regular file inside the directory; never follow a link, never wait for a pipe."""
        parts = name.split("/")
        if "\0" in name or name.startswith("/") or any(part in ("", ".", "..") for part in parts):
            raise Absent(name)
        try:
            descriptor = os.open(self._directory / name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
            if not stat.S_ISREG(os.fstat(descriptor).st_mode) or self._is_linked(parts[:-1]):
                os.close(descriptor)
                raise Absent(name)
        except (OSError, UnicodeEncodeError):
            raise Absent(name) from None
        return Opened(os.fdopen(descriptor, "rb", 0), lock or Lock(None, None))  # readers read in large pieces

    def _is_linked(self, folders: list[str]) -> bool:
        return any((self._directory / "/".join(folders[: n + 1])).is_symlink() for n in range(len(folders)))
