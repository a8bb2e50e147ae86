"""A JSON string that comes in pieces: undone as its reader would, and a number as its reader would see it. Pure."""

from __future__ import annotations

import math
import re
from typing import Final

from ext_proc.protocols.document import digits_of, is_measure, mantissa

_PLAIN: Final = re.compile(r'[^"\\]+')
_ESCAPES: Final = {"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", '"': '"', "\\": "\\", "/": "/"}
_HEX: Final = re.compile(r"[0-9A-Fa-f]{4}")
_UNICODE_LENGTH: Final = 6
_HIGH, _LOW, _PAST = 0xD800, 0xDC00, 0xE000
_LOST: Final = "\ufffd"
_NUMBER_SHORT: Final = 3
_FRACTION: Final = re.compile(r"[.eE]")


class StringPieces:
    """The inside of one JSON string after the other."""

    def __init__(self) -> None:
        self._escape = ""
        self._high = 0

    def feed(self, text: str, at: int) -> tuple[str, int, bool]:
        """What ``text`` says from ``at`` on, where that ends, and whether its closing quote was there."""
        said: list[str] = []
        end = len(text)
        while at < end:
            if self._escape:
                at = self._in_escape(text, at, said)
            elif text[at] == "\\":
                self._escape = "\\"
                at += 1
            elif text[at] == '"':
                return "".join(said) + self.finish(), at + 1, True
            else:
                found = _PLAIN.match(text, at)
                plain = found[0] if found else ""
                self._add(plain, said)
                at += len(plain)
        return "".join(said), at, False

    def finish(self) -> str:
        """The string is over: half a pair is lost; an escape that was only begun says nothing."""
        said: list[str] = []
        self._lose_high(said)
        self._escape = ""
        return "".join(said)

    def _in_escape(self, text: str, at: int, said: list[str]) -> int:
        """Another character of an escape. What is none is meant as it stands."""
        self._escape += text[at]
        kind = self._escape[1]
        if kind != "u":
            self._add(_ESCAPES.get(kind, self._escape), said)
            self._escape = ""
        elif len(self._escape) == _UNICODE_LENGTH:
            digits = self._escape[2:]
            if _HEX.fullmatch(digits):
                self._unit(int(digits, 16), said)
            else:
                self._add(self._escape, said)
            self._escape = ""
        elif text[at] == '"':  # a quote ends the string, whatever was begun
            begun, self._escape = self._escape[:-1], ""
            self._add(begun, said)
            return at
        return at + 1

    def _unit(self, unit: int, said: list[str]) -> None:
        """A UTF-16 unit: half a pair waits for its other half, and is lost without it."""
        if self._high and _LOW <= unit < _PAST:
            said.append(chr(0x10000 + ((self._high - _HIGH) << 10) + (unit - _LOW)))
            self._high = 0
            return
        self._lose_high(said)
        if _HIGH <= unit < _LOW:
            self._high = unit
        else:
            said.append(_LOST if _LOW <= unit < _PAST else chr(unit))

    def _add(self, text: str, said: list[str]) -> None:
        self._lose_high(said)
        said.append(text)

    def _lose_high(self, said: list[str]) -> None:
        if self._high:
            said.append(_LOST)
            self._high = 0


def number_in(token: str, context: str = "") -> tuple[str, ...]:
    """What a number says to a reader, as texts: as it was written, and as digits. None where it is too short for any
    rule, or a measure.

    ``context`` is the key that it stands under.
    """
    if len(token) < _NUMBER_SHORT:
        return ()
    if not _FRACTION.search(token):
        return () if is_measure(int(token), context) else (token,)
    value = float(token)
    if math.isinf(value):
        return (token,)
    digits, by_themselves = mantissa(token)
    written = () if is_measure(by_themselves, context) else (digits,)
    read = () if is_measure(value, context) else (digits_of(value),)
    return written if read == written else written + read


def unsaid(ahead: str, out: str) -> tuple[str, str]:
    """What is left of ``ahead``, which a masker was told and which went out before; and of ``out``, what is new."""
    size = min(len(ahead), len(out))
    same = next((at for at in range(size) if ahead[at] != out[at]), size)
    return (ahead[same:] if same == len(out) else ""), out[same:]
