"""`ext_proc.edge.bootstrap`: values into the readable file, nothing else. Envoy's own opinion is asked in tests/e2e."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from ext_proc.edge import EdgeSettings, TlsSettings, render_bootstrap
from ext_proc.errors import ConfigError

SETTINGS = EdgeSettings(
    directory=Path("/run/affidavit/envoy"),
    http_host="127.0.0.1",
    http_port=8080,
    admin_host="127.0.0.1",
    admin_port=9901,
    access_log=Path("/var/log/access.jsonl"),
    worker_sockets=(Path("/run/0.sock"), Path("/run/1.sock")),
    hold_seconds=45.0,
    buffer_bytes=1234567,
)
TLS = TlsSettings("0.0.0.0", 8443, Path("/c.pem"), Path("/k.pem"))


def _rendered(settings: EdgeSettings) -> Any:
    return yaml.safe_load(render_bootstrap(settings))


def _manager(listener: Any) -> Any:
    return listener["filter_chains"][0]["filters"][0]["typed_config"]


def test_plain_listener_only() -> None:
    [listener] = _rendered(SETTINGS)["static_resources"]["listeners"]

    assert listener["address"]["socket_address"] == {"address": "127.0.0.1", "port_value": 8080}
    assert listener["per_connection_buffer_limit_bytes"] == 1234567


def test_admin_interface() -> None:
    """On a socket it is for Envoy's user and the gate's group: others in the pod reach loopback, and not this file."""
    host = _rendered(SETTINGS)["admin"]["address"]
    assert host == {"socket_address": {"address": "127.0.0.1", "port_value": 9901}}
    path = '/run/"envoy" #/admin.sock'
    pipe = _rendered(replace(SETTINGS, admin_socket=Path(path)))["admin"]["address"]
    assert pipe == {"pipe": {"path": path, "mode": 0o660}}


def test_filters_stand_in_the_order_that_the_gates_need() -> None:
    """The response gate before, the request gate behind ext_proc; behind it what the gate may not take off."""
    manager = _manager(_rendered(SETTINGS)["static_resources"]["listeners"][0])

    assert [item["name"] for item in manager["http_filters"]] == [
        "affidavit.response_gate",
        "envoy.filters.http.ext_proc",
        "affidavit.request_gate",
        "affidavit.nothing_of_envoys",
        "envoy.filters.http.router",
    ]


def test_log_holds_nothing_that_a_caller_wrote() -> None:
    """Method and path are the gate's words: a path may hold a name, and a megabyte."""
    manager = _manager(_rendered(SETTINGS)["static_resources"]["listeners"][0])
    logged = manager["access_log"][0]["typed_config"]["log_format"]["json_format"]

    assert {logged["method"], logged["path"]} == {
        "%DYNAMIC_METADATA(affidavit:method)%", "%DYNAMIC_METADATA(affidavit:path)%"
    }  # fmt: skip
    assert not [name for name, said in logged.items() if any(word in said for word in ("REQ(", "PATH(", "RESP("))]


def test_ext_proc_fails_closed_and_waits_for_a_hold() -> None:
    manager = _manager(_rendered(SETTINGS)["static_resources"]["listeners"][0])
    config = manager["http_filters"][1]["typed_config"]

    assert config["failure_mode_allow"] is False
    assert config["message_timeout"] == "45.000s"
    assert manager["stream_idle_timeout"] == "75.000s"
    assert (
        config["processing_mode"]["request_body_mode"],
        config["processing_mode"]["response_body_mode"],
    ) == (
        "BUFFERED",
        "BUFFERED",
    )


def test_every_worker_is_an_endpoint() -> None:
    [cluster] = _rendered(SETTINGS)["static_resources"]["clusters"]
    endpoints = cluster["load_assignment"]["endpoints"][0]["lb_endpoints"]

    assert [item["endpoint"]["address"]["pipe"]["path"] for item in endpoints] == [
        "/run/0.sock",
        "/run/1.sock",
    ]


def test_tls_listener_has_the_same_connection_manager() -> None:
    plain, tls = _rendered(replace(SETTINGS, tls=TLS))["static_resources"]["listeners"]
    context = tls["filter_chains"][0]["transport_socket"]["typed_config"]

    assert _manager(tls) == _manager(plain)
    assert context["require_client_certificate"] is False
    assert "validation_context" not in context["common_tls_context"]


def test_tls_listener_with_client_certificates() -> None:
    tls = replace(TLS, client_ca_file=Path("/ca.pem"), require_client_certificate=True)
    listener = _rendered(replace(SETTINGS, tls=tls))["static_resources"]["listeners"][1]
    context = listener["filter_chains"][0]["transport_socket"]["typed_config"]

    assert context["require_client_certificate"] is True
    assert context["common_tls_context"]["validation_context"] == {"trusted_ca": {"filename": "/ca.pem"}}


@pytest.mark.parametrize("odd", ['/a "b"/c', "/a $b ${c}", "/a: b #c", "/a\\b"])
def test_paths_are_quoted(odd: str) -> None:
    """A path is a path, whatever it holds: neither YAML nor another name to fill in."""
    rendered = _rendered(replace(SETTINGS, access_log=Path(odd), worker_sockets=(Path(odd),)))
    manager = _manager(rendered["static_resources"]["listeners"][0])

    assert manager["access_log"][0]["typed_config"]["path"] == odd


@pytest.mark.parametrize(
    "wrong",
    [
        {"worker_sockets": ()},
        {"hold_seconds": 0.0},
        {"hold_seconds": 3601.0},
        {"tls": replace(TLS, require_client_certificate=True)},
    ],
)
def test_contradictions_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        render_bootstrap(replace(SETTINGS, **wrong))


def test_missing_template_is_a_configuration_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("ext_proc.edge.bootstrap.TEMPLATES", tmp_path)

    with pytest.raises(ConfigError):
        render_bootstrap(SETTINGS)
