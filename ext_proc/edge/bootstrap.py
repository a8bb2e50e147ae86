"""The bootstrap: a file that a person can read (``envoy/bootstrap.yaml``), with the configuration's values put in."""

from __future__ import annotations

import json
import textwrap
from dataclasses import dataclass
from pathlib import Path
from string import Template
from typing import Final

from ext_proc.errors import ConfigError

TEMPLATES: Final = Path(__file__).resolve().parent.parent.parent / "envoy"

_MARGIN_SECONDS: Final = 30.0
"""How much longer than a hold Envoy lets a stream be idle, so that the hold's own time-out comes first."""

_SOCKET_MODE: Final = 0o660
"""Of the admin interface's socket: Envoy's user, and the group that it and the gate are in."""

_LONGEST_HOLD_SECONDS: Final = 3600.0
"""The ceiling of ``ExternalProcessor.message_timeout`` in Envoy's proto."""


def idle_seconds(hold_seconds: float) -> float:
    """How long a call must be let stand still for the hold's own time-out to come first."""
    return hold_seconds + _MARGIN_SECONDS


@dataclass(frozen=True, slots=True)
class TlsSettings:
    """The TLS listener. PEM files; with ``client_ca_file`` a caller may show a certificate of that authority."""

    host: str
    port: int
    certificate_file: Path
    key_file: Path
    client_ca_file: Path | None = None
    require_client_certificate: bool = False


@dataclass(frozen=True, slots=True)
class EdgeSettings:
    """What the bootstrap needs; a change needs a restart of Envoy.

    ``directory`` is where the rendered files are; Envoy watches it. ``buffer_bytes``: the largest body of any
    connection must fit. ``hold_seconds``: how long one phase may take (``ExternalProcessor.message_timeout``).
    ``admin_socket``: where its admin interface is instead of host and port.
    """

    directory: Path
    http_host: str
    http_port: int
    admin_host: str
    admin_port: int
    access_log: Path
    worker_sockets: tuple[Path, ...]
    hold_seconds: float
    buffer_bytes: int
    tls: TlsSettings | None = None
    admin_socket: Path | None = None


def render_bootstrap(settings: EdgeSettings) -> str:
    """The bootstrap as YAML.

    Raises:
        ConfigError: no workers, a hold that Envoy cannot wait for, or client certificates without an authority.
    """
    _check(settings)
    return _filled(
        "bootstrap.yaml",
        _blocks={
            "admin_address": _admin_address(settings),
            "tls_listener": _tls_listener(settings),
            "worker_endpoints": "\n".join(_endpoint(socket) for socket in settings.worker_sockets),
            "local_replies": textwrap.indent(_template("local_replies.yaml"), " " * 12),
            "response_gate": textwrap.indent(_template("response_gate.lua"), " " * 18),
        },
        directory=settings.directory,
        http_host=settings.http_host,
        http_port=settings.http_port,
        access_log=settings.access_log,
        hold_seconds=f"{settings.hold_seconds:.3f}",
        idle_seconds=f"{idle_seconds(settings.hold_seconds):.3f}",
        buffer_bytes=settings.buffer_bytes,
    )


def _check(settings: EdgeSettings) -> None:
    if not settings.worker_sockets:
        raise ConfigError("edge: no worker sockets")
    if not 0 < settings.hold_seconds <= _LONGEST_HOLD_SECONDS:
        raise ConfigError("edge: hold_seconds must be more than 0 and at most 3600")
    tls = settings.tls
    if tls is not None and tls.require_client_certificate and tls.client_ca_file is None:
        raise ConfigError("edge: require_client_certificate needs client_ca_file")


def _admin_address(settings: EdgeSettings) -> str:
    if (path := settings.admin_socket) is not None:
        return f"{{pipe: {{path: {json.dumps(str(path))}, mode: {_SOCKET_MODE}}}}}"
    return f"{{socket_address: {{address: {json.dumps(settings.admin_host)}, port_value: {settings.admin_port}}}}}"


def _endpoint(socket: Path) -> str:
    return f"        - {{endpoint: {{address: {{pipe: {{path: {json.dumps(str(socket))}}}}}}}}}"


def _tls_listener(settings: EdgeSettings) -> str:
    tls = settings.tls
    if tls is None:
        return ""
    validation = ""
    if tls.client_ca_file is not None:
        validation = (
            f"            validation_context: {{trusted_ca: {{filename: {json.dumps(str(tls.client_ca_file))}}}}}"
        )
    return _filled(
        "tls_listener.yaml",
        _blocks={"validation": validation},
        tls_host=tls.host,
        tls_port=tls.port,
        buffer_bytes=settings.buffer_bytes,
        certificate_file=tls.certificate_file,
        key_file=tls.key_file,
        require_client_certificate=str(tls.require_client_certificate).lower(),
    )


def _template(name: str) -> str:
    try:
        return (TEMPLATES / name).read_text(encoding="utf-8").rstrip("\n")
    except OSError as error:
        raise ConfigError(f"{TEMPLATES / name}: {error.strerror}") from None


def _filled(name: str, *, _blocks: dict[str, str], **values: object) -> str:
    """``name`` with its names replaced. Values stand within quotes and are escaped so; blocks are YAML already."""
    escaped = {key: json.dumps(str(value))[1:-1] for key, value in values.items()}
    return Template(_template(name)).substitute(escaped | _blocks) + "\n"
