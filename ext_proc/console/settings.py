"""What the console needs to know beforehand. `ext_proc.app` fills it in from the configuration."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from ext_proc.approval.hold import JUSTIFICATION_MIN
from ext_proc.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from ext_proc.console.people import Role


@dataclass(frozen=True, slots=True)
class Client:
    """What the console is to its issuer. ``secret_file``: None for a public client (PKCE protects either)."""

    client_id: str
    secret_file: Path | None = None
    scopes: tuple[str, ...] = ("openid", "profile")


@dataclass(frozen=True, slots=True)
class Settings:
    """``public_url`` is the origin by which browsers know the console: scheme, host and port, nothing else.
    ``justification_min``: characters that a justification must have, as people are told.

    Raises:
        ConfigError: it is not.
    """

    public_url: str
    client: Client
    roles: Mapping[Role, tuple[str, ...]]
    justification_min: int = JUSTIFICATION_MIN

    def __post_init__(self) -> None:
        parts = urlsplit(self.public_url)
        is_origin = f"{parts.scheme}://{parts.netloc}" == self.public_url and parts.username is None
        if parts.scheme not in {"http", "https"} or not parts.hostname or not is_origin:
            raise ConfigError(
                "console.public_url: scheme, host and port are wanted, for example https://desk.example.com"
            )
        if parts.scheme == "http" and parts.hostname not in {"127.0.0.1", "::1", "localhost"}:
            raise ConfigError("console.public_url must be https: session cookies are not for the open network")

    @property
    def is_https(self) -> bool:
        """Then cookies are for https only."""
        return self.public_url.startswith("https://")
