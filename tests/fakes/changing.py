"""One value of a tree of dicts and lists, put in or taken out: how tests spoil a file that is right."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence


def changed(whole: dict[str, Any], path: Sequence[str], value: Any) -> dict[str, Any]:
    """A copy with ``value`` at the place that ``path`` names (digits: of a list); `...` takes out what is there."""
    made = copy.deepcopy(whole)
    *steps, last = (int(part) if part.isdigit() else part for part in path)
    at: Any = made
    for step in steps:
        at = at[step] if isinstance(step, int) else at.setdefault(step, {})
    if value is ...:
        del at[last]
    else:
        at[last] = value
    return made
