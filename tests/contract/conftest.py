"""One PostgreSQL for all contract suites; each test gets it empty, or a SQLite of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from ext_proc.database import sqlite_url
from tests.contract.databases import Database
from tests.contract.postgres import Postgres, running_postgres

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    with running_postgres() as server:
        yield server


@pytest.fixture
def open_database(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[str], Database]:
    """``sqlite`` or ``postgresql``."""

    def opened(kind: str) -> Database:
        if kind == "sqlite":
            return Database(sqlite_url(tmp_path / "registry.sqlite"))
        server = request.getfixturevalue("postgres")
        found = Database(server.url, server)
        found.empty()
        return found

    return opened
