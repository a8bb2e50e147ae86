"""``affidavit query``: SQL over the leaves, by DuckDB, on this machine.

The objects that are queried are the ones that are proved: each row names its log and its place there. The SQL is the
user's own and reads only: no statement but SELECT, and after loading the engine can reach neither files nor network.
"""

from __future__ import annotations

import json
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Final

from ext_proc.evidence.cache import cached
from ext_proc.evidence.events import objects, window
from ext_proc.evidence.tables import EXCHANGES, INSERT, LEAVES, TOOL_CALLS
from ext_proc.evidence.versions import EvidenceError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from ext_proc.evidence.versions import VersionedStore

MEMORY_LIMIT: Final = "1GB"
_FILES_AT_ONCE: Final = 256


@dataclass(frozen=True, slots=True)
class Answered:
    """What the query gave: names of the columns, and the rows as they come. Take them before `query` ends."""

    columns: tuple[str, ...]
    rows: Iterator[tuple[Any, ...]]


def query(  # noqa: PLR0913 - as on the command line
    store: VersionedStore,
    sql: str,
    cache: Path,
    take: Callable[[Answered], None],
    progress: Callable[[int], None],
    *,
    since: datetime | None = None,
    until: datetime | None = None,
    memory_limit: str = MEMORY_LIMIT,
) -> None:
    """Load the leaves of a span of time, run ``sql``, and hand the answer to ``take``.

    Args:
        store: the bucket.
        sql: one SELECT over ``leaves``, ``exchanges`` and ``tool_calls``.
        cache: a folder that keeps objects for the next time.
        take: is given the answer.
        progress: is told how many objects are there.
        since: nothing older is loaded.
        until: nothing newer is loaded.
        memory_limit: of the engine; what does not fit goes to a temporary folder in ``cache``.

    Raises:
        EvidenceError: the SQL is not one SELECT or does not run, or the store or the cache cannot be used.
    """
    try:
        import duckdb
    except ImportError:
        raise EvidenceError("DuckDB is not installed: pip install 'affidavit[query]'") from None
    _check(duckdb, sql)
    after, is_before = window(since, until)
    found = (one for one in objects(store, after) if is_before(one[0]))
    unwritten: OSError | None = None
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(prefix="query-", dir=cache) as folder:
            settings: dict[str, Any] = {
                "memory_limit": memory_limit,
                "temp_directory": f"{folder}/spill",
                "autoinstall_known_extensions": False,
                "autoload_known_extensions": False,
            }
            with closing(duckdb.connect(f"{folder}/leaves.duckdb", config=settings)) as engine:
                _load(engine, cached(store, found, cache, progress), str(cache), since, until)
                engine.execute("SET enable_external_access = false")
                engine.execute("SET lock_configuration = true")
                engine.execute(sql)
                answered = Answered(tuple(one[0] for one in engine.description or ()), _rows(engine))
                try:
                    take(answered)
                except OSError as error:  # of where the rows go: no fault of the cache
                    unwritten = error
    except duckdb.CatalogException as error:
        raise EvidenceError(f"the query does not run: {error}\ntables: leaves, exchanges, tool_calls") from None
    except duckdb.Error as error:
        raise EvidenceError(f"the query does not run: {error}") from None
    except OSError as error:
        raise EvidenceError(f"{error.filename or cache}: {error.strerror}") from None
    if unwritten is not None:
        raise unwritten


def _check(duckdb: Any, sql: str) -> None:
    """One statement that reads."""
    try:
        statements = duckdb.extract_statements(sql)
    except duckdb.Error as error:
        raise EvidenceError(f"the query cannot be read: {error}") from None
    reading = (duckdb.StatementType.SELECT, duckdb.StatementType.EXPLAIN)
    if len(statements) != 1 or statements[0].type not in reading:
        raise EvidenceError("the query must be one SELECT: the evidence is only read")


def _load(engine: Any, files: Iterator[Path], cache: str, since: datetime | None, until: datetime | None) -> None:
    engine.execute("SET TimeZone = 'UTC'")
    engine.execute(LEAVES)
    batch: list[str] = []
    for path in files:
        batch.append(str(path))
        if len(batch) == _FILES_AT_ONCE:
            _insert(engine, batch, cache, since, until)
            batch = []
    if batch:
        _insert(engine, batch, cache, since, until)
    engine.execute(EXCHANGES)
    engine.execute(TOOL_CALLS)


def _insert(engine: Any, files: Sequence[str], cache: str, since: datetime | None, until: datetime | None) -> None:
    engine.execute(INSERT, [len(cache.rstrip("/")) + 2, list(files), since, since, until, until])


def _rows(engine: Any) -> Iterator[tuple[Any, ...]]:
    while rows := engine.fetchmany(1000):
        yield from rows


def plain(value: Any) -> Any:
    """A value of the engine as JSON has it."""
    if isinstance(value, datetime):
        told = value.astimezone(UTC) if value.tzinfo else value
        return told.isoformat(timespec="microseconds").replace("+00:00", "Z")
    if isinstance(value, dict):
        return {str(key): plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [plain(inner) for inner in value]
    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() else float(value)
    if isinstance(value, bytes):
        return value.hex()
    return value if value is None or isinstance(value, str | int | float | bool) else str(value)


def json_line(answered: Answered, row: tuple[Any, ...]) -> str:
    """A row as one line of JSON."""
    return json.dumps(dict(zip(answered.columns, map(plain, row), strict=True)))


def cell(value: Any) -> str:
    """A value as a table or CSV shows it."""
    told = plain(value)
    if told is None:
        return ""
    return told if isinstance(told, str) else json.dumps(told, ensure_ascii=False)
