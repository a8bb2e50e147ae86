"""The registry of subject keys in SQLite or PostgreSQL."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import (
    BigInteger,
    Column,
    DateTime,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    delete,
    func,
    insert,
    or_,
    select,
    text,
    update,
)

from ext_proc import database
from ext_proc.audit.record import instant
from ext_proc.audit.registry import LegalHold, Place, SubjectKey, Tombstone
from ext_proc.errors import AuditUnavailable, ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from sqlalchemy import Connection, Engine, Row

    from ext_proc.model import Receipt

_metadata = MetaData()

_keys = Table(
    "subject_keys",
    _metadata,
    Column("subject_ref", String(128), primary_key=True),
    Column("generation", Integer, primary_key=True, autoincrement=False),
    Column("wrapped", LargeBinary),
    Column("created_at", DateTime, server_default=func.now(), nullable=False),
    Column("requested_origin", String),
    Column("requested_sequence", BigInteger),
    Column("completed_origin", String),
    Column("completed_sequence", BigInteger),
)
_holds = Table(
    "legal_holds",
    _metadata,
    Column("subject_ref", String(128), primary_key=True),
    Column("name", String(128), primary_key=True),
    Column("until", String(32)),
)
_counters = Table("counters", _metadata, Column("name", String(32), primary_key=True), Column("value", BigInteger))

_ERASURES: Final = "erasures"
_SET_UP_LOCK: Final = 0x6166666964


class SqlRegistry:
    """`Registry` in SQLite or PostgreSQL. Processes that only encrypt need SELECT and INSERT; erasure needs the owner.

    Args:
        engine: from `database.open_engine`.

    Raises:
        ConfigError: the tables there are not ours.
        AuditUnavailable: the database cannot be reached.
    """

    def __init__(self, engine: Engine) -> None:
        self._tables = database.Tables(engine, _metadata, _SET_UP_LOCK, "key_registry", AuditUnavailable)
        self._tables.set_up(misfit=ConfigError, fill=_begin_counting)

    @classmethod
    def from_url(cls, url: str, password_file: Path | None = None) -> SqlRegistry:
        """Open it; see `database.open_engine`."""
        return cls(database.open_engine(url, password_file))

    def close(self) -> None:
        """Close the connections."""
        self._tables.close()

    def newest(self, subject_ref: str) -> SubjectKey | None:
        """See `Registry.newest`."""
        wanted = select(_keys).where(_keys.c.subject_ref == subject_ref)
        return self._one(wanted.order_by(_keys.c.generation.desc()).limit(1))

    def key(self, subject_ref: str, generation: int) -> SubjectKey | None:
        """See `Registry.key`."""
        return self._one(select(_keys).where(_keys.c.subject_ref == subject_ref, _keys.c.generation == generation))

    def add(self, subject_ref: str, generation: int, wrapped: bytes) -> None:
        """See `Registry.add`."""
        row = self._tables.insert(_keys).values(subject_ref=subject_ref, generation=generation, wrapped=wrapped)
        with self._tables.writing() as connection:
            connection.execute(row.on_conflict_do_nothing())

    def erasure_count(self) -> int:
        """See `Registry.erasure_count`."""
        with self._tables.reading() as connection:
            found = connection.scalar(select(_counters.c.value).where(_counters.c.name == _ERASURES))
        if found is None:
            raise AuditUnavailable("key_registry: its counter is gone")
        return int(found)

    def destroy(self, subject_ref: str, requested: Receipt, at: datetime) -> tuple[int, ...] | LegalHold:
        """See `Registry.destroy`."""
        living = (_keys.c.subject_ref == subject_ref, _keys.c.wrapped.is_not(None))
        with self._tables.writing() as connection:
            if not self._tables.is_sqlite:  # nobody places a hold between the look and the deed
                connection.execute(text("LOCK TABLE legal_holds IN SHARE ROW EXCLUSIVE MODE"))
            standing = _holds_in_force(connection, subject_ref, at)
            if standing:
                return standing[0]
            generations = tuple(connection.scalars(select(_keys.c.generation).where(*living).with_for_update()))
            if generations:
                blank = {
                    "wrapped": None,
                    "requested_origin": requested.origin,
                    "requested_sequence": requested.sequence,
                }
                connection.execute(update(_keys).where(*living).values(blank))
                one_more = update(_counters).where(_counters.c.name == _ERASURES)
                connection.execute(one_more.values(value=_counters.c.value + 1))
            return generations

    def is_kept_in(self, path: Path) -> bool:
        """Is this file the database, by whatever name it was called?"""
        name = self._tables.engine.url.database
        return self._tables.is_sqlite and name is not None and path.samefile(name)

    def take_over(self, other: SqlRegistry) -> int:
        """Keys and legal holds of ``other`` that are not here; how many keys. All of it, or nothing.

        Raises:
            ConfigError: of one person and generation each has another key: what one of them sealed would be lost.
            AuditUnavailable: one of the databases cannot be used.
        """
        with other._tables.reading() as connection:
            keys, holds = (
                [dict(row) for row in connection.execute(select(table)).mappings()] for table in (_keys, _holds)
            )
        with self._tables.writing() as connection:
            copied = 0
            for key in keys:
                mine = (_keys.c.subject_ref == key["subject_ref"], _keys.c.generation == key["generation"])
                here = connection.execute(select(_keys.c.wrapped, _keys.c.requested_origin).where(*mine)).first()
                if here is None:
                    connection.execute(insert(_keys).values(key))
                    copied += 1
                elif here.wrapped != key["wrapped"] and here.requested_origin is None:
                    raise ConfigError("registry_url: its database has other keys of the same people")
            for hold in holds:
                connection.execute(self._tables.insert(_holds).values(hold).on_conflict_do_nothing())
        return copied

    def scrub(self) -> None:
        """See `Registry.scrub`."""
        with self._tables.asking():
            database.scrub(self._tables.engine, _keys.name)

    def unfinished(self, subject_ref: str) -> tuple[int, ...]:
        """See `Registry.unfinished`."""
        wanted = select(_keys.c.generation).where(
            _keys.c.subject_ref == subject_ref,
            _keys.c.wrapped.is_(None),
            _keys.c.requested_origin.is_not(None),
            _keys.c.completed_origin.is_(None),
        )
        with self._tables.reading() as connection:
            return tuple(connection.scalars(wanted.order_by(_keys.c.generation)))

    def finish(self, subject_ref: str, generations: Sequence[int], completed: Receipt) -> None:
        """See `Registry.finish`."""
        destroyed = (_keys.c.subject_ref == subject_ref, _keys.c.generation.in_(generations), _keys.c.wrapped.is_(None))
        place = {"completed_origin": completed.origin, "completed_sequence": completed.sequence}
        with self._tables.writing() as connection:
            connection.execute(update(_keys).where(*destroyed).values(place))

    def hold(self, hold: LegalHold) -> None:
        """See `Registry.hold`."""
        until = None if hold.until is None else instant(hold.until)
        row = self._tables.insert(_holds).values(subject_ref=hold.subject_ref, name=hold.name, until=until)
        with self._tables.writing() as connection:
            connection.execute(row.on_conflict_do_update(index_elements=["subject_ref", "name"], set_={"until": until}))

    def release(self, subject_ref: str, name: str) -> bool:
        """See `Registry.release`."""
        with self._tables.writing() as connection:
            gone = connection.execute(delete(_holds).where(_holds.c.subject_ref == subject_ref, _holds.c.name == name))
            return gone.rowcount > 0

    def holds(self, subject_ref: str | None, at: datetime) -> tuple[LegalHold, ...]:
        """See `Registry.holds`."""
        with self._tables.reading() as connection:
            return _holds_in_force(connection, subject_ref, at)

    def _one(self, wanted: Any) -> SubjectKey | None:
        with self._tables.reading() as connection:
            row = connection.execute(wanted).one_or_none()
        return None if row is None else _subject_key(row)


def _begin_counting(connection: Connection, made: set[str]) -> None:
    if _counters.name in made:
        connection.execute(insert(_counters).values(name=_ERASURES, value=0))


def _subject_key(row: Row[Any]) -> SubjectKey:
    if row.wrapped is not None:
        return SubjectKey(row.generation, bytes(row.wrapped))
    if row.requested_origin is None:  # blanked, but not by `destroy`: nothing explains it
        return SubjectKey(row.generation, None)
    requested = Place(row.requested_origin, row.requested_sequence or 0)
    completed = None if row.completed_origin is None else Place(row.completed_origin, row.completed_sequence or 0)
    return SubjectKey(row.generation, None, Tombstone(requested, completed))


def _holds_in_force(connection: Connection, subject_ref: str | None, at: datetime) -> tuple[LegalHold, ...]:
    wanted = select(_holds).where(or_(_holds.c.until.is_(None), _holds.c.until > instant(at)))  # they sort as texts
    if subject_ref is not None:
        wanted = wanted.where(_holds.c.subject_ref == subject_ref)
    rows = connection.execute(wanted.order_by("subject_ref", "name"))
    return tuple(LegalHold(row.subject_ref, row.name, _until(row.until)) for row in rows)


def _until(told: str | None) -> datetime | None:
    return None if told is None else datetime.fromisoformat(told)
