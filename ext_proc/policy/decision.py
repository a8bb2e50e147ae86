"""The policy's answer, read exactly: one known shape is a decision, anything else is a deny. Pure.

The shape is published as ``opa/schemas/decision.json``; the tests hold it against this file.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from ext_proc.errors import PolicyUndefined
from ext_proc.model import Action, ApprovalTerms, Decision, Direction, RedactionRule
from ext_proc.policy.field_rules import BadFieldRule, read_rule

if TYPE_CHECKING:
    from ext_proc.model import PolicyVersion

LIST_MAX: Final = 64
REASON_MAX_CHARS: Final = 512
PEOPLE_MAX: Final = 16
"""Who may have to agree at most: more is a mistake."""
_SECONDS_MAX: Final = 30 * 24 * 3600
_FIELDS: Final = {"allow", "reasons", "redact", "approval", "record"}
_APPROVAL_FIELDS: Final = {"groups", "count", "valid_seconds", "within_seconds", "reason"}
_DECISION_ID: Final = re.compile(r"[\x21-\x7e]{1,128}")
_CODE: Final = re.compile(r"[a-z][a-z0-9_.-]{0,63}")
_ENTITY: Final = re.compile(r"\*|[A-Z][A-Z0-9_]{0,63}")
_ACTIONS: Final = {action.value: action for action in Action}
_IN_ANSWERS: Final = {name: action for name, action in _ACTIONS.items() if action is not Action.TOKENISE}
"""Tokens are for values that the caller sent: the model's own are nobody's to get back."""


def read_decision(answer: Any, decision_id: str, policy: PolicyVersion) -> Decision:
    """The decision in OPA's ``result``.

    Raises:
        PolicyUndefined: it is not exactly a decision; ``detail`` names the first part that is wrong.
    """
    if not _DECISION_ID.fullmatch(decision_id):
        raise PolicyUndefined("decision_id")  # it stands in the record, which has no room for more
    if not isinstance(answer, dict) or set(answer) - {"break_glass"} != _FIELDS:
        raise PolicyUndefined("fields")
    # `is True`: no number, text or list is taken for a yes.
    if answer["allow"] is not True and answer["allow"] is not False:
        raise PolicyUndefined("allow")
    reasons = _reasons(answer["reasons"])
    if answer["allow"] and reasons:
        raise PolicyUndefined("allow_with_reasons")  # which of the two should count?
    redact, record = answer["redact"], answer["record"]
    if not isinstance(redact, dict) or set(redact) - {"restore"} != {"request", "response"}:
        raise PolicyUndefined("redact")
    if not isinstance(record, dict) or set(record) != {"payloads"} or not isinstance(record["payloads"], bool):
        raise PolicyUndefined("record")
    return Decision(
        allow=answer["allow"],
        reasons=reasons,
        redact_request=_rules(redact["request"], Direction.REQUEST),
        redact_response=_rules(redact["response"], Direction.RESPONSE),
        approval=_approval(answer["approval"]),
        record_payloads=record["payloads"],
        decision_id=decision_id,
        policy=policy,
        restore=_entities(redact.get("restore", [])),
        break_glass=_break_glass(answer),
    )


def _break_glass(answer: dict[str, Any]) -> str | None:
    """Only of what is allowed, and instead of an approval: else which of the two should count?"""
    if "break_glass" not in answer:
        return None
    code = answer["break_glass"]
    if not isinstance(code, str) or not _CODE.fullmatch(code):
        raise PolicyUndefined("break_glass")
    if not answer["allow"] or answer["approval"] is not None:
        raise PolicyUndefined("break_glass_beside")
    return code


def _entities(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list) or len(value) > LIST_MAX:
        raise PolicyUndefined("restore")
    if not all(isinstance(one, str) and _ENTITY.fullmatch(one) for one in value):
        raise PolicyUndefined("restore")
    return tuple(value)


def _reasons(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list) or len(value) > LIST_MAX:
        raise PolicyUndefined("reasons")
    if not all(isinstance(one, str) and _CODE.fullmatch(one) for one in value):
        raise PolicyUndefined("reasons")
    return tuple(value)


def _rules(value: Any, direction: Direction) -> tuple[RedactionRule, ...]:
    if not isinstance(value, list) or len(value) > LIST_MAX:
        raise PolicyUndefined("redact")
    rules = tuple(_rule(one, direction, number) for number, one in enumerate(value, 1))
    entities = [rule.entity for rule in rules if rule.field is None]
    if len(set(entities)) != len(entities):
        raise PolicyUndefined("redact")  # which of the two should count?
    return rules


def _rule(value: Any, direction: Direction, number: int) -> RedactionRule:
    if isinstance(value, dict) and "path" in value:
        try:
            return RedactionRule("", Action.MASK, read_rule(value, direction, "decision", number))
        except BadFieldRule:
            raise PolicyUndefined("redact_field") from None
    if not isinstance(value, dict) or set(value) != {"entity", "action"}:
        raise PolicyUndefined("redact")
    entity, action = value["entity"], value["action"]
    if not isinstance(entity, str) or not _ENTITY.fullmatch(entity):
        raise PolicyUndefined("redact")
    actions = _ACTIONS if direction is Direction.REQUEST else _IN_ANSWERS
    if not isinstance(action, str) or action not in actions:
        raise PolicyUndefined("redact")
    return RedactionRule(entity, actions[action])


def _approval(value: Any) -> ApprovalTerms | None:
    if value is None:
        return None
    if not isinstance(value, dict) or set(value) - {"clear_to"} != _APPROVAL_FIELDS:
        raise PolicyUndefined("approval")
    counts = [value[name] for name in ("count", "valid_seconds", "within_seconds")]
    if not all(isinstance(one, int) and not isinstance(one, bool) and 0 < one <= _SECONDS_MAX for one in counts):
        raise PolicyUndefined("approval")
    reason = value["reason"]
    if not isinstance(reason, str) or len(reason) > REASON_MAX_CHARS:
        raise PolicyUndefined("approval")
    groups, clear_to = _groups(value["groups"]), _groups(value.get("clear_to", []))
    if not groups or value["count"] > PEOPLE_MAX:
        raise PolicyUndefined("approval")
    return ApprovalTerms(groups, value["count"], value["valid_seconds"], value["within_seconds"], reason, clear_to)


def _groups(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list) or len(value) > LIST_MAX:
        raise PolicyUndefined("approval")
    if not all(isinstance(one, str) and 0 < len(one) <= REASON_MAX_CHARS for one in value):
        raise PolicyUndefined("approval")
    return tuple(value)
