"""One look at a text that comes in parts: what `redact` does with one look at a whole text, as far as it is settled.

A place is let go when no rule that begins before it can hit any more. Where the automaton says that none has hit
either, it is let go as it is; else the text around is scanned, with the same `scan` as a whole text. A place is a
count of characters of the text that the look reads; what the look is given before it begins has places below zero.

How a text is cut changes when something is let go, never what. What is decided for the length of what is held is
decided at places that are the same for every chunking: where `_GRID` divides the place, and where the limit is passed.
What is let go is scanned again and again, for what stands around it; not more than `_TIMES` times, else it waits.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, NamedTuple

from ext_proc.model import Span
from ext_proc.redaction.detect import NOTHING_DONE, Done
from ext_proc.redaction.looker import UNLIKE_WORDS, is_told_by_head, outranks
from ext_proc.redaction.normalise import normalised
from ext_proc.redaction.reading import OPENS, Reading
from ext_proc.redaction.rule import ANCHOR_MAX, ANNOUNCED_MAX, KEY_MARK, YIELDING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ext_proc.redaction.looker import Looker

WITHHELD: Final = "WITHHELD"
"""The entity of what was held back too long to know what it is."""
HELD_TOO_LONG: Final = "held-too-long"

REACH: Final = ANNOUNCED_MAX + ANCHOR_MAX
"""Characters before a value that have a say in what it is: words that announce it, and what they stand behind."""
_WINDOW_MAX: Final = 8192
"""A text that no place cuts for so long is cut all the same: numbers in columns, for one."""
_CAREFUL_MAX: Final = 64
"""Settled characters that are held for the next look's sake; if there are more, it is there and holds them itself."""
SHORT: Final = 16
"""A token, or a few."""
_LAST: Final = 4 * REACH
"""Characters that are kept of what is masked for its length: a value may begin in them and go on."""
_JUDGED: Final = _LAST - REACH
"""A value that begins in the last so many of them is found: what announces it is there as well."""
_KEPT_MAX: Final = 32 * 1024
"""Characters of a value that goes on that are kept: others may begin in it, and go on after its end."""
_READ_AGAIN: Final = 32
_QUICK: Final = 48
_GRID: Final = 64
"""At multiples of this, a value without an end may be told before it ends."""
_TIMES: Final = 5
"""Characters that may be scanned for one that comes, ..."""
_SAVED_MAX: Final = 16 * REACH
"""... and how many more if few were scanned before."""


@dataclass(slots=True, eq=False)
class Out:
    """A part of the text that is let go: as it is, or a span of it that is replaced.

    ``end`` of a span that ``is_open`` is only known when `Look` says so (`Look.ended`).
    """

    said: str
    start: int
    end: int
    span: Span | None = None
    is_open: bool = False


class _Swallow(NamedTuple):
    """A value that was told and goes on: what comes is taken until nothing that began before ``until`` is alive.

    ``alive_to``: where something that began before was last alive. It ends at ``end`` or later.
    """

    out: Out
    until: int
    is_known: bool
    alive_to: int = 0
    end: int = 0


class Look:
    """See the module.

    Args:
        looker: how to look.
        left: what stands before the text: read, never let go.
        limit: characters held at most; what is held longer is masked.
        replaced: makes what stands in a span's place.
        is_careful: let nothing go that a placeholder after it could become part of a value with. Not needed where
            another look follows.
        origin: how many characters of its text had gone on when the look began.
        since: of ``left``, the characters that are there only to be looked back at: it was cut.
    """

    __slots__ = (
        "_done", "_found_to", "_grace_to", "_known", "_limit", "_looker", "_may_scan", "_origin",
        "_quick", "_reading", "_replaced", "_since", "_swallow", "_text", "_undone",
        "at", "base", "changed", "ended", "has_scanned", "is_careful", "let_go",
    )  # fmt: skip

    def __init__(
        self,
        looker: Looker,
        left: str,
        limit: int,
        replaced: Callable[[Span, str], str],
        *,
        is_careful: bool,
        origin: int = 0,
        since: int = 0,
    ) -> None:
        self._looker = looker
        self._limit = limit
        self._quick = min(_QUICK, limit - _QUICK)
        self._replaced = replaced
        self.is_careful = is_careful
        self._text = left
        self.base = -len(left)
        self._since = self.base + since  # nothing is told that begins before it
        self.at = 0
        self.let_go = 0
        # What went on holds no beginning of a value: not much of it has to be read again. The key's name does.
        read = left if KEY_MARK in left else left[-_READ_AGAIN:]
        self._reading = Reading(looker.detector, -len(read))
        self._reading.feed(read)
        self._swallow: _Swallow | None = None
        self._known: tuple[int, Reading] | None = None  # how the reading was at a place, while something is masked
        self._grace_to = 0
        self._found_to = self.base  # where the last value ended that is known to be one
        self._done: dict[str, list[tuple[int, int]]] = {}  # by rule, its last values that were let go
        self._undone: dict[str, int] = {}  # and where the last one as a reader sees it ended
        self._origin = origin
        self._may_scan = _SAVED_MAX
        self.has_scanned = False
        """Was what was let go in the last step scanned? Else there is nothing in it that looks like a value."""
        self.changed: int | None = None
        """The end of the last value that it replaced: what it reads and what went on are not the same there."""
        self.ended: Out | None = None
        """The open value whose end became known in the last step."""

    @property
    def held(self) -> int:
        """Characters that are held back."""
        return 0 if self._swallow is not None else self.at - self.let_go

    @property
    def rest(self) -> str:
        """The text that is held back."""
        return self._text[self.let_go - self.base :]

    @property
    def is_idle(self) -> bool:
        """Is nothing held and nothing swallowed?"""
        return self._swallow is None and self.at == self.let_go

    def take(self, text: str) -> str | None:
        """`feed` of a short text, where all that is let go stays as it is: what that is.

        None where that is not so: then `text` was taken in, and `step` says the rest.
        """
        self._text += text
        left = -(self.at + self._origin) % _GRID
        self.at += len(text)
        self._may_scan += _TIMES * len(text)
        reading = self._reading
        if 0 < left <= len(text):
            reading.feed(text[:left])
            reading.clamp()
            text = text[left:]
        reading.feed(text)
        settled = reading.settled()
        to = reading.apart(settled) if self.is_careful else settled
        let_go = self.let_go
        if settled - let_go > _CAREFUL_MAX:
            return None
        if to <= let_go:
            return ""
        first, _ = reading.hits()
        if first is not None and first < to and not self._is_words():
            return None
        said = self._text[let_go - self.base : to - self.base]
        self._let_go(to)
        self._forget()
        return said

    def may_hold(self, text: str, rest: str) -> bool:
        """Would something of ``text`` be held back when ``rest`` has come as well? Takes both in.

        Of the rest, the look before may yet mask something, where this one would read on.
        """
        reading = self._reading
        reading.feed(text + rest)
        return reading.apart(min(reading.settled(), len(text))) < len(text)

    @property
    def is_quick(self) -> bool:
        """May a short text be given to `take`?"""
        return self._swallow is None and self.at - self.let_go < self._quick

    def feed(self, text: str) -> Iterator[list[Out]]:
        """Read on, let go what is settled, step by step."""
        while text:
            room = self._room()
            part, text = text[:room], text[room:]
            self._text += part
            self._may_scan = min(self._may_scan, _SAVED_MAX) + _TIMES * len(part)
            self._read(part)
            yield self.step()

    def _room(self) -> int:
        """How much may be read at once, so that nothing is decided at another place than in another chunking."""
        to_grid = _GRID - (self.at + self._origin) % _GRID
        since = self.let_go
        if self._swallow is not None:
            since = self.at if self._swallow.is_known else self._swallow.alive_to
        return max(1, min(to_grid, self._limit - (self.at - since)))

    def _read(self, part: str) -> None:
        swallow = self._swallow
        if swallow is None or swallow.is_known or self._reading.settled() >= swallow.until:
            self._reading.feed(part)
            self.at += len(part)
            return
        at, known = self._kept_reading()
        self._reading.feed(part)
        if self._reading.settled() < swallow.until:
            self.at += len(part)
            self._swallow = swallow._replace(alive_to=self.at)
            return
        before = known.copy()  # what is masked ends here: with which character?
        before.feed(self._text[at - self.base : self.at - self.base])
        self._reading = before
        until, alive_to = swallow.until, swallow.alive_to
        for char in part:
            before.feed(char)
            self.at += 1
            settled = before.settled()
            # What may end with this very character is not alive any more: the character belongs to it all the same.
            alive_to = max(alive_to, before.ended(until))
            if until <= settled < alive_to - _JUDGED:
                until = alive_to  # what goes on there began too far back to say what it is: it is masked as well
            if settled < until:
                alive_to = self.at
        self._swallow = swallow._replace(until=until, alive_to=alive_to)

    def _kept_reading(self) -> tuple[int, Reading]:
        """A reading of the text up to a place from which on nothing but reading on was done to it."""
        cell = (self.at + self._origin) // _GRID
        if self._known is None or (self._known[0] + self._origin) // _GRID != cell:
            self._known = self.at, self._reading.copy()
        return self._known

    def finish(self) -> list[Out]:
        """Nothing comes any more."""
        self.has_scanned = False
        made: list[Out] = []
        if self._swallow is not None:
            self._end(self._swallow, self.at)
        if self.let_go < self.at:
            made = self._released(self.at, must_look=True)
        return made

    def flush_masked(self) -> list[Out]:
        """Mask what is held, and what goes on of it: it was waited for long enough."""
        return [] if self.is_idle or self._swallow is not None else [self._withhold()]

    # ---------------------------------------------------------------------------------------------------------------

    def step(self) -> list[Out]:
        """What is to be let go of what was taken in."""
        self.has_scanned = False
        is_on_grid = (self.at + self._origin) % _GRID == 0
        if is_on_grid:
            self._reading.clamp()
        settled = self._reading.settled()
        if self._swallow is not None and not self._has_ended(self._swallow, settled, is_on_grid=is_on_grid):
            self._shorten()
            return []
        made = self._released(self._safe(settled))
        if self.is_careful and (settled - self.let_go > _CAREFUL_MAX or self.at - self.let_go > self._limit):
            self.is_careful = False  # too much is held for the next look only: let it look
            made += self._released(settled, must_look=True)
        if is_on_grid and _is_power_of_2((self.at - settled) // _GRID):
            made += self._told_early()
        if self._swallow is None and self.at - self.let_go > self._limit and self.at >= self._grace_to:
            made += self._overflow()
        self._forget()
        return made

    def _safe(self, settled: int) -> int:
        return self._reading.apart(settled) if self.is_careful else settled

    def _released(self, to: int, *, must_look: bool = False) -> list[Out]:
        """What may be let go before ``to``."""
        if to <= self.let_go:
            return []
        first, _ = self._reading.hits()
        if not must_look and (first is None or first >= to or self._is_words()):
            out = Out(self._text[self.let_go - self.base : to - self.base], self.let_go, to)
            self._let_go(to)
            return [out]
        if not must_look and self._may_wait():
            return []
        return self._scanned(to, is_all=must_look)

    def _is_words(self) -> bool:
        """Is what may be a value no plain word, and is there nothing else?"""
        only = self._reading.hit_rules()
        if only is None or not only <= self._looker.not_words:
            return False
        text = self.rest
        if UNLIKE_WORDS.search(text) is not None:
            return False
        # As a reader sees it, it may be something else: there are digits that are no decimal ones.
        return OPENS.search(text) is None or UNLIKE_WORDS.search(normalised(text).text) is None

    def _may_wait(self) -> bool:
        """Where much looks like a value, look seldom: each look is at all that has a say."""
        return self._may_scan < len(self._text) and self.at - self.let_go < self._limit

    def _scanned(self, to: int, *, is_all: bool = False) -> list[Out]:
        only = None if is_all else self._reading.hit_rules()
        self.has_scanned = True
        self._may_scan -= len(self._text)
        spans: list[Span] = []
        plain, beside = self._looker.detector.rest(self._text, only, self._before(), self._since - self.base)
        to = max(self._looker.before_allowed([*plain, *beside], to - self.base) + self.base, self.let_go)
        for span in self._looker.together(self._text, [*plain, *beside]):
            start, end = span.start + self.base, span.end + self.base
            if start >= to:
                break
            if end > to:  # overlaps what is not settled yet
                to = max(start, self.let_go)
                break
            if span.entity in YIELDING and start < self._found_to:
                continue  # it gave way to the value that was told there
            if end > self.let_go:
                spans.append(Span(max(start, self.let_go), end, span.entity, span.rule, span.score))
        made: list[Out] = []
        for span in spans:
            if span.end <= to:
                self._put(made, span)
        self._rest(made, to)
        self._remember(plain, beside)
        return made

    def _remember(self, plain: list[Span], beside: list[Span]) -> None:
        """What of that is let go."""
        for span in plain:
            if span.end + self.base <= self.let_go:
                self._done.setdefault(span.rule, []).append((span.start + self.base, span.end + self.base))
        for span in beside:
            end = span.end + self.base
            if end <= self.let_go:
                self._undone[span.rule] = max(end, self._undone.get(span.rule, end))

    def _before(self) -> Done:
        """What was let go of the text that is there, in its places."""
        if not self._done and not self._undone:
            return NOTHING_DONE
        base = self.base
        kept = {rule: [one for one in values if one[1] > base] for rule, values in self._done.items()}
        self._done = {rule: values for rule, values in kept.items() if values}
        plain = {rule: [(start - base, end - base) for start, end in values] for rule, values in self._done.items()}
        return Done(plain, {rule: end - base for rule, end in self._undone.items() if end > base})

    def _put(self, made: list[Out], span: Span, *, is_open: bool = False) -> Out:
        """Let go what stands before a span, and what is put in its place."""
        self._rest(made, span.start)
        said = self._text[span.start - self.base : span.end - self.base]
        out = Out(self._replaced(span, said), span.start, span.end, span, is_open)
        made.append(out)
        self._changed_to(span.end, span)
        self._let_go(span.end)
        return out

    def _changed_to(self, end: int, span: Span | None) -> None:
        self.changed = end
        if span is not None and span.entity != WITHHELD:
            self._found_to = end

    def _rest(self, made: list[Out], to: int) -> None:
        if to > self.let_go:
            made.append(Out(self._text[self.let_go - self.base : to - self.base], self.let_go, to))
            self._let_go(to)

    def _let_go(self, to: int) -> None:
        self.let_go = to
        self._reading.looked_at(to)

    def _forget(self) -> None:
        if len(self._text) < 2 * REACH:
            return
        keep = min(self.let_go, self._reading.crossed()) - REACH - self._looker.detector.behind
        keep = max(keep, self.let_go - _WINDOW_MAX)
        if keep - self.base > REACH // 2:
            self._cut(keep)

    def _cut(self, keep: int) -> None:
        """Forget what stands before ``keep``; what comes next there is looked back at, no value begins in it."""
        self._text = self._text[keep - self.base :]
        self.base = keep
        self._since = keep + self._looker.detector.behind

    # What has no end, or none that is near -------------------------------------------------------------------------

    def _told_early(self) -> list[Out]:
        """Tell a value whose beginning is conclusive before its end is there."""
        if not self._reading.is_plain or not self._reading.plain.state.open_rules:
            return []
        span = self._conclusive()
        if span is None:
            return []
        made = self._scanned(span.start)
        if self.let_go != span.start:  # something before it is not settled
            return made
        self._swallow = _Swallow(self._put(made, span, is_open=True), self.at, is_known=True)
        return made

    def _conclusive(self) -> Span | None:
        """The value that the text ends in, if nothing that comes can change where it begins or what it is called."""
        cursor = self._reading.plain
        state, at = cursor.state, self.at
        open_: dict[int, Span] = {}
        since = self._since - self.base
        for span in self._looker.apart(self._text, since):
            rule = self._looker.numbers.get(span.rule, -1)
            if (
                span.end + self.base == at
                and rule in state.open_rules
                and is_told_by_head(self._looker.rule(rule), span)
            ):
                open_[rule] = span
        if not open_:
            return None
        best = min(open_.values(), key=lambda span: (span.start, -span.score))
        start = best.start + self.base
        armed = self._looker.armed(self._text)
        for group, begin in enumerate(cursor.starts):
            for rule, most in state.rules(group).items():
                first = max(begin, at - most)
                if rule in open_ or rule not in armed:
                    continue
                if first < start or (first == start and outranks(self._looker.rule(rule), best)):
                    return None
        if any(
            one.start == best.start and one.entity != best.entity and one.score == best.score for one in open_.values()
        ):
            return None
        found = [one for one in self._looker.spans(self._text, since) if one.start == best.start]
        if start < self.let_go or not found or found[0].end + self.base != at or found[0].entity != best.entity:
            return None
        return Span(start, at, found[0].entity, found[0].rule, found[0].score)

    def _overflow(self) -> list[Out]:
        """More is held than may be."""
        made = self._told_early()
        return made if self._swallow is not None else [*made, self._withhold()]

    def _withhold(self) -> Out:
        made: list[Out] = []
        span = Span(self.let_go, self.at, WITHHELD, HELD_TOO_LONG, 1.0)
        out = self._put(made, span, is_open=True)
        self._swallow, self._known = _Swallow(out, self.at, is_known=False, alive_to=self.at), None
        return out

    def _has_ended(self, swallow: _Swallow, settled: int, *, is_on_grid: bool) -> bool:
        may_have_ended = settled >= max(swallow.until, swallow.alive_to, swallow.end)
        # It was asked before, and another value went on beyond it: seldom ask again, there is much to look at.
        is_asked = not (swallow.is_known and swallow.end) or is_on_grid
        if may_have_ended and is_asked and self._end(swallow, settled):
            return True
        if swallow.is_known and is_on_grid and self.at - swallow.out.start > _KEPT_MAX:
            self._lose(swallow)
        elif not swallow.is_known and self.at - swallow.alive_to > self._limit:  # what follows it is too long as well
            self._swallow = swallow._replace(until=self.at, alive_to=self.at, end=0)
        return False

    def _lose(self, swallow: _Swallow) -> None:
        """It is too long to be kept. All that is alive is masked to its end: what it is cannot be said any more."""
        out = swallow.out
        if out.span is not None:
            out.span = replace(out.span, rule=HELD_TOO_LONG)
        self._swallow, self._known = _Swallow(out, self.at, is_known=False, alive_to=self.at), None

    def _end(self, swallow: _Swallow, settled: int) -> bool:
        """Where does the value end? False while that is not known."""
        end, base, since = -1, self.base, self._since
        if not swallow.is_known:
            end = swallow.alive_to
            if end - _LAST > base:
                base = end - _LAST
                since = base + self._looker.detector.behind
        for span in self._looker.spans(self._text[base - self.base :], since - base):
            first, last = span.start + base, span.end + base
            if swallow.is_known and first <= swallow.out.start < last:
                end = max(end, last)
            elif not swallow.is_known and first < end < last:
                end = last
        if end < 0:
            end = settled
        if end > settled:
            self._swallow = swallow._replace(end=end)
            return False
        end = max(end, self.let_go)
        swallow.out.end = end
        swallow.out.is_open = False
        self._grace_to = self.at + -(self.at + self._origin) % _GRID  # when it was seen to be over depends on the cuts
        self._changed_to(end, swallow.out.span)
        self.ended = swallow.out
        self._swallow = None
        self._let_go(end)
        return True

    def _shorten(self) -> None:
        """Of what is masked to where nothing of it is alive, keep the last characters."""
        swallow = self._swallow
        if swallow is None:
            return
        self._reading.forget(swallow.until)
        if swallow.is_known or len(self._text) <= 2 * _LAST + self._limit:
            return
        keep = swallow.alive_to - _LAST
        if keep > self.base:
            self._cut(keep)


def _is_power_of_2(number: int) -> bool:
    return number > 0 and not number & (number - 1)
