"""What is done about a span: the decision's rules, by entity; no rule for an entity means mask (law L5)."""

from __future__ import annotations

import hashlib
import hmac
from bisect import bisect_right
from dataclasses import dataclass
from operator import itemgetter
from typing import TYPE_CHECKING, Final

from ext_proc.model import Action, Edit, Removal, Span
from ext_proc.redaction.detect import apart, merged, scan
from ext_proc.redaction.rules import RULES_VERSION, is_secret

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ext_proc.model import RedactionRule

ANY: Final = "*"
PARTIAL_SHOWN: Final = 4
PARTIAL_MIN: Final = 8
"""Shorter values are masked whole: four of seven characters would be most of it."""


_ROUNDS: Final = 4
"""Looks at what is left; then the whole channel is masked. One more than once is needed for made-up texts only."""
_LETTERS: Final = str.maketrans("0123456789abcdef", "abcdefghijklmnop")


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

    def edits(
        self, path: str, text: str, spans: Sequence[Span], rules: Sequence[RedactionRule], context: str = ""
    ) -> Edits:
        """What to do about ``spans`` of ``text``, the channel at ``path`` whose key is ``context``.

        What is left afterwards is looked at again: taking a value out can join what stood on both sides of it.
        """
        made = Edits((), (), ())
        for _ in range(_ROUNDS):
            spans = _acted_on(text, context, spans, rules)
            made = self._edits(path, text, spans, rules)
            left = _left(made.edits, text, context, rules)
            if not left:
                return made
            spans = merged([*spans, *left])
        gravest = max(spans, key=lambda span: (is_secret(span.entity), span.score))
        whole = Span(0, len(text), gravest.entity, gravest.rule, gravest.score)
        return Edits((Edit(0, len(text), f"[{whole.entity}]"),), made.removals, made.blocked)

    def _edits(self, path: str, text: str, spans: Sequence[Span], rules: Sequence[RedactionRule]) -> Edits:
        edits: list[Edit] = []
        removals: list[Removal] = []
        blocked: list[str] = []
        for span in spans:
            action = action_for(span.entity, rules)
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
                # Letters only: eight digits could be taken for a value again.
                return f"[{entity}:{digest.hexdigest()[:8].translate(_LETTERS)}]"
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


def _acted_on(text: str, context: str, spans: Sequence[Span], rules: Sequence[RedactionRule]) -> Sequence[Span]:
    """Spans less those that are allowed; yet what another rule found under an allowed one stays."""
    allowed = [span for span in spans if action_for(span.entity, rules) is Action.ALLOW]
    if not allowed:
        return spans
    kept = [span for span in spans if span not in allowed]
    under = [
        span
        for span in apart(text, context)
        if action_for(span.entity, rules) is not Action.ALLOW
        and not any(one.start < span.end and span.start < one.end for one in kept)
    ]
    return merged([*kept, *under])


def _left(edits: Sequence[Edit], text: str, context: str, rules: Sequence[RedactionRule]) -> list[Span]:
    """Spans of the edited text that may not stay, as places of ``text``."""
    pieces: list[str] = []
    begins: list[tuple[int, int, int]] = []  # of each piece: where in the edited text, from where, to where in ``text``
    at = length = 0
    for edit in edits:
        for said, start, end in ((text[at : edit.start], at, edit.start), (edit.replacement, edit.start, edit.end)):
            begins.append((length, start, end))
            pieces.append(said)
            length += len(said)
        at = edit.end
    begins.append((length, at, len(text)))
    pieces.append(text[at:])
    spans = [s for s in scan("".join(pieces), context) if action_for(s.entity, rules) is not Action.ALLOW]
    return [_placed(span, begins) for span in spans]


def _placed(span: Span, begins: list[tuple[int, int, int]]) -> Span:
    first = bisect_right(begins, span.start, key=itemgetter(0)) - 1
    last = bisect_right(begins, span.end - 1, key=itemgetter(0)) - 1
    begin, low, _ = begins[first]
    start = low if first % 2 else low + span.start - begin  # odd ones are replacements: whole or not at all
    begin, low, high = begins[last]
    end = high if last % 2 else low + span.end - begin
    return Span(start, end, span.entity, span.rule, span.score)
