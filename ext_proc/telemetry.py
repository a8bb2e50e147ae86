"""The operational log and every metric name. The operational log is *not* the evidence log.

Log lines are JSON on standard error, one canonical line per exchange. Bodies and tokens cannot get here by type: they
travel as bytes in events and as `ext_proc.model.Secret`, and neither is ever an argument of a log call.
"""

from __future__ import annotations

import json
import sys
from bisect import bisect_left
from typing import Any, Final, TextIO, cast

import structlog
from prometheus_client import Counter, Gauge, Histogram

_STEP_BUCKETS: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10)

EXCHANGES: Final = Counter(
    "affidavit_exchanges_total", "Exchanges by how they ended.", ["connection", "outcome", "code"]
)
STEP_SECONDS: Final = Histogram(
    "affidavit_step_seconds",
    "Time of one step of an exchange, by step.",
    ["step"],
    buckets=_STEP_BUCKETS,
)
IN_FLIGHT: Final = Gauge("affidavit_exchanges_in_flight", "Exchanges begun and not ended.", multiprocess_mode="livesum")
REMOVALS: Final = Counter(
    "affidavit_removals_total", "Spans removed, by direction and entity.", ["direction", "entity"]
)
UNSHIPPED_BYTES: Final = Gauge(
    "affidavit_evidence_unshipped_bytes", "Evidence on the disk, not yet in the store.", multiprocess_mode="max"
)
GLASS_BROKEN: Final = Counter(
    "affidavit_break_glass_total",
    "Calls that passed without the approval they needed, in an emergency.",
    ["connection"],
)
NOTICES: Final = Counter(
    "affidavit_approval_notices_total",
    "What channels were told of held calls, by result: sent, failed (tried again), given_up, moot.",
    ["channel", "event", "result"],
)
SHIPPED_OBJECTS: Final = Counter("affidavit_evidence_objects_total", "Objects locked in the store and read back.")
SHIPPING_FAILURES: Final = Counter("affidavit_evidence_failures_total", "Failed rounds of shipping, by code.", ["code"])
POLICY_REFUSED: Final = Counter(
    "affidavit_policy_bundles_refused_total",
    "Policy bundles that were published and are not taken, by why.",
    ["reason"],
)
SHADOW_DECISIONS: Final = Counter(
    "affidavit_policy_shadow_total",
    "Decisions of the shadow policy: same, differed, dropped (it was too slow), or why there is none.",
    ["result"],
)
DAILY_RUNS: Final = Counter(
    "affidavit_daily_runs_total", "Reconciliations and roll-ups begun by themselves, by result.", ["command", "result"]
)
WORKER_STARTS: Final = Counter("affidavit_worker_starts_total", "Processes started, by role.", ["role"])


class _Times:
    """What the histogram of one step is to be told: how many by bucket, and their sum."""

    __slots__ = ("counts", "seconds")

    def __init__(self) -> None:
        self.counts = [0] * (len(_STEP_BUCKETS) + 1)
        self.seconds = 0.0


class _Tally:
    """What happened since the metrics were last told. Of one event loop.

    A metric of several processes is a place in a file they share: an exchange would write to nine of them, at ten times
    the cost of counting here.
    """

    def __init__(self) -> None:
        self.in_flight = 0
        self.ended: dict[tuple[str, str, str], int] = {}
        self.steps: dict[str, _Times] = {}


_tally: Final = _Tally()


def exchange_began() -> None:
    """One more exchange in flight."""
    _tally.in_flight += 1


def exchange_ended(connection: str, outcome: str, code: str) -> None:
    """One ended. Connections, outcomes and codes are few; nothing here may be a caller's word."""
    _tally.in_flight -= 1
    key = (connection, outcome, code)
    _tally.ended[key] = _tally.ended.get(key, 0) + 1


def step_took(step: str, seconds: float) -> None:
    """A step of an exchange is done."""
    times = _tally.steps.get(step)
    if times is None:
        times = _tally.steps[step] = _Times()
    times.counts[bisect_left(_STEP_BUCKETS, seconds)] += 1
    times.seconds += seconds


def tell_metrics() -> None:
    """Tell the metrics what was counted since: every second, and at the end."""
    ended, _tally.ended = _tally.ended, {}
    steps, _tally.steps = _tally.steps, {}
    IN_FLIGHT.set(_tally.in_flight)
    for labels, count in ended.items():
        EXCHANGES.labels(*labels).inc(count)
    for step, times in steps.items():
        histogram = STEP_SECONDS.labels(step)
        histogram._sum.inc(times.seconds)  # noqa: SLF001 - its `observe` takes one at a time
        for bucket, count in zip(histogram._buckets, times.counts, strict=True):  # noqa: SLF001 - as above
            if count:
                bucket.inc(count)


_ENCODER: Final = json.JSONEncoder(default=repr)


def _to_json(line: Any, **_: Any) -> str:
    return _ENCODER.encode(line)


class _StandardError:
    """Whatever standard error is at the time: it can be replaced after the log was set up."""

    @staticmethod
    def write(text: str) -> int:
        return sys.stderr.write(text)

    @staticmethod
    def flush() -> None:
        sys.stderr.flush()


def set_up_logging() -> None:
    """Send log lines to standard error: JSON for machines, readable on a terminal."""
    renderer: structlog.typing.Processor = (
        structlog.dev.ConsoleRenderer() if sys.stderr.isatty() else structlog.processors.JSONRenderer(_to_json)
    )
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            renderer,
        ],
        logger_factory=structlog.PrintLoggerFactory(cast("TextIO", _StandardError())),
        cache_logger_on_first_use=True,
    )


def logger() -> structlog.typing.FilteringBoundLogger:
    """The log, bound to nothing."""
    bound: structlog.typing.FilteringBoundLogger = structlog.get_logger()
    return bound
