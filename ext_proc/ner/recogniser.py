"""The port of a recogniser, what one is made of, and what of its answers counts. Pure.

An adapter that is named in the configuration (``package.module:factory``) is called in a process of its own with the
`Recipe`, and gives a `Recogniser`. Nothing that it says ends in a record but numbers, and names that the
configuration has.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final, Protocol

from ext_proc.errors import RecogniserUnavailable
from ext_proc.model import Span

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

ADAPTERS: Final = {
    "spacy": "ext_proc.ner.spacy_adapter:make",
    "presidio": "ext_proc.ner.presidio_adapter:make",
}
"""Those that come with the gate, by their short names."""
VERSION: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/@+-]{0,63}")
_FIELDS: Final = 4
_NUMBERS_MAX: Final = 1_000_000
"""Spans in one answer: more are no answer."""


class Recogniser(Protocol):
    """Finds names in texts. Called by one thread at a time."""

    @property
    def version(self) -> str:
        """Which recogniser, with which model: part of every record (`VERSION`)."""
        ...

    @property
    def entities(self) -> frozenset[str]:
        """What it can find, in the gate's words: ``PERSON``, ``LOCATION``, ``ADDRESS`` ..."""
        ...

    def recognise(self, texts: Sequence[str]) -> list[list[Span]]:
        """What is in each text: one list for each, in order of place, not overlapping; offsets in code points."""
        ...


class BadRecipe(Exception):
    """The recogniser cannot be made like this: said to whoever starts the gate, so it names the option."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """Which recogniser, and what of its finds counts.

    Args:
        adapter: a name of `ADAPTERS`, or ``package.module:factory``.
        entities: what is looked for.
        score_min: finds that it is less sure of are left out.
        options: the adapter's own.
    """

    adapter: str
    entities: tuple[str, ...] = ("PERSON", "LOCATION")
    score_min: float = 0.0
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def factory(self) -> str:
        """Its import path."""
        return ADAPTERS.get(self.adapter, self.adapter)

    @property
    def rule(self) -> str:
        """What a record names as the rule that found a span. No rule of a pack has a colon in its id."""
        return f"ner:{self.adapter if self.adapter in ADAPTERS else 'custom'}"


def checked(answer: Any, texts: Sequence[str], recipe: Recipe) -> list[list[Span]]:
    """An answer (for each text, lists of start, end, entity and score) as spans.

    Raises:
        RecogniserUnavailable: it is not exactly of that form, or its spans cannot be in these texts (``garbage``).
    """
    if not isinstance(answer, list) or len(answer) != len(texts):
        raise RecogniserUnavailable("garbage")
    found = [_spans(told, len(text), recipe) for told, text in zip(answer, texts, strict=True)]
    if any(one.end > other.start for spans in found for one, other in pairwise(spans)):
        raise RecogniserUnavailable("garbage")
    return found


def _spans(told: Any, length: int, recipe: Recipe) -> list[Span]:
    if not isinstance(told, list) or len(told) > min(length, _NUMBERS_MAX):
        raise RecogniserUnavailable("garbage")
    return [_span(one, length, recipe) for one in told]


def _span(one: Any, length: int, recipe: Recipe) -> Span:
    if not isinstance(one, list) or len(one) != _FIELDS:
        raise RecogniserUnavailable("garbage")
    start, end, entity, score = one
    are_places = all(isinstance(place, int) and not isinstance(place, bool) for place in (start, end))
    is_score = isinstance(score, int | float) and not isinstance(score, bool)
    if not are_places or not is_score or not 0 <= start < end <= length or not 0 <= score <= 1:
        raise RecogniserUnavailable("garbage")
    if not isinstance(entity, str) or entity not in recipe.entities:
        raise RecogniserUnavailable("garbage")
    return Span(start, end, entity, recipe.rule, float(score))
