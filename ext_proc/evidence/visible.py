"""Text with nothing hidden in it. Pure.

Models read characters that no screen shows: tags (U+E0041 is an invisible A), zero width, variation selectors. Others
turn the direction of writing, or move a terminal's cursor. Who decides on a text, or looks into it later, must see that
they are there: each is written by its number.
"""

from __future__ import annotations

import unicodedata
from typing import Final

_SELECTORS: Final = (*range(0xFE00, 0xFE10), *range(0xE0100, 0xE01F0))
_FILLERS: Final = (0x34F, 0x115F, 0x1160, 0x17B4, 0x17B5, *range(0x180B, 0x1810), 0x2800, 0x3164, 0xFFA0)
_EMPTY: Final = frozenset(map(chr, (*_SELECTORS, *_FILLERS)))
"""Printable for Python, and nothing to be seen: joiners, fillers, blanks, variation selectors."""
_AS_EMOJI: Final = "\ufe0f"
"""After a symbol it says that it is an emoji: everybody's text is full of it."""
_SYMBOLS: Final = frozenset({"So", "Sm", "Po", "Nd"})


def visible(text: str) -> str:
    """The text, with each character that would not be seen as ``[U+E0041]``. What is visible stays as it is."""
    if text.isprintable() and _EMPTY.isdisjoint(text):
        return text
    found: list[str] = []
    before = ""
    for one in text.replace("\r\n", "\n"):
        found.append(one if _is_seen(one, before) else f"[U+{ord(one):04X}]")
        before = one
    return "".join(found)


def _is_seen(one: str, before: str) -> bool:
    if one == _AS_EMOJI:
        return before != "" and unicodedata.category(before) in _SYMBOLS and before not in _EMPTY
    if one in _EMPTY:
        return False
    return one.isprintable() or one in "\n\t" or unicodedata.category(one) == "Zs"
