"""One leaf by itself, the long way: is it canonical JSON, and a leaf at all? Pure."""

from __future__ import annotations

import re
from typing import Any, Final

import orjson

from ext_proc.verify.lines import LEAF_MAX_BYTES

_CANONICAL: Final = orjson.OPT_SORT_KEYS | orjson.OPT_STRICT_INTEGER
_AT: Final = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:[0-5]\d\.\d{6}Z", re.ASCII)
# A float is a number with a point or an exponent: without digits and most letters it shows as one of these. (The kept u
# and s tell true and false from an exponent, the slash an address from a point.) A false alarm costs time, no more.
_DROPPED: Final = bytes(set(range(256)) - set(b'":[,./eus'))
_MAPPED: Final = bytes.maketrans(b"[.", b",e")


def proven(line: bytes) -> dict[str, Any]:
    """The leaf in a line; its schema and time are of the right form.

    Raises:
        ValueError, KeyError, TypeError: it is none.
    """
    leaf: dict[str, Any] = orjson.loads(line)
    if (
        orjson.dumps(leaf, None, _CANONICAL) != line
        or leaf["schema"] != "affidavit/v1"
        or not _AT.fullmatch(leaf["at"])
        or len(line) > LEAF_MAX_BYTES
    ):
        raise ValueError
    bones = line.translate(_MAPPED, _DROPPED)
    if (b'":e' in bones or b",e" in bones) and _holds_float(leaf):
        raise ValueError
    return leaf


def _holds_float(value: Any) -> bool:
    waiting = [value]
    while waiting:
        one = waiting.pop()
        if isinstance(one, float):
            return True
        if isinstance(one, dict):
            waiting.extend(one.values())
        elif isinstance(one, list):
            waiting.extend(one)
    return False
