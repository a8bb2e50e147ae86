"""What travels between rooms: frozen values with no behaviour to speak of.

Glossary: an *exchange* is one HTTP request with its response; a *connection* is a registered inference service;
a *channel* is one piece of text in a body (a message, a tool-call argument, a key); a *span* is where a rule hit;
a *removal* is what was done about it; a *hold* is a call that waits for people, a *resolution* what one of them said;
an *entry* is what goes to the evidence log.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any, NewType

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

ExchangeId = NewType("ExchangeId", str)
"""Envoy's request id of the exchange (attribute ``request.id``): a UUID in lower-case text."""

HoldId = NewType("HoldId", str)
"""Of one thing that is asked, however often it is sent: 32 lower-case hexadecimal digits."""

Headers = tuple[tuple[str, bytes], ...]
"""HTTP fields in order: lower-case name, raw value. Names repeat when the field was sent more than once."""


class Secret:
    """A value that must never be shown: ``repr`` and ``str`` redact, equality and hashing are by identity."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """The value itself: call it only where it is used (an outgoing header, a verification)."""
        return self._value

    def __repr__(self) -> str:
        return "<redacted>"


class Direction(StrEnum):
    """Which way a body travels."""

    REQUEST = "request"
    RESPONSE = "response"


class Action(StrEnum):
    """What is done about a span (the policy chooses, per entity and direction)."""

    MASK = "mask"
    TOKENISE = "tokenise"
    HASH = "hash"
    DROP = "drop"
    PARTIAL = "partial"
    BLOCK = "block"
    ALLOW = "allow"


class FieldAction(StrEnum):
    """What is done about a field that a rule names (`FieldRule`)."""

    MASK = "mask"
    HASH = "hash"
    DROP = "drop"
    PARTIAL = "partial"
    BLOCK = "block"
    INCLUDE = "include"
    EXCLUDE = "exclude"


class Keep(StrEnum):
    """What a masked field stays, so that it still fits a strict reader's schema."""

    NONE = "none"
    DATE = "date"
    NUMBER = "number"
    EMAIL = "email"
    UUID = "uuid"
    LENGTH = "length"


@dataclass(frozen=True, slots=True)
class FieldStep:
    """One step of a path: to the member ``name``, to the item ``index``, or, with neither, to every child.

    ``is_deep``: from any depth below (``..``).
    """

    name: str | None = None
    index: int | None = None
    is_deep: bool = False


@dataclass(frozen=True, slots=True)
class FieldRule:
    """What to do about every value that a path leads to, whatever it says (`ext_proc.policy.field_rules`).

    ``is_key``: about the member's name, not about its value. ``entity`` stands in placeholders and records, ``rule``
    and ``source`` (``connection`` or ``decision``) in records.
    """

    steps: tuple[FieldStep, ...]
    action: FieldAction
    keep: Keep = Keep.NONE
    is_key: bool = False
    entity: str = "FIELD"
    rule: str = "field:1"
    source: str = "connection"


@dataclass(frozen=True, slots=True)
class Credential:
    """What the upstream gets instead of the caller's credential: header name, and the file that holds the value."""

    header: str
    file: str
    prefix: str = ""


@dataclass(frozen=True, slots=True)
class Operation:
    """One thing a connection offers: ``method`` and exact ``path`` (no query) spoken in ``protocol``."""

    method: str
    path: str
    protocol: str


@dataclass(frozen=True, slots=True)
class Recognition:
    """How names are looked for on a connection, beside what the rules find.

    ``streams`` is how answers that stream are looked at: ``off``, ``window`` or ``sentence``. ``may_fail``: what the
    recogniser could not look at passes nevertheless, and the record says so.
    """

    streams: str = "sentence"
    may_fail: bool = False


@dataclass(frozen=True, slots=True)
class Connection:
    """A registered inference service, as the gate needs it. Envoy's route of the same name leads to it.

    ``hold_seconds``: how long a call that needs an approval waits for it before its caller is told to come back.
    """

    name: str
    operations: tuple[Operation, ...]
    credential: Credential | None
    request_limit_bytes: int
    response_limit_bytes: int
    accepts: tuple[str, ...] = ("oidc",)
    unsafe_allow_upgrade: bool = False
    tags: tuple[str, ...] = ()
    hold_seconds: float = 50.0
    recognition: Recognition | None = None
    request_fields: tuple[FieldRule, ...] = ()
    response_fields: tuple[FieldRule, ...] = ()


@dataclass(frozen=True, slots=True)
class Presented:
    """What the caller showed to prove who they are: a bearer token, a client certificate, or neither.

    ``certificate`` is Envoy's own ``x-forwarded-client-cert`` element, set only when Envoy says the connection is
    mutual TLS (attribute ``connection.mtls``); a caller's header of that name never gets here.
    """

    token: Secret | None
    certificate: str | None = None


@dataclass(frozen=True, slots=True)
class Identity:
    """Who calls, once verified. ``groups`` are sorted; ``expires_at`` is aware UTC."""

    issuer: str
    subject: str
    method: str
    groups: tuple[str, ...] = ()
    client: str | None = None
    tenant: str | None = None
    token_id: str | None = None
    expires_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Span:
    """Where a rule hit: code points ``start`` to ``end`` of a channel's decoded text."""

    start: int
    end: int
    entity: str
    rule: str
    score: float


@dataclass(frozen=True, slots=True)
class Edit:
    """Replace code points ``start`` to ``end`` of a channel's text by ``replacement``."""

    start: int
    end: int
    replacement: str


@dataclass(frozen=True, slots=True)
class Removal:
    """What was taken out, never the value: offsets are code points in the text before masking."""

    channel: str
    start: int
    end: int
    entity: str
    rule: str
    version: str
    action: Action


@dataclass(frozen=True, slots=True)
class Coverage:
    """How much of a body was looked at: sums over all channels, in UTF-8 bytes of decoded text (law L7).

    ``structure_bytes`` are values that the protocol fixes (numbers of ``usage``, embeddings): seen, typed, not scanned.
    ``excluded_bytes`` are those of fields that a rule says are not to be scanned.
    """

    channel_count: int = 0
    scanned_bytes: int = 0
    structure_bytes: int = 0
    forwarded_bytes: int = 0
    excluded_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Recognised:
    """What the recogniser of names did with a body: bytes of text that it looked at, and that it could not (law L7).

    ``mode`` is ``whole``, ``sentence``, ``window`` or ``off``; ``failure`` the first of `errors.RECOGNISER_FAILURES`.
    """

    recogniser: str
    mode: str
    scanned_bytes: int = 0
    failed_bytes: int = 0
    failure: str | None = None


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A tool the model asked for: name, and the SHA-256 (lower-case hex) of its arguments as released.

    ``channel`` is where they stand in the answer, ``call_id`` the answer's own name for the call: a later request that
    brings the tool's result repeats it. It is kept as a keyed reference, never in clear.
    """

    name: str
    arguments_sha256: str
    channel: str = ""
    call_id: str = ""


@dataclass(frozen=True, slots=True)
class Usage:
    """Token counts as the provider reported them; None where it did not."""

    input_tokens: int | None = None
    output_tokens: int | None = None


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a request asks tokens for: values with their entities, and the conversation that it names ("": none)."""

    values: tuple[tuple[str, str], ...]
    conversation: str = ""

    def __repr__(self) -> str:
        return f"Wanted({len(self.values)} values)"


@dataclass(frozen=True, slots=True)
class Tokens:
    """What stands for what in one exchange.

    ``minted`` tells the token of an entity's value in the request, ``restorable`` the value that may be put back for a
    token in the answer: of this caller's conversation only, and of entities that the decision restores.
    """

    minted: Mapping[tuple[str, str], str]
    restorable: Mapping[str, str]

    def __repr__(self) -> str:
        return f"Tokens({len(self.minted)} minted, {len(self.restorable)} restorable)"


@dataclass(frozen=True, slots=True)
class Inspection:
    """What is in a request. ``parameters`` are scalars only (temperature, max_tokens, stream, tool_count ...)."""

    protocol: str
    operation: str
    model: str | None
    is_stream: bool
    parameters: Mapping[str, int | float | str | bool | None]
    findings: Mapping[str, int]
    text_bytes: int
    document: Any = None
    """The parsed body: opaque to everyone but the room that made it."""
    tool_results: tuple[str, ...] = ()
    """Of the tool calls whose results the request brings, the ids (`ToolCall.call_id`), in the order of the body."""
    waits: bool = False
    """Does reading its answer wait for another process? Then never in the event loop."""
    tokens: Tokens | None = None
    """Known only once the policy has asked for them."""


@dataclass(frozen=True, slots=True)
class Redaction:
    """A body made fit to pass: what to send instead, what was removed, how much was looked at.

    ``blocked`` names the entities whose rule said `Action.BLOCK`: the body must not pass.
    ``decoded`` is the body with its content encoding undone, before masking (for the encrypted payload).
    ``tainted_headers`` are the answer's fields in whose values a rule hit: they must not pass.
    ``recognised`` is what a recogniser of names did, None on a connection that has none.
    ``restored`` counts the tokens that were replaced by their values, by entity.
    """

    body: bytes
    decoded: bytes
    removals: tuple[Removal, ...] = ()
    coverage: Coverage = Coverage()
    blocked: tuple[str, ...] = ()
    model_served: str | None = None
    model_fingerprint: str | None = None
    usage: Usage = Usage()
    finish_reasons: tuple[str, ...] = ()
    tool_calls: tuple[ToolCall, ...] = ()
    tainted_headers: tuple[str, ...] = ()
    recognised: Recognised | None = None
    restored: tuple[tuple[str, int], ...] = ()


@dataclass(frozen=True, slots=True)
class Piece:
    """What of a streamed answer may be released now: ``body`` (often less than what came, at times nothing).

    ``blocked`` names the entities whose rule said `Action.BLOCK`, ``unreadable`` says why the answer cannot be read on
    (a stable code): with either, nothing more may pass after ``body``.
    """

    body: bytes
    blocked: tuple[str, ...] = ()
    unreadable: str | None = None


@dataclass(frozen=True, slots=True)
class RedactionRule:
    """One line of a decision: what to do about ``entity`` (``*`` is any that no other line names).

    With ``field`` it is about that instead: ``entity`` is empty, and ``action`` says nothing.
    """

    entity: str
    action: Action
    field: FieldRule | None = None

    def __post_init__(self) -> None:
        # Actions are compared by identity: "block" would mask, and the record would say that it blocked.
        if not isinstance(self.action, Action):
            raise TypeError(f"action: {self.action!r} is a text: write Action({str(self.action)!r})")


@dataclass(frozen=True, slots=True)
class PolicyVersion:
    """Which policy decided: OPA's bundle revision and the SHA-256 of what was loaded (lower-case hex)."""

    revision: str
    digest: str


@dataclass(frozen=True, slots=True)
class ApprovalTerms:
    """The approval that the policy demands: ``count`` different people, each a member of one of ``groups``.

    ``within_seconds``: how long they have; ``valid_seconds``: how long what they agreed to may still be sent;
    ``clear_to``: groups whose members may read the request as it came, not only as the model would see it.
    """

    groups: tuple[str, ...]
    count: int
    valid_seconds: int
    within_seconds: int
    reason: str
    clear_to: tuple[str, ...] = ()


class HoldState(StrEnum):
    """How a hold stands. ``pending``, ``withdrawn`` and ``abandoned`` may become ``pending`` again if it is re-sent.

    ``claimed``: approved, and one exchange is about to pass with it; ``used``: one did; ``withdrawn``: nobody waits for
    it any more; ``abandoned``: whoever held it died.
    """

    PENDING = "pending"
    APPROVED = "approved"
    CLAIMED = "claimed"
    USED = "used"
    DENIED = "denied"
    EXPIRED = "expired"
    WITHDRAWN = "withdrawn"
    ABANDONED = "abandoned"


class HoldEnding(StrEnum):
    """What became of an exchange that was held: it ``passed`` (its intent is durable), it ``left`` without passing, or
    it was ``told`` to come back, and the hold goes on without it.
    """

    PASSED = "passed"
    LEFT = "left"
    TOLD = "told"


@dataclass(frozen=True, slots=True)
class Resolution:
    """What one person said of a hold. ``origin`` and ``sequence`` are the place of its leaf (``approval.resolved``)."""

    is_yes: bool
    person_ref: str
    at: datetime
    origin: str
    sequence: int


@dataclass(frozen=True, slots=True)
class Standing:
    """How a hold stands for one exchange: ``claimed`` is said only to the exchange that may pass with it.

    ``count``: how many different people must agree; ``valid_until``: when what was approved can no longer be sent, None
    before; ``status_url``: where to ask, if known.
    """

    hold_id: HoldId
    state: HoldState
    binding_sha256: str
    count: int
    asked_at: datetime
    expires_at: datetime
    valid_until: datetime | None = None
    resolutions: tuple[Resolution, ...] = ()
    status_url: str | None = None


@dataclass(frozen=True, slots=True)
class Decision:
    """The policy's answer. ``approval`` is the demanded approval, None if none is needed.

    ``restore``: entities (``*``: all) whose tokens are replaced by their values in the answer. ``break_glass``: why it
    passes without the people who would have to agree: a code, None if it is an ordinary call. ``asked``: question and
    answer as they went over the wire, for the evidence; empty where nobody was asked.
    """

    allow: bool
    reasons: tuple[str, ...]
    redact_request: tuple[RedactionRule, ...]
    redact_response: tuple[RedactionRule, ...]
    approval: ApprovalTerms | None
    record_payloads: bool
    decision_id: str
    policy: PolicyVersion
    restore: tuple[str, ...] = ()
    break_glass: str | None = None
    asked: bytes = field(default=b"", compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Source:
    """Where the call came from: the downstream address as Envoy saw it, and the claimed user agent."""

    address: str
    user_agent: str


@dataclass(frozen=True, slots=True)
class Call:
    """All that is known of a request when the question is put to the policy.

    ``query`` and ``betas`` are what the caller asks of the upstream beside the body: known keys, labels only.
    ``is_emergency``: they say that it cannot wait for people to agree, and why.
    """

    exchange_id: ExchangeId
    connection: Connection
    identity: Identity
    method: str
    path: str
    body_bytes: int
    inspection: Inspection
    source: Source
    received_at: datetime
    query: tuple[tuple[str, str], ...] = ()
    betas: tuple[str, ...] = ()
    is_emergency: bool = False


@dataclass(frozen=True, slots=True)
class Asking:
    """What people are asked to agree to: this call, with this body, as the model would get it (``forwarded``)."""

    call: Call
    decision: Decision
    terms: ApprovalTerms
    body: bytes
    forwarded: Redaction


@dataclass(frozen=True, slots=True)
class Payload:
    """One body for the evidence, in clear: it is encrypted before it touches a disk.

    ``role`` is one of `record_kinds.PayloadRole`.
    """

    role: str
    body: bytes
    content_type: str

    def __repr__(self) -> str:
        return f"Payload(role={str(self.role)!r}, {len(self.body)} bytes)"


@dataclass(frozen=True, slots=True)
class Entry:
    """What the session asks the log to keep. ``facts`` hold no content: codes, counts, digests, ids and times.

    ``kind`` is one of `record_kinds.LeafKind` that tells of an exchange. ``identity`` is kept as keyed references,
    never in clear, and so are the ids of tool calls: ``tool_calls`` are those that an answer asks for, each a record of
    its own before this one, ``tool_results`` those whose results a request brings.
    """

    kind: str
    exchange_id: ExchangeId
    identity: Identity | None
    source: Source | None
    facts: Mapping[str, Any]
    payloads: tuple[Payload, ...] = ()
    tool_calls: tuple[ToolCall, ...] = ()
    tool_results: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Receipt:
    """Proof that an entry is durable: the log's name, the entry's place in it and its leaf hash (lower-case hex).

    ``promise`` is what the caller can keep of an outcome: the same, signed; empty where nobody signs.
    """

    origin: str
    sequence: int
    leaf_hash: str
    promise: str = ""


@dataclass(frozen=True, slots=True)
class Refusal:
    """An answer of ours instead of the model's: ``text`` is safe to show; ``reasons`` are the policy's codes.

    ``held``: not a refusal but "come back later" (202), said with how the hold stands. ``is_event``: said as an event
    of a stream, to a client that reads nothing else.
    """

    status: int
    code: str
    text: str
    reasons: tuple[str, ...] = ()
    retry_after_seconds: int | None = None
    headers: tuple[tuple[str, str], ...] = field(default=())
    held: Standing | None = None
    is_event: bool = False
