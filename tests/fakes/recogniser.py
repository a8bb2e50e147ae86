"""A recogniser that knows a few names by heart, in this process; and factories of ones that misbehave in theirs."""

from __future__ import annotations

import os
import re
import threading
import time
from typing import TYPE_CHECKING, Any

from ext_proc.errors import RecogniserUnavailable
from ext_proc.model import Span
from ext_proc.ner import BadRecipe

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ext_proc.ner import Recipe

KNOWN = {"Ada Lovelace": "PERSON", "Bob Smith": "PERSON", "London": "LOCATION", "Paris": "LOCATION"}
_ANY = re.compile(r"\b(?:" + "|".join(KNOWN) + r")\b")


class FakeRecogniser:
    """Finds `KNOWN`. ``failure``: what it fails with instead; ``threads``: who asked; ``asked``: what."""

    def __init__(self, failure: str | None = None, rule: str = "ner:custom") -> None:
        self.version = "fake@1"
        self.entities = frozenset(KNOWN.values())
        self.failure = failure
        self.rule = rule
        self.asked: list[list[str]] = []
        self.threads: set[int] = set()

    def recognise(self, texts: Sequence[str]) -> list[list[Span]]:
        """See `Recogniser.recognise`."""
        self.asked.append([*texts])
        self.threads.add(threading.get_ident())
        if self.failure is not None:
            raise RecogniserUnavailable(self.failure)
        return [[self._span(found) for found in _ANY.finditer(text)] for text in texts]

    def _span(self, found: re.Match[str]) -> Span:
        return Span(found.start(), found.end(), KNOWN[found[0]], self.rule, 0.9)


class Naughty(FakeRecogniser):
    """Does what a word in the text says, in a process of its own."""

    def recognise(self, texts: Sequence[str]) -> list[list[Span]]:
        """See `Recogniser.recognise`."""
        said = " ".join(texts)
        if "DIE" in said:
            os._exit(3)
        if "SLEEP" in said:
            time.sleep(60)
        if "NAP" in said:
            time.sleep(2.5)
        if "RAISE" in said:
            raise ValueError(said)
        if "FORGET" in said:
            return []
        found = super().recognise(texts)
        for word, span in _GARBAGE.items():
            if word in said:
                found[0] += [span] if isinstance(span, Span) else span
        return found


_GARBAGE: dict[str, Any] = {
    "FAR": Span(0, 100_000, "PERSON", "", 0.9),
    "NEGATIVE": Span(-3, 2, "PERSON", "", 0.9),
    "EMPTY": Span(3, 3, "PERSON", "", 0.9),
    "FRACTION": Span(1.5, 3, "PERSON", "", 0.9),  # type: ignore[arg-type]
    "FLAG": Span(False, True, "PERSON", "", 0.9),
    "CERTAIN": Span(0, 2, "PERSON", "", 17.0),
    "NAN": Span(0, 2, "PERSON", "", float("nan")),
    "OVERLAP": [Span(0, 4, "PERSON", "", 0.9), Span(2, 6, "PERSON", "", 0.9)],
    "DISORDER": [Span(4, 6, "PERSON", "", 0.9), Span(0, 2, "PERSON", "", 0.9)],
}


def make(recipe: Recipe) -> FakeRecogniser:
    """One that behaves."""
    del recipe
    return FakeRecogniser()


def make_naughty(recipe: Recipe) -> FakeRecogniser:
    """One that does not, when told so."""
    if "refuse" in recipe.options:
        raise BadRecipe("options.refuse: not today")
    if "die" in recipe.options:
        os._exit(4)
    if "raise" in recipe.options:
        raise RuntimeError("no weights here")
    made = Naughty()
    made.version = str(recipe.options.get("version", made.version))
    return made


MAKE = "tests.fakes.recogniser:make"
MAKE_NAUGHTY = "tests.fakes.recogniser:make_naughty"
