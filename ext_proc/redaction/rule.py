r"""What a rule is.

A rule is looked for only where its ``anchor`` occurs (the gate), in a window of ``before`` and ``after`` characters
around it. ``pattern`` finds the candidate: group 1 where it has one, else the whole match. ``validator`` confirms it.
``\w``, ``\d`` and ``\b`` mean ASCII, as in the gate: a value that stands right after a Chinese character is still a
value.

Every rule is bounded, so that a stream knows how much to hold back. A match of ``pattern`` has at most ``max_length``
characters, and ``lookbehind`` characters before and ``lookahead`` after it have a say. Where a value has no end that it
is known by (``open_ended``), the first ``max_length`` characters of the match decide, validator included; what follows
them are characters of one class (and perhaps a short end), as many as come.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import re
    from collections.abc import Callable

SECRET_PREFIX: Final = "SECRET_"  # noqa: S105 - it names secrets, it holds none
ANCHOR_MAX: Final = 64
"""Characters of the longest anchor."""
ANNOUNCED_MAX: Final = 192
"""Characters after an anchor in which it may announce a value that has none of its own: a stream keeps so much."""
KEY_MARK: Final = "\x1f"
"""Stands between a key and its value when they are scanned together (ASCII's unit separator)."""


YIELDING: Final = frozenset({"URL"})
"""Entities that give way to what any other rule finds in the same place, and that are acted on only where a decision
names them: a link to a page is seldom a secret, and a masked one is of no use to anyone."""


@dataclass(frozen=True, slots=True)
class Rule:
    """One way to find one entity. See the module."""

    id: str
    entity: str
    anchor: str
    pattern: re.Pattern[str]
    validator: Callable[[str], int]
    before: int
    after: int
    score: float
    version: str = "1"
    max_length: int = 0
    lookbehind: int = 0
    lookahead: int = 0
    open_ended: bool = False
    pack: str = ""


def is_secret(entity: str) -> bool:
    """Is it a credential? Those are never shown in part, hashed or let through."""
    return entity.startswith(SECRET_PREFIX) or entity == "URL_CREDENTIALS"
