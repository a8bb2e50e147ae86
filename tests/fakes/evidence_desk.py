"""The console's evidence half over a small recorded gateway in memory."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Any

from ext_proc.app.console.evidence import ConsoleEvidence
from ext_proc.app.console.policies import Bundles, out_of
from ext_proc.app.evidence.verification import WholeVerification
from tests.fakes.indexed import Indexed
from tests.fakes.recorded import GATEWAY, FakeJournal, Recorded

if TYPE_CHECKING:
    from pathlib import Path


class Desk:
    """``journal`` has what was recorded of reading; the verification of the whole says what the file ``report`` has."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.recorded = Recorded.at(folder)
        self.indexed = Indexed(self.recorded.store, folder / "console")
        self.clock = self.indexed.clock
        self.journal = FakeJournal()
        self.whole = WholeVerification(
            folder / "console", "fake", self.policy, {}, self.clock, ("/bin/sh", "-c", self.verifier, "verify")
        )
        (folder / "status").write_text("0")
        (folder / "report").write_text(json.dumps({"ok": True, "leaves": 1, "epochs": 1, "findings": []}))
        self.bundle = folder / "bundle.tar.gz"
        self.exchanges = ConsoleEvidence(
            self.indexed.index, self.recorded.store, self.recorded.keyring, self.journal, policy=self.policy,
            bundles=Bundles(folder / "console", self.bundle, out_of(self.recorded.store)), whole=self.whole, clock=self.clock,
        )  # fmt: skip

    def policy(self) -> dict[str, Any]:
        return {
            "schema": "affidavit/policy/v1", "gateway": GATEWAY, "retention_days": 400, "heartbeat_seconds": 60,
            "log_keys": [base64.b64encode(self.recorded.signer.public_key).decode()],
        }  # fmt: skip

    @property
    def verifier(self) -> str:
        """A program that says what is in a file, and counts how often it was run."""
        return f'echo "$@" >> {self.folder}/ran; cat {self.folder}/report; exit $(cat {self.folder}/status)'

    def tenant(self, name: str) -> str:
        return self.recorded.keyring.reference("tenant", name)

    def close(self) -> None:
        self.exchanges.close()
        self.whole.stop()
        self.indexed.indexer.close()
