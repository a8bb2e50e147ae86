"""What is done about a span: the decision's rules, by entity; no rule for an entity means mask (law L5)."""

from __future__ import annotations

import hashlib
import hmac
from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import accumulate
from operator import attrgetter
from typing import TYPE_CHECKING, Final

from ext_proc.model import Action, Edit, Removal, Span
from ext_proc.redaction.detect import BUILT_IN, merged
from ext_proc.redaction.rules import YIELDING, is_secret
from ext_proc.redaction.tokens import written

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from ext_proc.model import RedactionRule
    from ext_proc.redaction.detect import Detector

ANY: Final = "*"
PARTIAL_SHOWN: Final = 4
PARTIAL_MIN: Final = 8
"""Shorter values are masked whole: four of seven characters would be most of it."""


Minted = Mapping[tuple[str, str], str]
"""Names of tokens by entity and value."""
NONE_MINTED: Final[Minted] = {}

LOOKS: Final = 4
"""At a text and at what is left of it. More than two are needed for made-up texts only."""
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
        detector: finds what is left.
    """

    def __init__(self, hash_key: bytes, detector: Detector = BUILT_IN) -> None:
        self._hash_key = hash_key
        self.detector = detector

    def edits(
        self,
        path: str,
        text: str,
        spans: Sequence[Span],
        rules: Sequence[RedactionRule],
        context: str = "",
        minted: Minted = NONE_MINTED,
        cuts: Sequence[int] = (),
    ) -> Edits:
        """What to do about ``spans`` of ``text``, the channel at ``path`` whose key is ``context``.

        A rule that tokenises takes the value's token from ``minted``; a value that has none is masked. ``cuts`` are
        where parts end that could also be read apart: what is left of each is looked at by itself as well.

        What is left afterwards is looked at again, as a text of its own: taking a value out can join what stood on
        both sides of it. At the last look, everything from the first value on goes. (`stream` does the same as the
        text comes; hence no look may depend on what a later one finds.)
        """
        pieces = [Piece(text, 0, len(text))]
        removals: list[Removal] = []
        blocked: list[str] = []
        seen, found = text, acted_on(self.detector, text, context, spans, rules)
        for look in range(1, LOOKS + 1):
            if not found:
                break
            if look == LOOKS:
                found = [replace(found[0], end=len(seen))]
            begins = [0, *accumulate(len(piece.said) for piece in pieces)][:-1]
            taken, gone = [], []
            for span in found:
                action = done_at(look, span.entity, rules)
                value = seen[span.start : span.end]
                token = minted.get((span.entity, value)) if action is Action.TOKENISE else None
                said = written(token) if token else self.replacement(action, span.entity, value)
                start, end = placed(pieces, begins, span.start, span.end)
                taken.append((span, Piece(said, start, end, is_same=False)))
                gone.append(self.removal(path, start, end, span, action, is_token=token is not None))
                blocked += [span.entity] if action is Action.BLOCK else []
            removals = sorted([*not_within(removals, gone), *gone], key=attrgetter("start", "end"))
            pieces = _cut(pieces, [(span.start, span.end, put) for span, put in taken])
            seen = "".join([piece.said for piece in pieces])
            spans = self.detector.scan(seen, context)
            if cuts:
                spans = merged([*spans, *self.detector.scan_parts(seen, context, _moved(pieces, cuts))])
            found = acted_on(self.detector, seen, context, spans, rules)
        return Edits(tuple(_edits(pieces)), tuple(removals), tuple(blocked))

    def redacted(self, text: str, rules: Sequence[RedactionRule] = (), context: str = "") -> str:
        """What goes on of ``text``."""
        made = self.edits("", text, self.detector.scan(text, context), rules, context).edits
        ends = [0, *(edit.end for edit in made)]
        kept = [text[end : edit.start] + edit.replacement for end, edit in zip(ends, made, strict=False)]
        return "".join(kept) + text[ends[-1] :]

    def removal(
        self, path: str, start: int, end: int, span: Span, action: Action, *, is_token: bool = False
    ) -> Removal:
        """What is said about a span that was taken out from ``start`` to ``end`` of the channel's own text."""
        if action is Action.TOKENISE and not is_token:
            action = Action.MASK  # there was no token for it
        return Removal(path, start, end, span.entity, span.rule, self.detector.version, action)

    def tokenised(
        self, text: str, spans: Sequence[Span], rules: Sequence[RedactionRule], context: str = ""
    ) -> Iterator[tuple[str, str]]:
        """Entities and values of ``text`` that the rules want tokens for."""
        for span in acted_on(self.detector, text, context, spans, rules):
            if action_for(span.entity, rules) is Action.TOKENISE:
                yield span.entity, text[span.start : span.end]

    def replacement(self, action: Action, entity: str, value: str) -> str:
        """What stands in the place of ``value``."""
        match action:
            case Action.DROP:
                return ""
            case Action.HASH:
                digest = hmac.new(self._hash_key, f"{entity}\0{value}".encode(errors="replace"), hashlib.sha256)
                return pseudonym(entity, digest.hexdigest())
            case Action.PARTIAL if len(value) >= PARTIAL_MIN:
                return "****" + value[-PARTIAL_SHOWN:]
            case _:
                return f"[{entity}]"


def pseudonym(entity: str, digest: str) -> str:
    """What stands for a value of this keyed hash. Letters only: eight digits could be taken for a value again."""
    return f"[{entity}:{digest[:8].translate(_LETTERS)}]"


def action_for(entity: str, rules: Sequence[RedactionRule]) -> Action:
    """The action of the rule that names the entity, else of ``*``, else mask; a secret is never shown in any form.

    What yields (a link) is let through where no rule names it.
    """
    named = next((rule.action for rule in rules if rule.entity == entity), None)
    if entity in YIELDING:
        return named or Action.ALLOW
    action = named or next((rule.action for rule in rules if rule.entity == ANY), Action.MASK)
    if is_secret(entity) and action not in (Action.BLOCK, Action.DROP):
        return Action.MASK
    return action


def done_at(look: int, entity: str, rules: Sequence[RedactionRule]) -> Action:
    """`action_for` at a look: what goes at the last one is all the rest, and nothing of that is shown in any form."""
    action = action_for(entity, rules)
    return Action.MASK if look == LOOKS and action in (Action.HASH, Action.PARTIAL, Action.TOKENISE) else action


def acted_on(
    detector: Detector, text: str, context: str, spans: Sequence[Span], rules: Sequence[RedactionRule]
) -> Sequence[Span]:
    """Spans less those that are allowed; yet what another rule found under an allowed one stays."""
    allowed = [span for span in spans if action_for(span.entity, rules) is Action.ALLOW]
    if not allowed:
        return spans
    if all(span.entity in YIELDING for span in allowed):  # nothing else is under them
        return [span for span in spans if span not in allowed]
    kept = [span for span in spans if span not in allowed]
    under = [
        span
        for span in detector.apart(text, context)
        if action_for(span.entity, rules) is not Action.ALLOW
        and not any(one.start < span.end and span.start < one.end for one in kept)
    ]
    return merged([*kept, *under])


def with_more(text: str, edits: Sequence[Edit], more: Sequence[Edit]) -> tuple[Edit, ...]:
    """Edits of ``text``, and then ``more`` in what they make of it: all as edits of ``text``."""
    pieces: list[Piece] = []
    at = 0
    for edit in edits:
        pieces += (
            Piece(text[at : edit.start], at, edit.start),
            Piece(edit.replacement, edit.start, edit.end, is_same=False),
        )
        at = edit.end
    pieces = [piece for piece in (*pieces, Piece(text[at:], at, len(text))) if piece.said or not piece.is_same]
    begins = [0, *accumulate(len(piece.said) for piece in pieces)][:-1]
    puts = [Piece(one.replacement, *placed(pieces, begins, one.start, one.end), is_same=False) for one in more]
    return tuple(_edits(_cut(pieces, [(one.start, one.end, put) for one, put in zip(more, puts, strict=True)])))


@dataclass(slots=True)
class Piece:
    """A part of a text after a look, and from where to where it stood in the text before all looks."""

    said: str
    start: int
    end: int
    is_same: bool = True


def placed(pieces: Sequence[Piece], begins: Sequence[int], start: int, end: int) -> tuple[int, int]:
    """Where the characters from ``start`` to ``end`` of the pieces came from: what was put in counts as a whole."""
    first, last = bisect_right(begins, start) - 1, bisect_right(begins, end - 1) - 1
    one, other = pieces[first], pieces[last]
    low = one.start + start - begins[first] if one.is_same else one.start
    high = other.start + end - begins[last] if other.is_same else other.end
    return low, high


def _moved(pieces: Sequence[Piece], cuts: Sequence[int]) -> list[int]:
    """Where cuts of the text before all looks are now; what was put in over one belongs to what comes before it."""
    return [
        sum(
            min(piece.end, cut) - piece.start if piece.is_same else len(piece.said)
            for piece in pieces
            if piece.start < cut
        )
        for cut in cuts
    ]


def _cut(pieces: Sequence[Piece], taken: Sequence[tuple[int, int, Piece]]) -> list[Piece]:
    """The pieces with others in the place of some of their characters."""
    made: list[Piece] = []
    left = iter([*taken, None])
    now = next(left)
    at = 0
    for piece in pieces:
        begin, after = at, at + len(piece.said)
        while now is not None and now[0] < after:
            start, end, put = now
            if start > begin:
                made.append(_part(piece, begin - at, start - at))
            if start >= at:
                made.append(put)
            if end > after:
                begin = after
                break
            begin, now = end, next(left)
        if begin < after or not piece.said:
            made.append(_part(piece, begin - at, after - at))
        at = after
    return made


def _part(piece: Piece, low: int, high: int) -> Piece:
    said = piece.said[low:high]
    if piece.is_same:
        return Piece(said, piece.start + low, piece.start + high)
    return Piece(said, piece.start, piece.end, is_same=False)


def _edits(pieces: Iterable[Piece]) -> Iterator[Edit]:
    """What was put in, side by side as one."""
    open_: Edit | None = None
    for piece in pieces:
        if piece.is_same:
            if piece.said and open_ is not None:
                yield open_
                open_ = None
        elif open_ is None:
            open_ = Edit(piece.start, piece.end, piece.said)
        else:
            open_ = Edit(open_.start, max(open_.end, piece.end), open_.replacement + piece.said)
    if open_ is not None:
        yield open_


def not_within(removals: Sequence[Removal], later: Sequence[Removal]) -> list[Removal]:
    """Those that did not go once more, as part of what a later look found. Both are in the order of the text."""
    starts = [one.start for one in later]
    kept = []
    for one in removals:
        index = bisect_right(starts, one.start) - 1
        if index < 0 or later[index].end < one.end:
            kept.append(one)
    return kept
