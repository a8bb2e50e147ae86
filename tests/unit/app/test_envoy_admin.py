"""What is asked of Envoy's admin interface, and what is made of no answer."""

from __future__ import annotations

import json
from http.server import BaseHTTPRequestHandler, HTTPServer
from socket import AF_INET, AF_UNIX
from socketserver import TCPServer
from threading import Thread
from typing import TYPE_CHECKING, Any

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families

from ext_proc.app.envoy_admin import ask_envoy
from ext_proc.app.serving.scraping import EnvoyCollector, encoded
from ext_proc.demo.programs import free_ports

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class Admin(HTTPServer):
    """Says one thing, and keeps what it was asked."""

    status, said = 200, b""

    def __init__(self, at: tuple[str, int] | str = ("127.0.0.1", 0)) -> None:
        self.asked: list[tuple[str, str]] = []
        self.address_family = AF_UNIX if isinstance(at, str) else AF_INET
        super().__init__(at, Asked)  # type: ignore[arg-type]

    def server_bind(self) -> None:
        TCPServer.server_bind(self)  # HTTPServer's asks for a host's name

    @property
    def address(self) -> str:
        at = self.server_address
        return f"unix:{at}" if isinstance(at, str) else f"127.0.0.1:{at[1]}"


class Asked(BaseHTTPRequestHandler):
    server: Admin

    def do_GET(self) -> None:
        self.server.asked.append((self.command, self.path))
        self.send_response(self.server.status)
        self.end_headers()
        self.wfile.write(self.server.said)

    do_POST = do_GET  # noqa: N815 - the library's name

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(params=["port", "socket"])
def admin(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Admin]:
    with Admin() if request.param == "port" else Admin(str(tmp_path / "admin.sock")) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def _told(address: str) -> dict[tuple[str, str], float]:
    registry = CollectorRegistry()
    registry.register(EnvoyCollector(address))
    body = encoded(registry, "").body
    assert isinstance(body, bytes)
    samples = [one for family in text_string_to_metric_families(body.decode()) for one in family.samples]
    return {(one.name, one.labels["event"]): one.value for one in samples}


def test_what_it_says(admin: Admin) -> None:
    admin.said = b"well"
    assert ask_envoy(admin.address, "/ready") == b"well"
    assert ask_envoy(admin.address, "/reopen_logs", "POST") == b"well"
    assert admin.asked == [("GET", "/ready"), ("POST", "/reopen_logs")]


def test_no_proxy_answers_for_it(admin: Admin, monkeypatch: pytest.MonkeyPatch) -> None:
    """The store may need one."""
    [closed] = free_ports(1)
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{closed}")
    monkeypatch.delenv("no_proxy", raising=False)
    admin.said = b"well"
    assert ask_envoy(admin.address, "/ready") == b"well"


def test_no_answer(admin: Admin) -> None:
    admin.status = 503
    assert ask_envoy(admin.address, "/ready") is None
    [closed] = free_ports(1)
    assert ask_envoy(f"127.0.0.1:{closed}", "/ready") is None
    assert ask_envoy("unix:/nowhere/admin.sock", "/ready") is None


def test_counters_of_both_listeners_are_one(admin: Admin) -> None:
    admin.said = json.dumps(
        {
            "stats": [
                {"name": "http.gate.ext_proc.streams_failed", "value": 2},
                {"name": "http.plain.ext_proc.streams_failed", "value": 1},
                {"name": "http.gate.ext_proc.server_half_closed", "value": 0},
            ]
        }
    ).encode()
    name = "affidavit_envoy_ext_proc_total"
    assert _told(admin.address) == {(name, "streams_failed"): 3, (name, "server_half_closed"): 0}
    [(_, path)] = admin.asked
    assert path.startswith("/stats?format=json&filter=ext_proc%5C.%28failure_mode_allowed%7C")


@pytest.mark.parametrize("said", [b"", b"no JSON", b"[]", b'{"stats": [{"value": 1}]}', b'{"stats": [{"name": 1}]}'])
def test_what_is_no_answer_of_envoys_is_no_metric(admin: Admin, said: bytes) -> None:
    admin.said = said
    assert _told(admin.address) == {}


def test_no_envoy_is_no_metric() -> None:
    [closed] = free_ports(1)
    found: Any = _told(f"127.0.0.1:{closed}")
    assert found == {}
