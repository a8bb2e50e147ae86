"""The auditor's commands: they need the bucket and the policy file, and nothing of a running gateway."""

from __future__ import annotations

import base64
import json
import os
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from cryptography.hazmat.primitives.serialization import Encoding
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from ext_proc.app import commands, registry
from ext_proc.app.evidence.printing import print_finding
from ext_proc.app.evidence.verification import CREDENTIALS, KEYS, environment_of
from ext_proc.config import load
from ext_proc.evidence.s3 import S3Versions
from ext_proc.evidence.sources import open_store
from ext_proc.evidence.versions import EvidenceError
from ext_proc.verify import VerifyError, verify

if TYPE_CHECKING:
    from ext_proc.config import Config
    from ext_proc.evidence.versions import VersionedStore
    from ext_proc.verify import Progress as Verified
    from ext_proc.verify import Report

_CLEAN, _FINDINGS, _COULD_NOT_RUN = 0, 1, 2


def verify_source(
    source: str, policy: Path, receipts: Path | None, jobs: int, *, with_payloads: bool, as_json: bool
) -> int:
    """``affidavit verify``."""
    console = Console(stderr=True)
    quiet = as_json or not console.is_terminal
    bar = Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), console=console
    )
    with nullcontext() if quiet else bar:
        task = bar.add_task("reading", total=None)

        def progress(made: Verified) -> None:
            bar.update(task, description=made.step, completed=made.objects_done, total=made.objects_total or None)

        try:
            report = verify(
                source,
                policy,
                receipts=receipts,
                jobs=jobs,
                progress=None if quiet else progress,
                without_payloads=not with_payloads,
            )
        except VerifyError as error:
            print(f"affidavit: {error}", file=sys.stderr)
            return _COULD_NOT_RUN
    if as_json:
        print(json.dumps(report.to_json(), ensure_ascii=False))
    else:
        _tell(report)
    return _CLEAN if report.ok else _FINDINGS


def of_demo(endpoints: Path, policy: Path | None) -> tuple[str, Path]:
    """A running demo's bucket and its auditor's policy; from now on this process reaches the bucket as the demo does.

    Raises:
        ConfigError: the endpoints file is none, or its demo is gone.
    """
    config, _ = commands.config_of(None, endpoints)
    if policy is None:
        policy = Path(commands.said_by_demo(endpoints, "policy"))
    reach = environment_of(config)
    for name in KEYS if CREDENTIALS in reach else ():  # else keys of our own would come before the file's
        os.environ.pop(name, None)
    os.environ.update(reach)
    return f"s3://{config.audit.s3.bucket}/{config.audit.s3.prefix}".rstrip("/"), policy


def _tell(report: Report) -> None:
    console = Console()
    for found in report.findings:
        print_finding(console, found.code, found.object, found.explanation)
    what = f"{report.leaves} records in {report.epochs} logs"
    if report.ok:
        console.print(f"✓ {what}: nothing was changed, nothing is missing", highlight=False)
    else:
        count = len(report.findings)
        console.print(f"✗ {what}: {count} finding{'' if count == 1 else 's'}", highlight=False)


def store_of_source(source: str | None, config: Config | None) -> VersionedStore:
    """A bucket by its URL, the directory of an export, or the configured bucket.

    Raises:
        EvidenceError: it cannot be used.
    """
    if source is not None:
        return open_store(source)
    if config is None:
        raise EvidenceError("name a bucket (s3://bucket/prefix), the directory of an export, or --config")
    s3 = config.audit.s3
    return S3Versions(s3.bucket, s3.prefix, s3.region, s3.endpoint, s3.credentials_file)


def auditor_policy(config: Config) -> dict[str, Any]:
    """What an auditor must know beforehand, and gets from us once, by a way that they trust.

    Raises:
        ConfigError: the signing key is not there.
        AuditUnavailable: whoever keeps it does not answer.
    """
    audit = config.audit
    policy: dict[str, Any] = {
        "schema": "affidavit/policy/v1",
        "gateway": audit.origin,
        "log_keys": [base64.b64encode(registry.log_signer(config).public_key).decode()],
        "retention_days": audit.s3.retention_days,
        "heartbeat_seconds": audit.heartbeat_seconds,
        "clock_tolerance_seconds": 300,
    }
    if audit.time_stamp_authorities:
        certificates = [one for told in registry.outsiders(config).authorities for one in told.certificates]
        policy["tsa_certificates"] = [one.public_bytes(Encoding.PEM).decode() for one in certificates]
    if audit.witnesses:
        policy["witnesses"] = {"keys": [one.key for one in audit.witnesses], "quorum": audit.witness_quorum}
    return policy


def print_auditor_policy(path: Path) -> int:
    """``affidavit auditor-policy``."""
    config, _ = load(path)
    print(yaml.safe_dump(auditor_policy(config), sort_keys=False), end="")
    return _CLEAN
