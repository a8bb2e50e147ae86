"""The process that takes evidence from the disk to the store. It alone knows boto3."""

from __future__ import annotations

import signal
from datetime import timedelta
from threading import Event
from typing import TYPE_CHECKING, Final

from ext_proc import telemetry
from ext_proc.app import registry
from ext_proc.app.process import clock, end_with_parent, tell
from ext_proc.audit.s3 import S3Store
from ext_proc.audit.shipper import Shipper
from ext_proc.config import load

if TYPE_CHECKING:
    from pathlib import Path

    from ext_proc.audit.shipper import ShipReport
    from ext_proc.config import Config

INTERVAL_SECONDS: Final = 0.5

_log = telemetry.logger()


def store_of(config: Config) -> S3Store:
    """The configured store."""
    s3 = config.audit.s3
    return S3Store(s3.bucket, s3.prefix, s3.region, s3.endpoint, s3.credentials_file)


def run(config_path: Path) -> int:
    """The shipper's whole life: until SIGTERM, then one last round."""
    end_with_parent()
    telemetry.set_up_logging()
    config, _ = load(config_path)
    directory = registry.evidence_directory(config)
    directory.mkdir(parents=True, exist_ok=True)
    stop = Event()
    for name in (signal.SIGTERM, signal.SIGINT):
        signal.signal(name, lambda *_: stop.set())
    shipper = Shipper(directory, store_of(config), timedelta(days=config.audit.s3.retention_days), clock)

    def report(made: ShipReport) -> None:
        telemetry.SHIPPED_OBJECTS.inc(len(made.shipped))
        for failure in made.failures:
            telemetry.SHIPPING_FAILURES.labels(failure.partition(":")[0]).inc()
            _log.warning("evidence not shipped, kept on disk", failure=failure)
        for one in made.quarantined:
            telemetry.SHIPPING_FAILURES.labels("quarantined").inc()
            _log.error("segment put in quarantine: a person must look", segment=one)
        state = {"at": clock().timestamp(), "is_ready": not made.failures, "failures": made.failures[:3]}
        tell(config.run_dir, "shipper", state)

    shipper.run(stop, INTERVAL_SECONDS, report)
    return 0
