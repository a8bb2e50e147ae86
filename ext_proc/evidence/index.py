"""What the index of the bucket answers: which exchanges, where their records lie, how much of what by the hour.

It is a cache (`index_file`), built beside (`indexing`). It says where to look; what is shown of one exchange and all
that is proved of it is read from the bucket.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, Literal

from ext_proc.evidence.index_asking import DECISIONS, Decision, Wanted, conditions_of
from ext_proc.evidence.index_charts import HourSeen, drawn
from ext_proc.evidence.index_rows import NONE, instant, masked_counts
from ext_proc.evidence.names import LogName
from ext_proc.evidence.records import IN_FLIGHT

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterator

    from ext_proc.evidence.index_file import IndexFile

PLACES_MAX: Final = 256
"""Objects that are read for one exchange: the first and the last ones. An answer that streams for a day has more."""
_FRESH: Final = timedelta(minutes=2)
"""After the bucket was listed last: for so long the index is taken as complete."""
_LINE: Final = """
SELECT e.id, e.at, subject.word, connection.word, operation.word, model.word, e.decision, outcome.word, e.http_status,
    code.word, masked_in.word, masked_out.word, e.hold
FROM exchanges AS e
LEFT JOIN words AS subject ON subject.number = e.subject
LEFT JOIN words AS connection ON connection.number = e.connection
LEFT JOIN words AS operation ON operation.number = e.operation
LEFT JOIN words AS model ON model.number = e.model
LEFT JOIN words AS outcome ON outcome.number = e.outcome
LEFT JOIN words AS code ON code.number = e.code
LEFT JOIN words AS masked_in ON masked_in.number = e.masked_in
LEFT JOIN words AS masked_out ON masked_out.number = e.masked_out
"""


@dataclass(frozen=True, slots=True)
class Line:
    """One exchange. ``masked``: what was taken out of request and answer, by entity; 0 of what was blocked."""

    exchange_id: str
    at: datetime
    subject_ref: str | None
    connection: str | None
    operation: str | None
    model: str | None
    decision: Decision
    outcome: str
    http_status: int | None
    code: str | None
    masked: dict[str, int]
    hold_id: str | None


@dataclass(frozen=True, slots=True)
class Page:
    """Lines, the newest first. ``total``: None while the index is not complete."""

    lines: tuple[Line, ...]
    is_more: bool
    total: int | None


@dataclass(frozen=True, slots=True)
class Link:
    """Another exchange, and what this one has to do with it: a tool call's result, or the same hold."""

    kind: Literal["called_in", "brought_by", "held_with"]
    exchange_id: str


@dataclass(frozen=True, slots=True)
class Where:
    """The keys of the objects that hold an exchange's records, by log and place; ``left_out``: how many more."""

    line: Line
    keys: tuple[str, ...]
    left_out: int
    links: tuple[Link, ...]


@dataclass(frozen=True, slots=True)
class LogSeen:
    """A log, how many records of it are in the bucket, how it ended; ``last_first``: where its last object begins."""

    log: LogName
    size: int
    last_first: int
    newest_at: datetime
    ended: str | None


@dataclass(frozen=True, slots=True)
class PolicySeen:
    """From then on this bundle decided in that log."""

    at: datetime
    log: LogName
    revision: str
    digest: str


@dataclass(frozen=True, slots=True)
class PolicyNote:
    """The shipper says of a bundle that it is ``activated`` and archived, or ``refused``, and why."""

    at: datetime
    log: LogName
    kind: str
    digest: str
    reason: str | None
    number: int | None
    key_id: str | None


@dataclass(frozen=True, slots=True)
class ShadowCount:
    """How often a candidate (empty: its answer was no decision) would have had an effect, and one such exchange."""

    digest: str
    revision: str
    effect: str
    calls: int
    first_at: datetime
    last_at: datetime
    example: str


@dataclass(frozen=True, slots=True)
class Status:
    """How far it is. ``swept_at``: since then nothing of the whole bucket is missing but what came after."""

    exchanges: int
    objects: int
    faults: int
    listed_at: datetime | None
    swept_at: datetime | None


class Index:
    """Asks it. For threads; each question reads the file as it stands.

    Args:
        file: of the index.
    """

    def __init__(self, file: IndexFile) -> None:
        self._file = file

    def search(self, wanted: Wanted, limit: int, after: str | None, now: datetime) -> Page:
        """Exchanges, the newest first; those after the exchange ``after``. An id that is not there: from the first on.

        Raises:
            EvidenceError: there is no index yet, or it cannot be read.
        """
        with self._file.for_reading() as database:
            conditions, values = conditions_of(database, wanted)
            where = " AND ".join(conditions)
            total = None
            if _is_complete(database, now):
                counting = f"SELECT count(*) FROM exchanges INDEXED BY by_at WHERE {where}"  # noqa: S608
                [total] = database.execute(counting, values).fetchone()
            if (place := _place(database, after)) is not None:
                where += " AND at <= ? AND (at < ? OR number < ?)"
                values += [place[0], *place]
            found = database.execute(
                f"SELECT number FROM exchanges INDEXED BY by_at WHERE {where} "  # noqa: S608
                "ORDER BY at DESC, number DESC LIMIT ?",
                [*values, limit + 1],
            )
            numbers = [number for (number,) in found]
            lines = [_line(row) for number in numbers[:limit] for row in database.execute(
                f"{_LINE} WHERE e.number = ?", (number,)
            )]  # fmt: skip
            return Page(tuple(lines), len(numbers) > limit, total)

    def where(self, exchange_id: str, tenant_ref: str | None) -> Where | None:
        """Where the exchange's records lie; None: there is none, or it is another tenant's.

        Raises:
            EvidenceError: there is no index yet, or it cannot be read.
        """
        with self._file.for_reading() as database:
            conditions, values = conditions_of(database, Wanted(tenant_ref=tenant_ref))
            asked = f"SELECT number FROM exchanges WHERE id = ? AND {' AND '.join(conditions)}"  # noqa: S608
            found = database.execute(asked, [exchange_id, *values]).fetchone()
            if found is None:
                return None
            line = _line(database.execute(f"{_LINE} WHERE e.number = ?", found).fetchone())
            keys = [
                key
                for (key,) in database.execute(
                    "SELECT key FROM places JOIN objects ON objects.number = places.object WHERE exchange = ? "
                    "ORDER BY objects.log, objects.first",
                    found,
                )
            ]
            kept = keys if len(keys) <= PLACES_MAX else keys[: PLACES_MAX // 2] + keys[-PLACES_MAX // 2 :]
            links = _links(database, exchange_id, line.hold_id)
            if tenant_ref is not None:
                links = [one for one in links if _is_in(database, one.exchange_id, conditions, values)]
            return Where(line, tuple(kept), len(keys) - len(kept), tuple(links))

    def status(self) -> Status:
        """How far it is.

        Raises:
            EvidenceError: there is no index yet, or it cannot be read.
        """
        with self._file.for_reading() as database:
            [exchanges] = database.execute("SELECT count(*) FROM exchanges WHERE at IS NOT NULL").fetchone()
            objects, faults = database.execute("SELECT count(*), count(fault) FROM objects").fetchone()
            return Status(exchanges, objects, faults, _told(database, "listed_at"), _told(database, "swept_at"))

    def logs(self, limit: int) -> list[LogSeen]:
        """Logs, those with the newest records first.

        Raises:
            EvidenceError: there is no index yet, or it cannot be read.
        """
        with self._file.for_reading() as database:
            asked = (
                "SELECT replica, epoch, size, last_first, newest_at, ended FROM logs ORDER BY newest_at DESC LIMIT ?"
            )
            return [
                LogSeen(LogName(replica, epoch), size, last_first, instant(at), ended)
                for replica, epoch, size, last_first, at, ended in database.execute(asked, (limit,))
            ]

    def policies(self, limit: int) -> list[PolicySeen]:
        """Where another bundle began to decide, the newest first.

        Raises:
            EvidenceError: there is no index yet, or it cannot be read.
        """
        with self._file.for_reading() as database:
            asked = (
                "SELECT at, replica, epoch, revision, digest FROM policies JOIN logs ON logs.number = policies.log "
                "ORDER BY at DESC LIMIT ?"
            )
            return [
                PolicySeen(instant(at), LogName(replica, epoch), revision, digest)
                for at, replica, epoch, revision, digest in database.execute(asked, (limit,))
            ]

    def policy_notes(self, kind: str, limit: int) -> list[PolicyNote]:
        """What is said of bundles, the newest first.

        Raises:
            EvidenceError: there is no index yet, or it cannot be read.
        """
        with self._file.for_reading() as database:
            asked = (
                "SELECT at, replica, epoch, kind, digest, reason, policy_notes.number, key_id FROM policy_notes "
                "JOIN logs ON logs.number = policy_notes.log WHERE kind = ? ORDER BY at DESC LIMIT ?"
            )
            return [
                PolicyNote(instant(at), LogName(replica, epoch), *told)
                for at, replica, epoch, *told in database.execute(asked, (kind, limit))
            ]

    def shadows(self, limit: int) -> list[ShadowCount]:
        """What candidates would have done otherwise, the one that spoke last first.

        Raises:
            EvidenceError: there is no index yet, or it cannot be read.
        """
        with self._file.for_reading() as database:
            asked = (
                "SELECT digest, revision, effect, calls, first_at, last_at, example FROM shadows "
                "ORDER BY last_at DESC, effect LIMIT ?"
            )
            return [
                ShadowCount(digest, revision, effect, calls, instant(first_at), instant(last_at), example)
                for digest, revision, effect, calls, first_at, last_at, example in database.execute(asked, (limit,))
            ]

    def hours(self, wanted: Wanted, now: datetime) -> tuple[dict[datetime, HourSeen], dict[str, int]]:
        """Traffic by the hour, and what was masked in all that time, by entity.

        Raises:
            EvidenceError: there is no index yet, or it cannot be read.
        """
        with self._file.for_reading() as database:
            return drawn(database, wanted, now)


def _place(database: sqlite3.Connection, after: str | None) -> tuple[int, int] | None:
    if after is None:
        return None
    found = database.execute("SELECT at, number FROM exchanges WHERE id = ? AND at IS NOT NULL", (after,)).fetchone()
    return None if found is None else (int(found[0]), int(found[1]))


def _line(row: tuple[Any, ...]) -> Line:
    return Line(
        exchange_id=row[0],
        at=instant(row[1]),
        subject_ref=row[2],
        connection=row[3],
        operation=row[4],
        model=row[5],
        decision=DECISIONS[row[6] or NONE],
        outcome=row[7] or IN_FLIGHT,
        http_status=row[8],
        code=row[9],
        masked=masked_counts(row[10], row[11]),
        hold_id=row[12],
    )


def _links(database: sqlite3.Connection, exchange_id: str, hold_id: str | None) -> list[Link]:
    return list(_found_links(database, exchange_id, hold_id))[:PLACES_MAX]


def _found_links(database: sqlite3.Connection, exchange_id: str, hold_id: str | None) -> Iterator[Link]:
    """By tool calls and by holds. Calls are found by either end: both columns are looked through for few rows only."""
    if hold_id is not None:
        asked = "SELECT id FROM exchanges WHERE hold = ? AND id <> ? ORDER BY at LIMIT ?"
        for (other,) in database.execute(asked, (hold_id, exchange_id, PLACES_MAX)):
            yield Link("held_with", other)
    asked = "SELECT DISTINCT called_in FROM calls WHERE brought_by = ? AND called_in IS NOT NULL LIMIT ?"
    for (other,) in database.execute(asked, (exchange_id, PLACES_MAX)):
        yield Link("called_in", other)
    asked = "SELECT DISTINCT brought_by FROM calls WHERE called_in = ? AND brought_by IS NOT NULL LIMIT ?"
    for (other,) in database.execute(asked, (exchange_id, PLACES_MAX)):
        yield Link("brought_by", other)


def _is_in(database: sqlite3.Connection, exchange_id: str, conditions: list[str], values: list[Any]) -> bool:
    asked = f"SELECT 1 FROM exchanges WHERE id = ? AND {' AND '.join(conditions)}"  # noqa: S608 - our own words
    return database.execute(asked, [exchange_id, *values]).fetchone() is not None


def _is_complete(database: sqlite3.Connection, now: datetime) -> bool:
    listed_at = _told(database, "listed_at")
    return _told(database, "swept_at") is not None and listed_at is not None and now - listed_at < _FRESH


def _told(database: sqlite3.Connection, name: str) -> datetime | None:
    found = database.execute("SELECT value FROM meta WHERE name = ?", (name,)).fetchone()
    return None if found is None else datetime.fromisoformat(found[0])
