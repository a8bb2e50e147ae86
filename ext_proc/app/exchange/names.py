"""Where the rooms `ner` (what a recogniser finds) and `redaction` (what may pass) are joined.

What the rules found stands: of a recogniser's span, only what no rule found counts, and nothing of a placeholder. In a
whole body the names join the rules' finds before the policy is asked. In a stream a stage behind the masker holds its
text up to the end of a sentence (or a window of words) and looks at that.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING, Final

from ext_proc import ner
from ext_proc.app.exchange.asked import NOBODY, Asked
from ext_proc.app.exchange.labels import public_path
from ext_proc.app.exchange.name_stage import NamedMasker, NameStage
from ext_proc.protocols.streaming import Masked
from ext_proc.redaction import merged

if TYPE_CHECKING:
    import re
    from collections.abc import Collection, Iterator, Sequence

    from ext_proc.model import Recognised, Recognition, RedactionRule, Removal, Span
    from ext_proc.ner import Recogniser
    from ext_proc.protocols import Channel, Document
    from ext_proc.protocols.streaming import MakeMasker, MaskWhole
    from ext_proc.redaction import Redactor

RULE_PREFIX: Final = "ner:"
_WHOLE: Final = "whole"
_OFF: Final = "off"
_SENTENCE: Final = "sentence"
_KEY_WORDS_MIN: Final = 2
"""Words of a key in which there can be a name: one word is a field's."""


class Names:
    """Looks for names where a connection says so.

    Args:
        recogniser: finds them; None where the configuration has none.
        redactor: replaces them.
    """

    def __init__(self, recogniser: Recogniser | None, redactor: Redactor) -> None:
        self._recogniser = recogniser
        self._redactor = redactor
        found = recogniser.entities if recogniser is not None else frozenset[str]()
        self._placeholder = ner.placeholder_of({*redactor.detector.entities, *found})

    def added(
        self,
        document: Document,
        spans: Sequence[Sequence[Span]],
        use: Recognition | None,
        offered: frozenset[str] = frozenset(),
    ) -> tuple[list[Sequence[Span]], Recognised | None]:
        """The spans of each channel with names among them, and what is told of that.

        Args:
            document: a body.
            spans: what the rules found in each of its channels.
            use: the connection's.
            offered: of an answer, the names of tools that its request offered.

        Raises:
            RecogniserUnavailable: nothing can be found out, and that must not be.
        """
        joined = list(spans)
        if use is None:
            return joined, None
        return self.beside_rules(document, spans, Asked(self._recogniser, use, _WHOLE), offered)

    def beside_rules(
        self, document: Document, spans: Sequence[Sequence[Span]], asked: Asked, offered: frozenset[str]
    ) -> tuple[list[Sequence[Span]], Recognised]:
        """`added`, with a recogniser that has been asked about other texts of the same body before."""
        joined = list(spans)
        labels = {*offered, *document.tool_names, document.model}
        indexes = [index for index, channel in enumerate(document.channels) if _may_name(channel, labels)]
        pieces = [(index, begin, said) for index in indexes for begin, said in _pieces(document.channels[index])]
        named: dict[int, list[Span]] = {}
        for (index, begin, _), found in zip(pieces, asked.names([said for _, _, said in pieces]), strict=True):
            moved = (replace(one, start=one.start + begin, end=one.end + begin) for one in found)
            named.setdefault(index, []).extend(moved)
        for index, names in named.items():
            joined[index] = self._beside(joined[index], merged(names), document.channels[index].text)
        return joined, asked.told()

    def versioned(self, removals: Sequence[Removal]) -> list[Removal]:
        """Those of names with the recogniser's version, not the rules'."""
        version = self._recogniser.version if self._recogniser else NOBODY
        return [replace(one, version=version) if one.rule.startswith(RULE_PREFIX) else one for one in removals]

    def of_stream(
        self, use: Recognition | None, rules: Sequence[RedactionRule], *, is_whole: bool = False
    ) -> StreamNames:
        """What looks for names in one streamed answer; in one that came whole also where streams are let be."""
        asked = None
        if use is not None:
            asked = Asked(self._recogniser, use, _SENTENCE if is_whole and use.streams == _OFF else use.streams)
        return StreamNames(self, asked, self._redactor, self._placeholder, rules)

    def _beside(self, found: Sequence[Span], names: Sequence[Span], text: str) -> list[Span]:
        """The rules' spans, and of the names what is outside them and outside placeholders."""
        marks = (mark.span() for mark in self._placeholder.finditer(text))
        taken = sorted([*((span.start, span.end) for span in found), *marks])
        left = [piece for name in names for piece in ner.outside(name, taken, text)]
        return sorted([*found, *left], key=lambda span: span.start)


class StreamNames:
    """Looks for names in the texts of one streamed answer, behind what masks them.

    Args:
        names: of whole bodies.
        asked: the recogniser, as this answer asks it; None where the connection has none.
        redactor: replaces names.
        placeholder: what is never broken.
        rules: the decision's.
    """

    def __init__(
        self,
        names: Names,
        asked: Asked | None,
        redactor: Redactor,
        placeholder: re.Pattern[str],
        rules: Sequence[RedactionRule],
    ) -> None:
        self._names = names
        self._asked = asked
        self.is_on = asked is not None and asked.mode != _OFF
        self._redactor = redactor
        self._placeholder = placeholder
        self._rules = rules

    def told(self) -> Recognised | None:
        """What was done; that nothing was, too."""
        return self._asked.told() if self._asked is not None else None

    def added(
        self,
        document: Document,
        spans: Sequence[Sequence[Span]],
        use: Recognition | None,
        offered: frozenset[str] = frozenset(),
    ) -> tuple[list[Sequence[Span]], Recognised | None]:
        """`Names.added`, of a JSON text that the answer held back to its end; `told` tells of it."""
        del use  # the answer's own
        if self._asked is None or not self.is_on:
            return list(spans), None
        return self._names.beside_rules(document, spans, self._asked, offered)

    def of_pieces(self, make: MakeMasker) -> MakeMasker:
        """What makes the masker of each text in pieces."""
        if not self.is_on:
            return make

        def named(path: str, context: str) -> NamedMasker:
            return NamedMasker(make(path, context), self._stage(path))

        return named

    def of_wholes(self, mask: MaskWhole) -> MaskWhole:
        """What masks a text that is not in pieces."""
        if not self.is_on:
            return mask

        def named(path: str, context: str, text: str) -> Masked:
            masked = mask(path, context, text)
            if masked.blocked or not ner.is_prose(text, words_min=1 if context else _KEY_WORDS_MIN):
                return masked
            stage = self._stage(path)
            said = stage.take(masked.text, is_over=True)
            return Masked(said, stage.beside(masked.removals), stage.blocked)

        return named

    def _stage(self, path: str) -> NameStage:
        if self._asked is None:
            raise ValueError("no names are looked for here")
        return NameStage(self._asked, self._redactor, self._placeholder, self._rules, public_path(path))


def _may_name(channel: Channel, labels: Collection[str | None]) -> bool:
    """Can there be a name in a channel? A model's and a tool's are none."""
    words_min = _KEY_WORDS_MIN if channel.kind == "key" else 1
    return ner.is_prose(channel.text, words_min=words_min) and channel.text not in labels


def _pieces(channel: Channel) -> Iterator[tuple[int, str]]:
    """What is looked at of a channel, and where it begins; what could be read apart also part by part."""
    yield from ner.parts(channel.text)
    for begin, end in pairwise((0, *channel.cuts)):
        yield from ((begin + at, said) for at, said in ner.parts(channel.text[begin:end]))
