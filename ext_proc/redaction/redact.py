"""What is done about a span: the decision's rules, by entity; no rule for an entity means mask (law L5)."""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from ext_proc.model import Action, Edit, Removal
from ext_proc.redaction.rules import RULES_VERSION, is_secret

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ext_proc.model import RedactionRule, Span

ANY: Final = "*"
PARTIAL_SHOWN: Final = 4
PARTIAL_MIN: Final = 8
"""Shorter values are masked whole: four of seven characters would be most of it."""


@dataclass(frozen=True, slots=True)
class Edits:
    """What to change in one channel, what to say about it, and which entities must not pass at all."""

    edits: tuple[Edit, ...]
    removals: tuple[Removal, ...]
    blocked: tuple[str, ...]


class Redactor:
    """Turns spans into edits.

    Args:
        hash_key: key of the one-way pseudonyms; at least 16 bytes.
    """

    def __init__(self, hash_key: bytes) -> None:
        self._hash_key = hash_key

    def edits(self, path: str, text: str, spans: Sequence[Span], rules: Sequence[RedactionRule]) -> Edits:
        """What to do about ``spans`` of ``text``, the channel at ``path``."""
        edits: list[Edit] = []
        removals: list[Removal] = []
        blocked: list[str] = []
        for span in spans:
            action = action_for(span.entity, rules)
            if action is Action.ALLOW:
                continue
            if action is Action.BLOCK:
                blocked.append(span.entity)
            value = text[span.start : span.end]
            edits.append(Edit(span.start, span.end, self._replacement(action, span.entity, value)))
            removals.append(Removal(path, span.start, span.end, span.entity, span.rule, RULES_VERSION, action))
        return Edits(tuple(edits), tuple(removals), tuple(blocked))

    def _replacement(self, action: Action, entity: str, value: str) -> str:
        match action:
            case Action.DROP:
                return ""
            case Action.HASH:
                digest = hmac.new(self._hash_key, f"{entity}\0{value}".encode(errors="replace"), hashlib.sha256)
                return f"[{entity}:{digest.hexdigest()[:8]}]"
            case Action.PARTIAL if len(value) >= PARTIAL_MIN:
                return "****" + value[-PARTIAL_SHOWN:]
            case _:
                return f"[{entity}]"


def action_for(entity: str, rules: Sequence[RedactionRule]) -> Action:
    """The action of the rule that names the entity, else of ``*``, else mask; a secret is never shown in any form."""
    named = next((rule.action for rule in rules if rule.entity == entity), None)
    action = named or next((rule.action for rule in rules if rule.entity == ANY), Action.MASK)
    if is_secret(entity) and action not in (Action.BLOCK, Action.DROP):
        return Action.MASK
    return action
