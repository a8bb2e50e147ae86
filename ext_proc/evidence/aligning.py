"""Where in a masked text stands what took the place of each span of the text before: found, not recorded. Pure.

Between two spans the texts are the same. A record tells where spans were, and not what came instead: so what stands
between the same neighbours is it. Where neighbours cannot be told apart, nothing is said.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

_NEIGHBOUR_MAX: Final = 64
"""Characters after a span by which its end is found: further on there may be spans that no record lists."""


def aligned(before: str, spans: Sequence[tuple[int, int]], after: str) -> list[tuple[int, int] | None]:
    """For each span, in order and apart, where in ``after`` its replacement is; None: it cannot be said."""
    found: list[tuple[int, int] | None] = []
    at, there = 0, 0
    for number, (start, end) in enumerate(spans):
        between = before[at:start]
        if start < at or not after.startswith(between, there):
            break
        there += len(between)
        following = spans[number + 1][0] if number + 1 < len(spans) else len(before)
        ends = _end_of(before[end:following], after, there, is_last=following == len(before))
        if ends is None:
            break
        found.append((there, ends))
        at, there = end, ends
    return found + [None] * (len(spans) - len(found))


def _end_of(neighbour: str, after: str, start: int, *, is_last: bool) -> int | None:
    """Where a replacement that begins at ``start`` ends: before its neighbour."""
    if is_last and after.endswith(neighbour) and len(after) - len(neighbour) >= start:
        return len(after) - len(neighbour)
    if not neighbour:  # two spans side by side: whose is which?
        return None
    found = after.find(neighbour[:_NEIGHBOUR_MAX], start)
    return None if found < 0 else found
