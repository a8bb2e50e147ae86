"""``connections``: the inference services, and what is special to each."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import Field, model_validator

from ext_proc.config.fields import (
    A_PATH,
    MIB,
    Bytes,
    HeaderName,
    HostName,
    HostPattern,
    Like,
    Name,
    PositiveSeconds,
    ProtocolName,
    Section,
    Text,
    once,
)
from ext_proc.config.redaction import Switch
from ext_proc.model import Direction
from ext_proc.policy.field_rules import BadFieldRule, read_rules


class Upstream(Section):
    """Where an inference service is."""

    url: Annotated[
        str,
        Like(
            r"https?://[^/?#\s@]+",
            "scheme, host and port without a path, a query, a user or a password (credential.file is for those), "
            "for example https://api.example.com or http://10.0.0.7:8000",
        ),
    ]
    """Scheme, host and port; the request's own path is kept."""
    ca_file: Path | None = None
    """PEM authorities to verify the service with. Left out: the system's."""
    server_name: HostName | None = None
    """The service's own name, where `url` only says where it is (a private endpoint, an address): it is asked for by
    this name (Host and SNI), and its certificate must bear it. Left out: the host of `url`."""
    http2: bool = False
    """Speak HTTP/2 with it, without TLS too. Left out: HTTP/1.1, which every service speaks."""
    connect_timeout_seconds: PositiveSeconds = 5.0
    """Time to open a connection."""
    idle_timeout_seconds: PositiveSeconds = 600.0
    """A call on which nothing moves for this long, either way, is ended with 504: raise it for a model that thinks
    longer before it says anything. A call that is held for an approval is never ended by it."""


class CredentialSection(Section):
    """What the service gets instead of the caller's token."""

    header: HeaderName = "authorization"
    """Header name, in lower case."""
    prefix: Annotated[str, Like(r"[ -~]*", "plain text: ASCII on one line")] = "Bearer "
    """Put before the file's content."""
    file: Path
    """File that holds the credential; read again when it changes."""


class OperationSection(Section):
    """One thing that a connection offers."""

    method: Literal["GET", "POST", "HEAD"] = "POST"
    """HTTP method."""
    path: Annotated[str, Like(r"/[A-Za-z0-9._~/-]*", A_PATH)]
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


class ConnectionNer(Section):
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


class FieldRuleSection(Section):
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


class FieldsSection(Section):
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


class ConnectionRedactionSection(Section):
    """What may pass on this connection."""

    fields: FieldsSection = FieldsSection()
    """Rules for fields."""


class ConnectionSection(Section):
    """An inference service, registered once."""

    name: Name
    """Its name: in Envoy's routes, in the policy's question and in every record."""
    hosts: Annotated[list[HostPattern], Field(min_length=1)] = ["*"]
    """Host names of the callers' requests that lead here, in lower case: `*` is any, `*.example.com` any below."""
    path_prefix: Annotated[str, Like(r"/[A-Za-z0-9._~/-]*", A_PATH)] = "/"
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
        once("operations: two have the method and path", (f"{one.method} {one.path}" for one in self.operations))
        for one in self.operations:
            if not one.path.startswith(self.path_prefix):
                raise ValueError(f"operations: {one.path} is not under path_prefix {self.path_prefix}")
        return self
