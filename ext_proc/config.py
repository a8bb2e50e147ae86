"""The whole configuration: one YAML file, read strictly. No environment overlay: the file is the answer.

`load` refuses a misspelt key, a key that stands twice, a wrong type and YAML's ``no`` for a text. What parts of the
file say about each other is checked too: a wrong file is found before anything runs. Secrets are named by file path,
never written here. The docstring of each field is its documentation: ``docs/configuration.md`` is made from this file.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import os
import re
from collections import Counter
from pathlib import Path  # noqa: TC003 - pydantic needs it at run time
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, get_args
from urllib.parse import parse_qs, urlsplit

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import core_schema

from ext_proc import strict_yaml
from ext_proc.approval.channels.address import LOOPBACK, BadAddress, check_url
from ext_proc.errors import ConfigError
from ext_proc.model import Direction
from ext_proc.policy.field_rules import BadFieldRule, read_rules

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
    from pydantic.json_schema import JsonSchemaValue
    from pydantic_core import CoreSchema

SOCKET_PATH_BYTES_MAX: Final = 107
"""Of a Unix socket's address in Linux (108 with the ending zero); longer ones cannot be listened on."""

# What Envoy does not let the gate set: the same list is in envoy/bootstrap.yaml (mutation_rules).
_NOT_SETTABLE: Final = ("host", "transfer-encoding", "content-length", "content-type", "x-request-id")
_NOT_SETTABLE_PREFIXES: Final = ("x-forwarded-", "x-envoy-", "x-affidavit-")


def _once(problem: str, values: Iterable[str]) -> None:
    twice = [value for value, count in Counter(values).items() if count > 1]
    if twice:
        raise ValueError(f"{problem} {twice[0]}")


def _with_port(address: str) -> str:
    if not 1 <= int(address.rpartition(":")[2]) <= 65535:
        raise ValueError("the port must be between 1 and 65535")
    return address


def _settable(header: str) -> str:
    if header in _NOT_SETTABLE or header.startswith(_NOT_SETTABLE_PREFIXES):
        raise ValueError("this header cannot hold a credential")
    return header


class _Like:
    """A text that matches ``pattern`` whole; whoever wrote another is told what is ``wanted``, in words.

    The pattern is in the JSON Schema too (the chart's), where it is one that every reader of schemas knows: RE2's.
    """

    def __init__(self, pattern: str, wanted: str) -> None:
        self._form = re.compile(pattern)
        self._wanted = wanted

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_after_validator_function(self._check, handler(source))

    def __get_pydantic_json_schema__(self, inner: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        made = handler(inner)
        pattern = self._form.pattern
        return made if "(?!" in pattern else {**made, "pattern": f"^(?:{pattern})$"}

    def _check(self, text: str) -> str:
        if not self._form.fullmatch(text):
            raise ValueError(f"must be {self._wanted}")
        return text


PositiveSeconds = Annotated[float, Field(gt=0)]
Bytes = Annotated[int, Field(gt=0)]
_NAME: Final = r"[a-z][a-z0-9-]{0,62}"
Name = Annotated[str, _Like(_NAME, "a letter, then letters, digits and dashes: in lower case, 63 at most")]
Address = Annotated[
    str, _Like(r"[^\s:]+:[0-9]{1,5}", "host:port, for example 127.0.0.1:8080"), AfterValidator(_with_port)
]
Text = Annotated[str, Field(min_length=1)]
HostPattern = Annotated[
    str,
    _Like(
        r"\*|(\*\.)?[a-z0-9-]+(\.[a-z0-9-]+)*",
        "a host name in lower case without a port, *.example.com for any below, or * for any",
    ),
]
HeaderName = Annotated[
    str, _Like(r"[a-z0-9-]+", "a header's name in lower case, for example x-api-key"), AfterValidator(_settable)
]

_A_PATH: Final = "a path that begins with a slash, of letters, digits and . _ ~ - /, without a query"
MIB: Final = 1024 * 1024

Algorithm = Literal[
    "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"
]  # fmt: skip

ProtocolName = Literal[
    "openai.chat",
    "openai.completions",
    "openai.responses",
    "openai.embeddings",
    "openai.models",
    "anthropic.messages",
    "anthropic.count_tokens",
    "generic",
    "opaque",
]


class _Section(BaseModel):
    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, use_attribute_docstrings=True, allow_inf_nan=False
    )


class TlsListener(_Section):
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


class Listen(_Section):
    """Where Envoy listens."""

    http: Address = "127.0.0.1:8080"
    """Plain HTTP, for callers on the same host or pod only."""
    tls: TlsListener | None = None
    """TLS for everyone else."""
    admin: Address = "127.0.0.1:9901"
    """Envoy's admin interface: keep it on loopback."""
    hold_seconds: Annotated[float, Field(gt=0, le=3600)] = 60.0
    """How long Envoy waits for the gate's answer in one phase."""

    @property
    def longest_wait_seconds(self) -> float:
        """For people, so that there is time for all else that is done with a call before Envoy gives up."""
        return max(self.hold_seconds - 5, self.hold_seconds / 2)

    @model_validator(mode="after")
    def _is_apart(self) -> Listen:
        addresses = [self.http, self.admin, *([self.tls.address] if self.tls else [])]
        _once("two listeners have the address", addresses)
        return self


PAIRWISE_HOSTS: Final = frozenset(
    {"login.microsoftonline.com", "sts.windows.net", "login.microsoftonline.us", "login.partner.microsoftonline.cn"}
)
"""Of issuers whose `sub` is another for each client, as they document."""


class Claims(_Section):
    """Which claims of a token mean what. A list walks into nested objects."""

    subject: str | list[str] = "sub"
    """Who the caller is: a claim that tokens for the console have too, so that one's own calls are known there."""
    groups: str | list[str] = "groups"
    """A list of texts, or one text."""
    client: str | list[str] = "azp"
    """The application that asked for the token."""
    tenant: str | list[str] = "tid"
    """The organisation. A token that has this claim, and not as a text, is refused: who has none leaves it out."""


class Issuer(_Section):
    """An OIDC issuer whose tokens are accepted."""

    issuer: Text
    """Exactly the token's `iss`."""
    audiences: Annotated[list[Text], Field(min_length=1)]
    """One of these must be in the token's `aud`."""
    algorithms: Annotated[list[Algorithm], Field(min_length=1)] = ["RS256", "ES256"]
    """Signature algorithms accepted; symmetric ones and `none` are not among them."""
    jwks_uri: str | None = None
    """Where the keys are. Left out: found by OIDC discovery at the issuer."""
    claims: Claims = Claims()
    """Which claims mean what."""
    leeway_seconds: Annotated[int, Field(ge=0, le=300)] = 30
    """Clock difference tolerated for `exp`, `nbf` and `iat`."""
    ca_file: Path | None = None
    """PEM authorities for the issuer's own TLS, if not public (a Kubernetes API server's, for example)."""
    bearer_token_file: Path | None = None
    """A token to show when fetching the keys (a Kubernetes API server asks for one)."""
    unsafe_allow_http: bool = False
    """Fetch keys over plain HTTP from another host than loopback. Whoever owns the network then owns every identity."""

    def names_people_by_sub_to(self, client_id: str) -> bool:
        """Are people known by `sub`, and may it be another for this client than for those that callers use?"""
        return self.claims.subject in ("sub", ["sub"]) and client_id not in self.audiences


class Mtls(_Section):
    """Client certificates as identity."""

    name: Name = "mtls"
    """The identity's issuer is `mtls:<name>`."""
    subject_from: list[Literal["uri", "dns", "subject"]] = ["uri", "dns"]
    """Where the subject is taken from, in order of preference."""


class IdentitySection(_Section):
    """Who may ask."""

    issuers: list[Issuer] = []
    """Accepted OIDC issuers."""
    mtls: Mtls | None = None
    """Accept client certificates, on connections that list `mtls` under `accepts`."""


class BundleS3Section(_Section):
    """Where bundles are published: the newest version of one object. Who may write it need not be trusted: OPA checks
    the signature, the gate the order.
    """

    bucket: str
    """Not the one of the evidence, unless under another prefix."""
    key: Annotated[str, Field(min_length=1, max_length=1024)]
    """The object's key."""
    region: str = "us-east-1"
    """The bucket's region."""
    endpoint: str | None = None
    """Another S3 server than AWS."""
    credentials_file: Path | None = None
    """AWS credentials file (`[default]`); `s3:GetObject` is enough. Left out: the usual AWS chain."""


class DistributionSection(_Section):
    """How OPA gets its bundles from the gate. OPA checks the signature, the gate that none is older than the last."""

    public_key_file: Path
    """The public key (PEM) that signs bundles."""
    key_id: Annotated[str, _Like(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", "letters, digits, . _ and -, 64 at most")]
    """What the key is called in the bundle's signature (`affidavit policy build --key-id`)."""
    algorithm: Literal["ES256", "ES384", "ES512", "PS256", "PS384", "PS512", "RS256", "RS384", "RS512"] = "ES256"
    """Of the signature."""
    listen: Annotated[
        str, _Like(r"(127\.[0-9.]+|localhost):[0-9]{1,5}", "a loopback address and port: 127.0.0.1:9465")
    ] = "127.0.0.1:9465"
    """Where OPA fetches them, and says what became of them; with a word that only it and the gate know."""
    poll_seconds: PositiveSeconds = 5.0
    """How often OPA asks for a new one, at most this long after it lies in `bundle_file`; and the gate in `s3`."""
    s3: BundleS3Section | None = None
    """Fetch each new bundle into `bundle_file`, whose folder the gate must be able to write. Left out: somebody puts it
    there."""


class ShadowSection(_Section):
    """A candidate that is asked beside the policy, by another OPA, and never listened to."""

    opa_socket: Path
    """Unix socket of the OPA that loaded the candidate."""
    bundle_file: Path
    """The candidate: `opa run --bundle FILE`."""


class PolicySection(_Section):
    """Where the decision is made."""

    opa_socket: Path
    """Unix socket of the OPA server."""
    package: Annotated[str, _Like(r"[a-z_]+(/[a-z_]+)*", "words of a to z and _ with slashes between them")] = (
        "inference"
    )
    """Package of the decision, with slashes."""
    rule: Annotated[str, _Like(r"[a-z_]+", "a word of a to z and _")] = "decision"
    """The decision rule in it."""
    bundle_file: Path
    """The bundle that OPA loaded: its SHA-256 goes into every record as the policy's digest. With `distribution`: where
    the next one is put."""
    distribution: DistributionSection | None = None
    """The gate gives OPA its bundles: signed ones, each newer. Left out: OPA loads `bundle_file` itself."""
    shadow: ShadowSection | None = None
    """Ask a candidate too, after the decision, and put on record what differs."""
    timeout_seconds: PositiveSeconds = 2.0
    """After this the call is refused with 503. There are no retries."""


class S3Section(_Section):
    """The store of the evidence."""

    bucket: Annotated[
        str,
        _Like(
            r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]",
            "a bucket's name: 3 to 63 lower-case letters, digits, dots and dashes",
        ),
    ]
    """A bucket with Object Lock and a default retention in COMPLIANCE mode."""
    prefix: Annotated[
        str, _Like(r"([A-Za-z0-9._-]+/)*", "nothing, or letters, digits, dots, _ and dashes that end in a slash")
    ] = ""
    """Put before every key; empty or ending in a slash."""
    region: str = "us-east-1"
    """The bucket's region."""
    endpoint: str | None = None
    """Another S3 server than AWS."""
    credentials_file: Path | None = None
    """AWS credentials file (`[default]`). Left out: the usual AWS chain (pod identity, instance role)."""
    retention_days: Annotated[int, Field(ge=1)] = 400
    """Every object must be locked at least this long (13 months: a year's audit and a bridge)."""


class WalSection(_Section):
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


class KmsKey(_Section):
    """An Ed25519 key in AWS KMS (`ECC_NIST_EDWARDS25519`)."""

    key_id: str
    """Its id, ARN or alias."""
    region: str | None = None
    """Its region. Left out: the usual AWS chain."""
    endpoint: str | None = None
    """Another server than AWS."""


class OpenBaoKey(_Section):
    """An Ed25519 key in the transit engine of OpenBao or Vault."""

    address: str
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


class SigningSection(_Section):
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


class TimeStampAuthority(_Section):
    """An RFC 3161 authority."""

    url: Annotated[str, Field(pattern=r"^https?://\S+$")]
    """Where it answers."""
    certificates_file: Path
    """PEM certificates that its stamps must verify with."""


class WitnessSection(_Section):
    """A C2SP witness."""

    url: Annotated[str, Field(pattern=r"^https?://\S+$")]
    """Its base URL; `/add-checkpoint` is put after it."""
    key: str
    """Its verifier key (`name+id+base64`)."""


_PASSWORDS: Final = {"password", "sslpassword"}
"""What PostgreSQL's driver takes behind the question mark."""


class AuditSection(_Section):
    """The evidence."""

    origin: Annotated[
        str,
        _Like(
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
            parts = urlsplit(self.registry_url or "")
            is_open = parts.password is not None or bool(_PASSWORDS & parse_qs(parts.query).keys())
        except ValueError:  # no address at all: the message of who opens it would have it
            raise ValueError("registry_url: not an address") from None
        if is_open:
            raise ValueError("registry_url: no password in it; name a file that holds it (registry_password_file)")
        return self

    @model_validator(mode="after")
    def _can_be_witnessed(self) -> AuditSection:
        _once("witnesses: two have the key", (one.key for one in self.witnesses))
        if self.witnesses and self.witness_quorum > len(self.witnesses):
            raise ValueError(f"witness_quorum: {self.witness_quorum} cannot be met by {len(self.witnesses)} witnesses")
        return self


def _off_is_a_word(value: Any) -> Any:
    """YAML takes a bare ``off`` for false. Here it can mean one thing only."""
    return "off" if value is False else value


Switch = BeforeValidator(_off_is_a_word)
AdapterPath = Annotated[
    str,
    _Like(
        r"spacy|presidio|[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*",
        "spacy, presidio, or the import path of a factory: package.module:function",
    ),
]
NameEntity = Annotated[
    str,
    _Like(
        r"(?!SECRET_|URL$|URL_CREDENTIALS$|WITHHELD$)[A-Z][A-Z0-9_]{0,31}",
        "capitals, digits and _ (PERSON), and nothing that only rules may find (SECRET_..., URL, WITHHELD)",
    ),
]
SPACY_SCORE: Final = 0.85
"""What every find of spaCy's counts."""


class NerSection(_Section):
    """A recogniser of names, in processes of its own. It is used where a connection says so (`ner`)."""

    adapter: AdapterPath
    """`spacy` or `presidio` (`pip install 'affidavit[ner]'`), or `package.module:factory` of your own."""
    entities: Annotated[list[NameEntity], Field(min_length=1)] = ["PERSON", "LOCATION"]
    """What is looked for; a decision acts on each by its name, and masks where it says nothing."""
    score_min: Annotated[float, Field(ge=0, le=1)] = 0.5
    """Finds that the recogniser is less sure of are left out. spaCy says 0.85 of all."""
    workers: Annotated[int, Field(ge=1, le=16)] = 1
    """Processes for each worker of the gate: about 200 MB each with a small model."""
    deadline_ms: Annotated[int, Field(ge=50, le=60_000)] = 10_000
    """Time for one body, or for what a piece of a stream brings to its end. One process reads 10 to 20 KB a second."""
    options: dict[str, str | int | float | bool | list[str] | dict[str, str]] = {}
    """The adapter's own: `docs/redaction.md`."""

    @model_validator(mode="after")
    def _can_find(self) -> NerSection:
        _once("entities: twice", self.entities)
        if self.adapter == "spacy" and self.score_min > SPACY_SCORE:
            raise ValueError(f"score_min: spaCy says {SPACY_SCORE} of every find, so nothing would be found")
        return self


class TokensSection(_Section):
    """Tokens that stand for values (action `tokenise`): kept, encrypted, beside the subjects' keys."""

    ttl_seconds: Annotated[int, Field(ge=60, le=31_536_000)] = 86_400
    """How long a token that nobody uses again can be resolved. Then its value is gone from the registry."""


class RedactionSection(_Section):
    """What may pass."""

    hash_key_file: Path
    """32 random bytes for the action `hash`."""
    rule_packs: tuple[Path, ...] = ()
    """Rules of your own, beside the built-in ones (`docs/redaction.md`); try them with `affidavit rules test FILE`.
    Read when a process starts: an unsafe rule keeps the gateway from starting."""
    ner: NerSection | None = None
    """A recogniser of names, which no rule can find. Left out: none."""
    tokens: TokensSection = TokensSection()
    """How long tokens live."""


class Upstream(_Section):
    """Where an inference service is."""

    url: Annotated[
        str,
        _Like(
            r"https?://[^/\s]+",
            "scheme, host and port without a path, for example https://api.example.com or http://10.0.0.7:8000",
        ),
    ]
    """Scheme, host and port; the request's own path is kept."""
    ca_file: Path | None = None
    """PEM authorities to verify the service with. Left out: the system's."""
    connect_timeout_seconds: PositiveSeconds = 5.0
    """Time to open a connection."""


class CredentialSection(_Section):
    """What the service gets instead of the caller's token."""

    header: HeaderName = "authorization"
    """Header name, in lower case."""
    prefix: Annotated[str, _Like(r"[ -~]*", "plain text: ASCII on one line")] = "Bearer "
    """Put before the file's content."""
    file: Path
    """File that holds the credential; read again when it changes."""


class OperationSection(_Section):
    """One thing that a connection offers."""

    method: Literal["GET", "POST", "HEAD"] = "POST"
    """HTTP method."""
    path: Annotated[str, _Like(r"/[A-Za-z0-9._~/-]*", _A_PATH)]
    """Exact path, without a query."""
    protocol: ProtocolName
    """How its bodies are read. `opaque` is for upgrades only."""


DEFAULT_OPERATIONS: Final = (
    OperationSection(path="/v1/chat/completions", protocol="openai.chat"),
    OperationSection(path="/v1/completions", protocol="openai.completions"),
    OperationSection(path="/v1/responses", protocol="openai.responses"),
    OperationSection(path="/v1/embeddings", protocol="openai.embeddings"),
    OperationSection(method="GET", path="/v1/models", protocol="openai.models"),
    OperationSection(path="/v1/messages", protocol="anthropic.messages"),
    OperationSection(path="/v1/messages/count_tokens", protocol="anthropic.count_tokens"),
)


class ConnectionNer(_Section):
    """How names are looked for on a connection."""

    mode: Annotated[Literal["off", "whole"], Switch] = "whole"
    """`whole`: in requests and in answers that come whole."""
    streams: Annotated[Literal["off", "window", "sentence"], Switch] = "sentence"
    """In answers that stream: held back to the end of each `sentence` (512 characters at most), or of a `window` of
    about eight words. `off`: not looked for there, and every record says so."""
    on_failure: Literal["block", "pass"] = "block"
    """Where the recogniser is down, late or says what cannot be. `block`: refused with 503, a stream ends in an error.
    `pass`: it goes on unlooked-at, and the record says so."""

    @model_validator(mode="after")
    def _is_one_thing(self) -> ConnectionNer:
        if self.mode == "off" and "streams" in self.model_fields_set and self.streams != "off":
            raise ValueError(f"streams: {self.streams} cannot be with mode off; leave ner out to look for no names")
        return self


class FieldRuleSection(_Section):
    """What is done about every value that a path leads to, whatever it says (`docs/redaction.md`, Fields)."""

    path: Text
    """Which: `$.metadata.ssn`, `$..birth_date`, `$.tools[0]['x-y']`. With `~` at the end: the names of
    members themselves."""
    action: Literal["mask", "hash", "drop", "partial", "block", "include", "exclude"]
    """`include`: only such fields pass. `exclude`: such fields are not scanned, which every record says."""
    keep: Literal["none", "date", "number", "email", "uuid", "length"] = "none"
    """What a masked value stays, so that it still fits a schema."""
    name: str | None = None
    """What it is called in placeholders and records instead of `FIELD`: capitals, digits and `_`."""


class FieldsSection(_Section):
    """Rules for fields, by direction. A decision can add others, and undo none of these."""

    request: list[FieldRuleSection] = []
    """Of requests."""
    response: list[FieldRuleSection] = []
    """Of answers. Paths are those of a whole answer; they hold for a streamed one too."""

    def written(self, direction: Literal["request", "response"]) -> list[dict[str, str]]:
        """The rules of one direction, as mappings."""
        return [one.model_dump(exclude_none=True) for one in getattr(self, direction)]

    @model_validator(mode="after")
    def _can_be_read(self) -> FieldsSection:
        for direction in Direction:
            try:
                read_rules(self.written(direction.value), direction, "connection")
            except BadFieldRule as bad:
                raise ValueError(f"{direction.value}: {bad}") from None
        return self


class ConnectionRedactionSection(_Section):
    """What may pass on this connection."""

    fields: FieldsSection = FieldsSection()
    """Rules for fields."""


class ConnectionSection(_Section):
    """An inference service, registered once."""

    name: Name
    """Its name: in Envoy's routes, in the policy's question and in every record."""
    hosts: Annotated[list[HostPattern], Field(min_length=1)] = ["*"]
    """Host names of the callers' requests that lead here, in lower case: `*` is any, `*.example.com` any below."""
    path_prefix: Annotated[str, _Like(r"/[A-Za-z0-9._~/-]*", _A_PATH)] = "/"
    """Paths that lead here: whole segments, unless it ends in a slash. The longest prefix wins."""
    upstream: Upstream
    """Where the service is."""
    operations: Annotated[list[OperationSection], Field(min_length=1)] = list(DEFAULT_OPERATIONS)
    """What it offers. Everything else is refused with 404. Left out: OpenAI's and Anthropic's paths."""
    credential: CredentialSection | None = None
    """What the service gets instead of the caller's token. Left out: no credential at all."""
    accepts: Annotated[list[Literal["oidc", "mtls"]], Field(min_length=1)] = ["oidc"]
    """How callers may identify themselves."""
    request_limit_bytes: Bytes = 4 * MIB
    """Larger requests are refused with 413."""
    response_limit_bytes: Bytes = 4 * MIB
    """Larger answers are not released."""
    hold_seconds: PositiveSeconds | None = None
    """How long a call that needs an approval waits for it; then its caller is told to send it again later (202). Left
    out: 50, or a little less than `listen.hold_seconds` where that is short."""
    tags: list[Name] = []
    """Words for the policy, for example `high-risk`."""
    ner: ConnectionNer | None = None
    """Look for names too, with the recogniser of `redaction.ner`. Left out: not."""
    redaction: ConnectionRedactionSection = ConnectionRedactionSection()
    """What may pass, beside what the policy says."""
    unsafe_allow_upgrade: bool = False
    """Let protocol upgrades (WebSocket) through: what they carry is neither scanned nor masked nor kept."""

    @model_validator(mode="after")
    def _is_reachable(self) -> ConnectionSection:
        _once("operations: two have the method and path", (f"{one.method} {one.path}" for one in self.operations))
        for one in self.operations:
            if not one.path.startswith(self.path_prefix):
                raise ValueError(f"operations: {one.path} is not under path_prefix {self.path_prefix}")
        return self


def _receiver(url: str) -> str:
    try:
        check_url(url)
    except BadAddress as bad:
        raise ValueError(str(bad)) from None
    return url


ReceiverUrl = Annotated[str, AfterValidator(_receiver)]
MailAddress = Annotated[
    str,
    _Like(r"[A-Za-z0-9._%+-]{1,64}@[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)*", "an address without a name: desk@example.com"),
]
EventName = Literal["hold.pending", "hold.resolved"]


class _Channel(_Section):
    """What all channels have in common."""

    name: Name
    """Its name: in the log, in metrics, and in what is kept of it. Under another name everything is told anew."""
    groups: Annotated[list[Text], Field(min_length=1)] | None = None
    """Only calls that members of one of these groups may resolve. Left out: all."""
    tenants: Annotated[list[Text | None], Field(min_length=1)] | None = None
    """Only calls of these tenants (`null`: of callers without one). Left out: of all."""
    per_minute: Annotated[int, Field(ge=1, le=600)] = 30
    """Messages a minute at most. Where more waits, it is told in digests."""
    include: Literal["facts", "masked"] = "facts"
    """`facts`: connection, model, operation, findings and terms, no content. `masked`: also what the model would get.
    Each time that is sent, it is on record."""


class WebhookAnswersSection(_Section):
    """Answers that this receiver may send back to the console (`POST /hooks/webhook`)."""

    secret_file: Path
    """The secret that signs them: another one than ours. In the same form."""
    may_act_for: Annotated[list[Text], Field(min_length=1)]
    """The groups that a person may be said to be in. Whoever is said to be in another one is not believed in."""
    issuers: list[Text] = []
    """The issuers whose people it may name. Left out: all of `identity.issuers`."""
    tenants: list[Text] = []
    """The tenants whose people it may name. Left out: only people who have none."""


class WebhookSection(_Channel):
    """Signed messages (Standard Webhooks) to a program of yours."""

    kind: Literal["webhook"]
    """A webhook."""
    url: ReceiverUrl
    """Where they go: https (or http on loopback)."""
    secret_file: Path
    """`whsec_` and the base64 of 24 to 64 random bytes. Two lines while it is changed, the newer first: both sign."""
    events: Annotated[list[EventName], Field(min_length=1)] = ["hold.pending", "hold.resolved"]
    """What is told."""
    ca_file: Path | None = None
    """PEM authorities of its TLS, if not public."""
    deadline_seconds: Annotated[float, Field(gt=0, le=30)] = 10.0
    """Time for one message."""
    unsafe_allow_private: bool = False
    """Let its name lead into your own network. Whoever rules that name can have us ask what is there."""
    answers: WebhookAnswersSection | None = None
    """Answers from there. Left out: none."""

    @model_validator(mode="after")
    def _is_two_secrets(self) -> WebhookSection:
        if self.answers is not None and self.answers.secret_file == self.secret_file:
            raise ValueError("answers.secret_file: it must be another secret than that of our own messages")
        return self


class SlackSection(_Channel):
    """A channel at Slack, with buttons."""

    kind: Literal["slack"]
    """Slack."""
    channel: Annotated[str, _Like(r"[CGD][A-Z0-9]{2,30}", "a channel's id at Slack, for example C0123456789")]
    """The channel's id."""
    token_file: Path
    """The bot's token (`xoxb-…`; scope `chat:write`)."""
    signing_secret_file: Path
    """The app's signing secret. Two lines while it is changed."""
    people_file: Path
    """Whom Slack's users are, as JSON: `{"U0123": {"issuer": …, "subject": …, "tenant": null, "groups": […]}}`. Read
    anew for each answer."""
    api_url: ReceiverUrl = "https://slack.com/api"
    """Slack's API."""


class EmailSection(_Channel):
    """E-mail. One cannot answer by it."""

    kind: Literal["email"]
    """E-mail."""
    host: Annotated[str, _Like(r"[A-Za-z0-9.:-]+", "a host name or an address")]
    """The mail server."""
    port: Annotated[int, Field(ge=1, le=65535)] = 587
    """Its port."""
    tls: Literal["starttls", "tls", "none"] = "starttls"
    """`tls`: from the first byte (port 465). `none`: on loopback only."""
    ca_file: Path | None = None
    """PEM authorities of its TLS, if not public."""
    username: Text | None = None
    """Who we are there. Left out: nobody asks."""
    password_file: Path | None = None
    """The password."""
    sender: MailAddress
    """From whom the messages are."""
    to: Annotated[list[MailAddress], Field(min_length=1, max_length=50)]
    """To whom they go."""
    events: Annotated[list[EventName], Field(min_length=1)] = ["hold.pending"]
    """What is told."""

    @model_validator(mode="after")
    def _is_safe(self) -> EmailSection:
        if self.tls == "none" and self.host not in LOOPBACK:
            raise ValueError("tls: none is for loopback only")
        if (self.username is None) != (self.password_file is None):
            raise ValueError("username and password_file: both or none")
        return self


ChannelSection = Annotated[WebhookSection | SlackSection | EmailSection, Field(discriminator="kind")]


class ApprovalsSection(_Section):
    """Calls that wait for people."""

    pending_max: Annotated[int, Field(ge=1, le=1_000_000)] = 10_000
    """Calls that may wait at once, also those whose caller left, as long as they can be sent again. More get a 503."""
    pending_max_per_caller: Annotated[int, Field(ge=1)] = 100
    """Of one caller: nobody can fill everybody's inbox."""
    justification_min: Annotated[int, Field(ge=1, le=500)] = 10
    """Characters that an approver must write, with a letter among them: what they say is what an auditor has."""
    channels: list[ChannelSection] = []
    """Where approvers hear of such calls (`docs/approvals.md`, Channels). The console tells them."""

    @model_validator(mode="after")
    def _are_several(self) -> ApprovalsSection:
        _once("channels: two have the name", (one.name for one in self.channels))
        return self


class RolesSection(_Section):
    """Which groups of the token have a role at the console. Whoever has none sees nothing but their own calls."""

    approver: list[str] = []
    """May see calls that wait. Which of them they may resolve, the policy says, call by call."""
    auditor: list[str] = []
    """May search and read the evidence: what they read is recorded."""
    operator: list[str] = []
    """May see how the evidence stands, and charts."""
    policy_author: list[str] = []
    """May see which policies decided, and charts."""


class ConsoleSection(_Section):
    """The console: pages and an API for the people who approve, audit and operate (`affidavit console`)."""

    listen: Address = "127.0.0.1:8090"
    """Where it listens. TLS is ended before it."""
    metrics: Address | None = None
    """Where the console's own `/metrics` are served, for example `127.0.0.1:9465`; never where browsers come to."""
    public_url: Annotated[str, Field(pattern=r"^https?://[^\s/?#]+$")]
    """How browsers and callers know it: scheme, host and port. It stands in what a caller whose call waits is told."""
    issuer: str | None = None
    """Which of `identity.issuers` people sign in with. Left out: the only one."""
    client_id: str = "affidavit-console"
    """The console's name at that issuer (authorization code with PKCE); its ID tokens are for this audience."""
    client_secret_file: Path | None = None
    """A secret, if the issuer wants one."""
    scopes: list[Annotated[str, _Like(r"[!#-\[\]-~]+", "one word, for example openid")]] = ["openid", "profile"]
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


class OtlpSection(_Section):
    """An OpenTelemetry collector that gets a trace of each exchange: steps, codes and times, never content."""

    endpoint: Text
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


class TelemetrySection(_Section):
    """What is told to others while it happens. Metrics and logs are always there; see docs/operating.md."""

    otlp: OtlpSection | None = None
    """Where traces go. Left out: nowhere, and they cost nothing."""


class Config(_Section):
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
        _once("connections: two have the name", (one.name for one in self.connections))
        claims = (f"{host} {one.path_prefix}" for one in self.connections for host in one.hosts)
        _once("connections: two have the host and path_prefix", claims)
        _once("identity.issuers: two have the issuer", (one.issuer for one in self.identity.issuers))
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


def load(path: Path) -> tuple[Config, str]:
    """Read a configuration file, and the replica's name where that is in a file of its own.

    Returns:
        The configuration and the file's SHA-256 in lower-case hex.

    Raises:
        ConfigError: unreadable or not valid; ``detail`` names each field and what is wrong with it.
    """
    config, digest = read(path)
    return _named(config), digest


def read(path: Path) -> tuple[Config, str]:
    """The same of the file alone: a pod's configuration can be read where no pod is.

    Raises:
        ConfigError: as `load`.
    """
    try:
        raw = path.read_bytes()
        data = strict_yaml.read(raw)
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from None
    except strict_yaml.BadYamlError as error:
        raise ConfigError(f"{path}: {error}") from None
    if not data or not isinstance(data, dict):
        raise ConfigError(f"{path}: empty or not a mapping; see docs/operating.md")
    try:
        config = Config.model_validate_json(json.dumps(data))
    except ValidationError as error:
        raise ConfigError(f"{path}: {_explained(error, data)}") from None
    except (TypeError, ValueError, RecursionError):
        where = ".".join(_not_json(data, 0) or ["file"])
        raise ConfigError(f"{path}: {where}: not a value of JSON (a date? put it in quotes)") from None
    return config, hashlib.sha256(raw).hexdigest()


def files_missing(config: Config) -> Iterator[str]:
    """What `load` would refuse here, and `read` does not."""
    try:
        _named(config)
    except ConfigError as error:
        yield f"{error.detail}; nothing starts where it is so (a pod has the file)"


def _named(config: Config) -> Config:
    """With the replica's name from its file, if it is there.

    Raises:
        ConfigError: the file cannot be read, or holds no name.
    """
    path = config.audit.replica_file
    if path is None:
        return config
    try:
        name = path.read_text(encoding="utf-8").strip()
    except OSError as error:
        raise ConfigError(f"audit.replica_file: {path}: {error.strerror}") from None
    except UnicodeDecodeError:
        name = ""
    if not re.fullmatch(_NAME, name):
        raise ConfigError(f"audit.replica_file: {path}: must hold a letter, then letters, digits and dashes")
    return config.model_copy(update={"audit": config.audit.model_copy(update={"replica": name})})


_DEPTH_MAX: Final = 32
"""Deeper than any valid file: the search for what JSON cannot carry ends here, also in a file that holds itself."""


def _not_json(value: Any, depth: int) -> list[str] | None:
    """The path to the first value that JSON cannot carry."""
    if depth > _DEPTH_MAX:
        return []
    inner: Iterable[tuple[Any, Any]] = ()
    if isinstance(value, dict):
        inner = value.items()
    elif isinstance(value, list):
        inner = enumerate(value)
    elif not isinstance(value, (str, int, float, bool, type(None))):
        return []
    for key, one in inner:
        if not isinstance(key, (str, int)):
            return [str(key)]
        found = _not_json(one, depth + 1)
        if found is not None:
            return [str(key), *found]
    return None


def _explained(error: ValidationError, data: dict[Any, Any]) -> str:
    lines = []
    for found in error.errors(include_input=False, include_url=False):
        where = ".".join(str(part) for part in found["loc"]) + _of_connection(data, found["loc"])
        what = found["msg"].removeprefix("Value error, ")
        if found["type"] == "extra_forbidden":
            what = f"unknown field{_guess(found['loc'])}"
        lines.append(f"{where}: {what}" if where else what)
    return "; ".join(lines)


def _of_connection(data: dict[Any, Any], place: tuple[int | str, ...]) -> str:
    """The name of the connection that a place is in: nobody wants to count. Only a valid one, no value by mistake."""
    match place:
        case ("connections", int(number), *_):
            one = data["connections"][number]
            name = one.get("name") if isinstance(one, dict) else None
            return f" (connection {name})" if isinstance(name, str) and re.fullmatch(_NAME, name) else ""
        case _:
            return ""


def _guess(place: tuple[int | str, ...]) -> str:
    """What may have been meant by a field that is not there."""
    *steps, last = place
    section: type[BaseModel] = Config
    inside: list[type[BaseModel]] = []
    for step in steps:
        if step in section.model_fields:  # not the number in a list
            inside = _sections_in(section.model_fields[str(step)].annotation)
            section = inside[0] if inside else section
        elif kinds := [one for one in inside if _is_kind(one, str(step))]:
            section = kinds[0]
    near = difflib.get_close_matches(str(last), section.model_fields, 1)
    return f" (did you mean {near[0]}?)" if near else ""


def _sections_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [found for one in get_args(annotation) for found in _sections_in(one)]


def _is_kind(section: type[BaseModel], kind: str) -> bool:
    """Of several sections that may stand in one place: is it that one?"""
    field = section.model_fields.get("kind")
    return field is not None and kind in get_args(field.annotation)
