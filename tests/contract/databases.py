"""A database for a contract suite: SQLite in a folder, or a real PostgreSQL; empty, and able to go away."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import inspect, text

from ext_proc import database

if TYPE_CHECKING:
    from tests.contract.postgres import Postgres

_AWAY = "_away"


@dataclass
class Database:
    """Where it is; ``postgres`` is its server, if it has one."""

    url: str
    postgres: Postgres | None = None

    def execute(self, *statements: str) -> None:
        engine = database.open_engine(self.url)
        with engine.begin() as connection:
            for statement in statements:
                connection.execute(text(statement))
        engine.dispose()

    def empty(self) -> None:
        if self.postgres is not None:
            self.execute("DROP SCHEMA public CASCADE", "CREATE SCHEMA public")

    def break_(self) -> None:
        """From now on nobody gets an answer."""
        if self.postgres is not None:
            self.postgres.stop()
            return
        self.execute(*(f"ALTER TABLE {name} RENAME TO {name}{_AWAY}" for name in self._tables()))

    def mend(self) -> None:
        if self.postgres is not None:
            self.postgres.start()
            return
        away = [name for name in self._tables() if name.endswith(_AWAY)]
        self.execute(*(f"ALTER TABLE {name} RENAME TO {name.removesuffix(_AWAY)}" for name in away))

    def _tables(self) -> list[str]:
        engine = database.open_engine(self.url)
        names = inspect(engine).get_table_names()
        engine.dispose()
        return names
