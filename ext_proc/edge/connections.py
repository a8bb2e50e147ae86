"""Routes and clusters of the connections, built with Envoy's own types (envoy-data-plane): a typo is an error."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

import envoy_data_plane.envoy.config.cluster.v3 as cluster
import envoy_data_plane.envoy.config.core.v3 as core
import envoy_data_plane.envoy.config.endpoint.v3 as endpoint
import envoy_data_plane.envoy.config.route.v3 as route
import envoy_data_plane.envoy.extensions.transport_sockets.tls.v3 as tls

if TYPE_CHECKING:
    from collections.abc import Sequence

_TYPE: Final = "type.googleapis.com/"
_SYSTEM_CA: Final = Path("/etc/ssl/certs/ca-certificates.crt")
_IDLE: Final = timedelta(seconds=600)
"""Longer than any hold: the route's value overrides the listener's ``stream_idle_timeout`` (measured)."""


@dataclass(frozen=True, slots=True)
class EdgeConnection:
    """A connection as Envoy needs it. ``url`` is scheme, host and port."""

    name: str
    hosts: tuple[str, ...]
    path_prefix: str
    url: str
    ca_file: Path | None
    connect_timeout_seconds: float
    request_limit_bytes: int
    response_limit_bytes: int
    unsafe_allow_upgrade: bool = False


def render_routes(connections: Sequence[EdgeConnection]) -> str:
    """An RDS answer: one virtual host for each set of host names, the longest prefix first.

    A request that no connection wants gets Envoy's 404, through the gate, so it is on record.
    """
    hosts: dict[tuple[str, ...], list[EdgeConnection]] = {}
    for connection in connections:
        hosts.setdefault(connection.hosts, []).append(connection)
    made = route.RouteConfiguration(
        name="connections",
        virtual_hosts=[
            route.VirtualHost(
                name=f"hosts-{index}",
                domains=list(names),
                routes=[_route(one) for one in sorted(group, key=lambda c: -len(c.path_prefix))],
            )
            for index, (names, group) in enumerate(hosts.items())
        ],
    )
    return _document([{"@type": _TYPE + "envoy.config.route.v3.RouteConfiguration", **made.to_dict()}])


def render_clusters(connections: Sequence[EdgeConnection]) -> str:
    """A CDS answer: one cluster for each connection."""
    kind = "envoy.config.cluster.v3.Cluster"
    made = [{"@type": _TYPE + kind, **_cluster(one).to_dict(), **_transport(one)} for one in connections]
    return _document(made)


def _route(connection: EdgeConnection) -> route.Route:
    return route.Route(
        name=connection.name,  # the gate learns the connection from it (attribute xds.route_name)
        match=route.RouteMatch(prefix=connection.path_prefix),
        route=route.RouteAction(
            cluster=connection.name,
            timeout=timedelta(0),  # a model may take its time; 15 s by default would cut streams
            idle_timeout=_IDLE,
            # No retry: a second call to a model is a second call, and would be in no record.
        ),
    )


def _cluster(connection: EdgeConnection) -> cluster.Cluster:
    parts = urlsplit(connection.url)
    is_tls = parts.scheme == "https"
    host, port = parts.hostname or "", parts.port or (443 if is_tls else 80)
    where = core.Address(socket_address=core.SocketAddress(address=host, port_value=port))
    return cluster.Cluster(
        name=connection.name,
        type=cluster.ClusterDiscoveryType.STRICT_DNS,
        connect_timeout=timedelta(seconds=connection.connect_timeout_seconds),
        per_connection_buffer_limit_bytes=connection.response_limit_bytes,
        load_assignment=endpoint.ClusterLoadAssignment(
            cluster_name=connection.name,
            endpoints=[
                endpoint.LocalityLbEndpoints(
                    lb_endpoints=[endpoint.LbEndpoint(endpoint=endpoint.Endpoint(address=where))]
                )
            ],
        ),
        circuit_breakers=cluster.CircuitBreakers(
            thresholds=[
                cluster.CircuitBreakersThresholds(max_connections=65536, max_pending_requests=65536, max_requests=65536)
            ]
        ),
    )


def _transport(connection: EdgeConnection) -> dict[str, Any]:
    """The service's certificate is verified, and its name with it."""
    parts = urlsplit(connection.url)
    if parts.scheme != "https":
        return {}
    host = parts.hostname or ""
    context = tls.UpstreamTlsContext(
        sni=host,
        auto_sni_san_validation=True,
        common_tls_context=tls.CommonTlsContext(
            validation_context=tls.CertificateValidationContext(
                trusted_ca=core.DataSource(filename=str(connection.ca_file or _SYSTEM_CA))
            )
        ),
    )
    kind = "envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext"
    config = {"@type": _TYPE + kind, **context.to_dict()}
    return {"transportSocket": {"name": "envoy.transport_sockets.tls", "typedConfig": config}}


def _document(resources: Sequence[dict[str, Any]]) -> str:
    return json.dumps({"version_info": "1", "resources": resources}, indent=1, sort_keys=True)
