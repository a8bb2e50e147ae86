"""Traces, from the real listener to a collector that reads OTLP: one a call, within its caller's, and without content."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import pytest
import yaml
from structlog.testing import capture_logs

from ext_proc.app import registry
from ext_proc.config import load
from ext_proc.errors import ConfigError
from ext_proc.tracing import Collector as Told
from ext_proc.tracing import Tracing
from tests.fakes import envoy
from tests.fakes.collector import Collector
from tests.fakes.configured import a_config
from tests.fakes.gate import running_gate

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from tests.fakes.collector import Seen

PLANTED: Final = "ada.lovelace@example.net"
TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
PARENT: Final = ("traceparent", f"00-{TRACE}-{SPAN}-01")
SERVER, CLIENT = 2, 3


async def _call(gate: Any, headers: Sequence[tuple[str, str]] = envoy.REQUEST) -> None:
    exchange = gate.begin()
    for question in (
        envoy.request_headers(headers),
        envoy.request_body(json.dumps({"text": PLANTED}).encode()),
        envoy.response_headers(),
        envoy.response_body(json.dumps({"text": PLANTED}).encode()),
    ):
        await exchange.ask(question)
    await exchange.half_close()
    await exchange.status()


async def _traced(headers: Sequence[tuple[str, str]], collector: Collector, **told: Any) -> list[dict[str, Any]]:
    """One call; the log's lines."""
    tracing = Tracing(Told(collector.endpoint, {"x-key": "secret"}, **told), "gw-0-0")
    with capture_logs() as lines:
        async with running_gate(tracing=tracing) as gate:
            await _call(gate, headers)
            await gate.recorder.until(2)
    await asyncio.to_thread(tracing.close)
    return list(lines)


def _one(spans: Sequence[Seen], name: str) -> Seen:
    [found] = [span for span in spans if span.name == name]
    return found


async def test_a_call_is_one_trace_within_its_callers() -> None:
    before = datetime.now(UTC).timestamp() * 1e9
    with Collector() as collector:
        lines = await _traced((*envoy.REQUEST, PARENT), collector)
        spans = collector.spans
    assert collector.paths == ["/v1/traces"]
    assert collector.headers[0]["x-key"] == "secret"
    assert {span.trace_id for span in spans} == {TRACE}
    whole = _one(spans, "exchange")
    assert (whole.parent_id, whole.kind) == (SPAN, SERVER)
    assert whole.attributes["affidavit.exchange.id"] == envoy.EXCHANGE
    assert whole.attributes["affidavit.outcome"] == "completed"
    assert whole.attributes["http.response.status_code"] == 200
    assert whole.resource["service.name"] == "affidavit"
    assert whole.resource["service.instance.id"] == "gw-0-0"
    steps = [span for span in spans if span is not whole]
    assert {span.parent_id for span in steps} == {whole.span_id}
    names = [span.name for span in steps]
    assert {"verify token", "scan", "decide", "mask request", "fetch credential", "mask answer"} <= set(names)
    assert names.count("record") == 2  # intent and outcome
    [model] = [span for span in steps if span.kind == CLIENT]
    assert model.attributes["gen_ai.operation.name"]
    for span in steps:
        assert before - 1e6 <= span.start_ns <= span.end_ns <= whole.end_ns + 1e6
        assert span.start_ns >= whole.start_ns - 1e6, span.name
    [line] = [line for line in lines if line["event"] == "exchange"]
    assert line["trace"] == TRACE
    for planted in (PLANTED, "callers-own", "ada"):
        assert all(planted.encode() not in raw for raw in collector.raw)


async def test_without_a_parent_it_begins_here() -> None:
    with Collector() as collector:
        lines = await _traced(envoy.REQUEST, collector)
    whole = _one(collector.spans, "exchange")
    assert whole.parent_id == ""
    [line] = [line for line in lines if line["event"] == "exchange"]
    assert line["trace"] == whole.trace_id


@pytest.mark.parametrize(
    "given",
    [
        ((*PARENT[:1], "00-" + "0" * 32 + f"-{SPAN}-01"),),
        (PARENT, ("traceparent", f"00-{'ab' * 16}-{SPAN}-01")),
        (("traceparent", f"00-{TRACE}-{SPAN}-01-{PLANTED}"),),
        (("traceparent", PLANTED),),
    ],
    ids=["zeros", "two", "longer", "text"],
)
async def test_parent_that_is_none_is_not_continued(given: tuple[tuple[str, str], ...]) -> None:
    with Collector() as collector:
        await _traced((*envoy.REQUEST, *given), collector)
    assert _one(collector.spans, "exchange").parent_id == ""
    assert all(PLANTED.encode() not in raw for raw in collector.raw)


async def test_caller_who_does_not_want_to_be_traced_is_not() -> None:
    """Nothing is sent; the log's line has the trace's id all the same."""
    with Collector() as collector:
        lines = await _traced((*envoy.REQUEST, ("traceparent", f"00-{TRACE}-{SPAN}-00")), collector)
    assert collector.spans == []
    [line] = [line for line in lines if line["event"] == "exchange"]
    assert line["trace"] == TRACE


async def test_of_those_that_nobody_traces_a_share_is_traced() -> None:
    with Collector() as collector:
        await _traced(envoy.REQUEST, collector, ratio=0.0)
    assert collector.spans == []


async def test_what_is_refused_says_why() -> None:
    strange = tuple((n, "Bearer nobodys") if n == "authorization" else (n, v) for n, v in envoy.REQUEST)
    with Collector() as collector:
        tracing = Tracing(Told(collector.endpoint, {}), "gw-0-0")
        async with running_gate(tracing=tracing) as gate:
            await gate.begin().ask(envoy.request_headers(strange))
            await gate.recorder.until(1)
        await asyncio.to_thread(tracing.close)
    whole, token = _one(collector.spans, "exchange"), _one(collector.spans, "verify token")
    assert whole.is_error and whole.attributes["error.type"] == "invalid_token"
    assert token.is_error and token.attributes["error.type"] == "invalid_token"
    assert not [span for span in collector.spans if span.kind == CLIENT]  # the model never heard of it


async def test_collector_that_is_away_costs_no_call() -> None:
    with Collector() as collector:
        endpoint = collector.endpoint
    tracing = Tracing(Told(endpoint, {}), "gw-0-0")
    async with running_gate(tracing=tracing) as gate:
        await _call(gate)
        await gate.recorder.until(2)
        assert gate.recorder.statuses() == ["completed"]


def _configured(folder: Path, **otlp: Any) -> Any:
    a_config(folder)
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump({**yaml.safe_load(path.read_text()), "telemetry": {"otlp": otlp}}))
    return load(path)[0]


def test_the_file_of_headers(tmp_path: Path) -> None:
    secret = tmp_path / "headers"
    config = _configured(tmp_path, endpoint="http://127.0.0.1:4318", headers_file=str(secret))
    with pytest.raises(ConfigError, match="cannot be read"):
        registry.tracing(config, "0")
    secret.write_text("no header\n")
    with pytest.raises(ConfigError, match="name: value"):
        registry.tracing(config, "0")
    secret.write_text("\nAuthorization: Bearer a:b\n")
    tracing = registry.tracing(config, "0")
    assert tracing is not None
    tracing.close()


@pytest.mark.parametrize(
    ("otlp", "expected"),
    [
        ({"endpoint": "http://collector.example.com:4318"}, "https is wanted"),
        ({"endpoint": "https://a:b@collector.example.com"}, "a key belongs in headers_file"),
        ({"endpoint": "collector:4318"}, "must be https://host:port"),
        ({"endpoint": "https://c.example.com", "sample_ratio": 1.5}, "less than or equal to 1"),
    ],
)
def test_addresses_that_are_refused(tmp_path: Path, otlp: dict[str, Any], expected: str) -> None:
    with pytest.raises(ConfigError, match=expected):
        _configured(tmp_path, **otlp)


def test_plain_http_where_it_is_spelt_out(tmp_path: Path) -> None:
    config = _configured(tmp_path, endpoint="http://collector.monitoring:4318", unsafe_allow_http=True)
    assert config.telemetry.otlp is not None


def test_off_it_costs_no_import() -> None:
    program = "import sys, ext_proc.app.serving.worker; sys.exit(any(name.startswith('opentelemetry.sdk') for name in sys.modules))"
    assert (
        subprocess.run([sys.executable, "-c", program], check=False, timeout=120, env=dict(os.environ)).returncode == 0
    )
