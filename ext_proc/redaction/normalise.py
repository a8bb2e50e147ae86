r"""A text as a reader sees it, with a map back to the text as it is: for detection only.

Undone here: invisible and control characters, compatibility forms (NFKC), look-alike letters and dashes, and HTML,
percent and JSON escapes, also where the escape's own mark was escaped again (``%2540``, ``&amp;#64;``, ``\\u0040``).
The raw span is replaced whole, invisible characters and all.
"""

from __future__ import annotations

import html
import re
import unicodedata
from bisect import bisect_right
from dataclasses import dataclass
from operator import itemgetter
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

_ESCAPE: Final = re.compile(
    r"""
      & (?:amp;)* (?: \#0*\d{1,7};? | \#[xX]0*[0-9a-fA-F]{1,6};? | [A-Za-z][A-Za-z0-9]{1,31}; )
    | %[C-Fc-f][0-9A-Fa-f] (?:%[89ABab][0-9A-Fa-f]){1,3}         # one character of several UTF-8 bytes
    | % (?:25)* [0-9A-Fa-f]{2}
    | =(?:40|2[DEde])                                             # quoted-printable "@", "-" and "."
    | (?<!\\) \\+ (?:
          u[dD][89abAB][0-9A-Fa-f]{2} \\+ u[dD][c-fC-F][0-9A-Fa-f]{2}
        | u[0-9A-Fa-f]{4} | u\{0*[0-9A-Fa-f]{1,6}\} | x[0-9A-Fa-f]{2}
        | [nrt]                                                   # a line's end, in JSON that is in a string
        | (?=[@._+\-/"'])                                         # Markdown's and JavaScript's needless ones
      )
    | [^\t\n\r\x1f-\x7e]+
    """,
    re.VERBOSE | re.ASCII,
)
_HEX: Final = re.compile(r"[0-9A-Fa-f]+")

# Look-alikes that NFKC leaves alone: Cyrillic and Greek letters, dashes, dots.
_LOOKALIKES: Final = str.maketrans(
    "\u0430\u0435\u043e\u0440\u0441\u0443\u0445\u0456\u0458\u0455\u0501\u051b\u0410\u0412\u0415\u041a\u041c\u041d"
    "\u041e\u0420\u0421\u0422\u0425\u03bf\u03b1\u03b5\u03b9\u03ba\u03bd\u03c1\u0391\u0392\u0395\u0396\u0397\u0399"
    "\u039a\u039c\u039d\u039f\u03a1\u03a4\u03a7\u2010\u2011\u2012\u2013\u2014\u2015\u2212\u3002\uff61\u2044",
    "aeopcyxijsdqABEKMHOPCTXoaeiKvpABEZHIKMNOPTX-------../",
)  # fmt: skip
# Letters and symbols by their class, blanks by their look: Hangul fillers and the empty Braille pattern.
_BLANK: Final = "\u115f\u1160\u2800\u3164\uffa0"
_INVISIBLE: Final = ("Cc", "Cf", "Mn", "Me")


@dataclass(frozen=True, slots=True)
class Normalised:
    """``text`` to look in, in stretches: each begins at ``begins[i]`` and came from ``raw[i]``.

    A stretch that ``is_same[i]`` maps one to one; of any other, each character stands for the whole.
    """

    text: str
    begins: tuple[int, ...]
    raw: tuple[tuple[int, int], ...]
    is_same: tuple[bool, ...]

    def span(self, start: int, end: int) -> tuple[int, int]:
        """Where in the raw text the characters from ``start`` to ``end`` came from."""
        first = bisect_right(self.begins, start) - 1
        last = bisect_right(self.begins, end - 1) - 1
        low, high = self.raw[first][0], self.raw[last][1]
        if self.is_same[first]:
            low += start - self.begins[first]
        if self.is_same[last]:
            high = self.raw[last][0] + end - self.begins[last]
        return low, high

    def index(self, place: int) -> int:
        """Where in `text` a place of the raw text is; of one in an escape, where what it says ends."""
        number = bisect_right(self.raw, place, key=itemgetter(0)) - 1
        if number < 0:
            return 0
        start, end = self.raw[number]
        if place == start or (self.is_same[number] and place < end):
            return self.begins[number] + place - start
        return self.begins[number + 1] if number + 1 < len(self.begins) else len(self.text)


def normalised(text: str) -> Normalised:
    """See the module."""
    begins: list[int] = []
    raw: list[tuple[int, int]] = []
    is_same: list[bool] = []
    pieces: list[str] = []
    length = 0
    for start, end, seen in _stretches(text):
        begins.append(length)
        raw.append((start, end))
        is_same.append(seen is None)
        pieces.append(text[start:end] if seen is None else seen)
        length += len(pieces[-1])
    return Normalised("".join(pieces), tuple(begins), tuple(raw), tuple(is_same))


def _stretches(text: str) -> Iterator[tuple[int, int, str | None]]:
    """Stretches of the raw text with what is seen in their place; None where that is the same."""
    at = 0
    for match in _ESCAPE.finditer(text):
        start, end = match.span()
        said = match.group()
        if said[0] not in "&%\\=":
            if said.translate(_SEEN) == said:
                continue
            if at < start:
                yield at, start, None
            for index, char in enumerate(said, start):
                yield index, index + 1, _SEEN[ord(char)]
        else:
            if at < start:
                yield at, start, None
            yield start, end, _unescaped(said).translate(_SEEN)
        at = end
    if at < len(text):
        yield at, len(text), None


class _Seen(dict[int, str]):
    """What a reader sees in place of a character, worked out once."""

    def __missing__(self, code: int) -> str:
        seen = self[code] = _seen(chr(code))
        return seen


_SEEN: Final = _Seen()


def _seen(char: str) -> str:
    if "\x1f" <= char <= "\x7e" or char in "\t\n\r":
        return char
    if unicodedata.category(char) in _INVISIBLE or char in _BLANK:
        return ""
    digit = unicodedata.digit(char, None)
    if digit is not None:
        return str(digit)
    plain = unicodedata.normalize("NFKC", char).translate(_LOOKALIKES)
    return "".join(" " if part.isspace() else part for part in plain)


def _unescaped(escape: str) -> str:  # noqa: PLR0911 - one for each kind
    if escape[0] == "&":
        return (
            html.unescape("&" + escape.rpartition("amp;")[2].lstrip("&"))
            if "amp;" in escape[:-4]
            else html.unescape(escape)
        )
    if escape[0] == "%" and escape.count("%") > 1:
        return bytes.fromhex(escape.replace("%", "")).decode(errors="replace")
    if escape[0] in "%=":
        return chr(int(escape[-2:], 16))
    if escape[-1] in "nrt":
        return "\t" if escape[-1] == "t" else "\n"
    codes = [int(found, 16) for found in _HEX.findall(escape)]
    if not codes:
        return ""
    if len(codes) == 2:  # a pair of surrogates
        return chr(0x10000 + ((codes[0] - 0xD800) << 10) + codes[1] - 0xDC00)
    return "\ufffd" if 0xD800 <= codes[0] <= 0xDFFF or codes[0] > 0x10FFFF else chr(codes[0])
