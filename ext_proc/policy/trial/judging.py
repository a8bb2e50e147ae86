"""Is an answer weaker than another? Pure.

Only what `ext_proc.policy.decision` takes for a decision can allow anything: the rest is a refusal, as at the gate.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from ext_proc.errors import PolicyUndefined
from ext_proc.model import Action, PolicyVersion
from ext_proc.policy.decision import read_decision

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ext_proc.model import ApprovalTerms, Decision, RedactionRule

DENY_BECAME_ALLOW: Final = "deny_became_allow"
APPROVAL_LOST: Final = "approval_lost"
UNMASKED: Final = "unmasked"
LESS_RECORDED: Final = "less_recorded"
UNKNOWN_ALLOWED: Final = "unknown_allowed"
MALFORMED_ALLOWED: Final = "malformed_allowed"

LEFT_OUT: Final = "left_out"
"""No finding, but a question to the author: does a denial that falls silent where the caller says nothing mean to?"""

AS_ANOTHER: Final = "as_another"
"""No finding either: a denial falls silent for another caller, another program, or on another day."""

TEXTS: Final[Mapping[str, str]] = {
    DENY_BECAME_ALLOW: "a call that is denied is allowed when the question says less",
    APPROVAL_LOST: "fewer people have to agree when the question says less",
    UNMASKED: "less is masked when the question says less",
    LESS_RECORDED: "less is kept when the question says less",
    UNKNOWN_ALLOWED: "something that the policy has never heard of is allowed",
    MALFORMED_ALLOWED: "a question that is not whole is allowed",
}
_STRICTNESS: Final = {
    Action.ALLOW: 0,
    Action.PARTIAL: 1,
    Action.TOKENISE: 2,
    Action.HASH: 3,
    Action.MASK: 4,
    Action.DROP: 5,
    Action.BLOCK: 6,
}
"""The less a text still tells, the stricter."""
_NO_VERSION: Final = PolicyVersion("trial", "0" * 64)


def decision_of(answer: Any) -> Decision | None:
    """What the gate makes of it: None is a refusal, whatever else the answer says."""
    try:
        read = read_decision(answer, "trial", _NO_VERSION)
    except PolicyUndefined:
        return None
    return read if read.allow else None


def weaker(before: Decision | None, after: Decision | None) -> str | None:
    """In what the second is weaker; None if it is not."""
    if after is None:
        return None
    if before is None:
        return DENY_BECAME_ALLOW
    if before.approval is not None and _is_easier(before.approval, after.approval):
        return APPROVAL_LOST
    if (
        _shows_more(before.redact_request, after.redact_request)
        or _shows_more(before.redact_response, after.redact_response)
        or set(after.restore) - set(before.restore)
    ):
        return UNMASKED
    return LESS_RECORDED if before.record_payloads and not after.record_payloads else None


def shows(decision: Decision, entity: str) -> bool:
    """Does a value of this entity go to the model as it is?"""
    return _action_of(decision.redact_request, entity) is Action.ALLOW


def _is_easier(before: ApprovalTerms, after: ApprovalTerms | None) -> bool:
    return (
        after is None
        or after.count < before.count
        or bool(set(after.groups) - set(before.groups))
        or bool(set(after.clear_to) - set(before.clear_to))
    )


def _shows_more(before: tuple[RedactionRule, ...], after: tuple[RedactionRule, ...]) -> bool:
    entities = {rule.entity for rule in (*before, *after) if rule.field is None} | {"*"}
    fields = {rule.field for rule in after if rule.field is not None}
    return any(
        _STRICTNESS[_action_of(after, entity)] < _STRICTNESS[_action_of(before, entity)] for entity in entities
    ) or any(rule.field not in fields for rule in before if rule.field is not None)


def _action_of(rules: tuple[RedactionRule, ...], entity: str) -> Action:
    """As the gate finds it: its own line, else that of `*`, else masked."""
    lines = {rule.entity: rule.action for rule in rules if rule.field is None}
    return lines.get(entity, lines.get("*", Action.MASK))
