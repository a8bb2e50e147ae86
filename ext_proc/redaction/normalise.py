"""A text as a reader sees it, with a map back to the text as it is: for detection only.

Undone here: invisible characters, compatibility forms (NFKC), look-alike letters and dashes, and one level of HTML,
percent and JSON escapes. The raw span is replaced whole, invisible characters and all.
"""

from __future__ import annotations

import html
import re
import unicodedata
from dataclasses import dataclass
from typing import Final

_ESCAPE: Final = re.compile(r"&(?:#\d{1,7}|#[xX][0-9a-fA-F]{1,6}|[A-Za-z]{2,12});|%[0-9A-Fa-f]{2}|\\u[0-9A-Fa-f]{4}")

# Look-alikes that NFKC leaves alone: Cyrillic and Greek letters, dashes, dots.
_LOOKALIKES: Final = str.maketrans(
    "\u0430\u0435\u043e\u0440\u0441\u0443\u0445\u0456\u0458\u0455\u0501\u051b\u0410\u0412\u0415\u041a\u041c\u041d"
    "\u041e\u0420\u0421\u0422\u0425\u03bf\u03b1\u03b5\u03b9\u03ba\u03bd\u03c1\u0391\u0392\u0395\u0396\u0397\u0399"
    "\u039a\u039c\u039d\u039f\u03a1\u03a4\u03a7\u2010\u2011\u2012\u2013\u2014\u2015\u2212\u3002\uff61\u2044",
    "aeopcyxijsdqABEKMHOPCTXoaeiKvpABEZHIKMNOPTX-------../",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Normalised:
    """``text`` to look in; character i of it came from code points ``starts[i]`` to ``ends[i]`` of the raw text."""

    text: str
    starts: tuple[int, ...]
    ends: tuple[int, ...]


def is_plain(text: str) -> bool:
    """Is there nothing to undo?"""
    return text.isascii() and ("&" not in text and "%" not in text and "\\u" not in text)


def normalised(text: str) -> Normalised:
    """See the module."""
    chars: list[str] = []
    starts: list[int] = []
    ends: list[int] = []

    def put(piece: str, start: int, end: int) -> None:
        for char in piece:
            for seen in _seen(char):
                chars.append(seen)
                starts.append(start)
                ends.append(end)

    at = 0
    for escape in _ESCAPE.finditer(text):
        for index in range(at, escape.start()):
            put(text[index], index, index + 1)
        put(_unescaped(escape.group()), escape.start(), escape.end())
        at = escape.end()
    for index in range(at, len(text)):
        put(text[index], index, index + 1)
    return Normalised("".join(chars), tuple(starts), tuple(ends))


def _seen(char: str) -> str:
    if char.isascii():
        return char
    if unicodedata.category(char) in ("Cf", "Mn", "Me") or "\ufe00" <= char <= "\ufe0f":
        return ""
    digit = unicodedata.digit(char, None)
    if digit is not None:
        return str(digit)
    plain = unicodedata.normalize("NFKC", char).translate(_LOOKALIKES)
    return "".join(" " if part.isspace() else part for part in plain)


def _unescaped(escape: str) -> str:
    if escape[0] == "&":
        return html.unescape(escape)
    code = int(escape[1:], 16) if escape[0] == "%" else int(escape[2:], base=16)  # noqa: FURB166 - "\\u" is no prefix that int knows
    is_surrogate = 0xD800 <= code <= 0xDFFF
    return "\ufffd" if is_surrogate else chr(code)
