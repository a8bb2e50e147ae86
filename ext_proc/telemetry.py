"""The operational log and every metric name. The operational log is *not* the evidence log.

Log lines are JSON on standard error, one canonical line per exchange. Bodies and tokens cannot get here by type: they
travel as bytes in events and as `ext_proc.model.Secret`, and neither is ever an argument of a log call.
"""

from __future__ import annotations

import sys
from functools import cache
from typing import Final

import structlog
from prometheus_client import Counter, Gauge, Histogram

EXCHANGES: Final = Counter(
    "affidavit_exchanges_total", "Exchanges by how they ended.", ["connection", "outcome", "code"]
)
STEP_SECONDS: Final = Histogram(
    "affidavit_step_seconds",
    "Time of one step of an exchange, by step.",
    ["step"],
    buckets=(0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10),
)
IN_FLIGHT: Final = Gauge("affidavit_exchanges_in_flight", "Exchanges begun and not ended.", multiprocess_mode="livesum")
REMOVALS: Final = Counter(
    "affidavit_removals_total", "Spans removed, by direction and entity.", ["direction", "entity"]
)
UNSHIPPED_BYTES: Final = Gauge(
    "affidavit_evidence_unshipped_bytes", "Evidence on the disk, not yet in the store.", multiprocess_mode="max"
)
SHIPPED_OBJECTS: Final = Counter("affidavit_evidence_objects_total", "Objects locked in the store and read back.")
SHIPPING_FAILURES: Final = Counter("affidavit_evidence_failures_total", "Failed rounds of shipping, by code.", ["code"])
WORKER_STARTS: Final = Counter("affidavit_worker_starts_total", "Processes started, by role.", ["role"])


@cache
def step_seconds(step: str) -> Histogram:
    """The histogram of one step: looking a label up costs more than observing."""
    return STEP_SECONDS.labels(step)


@cache
def exchanges(connection: str, outcome: str, code: str) -> Counter:
    """The counter of one way to end (connections, outcomes and codes are few)."""
    return EXCHANGES.labels(connection, outcome, code)


def set_up_logging() -> None:
    """Send log lines to standard error: JSON for machines, readable on a terminal."""
    renderer: structlog.typing.Processor = (
        structlog.dev.ConsoleRenderer() if sys.stderr.isatty() else structlog.processors.JSONRenderer()
    )
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            renderer,
        ],
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )


def logger() -> structlog.typing.FilteringBoundLogger:
    """The log, bound to nothing."""
    bound: structlog.typing.FilteringBoundLogger = structlog.get_logger()
    return bound
