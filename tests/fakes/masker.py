"""A masker that a test can predict: word by word, it holds the last one until it is over."""

from __future__ import annotations

import re

from ext_proc.model import Action, Removal

EMAIL = "[EMAIL_ADDRESS]"
CARD = "[CREDIT_CARD]"
FORBIDDEN = "FORBIDDEN"
"""Blocks, wherever it stands in a word."""
_EMAIL = re.compile(r"[\w.+-]+@[\w-]+(?:\.[\w-]+)+")
_CARD = re.compile(r"(?<!\d)\d{16}(?!\d)")


def masked(text: str) -> str:
    """What becomes of a text."""
    return _CARD.sub(CARD, _EMAIL.sub(EMAIL, text))


class FakeMasker:
    """Masks mail addresses and card numbers of sixteen digits in a row."""

    def __init__(self, path: str, context: str) -> None:
        self.path = path
        self.context = context
        self.blocked: tuple[str, ...] = ()
        self.removals: list[Removal] = []
        self.fed = ""
        self.is_finished = False
        self._held = ""

    @property
    def removal_count(self) -> int:
        return len(self.removals)

    def feed(self, text: str) -> str:
        assert not self.is_finished
        self.fed += text
        self._held += text
        at = max((found.end() for found in re.finditer(r"\s", self._held)), default=0)
        return self._pass(at)

    def flush_masked(self) -> str:
        held, self._held = self._held, ""
        self.blocked = (FORBIDDEN,) if FORBIDDEN in held else self.blocked
        return "[WITHHELD]" if held and not self.blocked else ""

    def finish(self) -> str:
        assert not self.is_finished
        self.is_finished = True
        return self._pass(len(self._held))

    def _pass(self, at: int) -> str:
        said, self._held = self._held[:at], self._held[at:]
        if self.blocked or FORBIDDEN in said:
            self.blocked = (FORBIDDEN,)
            return ""
        for entity, rule in (("EMAIL_ADDRESS", _EMAIL), ("CREDIT_CARD", _CARD)):
            begin = len(self.fed) - len(self._held) - len(said)
            self.removals += [
                Removal(self.path, begin + found.start(), begin + found.end(), entity, "fake", "1", Action.MASK)
                for found in rule.finditer(said)
            ]
        return masked(said)


class FakeMaskers:
    """Makes them, and keeps them to be looked at."""

    def __init__(self) -> None:
        self.made: list[FakeMasker] = []

    def __call__(self, path: str, context: str) -> FakeMasker:
        self.made.append(FakeMasker(path, context))
        return self.made[-1]

    def fed(self, path: str) -> str:
        """What the maskers of a path were given, one after the other."""
        return "".join(one.fed for one in self.made if one.path == path)
