"""The way to the registry's database: SQLite embedded, PostgreSQL where several hosts share one registry.

The registry of keys, the vault of tokens and the register of holds keep their tables there, side by side (`Tables`).
Secrets are named by file: a URL with a password in it is refused.
"""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from random import uniform
from threading import Lock
from time import monotonic, sleep
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import URL, create_engine, event, func, inspect, make_url, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import ArgumentError, NoSuchModuleError, OperationalError, SQLAlchemyError

from ext_proc.errors import AuditUnavailable, ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sqlalchemy import Connection, Engine, MetaData, Table

    from ext_proc.errors import DependencyError, GateError

BUSY_SECONDS: Final = 10
"""How long one process waits for another's turn in SQLite."""

WRITES: Final = "affidavit_writes"
"""Execution option of a transaction that will write: SQLite then takes its lock at once, not half way through."""

_TURN_SECONDS: Final = 30
"""How long one thread waits for the others of its process: a thousand of them, on a slow disk."""

_POLL_SECONDS: Final = (0.001, 0.004)
_SERVER_SECONDS: Final = 5
_SCRUB_LOCK_SECONDS: Final = 30

_turns: Final[dict[str, Lock]] = {}
_turns_lock: Final = Lock()


class Tables:
    """Tables of one room in a database, and the way to them. Safe from several threads.

    Args:
        engine: from `open_engine`.
        metadata: the tables. None is made before `set_up`.
        lock: a number of theirs: of several processes that find no tables, one makes them and the others wait.
        name: what an error's detail says of them.
        unavailable: what is raised, everywhere here, when the database cannot be used.
    """

    def __init__(
        self, engine: Engine, metadata: MetaData, lock: int, name: str, unavailable: type[DependencyError]
    ) -> None:
        self.engine = engine
        self.is_sqlite = engine.dialect.name == "sqlite"
        self._metadata = metadata
        self._set_up_lock = lock
        self._name = name
        self._unavailable = unavailable
        self._lock = Lock()
        self._is_set_up = False
        self._turn = _turn_at(engine) if self.is_sqlite else None

    def close(self) -> None:
        """Close the connections."""
        self.engine.dispose()

    @contextmanager
    def asking(self) -> Iterator[None]:
        """Tell whatever the database, or what it was given, is to blame for as one error."""
        try:
            yield
        except (SQLAlchemyError, UnicodeError):
            raise self._unavailable(self._name) from None

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A connection to look something up."""
        with self.asking(), self.engine.connect() as connection:
            yield connection

    @contextmanager
    def writing(self) -> Iterator[Connection]:
        """One transaction: durable when it is left, and undone if it is left by an error."""
        with (
            self._in_turn(),
            self.asking(),
            self.engine.connect().execution_options(**{WRITES: True}) as connection,
            connection.begin(),
        ):
            yield connection

    @contextmanager
    def _in_turn(self) -> Iterator[None]:
        if self._turn is None:
            yield
            return
        if not self._turn.acquire(timeout=_TURN_SECONDS):
            raise self._unavailable(f"{self._name}: too many wait to write")
        try:
            yield
        finally:
            self._turn.release()

    def insert(self, table: Table) -> Any:
        """An insertion that may say ``on_conflict``."""
        return (sqlite.insert if self.is_sqlite else postgresql.insert)(table)

    def alone(self, connection: Connection, number: int) -> None:
        """Until the transaction ends, nobody else is here with this number. In SQLite, who writes is alone anyway."""
        if not self.is_sqlite:
            connection.execute(select(func.pg_advisory_xact_lock(number)))

    def is_set_up(self) -> bool:
        """Is there a table to read? Nothing is made."""
        if self._is_set_up:
            return True
        with self.reading() as connection:
            return not self._missing(connection)

    def set_up(
        self, misfit: type[GateError] | None = None, fill: Callable[[Connection, set[str]], None] | None = None
    ) -> None:
        """Make what is missing; once a process.

        Args:
            misfit: what to raise for tables of another version; without it, what is raised for everything else.
            fill: is told, within the transaction, the names of the tables that were made.
        """
        with self._lock:
            if self._is_set_up:
                return
            if not self.is_set_up():
                self._make(fill)
            with self.reading() as connection:
                stand = inspect(connection).get_multi_columns(filter_names=list(self._metadata.tables))
            found = {name: {column["name"] for column in columns} for (_, name), columns in stand.items()}
            for table in self._metadata.tables.values():
                if found.get(table.name) != set(table.columns.keys()):
                    said = f"{self._name}: its table {table.name} was made by another version of affidavit"
                    raise (misfit or self._unavailable)(said)
            self._is_set_up = True

    def _make(self, fill: Callable[[Connection, set[str]], None] | None) -> None:
        with self.writing() as connection:
            self.alone(connection, self._set_up_lock)
            missing = self._missing(connection)
            self._metadata.create_all(connection, tables=missing, checkfirst=False)
            if fill is not None:
                fill(connection, {table.name for table in missing})

    def _missing(self, connection: Connection) -> list[Table]:
        there = set(inspect(connection).get_table_names())
        return [table for table in self._metadata.tables.values() if table.name not in there]


def sqlite_url(path: Path) -> str:
    """The URL of a database file."""
    return URL.create("sqlite", database=str(path.absolute())).render_as_string()


def open_engine(url: str, password_file: Path | None = None) -> Engine:
    """Connections to the database at ``url``; none is made yet.

    Args:
        url: `sqlite:////folder/file` or `postgresql://user@host/database?sslmode=verify-full`.
        password_file: of the PostgreSQL user, if there is a password.

    Raises:
        ConfigError: not such a URL, or the driver is not installed.
    """
    try:
        parsed = make_url(url)
        kind = parsed.get_backend_name()
    except (ArgumentError, NoSuchModuleError):
        raise ConfigError("registry: not a database URL; write sqlite:////folder/file or postgresql://…") from None
    if kind == "sqlite":
        return _sqlite(parsed)
    if kind == "postgresql":
        return _postgresql(parsed, password_file)
    raise ConfigError(f"registry: {kind} is not supported; write sqlite:////folder/file or postgresql://…")


def _sqlite(url: URL) -> Engine:
    if url.query or not url.database or url.database == ":memory:":
        raise ConfigError("registry: name a file, as in sqlite:////folder/file (the keys must outlive the process)")
    path = Path(url.database)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _make_private(path)
    except OSError as error:
        raise ConfigError(f"registry {path}: {error.strerror}") from None
    engine = create_engine(url.set(drivername="sqlite+pysqlite"), connect_args={"timeout": BUSY_SECONDS})
    event.listen(engine, "connect", _set_up_sqlite)
    event.listen(engine, "begin", _begin_sqlite)
    return engine


def _make_private(path: Path) -> None:
    """Make the file before SQLite would make it readable by others.

    One that is there is never opened here: closing any descriptor of a file ends every lock that this process has on it
    (POSIX), SQLite's too, and the next process to leave would believe that it is the last one and remove the log.
    """
    with suppress(FileExistsError):
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
    path.chmod(0o600)


def _set_up_sqlite(connection: Any, _: Any) -> None:
    connection.isolation_level = None  # the driver begins nothing by itself
    with closing(connection.cursor()) as cursor:
        _patiently(cursor, "PRAGMA journal_mode=WAL")  # several may open a new file at once
        cursor.execute("PRAGMA synchronous=FULL")  # a leaf may name the key as soon as it is inserted
        cursor.execute("PRAGMA secure_delete=ON")  # what is freed is overwritten with zeros


def _patiently(cursor: Any, statement: str) -> None:
    """Execute it; ask again while others are busy. SQLite itself does not wait for some, and for the rest looks every
    100 ms in the end, while a turn lasts milliseconds and the next one may come between any two looks.
    """
    deadline = monotonic() + BUSY_SECONDS
    while True:
        try:
            cursor.execute(statement)
        except sqlite3.OperationalError as error:
            if monotonic() >= deadline or error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY:
                raise
            sleep(uniform(*_POLL_SECONDS))  # noqa: S311 (so that two do not stay in step)
        else:
            return


def _turn_at(engine: Engine) -> Lock:
    """Whoever of this process writes to a file takes turns here: SQLite lets those starve that wait for its lock."""
    with _turns_lock:
        return _turns.setdefault(engine.url.database or "", Lock())


def _begin_sqlite(connection: Connection) -> None:
    if not connection.get_execution_options().get(WRITES, False):
        connection.exec_driver_sql("BEGIN")
        return
    connection.exec_driver_sql("PRAGMA busy_timeout = 0")
    try:
        with closing(connection.connection.cursor()) as cursor:
            _patiently(cursor, "BEGIN IMMEDIATE")
    except sqlite3.OperationalError as error:
        raise OperationalError("BEGIN IMMEDIATE", None, error) from None
    finally:
        connection.exec_driver_sql(f"PRAGMA busy_timeout = {int(BUSY_SECONDS * 1000)}")


def _postgresql(url: URL, password_file: Path | None) -> Engine:
    if url.password is not None:
        raise ConfigError("registry: no password in the URL; name a file of it (registry_password_file)")
    if password_file is not None:
        try:
            url = url.set(password=password_file.read_text().strip())
        except (OSError, UnicodeDecodeError):
            raise ConfigError(f"registry: password file {password_file} cannot be read") from None
    milliseconds = _SERVER_SECONDS * 1000
    # A commit that was answered must outlive the server, whatever its default is: a leaf may name the key as soon as it
    # is inserted, and an approval that was used must stay so.
    settings = {"statement_timeout": milliseconds, "lock_timeout": milliseconds, "synchronous_commit": "on"}
    bounds = {
        "connect_timeout": _SERVER_SECONDS,
        "tcp_user_timeout": milliseconds,
        "options": " ".join(f"-c {name}={value}" for name, value in settings.items()),
    }
    try:
        return create_engine(
            url.set(drivername="postgresql+psycopg"), pool_pre_ping=True, pool_size=2, connect_args=bounds
        )
    except ImportError:
        raise ConfigError(
            "registry: PostgreSQL needs its driver; install it with: pip install 'affidavit[postgres]'"
        ) from None


def scrub(engine: Engine, table: str) -> None:
    """Leave no old row of ``table`` in the database's files. Takes the table for itself for as long as it rewrites it.

    SQLite: no page and no write-ahead log keeps it. PostgreSQL: the table's file is written anew, without rows that no
    transaction can see any more; its write-ahead log, archives, standbys and backups are not ours to clean, nor is a
    row that a still open older transaction (a running ``pg_dump``) can see.

    Raises:
        AuditUnavailable: others are reading; nothing is lost by trying again.
    """
    if engine.dialect.name == "sqlite":
        _scrub_sqlite(engine)
        return
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.detach()  # these settings go with it
        connection.exec_driver_sql("SET statement_timeout = 0")
        connection.exec_driver_sql(f"SET lock_timeout = '{_SCRUB_LOCK_SECONDS}s'")
        connection.exec_driver_sql(f"VACUUM (FULL) {table}")


def _scrub_sqlite(engine: Engine) -> None:
    try:
        with closing(engine.raw_connection()) as connection, closing(connection.cursor()) as cursor:
            cursor.execute("VACUUM")  # whatever another program, without secure_delete, left in the pages goes too
            cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            busy = cursor.fetchone()
    except sqlite3.Error:
        raise AuditUnavailable("key_registry: it cannot be written anew now") from None
    if busy is None or busy[0]:
        raise AuditUnavailable("key_registry: others are reading it")
