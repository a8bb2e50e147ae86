"""``audit``: the evidence, on the disk and in the store, and who signs, stamps and witnesses it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field, model_validator

from ext_proc.config.addresses import has_password, secret_parameter, url_without_user
from ext_proc.config.fields import MIB, Bytes, Like, Name, PositiveSeconds, Section, once


class S3Section(Section):
    """The store of the evidence."""

    bucket: Annotated[
        str,
        Like(
            r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]",
            "a bucket's name: 3 to 63 lower-case letters, digits, dots and dashes",
        ),
    ]
    """A bucket with Object Lock and a default retention in COMPLIANCE mode."""
    prefix: Annotated[
        str, Like(r"([A-Za-z0-9._-]+/)*", "nothing, or letters, digits, dots, _ and dashes that end in a slash")
    ] = ""
    """Put before every key; empty or ending in a slash."""
    region: str = "us-east-1"
    """The bucket's region."""
    endpoint: Annotated[str, url_without_user("keys belong in credentials_file")] | None = None
    """Another S3 server than AWS."""
    credentials_file: Path | None = None
    """AWS credentials file (`[default]`; `aws_session_token` too), read again for each request. Left out: the usual AWS
    chain (pod identity, instance role).
    """
    retention_days: Annotated[int, Field(ge=1)] = 400
    """Every object must be locked at least this long (13 months: a year's audit and a bridge)."""


class WalSection(Section):
    """Evidence on this machine's disk, before it is in the store."""

    segment_bytes: Bytes = 16 * MIB
    """Size of one preallocated file. The largest record (a request or answer twice, encrypted) must fit."""
    max_bytes: Bytes = 4096 * MIB
    """Space for all evidence not yet shipped. When it is used up, calls are refused with 503."""
    emergency_bytes: Bytes = 8 * MIB
    """Set apart so that refusals for want of space are still recorded."""
    seal_seconds: PositiveSeconds = 15.0
    """A file with content is closed and shipped after this time at the latest. Each costs three objects."""

    @model_validator(mode="after")
    def _has_space(self) -> WalSection:
        if self.max_bytes < self.segment_bytes + self.emergency_bytes:
            raise ValueError("max_bytes must be at least segment_bytes and emergency_bytes together")
        return self


class KmsKey(Section):
    """An Ed25519 key in AWS KMS (`ECC_NIST_EDWARDS25519`)."""

    key_id: str
    """Its id, ARN or alias."""
    region: str | None = None
    """Its region. Left out: the usual AWS chain."""
    endpoint: Annotated[str, url_without_user("keys come by the usual AWS chain")] | None = None
    """Another server than AWS."""


class OpenBaoKey(Section):
    """An Ed25519 key in the transit engine of OpenBao or Vault."""

    address: Annotated[str, url_without_user("the token belongs in token_file")]
    """Base URL of the server."""
    key: str
    """The key's name."""
    version: Annotated[int, Field(ge=1)]
    """The key's version: another version is another key, and the way there is `affidavit keys rotate`."""
    token_file: Path
    """A token that may sign with it; read again when it changes."""
    mount: str = "transit"
    """Where the engine is mounted."""
    namespace: str | None = None
    """The namespace, if there are any."""
    ca_file: Path | None = None
    """PEM authorities of the server's TLS, if not public."""


class SigningSection(Section):
    """Who signs the log. Exactly one of these."""

    file: Path | None = None
    """32 random bytes: an Ed25519 seed on this machine (`affidavit keys create FILE`)."""
    aws_kms: KmsKey | None = None
    """A key that never leaves AWS KMS."""
    openbao: OpenBaoKey | None = None
    """A key that never leaves OpenBao or Vault."""

    @model_validator(mode="after")
    def _is_one(self) -> SigningSection:
        if sum(one is not None for one in (self.file, self.aws_kms, self.openbao)) != 1:
            raise ValueError("name exactly one of file, aws_kms and openbao")
        return self


class TimeStampAuthority(Section):
    """An RFC 3161 authority."""

    url: Annotated[str, url_without_user("where it wants one, let a proxy of yours add it")]
    """Where it answers."""
    certificates_file: Path
    """PEM certificates that its stamps must verify with."""


class WitnessSection(Section):
    """A C2SP witness."""

    url: Annotated[str, url_without_user("what a witness gets is signed")]
    """Its base URL; `/add-checkpoint` is put after it."""
    key: str
    """Its verifier key (`name+id+base64`)."""


class AuditSection(Section):
    """The evidence."""

    origin: Annotated[
        str,
        Like(
            r"[A-Za-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9._-]+)*",
            "letters, digits, dots, _ and dashes, with single slashes between them",
        ),
    ] = "affidavit"
    """First part of the name of every log of this gateway, for example `audit.example.com/prod`."""
    replica: Name = "gw-0"
    """This replica's name: stable over restarts, unique within the origin."""
    replica_file: Path | None = None
    """A file that holds the replica's name instead, so that all replicas have one configuration (a pod's own name)."""
    key_encryption_key_file: Path
    """32 random bytes that wrap the subjects' keys."""
    pepper_file: Path
    """32 random bytes for keyed references to people (`hmac-sha256:…`)."""
    signing: SigningSection
    """Who signs the log's checkpoints, digests and birth records."""
    receipt_key_file: Path
    """32 random bytes: the Ed25519 seed of callers' receipts, and of nothing else."""
    registry_url: str | None = None
    """Database of the wrapped subject keys, for several replicas: `postgresql+psycopg://user@host/name`.
    Left out: a file in `state_dir`."""
    registry_password_file: Path | None = None
    """The database's password."""
    heartbeat_seconds: Annotated[int, Field(ge=1, le=600)] = 60
    """A log that has nothing to say says so this often: silence is signed."""
    canary_hours: Annotated[float, Field(gt=0, le=168)] = 24.0
    """How often the store is asked, by trying, whether it really keeps what it locked. Also at every start."""
    daily_hour: Annotated[int, Field(ge=0, le=23)] | None = 2
    """From when on (UTC) the day before is reconciled and rolled up, unless another replica did so. ``null``: never,
    you run `affidavit reconcile` and `affidavit rollup`."""
    time_stamp_authorities: list[TimeStampAuthority] = []
    """Who stamps the hourly digests. The first that answers will do."""
    witnesses: list[WitnessSection] = []
    """Who cosigns the logs' checkpoints, every two minutes and at each digest."""
    witness_quorum: Annotated[int, Field(ge=1)] = 1
    """So many of the witnesses must cosign a checkpoint; the auditor's policy demands it."""
    wal: WalSection = WalSection()
    """Evidence on this disk."""
    s3: S3Section
    """Evidence in the store."""

    @model_validator(mode="after")
    def _has_one_name(self) -> AuditSection:
        if self.replica_file is not None and "replica" in self.model_fields_set:
            raise ValueError("name replica or replica_file, not both")
        return self

    @model_validator(mode="after")
    def _keeps_the_password_elsewhere(self) -> AuditSection:
        """What is in this file is in its copies, in tickets and in the cluster's own configuration."""
        try:
            url = self.registry_url or ""
            is_open = has_password(url) or secret_parameter(url) is not None
        except ValueError:  # no address at all: the message of who opens it would have it
            raise ValueError("registry_url: not an address") from None
        if is_open:
            raise ValueError("registry_url: no password in it; name a file that holds it (registry_password_file)")
        return self

    @model_validator(mode="after")
    def _can_be_witnessed(self) -> AuditSection:
        once("witnesses: two have the key", (one.key for one in self.witnesses))
        if self.witnesses and self.witness_quorum > len(self.witnesses):
            raise ValueError(f"witness_quorum: {self.witness_quorum} cannot be met by {len(self.witnesses)} witnesses")
        return self
