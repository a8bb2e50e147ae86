"""From the configuration's sections to the values that rooms take: ``config`` stands above the rooms, so here.

What Envoy needs is in `ext_proc.app.edge_files`: a worker has no use for it, and Envoy's types cost a second to import.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ext_proc.audit.writer import WalLimits
from ext_proc.identity.authenticator import MtlsTrust
from ext_proc.identity.keys import KeySet, KeySource
from ext_proc.identity.token import ClaimNames, Trust
from ext_proc.model import Connection, Credential, Operation

if TYPE_CHECKING:
    from pathlib import Path

    from ext_proc.config import Claims, Config, Issuer


def worker_socket(config: Config, index: int) -> Path:
    """Where worker ``index`` listens."""
    return config.run_dir / f"worker-{index}.sock"


def evidence_directory(config: Config) -> Path:
    """Where the logs' epochs are."""
    return config.state_dir / "evidence"


def key_registry(config: Config) -> Path:
    """The wrapped subject keys."""
    return config.state_dir / "registry.sqlite"


def wal_limits(config: Config) -> WalLimits:
    """Sizes of the log."""
    wal = config.audit.wal
    return WalLimits(wal.segment_bytes, wal.max_bytes, wal.emergency_bytes, wal.seal_seconds)


def connections(config: Config) -> dict[str, Connection]:
    """The registry of connections, by name."""
    return {
        section.name: Connection(
            name=section.name,
            operations=tuple(Operation(o.method, o.path, o.protocol) for o in section.operations),
            credential=Credential(section.credential.header, str(section.credential.file), section.credential.prefix)
            if section.credential
            else None,
            request_limit_bytes=section.request_limit_bytes,
            response_limit_bytes=section.response_limit_bytes,
            accepts=tuple(section.accepts),
            unsafe_allow_upgrade=section.unsafe_allow_upgrade,
            tags=tuple(section.tags),
        )
        for section in config.connections
    }


def largest_body_bytes(config: Config) -> int:
    """The largest body of any connection, either way."""
    return max(max(c.request_limit_bytes, c.response_limit_bytes) for c in config.connections)


def trusts(config: Config) -> list[tuple[Trust, KeySet]]:
    """The accepted issuers with their keys."""
    return [(_trust(issuer), KeySet(_source(issuer))) for issuer in config.identity.issuers]


def mtls(config: Config) -> MtlsTrust | None:
    """How client certificates count."""
    section = config.identity.mtls
    return MtlsTrust(section.name, tuple(section.subject_from)) if section else None


def _trust(issuer: Issuer) -> Trust:
    return Trust(
        issuer.issuer,
        tuple(issuer.audiences),
        tuple(issuer.algorithms),
        issuer.leeway_seconds,
        _claims(issuer.claims),
    )


def _claims(claims: Claims) -> ClaimNames:
    def path(value: str | list[str]) -> tuple[str, ...]:
        return (value,) if isinstance(value, str) else tuple(value)

    return ClaimNames(path(claims.subject), path(claims.groups), path(claims.client), path(claims.tenant))


def _source(issuer: Issuer) -> KeySource:
    return KeySource(
        issuer=issuer.issuer,
        jwks_uri=issuer.jwks_uri,
        ca_file=issuer.ca_file,
        bearer_token_file=issuer.bearer_token_file,
        unsafe_allow_http=issuer.unsafe_allow_http,
    )
