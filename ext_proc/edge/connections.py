"""Routes and upstream clusters out of the registry of connections, built with Envoy's own types.

``envoy-data-plane`` generates them from Envoy's protos, so a field that Envoy does not know is an error here and not
there. It is slow on messages (345 us against 1 us of Google's generated code), which does not matter for a file.
Nothing here reads or writes anything; `ext_proc.edge.files` does.
"""

from __future__ import annotations

import ipaddress
import json
import warnings
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import SplitResult, urlsplit

from ext_proc.errors import ConfigError

with warnings.catch_warnings():  # the generated code uses a spelling that pydantic 2.12 deprecated
    warnings.simplefilter("ignore", DeprecationWarning)
    from betterproto2 import Casing
    from envoy_data_plane.envoy.config.cluster.v3 import (
        CircuitBreakers,
        CircuitBreakersThresholds,
        Cluster,
        ClusterDiscoveryType,
        ClusterDnsLookupFamily,
    )
    from envoy_data_plane.envoy.config.core.v3 import (
        Address,
        DataSource,
        Http1ProtocolOptions,
        Http2ProtocolOptions,
        SocketAddress,
        TransportSocket,
    )
    from envoy_data_plane.envoy.config.endpoint.v3 import (
        ClusterLoadAssignment,
        Endpoint,
        LbEndpoint,
        LocalityLbEndpoints,
    )
    from envoy_data_plane.envoy.config.route.v3 import (
        DirectResponseAction,
        Route,
        RouteAction,
        RouteConfiguration,
        RouteMatch,
        VirtualHost,
    )
    from envoy_data_plane.envoy.extensions.transport_sockets.tls.v3 import (
        CertificateValidationContext,
        CommonTlsContext,
        SubjectAltNameMatcher,
        SubjectAltNameMatcherSanType,
        TlsParameters,
        TlsParametersTlsProtocol,
        UpstreamTlsContext,
    )
    from envoy_data_plane.envoy.extensions.upstreams.http.v3 import (
        HttpProtocolOptions,
        HttpProtocolOptionsExplicitHttpConfig,
    )
    from envoy_data_plane.envoy.type.matcher.v3 import StringMatcher
    from envoy_data_plane.google.protobuf import Any
    from envoy_data_plane.message_pool import default_message_pool

if TYPE_CHECKING:
    from collections.abc import Sequence

    from betterproto2 import Message

ROUTE_CONFIGURATION: Final = "connections"
_ANY_HOST: Final = "*"
UNMATCHED_ROUTE: Final = "_unmatched"
"""Name of the route of requests that belong to no connection. No connection can have it (theirs start with a letter).

It leads to a ``direct_response``, which Envoy's router gives *behind* ext_proc and the request gate: so the gate is
asked, finds no connection of this name, refuses with 404 and has it on record. Without any route the gate would be
asked too, but could not tell this case from a missing attribute.
"""
PUBLIC_AUTHORITIES: Final = tuple(
    map(
        Path,
        (
            "/etc/ssl/certs/ca-certificates.crt",  # Debian, Alpine, and our images
            "/etc/pki/tls/certs/ca-bundle.crt",  # Red Hat
            "/etc/ssl/ca-bundle.pem",  # SUSE
            "/etc/ssl/cert.pem",
        ),
    )
)
"""Where systems keep the public authorities: the first that is here, which must be the same where Envoy runs."""


@dataclass(frozen=True, slots=True)
class EdgeConnection:
    """A connection as Envoy needs it.

    ``hosts`` are names without port; ``*`` is any, ``*.example.com`` any below. ``path_prefix`` matches whole path
    segments unless it ends in a slash. ``url`` is scheme, host and port: a request keeps its path, its host becomes
    this one. The two limits are the gate's to enforce; Envoy's own (413 for requests, 502 for answers) is the largest
    of them and of ``EdgeSettings.buffer_bytes``. ``server_name`` is the service's, where ``url`` only says where it is:
    it is asked for by it (Host and SNI), and its certificate must bear it. ``idle_timeout_seconds``: time without a
    byte either way before the exchange is ended; longer than a hold (`bootstrap.idle_seconds`).
    """

    name: str
    hosts: tuple[str, ...]
    path_prefix: str
    url: str
    ca_file: Path | None
    connect_timeout_seconds: float
    request_limit_bytes: int
    response_limit_bytes: int
    idle_timeout_seconds: float
    server_name: str | None = None
    is_http2: bool = False
    unsafe_allow_upgrade: bool = False


def render_routes(connections: Sequence[EdgeConnection]) -> str:
    """The route table as a ``DiscoveryResponse`` in JSON.

    A request belongs to the connection with the longest path prefix among those whose ``hosts`` cover its host; on a
    tie the host written out wins over a pattern. What belongs to none gets `UNMATCHED_ROUTE`.

    Raises:
        ConfigError: two connections have the same name, or claim the same host and prefix.
    """
    _check(connections)
    hosts = sorted({host for connection in connections for host in connection.hosts} | {_ANY_HOST})
    virtual_hosts = [
        VirtualHost(
            name=host,
            domains=[host],
            routes=[*(_route(connection) for connection in _ranked(connections, host)), _unmatched()],
        )
        for host in hosts
    ]
    return _discovery(
        RouteConfiguration(
            name=ROUTE_CONFIGURATION,
            virtual_hosts=virtual_hosts,
        )
    )


def render_clusters(connections: Sequence[EdgeConnection]) -> str:
    """The upstream clusters, one per connection and of its name, as a ``DiscoveryResponse`` in JSON.

    Raises:
        ConfigError: a name stands twice, or ``url`` is not scheme, host and port alone.
    """
    _check(connections)
    return _discovery(*(_cluster(connection) for connection in connections))


def _check(connections: Sequence[EdgeConnection]) -> None:
    names = [connection.name for connection in connections]
    if len(set(names)) != len(names):
        raise ConfigError("connections: two have the same name")
    claims = [(host, connection.path_prefix) for connection in connections for host in connection.hosts]
    if len(set(claims)) != len(claims):
        raise ConfigError("connections: two claim the same host and path prefix")


# Routes --------------------------------------------------------------------------------------------------------------


def _ranked(connections: Sequence[EdgeConnection], host: str) -> list[EdgeConnection]:
    """Those that a request for ``host`` can belong to, in the order in which Envoy tries them."""
    covering = [
        (connection, max((len(pattern) for pattern in connection.hosts if _covers(pattern, host)), default=0))
        for connection in connections
    ]
    ranked = sorted(
        (item for item in covering if item[1]),
        key=lambda item: (-len(item[0].path_prefix), host not in item[0].hosts, -item[1], item[0].name),
    )
    return [connection for connection, _ in ranked]


def _covers(pattern: str, host: str) -> bool:
    """Does every host that ``host`` (a name or a pattern) stands for match ``pattern``?"""
    return pattern in (_ANY_HOST, host) or (pattern.startswith("*.") and host.endswith(pattern[1:]))


def _route(connection: EdgeConnection) -> Route:
    prefix = connection.path_prefix
    match = RouteMatch(prefix=prefix) if prefix.endswith("/") else RouteMatch(path_separated_prefix=prefix)
    return Route(
        name=connection.name,
        match=match,
        route=RouteAction(
            cluster=connection.name,
            # The service is asked under its own name: the caller's says nothing to it, and TLS needs the same.
            host_rewrite_literal=connection.server_name or _parts(connection).netloc,
            # No limit on the whole answer: a long stream would be cut (measured: 15 s by default).
            timeout=timedelta(0),
            idle_timeout=timedelta(seconds=connection.idle_timeout_seconds),
            # No retry_policy: a call to a model costs money and is recorded once.
            # No upgrade_configs either: what is switched off here is refused without asking the gate about the request.
        ),
        # Raises the listener's limit, in spite of its name for answers too; cannot lower it (measured): the gate does.
        request_body_buffer_limit=max(connection.request_limit_bytes, connection.response_limit_bytes),
    )


def _unmatched() -> Route:
    return Route(
        name=UNMATCHED_ROUTE,
        match=RouteMatch(prefix="/"),
        direct_response=DirectResponseAction(status=404),
    )


# Clusters ------------------------------------------------------------------------------------------------------------


def _cluster(connection: EdgeConnection) -> Cluster:
    scheme, host, port = _upstream(connection)
    protocol = (
        HttpProtocolOptionsExplicitHttpConfig(http2_protocol_options=Http2ProtocolOptions())
        if connection.is_http2
        else HttpProtocolOptionsExplicitHttpConfig(http_protocol_options=Http1ProtocolOptions())
    )
    return Cluster(
        name=connection.name,
        type=ClusterDiscoveryType.STATIC if _is_ip_address(host) else ClusterDiscoveryType.STRICT_DNS,
        dns_lookup_family=ClusterDnsLookupFamily.V4_PREFERRED,
        connect_timeout=timedelta(seconds=connection.connect_timeout_seconds),
        load_assignment=ClusterLoadAssignment(
            cluster_name=connection.name,
            endpoints=[LocalityLbEndpoints(lb_endpoints=[_endpoint(host, port)])],
        ),
        # Calls to a model are slow and many at a time: Envoy's default of 1024 would refuse the next.
        circuit_breakers=CircuitBreakers(
            thresholds=[
                CircuitBreakersThresholds(
                    max_connections=65536, max_pending_requests=65536, max_requests=65536, max_retries=0
                )
            ]
        ),
        typed_extension_protocol_options={
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": _any(
                HttpProtocolOptions(explicit_http_config=protocol)
            )
        },
        transport_socket=_tls(connection, host) if scheme == "https" else None,
    )


def _parts(connection: EdgeConnection) -> SplitResult:
    try:
        return urlsplit(connection.url)
    except ValueError:
        raise ConfigError(f"connections.{connection.name}.upstream.url: must be scheme, host and port") from None


def _upstream(connection: EdgeConnection) -> tuple[str, str, int]:
    parts = _parts(connection)
    try:
        port = parts.port
    except ValueError:
        port = -1
    is_plain = parts.path in ("", "/") and not (parts.query or parts.fragment or parts.username or parts.password)
    if parts.scheme not in ("http", "https") or not parts.hostname or port == -1 or not is_plain:
        raise ConfigError(f"connections.{connection.name}.upstream.url: must be scheme, host and port")
    return parts.scheme, parts.hostname, port or (443 if parts.scheme == "https" else 80)


def _is_ip_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _endpoint(host: str, port: int) -> LbEndpoint:
    address = Address(socket_address=SocketAddress(address=host, port_value=port))
    return LbEndpoint(endpoint=Endpoint(address=address))


def public_authorities() -> Path:
    """The system's bundle. Envoy would find it by itself (``system_root_certs``), but then takes no cluster that also
    says which name the certificate must bear ("SAN-based verification ... without trusted CA", 1.40.0).
    """
    return next((one for one in PUBLIC_AUTHORITIES if one.exists()), PUBLIC_AUTHORITIES[0])


def _tls(connection: EdgeConnection, host: str) -> TransportSocket:
    """TLS towards the service: its certificate must lead to the authorities and bear its name."""
    name = connection.server_name or host
    kind = SubjectAltNameMatcherSanType.IP_ADDRESS if _is_ip_address(name) else SubjectAltNameMatcherSanType.DNS
    named = [SubjectAltNameMatcher(san_type=kind, matcher=StringMatcher(exact=name))]
    authorities = CertificateValidationContext(
        trusted_ca=DataSource(filename=str(connection.ca_file or public_authorities())),
        match_typed_subject_alt_names=named,
    )
    context = UpstreamTlsContext(
        sni="" if _is_ip_address(name) else name,  # RFC 6066 section 3: no IP addresses in SNI
        common_tls_context=CommonTlsContext(
            tls_params=TlsParameters(tls_minimum_protocol_version=TlsParametersTlsProtocol.TLSv1_2),
            alpn_protocols=["h2"] if connection.is_http2 else ["http/1.1"],
            validation_context=authorities,
        ),
    )
    return TransportSocket(name="envoy.transport_sockets.tls", typed_config=_any(context))


# JSON ----------------------------------------------------------------------------------------------------------------


def _any(message: Message) -> Any:
    return Any.pack(message, message_pool=default_message_pool)


def _discovery(*resources: Message) -> str:
    """``envoy.service.discovery.v3.DiscoveryResponse`` as Envoy's file subscription reads it."""
    packed = [_any(resource).to_dict(casing=Casing.SNAKE) for resource in resources]
    return json.dumps({"resources": packed}, indent=2, sort_keys=True) + "\n"
