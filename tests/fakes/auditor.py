"""The end of every test of a whole pipeline: what is in the store, exported and verified by what trusts none of us."""

from __future__ import annotations

import base64
import tempfile
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from ext_proc.evidence.export import export
from ext_proc.evidence.versions import Bucket, Lock, Version
from ext_proc.verify import verify
from tests.fakes.log import GATEWAY
from tests.fakes.signer import FakeSigner

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime
    from typing import BinaryIO

    from ext_proc.verify import Report
    from tests.fakes.store import FakeStore

HEARTBEAT_SECONDS = 60


@dataclass
class StoreVersions:
    """A `FakeStore` as `evidence.versions.VersionedStore`."""

    store: FakeStore
    at: datetime
    name = "fake"

    def bucket(self) -> Bucket:
        return Bucket("evidence", "", "Enabled", True, "COMPLIANCE", self.store.retention.days, self.at)

    def versions(self, prefix: str, after: str = "") -> Iterator[Version]:
        for key, versions in sorted(self.store.objects.items()):
            if key.startswith(prefix) and key > after:
                for number, one in enumerate(versions):
                    is_latest = number == len(versions) - 1
                    yield Version(key, str(number), is_latest, False, len(one.body), one.written_at)

    def download(self, version: Version, into: BinaryIO) -> Lock:
        one = self.store.objects[version.key][int(version.version)]
        into.write(one.body)
        return Lock(one.lock_mode, one.retain_until)


def audit(store: FakeStore, *signers: FakeSigner, after: timedelta = timedelta(days=1), receipts: str = "") -> Report:
    """Export and verify, ``after`` the last object was written: late enough for everything that belongs to a dead log."""
    at = max(one.written_at for versions in store.objects.values() for one in versions) + after
    policy = {
        "schema": "affidavit/policy/v1",
        "gateway": GATEWAY,
        "log_keys": [base64.b64encode(one.public_key).decode() for one in signers or (FakeSigner(),)],
        "retention_days": store.retention.days,
        "heartbeat_seconds": HEARTBEAT_SECONDS,
    }
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        export(StoreVersions(store, at), folder / "export", lambda _: None)
        (folder / "policy.yaml").write_text(yaml.safe_dump(policy))
        (folder / "receipts").write_text(receipts)
        return verify(
            str(folder / "export"),
            folder / "policy.yaml",
            receipts=folder / "receipts" if receipts else None,
            jobs=1,
        )


def findings(store: FakeStore, *signers: FakeSigner, after: timedelta = timedelta(days=1)) -> list[str]:
    """The codes of what `audit` found, each as often as it was found; with what stands behind it where a test fails."""
    return sorted(one.code for one in audit(store, *signers, after=after).findings)
