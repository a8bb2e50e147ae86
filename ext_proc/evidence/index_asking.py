"""Which exchanges somebody wants, as SQL. Every word of it is our own: what they ask for goes beside it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final, Literal

from ext_proc.evidence.index_rows import ALLOW, DENY, NONE, instant
from ext_proc.evidence.records import IN_FLIGHT

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterator
    from datetime import datetime

Decision = Literal["allow", "deny", "none"]
DECISIONS: Final[dict[int, Decision]] = {ALLOW: "allow", DENY: "deny", NONE: "none"}
_LAST_CHARACTER: Final = "\U0010ffff"
_MASKS: Final = "SELECT mask FROM mask_entities WHERE entity = ?"


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which exchanges; None: any. ``query``: the beginning of an id or of a caller's reference; ``tenant_ref``: whose.

    ``since`` inclusive, ``until`` exclusive; the others are compared whole.
    """

    query: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    connection: str | None = None
    model: str | None = None
    decision: Decision | None = None
    outcome: str | None = None
    entity: str | None = None
    code: str | None = None
    tenant_ref: str | None = None


def conditions_of(database: sqlite3.Connection, wanted: Wanted) -> tuple[list[str], list[Any]]:
    """Conditions on the table ``exchanges``, and the values of their question marks, in order."""
    found = list(_conditions(database, wanted))
    return [condition for condition, _ in found], [value for _, values in found for value in values]


def number_of(database: sqlite3.Connection, word: str) -> int:
    """The number of a word; -1, which nothing has, where there is none."""
    found = database.execute("SELECT number FROM words WHERE word = ?", (word,)).fetchone()
    return -1 if found is None else int(found[0])


def _conditions(database: sqlite3.Connection, wanted: Wanted) -> Iterator[tuple[str, tuple[Any, ...]]]:
    yield "at IS NOT NULL", ()
    if wanted.since is not None:
        yield "at >= ?", (_micros(wanted.since),)
    if wanted.until is not None:
        yield "at < ?", (_micros(wanted.until),)
    words = {
        "connection": wanted.connection,
        "model": wanted.model,
        "code": wanted.code,
        "tenant": wanted.tenant_ref,
        "outcome": wanted.outcome if wanted.outcome != IN_FLIGHT else None,
    }
    for column, word in words.items():
        if word is not None:
            yield f"{column} = ?", (number_of(database, word),)
    if wanted.outcome == IN_FLIGHT:
        yield "outcome IS NULL", ()
    if wanted.decision is not None:
        code = next(code for code, name in DECISIONS.items() if name == wanted.decision)
        yield "coalesce(decision, 0) = ?", (code,)
    if wanted.entity is not None:
        yield f"(masked_in IN ({_MASKS}) OR masked_out IN ({_MASKS}))", (wanted.entity, wanted.entity)
    if wanted.query is not None:
        ends = wanted.query, wanted.query + _LAST_CHARACTER
        ids = "SELECT number FROM exchanges INDEXED BY by_id WHERE id >= ? AND id < ?"
        people = "SELECT number FROM words WHERE word >= ? AND word < ?"
        yield f"(number IN ({ids}) OR subject IN ({people}))", (*ends, *ends)


def _micros(at: datetime) -> int:
    return (at - instant(0)) // timedelta(microseconds=1)
