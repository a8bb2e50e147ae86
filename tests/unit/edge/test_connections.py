"""`ext_proc.edge.connections`: which connection a request belongs to, and how its service is reached."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ext_proc.edge import UNMATCHED_ROUTE, EdgeConnection, render_clusters, render_routes
from ext_proc.edge.connections import public_authorities
from ext_proc.errors import ConfigError

ONE = EdgeConnection(
    name="one",
    hosts=("*",),
    path_prefix="/",
    url="http://127.0.0.1:8000",
    ca_file=None,
    connect_timeout_seconds=2.5,
    request_limit_bytes=1000,
    response_limit_bytes=2000,
    idle_timeout_seconds=600.0,
)


def _routes(*connections: EdgeConnection) -> dict[str, list[dict[str, Any]]]:
    """Routes by virtual host."""
    [table] = json.loads(render_routes(connections))["resources"]
    return {host["domains"][0]: host["routes"] for host in table["virtual_hosts"]}


def _names(*connections: EdgeConnection) -> dict[str, list[str]]:
    return {host: [route["name"] for route in routes] for host, routes in _routes(*connections).items()}


def _cluster(connection: EdgeConnection) -> dict[str, Any]:
    [cluster] = json.loads(render_clusters([connection]))["resources"]
    return dict(cluster)


def test_route_bears_the_connections_name_and_neither_retries_nor_ends() -> None:
    [route, unmatched] = _routes(ONE)["*"]

    assert route["name"] == route["route"]["cluster"] == "one"
    assert route["route"]["timeout"] == "0s"
    assert route["route"]["idle_timeout"] == "600s"
    assert "retry_policy" not in route["route"]
    assert route["request_body_buffer_limit"] == 2000
    assert unmatched["name"] == UNMATCHED_ROUTE
    assert unmatched["direct_response"]["status"] == 404


def test_longest_prefix_is_tried_first() -> None:
    two = replace(ONE, name="two", path_prefix="/v1")
    three = replace(ONE, name="three", path_prefix="/v1/chat")

    assert _names(ONE, two, three) == {"*": ["three", "two", "one", UNMATCHED_ROUTE]}


def test_host_written_out_wins_over_any() -> None:
    two = replace(ONE, name="two", hosts=("a.example.com",))
    three = replace(ONE, name="three", hosts=("*.example.com",))

    assert _names(ONE, two, three) == {
        "*": ["one", UNMATCHED_ROUTE],
        "*.example.com": ["three", "one", UNMATCHED_ROUTE],
        "a.example.com": ["two", "three", "one", UNMATCHED_ROUTE],
    }


def test_there_is_always_a_route() -> None:
    assert _names() == {"*": [UNMATCHED_ROUTE]}


def test_prefix_means_whole_segments() -> None:
    assert _routes(replace(ONE, path_prefix="/v1"))["*"][0]["match"] == {"path_separated_prefix": "/v1"}
    assert _routes(replace(ONE, path_prefix="/v1/"))["*"][0]["match"] == {"prefix": "/v1/"}


def test_plain_cluster() -> None:
    cluster = _cluster(ONE)
    [locality] = cluster["load_assignment"]["endpoints"]

    assert (cluster["name"], cluster["type"], cluster["connect_timeout"]) == ("one", "STATIC", "2.500s")
    assert locality["lb_endpoints"][0]["endpoint"]["address"]["socket_address"] == {
        "address": "127.0.0.1",
        "port_value": 8000,
    }
    assert "transport_socket" not in cluster


def test_tls_cluster_verifies_name_and_authority() -> None:
    cluster = _cluster(replace(ONE, url="https://api.example.com"))
    context = cluster["transport_socket"]["typed_config"]
    validation = context["common_tls_context"]["validation_context"]

    assert cluster["type"] == "STRICT_DNS"
    assert context["sni"] == "api.example.com"
    assert validation["trusted_ca"] == {"filename": str(public_authorities())}
    assert validation["match_typed_subject_alt_names"] == [{"matcher": {"exact": "api.example.com"}, "san_type": "DNS"}]


def test_tls_cluster_with_authority_and_name_of_its_own() -> None:
    connection = replace(ONE, url="https://10.0.0.1:8443", ca_file=Path("/ca.pem"), server_name="api.internal")
    context = _cluster(connection)["transport_socket"]["typed_config"]

    assert context["sni"] == "api.internal"
    assert _routes(connection)["*"][0]["route"]["host_rewrite_literal"] == "api.internal"
    assert context["common_tls_context"]["validation_context"]["trusted_ca"] == {"filename": "/ca.pem"}


def test_tls_cluster_by_address_has_no_sni() -> None:
    context = _cluster(replace(ONE, url="https://10.0.0.1"))["transport_socket"]["typed_config"]
    [named] = context["common_tls_context"]["validation_context"]["match_typed_subject_alt_names"]

    assert "sni" not in context
    assert named["san_type"] == "IP_ADDRESS"


@pytest.mark.parametrize(("is_http2", "key"), [(False, "http_protocol_options"), (True, "http2_protocol_options")])
def test_protocol_towards_the_service(key: str, *, is_http2: bool) -> None:
    options = _cluster(replace(ONE, is_http2=is_http2))["typed_extension_protocol_options"]

    assert list(options["envoy.extensions.upstreams.http.v3.HttpProtocolOptions"]["explicit_http_config"]) == [key]


@pytest.mark.parametrize(
    "url", ["ftp://a", "http://", "http://a/path", "http://a?b", "http://u:p@a", "http://a:99999", "a:80"]
)
def test_url_that_is_more_or_less_than_scheme_host_and_port(url: str) -> None:
    with pytest.raises(ConfigError, match="one"):
        render_clusters([replace(ONE, url=url)])


def test_same_name_or_claim_twice() -> None:
    with pytest.raises(ConfigError, match="same name"):
        render_routes([ONE, replace(ONE, path_prefix="/x")])
    with pytest.raises(ConfigError, match="same host"):
        render_routes([ONE, replace(ONE, name="two")])
