"""The vault in SQLite or PostgreSQL: one table beside those of the registry of keys."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from sqlalchemy import Column, Index, LargeBinary, MetaData, String, Table, case, delete, select

from ext_proc import database
from ext_proc.audit.record import instant
from ext_proc.errors import AuditUnavailable

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from datetime import datetime
    from pathlib import Path

    from sqlalchemy import Connection, Engine

_metadata = MetaData()

_tokens = Table(
    "tokens",
    _metadata,
    Column("scope", String(96), primary_key=True),
    Column("name", String(96), primary_key=True),
    Column("sealed", LargeBinary, nullable=False),
    Column("until", String(32), nullable=False),  # instants sort as texts
    Index("tokens_until", "until"),
)

_SET_UP_LOCK: Final = 0x746F6B656E73
_AT_ONCE: Final = 200
"""Rows of one statement: SQLite may take 999 values, a row has four."""


class SqlVault:
    """`Vault` in SQLite or PostgreSQL. The table is made when a token is first asked for.

    Args:
        engine: from `database.open_engine`.
    """

    def __init__(self, engine: Engine) -> None:
        self._tables = database.Tables(engine, _metadata, _SET_UP_LOCK, "token_vault", AuditUnavailable)

    @classmethod
    def from_url(cls, url: str, password_file: Path | None = None) -> SqlVault:
        """The vault at an address (see `database.open_engine`); nothing is opened yet."""
        return cls(database.open_engine(url, password_file))

    def close(self) -> None:
        """Close the connections."""
        self._tables.close()

    def keep(self, scope: str, rows: Mapping[str, bytes], at: datetime, until: datetime) -> dict[str, bytes]:
        """See `Vault.keep`."""
        self._tables.set_up()
        now, end, half = instant(at), instant(until), instant(at + (until - at) / 2)
        with self._tables.reading() as connection:
            standing = _standing(connection, scope, rows, half)
        late = sorted(rows.keys() - standing.keys())  # in order: two that write the same rows wait, and do not lock up
        if not late:
            return standing
        with self._tables.writing() as connection:
            for names in _parts(late):
                values = [{"scope": scope, "name": name, "sealed": rows[name], "until": end} for name in names]
                row = self._tables.insert(_tokens).values(values)
                is_over, is_longer = _tokens.c.until <= now, _tokens.c.until < row.excluded.until
                put = {
                    "sealed": case((is_over, row.excluded.sealed), else_=_tokens.c.sealed),
                    "until": case((is_longer, row.excluded.until), else_=_tokens.c.until),
                }
                connection.execute(row.on_conflict_do_update(index_elements=["scope", "name"], set_=put))
            return standing | _standing(connection, scope, late, now)

    def rows(self, scope: str, at: datetime, limit: int) -> dict[str, bytes]:
        """See `Vault.rows`."""
        self._tables.set_up()
        wanted = select(_tokens.c.name, _tokens.c.sealed).where(_tokens.c.scope == scope, _tokens.c.until > instant(at))
        with self._tables.reading() as connection:
            found = connection.execute(wanted.order_by(_tokens.c.until.desc(), _tokens.c.name).limit(limit))
            return {row.name: bytes(row.sealed) for row in found}

    def sweep(self, at: datetime) -> int:
        """See `Vault.sweep`. Where there is no table yet, none is made."""
        if not self._tables.is_set_up():
            return 0
        with self._tables.writing() as connection:
            return connection.execute(delete(_tokens).where(_tokens.c.until <= instant(at))).rowcount


def _standing(connection: Connection, scope: str, names: Iterable[str], after: str) -> dict[str, bytes]:
    """What those of the names stand for that last beyond ``after``."""
    found: dict[str, bytes] = {}
    for some in _parts(sorted(names)):
        wanted = select(_tokens.c.name, _tokens.c.sealed)
        wanted = wanted.where(_tokens.c.scope == scope, _tokens.c.name.in_(some), _tokens.c.until > after)
        found |= {row.name: bytes(row.sealed) for row in connection.execute(wanted)}
    return found


def _parts(names: list[str]) -> Iterator[list[str]]:
    for begin in range(0, len(names), _AT_ONCE):
        yield names[begin : begin + _AT_ONCE]
