"""The stage behind a stream's masker: looks for names in what the masker lets go, sentence by sentence.

Where the text is cut is decided by the text alone (`ner.sentence_end`, `ner.window_end`), and each part is looked at by
itself (a window with the one before it): for every chunking the same goes on. Placeholders are never broken. A name is
not dropped, even where a rule says so, but masked: what stands around it was looked at before, and must not be joined.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from operator import attrgetter
from typing import TYPE_CHECKING, Final

from ext_proc import ner
from ext_proc.model import Action, Removal
from ext_proc.redaction.redact import PARTIAL_MIN, PARTIAL_SHOWN, action_for

if TYPE_CHECKING:
    import re
    from collections.abc import Iterator, Sequence

    from ext_proc.app.exchange.asked import Asked
    from ext_proc.model import RedactionRule, Span
    from ext_proc.protocols.streaming import Masker
    from ext_proc.redaction import Redactor

WINDOW: Final = "window"
_HASHED: Final = len("[:abcdefgh]")
_MASKED: Final = len("[]")


@dataclass(frozen=True, slots=True)
class _Gone:
    """A name that was taken out: where it stood in what the masker let go."""

    span: Span
    action: Action


class NameStage:
    """One text.

    Args:
        asked: the recogniser, as this answer asks it.
        redactor: replaces names.
        placeholder: what is never broken.
        rules: the decision's.
        path: the text's, for `beside`.
    """

    def __init__(
        self,
        asked: Asked,
        redactor: Redactor,
        placeholder: re.Pattern[str],
        rules: Sequence[RedactionRule],
        path: str,
    ) -> None:
        self._asked = asked
        self._redactor = redactor
        self._placeholder = placeholder
        self._rules = rules
        self._path = path
        self._is_window = asked.mode == WINDOW
        self._cut, self._reach = ner.CUTS[asked.mode]
        self._held = ""
        self._before = ""  # of a window: the one before it
        self._looked_at = 0  # characters
        self._gone: list[_Gone] = []
        self.blocked: tuple[str, ...] = ()

    @property
    def removal_count(self) -> int:
        """How many names were taken out so far."""
        return len(self._gone)

    def take(self, said: str, *, is_over: bool = False) -> str:
        """What may go on, now that the masker let ``said`` go; all of it, where that was the last.

        Raises:
            RecogniserUnavailable: nothing can be found out, and that must not be.
        """
        parts, self._held = ner.cut_up(self._held + said, self._cut, self._reach)
        if is_over and self._held:
            parts.append(self._held)
            self._held = ""
        return self._gone_through(parts) if parts and not self.blocked else ""

    def beside(self, removals: Sequence[Removal]) -> list[Removal]:
        """The masker's removals with those of names among them, all in places of the text as it came."""
        names = [self._removal(*found) for found in _placed(self._gone, removals)]
        return sorted([*removals, *names], key=attrgetter("start", "end"))

    def _gone_through(self, parts: Sequence[str]) -> str:
        befores = [self._before, *parts[:-1]] if self._is_window else [""] * len(parts)
        found = self._asked.names([before + part for before, part in zip(befores, parts, strict=True)])
        self._before = parts[-1]
        said: list[str] = []
        for before, part, spans in zip(befores, parts, found, strict=True):
            here = [replace(one, start=one.start - len(before), end=one.end - len(before)) for one in spans]
            said += self._replaced(part, [replace(one, start=max(one.start, 0)) for one in here if one.end > 0])
            self._looked_at += len(part)
        return "" if self.blocked else "".join(said)

    def _replaced(self, part: str, spans: Sequence[Span]) -> list[str]:
        taken = [mark.span() for mark in self._placeholder.finditer(part)]
        said: list[str] = []
        at = 0
        for span in (piece for one in spans for piece in ner.outside(one, taken, part)):
            action = action_for(span.entity, self._rules)
            if action is Action.ALLOW:
                continue
            if action is Action.BLOCK:
                self.blocked = (*self.blocked, span.entity)
            action = Action.MASK if action is Action.DROP else action
            said += (
                part[at : span.start],
                self._redactor.replacement(action, span.entity, part[span.start : span.end]),
            )
            at = span.end
            moved = replace(span, start=span.start + self._looked_at, end=span.end + self._looked_at)
            self._gone.append(_Gone(moved, action))
        return [*said, part[at:]]

    def _removal(self, one: _Gone, moved: int) -> Removal:
        span = one.span
        start, end = span.start + moved, span.end + moved
        return Removal(self._path, start, end, span.entity, span.rule, self._asked.version, one.action)


class NamedMasker:
    """`streaming.Masker`: one behind which names are looked for.

    Args:
        masker: the one in front.
        stage: the one behind.
    """

    def __init__(self, masker: Masker, stage: NameStage) -> None:
        self._masker = masker
        self._stage = stage

    @property
    def blocked(self) -> Sequence[str]:
        """See `Masker.blocked`."""
        return (*self._masker.blocked, *self._stage.blocked)

    @property
    def removals(self) -> Sequence[Removal]:
        """See `Masker.removals`."""
        return self._stage.beside(self._masker.removals)

    @property
    def removal_count(self) -> int:
        """See `Masker.removal_count`."""
        return self._masker.removal_count + self._stage.removal_count

    def feed(self, text: str) -> str:
        """See `Masker.feed`."""
        return self._through(self._masker.feed(text))

    def finish(self) -> str:
        """See `Masker.finish`."""
        return self._through(self._masker.finish(), is_over=True)

    def flush_masked(self) -> str:
        """See `Masker.flush_masked`. What is only waited for here was masked already: it is looked at as it is."""
        return self._through(self._masker.flush_masked(), is_over=True)

    def _through(self, said: str, *, is_over: bool = False) -> str:
        if self._masker.blocked:
            return ""
        return self._stage.take(said, is_over=is_over)


def _placed(gone: Sequence[_Gone], removals: Sequence[Removal]) -> Iterator[tuple[_Gone, int]]:
    """With how far from it in the text as it came each stood, which is a place of the masked text.

    Both are in the order of the text. No name touches a placeholder.
    """
    index = moved = 0
    for name in gone:
        while index < len(removals):
            one = removals[index]
            shown = _shown(one)
            if one.start - moved + shown > name.span.start:
                break
            moved += one.end - one.start - shown
            index += 1
        yield name, moved


def _shown(one: Removal) -> int:
    """Characters of what stands in a value's place."""
    length = one.end - one.start
    match one.action:
        case Action.DROP:
            return 0
        case Action.HASH:
            return len(one.entity) + _HASHED
        case Action.PARTIAL if length >= PARTIAL_MIN:
            return 2 * PARTIAL_SHOWN
        case _:
            return len(one.entity) + _MASKED
