"""`evidence.versions.VersionedStore` in memory, held to the same contract as SeaweedFS and an export."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from ext_proc.evidence.versions import Absent, Bucket, Lock, Version

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import BinaryIO

START = datetime(2026, 11, 25, 9, 0, tzinfo=UTC)
DAYS = 400


@dataclass
class FakeVersions:
    """Versions in the order in which they were put. ``downloads``: the keys that were read, in order."""

    prefix: str = ""
    at: datetime = datetime(2026, 11, 26, tzinfo=UTC)
    versioning: str = "Enabled"
    puts: list[tuple[str, bytes | None, datetime]] = field(default_factory=list)
    vanished: set[str] = field(default_factory=set)
    downloads: list[str] = field(default_factory=list)

    name = "fake"

    def put(self, key: str, body: bytes | None, at: datetime | None = None) -> None:
        """Add a version; ``None`` is a delete marker. Without a time, each is a second later than the last."""
        self.puts.append((key, body, at or START + timedelta(seconds=len(self.puts))))

    def bucket(self) -> Bucket:
        return Bucket("evidence", self.prefix, self.versioning, True, "COMPLIANCE", DAYS, self.at)

    def versions(self, prefix: str, after: str = "") -> Iterator[Version]:
        newest = {key: number for number, (key, _, _) in enumerate(self.puts)}
        found = [
            Version(key, str(number), newest[key] == number, body is None, len(body or b""), at)
            for number, (key, body, at) in enumerate(self.puts)
            if key.startswith(prefix) and key > after
        ]
        yield from sorted(found, key=lambda one: (one.key, int(one.version)))

    def download(self, version: Version, into: BinaryIO) -> Lock:
        self.downloads.append(version.key)
        body = self.puts[int(version.version)][1]
        if body is None or version.key in self.vanished:
            raise Absent(f"{version.key} is not there")
        into.write(body)
        return Lock("COMPLIANCE", version.last_modified + timedelta(days=DAYS))
