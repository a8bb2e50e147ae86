"""What pages show, and their twins in JSON say: frozen values, made for one viewer by whoever keeps them (`ports`).

These classes are the API's schemas too (`openapi`), so each field that is not plain has a line in its class's text.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime  # noqa: TC003 - the API's schemas are made of these classes
from typing import Literal

from ext_proc.model import HoldState  # noqa: TC001 - as above

# Text and small things ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Segment:
    """A piece of text. With ``entity``: what a rule hit, or what stands in its place; ``action`` is what was done."""

    text: str
    entity: str | None = None
    action: str | None = None


@dataclass(frozen=True, slots=True)
class Passage:
    """One text of a body, or all of it. ``label`` says where it stands (`messages/0/content`)."""

    label: str
    segments: tuple[Segment, ...]


@dataclass(frozen=True, slots=True)
class Count:
    """How many of what."""

    name: str
    count: int


@dataclass(frozen=True, slots=True)
class Fact:
    """A line of a page: what it is called, and what it says."""

    name: str
    value: str


@dataclass(frozen=True, slots=True)
class Place:
    """Where a record stands: the log's unique name, and the number in it."""

    origin: str
    sequence: int


# Holds --------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Asker:
    """Who made the call. ``subject`` is null where it cannot be read any more (erased)."""

    ref: str
    issuer: str
    subject: str | None
    groups: tuple[str, ...] = ()
    client: str | None = None
    tenant: str | None = None


@dataclass(frozen=True, slots=True)
class HoldLine:
    """A hold in a list. ``needed`` people must agree, ``given`` did.

    ``objection``: why the viewer may not resolve it, a code; null: they may; `unreadable`: they may only deny it.
    ``answered``: what the viewer said of it.
    """

    hold_id: str
    state: HoldState
    caller: str
    connection: str
    operation: str
    model: str | None
    findings: tuple[Count, ...]
    reason: str
    asked_at: datetime
    expires_at: datetime
    needed: int
    given: int
    is_own: bool
    objection: str | None
    answered: Literal["approve", "deny"] | None = None


@dataclass(frozen=True, slots=True)
class Inbox:
    """Holds that wait for the viewer, the oldest first; ``pending_count`` is how many in all.

    ``next_after``: what to ask for the next page with; null: this is the last. ``answered``, on the first page: those
    that the viewer agreed to, and others must agree to as well.
    """

    lines: tuple[HoldLine, ...]
    pending_count: int
    next_after: str | None = None
    answered: tuple[HoldLine, ...] = ()


@dataclass(frozen=True, slots=True)
class PolicySeen:
    """Which policy decided, and why."""

    revision: str
    digest: str
    decision_id: str
    reasons: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class TermsSeen:
    """What the policy demands: ``count`` different people of ``groups``. ``clear_to``: who may read it in clear."""

    groups: tuple[str, ...]
    count: int
    within_seconds: int
    valid_seconds: int
    clear_to: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Said:
    """What one person said. ``person`` is a name where it can be read and the viewer may read it, else a reference;
    ``is_you``: it is the viewer. To whoever made the call only what was said and when: people answer each other, and
    are not to be asked by the caller who it was and why.
    """

    is_yes: bool
    person: str | None
    justification: str | None
    at: datetime
    record: Place | None
    is_you: bool = False


@dataclass(frozen=True, slots=True)
class HoldSeen:
    """One hold. ``masked`` is what the model would get, ``clear`` what came: null unless asked for and allowed.

    ``exchange_ids``: the exchanges that waited for it. ``valid_until``: when what was approved can no longer be sent.
    """

    line: HoldLine
    asker: Asker
    method: str
    path: str
    policy: PolicySeen
    terms: TermsSeen
    valid_until: datetime | None
    resolutions: tuple[Said, ...]
    exchange_ids: tuple[str, ...]
    masked: tuple[Passage, ...]
    may_read_clear: bool
    clear: tuple[Passage, ...] | None = None


# Exchanges ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Filters:
    """Which exchanges; null: any. Texts are compared whole, but ``query``: the beginning of an id or of a reference."""

    query: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    connection: str | None = None
    model: str | None = None
    decision: Literal["allow", "deny", "none"] | None = None
    outcome: str | None = None
    entity: str | None = None
    code: str | None = None


@dataclass(frozen=True, slots=True)
class ExchangeLine:
    """An exchange in a list. ``masked``: what was taken out, by entity. ``hold_id``: what it waited for."""

    exchange_id: str
    at: datetime
    subject_ref: str | None
    connection: str | None
    operation: str | None
    model: str | None
    decision: Literal["allow", "deny", "none"]
    outcome: str
    http_status: int | None
    code: str | None
    masked: tuple[Count, ...] = ()
    hold_id: str | None = None


@dataclass(frozen=True, slots=True)
class Found:
    """Exchanges, the newest first. ``total``: how many, where that is known; ``viewer_ref``: who you are in them."""

    lines: tuple[ExchangeLine, ...]
    next_after: str | None = None
    total: int | None = None
    viewer_ref: str | None = None


@dataclass(frozen=True, slots=True)
class Step:
    """Something that happened to an exchange. ``code`` is a stable word for it, ``record`` the leaf that says so."""

    at: datetime
    phase: Literal["received", "identified", "inspected", "decided", "held", "masked", "forwarded", "answered", "ended"]
    title: str
    code: str | None = None
    facts: tuple[Fact, ...] = ()
    record: Place | None = None
    is_refusal: bool = False


@dataclass(frozen=True, slots=True)
class Proof:
    """What shows that a record is in the locked bucket. ``root_hash``: of the signed checkpoint that covers it."""

    record: Place
    kind: str
    leaf_hash: str
    object_key: str
    lock_mode: str | None
    locked_until: datetime | None
    checkpoint_size: int | None
    root_hash: str | None


@dataclass(frozen=True, slots=True)
class ExchangeSeen:
    """One exchange: what happened, in order, and what proves it. ``payload_roles``: the bodies that are kept of it;
    ``viewer_ref``: who you are in it.
    """

    line: ExchangeLine
    steps: tuple[Step, ...]
    proofs: tuple[Proof, ...]
    payload_roles: tuple[str, ...]
    links: tuple[Fact, ...] = ()
    viewer_ref: str | None = None


@dataclass(frozen=True, slots=True)
class BodySeen:
    """One body. ``why`` says what became of it unless it was read; ``unplaced``: recorded spans that are not marked."""

    role: Literal["request.raw", "request.forwarded", "response.upstream", "response.released"]
    state: Literal["read", "shredded", "missing", "damaged"]
    content_type: str
    segments: tuple[Segment, ...] = ()
    why: str = ""
    unplaced: int = 0


@dataclass(frozen=True, slots=True)
class PayloadsSeen:
    """The bodies of an exchange, and the record of their having been read (``access.read``)."""

    exchange_id: str
    bodies: tuple[BodySeen, ...]
    record: Place | None


@dataclass(frozen=True, slots=True)
class Examined:
    """One thing that was looked at, and whether it is as it should be."""

    name: str
    is_ok: bool
    detail: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """What verifying one exchange found."""

    exchange_id: str
    is_ok: bool
    at: datetime
    examined: tuple[Examined, ...]


# The whole ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Hour:
    """One hour of traffic. Latencies are of the gate's own work, in milliseconds; null where nothing was measured.

    ``denied``: by the policy; ``denied_by_people``: by somebody who was asked to approve it.
    """

    at: datetime
    allowed: int = 0
    denied: int = 0
    refused: int = 0
    failed: int = 0
    latency_ms_p50: float | None = None
    latency_ms_p99: float | None = None
    holds_approved: int = 0
    holds_denied: int = 0
    holds_expired: int = 0
    holds_ended: int = 0
    denied_by_people: int = 0


@dataclass(frozen=True, slots=True)
class Charts:
    """Traffic by hour, the oldest first. ``entities``: what was masked in all that time, the most frequent first."""

    since: datetime
    until: datetime
    hours: tuple[Hour, ...]
    entities: tuple[Count, ...]


@dataclass(frozen=True, slots=True)
class Difference:
    """A file of the policy that another bundle has otherwise. ``lines`` are those of a unified difference."""

    path: str
    change: Literal["added", "removed", "changed"]
    lines: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Activation:
    """When a policy bundle came to decide, and how it differs from the one before; ``differences`` null: not known.

    ``archived_at``: when it was on record that it is locked in the bucket; null: it is not. ``number`` and ``key_id``:
    its place in the line, and of which key it says that it is signed with; null: neither.
    """

    at: datetime
    revision: str
    digest: str
    origin: str
    is_current: bool
    differences: tuple[Difference, ...] | None = None
    archived_at: datetime | None = None
    number: int | None = None
    key_id: str | None = None


@dataclass(frozen=True, slots=True)
class BundleRefused:
    """A bundle that was published and not taken; ``number`` as it says itself."""

    at: datetime
    digest: str
    reason: str
    number: int | None
    origin: str


@dataclass(frozen=True, slots=True)
class ShadowSeen:
    """What a candidate that is asked beside the policy would have done otherwise: one effect, in so many calls.

    ``digest`` is null where its answers were no decisions. ``example``: the first call.
    """

    digest: str | None
    revision: str | None
    effect: str
    calls: int
    first_at: datetime
    last_at: datetime
    example: str


@dataclass(frozen=True, slots=True)
class Activations:
    """The newest first."""

    activations: tuple[Activation, ...]
    refused: tuple[BundleRefused, ...] = ()
    shadows: tuple[ShadowSeen, ...] = ()


@dataclass(frozen=True, slots=True)
class FindingSeen:
    """Something that is not as it should be: a code of the record format, where, and what it means."""

    code: str
    object: str
    explanation: str


@dataclass(frozen=True, slots=True)
class Verified:
    """The last whole verification."""

    at: datetime
    is_ok: bool
    records: int
    logs: int
    findings: tuple[FindingSeen, ...] = ()


@dataclass(frozen=True, slots=True)
class Reconciled:
    """One day's statement of completeness: requests that Envoy saw, those with a record, and what nothing explains."""

    day: str
    at: datetime
    envoy: int
    audited: int
    orphans: int
    explained: tuple[Count, ...] = ()
    gaps: tuple[Count, ...] = ()


@dataclass(frozen=True, slots=True)
class Head:
    """The newest signed checkpoint of a log. ``end``: ``close``, ``recovered``, or null while it is written."""

    origin: str
    size: int
    root_hash: str
    at: datetime
    end: str | None = None


@dataclass(frozen=True, slots=True)
class Standing:
    """How the evidence stands: the last verification, the last days' completeness, the newest heads."""

    verified: Verified | None
    reconciled: tuple[Reconciled, ...]
    heads: tuple[Head, ...]
