"""What was gathered of an object, written into the index. The caller makes one transaction of it."""

from __future__ import annotations

import json
from dataclasses import astuple, fields
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

from ext_proc.evidence.index_rows import Held, Known, Noted, Shadowed

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable, Iterator, Sequence

    from ext_proc.evidence.index_rows import Gathered
    from ext_proc.evidence.names import EventsName, LogName

_KNOWN: Final = tuple(one.name for one in fields(Known))
_NOTED: Final = tuple(one.name for one in fields(Noted))
_HELD: Final = tuple(one.name for one in fields(Held))
_WORDS: Final = frozenset(
    {"subject", "tenant", "connection", "operation", "model", "outcome", "code", "masked_in", "masked_out"}
)
"""Columns that hold the number of a word: few words stand in a million rows."""
_MASKS: Final = ("masked_in", "masked_out")
_KEPT_WORDS: Final = 50_000
_AT_ONCE: Final = 500


class IndexWriter:
    """Writes; the caller begins and commits.

    Args:
        database: of `index_file.IndexFile.for_writing`.
    """

    def __init__(self, database: sqlite3.Connection) -> None:
        self._database = database
        self._numbers: dict[str, int] = {}

    def is_known(self, key: str) -> bool:
        """Was this object read?"""
        return self._database.execute("SELECT 1 FROM objects WHERE key = ?", (key,)).fetchone() is not None

    def begin_object(self, key: str, name: EventsName) -> int:
        """The object's number. It is known from now on."""
        log = self._log(name.log)
        told = "INSERT INTO objects (key, log, first) VALUES (?, ?, ?)"
        return int(self._database.execute(told, (key, log, name.first)).lastrowid or 0)

    def end_object(self, number: int, name: EventsName, gathered: Gathered, fault: str | None) -> None:
        """What the log is known by, and what is wrong with the object."""
        self._database.execute(
            "UPDATE logs SET size = max(size, ?), last_first = max(last_first, ?), newest_at = max(newest_at, ?), "
            "ended = coalesce(?, ended) WHERE number = ?",
            (name.last + 1, name.first, gathered.newest_at or 0, gathered.ended, self._log(name.log)),
        )
        if fault is not None:
            self._database.execute("UPDATE objects SET fault = ? WHERE number = ?", (fault, number))

    def write(self, number: int, name: EventsName, gathered: Gathered) -> None:
        """Exchanges, holds, tool calls and policies of some leaves of object ``number``."""
        self._write_exchanges(number, gathered.exchanges)
        self._write_holds(gathered.holds)
        self._database.executemany(
            "INSERT INTO calls VALUES (?, ?, NULL) "
            "ON CONFLICT DO UPDATE SET called_in = coalesce(called_in, excluded.called_in)",
            gathered.calls.items(),
        )
        self._database.executemany(
            "INSERT INTO calls VALUES (?, NULL, ?) "
            "ON CONFLICT DO UPDATE SET brought_by = coalesce(brought_by, excluded.brought_by)",
            gathered.results.items(),
        )
        for sequence, at, revision, digest in gathered.policies:
            self._write_policy(self._log(name.log), sequence, at, revision, digest)
        marks = _marks(1 + len(_NOTED))
        self._database.executemany(
            f"INSERT OR REPLACE INTO policy_notes (log, {', '.join(_NOTED)}) VALUES ({marks})",  # noqa: S608 - our names
            [(self._log(name.log), *astuple(one)) for one in gathered.notes],
        )
        self._write_shadows(gathered.shadows)

    # ---------------------------------------------------------------------------------------------------------------

    def _write_exchanges(self, number: int, found: dict[str, Known]) -> None:
        every = ", ".join(_KNOWN)
        old = {
            row[1]: row
            for ids in _pieces(found, _AT_ONCE)
            for row in self._database.execute(
                f"SELECT number, id, {every} FROM exchanges WHERE id IN ({_marks(len(ids))})",  # noqa: S608
                ids,
            )
        }
        [free] = self._database.execute("SELECT coalesce(max(number), 0) + 1 FROM exchanges").fetchone()
        rows: list[tuple[Any, ...]] = []
        places: list[tuple[int, int]] = []
        for exchange_id, known in found.items():
            row = old.get(exchange_id)
            if row is None:
                mine, whole = free, known
                free += 1
            else:
                mine, whole = row[0], self._known(row[2:])
                whole.join(known)
            places.append((mine, number))
            rows.append((mine, exchange_id, *self._columns(whole)))
        marks = _marks(2 + len(_KNOWN))
        told = f"INSERT OR REPLACE INTO exchanges (number, id, {every}) VALUES ({marks})"  # noqa: S608
        self._database.executemany(told, rows)
        self._database.executemany("INSERT OR IGNORE INTO places VALUES (?, ?)", places)

    def _write_holds(self, found: dict[str, Held]) -> None:
        for hold, held in found.items():
            asked = f"SELECT {', '.join(_HELD)} FROM holds WHERE hold = ?"  # noqa: S608 - names of our own
            row = self._database.execute(asked, (hold,)).fetchone()
            whole = held
            if row is not None:
                whole = Held(**{**dict(zip(_HELD, row, strict=True)), "tenant": self._word(row[-1])})
                whole.join(held)
            told = (*astuple(whole)[:-1], self._number(whole.tenant))
            columns = f"hold, {', '.join(_HELD)}"
            self._database.execute(
                f"INSERT OR REPLACE INTO holds ({columns}) VALUES ({_marks(1 + len(_HELD))})",  # noqa: S608
                (hold, *told),
            )

    def _write_shadows(self, found: dict[tuple[str, str, str], Shadowed]) -> None:
        for place, heard in found.items():
            asked = "SELECT calls, first_at, last_at, example FROM shadows WHERE (digest, revision, effect) = (?, ?, ?)"
            row = self._database.execute(asked, place).fetchone()
            whole = heard
            if row is not None:
                whole = Shadowed(*row)
                whole.join(heard)
            told = "INSERT OR REPLACE INTO shadows VALUES (?, ?, ?, ?, ?, ?, ?)"
            self._database.execute(told, (*place, *astuple(whole)))

    def _write_policy(self, log: int, sequence: int, at: int, revision: str, digest: str) -> None:
        """Only where it changed: of the same one after itself nothing is kept."""
        around = "SELECT sequence, digest FROM policies WHERE log = ? AND sequence {} ? ORDER BY sequence {} LIMIT 1"
        before = self._database.execute(around.format("<", "DESC"), (log, sequence)).fetchone()
        after = self._database.execute(around.format(">", "ASC"), (log, sequence)).fetchone()
        if before is not None and before[1] == digest:
            return
        if after is not None and after[1] == digest:
            self._database.execute("DELETE FROM policies WHERE log = ? AND sequence = ?", (log, after[0]))
        told = "INSERT OR REPLACE INTO policies VALUES (?, ?, ?, ?, ?)"
        self._database.execute(told, (log, sequence, at, revision, digest))

    def _log(self, log: LogName) -> int:
        named = (log.replica, log.epoch)
        self._database.execute(
            "INSERT OR IGNORE INTO logs (replica, epoch, size, last_first, newest_at) VALUES (?, ?, 0, 0, 0)", named
        )
        found = self._database.execute("SELECT number FROM logs WHERE replica = ? AND epoch = ?", named)
        return int(found.fetchone()[0])

    # Words ---------------------------------------------------------------------------------------------------------

    def _columns(self, known: Known) -> Iterator[Any]:
        for name in _KNOWN:
            told = getattr(known, name)
            if name in _MASKS and told is not None:
                yield self._mask(told)
            else:
                yield self._number(told) if name in _WORDS else told

    def _known(self, row: Sequence[Any]) -> Known:
        told: dict[str, Any] = dict(zip(_KNOWN, row, strict=True))
        told |= {name: self._word(told[name]) for name in _WORDS}
        return Known(**told)

    def _number(self, word: str | None) -> int | None:
        if word is None:
            return None
        number = self._numbers.get(word)
        if number is None:
            self._database.execute("INSERT OR IGNORE INTO words (word) VALUES (?)", (word,))
            number = int(self._database.execute("SELECT number FROM words WHERE word = ?", (word,)).fetchone()[0])
            if len(self._numbers) >= _KEPT_WORDS:
                self._numbers.clear()
            self._numbers[word] = number
        return number

    def _word(self, number: int | None) -> str | None:
        found = self._database.execute("SELECT word FROM words WHERE number = ?", (number,)).fetchone()
        return None if found is None else str(found[0])

    def _mask(self, told: str) -> int | None:
        is_new = told not in self._numbers
        number = self._number(told)
        if is_new:
            rows = [(entity, number) for entity in json.loads(told)]
            self._database.executemany("INSERT OR IGNORE INTO mask_entities VALUES (?, ?)", rows)
        return number

    def forget_words(self) -> None:
        """Numbers of a transaction that was given up are nobody's."""
        self._numbers.clear()


def _pieces(found: Iterable[str], size: int) -> Iterator[list[str]]:
    source = iter(found)
    while piece := list(islice(source, size)):
        yield piece


def _marks(count: int) -> str:
    return ", ".join("?" * count)
