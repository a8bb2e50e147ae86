"""From the configuration to Envoy's files. Apart from `ext_proc.app.registry`, so that workers need not import it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ext_proc.app import registry
from ext_proc.config.fields import socket_of
from ext_proc.edge import (
    EdgeConnection,
    EdgePaths,
    EdgeSettings,
    TlsSettings,
    idle_seconds,
    render_bootstrap,
    render_clusters,
    render_routes,
    write_connections,
    write_edge,
)
from ext_proc.errors import ConfigError

if TYPE_CHECKING:
    from ext_proc.config import Config


def check(config: Config) -> None:
    """Make what the rooms and Envoy need of it, as a trial: so that it is refused before anything runs or changes.

    Raises:
        ConfigError: the file is well-formed, but a room or Envoy could not work with it.
    """
    registry.trusts(config)
    render_bootstrap(settings(config))
    listed = connections(config)
    render_routes(listed)
    render_clusters(listed)


def write(config: Config) -> EdgePaths:
    """Write all of Envoy's files.

    Raises:
        ConfigError: they contradict themselves, or cannot be written.
    """
    try:
        return write_edge(settings(config), connections(config))
    except OSError as error:
        raise ConfigError(f"run_dir: {error.filename}: {error.strerror}") from None


def write_routes(config: Config) -> None:
    """Write only what a running Envoy takes up: routes and clusters.

    Raises:
        ConfigError: they contradict themselves, or cannot be written.
    """
    try:
        write_connections(settings(config).directory, connections(config))
    except OSError as error:
        raise ConfigError(f"run_dir: {error.filename}: {error.strerror}") from None


def settings(config: Config) -> EdgeSettings:
    """What Envoy's bootstrap needs."""
    tls = config.listen.tls
    http_host, http_port = _address(config.listen.http)
    admin_socket = socket_of(config.listen.admin)
    admin_host, admin_port = ("", 0) if admin_socket else _address(config.listen.admin)
    return EdgeSettings(
        directory=(config.run_dir / "envoy").absolute(),
        http_host=http_host,
        http_port=http_port,
        admin_host=admin_host,
        admin_port=admin_port,
        admin_socket=admin_socket,
        access_log=registry.access_log_path(config),
        worker_sockets=tuple(registry.worker_socket(config, index).absolute() for index in range(config.workers)),
        hold_seconds=config.listen.hold_seconds,
        buffer_bytes=registry.largest_body_bytes(config),
        tls=TlsSettings(
            *_address(tls.address),
            tls.certificate_file.absolute(),
            tls.key_file.absolute(),
            tls.client_ca_file.absolute() if tls.client_ca_file else None,
            tls.require_client_certificate,
        )
        if tls
        else None,
    )


def connections(config: Config) -> list[EdgeConnection]:
    """The connections as Envoy needs them."""
    return [
        EdgeConnection(
            name=section.name,
            hosts=tuple(section.hosts),
            path_prefix=section.path_prefix,
            url=section.upstream.url,
            ca_file=section.upstream.ca_file,
            connect_timeout_seconds=section.upstream.connect_timeout_seconds,
            request_limit_bytes=section.request_limit_bytes,
            response_limit_bytes=section.response_limit_bytes,
            idle_timeout_seconds=max(section.upstream.idle_timeout_seconds, idle_seconds(config.listen.hold_seconds)),
            server_name=section.upstream.server_name,
            is_http2=section.upstream.http2,
            unsafe_allow_upgrade=section.unsafe_allow_upgrade,
        )
        for section in config.connections
    ]


def _address(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    return host, int(port)
