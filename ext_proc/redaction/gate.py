"""Which rules could hit, and where? One pass over the text says; most texts are done after it.

All anchors are looked for at once: by Hyperscan (block mode, without start of match: the window search does that
better), by RE2's ``Set`` where there is no wheel of it, or one by one with `re`: slower each, same answer. Long texts
are looked at in blocks that overlap, so that a rule is only searched for near its anchors.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from functools import cache
from importlib import import_module
from threading import local
from typing import TYPE_CHECKING, Any, Final

from ext_proc.redaction.rule import ANCHOR_MAX
from ext_proc.redaction.rules import RULES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from ext_proc.redaction.rule import Rule

hyperscan: Any
re2: Any
try:
    import hyperscan
except ImportError:  # depends on the machine
    hyperscan = None
try:
    re2 = import_module("re2")
except ImportError:  # as above
    re2 = None

HIDDEN: Final = len(RULES)
"""Something may have to be undone before a reader sees the text: see `normalise`."""
BASE64: Final = len(RULES) + 1
"""A run that could be base64."""

# Not: letters of Latin-1 and quotation marks, which a reader sees as they are; and dashes between words.
_DASH: Final = "[\u2010-\u2015]"
_DASHED: Final = r"[0-9A-Za-z]DASH|DASH[0-9A-Za-z]|\d DASH|DASH \d"
_ESCAPED: Final = r"[&%\\]|=(?:40|2[DEde])"
_HIDDEN: Final = (
    rf"{_ESCAPED}|[^\t\n\r\x1f-\x7e\u00c0-\u00ff\u2010-\u2015\u2018\u2019\u201c\u201d]|{_DASHED.replace('DASH', _DASH)}"
)
_HIDDEN_BYTES: Final = (
    _ESCAPED.encode()
    + rb"|[\x00-\x08\x0b\x0c\x0e-\x1e\x7f\xc2\xc4-\xe1\xe3-\xff]"
    + rb"|\xe2(?:[^\x80]|\x80[^\x90-\x95\x98\x99\x9c\x9d])|"
    + _DASHED.encode().replace(b"DASH", rb"\xe2\x80[\x90-\x95]")
)
_BASE64: Final = "[A-Za-z0-9+/_-]{16}"

BLOCK: Final = 4096
"""Characters that are looked at together in a long text."""
_PIECE: Final = 1024
# What makes an anchor one that occurs here and there: letters in a row, in one case or in both, or a sign.
_LITERAL: Final = re.compile(
    r"(?<![\\A-Za-z\[-])[A-Za-z]{2}|\[[A-Za-z]{2}\]\[[A-Za-z]{2}\]|^@$|^://$|://|[^\x00-\x7f]|<<<|\]\\\.\("
)

Places = dict[int, list[tuple[int, int]]]
"""By number of the anchor, where it occurs: stretches in order, which may hold more than one."""


class Gate:
    """The anchors of some rules, and after them what says that a text hides something.

    Args:
        rules: whose anchors; two more stand after them: see `HIDDEN` and `BASE64`, which count the built-in rules.
        engine: ``hyperscan``, ``re2`` or ``re``; the fastest that there is, where none is named.
    """

    def __init__(self, rules: Sequence[Rule], engine: str = "") -> None:
        self.expressions = (*(rule.anchor for rule in rules), _HIDDEN, _BASE64)
        self.anchors = tuple(re.compile(expression, re.ASCII) for expression in self.expressions)
        self.hidden = len(rules)
        self.base64 = len(rules) + 1
        self.engine = engine or ("hyperscan" if hyperscan is not None else "re2" if re2 is not None else "re")
        self.single = frozenset(
            i for i, one in enumerate(self.expressions) if i >= self.hidden or not _LITERAL.search(one)
        )
        """Anchors that may match at every character of a run: the gate says only about where."""
        self._look: Callable[[str, int, int, Places], None] | None = None

    def candidates(self, text: str) -> tuple[int, ...]:
        """Numbers of the anchors that occur in ``text``."""
        return tuple(sorted(self.places(text)))

    def by_search(self, text: str) -> tuple[int, ...]:
        """`candidates`, one anchor at a time."""
        return tuple(index for index, anchor in enumerate(self.anchors) if anchor.search(text))

    def places(self, text: str, block: int = BLOCK) -> Places:
        """Where the anchors occur in ``text``."""
        whole = len(text)
        places: Places = {}
        look = self._looking()
        if whole <= block:
            look(text, 0, whole, places)
            return places
        for start in range(0, whole, block):
            look(text, max(start - 1, 0), min(start + block + ANCHOR_MAX, whole), places)
        return places

    def _looking(self) -> Callable[[str, int, int, Places], None]:
        if self._look is None:
            self._look = _Hyperscan(self._in_bytes(), self.single) if self.engine == "hyperscan" else self._one_by_one()
        return self._look

    def _one_by_one(self) -> Callable[[str, int, int, Places], None]:
        search = self._re2() if self.engine == "re2" else self.by_search

        def look(text: str, low: int, high: int, places: Places) -> None:
            for index in search(text[low:high]):
                if index in self.single:
                    _stretch(places.setdefault(index, []), low, high)
                    continue
                for match in self._overlapping(index).finditer(text, low, high):
                    places.setdefault(index, []).append((match.start(), match.end(1)))

        return look

    def _in_bytes(self) -> list[bytes]:
        said = [expression.encode() for expression in self.expressions]
        said[self.hidden] = _HIDDEN_BYTES
        return said

    def _overlapping(self, index: int) -> re.Pattern[str]:
        """The anchor, wherever it begins: also inside another place of it."""
        return re.compile(f"(?=({self.expressions[index]}))", re.ASCII)

    def _re2(self) -> Callable[[str], tuple[int, ...]]:
        options = re2.Options()
        options.encoding = re2.Options.Encoding.LATIN1  # bytes, as Hyperscan reads them
        options.max_mem = 1 << 26
        anchors = re2.Set.SearchSet(options)
        for expression in self._in_bytes():
            anchors.Add(expression)
        anchors.Compile()

        def search(text: str) -> tuple[int, ...]:
            return tuple(sorted(anchors.Match(text.encode(errors="surrogatepass")) or ()))

        return search


class _Hyperscan:
    """Looks for all anchors at once, in one block. Called, it adds to ``places``."""

    def __init__(self, expressions: list[bytes], single: frozenset[int]) -> None:
        self._single = single
        self._database = hyperscan.Database(mode=hyperscan.HS_MODE_BLOCK)
        once, each = hyperscan.HS_FLAG_SINGLEMATCH, hyperscan.HS_FLAG_SOM_LEFTMOST
        numbers = list(range(len(expressions)))
        flags = [once if index in single else each for index in numbers]
        self._database.compile(expressions=expressions, ids=numbers, flags=flags)
        self._thread = local()  # a Scratch is per thread (measured: sharing one raises)

    def __call__(self, text: str, low: int, high: int, places: Places) -> None:
        part = text[low:high] if high - low < len(text) else text
        said = part.encode(errors="surrogatepass")
        found = self._scan(said)
        if not found:
            return
        place = _characters(said, len(part))
        is_cut, is_single = high < len(text), False
        for index, begin, finish in found:
            if index in self._single:
                is_single = True
                continue
            start, end = (begin, finish) if place is None else (place(begin), place(finish))
            # What touches an edge may go on beyond it: the block that has it whole tells.
            if (start or not low) and (end < high - low or not is_cut):
                places.setdefault(index, []).append((low + start, low + end))
        if is_single:
            self._narrow(text, low, high, places)

    def _narrow(self, text: str, low: int, high: int, places: Places) -> None:
        """Where about: anchors of which only the first place is told are looked for in smaller pieces."""
        for start in range(low, high, _PIECE):
            end = min(start + _PIECE + ANCHOR_MAX, high)
            for index, _, _ in self._scan(text[max(start - 1, 0) : end + 1].encode(errors="surrogatepass")):
                if index in self._single:
                    _stretch(places.setdefault(index, []), start, end)

    def _scan(self, said: bytes) -> list[tuple[int, int, int]]:
        scratch: Any = getattr(self._thread, "scratch", None)
        if scratch is None:
            scratch = self._thread.scratch = hyperscan.Scratch(self._database)
        found: list[tuple[int, int, int]] = []
        self._database.scan(said, match_event_handler=_hit, context=found, scratch=scratch)
        return found


_CONTINUATION: Final = re.compile(rb"[\x80-\xbf]")
"""A byte of UTF-8 that begins no character (RFC 3629, section 3)."""
_FEW: Final = 8
"""One in so many characters may be of several bytes: more would take longer to list than to decode."""


def _hit(index: int, start: int, end: int, _flags: int, found: list[tuple[int, int, int]]) -> None:
    found.append((index, start, end))


def _characters(said: bytes, count: int) -> Callable[[int], int] | None:
    """How many characters stand before a byte of ``said``, which has ``count``. None: as many as bytes."""
    if len(said) == count:
        return None
    if len(said) - count > count // _FEW:
        return lambda at: len(said[:at].decode(errors="surrogatepass"))
    more = [found.start() for found in _CONTINUATION.finditer(said)]
    return lambda at: at - bisect_left(more, at)


def _stretch(stretches: list[tuple[int, int]], low: int, high: int) -> None:
    if stretches and stretches[-1][1] >= low:
        stretches[-1] = (stretches[-1][0], high)
    else:
        stretches.append((low, high))


@cache
def built_in() -> Gate:
    """The gate of the built-in rules."""
    return Gate(RULES)


ANCHORS: Final = built_in().anchors


def candidates(text: str) -> tuple[int, ...]:
    """Indexes in `RULES` of the rules whose anchor occurs in ``text``; `HIDDEN` and `BASE64` after them."""
    return built_in().candidates(text)


def by_search(text: str) -> tuple[int, ...]:
    """`candidates`, one anchor at a time."""
    return built_in().by_search(text)


def windows(
    rule: Rule, anchor: re.Pattern[str] | None, text: str, stretches: Iterable[tuple[int, int]]
) -> Iterable[tuple[int, int]]:
    """Where to look: around each place of the anchor, overlapping windows joined: no character is looked at twice.

    Args:
        rule: whose windows.
        anchor: looked for in the stretches; None where they are its places already.
        text: the text.
        stretches: of the gate.
    """
    low = high = -1
    before, after, whole = rule.before, rule.after, len(text)
    places = (
        stretches
        if anchor is None
        else (match.span() for begin, finish in stretches for match in anchor.finditer(text, begin, finish))
    )
    for begin, finish in places:
        start, end = begin - before, finish + after
        if start > high >= 0:
            yield low, high
            low = start
        elif high < 0 or start < low:
            low = max(start, 0)
        high = max(high, min(whole, end))
    if high >= 0:
        yield low, high
