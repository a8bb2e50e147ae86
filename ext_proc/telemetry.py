"""The operational log and every metric name. The operational log is *not* the evidence log.

Log lines are JSON on standard error, one canonical line per exchange. Bodies and tokens cannot get here by type: they
travel as bytes in events and as `ext_proc.model.Secret`, and neither is ever an argument of a log call.
"""

from __future__ import annotations

import json
import sys
from bisect import bisect_left
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TextIO, cast

import structlog
from prometheus_client import Counter, Gauge, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.samples import Exemplar, Sample
from prometheus_client.utils import floatToGoString

from ext_proc.errors import AuditUnavailable

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from prometheus_client.metrics_core import Metric
    from prometheus_client.registry import Collector

Mark = tuple[str, str]
"""Whose a measurement is: the exchange's id, which Envoy made, and the trace's (empty where there is none)."""
NOBODY: Final[Mark] = ("", "")

ExemplarLine = tuple[str, dict[str, str], str, dict[str, str], float, float]

_STEP_BUCKETS: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10)
_EXCHANGE_BUCKETS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)
_HOLD_BUCKETS: Final = (1, 5, 15, 30, 60, 120, 300, 600, 1800, 3600)
_SHIP_BUCKETS: Final = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800)

EXCHANGES: Final = Counter(
    "affidavit_exchanges_total", "Exchanges by how they ended.", ["connection", "outcome", "code"]
)
STEP_SECONDS: Final = Histogram(
    "affidavit_step_seconds",
    "Time of one step of an exchange, by step.",
    ["step"],
    buckets=_STEP_BUCKETS,
)
EXCHANGE_SECONDS: Final = Histogram(
    "affidavit_exchange_seconds",
    "Time of a whole exchange, the model's and people's included, by connection.",
    ["connection"],
    buckets=_EXCHANGE_BUCKETS,
)
IN_FLIGHT: Final = Gauge("affidavit_exchanges_in_flight", "Exchanges begun and not ended.", multiprocess_mode="livesum")
ABORTED: Final = Counter("affidavit_streams_aborted_total", "Streams that the gate broke off: Envoy refused the call.")
AUTHENTICATIONS: Final = Counter(
    "affidavit_authentications_total",
    "Callers by how it went: remembered (verified just before), verified, or the code of why not.",
    ["result"],
)
DECISIONS: Final = Counter(
    "affidavit_decisions_total",
    "The policy's answers: allow, deny, approval (people must agree), break_glass, or the code of why there is none.",
    ["result"],
)
SCANNED_BYTES: Final = Counter(
    "affidavit_redaction_scanned_bytes_total", "Bytes of text that the redaction looked at.", ["direction"]
)
MODEL_TOKENS: Final = Counter(
    "affidavit_model_tokens_total", "Tokens as the services count them, by kind: input, output.", ["connection", "kind"]
)
APPROVALS: Final = Counter(
    "affidavit_approvals_total",
    "Exchanges that needed people, by how it ended: passed, left, pending (told to come back), denied, expired ...",
    ["outcome"],
)
HOLD_SECONDS: Final = Histogram(
    "affidavit_hold_seconds",
    "How long exchanges were held for people to agree, by how the hold stood then (left: the caller did).",
    ["state"],
    buckets=_HOLD_BUCKETS,
)
KEY_FETCHES: Final = Counter(
    "affidavit_jwks_fetches_total",
    "Fetches of issuers' keys, by issuer (of the configuration) and result: done, failed.",
    ["issuer", "result"],
)
COMMIT_SECONDS: Final = Histogram(
    "affidavit_evidence_commit_seconds",
    "Time from taking what waits to knowing that it is on the disk (write and fdatasync).",
    buckets=_STEP_BUCKETS,
)
COMMIT_RECORDS: Final = Counter("affidavit_evidence_commit_records_total", "Records that those commits made durable.")
SHIP_SECONDS: Final = Histogram(
    "affidavit_evidence_ship_seconds",
    "From the sealing of a segment to its being locked in the store and read back.",
    buckets=_SHIP_BUCKETS,
)
REMOVALS: Final = Counter(
    "affidavit_removals_total", "Spans removed, by direction and entity.", ["direction", "entity"]
)
UNSHIPPED_BYTES: Final = Gauge(
    "affidavit_evidence_unshipped_bytes", "Evidence on the disk, not yet in the store.", multiprocess_mode="livemax"
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
WORKER_RESTARTS: Final = Counter(
    "affidavit_worker_restarts_total", "Processes that ended by themselves and were started again, by role.", ["role"]
)
CONSOLE_SECONDS: Final = Histogram(
    "affidavit_console_request_seconds",
    "Requests to the console, by the route of its list and the hundred of the status (2xx ...).",
    ["route", "status"],
    buckets=_EXCHANGE_BUCKETS,
)


@dataclass(frozen=True, slots=True)
class Reading:
    """A gauge that is read when somebody asks, by whoever knows; no process keeps it."""

    name: str
    says: str
    labels: tuple[str, ...] = ()

    def family(self, values: Mapping[tuple[str, ...], float]) -> GaugeMetricFamily:
        """With these values, by labels."""
        made = GaugeMetricFamily(self.name, self.says, labels=self.labels)
        for labels, value in values.items():
            made.add_metric(labels, value)
        return made

    def of(self, value: float) -> GaugeMetricFamily:
        """Where there are no labels."""
        return self.family({(): value})


BUILD: Final = Reading(
    "affidavit_build_info", "Always 1: what runs, and with which configuration.", ("version", "config_sha256")
)
POLICY_INFO: Final = Reading(
    "affidavit_policy_info", "Always 1: which bundle decides, by worker.", ("worker", "revision", "digest")
)
READY: Final = Reading("affidavit_ready", "Would /ready say 200 now?")
PART_READY: Final = Reading(
    "affidavit_part_ready",
    "The parts of that, and others that stop nobody: workers, policy, evidence, store, shipper, daily, bundle. "
    "Of a console: its log (evidence), and where it stands alone store and shipper.",
    ("part",),
)
OLDEST_UNSHIPPED: Final = Reading(
    "affidavit_evidence_oldest_unshipped_seconds",
    "Since the oldest segment that is not in the store was sealed; 0 where none waits.",
)
EVIDENCE_USED: Final = Reading("affidavit_evidence_used_bytes", "Bytes of evidence on the disk.")
EVIDENCE_CAPACITY: Final = Reading(
    "affidavit_evidence_capacity_bytes", "Of those, how many there may be (audit.wal.max_bytes)."
)
DISK_FREE: Final = Reading("affidavit_disk_free_bytes", "Free on the file system of state_dir.")
QUARANTINED: Final = Reading("affidavit_evidence_quarantined_files", "Pieces of evidence that wait for a person.")
CLOCK_OFFSET: Final = Reading(
    "affidavit_clock_offset_seconds", "How far our clock is ahead of the store's; known to about a second."
)
CANARY_HOLES: Final = Reading("affidavit_canary_holes", "What the newest canary could do to a locked object.")
CANARY_AGE: Final = Reading("affidavit_canary_age_seconds", "Since the newest canary that learnt something.")
APPROVALS_PENDING: Final = Reading("affidavit_approvals_pending", "Holds that wait for people, over all replicas.")
APPROVALS_OLDEST: Final = Reading(
    "affidavit_approvals_oldest_pending_seconds", "Since the oldest of those was asked for; 0 where none waits."
)


ENVOY_EVENTS: Final = ("failure_mode_allowed", "server_half_closed", "spurious_msgs_received", "streams_failed")
"""Envoy's counters of its calls of the gate that should stay where they are (``http.PREFIX.ext_proc.``)."""


def envoy_counters(values: Mapping[str, float]) -> CounterMetricFamily:
    """What Envoy counted of its calls of the gate, by event; nothing of those that it does not tell."""
    says = "Envoy's own counters of its calls of the gate, asked of its admin interface at each scrape."
    made = CounterMetricFamily("affidavit_envoy_ext_proc", says, labels=("event",))
    for event, value in values.items():
        made.add_metric((event,), value)
    return made


def as_told(counter: Counter, values: Mapping[tuple[str, ...], float]) -> CounterMetricFamily:
    """A counter with what another process said that it counted, by labels: there are no files that the two share."""
    name, says, labels = counter._name, counter._documentation, counter._labelnames  # noqa: SLF001 - as below
    made = CounterMetricFamily(name, says, labels=labels)
    for one, value in values.items():
        made.add_metric(one, value)
    return made


class _Times:
    """What one label of a histogram is to be told: how many by bucket, their sum, and which was the newest in each."""

    __slots__ = ("counts", "edges", "newest", "seconds")

    def __init__(self, histogram: Histogram) -> None:
        self.edges: Sequence[float] = histogram._upper_bounds  # noqa: SLF001 - it has no other way to say
        self.newest: list[tuple[Mark, float, float] | None] = [None] * len(self.edges)
        """Whose, seconds, and when it was handed on (0: it was not yet)."""
        self.clear()

    def clear(self) -> None:
        """All of it was told."""
        self.counts = [0] * len(self.edges)
        self.seconds = 0.0


class _Tally:
    """What happened since the metrics were last told. Of one event loop.

    A metric of several processes is a place in a file they share: an exchange would write to nine of them, at ten times
    the cost of counting here.
    """

    def __init__(self) -> None:
        self.in_flight = 0
        self.has_exemplars = False
        self.counted: dict[tuple[Counter, tuple[str, ...]], int] = {}
        self.times: dict[tuple[Histogram, str], _Times] = {}


_tally: Final = _Tally()


def begin_with(connections: Iterable[str]) -> None:
    """Counters that alerts look at are there from the beginning: of one that begins with 1, no rise is seen."""
    for name in connections:
        GLASS_BROKEN.labels(name)
        EXCHANGES.labels(name, "unrecorded", AuditUnavailable.code)
    EXCHANGES.labels("", "unrecorded", AuditUnavailable.code)  # of exchanges that came to no connection


def exchange_began() -> None:
    """One more exchange in flight."""
    _tally.in_flight += 1


def exchange_ended(connection: str, outcome: str, code: str, seconds: float, mark: Mark = NOBODY) -> None:
    """One ended. Connections, outcomes and codes are few; nothing here may be a caller's word."""
    _tally.in_flight -= 1
    count(EXCHANGES, connection, outcome, code)
    observe(EXCHANGE_SECONDS, connection, seconds, mark)


def step_took(step: str, seconds: float, mark: Mark = NOBODY) -> None:
    """A step of an exchange is done."""
    observe(STEP_SECONDS, step, seconds, mark)


def observe(histogram: Histogram, label: str, seconds: float, mark: Mark = NOBODY) -> None:
    """Of a histogram with one label, from the event loop, what happens in exchanges; told with the rest."""
    key = (histogram, label)
    times = _tally.times.get(key)
    if times is None:
        times = _tally.times[key] = _Times(histogram)
    bucket = bisect_left(times.edges, seconds)
    times.counts[bucket] += 1
    times.seconds += seconds
    if mark is not NOBODY:
        times.newest[bucket] = (mark, seconds, 0.0)
        _tally.has_exemplars = True


def count(counter: Counter, *labels: str, by: int = 1) -> None:
    """Count, from the event loop, what happens in exchanges; told with the rest."""
    key = (counter, labels)
    _tally.counted[key] = _tally.counted.get(key, 0) + by


def tell_metrics() -> None:
    """Tell the metrics what was counted since: every second, and at the end."""
    counted, _tally.counted = _tally.counted, {}
    IN_FLIGHT.set(_tally.in_flight)
    for (counter, labels), number in counted.items():
        (counter.labels(*labels) if labels else counter).inc(number)
    for (histogram, label), times in _tally.times.items():
        _tell_times(histogram.labels(label), times)


def _tell_times(histogram: Any, times: _Times) -> None:
    histogram._sum.inc(times.seconds)  # noqa: SLF001 - its `observe` takes one at a time
    for bucket, number in zip(histogram._buckets, times.counts, strict=True):  # noqa: SLF001 - as above
        if number:
            bucket.inc(number)
    times.clear()


# Exemplars --------------------------------------------------------------------------------------------------------


def take_exemplars(at: float) -> list[ExemplarLine]:
    """The newest exchange in each bucket: name, labels, bucket, whose, seconds, when. Nothing where none is new since
    this was asked last, at most a second ago: so ``at`` is when the new ones were.

    prometheus_client has no exemplars where several processes count, so a worker hands these to the supervisor, which
    puts them beside the sums (`WithExemplars`).
    """
    told: list[ExemplarLine] = []
    if not _tally.has_exemplars:
        return told
    _tally.has_exemplars = False
    for (histogram, value), times in _tally.times.items():
        [label] = histogram._labelnames  # noqa: SLF001 - as `_upper_bounds`
        for bucket, (edge, newest) in enumerate(zip(times.edges, times.newest, strict=True)):
            if newest is not None:
                mark, seconds, known_at = newest
                times.newest[bucket] = (mark, seconds, known_at or at)
                whose = dict(zip(("exchange_id", "trace_id"), filter(None, mark), strict=False))
                place = (histogram._name, {label: value}, str(floatToGoString(edge)))  # type: ignore[no-untyped-call]  # noqa: SLF001
                told.append((*place, whose, seconds, known_at or at))
    return told


class WithExemplars:
    """A collector beside which exemplars lie: they are put on the buckets that they are of.

    Args:
        collector: of all processes.
        lines: as `take_exemplars` makes them.
    """

    def __init__(self, collector: Collector, lines: Iterable[ExemplarLine]) -> None:
        self._collector = collector
        self._known = {
            (name, tuple(labels.items()), edge): Exemplar(whose, seconds, at)
            for name, labels, edge, whose, seconds, at in lines
        }

    def collect(self) -> Iterable[Metric]:
        """See `prometheus_client.registry.Collector`."""
        for metric in self._collector.collect():
            if metric.type == "histogram":
                metric.samples = [self._with(metric.name, sample) for sample in metric.samples]
            yield metric

    def _with(self, name: str, sample: Sample) -> Sample:
        labels = dict(sample.labels)
        edge = labels.pop("le", None)
        found = self._known.get((name, tuple(labels.items()), edge)) if edge else None
        return sample if found is None else sample._replace(exemplar=found)


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
