"""Traces to a collector that is hostile or broken: nothing waits for it, and nothing of it gets in."""

from __future__ import annotations

import itertools
import time
from typing import TYPE_CHECKING, Any, Final

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SpanExportResult

from ext_proc.errors import ConfigError
from ext_proc.otlp import Exporter
from ext_proc.tracing import Collector as Told
from ext_proc.tracing import Tracing
from tests.fakes.collector import Collector
from tests.fakes.raw_server import raw_server

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SUCCESS, FAILURE = SpanExportResult.SUCCESS, SpanExportResult.FAILURE
SECRET: Final = {"x-key": "planted-secret"}
HEAD: Final = b"HTTP/1.1 200 OK\r\ncontent-type: application/x-protobuf\r\n"
PLANTED: Final = b'planted"}\x1b[31m'


def spans() -> list[Any]:
    span: Any = TracerProvider().get_tracer("t").start_span("exchange")
    span.end()
    return [span]


def exporter(url: str, **more: Any) -> tuple[Exporter, list[str | None]]:
    """One, and what it tells."""
    told: list[str | None] = []
    return Exporter(f"{url}/v1/traces", SECRET, None, told.append, **more), told


def drip(head: bytes) -> Iterator[bytes]:
    yield head
    while True:
        yield b"x"
        time.sleep(0.01)


@pytest.mark.parametrize("head", [b"HTTP/1.1 200 ", HEAD + b"x-a: "], ids=["in its first line", "in a header"])
def test_who_drips_is_left_at_the_deadline(head: bytes) -> None:
    """(With OpenTelemetry's own exporter this test never ends.)"""
    with raw_server(lambda: drip(head)) as (url, _):
        sending, told = exporter(url, deadline_seconds=0.3)
        assert sending.export(spans()) is FAILURE
    assert told == ["too_slow"]


def test_interim_answers_without_end_are_left_at_the_deadline() -> None:
    with raw_server(lambda: itertools.repeat(b"HTTP/1.1 100 Continue\r\n\r\n" * 10)) as (url, _):
        sending, told = exporter(url, deadline_seconds=0.3)
        assert sending.export(spans()) is FAILURE
    assert len(told) == 1


def test_of_the_answer_only_the_status_is_read() -> None:
    """However much follows."""
    endless = itertools.chain([HEAD + b"content-length: 99999999999\r\n\r\n"], itertools.repeat(b"x" * 65536))
    with raw_server(lambda: endless) as (url, _):
        sending, told = exporter(url)
        assert sending.export(spans()) is SUCCESS
    assert told == []


def test_no_redirect_is_followed() -> None:
    """A key for the collector, and what is told to it, goes nowhere else."""
    with raw_server(lambda: iter(())) as (trap, trapped):
        said = f"HTTP/1.1 307 Moved\r\nlocation: {trap}/v1/traces\r\ncontent-length: 0\r\n\r\n".encode()
        with raw_server(lambda: iter([said])) as (url, heard):
            sending, told = exporter(url)
            assert sending.export(spans()) is FAILURE
    assert (len(heard), trapped, told) == (1, [], ["status_307"])


def test_no_proxy_of_the_environments_and_no_password(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login planted password planted\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    with raw_server(lambda: iter(())) as (trap, trapped), Collector() as collector:
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
            monkeypatch.setenv(name, trap)
        for name in ("NO_PROXY", "no_proxy"):
            monkeypatch.delenv(name, raising=False)
        sending, _ = exporter(collector.endpoint)
        assert sending.export(spans()) is SUCCESS
    assert trapped == []
    assert collector.headers[0]["x-key"] == "planted-secret"
    assert "authorization" not in collector.headers[0]


def test_nothing_of_its_words_is_said(capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture) -> None:
    said = b"HTTP/1.1 400 %s\r\ncontent-length: 7\r\n\r\nplanted" % PLANTED
    with raw_server(lambda: iter([said])) as (url, _):
        sending, told = exporter(url)
        assert sending.export(spans()) is FAILURE
    shown = capfd.readouterr()
    assert "planted" not in repr((told, caplog.text, shown))
    assert len(told) == 1


def test_what_passes_is_tried_again_and_told_once() -> None:
    answers = iter([b"503 no", b"429 no", b"200 OK", b"400 no", b"400 no", b"200 OK"])

    def answer() -> Iterator[bytes]:
        yield b"HTTP/1.1 %s\r\ncontent-length: 0\r\n\r\n" % next(answers)

    with raw_server(answer) as (url, heard):
        sending, told = exporter(url)
        assert sending.export(spans()) is SUCCESS
        assert len(heard) == 3
        assert [sending.export(spans()) for _ in range(3)] == [FAILURE, FAILURE, SUCCESS]
    assert told == ["status_400", None]


def test_at_the_end_there_is_one_deadline_for_all_that_waits() -> None:
    with raw_server(lambda: drip(HEAD + b"x-a: ")) as (url, heard):
        sending, _ = exporter(url, deadline_seconds=0.3)
        sending.hurry()
        assert [sending.export(spans()) for _ in range(5)] == [FAILURE] * 5
        assert len(heard) == 1


def test_authorities_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no certificates"):
        Tracing(Told("https://127.0.0.1:1", {}, str(tmp_path / "none.pem")), "gw-0-0")
