"""`affidavit doctor`: whatever Envoy runs with that is not this configuration's is found, listed by us or not."""

from __future__ import annotations

import copy
import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from ext_proc.app.doctor import asking, edge
from ext_proc.app.doctor import run as doctor
from ext_proc.app.doctor.envoy import FAIL, OK, WARN
from ext_proc.edge import EdgeConnection, EdgeSettings, TlsSettings, render_bootstrap, render_clusters, render_routes
from tests.fakes.configured import a_config

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SETTINGS = EdgeSettings(
    directory=Path("/run/envoy"),
    http_host="127.0.0.1",
    http_port=8080,
    admin_host="127.0.0.1",
    admin_port=9901,
    access_log=Path("/var/log/access.jsonl"),
    worker_sockets=(Path("/run/worker-0"),),
    hold_seconds=60.5,
    buffer_bytes=4 << 20,
    tls=TlsSettings("0.0.0.0", 8443, Path("/tls/cert.pem"), Path("/tls/key.pem")),
)
MODEL = EdgeConnection(
    name="model", hosts=("*",), path_prefix="/v1/", url="https://model.example.com", ca_file=Path("/tls/ca.pem"),
    connect_timeout_seconds=1, request_limit_bytes=1, response_limit_bytes=1, idle_timeout_seconds=1,
)  # fmt: skip
TYPES = "type.googleapis.com/envoy.extensions.filters"
OFF = {"envoy.filters.http.ext_proc": {"@type": f"{TYPES}.http.ext_proc.v3.ExtProcPerRoute", "disabled": True}}


def as_envoy_says_it(told: Any, name: str = "") -> Any:
    """Its own spelling, as 1.40.0's `/config_dump` has it (a real one is asked in tests/e2e/test_doctor.py)."""
    if isinstance(told, dict):
        kept = {key: as_envoy_says_it(value, key) for key, value in told.items()}
        if "private_key" in kept:
            kept["private_key"] = {"filename": "[redacted]"}
        # Wrapped and so said even where they are false: enabled. The others of our own are plain.
        return {
            key: value for key, value in kept.items() if value not in (False, 0, "AUTO", "ALLOW", "DYNAMIC", "NONE")
        }
    if isinstance(told, list):
        return [as_envoy_says_it(one) for one in told]
    return (
        {503: "ServiceUnavailable", "60.5s": "60.500s", "1s": "1s", "0.5s": "0.500s"}.get(told, told) if name else told
    )


@pytest.fixture
def dump() -> dict[str, Any]:
    boot = as_envoy_says_it(yaml.safe_load(render_bootstrap(SETTINGS)))
    boot["node"]["user_agent_name"] = "envoy"
    listeners = [{"listener": copy.deepcopy(one)} for one in boot["static_resources"]["listeners"]]
    clusters = [{"cluster": copy.deepcopy(one)} for one in boot["static_resources"]["clusters"]]
    routes, own = (json.loads(text)["resources"] for text in (render_routes([MODEL]), render_clusters([MODEL])))
    return {
        "configs": [
            {"bootstrap": boot},
            {"static_listeners": listeners},
            {"dynamic_route_configs": [{"route_config": one} for one in routes]},
            {"static_clusters": clusters, "dynamic_active_clusters": [{"cluster": one} for one in own]},
        ]
    }


def _judged(dump: dict[str, Any]) -> dict[str, tuple[str, str]]:
    found = list(edge.compare(dump, SETTINGS, [MODEL]))
    assert all(one.do for one in found if one.verdict == FAIL)
    return {one.check: (one.verdict, one.says) for one in found}


def _listener(dump: dict[str, Any]) -> Any:
    return dump["configs"][1]["static_listeners"][0]["listener"]


def _manager(dump: dict[str, Any]) -> Any:
    return _listener(dump)["filter_chains"][0]["filters"][0]["typed_config"]


def _filter(dump: dict[str, Any], name: str) -> Any:
    return next(one["typed_config"] for one in _manager(dump)["http_filters"] if one["name"] == name)


def _word(dump: dict[str, Any]) -> Any:
    return _filter(dump, "affidavit.request_gate")["rules"]["policies"]["decided"]["permissions"][0]["sourced_metadata"]


def _route(dump: dict[str, Any]) -> Any:
    return dump["configs"][2]["dynamic_route_configs"][0]["route_config"]["virtual_hosts"][0]["routes"][0]["route"]


def _layers(dump: dict[str, Any]) -> Any:
    return dump["configs"][0]["bootstrap"]["layered_runtime"]["layers"]


def _cluster(dump: dict[str, Any]) -> Any:
    return dump["configs"][3]["dynamic_active_clusters"][0]["cluster"]


TUNNEL = {"name": "t", "typed_config": {"@type": f"{TYPES}.network.tcp_proxy.v3.TcpProxy", "cluster": "model"}}
SIDE = {"name": "side", "filter_chains": [{"filters": [TUNNEL]}]}
ROUTER = {"name": "r", "typed_config": {"@type": f"{TYPES}.http.router.v3.Router"}}
SPLIT = {"clusters": [{"name": "model", "weight": 1, "typed_per_filter_config": OFF}]}
FAILED_ONLY = {"status_code_filter": {"comparison": {"op": "GE", "value": {"default_value": 500}}}}
EMPTY_GATE = {"inline_string": "function envoy_on_response(h) end -- affidavit"}
OTHERS: dict[str, tuple[Callable[[dict[str, Any]], Any], str, str]] = {
    name: (change, check, said)
    for check, cases in {
        edge.SETTINGS: {
            "a tunnel": (lambda dump: dump["configs"][1]["static_listeners"].append({"listener": SIDE}), "listener side is none of ours"),
            "a tunnel that came later": (
                lambda dump: dump["configs"][1].update(dynamic_listeners=[{"name": "side", "active_state": {"listener": SIDE}}]),
                "listener side is none of ours",
            ),
            "a filter beside": (lambda dump: _listener(dump)["filter_chains"][0]["filters"].insert(0, TUNNEL), "filters[t]"),
            "a listener that is gone": (lambda dump: dump["configs"][1]["static_listeners"].pop(), "listener https is missing"),
            "plain for all": (
                lambda dump: _listener(dump)["address"]["socket_address"].update(address="0.0.0.0"),
                "listener http.address.socket_address.address is another",
            ),
            "upgrades with filters of their own": (
                lambda dump: _manager(dump)["upgrade_configs"][0].update(filters=[ROUTER]), "upgrade_configs[0].filters is set",
            ),
            "believes others": (lambda dump: _manager(dump).update(xff_num_trusted_hops=5), "xff_num_trusted_hops is set"),
            "no ids": (lambda dump: _manager(dump).update(generate_request_id=False), "generate_request_id is another"),
            "no ids, unsaid": (lambda dump: _manager(dump).pop("generate_request_id"), "generate_request_id is missing"),
            "all are inside": (
                lambda dump: _manager(dump)["internal_address_config"]["cidr_ranges"][0].update(address_prefix="0.0.0.0", prefix_len=0),
                "internal_address_config",
            ),
            "a log of failures": (lambda dump: _manager(dump)["access_log"][0].update(filter=FAILED_ONLY), "filter is set"),
            "no lines of beginnings": (lambda dump: _manager(dump).pop("access_log_options"), "access_log_options is missing"),
            "the opposite word": (lambda dump: _word(dump)["metadata_matcher"].update(invert=True), "metadata_matcher.invert is set"),
            "a route's word": (lambda dump: _word(dump).update(metadata_source="ROUTE"), "metadata_source is another"),
            "a gate that watches nothing": (
                lambda dump: _filter(dump, "affidavit.response_gate").update(default_source_code=EMPTY_GATE), "inline_string is another",
            ),
            "another gate": (
                lambda dump: _filter(dump, "envoy.filters.http.ext_proc")["grpc_service"]["envoy_grpc"].update(cluster_name="x"),
                "cluster_name is another",
            ),
            "tried again": (
                lambda dump: _filter(dump, "envoy.filters.http.ext_proc")["grpc_service"].update(retry_policy={}), "retry_policy is set",
            ),
            "somebody else's listeners": (
                lambda dump: dump["configs"][0]["bootstrap"]["dynamic_resources"].update(lds_config={}), "bootstrap.dynamic_resources.lds_config is set",
            ),
            "a layer of its own": (lambda dump: _layers(dump).append({"name": "x", "static_layer": {}}), "layered_runtime.layers"),
            "a switch of its own": (lambda dump: _layers(dump)[0]["static_layer"].update({"x.y": False}), "x.y is set"),
            "no layers": (lambda dump: dump["configs"][0]["bootstrap"].update(layered_runtime={}), "layered_runtime.layers is missing"),
        },
        edge.CONNECTIONS: {
            "a share without the gate": (lambda dump: _route(dump).update(weighted_clusters=SPLIT), "weighted_clusters is set"),
            "retries": (lambda dump: _route(dump).update(retry_policy={"retry_on": "5xx"}), "retry_policy is set"),
            "a mirror": (lambda dump: _route(dump).update(request_mirror_policies=[{"cluster": "x"}]), "request_mirror_policies is set"),
            "somewhere else": (lambda dump: _route(dump).update(cluster="other"), "route.cluster is another"),
            "a cluster more": (
                lambda dump: dump["configs"][3]["static_clusters"].append({"cluster": {"name": "x"}}), "cluster x is none of ours",
            ),
            "a cluster's other place": (
                lambda dump: _cluster(dump)["load_assignment"]["endpoints"][0]["lb_endpoints"][0]["endpoint"]["address"]["socket_address"].update(
                    address="evil.example.com"
                ),
                "socket_address.address is another",
            ),
            "a cluster without TLS": (lambda dump: _cluster(dump).pop("transport_socket"), "transport_socket is missing"),
            "a table of somebody else's": (
                lambda dump: dump["configs"][2].update(static_route_configs=[{"route_config": {"name": "x"}}]), "routes x is none of ours",
            ),
        },
    }.items()
    for name, (change, said) in cases.items()
}  # fmt: skip


def test_our_own_settings_are_well(dump: dict[str, Any]) -> None:
    judged = _judged(dump)
    assert {check: verdict for check, (verdict, _) in judged.items()} == {
        edge.SETTINGS: OK,
        edge.CONNECTIONS: OK,
    }, judged


@pytest.mark.parametrize("name", OTHERS)
def test_whatever_is_not_ours_is_named(dump: dict[str, Any], name: str) -> None:
    change, check, said = OTHERS[name]
    change(dump)
    judged = _judged(dump)
    assert {one for one, (verdict, _) in judged.items() if verdict == FAIL} == {check}
    assert said in judged[check][1]


def test_what_is_about_to_be_or_was_refused_is_not_in_force(dump: dict[str, Any]) -> None:
    dump["configs"][1]["dynamic_listeners"] = [{"name": "side", "error_state": {}, "warming_state": {"listener": SIDE}}]
    assert _judged(dump)[edge.SETTINGS][0] == OK


def test_a_few_are_named_and_the_rest_counted(dump: dict[str, Any]) -> None:
    for number in range(9):
        _manager(dump)[f"field_{number}"] = 1
    assert _judged(dump)[edge.SETTINGS][1].endswith("field_4 is set and 4 more")


@contextmanager
def _answering(body: bytes) -> Iterator[tuple[str, list[str]]]:
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(200)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Nobody reads it."""

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"127.0.0.1:{server.server_address[1]}", asked
    finally:
        server.shutdown()
        server.server_close()


def test_no_proxy_answers_for_envoy(monkeypatch: pytest.MonkeyPatch) -> None:
    with _answering(b'{"of": "the proxy"}') as (proxy, seen), _answering(b'{"of": "envoy"}') as (admin, _):
        monkeypatch.setenv("http_proxy", f"http://{proxy}")
        monkeypatch.delenv("no_proxy", raising=False)
        monkeypatch.delenv("NO_PROXY", raising=False)
        assert asking.told_by_envoy(admin, "/config_dump") == {"of": "envoy"}
        assert seen == []


@pytest.mark.parametrize(("in_force", "verdict"), [(True, FAIL), (False, WARN)])
def test_a_file_that_is_not_in_force_is_not_compared(tmp_path: Path, *, in_force: bool, verdict: str) -> None:
    config, digest = a_config(tmp_path)
    states = {"supervisor": {"config_sha256": digest if in_force else "other"}}
    found = list(doctor._edge(doctor.Patient(config, digest, states, lambda: None), {}))  # type: ignore[arg-type, return-value]
    assert [(one.check, one.verdict) for one in found] == [
        (edge.SETTINGS, verdict),
        (edge.CONNECTIONS, verdict),
    ]
