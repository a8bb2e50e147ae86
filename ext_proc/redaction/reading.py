"""How far the text of a stream is settled: as it stands, and as a reader sees it.

Two readings of one text, each followed by an automaton (`liveness`). The second one, with escapes and invisible
characters undone (`normalise`), begins where something may have to be undone, and ends where it agrees with the first
again: most texts never need it. Places are always those of the text as it stands.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from functools import cache
from typing import TYPE_CHECKING, Final

from ext_proc.redaction.detect import _BASE64
from ext_proc.redaction.liveness import Automaton, Cursor
from ext_proc.redaction.normalise import _ESCAPE, normalised

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ext_proc.redaction.detect import Detector

_LETTERS: Final = "abcdefghijklmnop"
# Where something to be undone may begin: the gate's own expression reads on, where a stream may end.
OPENS: Final = re.compile(r"[&%\\]|=(?=[42]|\Z)|[^\t\n\r\x1f-\x7e]")


@cache
def rules_automaton(detector: Detector) -> Automaton:
    """All rules of a detector, and beside them runs that may be base64: shared by all streams."""
    masks = [["[", *entity, "]"] for entity in detector.entities]
    pseudonyms = [["[", *entity, ":", *[_LETTERS] * 8, "]"] for entity in detector.entities]
    patterns = [rule.pattern for rule in detector.rules]
    return Automaton([*enumerate(patterns), (detector.gate.base64, _BASE64)], [*masks, *pseudonyms])


@cache
def escapes_automaton() -> Automaton:
    """What may be an escape that is not all there yet."""
    return Automaton([(0, re.compile(_ESCAPE.pattern.rpartition("|")[0], _ESCAPE.flags))])


class _Undone:
    """The reading in which everything is undone. ``places[i]`` is where its character ``first + i`` came from."""

    __slots__ = ("_born", "_escapes", "_first", "_lexed", "_pending", "_places", "cursor")

    def __init__(self, plain: Cursor) -> None:
        self.cursor = plain.copy()
        self._born = self._first = plain.at
        self._places: list[int] = []
        self._lexed = plain.at
        self._pending = ""
        self._escapes = Cursor(escapes_automaton(), plain.at)

    def feed(self, text: str) -> None:
        if not self._pending and not self._escapes.starts and OPENS.search(text) is None:
            self._places += range(self._lexed, self._lexed + len(text))
            self.cursor.feed(text)
            self._lexed += len(text)
            self._escapes = Cursor(escapes_automaton(), self._lexed)  # they look back at their own marks only
            return
        self._pending += text
        self._escapes.feed(text)
        self.lex(self._escapes.crossed())

    def lex(self, to: int) -> None:
        """Read on to ``to``: no escape goes over it."""
        count = to - self._lexed
        if count <= 0:
            return
        seen = normalised(self._pending[:count])
        for index, begin in enumerate(seen.begins):
            end = seen.begins[index + 1] if index + 1 < len(seen.begins) else len(seen.text)
            place = self._lexed + seen.raw[index][0]
            step = 1 if seen.is_same[index] else 0
            self._places += [place + step * i for i in range(end - begin)]
        self.cursor.feed(seen.text)
        self._pending = self._pending[count:]
        self._lexed = to

    def place(self, index: int) -> int:
        """Where the character ``index`` of this reading came from."""
        if index < self._first:
            return index
        index -= self._first
        return self._places[index] if index < len(self._places) else self._lexed

    def knows(self, index: int) -> bool:
        """Was it not forgotten where it came from?"""
        return index < self._born or index >= self._first

    def index(self, place: int) -> int:
        """The first character of this reading that came from ``place`` or after it."""
        return place if place < self._first else self._first + bisect_left(self._places, place)

    def agrees(self, plain: Cursor) -> bool:
        """Is nothing left that the two readings differ in?"""
        cursor = self.cursor
        starts = zip(cursor.starts, plain.starts, strict=False)
        return (
            self._lexed == plain.at
            and cursor.state.is_as(plain.state)
            # as far back in both: how long a match may be is counted in characters of the reading
            and all(self.place(mine) == its and cursor.at - mine == plain.at - its for mine, its in starts)
        )

    def copy(self) -> _Undone:
        """Another one at the same place."""
        other = _Undone(self.cursor)
        other._born, other._first = self._born, self._first
        other._lexed, other._pending = self._lexed, self._pending
        other._places = list(self._places)
        other._escapes = self._escapes.copy()
        return other

    def forget(self, to: int) -> None:
        """Nothing before ``to`` is asked for any more."""
        count = min(self.index(to), self.cursor.crossed()) - self._first
        if count > _FORGET:
            del self._places[:count]
            self._first += count  # indexes before it are never asked for


_FORGET: Final = 512


class Reading:
    """Both readings of the text that came so far.

    Args:
        detector: whose rules may hit.
        at: the place of the first character.
    """

    __slots__ = ("_undone", "plain")

    def __init__(self, detector: Detector, at: int) -> None:
        self.plain = Cursor(rules_automaton(detector), at)
        self._undone: _Undone | None = None

    @property
    def is_plain(self) -> bool:
        """Is there one reading only?"""
        return self._undone is None

    def feed(self, text: str) -> None:
        """Read on."""
        if self._undone is None:
            hidden = OPENS.search(text)
            if hidden is None:
                self.plain.feed(text)
                return
            self.plain.feed(text[: hidden.start()])
            text = text[hidden.start() :]
            self._undone = _Undone(self.plain)
        undone = self._undone
        self.plain.feed(text)
        undone.feed(text)
        if undone.agrees(self.plain):
            last, begun = max(self._last_hits(), key=lambda hit: (hit[0], -hit[1]))
            self.plain.hit_first, unseen = self.hits()
            self.plain.hit_last, self.plain.hit_from = max(last, unseen), begun  # what was not looked at stays so
            self.plain.hit_rules |= undone.cursor.hit_rules
            self.plain.resist([(undone.place(at), undone.place(start)) for at, start in undone.cursor.resisting])
            self._undone = None

    def copy(self) -> Reading:
        """Another one at the same place."""
        other: Reading = Reading.__new__(Reading)
        other.plain = self.plain.copy()
        other._undone = None if self._undone is None else self._undone.copy()
        return other

    def clamp(self) -> None:
        """At a place that is the same for every chunking: take how long a match may be into account."""
        self.plain.clamp()
        if self._undone is not None:
            self._undone.cursor.clamp()

    def forget(self, to: int) -> None:
        """Nothing before ``to`` is asked for any more."""
        if self._undone is not None:
            self._undone.forget(to)

    def settled(self) -> int:
        """No rule can hit from before here any more, but for what has ended already."""
        if self._undone is None:
            return self.plain.settled()
        return min(self.plain.settled(), self._undone.place(self._undone.cursor.settled()))

    def crossed(self) -> int:
        """Nothing that is alive began before here."""
        if self._undone is None:
            return self.plain.crossed()
        return min(self.plain.crossed(), self._undone.place(self._undone.cursor.crossed()))

    def apart(self, settled: int) -> int:
        """Nothing that began before here goes through a placeholder that comes to stand here or later."""
        if self._undone is None and not self.plain.resisting:
            return settled
        floor = settled
        resisting: Sequence[tuple[int, int]] = self.plain.resisting
        if self._undone is not None:
            place = self._undone.place
            resisting = [*resisting, *((place(at), place(start)) for at, start in self._undone.cursor.resisting)]
        while resisting:
            lower = min((start for at, start in resisting if at >= floor), default=floor)
            if lower >= floor:
                break
            floor = lower
        return floor

    def hits(self) -> tuple[int | None, int]:
        """The oldest start of what may be a value and was not looked at yet, and where the last one may end."""
        first, last = self.plain.hit_first, self.plain.hit_last
        if self._undone is not None and self._undone.cursor.hit_first is not None:
            other = self._undone.place(self._undone.cursor.hit_first)
            first = other if first is None else min(first, other)
            last = max(last, self._undone.place(self._undone.cursor.hit_last))
        return first, last

    def ended(self, until: int) -> int:
        """Where the last that may be a value ends, if it began before ``until``; else 0."""
        return min(max((last for last, start in self._last_hits() if start < until), default=0), self.plain.at)

    def _last_hits(self) -> list[tuple[int, int]]:
        """Of each reading, where the last that may be a value ends, and where the oldest that may end there begins."""
        found = [(self.plain.hit_last, self.plain.hit_from)]
        if self._undone is not None and self._undone.knows(self._undone.cursor.hit_from):
            cursor, place = self._undone.cursor, self._undone.place
            found.append((place(cursor.hit_last), place(cursor.hit_from)))
        return found

    def hit_rules(self) -> frozenset[int] | None:
        """Rules that such values may be found by; None where any may."""
        return self.plain.hit_rules if self._undone is None else None

    def looked_at(self, to: int) -> None:
        """What lies before ``to`` has been looked at and let go."""
        self.plain.looked_at(to)
        if self._undone is not None:
            self._undone.cursor.looked_at(self._undone.index(to))
            self._undone.forget(to)
