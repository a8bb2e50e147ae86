"""Two answers to one question, held against each other: field by field, and by what it means for people. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from ext_proc.errors import PolicyUndefined
from ext_proc.model import Action, PolicyVersion
from ext_proc.policy.decision import read_decision

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from ext_proc.model import Decision, RedactionRule

FIELDS: Final = (
    "allow", "reasons", "approval", "break_glass", "redact.request", "redact.response", "redact.restore",
    "record.payloads",
)  # fmt: skip
EFFECTS: Final = (
    "newly_denied", "newly_allowed", "newly_held", "no_longer_held", "newly_unmasked", "newly_masked", "no_decision",
    "otherwise",
)  # fmt: skip
"""What a candidate does that the policy did not do. ``no_decision``: calls would get 503; ``otherwise``: none of these
(other reasons, another kind of masking, other terms, what is kept)."""
_ABSENT: Final = "absent"
_NOWHERE: Final = PolicyVersion("candidate", "0" * 64)


@dataclass(frozen=True, slots=True)
class Difference:
    """One field. A value that is not there is the text ``absent``."""

    field: str
    before: Any
    now: Any


def differences(before: Any, now: Any) -> tuple[Difference, ...]:
    """The fields that differ between two of OPA's answers; of what is no decision at all the whole."""
    if not isinstance(before, dict) or not isinstance(now, dict):
        return () if before == now else (Difference("decision", before, _ABSENT if now is None else now),)
    known = {name.partition(".")[0] for name in FIELDS}
    names = (*FIELDS, *sorted((set(before) | set(now)) - known))
    pairs = ((name, _at(before, name), _at(now, name)) for name in names)
    return tuple(Difference(name, old, new) for name, old, new in pairs if old != new or type(old) is not type(new))


def _at(answer: Mapping[str, Any], name: str) -> Any:
    value: Any = answer
    for part in name.split("."):
        if not isinstance(value, dict) or part not in value:
            return _ABSENT
        value = value[part]
    return value


def contradictions(leaf: Mapping[str, Any], result: Mapping[str, Any]) -> tuple[Difference, ...]:
    """Where a leaf's ``policy`` and the answer that is kept beside it disagree: then one of them is not what was."""
    said = {
        "allow": result.get("allow"),
        "reasons": result.get("reasons"),
        "approval_required": result.get("approval") is not None,
        "break_glass": result.get("break_glass"),
    }
    return tuple(Difference(name, leaf.get(name), now) for name, now in said.items() if leaf.get(name) != now)


def effects(before: Any, now: Any, entities: Iterable[str] = ()) -> tuple[str, ...]:
    """Which of `EFFECTS` it has that a candidate answers ``now`` what was answered with ``before``.

    Args:
        before: what is on record.
        now: the candidate's answer, as OPA gave it.
        entities: what the scan had found: those that a rule for ``*`` is about are known by name then.
    """
    if before == now and not differences(before, now):  # 1 is equal to true, and no decision
        return ()
    new = _decision(now)
    old = _decision(before)
    if new is None or old is None:
        return ("no_decision",) if new is None and old is not None else ("otherwise",)
    made = [*_about_passing(old, new)]
    if old.allow and new.allow:
        named = sorted({*entities, "*"})
        for rules in ((old.redact_request, new.redact_request), (old.redact_response, new.redact_response)):
            made += _about_masking(*rules, named)
        made += ["newly_unmasked"] if _gives_back_more(old, new) else []
    return tuple(name for name in EFFECTS if name in made) or ("otherwise",)


def _about_passing(old: Decision, new: Decision) -> Iterable[str]:
    if old.allow != new.allow:
        yield "newly_allowed" if new.allow else "newly_denied"
    was_held, is_held = (one.allow and one.approval is not None for one in (old, new))
    if is_held and not was_held:
        yield "newly_held"
    if was_held and not is_held and new.allow:
        yield "no_longer_held"


def _about_masking(
    old: tuple[RedactionRule, ...], new: tuple[RedactionRule, ...], named: Iterable[str]
) -> Iterable[str]:
    before, now = _by_entity(old), _by_entity(new)
    for entity in {*named, *before, *now}:
        was, is_now = (_hides(rules, entity) for rules in (before, now))
        if was != is_now:
            yield "newly_masked" if is_now else "newly_unmasked"
    fields, fields_now = ({rule.field for rule in rules if rule.field is not None} for rules in (old, new))
    if fields - fields_now:
        yield "newly_unmasked"
    if fields_now - fields:
        yield "newly_masked"


def _by_entity(rules: tuple[RedactionRule, ...]) -> dict[str, Action]:
    return {rule.entity: rule.action for rule in rules if rule.field is None}


def _hides(rules: Mapping[str, Action], entity: str) -> bool:
    return rules.get(entity, rules.get("*", Action.ALLOW)) is not Action.ALLOW


def _gives_back_more(old: Decision, new: Decision) -> bool:
    """Tokens that come back as values are as good as unmasked."""
    return "*" not in old.restore and bool(set(new.restore) - set(old.restore))


def _decision(answer: Any) -> Decision | None:
    try:
        return read_decision(answer, "candidate", _NOWHERE)
    except PolicyUndefined:
        return None
