"""The kinds of records and the roles of payloads, each word once. Pure.

What a kind's fields are stands in `ext_proc.audit.kinds`, what they mean in ``docs/record-format.md``. The verifier
keeps words of its own (`ext_proc.verify.leaves`): it shares nothing with what it judges, and a test holds the two
together.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping


class LeafKind(StrEnum):
    """The ``kind`` of a leaf."""

    LOG_OPEN = "log.open"
    LOG_CLOSE = "log.close"
    LOG_RECOVERED = "log.recovered"
    LOG_LOST = "log.lost"
    HEARTBEAT = "heartbeat"
    INFERENCE_INTENT = "inference.intent"
    APPROVAL_REQUESTED = "approval.requested"
    APPROVAL_BREAK_GLASS = "approval.break_glass"
    APPROVAL_VIEWED = "approval.viewed"
    APPROVAL_RESOLVED = "approval.resolved"
    APPROVAL_REFUSED = "approval.refused"
    INFERENCE_PART = "inference.part"
    INFERENCE_OUTCOME = "inference.outcome"
    EFFECT_TOOL_CALL = "effect.tool_call"
    INFERENCE_UNDELIVERED = "inference.undelivered"
    INFERENCE_REFUSED_BY_ENVOY = "inference.refused_by_envoy"
    POLICY_SHADOW_DIFFERED = "policy.shadow_differed"
    POLICY_REFUSED = "policy.refused"
    POLICY_ACTIVATED = "policy.activated"
    POLICY_KEPT = "policy.kept"
    CONFIG_CHANGED = "config.changed"
    EPOCH_BORN = "epoch.born"
    EPOCH_ENDED = "epoch.ended"
    ACCESS_SHIPPED = "access.shipped"
    DIGEST_MADE = "digest.made"
    WORM_CANARY = "worm.canary"
    SEGMENT_QUARANTINED = "segment.quarantined"
    RECONCILE_RESULT = "reconcile.result"
    ROLLUP_MADE = "rollup.made"
    KEY_ROTATED = "key.rotated"
    ERASURE_REQUESTED = "erasure.requested"
    ERASURE_COMPLETED = "erasure.completed"
    ERASURE_REFUSED = "erasure.refused"
    LEGALHOLD_PLACED = "legalhold.placed"
    LEGALHOLD_RELEASED = "legalhold.released"
    ACCESS_SPAN_READ = "access.span_read"
    ACCESS_READ = "access.read"
    ACCESS_REFUSED = "access.refused"


class PayloadRole(StrEnum):
    """The ``role`` of a payload: which body of an exchange it is."""

    REQUEST_RAW = "request.raw"
    REQUEST_FORWARDED = "request.forwarded"
    RESPONSE_UPSTREAM = "response.upstream"
    RESPONSE_RELEASED = "response.released"
    POLICY_QUESTION = "policy.question"
    APPROVAL_JUSTIFICATION = "approval.justification"


LOG_ENDS: Final[Mapping[str, str]] = {LeafKind.LOG_CLOSE: "close", LeafKind.LOG_RECOVERED: "recovered"}
"""The kinds that the last leaf of a log can have, with how it ended then: by itself, or for a worker that had died."""
BODY_ROLES: Final = (
    PayloadRole.REQUEST_RAW,
    PayloadRole.REQUEST_FORWARDED,
    PayloadRole.RESPONSE_UPSTREAM,
    PayloadRole.RESPONSE_RELEASED,
)
"""The bodies of an exchange as they came and as they went on, in that order."""
