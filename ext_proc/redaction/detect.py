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
from bisect import bisect_left, bisect_right
from dataclasses import replace
from typing import TYPE_CHECKING, Final, NamedTuple

from ext_proc.model import Span
from ext_proc.redaction import gate, tokens
from ext_proc.redaction.normalise import normalised
from ext_proc.redaction.rule import ANCHOR_MAX, ANNOUNCED_MAX
from ext_proc.redaction.rules import KEY_MARK, RULES, YIELDING, is_secret, version_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from ext_proc.redaction.normalise import Normalised
    from ext_proc.redaction.rules import Rule

_TELLING: Final = re.compile(
    r"pass|pwd|secret|token|key|ssn|social|birth|dob|born|b-?day|phone|mobile|cell|fax|tel|handy|contact|licen|credential"
    r"|account|acct|iban|routing|\baba\b|sort.?code|swift|\bbic\b|bsb|card|cvv|cvc|\bmrn|medical|patient|insurance|member"
    r"|medicare|nhs|\bsin\b|\bein\b|\btin\b|tax|national|identity|citizen|aadhaar|cpf|bsn|pesel|\bnif\b|\bdni\b|utr"
    r"|\blat|\blon|\blng|coord|gps|location|imei|\bdl\b|\bpin\b|\botp\b|session|cookie|\bsid\b|website|domain|\bdea\b|\bnpi\b"
    r"|cvn|cv.?code|security|verification|2fa|auth.?code",
    re.IGNORECASE,
)
_ABBREVIATIONS: Final = (
    *("aba", "bic", "bsb", "bsn", "cpf", "cvc", "cvn", "cvv", "dea", "dl", "dob", "ein", "gps", "imei", "lat"),
    *("lng", "lon", "mrn", "nhs", "nif", "npi", "otp", "pin", "sin", "tin", "utr"),
)
_ABBREVIATED: Final = re.compile(
    rf"(?:(?<=[a-z0-9])|\b)((?:{'|'.join(f'{w}|{w.title()}' for w in _ABBREVIATIONS)}"
    rf"|(?:{'|'.join(w.upper() for w in _ABBREVIATIONS)})(?![A-Z]))2?)(?![a-z])"
)
"""Words that rules want for themselves: ``userPin``, ``cvvCode``, ``CVV2Number``."""
_ESCAPED: Final = re.compile(r"[^ -~]|[&%\\=]")
_TELLING_KEPT: Final = 32
"""Characters kept on each side of the telling word of a long key: keys can be as long as bodies."""

# In lines (RFC 2045 section 6.8), or in one run, perhaps of the URL-safe alphabet.
_BASE64: Final = re.compile(r"(?:[A-Za-z0-9+/]{60,76}\r?\n)+[A-Za-z0-9+/]{1,76}={0,2}|[A-Za-z0-9+/_-]{16,}={0,2}")
_BASE64_PART: Final = re.compile(r"[A-Za-z0-9]{16,}={0,2}")
_HEX: Final = re.compile("(?:0?[xX])?([0-9A-Fa-f]{16,})")
_PRINTED: Final = bytes([*b"\t\r\n", *range(0x20, 0x7F)])
_PRINTED_SHARE: Final = 0.75
"""Of bytes by chance 38 in a hundred are ASCII that can be printed."""
_BASE64_CHARS: Final = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/_-\r\n")
_BLANKS: Final = str.maketrans("\t\r\n", "   ")
_LINE_ENDS: Final = str.maketrans({"\r": None, "\n": None})
_URL_SAFE: Final = str.maketrans("-_", "+/")

_GROW: Final = 64
_NOWHERE: Final[Mapping[str, int]] = {}

_SHOWN: Final = "****"


_SHORT: Final = 64
"""Characters of a text that is looked at together with other short ones."""
_RETRY_MAX: Final = 64
"""After a candidate that is not one, look again from its second character; long runs are passed over at once."""
_MARGIN: Final = 2560
"""Characters on each side of a place with something hidden that are read as a reader does: more than any window."""


class Done(NamedTuple):
    """What was found before, where a text is the rest of a longer one, by rule's id.

    Each rule looks on from where its last value ended. (Else it might cut a row of digits otherwise.)
    ``plain``: the last values in the text as it is, in order. ``undone``: the end of the last one as a reader sees it.
    """

    plain: Mapping[str, Sequence[tuple[int, int]]]
    undone: Mapping[str, int]


NOTHING_DONE: Final = Done({}, {})


class Detector:
    """Finds what some rules name.

    Args:
        rules: the built-in ones, or others, or both.
        engine: of the gate; see `gate.Gate`.
    """

    def __init__(self, rules: Sequence[Rule] = RULES, engine: str = "") -> None:
        self.rules = tuple(rules)
        self.entities = tuple(sorted({rule.entity for rule in self.rules}))
        self.behind = max(1, *(rule.lookbehind for rule in self.rules)) if self.rules else 1
        """Characters before a value, or before what announces it, that have a say: anchors look back at one."""
        self.version = version_of(self.rules)
        """Names the rules as they are: part of every record."""
        self.gate = gate.built_in() if self.rules == RULES and not engine else gate.Gate(self.rules, engine)
        # What we put in a value's place ourselves: to find it again would mask masks. Only exactly that: anything
        # that a caller writes around it is looked at.
        entities = "|".join(self.entities)
        ours = (rf"\[(?:{entities})(?::[a-p]{{8}})?\]", tokens.form_of(self.entities))
        self._placeholder = re.compile(rf"(?:{'|'.join(ours)})[.,;:!?)\]}}]*")
        self._ours = tuple((mark, re.compile(one)) for mark, one in zip("[<", ours, strict=True))
        """Apart: an expression that begins with one certain character is looked for ten times as fast."""

    def scan(self, text: str, context: str = "") -> list[Span]:
        """Spans in ``text``, sorted, not overlapping; offsets are code points of the text as it is.

        Args:
            text: one channel's decoded text.
            context: the key that the text stands under: ``ssn`` above nine digits says what they are.

        Raises:
            TypeError: it is no text. Of bytes and of nothing nobody could say that nothing is in them.
        """
        if not isinstance(text, str):
            raise TypeError(f"a text is looked at, not {type(text).__name__}: decode it first")
        return merged(self.apart(text, context)) if text else []

    def scan_all(self, texts: Sequence[tuple[str, str]]) -> list[list[Span]]:
        """`scan` of many texts with their contexts. Short ones are looked at together: mostly there is nothing in any.

        Every anchor that occurs in one of them occurs in the whole; so of each, only those are looked for
        (``max_tokens`` is in most requests, and has the anchor of a password's name).
        """
        is_short = [len(text) <= _SHORT and not (context and self.headed(context)) for text, context in texts]
        together = "\n".join([text for (text, _), short in zip(texts, is_short, strict=True) if short])
        anchors = [self.gate.anchors[index] for index in self.gate.candidates(together)]
        return [
            [] if short and not any(anchor.search(text) for anchor in anchors) else self.scan(text, context)
            for (text, context), short in zip(texts, is_short, strict=True)
        ]

    def scan_parts(self, text: str, context: str, cuts: Sequence[int]) -> list[Span]:
        """Spans of the parts of ``text``, each looked at by itself; ``cuts`` are where they end."""
        begins = (0, *cuts[:-1])
        parts = [(text[begin:end], context) for begin, end in zip(begins, cuts, strict=True)]
        return [
            replace(span, start=span.start + begin, end=span.end + begin)
            for begin, spans in zip(begins, self.scan_all(parts), strict=True)
            for span in spans
        ]

    def apart(
        self,
        text: str,
        context: str = "",
    ) -> list[Span]:
        """Spans as each rule finds them: they may overlap.

        Args:
            text: as for `scan`.
            context: as for `scan`.
        """
        head = self.headed(context) if context else ""
        plain, beside = self._spans(head + text, None)
        spans = [*plain, *beside]
        if not head:
            return spans
        shift = len(head)
        return [Span(max(s.start - shift, 0), s.end - shift, s.entity, s.rule, s.score) for s in spans if s.end > shift]

    def rest(
        self, text: str, only: frozenset[int] | None = None, done: Done = NOTHING_DONE, since: int = 0
    ) -> tuple[list[Span], list[Span]]:
        """`apart` of the rest of a longer text: what is found in it as it is, and what only beside that.

        Args:
            text: what is kept of it.
            only: numbers of the rules (and of what the gate has beside them) that can have hit; None where any may.
            done: what was found before.
            since: nothing that begins before it is told: what stands before is there to be looked back at. (Else a
                value might begin where the text was cut, in a word.)
        """
        return self._spans(text, only, done, since)

    def headed(self, context: str) -> str:
        """What stands before a text that is scanned with its key; nothing where the key tells nothing."""
        if "[" in context or "<" in context:
            context = self._placeholder.sub(" ", context)  # ``[US_SSN]`` as a key was a value, not a name
        if _ESCAPED.search(context):
            context = normalised(context).text
        context = context.replace("_", " ").replace("-", " ")
        if not context.islower():
            context = _ABBREVIATED.sub(r" \1 ", context)
        telling = _TELLING.search(context)
        if telling is None:
            return ""
        kept = context[max(telling.start() - _TELLING_KEPT, 0) : telling.end() + _TELLING_KEPT]
        return f"{kept.strip(' ')}{KEY_MARK}: "

    def _spans(
        self, text: str, only: frozenset[int] | None, done: Done = NOTHING_DONE, since: int = 0
    ) -> tuple[list[Span], list[Span]]:
        places = self._places(text, only)
        if not places:
            return [], []
        ends = {rule: spans[-1][1] for rule, spans in done.plain.items()}
        plain = list(self._found(text, places, ends, since))
        beside: list[Span] = []
        hidden = places.get(self.gate.hidden)
        if hidden is not None:
            before = _values(done, plain)
            for low, high in _widened(hidden, len(text)):
                beside += self._undone(text, low, high, only, before, since)
        base64_runs = places.get(self.gate.base64)
        if base64_runs is not None:
            beside += self._in_base64(text, base64_runs)
        return plain, beside

    def _places(self, text: str, only: frozenset[int] | None) -> gate.Places:
        places = self.gate.places(text)
        if only is None or not places:
            return places
        return {index: places[index] for index in places if index in only or index == self.gate.hidden}

    def _undone(
        self, text: str, low: int, high: int, only: frozenset[int] | None, before: Done, since: int = 0
    ) -> Iterator[Span]:
        """What is found in a stretch of the text as a reader sees it.

        Where nothing is hidden, rows of digits are cut as in the text as it is (``before.plain``), wherever the stretch
        begins: that depends on how much of a stream's text is kept.
        """
        seen = normalised(text[low:high])
        if len(seen.begins) <= 1 and seen.text == text[low:high]:
            return
        ends = {rule: seen.index(end - low) for rule, end in before.undone.items() if end > low}
        changed = _Changed(seen, low, before.plain)
        first = seen.index(since - low) if since > low else 0
        for span in self._found(seen.text, self._places(seen.text, only), ends, first, changed):
            if span.end == len(seen.text) and high < len(text):
                yield from self._undone(text, low, len(text), only, before, since)  # it goes on beyond the stretch
                return
            start, end = seen.span(span.start, span.end)
            yield Span(low + start, low + end, span.entity, span.rule, span.score)

    def _found(
        self,
        text: str,
        places: gate.Places,
        done: Mapping[str, int] = _NOWHERE,
        since: int = 0,
        changed: _Changed | None = None,
    ) -> Iterator[Span]:
        """What the rules find around the places of their anchors; only near what is ``changed``, if that is told."""
        rules, anchors, single, count = self.rules, self.gate.anchors, self.gate.single, len(self.rules)
        # What we put in a value's place announces nothing, whatever it is called.
        ours = sorted(m.span() for mark, form in self._ours if mark in text for m in form.finditer(text))
        announcing = _blanked(text, ours) if ours else text
        for index in sorted(places):
            if index < count:
                rule = rules[index]
                # An open-ended value goes on beyond its window as well: not to be read again.
                at = max(done.get(rule.id, 0), since)
                anchor = anchors[index] if index in single else None
                stretches = _outside(ours, places[index]) if ours and anchor is None else places[index]
                windows = gate.windows(rule, anchor, announcing, stretches)
                # What is not near is the same as in the text as it is.
                for low, high in windows if changed is None else changed.near(rule, windows):
                    for span in self._confirmed(rule, anchors[index], text, announcing, max(low, at), high):
                        yield span
                        at = span.end

    def _confirmed(
        self, rule: Rule, anchor: re.Pattern[str], text: str, announcing: str, low: int, high: int
    ) -> Iterator[Span]:
        at, end_max = low, high
        cut, whole = rule.lookahead or 1, len(text)
        while at <= high:
            match = rule.pattern.search(text, at, end_max)
            if match is None or match.start() > high:
                return
            if match.end() > end_max - cut and end_max < whole:
                # Cut off by the window: an open-ended value goes on. Twice as far each time, so that it stays linear.
                end_max = min(end_max + max(_GROW, end_max - match.start()), whole)
                continue
            end_max = high
            start, end = match.span(1 if rule.pattern.groups else 0)
            belongs = _belonging(rule, text, match.start(), start, end)
            if belongs and rule.before and not _is_announced(rule, anchor, announcing, *match.span()):
                belongs = 0
            if belongs and not self._is_ours(text, start, start + belongs):
                yield Span(start, start + belongs, rule.entity, rule.id, rule.score)
                at = max(start + belongs, at + 1)
            else:
                at = match.start() + 1 if match.end() - match.start() < _RETRY_MAX else match.end()

    def _is_ours(self, text: str, start: int, end: int) -> bool:
        """Is it a placeholder, or the part of a value that the action ``partial`` shows?"""
        if end - start <= len(_SHOWN):
            return text[max(start - len(_SHOWN), 0) : start] == _SHOWN
        return text[start] in "[<" and self._placeholder.fullmatch(text, start, end) is not None

    def _in_base64(self, text: str, stretches: Sequence[tuple[int, int]]) -> Iterator[Span]:
        for match in _runs(text, stretches):
            best = self._said_in_base64(match.group())
            if best is not None:
                yield Span(match.start(), match.end(), best.entity, best.rule, best.score)
                continue
            for part in _BASE64_PART.finditer(match.group()):  # glued to a path or a name
                best = self._said_in_base64(part.group()) if len(part.group()) < len(match.group()) else None
                if best is not None:
                    start, end = match.start() + part.start(), match.start() + part.end()
                    yield Span(start, end, best.entity, best.rule, best.score)

    def _said_in_base64(self, run: str) -> Span | None:
        plain = run.translate(_LINE_ENDS)
        digits = _HEX.fullmatch(plain)
        if digits and len(digits[1]) % 2 == 0:
            said = _text_of(bytes.fromhex(digits[1]))
            if said is not None and said.translate(_BLANKS).isprintable():
                return self._gravest(said)
        plain = plain.rstrip("=").translate(_URL_SAFE)
        if len(plain) % 4 == 1:
            plain = plain[:-1]  # a character too many is of the text around
        try:
            said = _text_of(base64.b64decode(plain + "=" * (-len(plain) % 4)))
        except binascii.Error:
            return None
        return None if said is None else self._gravest(said)

    def _gravest(self, said: str) -> Span | None:
        spans = [span for span in self._found(said, self.gate.places(said)) if span.entity not in YIELDING]
        return max(spans, key=_rank, default=None)


def _text_of(raw: bytes) -> str | None:
    """What bytes say in UTF-8; in UTF-16 or Latin-1, or with a byte that is neither, if most of them can be printed."""
    if 0 in raw:
        raw = raw.replace(b"\0", b"")
    try:
        return raw.decode()
    except UnicodeDecodeError:
        printed = len(raw) - len(raw.translate(None, _PRINTED))
        return raw.decode("latin-1") if printed >= len(raw) * _PRINTED_SHARE else None


def _outside(ours: Sequence[tuple[int, int]], places: Iterable[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """Places that are not in a placeholder."""
    for begin, finish in places:
        index = bisect_right(ours, (begin, finish))
        if not any(start <= begin and finish <= end for start, end in ours[max(index - 1, 0) : index + 1]):
            yield begin, finish


def _blanked(text: str, ours: Sequence[tuple[int, int]]) -> str:
    """With dots for what placeholders say: every other character stays in its place."""
    said: list[str] = []
    at = 0
    for start, end in ours:
        said += text[at : start + 1], "." * (end - start - 2)
        at = end - 1
    return "".join([*said, text[at:]])


def _belonging(rule: Rule, text: str, match_start: int, start: int, end: int) -> int:
    """How many characters of the candidate belong. Of an open-ended one, its beginning decides."""
    if not rule.open_ended:
        return rule.validator(text[start:end])
    decided = min(end, match_start + rule.max_length)
    return end - start if rule.validator(text[start:decided]) else 0


def _is_announced(rule: Rule, anchor: re.Pattern[str], text: str, start: int, end: int) -> bool:
    """Does an anchor stand before a match, in it, or in what it looks ahead to? What comes later has no say.

    So a stream need not hold back a value until it knows what is written after it.
    """
    low = max(start - min(rule.after, ANNOUNCED_MAX) - ANCHOR_MAX, 0)
    return anchor.search(text, low, min(end + rule.lookahead, len(text))) is not None


class _Changed:
    """Where a text as a reader sees it is not the text as it is.

    Args:
        seen: the stretch, as a reader sees it.
        low: where the stretch begins in the text as it is.
        plain: what each rule finds in that.
    """

    def __init__(self, seen: Normalised, low: int, plain: Mapping[str, Sequence[tuple[int, int]]]) -> None:
        self._seen = seen
        self._low = low
        self._plain = plain
        self._places = [begin for begin, is_same in zip(seen.begins, seen.is_same, strict=True) if not is_same]

    def near(self, rule: Rule, windows: Iterable[tuple[int, int]]) -> Iterator[tuple[int, int]]:
        """Of a rule's windows, what a changed character has a say in."""
        ahead = max(rule.max_length + rule.lookahead, rule.before) + ANCHOR_MAX
        behind = rule.lookbehind + ANCHOR_MAX + rule.after + rule.max_length + rule.lookahead
        places = self._places
        for low, high in windows:
            at = bisect_left(places, low - (rule.lookbehind + ANCHOR_MAX if rule.open_ended else behind))
            if rule.open_ended:  # there is no telling how far before it may begin
                if at < len(places):
                    yield low, high
                continue
            while at < len(places) and places[at] - ahead <= high:
                begin, end = places[at] - ahead, places[at] + behind
                while end < high and at + 1 < len(places) and places[at + 1] - ahead <= end:
                    at += 1
                    end = places[at] + behind
                yield max(low, self._going_on(rule, begin)), min(high, end)
                if end >= high:
                    break
                at += 1

    def _going_on(self, rule: Rule, place: int) -> int:
        """Where a rule looks on that came to ``place`` in the text as it is: after the value that goes on there.

        What announces the next one may stand before that place: then from where it looked for it.
        """
        raw = self._low + (self._seen.span(place, place + 1)[0] if place > 0 else place)
        values = self._plain.get(rule.id, ())
        index = bisect_left(values, (raw, 0))
        since = values[index - 1][1] - raw if index else -rule.max_length
        if since <= 0 and index < len(values) and values[index][0] - raw < rule.max_length:
            return place + max(since, -rule.max_length)
        return place + max(since, 0)


def _values(done: Done, plain: Iterable[Span]) -> Done:
    """With what was found in the text as it is."""
    values = {rule: list(spans) for rule, spans in done.plain.items()}
    for span in plain:
        values.setdefault(span.rule, []).append((span.start, span.end))
    return Done(values, done.undone)


def _widened(stretches: Sequence[tuple[int, int]], whole: int) -> Iterator[tuple[int, int]]:
    low = high = -1
    for begin, finish in stretches:
        start, end = max(begin - _MARGIN, 0), min(finish + _MARGIN, whole)
        if start > high >= 0:
            yield low, high
            low = start
        elif high < 0:
            low = start
        high = max(high, end)
    yield low, high


def _runs(text: str, stretches: Sequence[tuple[int, int]]) -> Iterator[re.Match[str]]:
    """Runs that may be base64: each is read once, from its beginning to its end, wherever the stretch ends."""
    done = 0
    for low, high in stretches:
        at = max(low, done)
        while at and text[at - 1] in _BASE64_CHARS and at > done:
            at -= 1
        for match in _BASE64.finditer(text, at):
            if match.start() >= high:
                break
            done = match.end()
            yield match


def merged(spans: Iterable[Span]) -> list[Span]:
    """Sorted, not overlapping: what touches the same characters becomes one, named after the gravest.

    Spans of entities that yield go where any other span touches them.
    """
    spans = list(spans)
    if len(spans) < 2:
        return spans
    yielding = [span for span in spans if span.entity in YIELDING]
    if not yielding:
        return _joined(spans)
    kept = _joined([span for span in spans if span.entity not in YIELDING])
    starts = [span.start for span in kept]
    left = []
    for one in _joined(yielding):
        before = bisect_left(starts, one.end) - 1  # the last that begins before this one ends
        if before < 0 or kept[before].end <= one.start:
            left.append(one)
    return sorted([*kept, *left], key=lambda s: s.start)


def _joined(spans: list[Span]) -> list[Span]:
    joined: list[Span] = []
    for span in sorted(spans, key=lambda s: (s.start, -s.end)):
        if joined and span.start < joined[-1].end:
            best = max(joined[-1], span, key=_rank)
            last = joined[-1]
            joined[-1] = Span(last.start, max(last.end, span.end), best.entity, best.rule, best.score)
        else:
            joined.append(span)
    return joined


def _rank(span: Span) -> tuple[bool, int, float, int]:
    """A secret first; of several, the one that begins first: what a stream has said of it stays true."""
    secret = is_secret(span.entity)
    return (secret, -span.start if secret else 0, span.score, span.end - span.start)


BUILT_IN: Final = Detector()
"""The detector of the built-in rules."""


def scan(text: str, context: str = "") -> list[Span]:
    """`Detector.scan` with the built-in rules."""
    return BUILT_IN.scan(text, context)


def scan_all(texts: Sequence[tuple[str, str]]) -> list[list[Span]]:
    """`Detector.scan_all` with the built-in rules."""
    return BUILT_IN.scan_all(texts)


def apart(text: str, context: str = "") -> list[Span]:
    """`Detector.apart` with the built-in rules."""
    return BUILT_IN.apart(text, context)


def headed(context: str) -> str:
    """`Detector.headed` with the built-in rules."""
    return BUILT_IN.headed(context)
