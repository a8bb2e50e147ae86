"""From the configuration's sections to the values that rooms take: ``config`` stands above the rooms, so here.

What Envoy needs is in `ext_proc.app.edge_files`: a worker has no use for it, and Envoy's types cost a second to import.
"""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from ext_proc import telemetry
from ext_proc.app.exchange.tokens import VaultDesk
from ext_proc.approval.register import Limits
from ext_proc.approval.register_sql import SqlRegister
from ext_proc.approval.watch import open_watch
from ext_proc.audit.keys import KeyRing
from ext_proc.audit.registry_sql import SqlRegistry
from ext_proc.audit.signer import LocalSigner
from ext_proc.audit.vault_sql import SqlVault
from ext_proc.audit.writer import WalLimits
from ext_proc.database import sqlite_url
from ext_proc.errors import ConfigError
from ext_proc.identity.authenticator import MtlsTrust
from ext_proc.identity.keys import KeySet, KeySource
from ext_proc.identity.token import ClaimNames, Trust
from ext_proc.model import Connection, Credential, Direction, Operation, PolicyVersion, Recognition
from ext_proc.ner import Pool, Recipe
from ext_proc.policy.bundle import read_version
from ext_proc.policy.field_rules import read_rules

if TYPE_CHECKING:
    from pathlib import Path

    from cryptography.x509 import Certificate

    from ext_proc.approval.channels.outbox_sql import SqlOutbox
    from ext_proc.approval.watch import Watch
    from ext_proc.audit.attest import Outsiders
    from ext_proc.audit.note import Signer
    from ext_proc.config import Claims, Config, ConnectionNer, Issuer, NerSection
    from ext_proc.policy.opa import OpaPolicy
    from ext_proc.tracing import Tracing

REGISTRY_FILE: Final = "registry.sqlite"
"""In ``state_dir``: the registry of subject keys, where no database is named."""
HOLD_SECONDS: Final = 50.0
"""What proxies and clients on the way commonly bear is a minute."""


def worker_socket(config: Config, index: int) -> Path:
    """Where worker ``index`` listens."""
    return config.run_dir / f"worker-{index}.sock"


def evidence_directory(config: Config) -> Path:
    """Where the logs' epochs are."""
    return config.state_dir / "evidence"


def bundle_copies(config: Config) -> Path:
    """Where the gate keeps bundles, each named by its digest."""
    return config.state_dir / "policy"


def opa_policy(config: Config) -> OpaPolicy:
    """Who decides; not started."""
    from ext_proc.policy.opa import OpaPolicy  # only a worker asks it

    told = config.policy
    return OpaPolicy(
        told.opa_socket,
        told.package,
        told.rule,
        told.bundle_file,
        told.timeout_seconds,
        bundle_copies(config) if told.distribution is not None else None,
    )


def shadow_policy(config: Config) -> OpaPolicy | None:
    """The candidate that is asked too; None: there is none."""
    from ext_proc.policy.opa import OpaPolicy

    told, shadow = config.policy, config.policy.shadow
    if shadow is None:
        return None
    return OpaPolicy(shadow.opa_socket, told.package, told.rule, shadow.bundle_file, told.timeout_seconds)


def policy_version(config: Config) -> PolicyVersion:
    """Which policy is in force, as far as the gate's files say: for what is told of a log, not of a decision.

    Raises:
        ConfigError: there is no bundle.
    """
    if config.policy.distribution is not None:
        with suppress(OSError, ValueError, LookupError, TypeError):
            [*_, told] = json.loads((bundle_copies(config) / "accepted.json").read_text())
            return PolicyVersion(told["revision"], told["digest"])
    return read_version(config.policy.bundle_file)


def access_log_path(config: Config) -> Path:
    """What Envoy writes: alone in its folder, which is all of ``state_dir`` that Envoy needs."""
    return (config.state_dir / "access" / "access.jsonl").absolute()


def keyring(config: Config) -> KeyRing:
    """The keys of the payloads.

    Raises:
        ConfigError: a key file or the registry's address is not as it must be.
        AuditUnavailable: the registry cannot be opened.
    """
    audit = config.audit
    return KeyRing.from_url(audit.key_encryption_key_file, audit.pepper_file, *_registry(config))


def token_desk(config: Config, keys: KeyRing) -> VaultDesk:
    """Where tokens are made and looked up. The vault is opened when one is first asked for.

    Raises:
        ConfigError: the registry's address is not as it must be.
    """
    return VaultDesk(
        keys, SqlVault.from_url(*_registry(config)), timedelta(seconds=config.redaction.tokens.ttl_seconds)
    )


def register_of_holds(config: Config) -> SqlRegister:
    """Where holds are kept: beside the keys. It is opened when a call is first held.

    Raises:
        ConfigError: the registry's address is not as it must be.
    """
    section = config.approvals
    limits = Limits(section.pending_max, section.pending_max_per_caller)
    return SqlRegister.from_url(*_registry(config), limits)


def outbox_of_holds(config: Config) -> SqlOutbox:
    """What channels are still to be told of holds: beside them. It is opened when it is first asked.

    Raises:
        ConfigError: the registry's address is not as it must be.
    """
    from ext_proc.approval.channels.outbox_sql import SqlOutbox  # nothing for a worker

    return SqlOutbox.from_url(*_registry(config))


def watch_over_holds(config: Config) -> Watch:
    """What rings when a hold changes. Nothing is opened yet.

    Raises:
        ConfigError: the registry's address is not as it must be.
    """
    return open_watch(*_registry(config))


def _registry(config: Config) -> tuple[str, Path | None]:
    """Address and password file of the registry's database."""
    audit = config.audit
    if audit.registry_url:
        return audit.registry_url, audit.registry_password_file
    return sqlite_url(config.state_dir / REGISTRY_FILE), None


def take_over_file(config: Config) -> int:
    """From the file in ``state_dir`` to the database of ``audit.registry_url``, once, when that is new: keys and legal
    holds. Without them no payload of before could be read, and nobody of before erased. How many keys.

    Raises:
        ConfigError: the database has other keys of the same people, or the file cannot be moved aside.
        AuditUnavailable: one of both cannot be used.
    """
    path = config.state_dir / REGISTRY_FILE
    if not config.audit.registry_url or not path.exists():
        return 0
    old, new = SqlRegistry.from_url(sqlite_url(path)), SqlRegistry.from_url(*_registry(config))
    try:
        if new.is_kept_in(path):  # the file itself was named: there is nothing to move
            return 0
        copied = new.take_over(old)
    finally:
        old.close()
        new.close()
    try:
        path.rename(path.with_suffix(".sqlite.moved"))
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from None
    return copied


def log_signer(config: Config) -> Signer:
    """Who signs the log.

    Raises:
        ConfigError: the key is not there, or of another kind.
        AuditUnavailable: whoever keeps it does not answer.
    """
    signing = config.audit.signing
    if signing.file is not None:
        return LocalSigner.from_file(signing.file)
    if signing.aws_kms is not None:
        from ext_proc.audit.signer_kms import KmsSigner

        return KmsSigner(signing.aws_kms.key_id, signing.aws_kms.region, signing.aws_kms.endpoint)
    from ext_proc.audit.signer_openbao import OpenBaoSigner, TransitKey

    told = signing.openbao
    if told is None:
        raise ConfigError("audit.signing names no key")
    key = TransitKey(told.address, told.key, told.token_file, told.mount, told.namespace, told.ca_file)
    return OpenBaoSigner(key, told.version)


def receipt_signer(config: Config) -> Signer:
    """Who signs callers' receipts.

    Raises:
        ConfigError: the key file is not as it must be.
    """
    return LocalSigner.from_file(config.audit.receipt_key_file)


def outsiders(config: Config) -> Outsiders:
    """Who attests the log from outside.

    Raises:
        ConfigError: a certificate or a key is not as it must be.
    """
    from ext_proc.audit.attest import Outsiders  # nothing for a worker
    from ext_proc.audit.timestamp import Authority
    from ext_proc.audit.witness import Witness, Witnesses, parse_witness_key

    audit = config.audit
    authorities = [Authority(one.url, _certificates(one.certificates_file)) for one in audit.time_stamp_authorities]
    asked = [Witness(one.url, parse_witness_key(one.key)) for one in audit.witnesses]
    return Outsiders(authorities, Witnesses(asked, audit.witness_quorum) if asked else None)


def _certificates(path: Path) -> tuple[Certificate, ...]:
    from ext_proc.audit.timestamp import read_certificates

    try:
        return read_certificates(path.read_bytes(), str(path))
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from None


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
            hold_seconds=section.hold_seconds or min(HOLD_SECONDS, config.listen.longest_wait_seconds),
            recognition=_recognition(section.ner),
            request_fields=read_rules(section.redaction.fields.written("request"), Direction.REQUEST, "connection"),
            response_fields=read_rules(section.redaction.fields.written("response"), Direction.RESPONSE, "connection"),
        )
        for section in config.connections
    }


def _recognition(section: ConnectionNer | None) -> Recognition | None:
    if section is None or section.mode == "off":
        return None
    return Recognition(streams=section.streams, may_fail=section.on_failure == "pass")


def recipe(section: NerSection) -> Recipe:
    """What the recogniser of names is made of."""
    return Recipe(section.adapter, tuple(section.entities), section.score_min, section.options)


def recogniser(config: Config) -> Pool | None:
    """The recogniser of names, not started yet; None where there is none."""
    section = config.redaction.ner
    if section is None:
        return None
    return Pool(recipe(section), workers=section.workers, deadline_seconds=section.deadline_ms / 1000)


def largest_body_bytes(config: Config) -> int:
    """The largest body of any connection, either way."""
    return max(max(c.request_limit_bytes, c.response_limit_bytes) for c in config.connections)


def trusts(config: Config) -> list[tuple[Trust, KeySet]]:
    """The accepted issuers with their keys."""
    return [trust_of(issuer) for issuer in config.identity.issuers]


def people_issuer(config: Config, name: str | None) -> Issuer:
    """The issuer that people sign in with: that name, or the only one."""
    return next(one for one in config.identity.issuers if name is None or one.issuer == name)


def trust_of(issuer: Issuer) -> tuple[Trust, KeySet]:
    """An issuer's trust and keys, for the gateway's own tokens."""
    return _trust(issuer), KeySet(_source(issuer))


def trust_for(issuer: Issuer, audience: str) -> tuple[Trust, KeySet]:
    """An issuer's trust and keys, for tokens that are meant for this audience alone."""
    return replace(_trust(issuer), audiences=(audience,)), KeySet(_source(issuer))


def tracing(config: Config, instance: str) -> Tracing | None:
    """Who makes traces; None: nobody does, and nothing is imported for it.

    Raises:
        ConfigError: the file of headers, or of authorities, cannot be used, or OpenTelemetry is not installed.
    """
    otlp = config.telemetry.otlp
    if otlp is None:
        return None
    from ext_proc.tracing import Collector, Tracing  # OpenTelemetry is an option

    headers = headers_of(otlp.headers_file) if otlp.headers_file else {}
    ca_file = str(otlp.ca_file) if otlp.ca_file else None
    collector = Collector(otlp.endpoint, headers, ca_file, otlp.sample_ratio)
    return Tracing(collector, f"{config.audit.replica}-{instance}", _tell_of_collector)


def _tell_of_collector(why: str | None) -> None:
    log = telemetry.logger()
    if why is None:
        log.info("the collector takes traces again")
    else:
        log.warning("the collector takes no traces: they are dropped", why=why)


def headers_of(path: Path) -> dict[str, str]:
    """What is to be told to an HTTP server, from a file for the owner's eyes only.

    Raises:
        ConfigError: it cannot be read, or holds something else.
    """
    try:
        lines = [line.strip() for line in path.read_text().splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError):
        raise ConfigError(f"{path}: cannot be read") from None
    found = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    if not all(found) or not all(found.values()):
        raise ConfigError(f"{path}: lines of the form `name: value` are wanted")
    return found


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
