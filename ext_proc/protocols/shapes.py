"""Looking into JSON that somebody else wrote: the value of the expected type, or None. Pure."""

from __future__ import annotations

from typing import Any, Final

COUNT_MAX: Final = 2**53 - 1
"""RFC 7493: beyond, readers of JSON disagree. No exchange has so many of anything."""


def text(holder: Any, *keys: str | int) -> str | None:
    """The text at ``keys``."""
    found = at(holder, *keys)
    return found if isinstance(found, str) else None


def number(holder: Any, *keys: str | int) -> int | None:
    """The whole number at ``keys``."""
    found = at(holder, *keys)
    return found if isinstance(found, int) and not isinstance(found, bool) else None


def count(holder: Any, *keys: str | int) -> int | None:
    """The count at ``keys``: a whole number that is none of anybody's inventions."""
    found = number(holder, *keys)
    return found if found is not None and 0 <= found <= COUNT_MAX else None


def items(holder: Any, *keys: str | int) -> list[Any]:
    """The list at ``keys``, or an empty one."""
    found = at(holder, *keys)
    return found if isinstance(found, list) else []


def at(holder: Any, *keys: str | int) -> Any:
    """What is at ``keys``, or None."""
    for key in keys:
        if isinstance(key, str) and isinstance(holder, dict):
            holder = holder.get(key)
        elif isinstance(key, int) and isinstance(holder, list) and key < len(holder):
            holder = holder[key]
        else:
            return None
    return holder
