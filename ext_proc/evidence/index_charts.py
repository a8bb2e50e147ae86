"""Traffic by the hour, counted in the index."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

from ext_proc.evidence.index_asking import conditions_of, number_of
from ext_proc.evidence.index_rows import instant, masked_counts
from ext_proc.evidence.records import IN_FLIGHT

if TYPE_CHECKING:
    import sqlite3
    from datetime import datetime

    from ext_proc.evidence.index_asking import Wanted

HOUR_US: Final = 3_600_000_000
HOURS_MAX: Final = 24 * 366
"""An object may say that it is of any time: a chart has an end all the same."""
DENIED: Final = "denied"
_APPROVED: Final = frozenset({"approved", "claimed", "used"})
_ENDED: Final = frozenset({"withdrawn", "abandoned"})


@dataclass(slots=True)
class HourSeen:
    """One hour. ``gate_us`` counts exchanges by how long the gate took (`index_rows.step_of`).

    ``denied``: those with that outcome, by code: not only the policy denies.
    """

    outcomes: Counter[str] = field(default_factory=Counter)
    denied: Counter[str] = field(default_factory=Counter)
    gate: Counter[int] = field(default_factory=Counter)
    holds: Counter[str] = field(default_factory=Counter)


def drawn(
    database: sqlite3.Connection, wanted: Wanted, now: datetime
) -> tuple[dict[datetime, HourSeen], dict[str, int]]:
    """See `Index.hours`."""
    hours: dict[datetime, HourSeen] = {}

    def hour(number: int) -> HourSeen:
        return hours.setdefault(instant(number * HOUR_US), HourSeen())

    masks: Counter[int] = Counter()
    words: dict[int | None, str] = {None: IN_FLIGHT}
    for number in _hours(database, wanted):
        one = _clipped(wanted, number)
        for outcome, code, count in _counted(database, "outcome, code", one):
            for each in {outcome, code} - words.keys():
                words[each] = _word(database, each)
            hour(number).outcomes[words[outcome]] += count
            if words[outcome] == DENIED and code is not None:
                hour(number).denied[words[code]] += count
        for column, counts in (("gate_step", hour(number).gate), ("masked_in", masks), ("masked_out", masks)):
            for told, count in _counted(database, column, one):
                if told is not None:
                    counts[told] += count
    _add_holds(database, hour, wanted, now)
    return hours, _entities(database, masks)


def _hours(database: sqlite3.Connection, wanted: Wanted) -> range:
    """From the first in which there is anything to the last."""
    conditions, values = conditions_of(database, wanted)
    where = " AND ".join(conditions)
    ends = f"SELECT min(at) / {HOUR_US}, max(at) / {HOUR_US} FROM exchanges INDEXED BY by_at WHERE {where}"  # noqa: S608
    first, last = database.execute(ends, values).fetchone()
    return range(0) if first is None else range(first, min(last, first + HOURS_MAX) + 1)


def _clipped(wanted: Wanted, number: int) -> Wanted:
    """What of it is in one hour: one beginning and one end, or SQLite would look for it from the wrong one on."""
    first, last = instant(number * HOUR_US), instant((number + 1) * HOUR_US)
    return replace(
        wanted,
        since=first if wanted.since is None else max(first, wanted.since),
        until=last if wanted.until is None else min(last, wanted.until),
    )


def _counted(database: sqlite3.Connection, columns: str, wanted: Wanted) -> list[tuple[Any, ...]]:
    """How often what, in an hour: a stretch of the index, and small to sort; all hours at once would spill."""
    conditions, values = conditions_of(database, wanted)
    where = " AND ".join(conditions)
    counted = f"SELECT {columns}, count(*) FROM exchanges INDEXED BY by_at WHERE {where} GROUP BY {columns}"  # noqa: S608
    return database.execute(counted, values).fetchall()


def _word(database: sqlite3.Connection, number: int) -> str:
    return str(database.execute("SELECT word FROM words WHERE number = ?", (number,)).fetchone()[0])


def _add_holds(database: sqlite3.Connection, hour: Any, wanted: Wanted, now: datetime) -> None:
    """Each hold once, in the hour in which it was decided, ran out, or was left."""
    now_us = (now - instant(0)).total_seconds() * 1_000_000
    asked = "SELECT asked_at, expires_at, needed, yes, no, said_at, state, told_at FROM holds"
    values: list[Any] = []
    if wanted.tenant_ref is not None:
        asked += " WHERE tenant = ?"
        values.append(number_of(database, wanted.tenant_ref))
    for row in database.execute(asked, values):
        ending = _ending(row, now_us)
        if ending is None:
            continue
        at = instant(ending[1])
        is_in = (wanted.since is None or at >= wanted.since) and (wanted.until is None or at < wanted.until)
        if is_in:
            hour(ending[1] // HOUR_US).holds[ending[0]] += 1


def _ending(row: tuple[Any, ...], now_us: float) -> tuple[str, int] | None:
    """How a hold ended, and when; None: it waits. What the register said of it counts before what people said."""
    asked_at, expires_at, needed, yes, no, said_at, state, told_at = row
    at = said_at or told_at or asked_at
    if at is None:
        return None
    if state in _APPROVED or (state != "denied" and not no and yes >= (needed or 1)):
        return "approved", at
    if state == "denied" or no:
        return "denied", at
    if state in _ENDED:
        return "ended", told_at or at
    is_over = state == "expired" or (expires_at is not None and expires_at <= now_us)
    return ("expired", expires_at or at) if is_over else None


def _entities(database: sqlite3.Connection, masks: Counter[int]) -> dict[str, int]:
    made: dict[str, int] = {}
    for number, count in masks.items():
        for entity, each in masked_counts(_word(database, number)).items():
            made[entity] = made.get(entity, 0) + each * count
    return made
