"""The bootstrap: a file that a person can read (``envoy/bootstrap.yaml``), with the configuration's values put in."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from string import Template

TEMPLATES = Path(__file__).resolve().parent.parent.parent / "envoy"


@dataclass(frozen=True, slots=True)
class TlsSettings:
    """The TLS listener."""

    host: str
    port: int
    certificate_file: Path
    key_file: Path
    client_ca_file: Path | None
    require_client_certificate: bool


@dataclass(frozen=True, slots=True)
class EdgeSettings:
    """What the bootstrap needs. ``buffer_bytes``: the largest body of any connection must fit."""

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


def render_bootstrap(settings: EdgeSettings) -> str:
    """The bootstrap as YAML."""
    endpoints = "".join(
        f'        - {{endpoint: {{address: {{pipe: {{path: "{socket}"}}}}}}}}\n' for socket in settings.worker_sockets
    )
    return _filled(
        "bootstrap.yaml",
        directory=settings.directory,
        http_host=settings.http_host,
        http_port=settings.http_port,
        admin_host=settings.admin_host,
        admin_port=settings.admin_port,
        access_log=settings.access_log,
        hold_seconds=f"{settings.hold_seconds:.3f}",
        buffer_bytes=settings.buffer_bytes,
        worker_endpoints=endpoints.rstrip("\n"),
        tls_listener=_tls_listener(settings),
    )


def _tls_listener(settings: EdgeSettings) -> str:
    tls = settings.tls
    if tls is None:
        return ""
    validation = ""
    if tls.client_ca_file is not None:
        validation = f'            validation_context: {{trusted_ca: {{filename: "{tls.client_ca_file}"}}}}'
    return _filled(
        "tls_listener.yaml",
        tls_host=tls.host,
        tls_port=tls.port,
        buffer_bytes=settings.buffer_bytes,
        certificate_file=tls.certificate_file,
        key_file=tls.key_file,
        require_client_certificate=str(tls.require_client_certificate).lower(),
        validation=validation,
    )


def _filled(name: str, **values: object) -> str:
    return Template((TEMPLATES / name).read_text()).substitute({key: str(value) for key, value in values.items()})
