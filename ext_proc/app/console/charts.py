"""Hours as the console draws them, of what the index counted. Pure."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Final

from ext_proc.console.seen import Hour
from ext_proc.evidence.index_rows import milliseconds_of
from ext_proc.evidence.records import IN_FLIGHT

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Mapping
    from datetime import datetime

    from ext_proc.evidence.index_charts import HourSeen

HOURS_MAX: Final = 24 * 366
_HOUR: Final = timedelta(hours=1)
_ALLOWED: Final = ("completed", IN_FLIGHT)
_DENIED: Final = ("denied",)
_BY_PEOPLE: Final = "approval_denied"
_UNANSWERED: Final = ("approval_expired", "approval_used", "approval_outdated")
"""Outcome ``denied`` as well, but nobody said no: the gate refused."""
_REFUSED: Final = ("refused",)
_UNCOUNTED: Final = ("held",)
"""Told to come back: the hold is counted when it ends, and the call when it is sent again."""


def hours_of(counted: Mapping[datetime, HourSeen], since: datetime, until: datetime) -> tuple[Hour, ...]:
    """Every hour, also those in which nothing was. What is in none of the other columns failed."""
    first = since.replace(minute=0, second=0, microsecond=0)
    count = min(int((until - first) / _HOUR) + 1, HOURS_MAX)
    return tuple(_hour(first + number * _HOUR, counted.get(first + number * _HOUR)) for number in range(count))


def _hour(at: datetime, found: HourSeen | None) -> Hour:
    if found is None:
        return Hour(at)
    told, people, gate = found.outcomes, found.denied[_BY_PEOPLE], sum(found.denied[code] for code in _UNANSWERED)
    known = (*_ALLOWED, *_DENIED, *_REFUSED, *_UNCOUNTED)
    return Hour(
        at=at,
        allowed=sum(told[name] for name in _ALLOWED),
        denied=sum(told[name] for name in _DENIED) - people - gate,
        refused=sum(told[name] for name in _REFUSED) + gate,
        failed=sum(count for name, count in told.items() if name not in known),
        latency_ms_p50=_share(found.gate, 0.5),
        latency_ms_p99=_share(found.gate, 0.99),
        holds_approved=found.holds["approved"],
        holds_denied=found.holds["denied"],
        holds_expired=found.holds["expired"],
        holds_ended=found.holds["ended"],
        denied_by_people=people,
    )


def _share(gate: Counter[int], share: float) -> float | None:
    """The latency that this share of the exchanges did not exceed."""
    left = share * gate.total()
    for step in sorted(gate):
        left -= gate[step]
        if left <= 0:
            return round(milliseconds_of(step), 2)
    return None
