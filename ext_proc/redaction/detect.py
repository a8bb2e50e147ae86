"""Find what the rules name in one channel's text.

1. The gate says which rules could hit at all.
2. Each of them is looked for in windows around its anchors, and its validator confirms.
3. The same is done in the text as a reader sees it (`normalise`), and in what base64 runs say.
4. Spans that touch each other become one: nothing of either may stay.
"""

from __future__ import annotations

import base64
import binascii
import re
from typing import TYPE_CHECKING, Final

from ext_proc.model import Span
from ext_proc.redaction.gate import ANCHORS, candidates
from ext_proc.redaction.normalise import is_plain, normalised
from ext_proc.redaction.rules import KEY_MARK, RULES, is_secret

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ext_proc.redaction.rules import Rule

_TELLING: Final = re.compile(
    r"pass|pwd|secret|token|key|ssn|social|birth|dob|born|phone|mobile|fax|tel|licen|credential", re.IGNORECASE
)
_BASE64: Final = re.compile(r"(?<![A-Za-z0-9+/_=-])[A-Za-z0-9+/]{16,}={0,2}(?![A-Za-z0-9+/_=-])")
_GROW: Final = 4096


def scan(text: str, context: str = "") -> list[Span]:
    """Spans in ``text``, sorted, not overlapping; offsets are code points of the text as it is.

    Args:
        text: one channel's decoded text.
        context: the key that the text stands under: ``ssn`` above nine digits says what they are.
    """
    if not text:
        return []
    if context and _TELLING.search(context):
        return _with_context(text, context)
    found = list(_found(text))
    if not is_plain(text):
        seen = normalised(text)
        if seen.text != text:
            found += [
                Span(seen.starts[s.start], seen.ends[s.end - 1], s.entity, s.rule, s.score) for s in _found(seen.text)
            ]
    found += _in_base64(text)
    return _merged(found)


_SHORT: Final = 64
"""Characters of a text that is looked at together with other short ones."""


def scan_all(texts: Sequence[tuple[str, str]]) -> list[list[Span]]:
    """`scan` of many texts with their contexts. Short ones are looked at together: mostly there is nothing in any."""
    short = [text for text, context in texts if len(text) <= _SHORT and not (context and _TELLING.search(context))]
    together = "\n".join(short)  # every anchor that occurs in one of them occurs in the whole
    is_clean = is_plain(together) and not candidates(together) and not _BASE64.search(together)
    return [
        [] if is_clean and len(text) <= _SHORT and not (context and _TELLING.search(context)) else scan(text, context)
        for text, context in texts
    ]


def _with_context(text: str, context: str) -> list[Span]:
    head = f"{context.replace('_', ' ').replace('-', ' ')}{KEY_MARK}: "
    spans = scan(head + text)
    shift = len(head)
    return [Span(max(s.start - shift, 0), s.end - shift, s.entity, s.rule, s.score) for s in spans if s.end > shift]


def _found(text: str) -> Iterator[Span]:
    for index in candidates(text):
        rule = RULES[index]
        for low, high in _windows(rule, ANCHORS[index], text):
            yield from _confirmed(rule, text, low, high)


def _windows(rule: Rule, anchor: re.Pattern[str], text: str) -> Iterator[tuple[int, int]]:
    """Where to look: around each anchor, overlapping windows joined, so that no character is looked at twice."""
    low = high = -1
    for match in anchor.finditer(text):
        start, end = max(match.start() - rule.before, 0), min(match.end() + rule.after, len(text))
        if start > high >= 0:
            yield low, high
            low = start
        elif high < 0:
            low = start
        high = max(high, end)
    if high >= 0:
        yield low, high


def _confirmed(rule: Rule, text: str, low: int, high: int) -> Iterator[Span]:
    at = low
    while at <= high:
        match = rule.pattern.search(text, at, high)
        if match is None:
            return
        if match.end() == high and high < len(text):
            high = min(high + _GROW, len(text))  # cut off by the window: an open-ended value goes on
            continue
        group = match.lastindex if match.lastindex is not None and match.re.groups == 1 and _has_value(rule) else 0
        start, end = match.span(group)
        belongs = rule.validator(text[start:end])
        if belongs:
            yield Span(start, start + belongs, rule.entity, rule.id, rule.score)
            at = max(start + belongs, at + 1)
        else:
            at = match.start() + 1 if match.end() - match.start() < _RETRY_MAX else match.end()


_RETRY_MAX: Final = 64
"""After a candidate that is not one, look again from its second character; long runs are passed over at once."""


def _has_value(rule: Rule) -> bool:
    """Is the pattern's group the value? (The separator of a social security number is a group, but not the value.)"""
    return rule.id != "us-ssn"


def _in_base64(text: str) -> Iterator[Span]:
    for match in _BASE64.finditer(text):
        run = match.group()
        try:
            said = base64.b64decode(run + "=" * (-len(run) % 4), validate=True).decode("ascii")
        except (binascii.Error, UnicodeDecodeError):
            continue
        inner = list(_found(said)) if said.isprintable() else []
        if inner:
            best = max(inner, key=lambda span: span.score)
            yield Span(match.start(), match.end(), best.entity, best.rule, best.score)


def _merged(spans: list[Span]) -> list[Span]:
    if len(spans) < 2:
        return spans
    merged: list[Span] = []
    for span in sorted(spans, key=lambda s: (s.start, -s.end)):
        if merged and span.start < merged[-1].end:
            best = max(merged[-1], span, key=_rank)
            last = merged[-1]
            merged[-1] = Span(last.start, max(last.end, span.end), best.entity, best.rule, best.score)
        else:
            merged.append(span)
    return merged


def _rank(span: Span) -> tuple[bool, float, int]:
    return (is_secret(span.entity), span.score, span.end - span.start)
