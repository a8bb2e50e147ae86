"""The whole file, and what its parts say about each other."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import Field, model_validator

from ext_proc.config.approvals import ApprovalsSection, WebhookSection
from ext_proc.config.audit import AuditSection
from ext_proc.config.connections import ConnectionSection
from ext_proc.config.console import ConsoleSection
from ext_proc.config.fields import MIB, SOCKET_PATH_BYTES_MAX, Address, PositiveSeconds, Section, check_apart, once
from ext_proc.config.identity import PAIRWISE_HOSTS, IdentitySection
from ext_proc.config.listen import Listen
from ext_proc.config.policy import PolicySection
from ext_proc.config.redaction import RedactionSection
from ext_proc.config.telemetry import TelemetrySection


class Config(Section):
    """Affidavit's configuration file."""

    run_dir: Path
    """Sockets, process ids and Envoy's rendered files: emptied by a reboot, writable by us, readable by Envoy."""
    state_dir: Path
    """Evidence not yet shipped, and the registry of subject keys: must survive a restart."""
    workers: Annotated[int, Field(ge=1, le=64)] = 2
    """Worker processes, each with a Unix socket of its own."""
    drain_seconds: PositiveSeconds = 20.0
    """Time for exchanges in flight to end when stopping."""
    metrics: Address = "127.0.0.1:9464"
    """Where `/metrics`, `/ready` and `/live` are served."""
    telemetry: TelemetrySection = TelemetrySection()
    """Traces."""
    listen: Listen = Listen()
    """Where Envoy listens."""
    identity: IdentitySection
    """Who may ask."""
    policy: PolicySection
    """Where the decision is made."""
    redaction: RedactionSection
    """What may pass."""
    audit: AuditSection
    """The evidence."""
    approvals: ApprovalsSection = ApprovalsSection()
    """Calls that wait for people."""
    console: ConsoleSection | None = None
    """Where people see and resolve them. Left out: there is no console, and callers are told no status URL."""
    connections: Annotated[list[ConnectionSection], Field(min_length=1)]
    """The inference services. Changing this list needs no restart (`affidavit reload`)."""

    @model_validator(mode="after")
    def _is_consistent(self) -> Config:
        once("connections: two have the name", (one.name for one in self.connections))
        claims = (f"{host} {one.path_prefix}" for one in self.connections for host in one.hosts)
        once("connections: two have the host and path_prefix", claims)
        once("identity.issuers: two have the issuer", (one.issuer for one in self.identity.issuers))
        self._check_listeners()
        self._check_identity()
        self._check_ner()
        self._check_console()
        for one in self.connections:
            if one.hold_seconds is not None and one.hold_seconds > self.listen.longest_wait_seconds:
                raise ValueError(
                    f"connections: {one.name}: hold_seconds must be at most {self.listen.longest_wait_seconds:g}: "
                    f"after listen.hold_seconds Envoy gives up"
                )
        largest = max(max(c.request_limit_bytes, c.response_limit_bytes) for c in self.connections)
        if self.audit.wal.segment_bytes < 2 * largest + MIB // 4:
            raise ValueError(
                f"audit.wal.segment_bytes must be at least {2 * largest + MIB // 4}: the largest record must fit"
            )
        socket = self.run_dir.absolute() / f"worker-{self.workers - 1}.sock"
        if len(os.fsencode(socket)) > SOCKET_PATH_BYTES_MAX:
            raise ValueError(f"run_dir: too long, {socket} must have at most {SOCKET_PATH_BYTES_MAX} bytes")
        return self

    def _check_listeners(self) -> None:
        """Each process of one host where the others are not. (The console may be on another.)"""
        tls, distribution, console = self.listen.tls, self.policy.distribution, self.console
        apart = {"listen.http": self.listen.http, "listen.admin": self.listen.admin, "metrics": self.metrics}
        apart |= {"listen.tls.address": tls.address} if tls else {}
        apart |= {"policy.distribution.listen": distribution.listen} if distribution else {}
        check_apart(apart)
        if console is not None and console.metrics is not None:
            check_apart({"console.listen": console.listen, "console.metrics": console.metrics})

    def _check_ner(self) -> None:
        """A recogniser that nobody asks, and one that is asked and is not there, are not what somebody wanted."""
        asking = [one.name for one in self.connections if one.ner is not None and one.ner.mode != "off"]
        if asking and self.redaction.ner is None:
            raise ValueError(f"redaction.ner: connection {asking[0]} looks for names, but there is no recogniser")
        if self.redaction.ner is None:
            return
        if not asking:
            raise ValueError("redaction.ner: no connection has ner, so nobody would be looked for")
        if self.redaction.ner.deadline_ms >= 1000 * self.listen.hold_seconds:
            raise ValueError("redaction.ner.deadline_ms: must be less than listen.hold_seconds, when Envoy gives up")

    def _check_console(self) -> None:
        """People sign in with an issuer that the gate knows: approver and caller must be one person to both."""
        if self.console is None:
            if self.approvals.channels:
                raise ValueError("approvals.channels: there is no console, and it is the console that tells them")
            return
        known = [one.issuer for one in self.identity.issuers]
        if self.console.issuer is None and len(known) != 1:
            raise ValueError(f"console.issuer: name one of identity.issuers ({', '.join(known) or 'there is none'})")
        if self.console.issuer is not None and self.console.issuer not in known:
            raise ValueError("console.issuer: it must be one of identity.issuers")
        self._check_subjects(self.console)
        for one in self.approvals.channels:
            if isinstance(one, WebhookSection) and one.answers and not set(one.answers.issuers).issubset(known):
                raise ValueError(f"approvals.channels: {one.name}: answers.issuers must be among identity.issuers")

    def _check_subjects(self, console: ConsoleSection) -> None:
        """Where a provider is known to name people anew for each client, callers are strangers at the console."""
        issuer = next(one for one in self.identity.issuers if console.issuer in {None, one.issuer})
        if issuer.names_people_by_sub_to(console.client_id) and urlsplit(issuer.issuer).hostname in PAIRWISE_HOSTS:
            raise ValueError(
                f"identity.issuers: {issuer.issuer}: claims.subject: its `sub` is another for each client, so nobody "
                "would be kept from approving a call of their own: name a claim that is not, for example oid"
            )

    def _check_identity(self) -> None:
        """Nobody could call a connection that accepts only what is not set up."""
        if not self.identity.issuers and self.identity.mtls is None:
            raise ValueError("identity: name at least one issuer, or mtls")
        accepted = {way for connection in self.connections for way in connection.accepts}
        if "oidc" in accepted and not self.identity.issuers:
            raise ValueError("identity.issuers: a connection accepts oidc, but there is no issuer")
        if "mtls" in accepted and self.identity.mtls is None:
            raise ValueError("identity.mtls: a connection accepts mtls, but this is not set")
        tls = self.listen.tls
        if self.identity.mtls is not None and (tls is None or tls.client_ca_file is None):
            raise ValueError("listen.tls.client_ca_file: identity.mtls needs it")
