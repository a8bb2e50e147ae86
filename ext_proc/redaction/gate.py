"""Which rules could hit at all? One pass over the text says; most texts are done after it.

Hyperscan looks for all anchors at once (block mode, without start of match: the window search does that better).
Where it has no wheel, the anchors are searched one by one: slower, same answer.
"""

from __future__ import annotations

import re
from functools import cache
from threading import local
from typing import TYPE_CHECKING, Any, Final

from ext_proc.redaction.rules import RULES

if TYPE_CHECKING:
    from collections.abc import Callable

hyperscan: Any
try:
    import hyperscan
except ImportError:  # depends on the machine
    hyperscan = None

HIDDEN: Final = len(RULES)
"""Something may have to be undone before a reader sees the text: see `normalise`."""
BASE64: Final = len(RULES) + 1
"""A run that could be base64."""

_EXPRESSIONS: Final = (*(rule.anchor for rule in RULES), r"[&%\\]|[^\t\n\r\x1f-\x7e]", "[A-Za-z0-9+/_-]{16}")
ANCHORS: Final = tuple(re.compile(expression, re.ASCII) for expression in _EXPRESSIONS)

_thread = local()  # a Scratch is per thread (measured: sharing one raises)


def candidates(text: str) -> tuple[int, ...]:
    """Indexes in `RULES` of the rules whose anchor occurs in ``text``; `HIDDEN` and `BASE64` after them."""
    return _search_all()(text)


def by_search(text: str) -> tuple[int, ...]:
    """`candidates`, one anchor at a time."""
    return tuple(index for index, anchor in enumerate(ANCHORS) if anchor.search(text))


@cache
def _search_all() -> Callable[[str], tuple[int, ...]]:
    return by_search if hyperscan is None else _hyperscan()


def _hyperscan() -> Callable[[str], tuple[int, ...]]:
    database = hyperscan.Database(mode=hyperscan.HS_MODE_BLOCK)
    database.compile(
        expressions=[expression.encode() for expression in _EXPRESSIONS],
        ids=list(range(len(_EXPRESSIONS))),
        flags=[hyperscan.HS_FLAG_SINGLEMATCH | hyperscan.HS_FLAG_ALLOWEMPTY] * len(_EXPRESSIONS),
    )

    def hit(index: int, _start: int, _end: int, _flags: int, found: set[int]) -> None:
        found.add(index)

    def search(text: str) -> tuple[int, ...]:
        scratch: Any = getattr(_thread, "scratch", None)
        if scratch is None:
            scratch = _thread.scratch = hyperscan.Scratch(database)
        found: set[int] = set()
        database.scan(text.encode(errors="surrogatepass"), match_event_handler=hit, context=found, scratch=scratch)
        return tuple(sorted(found))

    return search
