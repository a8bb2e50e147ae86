"""``affidavit canary``: try now whether the store keeps what it locks, and put on record what came of it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from rich.console import Console

from ext_proc.app import registry
from ext_proc.app.logs import Journal
from ext_proc.app.process import clock
from ext_proc.app.serving.shipping import store_of
from ext_proc.audit.canary_report import compare
from ext_proc.audit.canary_s3 import run_canary
from ext_proc.audit.origin import Origin
from ext_proc.audit.store import StoreRefused, StoreUnavailable
from ext_proc.config import load
from ext_proc.errors import AuditUnavailable
from ext_proc.record_kinds import LeafKind

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from ext_proc.audit.canary import CanaryReport
    from ext_proc.model import Receipt


def run(paths: Sequence[Path], *, as_json: bool) -> int:
    """Exit status 0 only if every store held in every check."""
    made = [_run(path) for path in paths]
    reports = [report for report, _ in made]
    if as_json:
        for report, placed in made:
            record = {"origin": placed.origin, "sequence": placed.sequence}
            print(json.dumps({**report.leaf_fields(), "holes": list(report.holes), "record": record}))
    else:
        Console().print(compare(reports))
        for report, placed in made:
            held = "keeps what it locks" if report.ok else f"has holes: {', '.join(report.holes)}"
            print(f"{report.store} {held}; record {placed.sequence} of {placed.origin}")
    return 0 if all(report.ok for report in reports) else 1


def _run(path: Path) -> tuple[CanaryReport, Receipt]:
    config, digest = load(path)
    store, bucket = store_of(config), config.audit.s3.bucket
    with Journal(config, digest, "command", registry.keyring(config)) as journal:
        epoch = Origin.read(journal.origin).epoch
        try:
            report = run_canary(store.client, bucket, store.prefix, epoch, clock)
        except (StoreUnavailable, StoreRefused) as error:
            raise AuditUnavailable(f"bucket {bucket}: {error}; nothing is known of the store") from None
        return report, journal.note(LeafKind.WORM_CANARY, report.leaf_fields())
