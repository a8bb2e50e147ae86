"""Is a string JSON itself? Also: would somebody else think so? Pure."""

from __future__ import annotations

import json
import re
from typing import Any, Final

from ext_proc.protocols.json_text import JsonError, parse

_HOLDS: Final = re.compile(r'[\w"]')
BLANKS: Final = "\t\n\v\f\r\x1c\x1d\x1e\x1f \x85\xa0\u1680\u2028\u2029\u202f\u205f\u3000\ufeff" + "".join(
    map(chr, range(0x2000, 0x200C))
)
"""What readers take off before they parse (JavaScript's ``trim``), though no JSON has it."""
_LAST: Final = re.compile(r"(?:t|tr|tru|f|fa|fal|fals|n|nu|nul|-|\\u?[0-9A-Fa-f]{0,4})?[ \t\r\n]*\Z")
"""What a text that was cut off may end in."""


class _Loose:
    """See `LOOSE` and `CUT`."""


LOOSE: Final = _Loose()
"""JSON to a careless reader only: with a key twice, with NaN, too deep."""
CUT: Final = _Loose()
"""JSON that lacks its end."""


def json_in(text: str) -> list[Any] | _Loose | None:
    """The object or array that a text is, in a list of one; `LOOSE`; `CUT`; None for any other text."""
    said = text.lstrip(BLANKS)
    if said[:1] not in ("{", "["):
        return None
    try:
        return [parse(text, as_written=True)]
    except JsonError:
        found = _loosely(said)
    return LOOSE if found is None and _loosely(said.rstrip(BLANKS)) is not None else found


def _loosely(text: str) -> _Loose | None:
    try:
        json.loads(text, strict=False)
    except json.JSONDecodeError as error:
        return CUT if _is_cut(text, error) else None
    except (ValueError, RecursionError):
        return LOOSE
    return LOOSE


def _is_cut(text: str, error: json.JSONDecodeError) -> bool:
    """Does it only lack its end? An answer that is too long ends anywhere."""
    if not _HOLDS.search(text):
        return False
    return error.msg.startswith("Unterminated string") or _LAST.match(text, error.pos) is not None
