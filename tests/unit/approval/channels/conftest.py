"""A register with an outbox beside it, and a clock that stands still."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from ext_proc.approval.channels.outbox_sql import SqlOutbox
from ext_proc.approval.register_sql import SqlRegister
from ext_proc.database import sqlite_url
from tests.contract.databases import Database
from tests.fakes.asked_holds import Asked, Clock

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@dataclass
class Room:
    asked: Asked
    outbox: SqlOutbox
    clock: Clock
    database: Database


@pytest.fixture
def room(tmp_path: Path) -> Iterator[Room]:
    database = Database(sqlite_url(tmp_path / "registry.sqlite"))
    clock = Clock()
    register, outbox = SqlRegister.from_url(database.url), SqlOutbox.from_url(database.url)
    yield Room(Asked(register, clock), outbox, clock, database)
    register.close()
    outbox.close()
