"""``listen``: where Envoy listens."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field, model_validator

from ext_proc.config.fields import Address, AddressOrSocket, Section


class TlsListener(Section):
    """The listener that callers use from elsewhere."""

    address: Address
    """Host and port to listen on, for example `0.0.0.0:8443`."""
    certificate_file: Path
    """PEM chain of the server certificate."""
    key_file: Path
    """PEM private key of the server certificate."""
    client_ca_file: Path | None = None
    """PEM authorities of client certificates. Set: a caller may show one, and it can serve as identity."""
    require_client_certificate: bool = False
    """Refuse callers without a client certificate during the handshake."""

    @model_validator(mode="after")
    def _has_authority(self) -> TlsListener:
        if self.require_client_certificate and self.client_ca_file is None:
            raise ValueError("require_client_certificate needs client_ca_file")
        return self


class Listen(Section):
    """Where Envoy listens."""

    http: Address = "127.0.0.1:8080"
    """Plain HTTP, for callers on the same host or pod only."""
    tls: TlsListener | None = None
    """TLS for everyone else."""
    admin: AddressOrSocket = "127.0.0.1:9901"
    """Envoy's admin interface: on loopback, or, where others share the loopback (a pod), a Unix socket
    (`unix:/run/envoy/admin.sock`) in a folder that Envoy may write to and that nobody but Envoy and the gate has."""
    hold_seconds: Annotated[float, Field(gt=0, le=3600)] = 60.0
    """How long Envoy waits for the gate's answer in one phase."""

    @property
    def longest_wait_seconds(self) -> float:
        """For people, so that there is time for all else that is done with a call before Envoy gives up."""
        return max(self.hold_seconds - 5, self.hold_seconds / 2)
