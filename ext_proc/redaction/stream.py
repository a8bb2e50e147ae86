"""Redaction of a text that comes in parts: for every chunking, what goes on is what `redact` makes of the whole.

`redact` looks at a text, and again at what is left of it. So does a stream: the second look (`look`) reads what the
first one lets go. It is there only while it holds something: before the first value, and again soon after each, there
is nothing that it could find, and the first look takes care that nothing is let go that the second one would need.

What is held longer than ``limit`` characters without being settled is masked as ``[WITHHELD]``, never let go; and
where a secret goes on for more than 32,768, all that is alive then is masked to its end. Only there the whole text's
redaction, which has no such limits, may show more; the removal's rule says so (`look.HELD_TOO_LONG`). What is masked so
is the same for every chunking (`look` says how).
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final

from ext_proc.model import Action
from ext_proc.redaction.detect import BUILT_IN
from ext_proc.redaction.look import REACH, SHORT, WITHHELD, Look, Out
from ext_proc.redaction.looker import Looker
from ext_proc.redaction.redact import LOOKS, Piece, Redactor, action_for, done_at, placed
from ext_proc.redaction.taken import Removed, Taken

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ext_proc.model import RedactionRule, Removal, Span
    from ext_proc.redaction.detect import Detector

HELD_MAX: Final = 1024
"""Characters of one channel that are held back at most."""

_PLAIN_ACTIONS: Final = (Action.ALLOW, Action.BLOCK, Action.HASH, Action.MASK)
"""They leave nothing of a value that what stands around it could join."""


class _Link:
    """What a look was given, for finding the way back from its places to those of the look before it."""

    __slots__ = ("begins", "length", "pieces")

    def __init__(self) -> None:
        self.pieces: list[Piece] = []
        self.begins: list[int] = []
        self.length = 0

    def add(self, out: Out) -> None:
        """``out`` is given."""
        last = self.pieces[-1] if self.pieces else None
        if out.span is None and last is not None and last.is_same and last.end == out.start:
            last.end = out.end
        else:
            self.pieces.append(Piece("", out.start, out.end, is_same=out.span is None))
            self.begins.append(self.length)
        self.length += len(out.said)

    def back(self, start: int, end: int) -> tuple[int, int]:
        """The places of the look before."""
        return placed(self.pieces, self.begins, start, end)


class StreamRedactor:
    """Masks one channel as it comes.

    Args:
        rules: the decision's.
        path: the channel's, for `removals`.
        context: the key that the channel's text stands under, as for `scan`.
        hash_key: as for `Redactor`; needed only where a rule says `hash`.
        limit: characters held back at most.
        detector: finds what may not pass.
    """

    __slots__ = (
        "_blocked", "_gone_on", "_is_over", "_limit", "_links", "_looker", "_looks", "_path", "_redactor", "_rules",
        "_shown", "_since", "_since_look", "_taken", "is_finished", "is_joining", "scanned",
    )  # fmt: skip

    def __init__(
        self,
        rules: Sequence[RedactionRule] = (),
        *,
        path: str = "",
        context: str = "",
        hash_key: bytes = b"",
        limit: int = HELD_MAX,
        detector: Detector = BUILT_IN,
    ) -> None:
        if limit < 1:
            raise ValueError("a stream must be able to hold at least one character: limit")
        if not hash_key and any(rule.action is Action.HASH for rule in rules):
            raise ValueError("a rule says hash, and there is no hash_key")
        self._rules = tuple(rules)
        self._path = path
        self._limit = limit
        self._redactor = Redactor(hash_key, detector)
        self._looker = Looker(detector, self._rules)
        self._taken = Taken()
        self._blocked: list[str] = []
        self._is_over = False
        self._since_look = REACH
        """Characters that went on since a later look was last there: a placeholder may stand before them."""
        self.scanned = 0
        """Characters that came in."""
        self.is_finished = False
        self._shown = (
            detector.headed(context) if context else ""
        )  # the end of what went on, with what the channel stands under
        self._since = 0  # of it, the characters that are there only to be looked back at
        self._links = [_Link() for _ in range(LOOKS)]
        self._gone_on = [0] * LOOKS
        """Characters that each look let go."""
        self._looks: list[Look] = []
        self.is_joining = not all(rule.action in _PLAIN_ACTIONS for rule in rules)
        """May what stands around a value come to stand together? Then all looks are there from the start."""
        for _ in range(LOOKS if self.is_joining else 1):
            self._begin_look()

    @property
    def blocked(self) -> tuple[str, ...]:
        """Entities that were found and must not pass: once there is one, nothing goes on any more."""
        return tuple(self._blocked)

    @property
    def held(self) -> int:
        """Characters that are held back."""
        return sum(look.held for look in self._looks)

    @property
    def removal_count(self) -> int:
        """How much was taken out so far, at most: what a later look takes out once more counts again."""
        return self._taken.count

    @property
    def removals(self) -> tuple[Removal, ...]:
        """What was taken out so far, in the order of the text."""
        return self._taken.told(self._removal, self._settled())

    def feed(self, text: str) -> str:
        """What may go on, now that ``text`` has come."""
        if self.is_finished:
            raise ValueError("text came after the end of its channel")
        self.scanned += len(text)
        if self._blocked or self._is_over:
            return ""
        look = self._looks[0]
        if len(text) > SHORT or len(self._looks) > 1 or not look.is_quick or self._is_beside:
            return self._fed(0, text)
        said = look.take(text)
        if said is None:
            return self._went_on(0, look.step())
        self._gone_on[0] += len(said)
        return self._show(said)

    def finish(self) -> str:
        """The rest: nothing comes any more."""
        self.is_finished = True
        said = ""
        index = 0
        while index < len(self._looks) and not self._blocked and not self._is_over:
            said += self._went_on(index, self._looks[index].finish())
            index += 1
        return said

    def flush_masked(self) -> str:
        """What goes on when it was waited for long enough: what is held is masked, and so is what belongs to it."""
        said = ""
        index = 0
        while index < len(self._looks) and not self._blocked and not self._is_over:
            said += self._went_on(index, self._looks[index].flush_masked())
            index += 1
        return said

    # ---------------------------------------------------------------------------------------------------------------

    def _begin_look(self) -> None:
        """The next look, at what the last one lets go from now on."""
        index = len(self._looks)
        if index and not self.is_joining:
            self._looks[-1].is_careful = False
        is_careful = not self.is_joining and index < LOOKS - 1
        self._links[index] = _Link()
        origin = self._gone_on[index - 1] if index else 0
        look = Look(
            self._looker,
            self._shown,
            self._limit,
            partial(self._replaced, index),
            is_careful=is_careful,
            origin=origin,
            since=self._since,
        )
        self._looks.append(look)

    def _replaced(self, index: int, span: Span, value: str) -> str:
        if span.entity == WITHHELD:
            return f"[{WITHHELD}]"
        return self._redactor.replacement(done_at(index + 1, span.entity, self._rules), span.entity, value)

    def _fed(self, index: int, text: str) -> str:
        """What comes out at last of what the look ``index`` lets go of ``text``."""
        said = ""
        for outs in self._looks[index].feed(text):
            said += self._went_on(index, outs)
            if self._blocked or self._is_over:
                break
        return said

    def _went_on(self, index: int, outs: list[Out]) -> str:
        """What comes out at last of what the look ``index`` let go."""
        look = self._looks[index]
        if look.ended is not None:
            self._note_end(index, look.ended)
            look.ended = None
        if not outs:
            return ""
        outs = self._noted(index, outs)
        said = "".join([out.said for out in outs])
        is_last = index == LOOKS - 1
        if index + 1 == len(self._looks) and not is_last:
            is_last = look.is_careful and all(out.span is None for out in outs) and not self._is_nearer(look, said)
            if not is_last:
                self._begin_look()
        self._gone_on[index] += len(said)
        if is_last:
            return self._show(said)
        link = self._links[index + 1]
        for out in outs:
            link.add(out)
        following = self._looks[index + 1]
        said = self._fed(index + 1, said)
        if index + 2 == len(self._looks) and self._is_done(following):
            self._looks.pop()
            self._since_look = 0
            look.is_careful = True
        return said

    def _is_done(self, look: Look) -> bool:
        """Can it be left out until it is needed again? It then looks back at what went on: that must be what it read.

        (Words that it masked as part of a value announce what comes next all the same.)
        """
        if self.is_joining or not look.is_idle:
            return False
        return look.changed is None or look.let_go - look.changed >= REACH + self._looker.detector.behind

    @property
    def _is_beside(self) -> bool:
        """May what comes next look back at a placeholder?"""
        return self._since_look < self._looker.detector.behind

    def _is_nearer(self, look: Look, said: str) -> bool:
        """May the next look find a value here, or its beginning, because of what was put before it?

        Words that announce it are nearer now; or what it begins with stands behind no letter any more.
        """
        if self._since_look >= REACH or not (look.has_scanned or self._is_beside):
            return False
        begin, end = len(self._shown), len(self._shown) + len(said)
        next_one = Look(self._looker, self._shown, self._limit, partial(self._replaced, 0), is_careful=False)
        if next_one.may_hold(said, look.rest):
            return True
        spans = self._looker.spans(self._shown + said + look.rest, self._since)
        return any(span.start < end and span.end > begin for span in spans)

    def _show(self, said: str) -> str:
        self._since_look += len(said)
        self._shown += said
        behind = self._looker.detector.behind
        if len(self._shown) > REACH + behind:
            self._shown = self._shown[-REACH - behind :]
            self._since = behind
        return said

    def _noted(self, index: int, outs: list[Out]) -> list[Out]:
        """Those that go on: nothing after what is blocked, nor after what the last look found."""
        for count, out in enumerate(outs):
            if out.span is None:
                continue
            start, end = self._place(index, out.start, out.end)
            self._taken.add(Removed(index, out, start, end))
            if action_for(out.span.entity, self._rules) is Action.BLOCK:
                self._blocked.append(out.span.entity)
                return outs[:count]
            if index == LOOKS - 1:
                self._is_over = True
                return outs[: count + 1]
        return outs

    def _note_end(self, index: int, out: Out) -> None:
        self._taken.end(out, self._place(index, out.start, out.end)[1])
        pieces = self._links[index + 1].pieces if index + 1 < len(self._looks) else []
        for piece in reversed(pieces):
            if piece.start <= out.start:
                if piece.start == out.start and not piece.is_same:
                    piece.end = out.end
                break

    def _settled(self) -> int:
        """The place in the channel before which nothing is taken out any more: what the last look let go came after."""
        if self._is_over:
            return 0
        index = len(self._looks) - 1
        if not all(link.pieces for link in self._links[1 : index + 1]):
            return 0
        let_go = self._looks[index].let_go
        start, _ = self._place(index, max(let_go - 1, 0), max(let_go, 1))
        return start

    def _place(self, index: int, start: int, end: int) -> tuple[int, int]:
        """Places of a look as places of the channel."""
        for link in reversed(self._links[1 : index + 1]):
            start, end = link.back(start, end)
        return start, end

    def _removal(self, one: Removed) -> Removal:
        end = self.scanned if self._is_over and one is self._taken.open[-1] else one.end
        if one.out.span is None:
            raise ValueError("nothing was removed")
        action = done_at(one.index + 1, one.out.span.entity, self._rules)
        return self._redactor.removal(self._path, one.start, end, one.out.span, action)


def warm_up(detector: Detector) -> None:
    """Compile its rules and build their automaton (half a second), before somebody waits for it.

    Both stay with the detector, and with processes that are forked afterwards.
    """
    detector.scan("Write to nobody@example.invalid.")
    masker = StreamRedactor(detector=detector)
    for word in ("The ", "quick ", "brown ", "fox, ", "and ", "42 ", "dogs."):
        masker.feed(word)
    masker.finish()
