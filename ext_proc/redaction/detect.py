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
from ext_proc.redaction.gate import ANCHORS, BASE64, HIDDEN, candidates
from ext_proc.redaction.normalise import normalised
from ext_proc.redaction.rules import ENTITIES, KEY_MARK, RULES, is_secret

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from ext_proc.redaction.rules import Rule

_TELLING: Final = re.compile(
    r"pass|pwd|secret|token|key|ssn|social|birth|dob|born|phone|mobile|fax|tel|licen|credential", re.IGNORECASE
)
_TELLING_KEPT: Final = 32
"""Characters kept on each side of the telling word of a long key: keys can be as long as bodies."""

# In lines (RFC 2045 section 6.8), or in one run, perhaps of the URL-safe alphabet.
_BASE64: Final = re.compile(r"(?:[A-Za-z0-9+/]{60,76}\r?\n)+[A-Za-z0-9+/]{1,76}={0,2}|[A-Za-z0-9+/_-]{16,}={0,2}")
_BASE64_PART: Final = re.compile(r"[A-Za-z0-9]{16,}={0,2}")
_LINE_ENDS: Final = str.maketrans({"\r": None, "\n": None})
_URL_SAFE: Final = str.maketrans("-_", "+/")

_GROW: Final = 64

# What we put in a value's place ourselves: to find it again would mask masks. Only exactly that: anything that a
# caller writes around it is looked at.
_PLACEHOLDER: Final = re.compile(rf"\[(?:{'|'.join(ENTITIES)})(?::[a-p]{{8}})?\][.,;:!?)\]}}]*")
_SHOWN: Final = "****"


def scan(text: str, context: str = "") -> list[Span]:
    """Spans in ``text``, sorted, not overlapping; offsets are code points of the text as it is.

    Args:
        text: one channel's decoded text.
        context: the key that the text stands under: ``ssn`` above nine digits says what they are.
    """
    return merged(apart(text, context)) if text else []


def apart(text: str, context: str = "") -> list[Span]:
    """Spans as each rule finds them: they may overlap."""
    if "[" in context:
        context = _PLACEHOLDER.sub(" ", context)  # ``[US_SSN]`` as a key was a value, not a name
    telling = _TELLING.search(context) if context else None
    if telling is None:
        return _spans(text)
    kept = context[max(telling.start() - _TELLING_KEPT, 0) : telling.end() + _TELLING_KEPT]
    head = f"{kept.replace('_', ' ').replace('-', ' ')}{KEY_MARK}: "
    shift = len(head)
    spans = _spans(head + text)
    return [Span(max(s.start - shift, 0), s.end - shift, s.entity, s.rule, s.score) for s in spans if s.end > shift]


def _spans(text: str) -> list[Span]:
    hits = candidates(text)
    if not hits:
        return []
    found = list(_found(text, hits))
    if HIDDEN in hits:
        seen = normalised(text)
        if seen.text != text:
            found += [
                Span(*seen.span(s.start, s.end), s.entity, s.rule, s.score)
                for s in _found(seen.text, candidates(seen.text))
            ]
    if BASE64 in hits:
        found += _in_base64(text)
    return found


_SHORT: Final = 64
"""Characters of a text that is looked at together with other short ones."""


def scan_all(texts: Sequence[tuple[str, str]]) -> list[list[Span]]:
    """`scan` of many texts with their contexts. Short ones are looked at together: mostly there is nothing in any.

    Every anchor that occurs in one of them occurs in the whole; so of each, only those are looked for (``max_tokens``
    is in most requests, and has the anchor of a password's name).
    """
    is_short = [len(text) <= _SHORT and not (context and _TELLING.search(context)) for text, context in texts]
    hits = candidates("\n".join([text for (text, _), short in zip(texts, is_short, strict=True) if short]))
    anchors = [ANCHORS[index] for index in hits]
    return [
        [] if short and not any(anchor.search(text) for anchor in anchors) else scan(text, context)
        for (text, context), short in zip(texts, is_short, strict=True)
    ]


def _found(text: str, hits: Sequence[int]) -> Iterator[Span]:
    for index in hits:
        if index < len(RULES):
            rule = RULES[index]
            done = 0  # an open-ended value goes on beyond its window: not to be read again in the next one
            for low, high in _windows(rule, ANCHORS[index], text):
                for span in _confirmed(rule, text, max(low, done), high):
                    yield span
                    done = span.end


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
    at, end_max = low, high
    while at <= high:
        match = rule.pattern.search(text, at, end_max)
        if match is None or match.start() > high:
            return
        if match.end() == end_max < len(text):
            # Cut off by the window: an open-ended value goes on. Twice as far each time, so that it stays linear.
            end_max = min(end_max + max(_GROW, end_max - match.start()), len(text))
            continue
        end_max = high
        start, end = match.span(1 if rule.pattern.groups else 0)
        belongs = rule.validator(text[start:end])
        if belongs and not _is_ours(text, start, start + belongs):
            yield Span(start, start + belongs, rule.entity, rule.id, rule.score)
            at = max(start + belongs, at + 1)
        else:
            at = match.start() + 1 if match.end() - match.start() < _RETRY_MAX else match.end()


_RETRY_MAX: Final = 64
"""After a candidate that is not one, look again from its second character; long runs are passed over at once."""


def _is_ours(text: str, start: int, end: int) -> bool:
    """Is it a placeholder, or the part of a value that the action ``partial`` shows?"""
    if end - start <= len(_SHOWN):
        return text[max(start - len(_SHOWN), 0) : start] == _SHOWN
    return text[start] == "[" and _PLACEHOLDER.fullmatch(text, start, end) is not None


def _in_base64(text: str) -> Iterator[Span]:
    for match in _BASE64.finditer(text):
        best = _said_in_base64(match.group())
        if best is not None:
            yield Span(match.start(), match.end(), best.entity, best.rule, best.score)
            continue
        for part in _BASE64_PART.finditer(match.group()):  # glued to a path or a name
            best = _said_in_base64(part.group()) if len(part.group()) < len(match.group()) else None
            if best is not None:
                yield Span(match.start() + part.start(), match.start() + part.end(), best.entity, best.rule, best.score)


def _said_in_base64(run: str) -> Span | None:
    plain = run.translate(_LINE_ENDS).rstrip("=").translate(_URL_SAFE)
    if len(plain) % 4 == 1:
        plain = plain[:-1]  # a character too many is of the text around
    try:
        said = base64.b64decode(plain + "=" * (-len(plain) % 4)).decode()
    except (binascii.Error, UnicodeDecodeError):
        return None
    return max(_found(said, candidates(said)), key=_rank, default=None)


def merged(spans: list[Span]) -> list[Span]:
    """Sorted, not overlapping: what touches the same characters becomes one, named after the gravest."""
    if len(spans) < 2:
        return spans
    joined: list[Span] = []
    for span in sorted(spans, key=lambda s: (s.start, -s.end)):
        if joined and span.start < joined[-1].end:
            best = max(joined[-1], span, key=_rank)
            last = joined[-1]
            joined[-1] = Span(last.start, max(last.end, span.end), best.entity, best.rule, best.score)
        else:
            joined.append(span)
    return joined


def _rank(span: Span) -> tuple[bool, float, int]:
    return (is_secret(span.entity), span.score, span.end - span.start)
