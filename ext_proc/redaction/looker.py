"""What a look at a part of a text asks the detector, and what it knows of the rules."""

from __future__ import annotations

import re
from functools import cache
from typing import TYPE_CHECKING, Final

from ext_proc.model import Action
from ext_proc.redaction.check_secrets import token
from ext_proc.redaction.detect import merged
from ext_proc.redaction.redact import acted_on, action_for
from ext_proc.redaction.rules import YIELDING, is_secret
from ext_proc.redaction.validators import always, document_number, license_number

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ext_proc.model import RedactionRule, Span
    from ext_proc.redaction.detect import Detector
    from ext_proc.redaction.rules import Rule

NO_WORDS: Final = (license_number, document_number, token)
"""Validators that say no to a plain word: of those rules whose patterns hold nearly every word to be a candidate."""
UNLIKE_WORDS: Final = re.compile(r"\d|[a-z][A-Z]|[A-Z]{2}")
"""What is in everything that they say yes to."""


class Looker:
    """How a text is looked at, by a decision's rules.

    Args:
        detector: finds spans.
        rules: the decision's.
    """

    __slots__ = ("_has_allowed", "_late", "_rules", "detector", "not_words", "numbers")

    def __init__(self, detector: Detector, rules: Sequence[RedactionRule]) -> None:
        self.detector = detector
        self._rules = rules
        self._has_allowed = any(rule.action is Action.ALLOW for rule in rules)
        self._late = frozenset(n for n, rule in enumerate(detector.rules) if rule.before)
        self.numbers, self.not_words = numbers_of(detector)

    def spans(self, text: str, since: int = 0) -> Sequence[Span]:
        """What may not stay in ``text``: in order, not overlapping. Nothing that begins before ``since``."""
        return self.together(text, self.found(text, since))

    def together(self, text: str, apart: Sequence[Span]) -> Sequence[Span]:
        """The same, of what each rule found."""
        found = merged(apart)
        return acted_on(self.detector, text, "", found, self._rules) if found else found

    def before_allowed(self, apart: Sequence[Span], to: int) -> int:
        """Where a value begins that is allowed and goes over ``to``: another one may yet take it in. Else ``to``."""
        if not self._has_allowed:
            return to
        over = (span.start for span in merged(apart) if span.start < to < span.end and span.entity not in YIELDING)
        return next(over, to)

    def apart(self, text: str, since: int = 0) -> Sequence[Span]:
        """The same, as each rule finds it."""
        return [span for span in self.found(text, since) if action_for(span.entity, self._rules) is not Action.ALLOW]

    def found(self, text: str, since: int) -> list[Span]:
        """The same, of all rules, whatever the decision's say."""
        plain, beside = self.detector.rest(text, since=since)
        return [*plain, *beside]

    def armed(self, text: str) -> frozenset[int]:
        """Numbers of what may find a value that begins in ``text``: their anchors are in it, or may yet come."""
        return frozenset(self.detector.gate.candidates(text)) | self._late

    def rule(self, number: int) -> Rule | None:
        """The rule of that number; None for what is no rule."""
        return self.detector.rules[number] if number < len(self.detector.rules) else None


@cache
def numbers_of(detector: Detector) -> tuple[dict[str, int], frozenset[int]]:
    """The detector's rules by their ids, and those whose values are no plain words."""
    numbers = {rule.id: number for number, rule in enumerate(detector.rules)}
    return numbers, frozenset(n for n, rule in enumerate(detector.rules) if rule.validator in NO_WORDS)


def is_told_by_head(rule: Rule | None, span: Span) -> bool:
    """Do the characters that are there decide, whatever follows?"""
    if rule is None or not rule.open_ended or not is_secret(rule.entity):
        return False
    return rule.validator is always or span.end - span.start >= rule.max_length


def outranks(rule: Rule | None, span: Span) -> bool:
    """Could another rule that hits from the same place give the value its name?"""
    return rule is not None and is_secret(rule.entity) and rule.score >= span.score
