"""The two sides of the account, on this disk: what Envoy wrote and what the logs hold, joined in little memory.

A temporary database that nobody else sees: rows go in as they are read, and come out sorted by request id.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime, timedelta
from itertools import groupby
from operator import itemgetter
from typing import TYPE_CHECKING, Any, Final, Self

import orjson

from ext_proc.audit.origin import Origin
from ext_proc.evidence.envoy_lines import Line
from ext_proc.record_kinds import LeafKind

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_TABLES: Final = """
PRAGMA journal_mode = OFF;
PRAGMA synchronous = OFF;
PRAGMA temp_store = FILE;
PRAGMA cache_size = -65536;
CREATE TABLE rows (id TEXT, side INTEGER, began INTEGER, told BLOB);
CREATE TABLE nameless (replica TEXT, details TEXT, began INTEGER, told BLOB);
CREATE TABLE leftover (replica TEXT, details TEXT, began INTEGER, told BLOB);
CREATE TABLE beginnings (replica TEXT, began INTEGER);
CREATE TABLE noted (place TEXT PRIMARY KEY) WITHOUT ROWID;
"""
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)
_LINE, _LEAF = 0, 1
_NAMES: Final = tuple(one.name for one in fields(Line))


@dataclass(slots=True)
class Exchange:
    """What the logs say of one request."""

    request_id: str
    origin: str
    began_at: datetime
    ended_at: datetime
    has_intent: bool = False
    is_undelivered: bool = False
    status: str | None = None
    details: str | None = None
    released_bytes: int = 0
    """How much of the answer its outcome says was let go."""
    told_at: datetime | None = None
    """When the outcome was written that the three before this are of: of two the later counts."""

    @property
    def replica(self) -> str:
        """Whose log: ``<replica>-<role>`` without the role."""
        return Origin.read(self.origin).replica


@dataclass(frozen=True, slots=True)
class Pair:
    """One request id with all that there is of it."""

    request_id: str
    starts: list[Line] = field(default_factory=list)
    ends: list[Line] = field(default_factory=list)
    exchange: Exchange | None = None


class Ledger:
    """A context manager; the file goes with it.

    Args:
        path: where to keep it.
    """

    def __init__(self, path: Path) -> None:
        self._database = sqlite3.connect(path, isolation_level=None)
        self._database.executescript(_TABLES)
        self._database.execute("BEGIN")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._database.close()

    # Filling -------------------------------------------------------------------------------------------------------

    def add_line(self, line: Line) -> None:
        """A line of Envoy's."""
        began = _micros(line.began_at)
        told = orjson.dumps([began if name == "began_at" else getattr(line, name) for name in _NAMES])
        if line.request_id is None:
            self._database.execute("INSERT INTO nameless VALUES (?,?,?,?)", (line.replica, line.details, began, told))
            self._database.execute("INSERT INTO beginnings VALUES (?,?)", (line.replica, began))
            return
        self._database.execute("INSERT INTO rows VALUES (?,?,?,?)", (line.request_id, _LINE, began, told))

    def add_leaf(self, leaf: dict[str, Any]) -> None:
        """A leaf about an exchange.

        Raises:
            KeyError, TypeError, ValueError, AttributeError: it is not of the published form.
        """
        outcome = leaf.get("outcome") or {}
        time = leaf.get("time") or {}
        told = {
            "origin": leaf["origin"],
            "kind": leaf["kind"],
            "at": _micros(datetime.fromisoformat(leaf["at"])),
            "intent": leaf.get("intent_sequence") is not None,
            "status": outcome.get("status"),
            "released": outcome.get("released_bytes"),
            "details": (leaf.get("upstream") or {}).get("code_details"),
        }
        began = _micros(datetime.fromisoformat(time.get("received") or leaf["at"]))
        self._database.execute(
            "INSERT INTO rows VALUES (?,?,?,?)", (str(leaf["exchange_id"]), _LEAF, began, orjson.dumps(told))
        )

    def add_leftover(self, exchange: Exchange) -> None:
        """An exchange that Envoy gave no id that its log would show."""
        began = _micros(exchange.began_at)
        told = orjson.dumps([exchange.request_id, exchange.origin, began, _micros(exchange.ended_at)])
        row = (exchange.replica, exchange.details or "", began, told)
        self._database.execute("INSERT INTO leftover VALUES (?,?,?,?)", row)

    def add_noted(self, place: str) -> None:
        """A refusal of Envoy's that is on record already."""
        self._database.execute("INSERT OR IGNORE INTO noted VALUES (?)", (place,))

    # Reading -------------------------------------------------------------------------------------------------------

    def pairs(self) -> Iterator[Pair]:
        """Everything that has a request id, sorted by it."""
        with closing(self._database.cursor()) as found:
            found.execute("SELECT id, side, began, told FROM rows ORDER BY id, side")
            for request_id, rows in groupby(found, key=itemgetter(0)):
                yield _pair(request_id, rows)

    def nameless(self) -> Iterator[Line]:
        """Lines of requests that Envoy gave no id, by replica, details and time."""
        with closing(self._database.cursor()) as found:
            found.execute("SELECT told FROM nameless ORDER BY replica, details, began")
            for (told,) in found:
                yield _line(told)

    def leftovers(self) -> Iterator[Exchange]:
        """Those exchanges, in the order of `nameless`."""
        with closing(self._database.cursor()) as found:
            found.execute("SELECT details, told FROM leftover ORDER BY replica, details, began")
            for details, told in found:
                request_id, origin, began, ended = orjson.loads(told)
                yield Exchange(
                    request_id, origin, _instant(began), _instant(ended), status="local_reply", details=details
                )

    def add_beginning(self, replica: str, began_at: datetime) -> None:
        """A request that Envoy began, to be counted."""
        self._database.execute("INSERT INTO beginnings VALUES (?,?)", (replica, _micros(began_at)))

    def begun_between(self, replica: str, first: datetime, last: datetime) -> int:
        """How many requests began after ``first`` and not after ``last``."""
        asked = "SELECT count(*) FROM beginnings WHERE replica = ? AND began > ? AND began <= ?"
        found = self._database.execute(asked, (replica, _micros(first), _micros(last)))
        return int(found.fetchone()[0])

    def is_noted(self, line: Line) -> bool:
        """Is this refusal on record already?"""
        return self._database.execute("SELECT 1 FROM noted WHERE place = ?", (line.place,)).fetchone() is not None


def _pair(request_id: str, rows: Iterator[tuple[str, int, int, bytes]]) -> Pair:
    starts: list[Line] = []
    ends: list[Line] = []
    exchange: Exchange | None = None
    for _, side, began, told in rows:
        if side == _LINE:
            line = _line(told)
            (ends if line.is_end else starts).append(line)
            continue
        exchange = _heard(exchange, request_id, _instant(began), orjson.loads(told))
    return Pair(request_id, starts, ends, exchange)


def _heard(known: Exchange | None, request_id: str, began_at: datetime, told: dict[str, Any]) -> Exchange:
    at = _instant(told["at"])
    exchange = known or Exchange(request_id, told["origin"], began_at, at)
    exchange.began_at = min(exchange.began_at, began_at)
    exchange.ended_at = max(exchange.ended_at, at)
    if told["kind"] == LeafKind.INFERENCE_INTENT:
        exchange.has_intent = True
    elif told["kind"] == LeafKind.INFERENCE_OUTCOME:
        exchange.has_intent = exchange.has_intent or told["intent"]
        if exchange.told_at is None or at >= exchange.told_at:
            exchange.status, exchange.details, exchange.told_at = told["status"], told["details"], at
            exchange.released_bytes = told["released"] or 0
    elif told["kind"] == LeafKind.INFERENCE_UNDELIVERED:
        exchange.is_undelivered = True
    return exchange


def _line(told: bytes) -> Line:
    values = dict(zip(_NAMES, orjson.loads(told), strict=True))
    return Line(**{**values, "began_at": _instant(values["began_at"]), "phases": tuple(values["phases"])})


def _micros(at: datetime) -> int:
    return (at - _EPOCH) // _MICROSECOND


def _instant(micros: int) -> datetime:
    return _EPOCH + timedelta(microseconds=micros)
