"""``console``: where people see what waits, and the evidence."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import model_validator

from ext_proc.approval.channels.address import LOOPBACK
from ext_proc.config.fields import Address, Like, Section


class RolesSection(Section):
    """Which groups of the token have a role at the console. Whoever has none sees nothing but their own calls."""

    approver: list[str] = []
    """May see calls that wait. Which of them they may resolve, the policy says, call by call."""
    auditor: list[str] = []
    """May search and read the evidence: what they read is recorded."""
    operator: list[str] = []
    """May see how the evidence stands, and charts."""
    policy_author: list[str] = []
    """May see which policies decided, and charts."""


class ConsoleSection(Section):
    """The console: pages and an API for the people who approve, audit and operate (`affidavit console`)."""

    listen: Address = "127.0.0.1:8090"
    """Where it listens. TLS is ended before it."""
    metrics: Address | None = None
    """Where the console's own `/metrics` are served, for example `127.0.0.1:9466`; never where browsers come to."""
    public_url: Annotated[
        str, Like(r"https?://[^\s/?#@]+", "scheme, host and port without a user, for example https://desk.example.com")
    ]
    """How browsers and callers know it: scheme, host and port. It stands in what a caller whose call waits is told."""
    issuer: str | None = None
    """Which of `identity.issuers` people sign in with. Left out: the only one."""
    client_id: str = "affidavit-console"
    """The console's name at that issuer (authorization code with PKCE); its ID tokens are for this audience."""
    client_secret_file: Path | None = None
    """A secret, if the issuer wants one."""
    scopes: list[Annotated[str, Like(r"[!#-\[\]-~]+", "one word, for example openid")]] = ["openid", "profile"]
    """What is asked for: `openid`, and what the issuer wants for groups."""
    roles: RolesSection = RolesSection()
    """Who may see what."""

    @model_validator(mode="after")
    def _is_usable(self) -> ConsoleSection:
        if "openid" not in self.scopes:
            raise ValueError("scopes: must name openid, or the issuer says nobody's name")
        try:
            parts = urlsplit(self.public_url)
            is_origin = parts.username is None and parts.port != 0 and bool(parts.hostname)
        except ValueError:
            parts, is_origin = None, False
        if parts is None or not is_origin:
            raise ValueError("public_url: scheme, host and port are wanted, for example https://desk.example.com")
        if parts.scheme == "http" and parts.hostname not in LOOPBACK:
            raise ValueError(
                "public_url: must be https, but for loopback: session cookies are not for the open network"
            )
        return self
