"""OpenTelemetry traces: one for each exchange, within the trace that Envoy or the caller is in (W3C Trace Context).

Off unless the configuration names a collector (``telemetry.otlp``); then nothing of this is imported. What is sent are
names of steps, codes, counts, times, and model names of calls that were let on: never content, and nobody's name.

Spans are handed to a thread of the library's, which sends them in batches; where the collector is away they are
dropped, for no exchange waits for it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from time import perf_counter
from typing import TYPE_CHECKING, Any, Final

from ext_proc import __version__
from ext_proc.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from datetime import datetime

SENT_AT_ONCE: Final = 512
KEPT_MAX: Final = 8192
"""Spans that wait to be sent; what comes beyond is dropped."""
_SEND_MILLISECONDS: Final = 1000
_NANO: Final = 1_000_000_000
_PARENT: Final = re.compile(r"00-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})")
_STEPS: Final = {
    "Authenticate": "verify token",
    "Inspect": "scan",
    "Decide": "decide",
    "AskApproval": "ask people",
    "AwaitApproval": "hold",
    "OpenTokens": "open tokens",
    "RedactRequest": "mask request",
    "RedactResponse": "mask answer",
    "RedactPiece": "mask piece",
    "Unlock": "fetch credential",
    "Record": "record",
}
"""What a step's span is called; the others are too short to be seen."""


@dataclass(frozen=True, slots=True)
class Collector:
    """Where spans go: an OTLP/HTTP address (``…/v1/traces`` is put behind it), and what it wants to be told.

    ``ratio``: of exchanges whose caller's trace says nothing, how many are traced.
    """

    endpoint: str
    headers: Mapping[str, str]
    ca_file: str | None = None
    ratio: float = 1.0


class Tracing:
    """Makes traces, and sends them.

    Args:
        collector: where to.
        instance: of which process they are.
        tell: told when the collector begins not to take them, and why; None: it takes them again.

    Raises:
        ConfigError: OpenTelemetry is not installed, or no authorities can be read.
    """

    def __init__(
        self, collector: Collector, instance: str, tell: Callable[[str | None], None] = lambda _: None
    ) -> None:
        try:
            from opentelemetry.sdk.resources import Resource
            from opentelemetry.sdk.trace import SpanLimits, TracerProvider
            from opentelemetry.sdk.trace.export import BatchSpanProcessor
            from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased

            from ext_proc.otlp import Exporter
        except ImportError:
            raise ConfigError("telemetry.otlp: needs OpenTelemetry: install affidavit[otel]") from None
        url = f"{collector.endpoint.rstrip('/')}/v1/traces"
        try:
            self._exporter = exporter = Exporter(url, collector.headers, collector.ca_file, tell)
        except OSError:  # `ssl.SSLError` is one
            raise ConfigError(f"telemetry.otlp.ca_file: {collector.ca_file}: no certificates can be read") from None
        named = {"service.name": "affidavit", "service.version": __version__, "service.instance.id": instance}
        self._provider = TracerProvider(
            sampler=ParentBased(TraceIdRatioBased(collector.ratio)),
            resource=Resource(named),
            shutdown_on_exit=False,
            span_limits=SpanLimits(max_span_attributes=64, max_events=8),
        )
        self._provider.add_span_processor(
            BatchSpanProcessor(
                exporter,
                max_queue_size=KEPT_MAX,
                max_export_batch_size=SENT_AT_ONCE,
                schedule_delay_millis=_SEND_MILLISECONDS,
            )
        )
        self._tracer = self._provider.get_tracer("affidavit", __version__)

    def begin(self, parents: Sequence[str], exchange_id: str, at: datetime) -> Trace:
        """A trace of an exchange, within the one that ``parents`` names: one, in its form, or it begins here."""
        return Trace(self._tracer, parents, exchange_id, at)

    def close(self) -> None:
        """Send what waits, within a few seconds."""
        self._exporter.hurry()
        self._provider.shutdown()


class Trace:
    """One exchange's. Call from one thread."""

    def __init__(self, tracer: Any, parents: Sequence[str], exchange_id: str, at: datetime) -> None:
        from opentelemetry import trace

        self._api, self._tracer = trace, tracer
        self._began, self._began_ns = perf_counter(), int(at.timestamp() * _NANO)
        within = _remote(trace, parents)
        told = {"affidavit.exchange.id": exchange_id}
        self._span = tracer.start_span(
            "exchange", within, kind=trace.SpanKind.SERVER, attributes=told, start_time=self._began_ns
        )
        self._inside = trace.set_span_in_context(self._span)
        context = self._span.get_span_context()
        self.trace_id: Final[str] = trace.format_trace_id(context.trace_id)
        """Of the trace, in hex; known also where it is not sampled."""

    def step(self, step: str, seconds: float, code: str | None) -> None:
        """A step has just ended; ``code``: why not well."""
        if (name := _STEPS.get(step)) is None or not self._span.is_recording():
            return
        now = self._now()
        started = now - int(seconds * _NANO)
        span = self._tracer.start_span(name, self._inside, attributes={"affidavit.step": step}, start_time=started)
        self._fail(span, code)
        span.end(now)

    def upstream(self, attributes: Mapping[str, Any], times: tuple[datetime, datetime]) -> None:
        """The model's part, from the call's going on to the head of its answer; named as the conventions have it."""
        if not self._span.is_recording():
            return
        started, ended = (int(at.timestamp() * _NANO) for at in times)
        words = (attributes.get("gen_ai.operation.name"), attributes.get("gen_ai.request.model"))
        span = self._tracer.start_span(
            " ".join(str(word) for word in words if word) or "upstream",
            self._inside,
            kind=self._api.SpanKind.CLIENT,
            attributes=dict(attributes),
            start_time=started,
        )
        span.end(ended)

    def end(self, attributes: Mapping[str, Any]) -> None:
        """It is over."""
        if self._span.is_recording():
            self._span.set_attributes(dict(attributes))
            self._fail(self._span, attributes.get("error.type"))
        self._span.end(self._now())

    def _now(self) -> int:
        return self._began_ns + int((perf_counter() - self._began) * _NANO)

    def _fail(self, span: Any, code: Any) -> None:
        if code:
            span.set_attribute("error.type", str(code))
            span.set_status(self._api.StatusCode.ERROR, str(code))


def _remote(trace: Any, parents: Sequence[str]) -> Any:
    """The context that a ``traceparent`` names; an empty one where there is none, two, or one of another form."""
    from opentelemetry.context import Context

    found = _PARENT.fullmatch(parents[0]) if len(parents) == 1 else None
    if found is None:
        return Context()
    context = trace.SpanContext(
        int(found[1], 16), int(found[2], 16), is_remote=True, trace_flags=trace.TraceFlags(int(found[3], 16))
    )
    return trace.set_span_in_context(trace.NonRecordingSpan(context), Context()) if context.is_valid else Context()
