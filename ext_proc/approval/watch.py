"""How a process notices that holds changed in the database, whoever changed them: one thread waits here.

SQLite tells nobody anything: whether anything was written is looked up every 50 ms (``PRAGMA data_version``, a look at
shared memory), and only then whether it was a hold (a counter). PostgreSQL tells by ``LISTEN``.
"""

from __future__ import annotations

from threading import Event, Lock
from time import monotonic
from typing import TYPE_CHECKING, Any, Final, Protocol

from sqlalchemy.exc import SQLAlchemyError

from ext_proc import database
from ext_proc.approval.keeping import CHANNEL
from ext_proc.approval.rows import changes
from ext_proc.errors import ApprovalUnavailable

if TYPE_CHECKING:
    from pathlib import Path

    from sqlalchemy import Engine, PoolProxiedConnection

POLL_SECONDS: Final = 0.05
_LISTEN_SECONDS: Final = 0.25
"""How soon a thread that listens notices that it is to end."""
_PROBE_SECONDS: Final = 30.0
"""A server that is gone without a word is found out after so long."""


class Watch(Protocol):
    """One thread at a time may wait.

    ``is_polling``: waiting costs something, and nothing is missed by not waiting. If not, someone must always wait.
    """

    is_polling: bool

    def wait(self, seconds: float) -> bool:
        """Until something may have changed since the last call: True; for so long: False.

        Raises:
            ApprovalUnavailable: nothing can be heard at present. What changes until it can counts as changed.
        """
        ...

    def close(self) -> None:
        """Let whoever waits go, and close what is open."""
        ...


def open_watch(url: str, password_file: Path | None = None) -> Watch:
    """The watch over the register at an address (see `database.open_engine`); nothing is opened yet."""
    engine = database.open_engine(url, password_file)
    return SqliteWatch(engine) if engine.dialect.name == "sqlite" else PostgresWatch(engine)


class _Watch:
    """One connection of its own, made anew when it fails."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._connection: PoolProxiedConnection | None = None
        self._is_closing = Event()
        self._lock = Lock()
        self._failures: tuple[type[Exception], ...] = (SQLAlchemyError, engine.dialect.loaded_dbapi.Error)

    def wait(self, seconds: float) -> bool:
        """See `Watch.wait`."""
        with self._lock:
            if self._is_closing.is_set():
                return False
            try:
                if self._connection is None:
                    self._connection = self._engine.raw_connection()
                    self._begin(self._connection)
                    return True  # nobody knows what was missed
                return self._wait(self._connection, monotonic() + seconds)
            except self._failures:
                self._drop()
                raise ApprovalUnavailable("approval_register: changes are not heard") from None

    def close(self) -> None:
        """See `Watch.close`."""
        self._is_closing.set()
        with self._lock:
            self._drop()
            self._engine.dispose()

    def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.invalidate()

    def _begin(self, connection: PoolProxiedConnection) -> None:
        raise NotImplementedError

    def _wait(self, connection: PoolProxiedConnection, deadline: float) -> bool:
        raise NotImplementedError


class SqliteWatch(_Watch):
    """See `Watch`. Writes of this process are other connections' too, so they are noticed alike.

    Args:
        engine: from `database.open_engine`.
    """

    is_polling = True

    def __init__(self, engine: Engine) -> None:
        super().__init__(engine)
        self._version = 0
        self._count = 0

    def _begin(self, connection: PoolProxiedConnection) -> None:
        self._version, self._count = self._look(connection), self._counted(connection)

    def _wait(self, connection: PoolProxiedConnection, deadline: float) -> bool:
        while True:
            version = self._look(connection)
            if version != self._version:
                self._version = version
                count = self._counted(connection)
                if count != self._count:
                    self._count = count
                    return True
            if monotonic() >= deadline or self._is_closing.wait(POLL_SECONDS):
                return False

    @staticmethod
    def _look(connection: PoolProxiedConnection) -> int:
        return int(_scalar(connection, "PRAGMA data_version"))

    @staticmethod
    def _counted(connection: PoolProxiedConnection) -> int:
        if not _scalar(connection, f"SELECT count(*) FROM sqlite_master WHERE name = '{changes.name}'"):  # noqa: S608
            return 0
        return int(_scalar(connection, f"SELECT coalesce(sum(value), 0) FROM {changes.name}"))  # noqa: S608


class PostgresWatch(_Watch):
    """See `Watch`.

    Args:
        engine: from `database.open_engine`.
    """

    is_polling = False

    def __init__(self, engine: Engine) -> None:
        super().__init__(engine)
        self._heard_at = 0.0

    def _begin(self, connection: PoolProxiedConnection) -> None:
        connection.driver_connection.autocommit = True  # type: ignore[union-attr] # psycopg's
        _scalar(connection, f"LISTEN {CHANNEL}")
        self._heard_at = monotonic()

    def _wait(self, connection: PoolProxiedConnection, deadline: float) -> bool:
        listener: Any = connection.driver_connection
        while not self._is_closing.is_set():
            now = monotonic()
            if now - self._heard_at > _PROBE_SECONDS:
                _scalar(connection, "SELECT 1")
                self._heard_at = now
            rung = list(listener.notifies(timeout=max(0.0, min(_LISTEN_SECONDS, deadline - now)), stop_after=1))
            if rung:
                self._heard_at = monotonic()
                return True
            if monotonic() >= deadline:
                return False
        return False


def _scalar(connection: PoolProxiedConnection, statement: str) -> Any:
    cursor = connection.cursor()
    try:
        cursor.execute(statement)
        row = cursor.fetchone() if cursor.description else None
        return row[0] if row else None
    finally:
        cursor.close()
