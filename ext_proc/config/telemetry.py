"""``telemetry``: what is told to others while it happens."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field, model_validator

from ext_proc.approval.channels.address import BadAddress, check_url
from ext_proc.config.addresses import url_without_user
from ext_proc.config.fields import Section, Text


class OtlpSection(Section):
    """An OpenTelemetry collector that gets a trace of each exchange: steps, codes and times, never content."""

    endpoint: Annotated[Text, url_without_user("a key belongs in headers_file")]
    """Its OTLP/HTTP address, for example `https://collector.example.com:4318`; `/v1/traces` is put behind it."""
    headers_file: Path | None = None
    """Lines `name: value` that it wants to be told (a key); for the owner's eyes only."""
    ca_file: Path | None = None
    """PEM authorities of its certificate, where those of the system do not do."""
    unsafe_allow_http: bool = False
    """Send without TLS beyond loopback: whoever is on the way reads which models are called, and when."""
    sample_ratio: Annotated[float, Field(ge=0, le=1)] = 1.0
    """Of exchanges whose caller's trace does not say so already, how many are traced."""

    @model_validator(mode="after")
    def _is_address(self) -> OtlpSection:
        is_plain = self.unsafe_allow_http and self.endpoint.startswith("http://")
        try:
            check_url(f"https://{self.endpoint.removeprefix('http://')}" if is_plain else self.endpoint)
        except BadAddress as error:
            raise ValueError(f"endpoint: {error}") from None
        return self


class TelemetrySection(Section):
    """What is told to others while it happens. Metrics and logs are always there; see docs/operating.md."""

    otlp: OtlpSection | None = None
    """Where traces go. Left out: nowhere, and they cost nothing."""
