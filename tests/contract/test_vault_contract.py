"""One suite for `audit.vault.Vault`: the fake, SQLite, and a real PostgreSQL."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from ext_proc import database
from ext_proc.audit.registry_sql import SqlRegistry
from ext_proc.audit.vault_sql import SqlVault
from ext_proc.errors import AuditUnavailable
from tests.fakes.vault import FakeVault

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from ext_proc.audit.vault import Vault
    from tests.contract.databases import Database

NOW = datetime(2026, 11, 25, 12, tzinfo=UTC)
DAY = timedelta(days=1)
A, B = "hmac-sha256:" + "aa" * 32, "hmac-sha256:" + "bb" * 32


@dataclass
class Setting:
    vault: Vault
    database: Database | None = None

    @property
    def there(self) -> Database:
        assert self.database is not None
        return self.database

    def break_(self) -> None:
        if isinstance(self.vault, FakeVault):
            self.vault.is_down = True
        else:
            self.there.break_()

    def mend(self) -> None:
        if isinstance(self.vault, FakeVault):
            self.vault.is_down = False
        else:
            self.there.mend()


@pytest.fixture(params=["fake", "sqlite", "postgresql"])
def here(request: Any, open_database: Callable[[str], Database]) -> Iterator[Setting]:
    if request.param == "fake":
        yield Setting(FakeVault())
        return
    found = open_database(request.param)
    vault = SqlVault.from_url(found.url)
    yield Setting(vault, found)
    vault.close()


def test_the_first_of_a_name_wins(here: Setting) -> None:
    vault = here.vault
    assert vault.keep(A, {"EMAIL_X": b"one"}, NOW, NOW + DAY) == {"EMAIL_X": b"one"}
    kept = vault.keep(A, {"EMAIL_X": b"two", "EMAIL_Y": b"three"}, NOW, NOW + DAY)
    assert kept == {"EMAIL_X": b"one", "EMAIL_Y": b"three"}
    assert vault.keep(B, {"EMAIL_X": b"four"}, NOW, NOW + DAY) == {"EMAIL_X": b"four"}
    assert vault.rows(A, NOW, 9) == kept
    assert vault.rows(B, NOW, 9) == {"EMAIL_X": b"four"}
    assert vault.rows("nobody", NOW, 9) == {}


def test_what_is_over_stands_for_nothing(here: Setting) -> None:
    vault = here.vault
    vault.keep(A, {"EMAIL_X": b"one"}, NOW, NOW + DAY)
    assert vault.rows(A, NOW + DAY - timedelta(microseconds=1), 9) == {"EMAIL_X": b"one"}
    assert vault.rows(A, NOW + DAY, 9) == {}
    assert vault.keep(A, {"EMAIL_X": b"two"}, NOW + DAY, NOW + 2 * DAY) == {"EMAIL_X": b"two"}
    assert vault.rows(A, NOW + DAY, 9) == {"EMAIL_X": b"two"}


def test_what_is_used_again_lasts_longer(here: Setting) -> None:
    vault = here.vault
    vault.keep(A, {"EMAIL_X": b"one"}, NOW, NOW + DAY)
    early, late = NOW + DAY / 4, NOW + 3 * DAY / 4
    vault.keep(A, {"EMAIL_X": b"two"}, early, early + DAY)  # more than half of its time is left: nothing is written
    assert vault.rows(A, NOW + DAY, 9) == {}
    assert vault.keep(A, {"EMAIL_X": b"three"}, late, late + DAY) == {"EMAIL_X": b"one"}
    assert vault.rows(A, NOW + DAY, 9) == {"EMAIL_X": b"one"}
    assert vault.rows(A, late + DAY, 9) == {}


def test_the_last_used_come_first(here: Setting) -> None:
    vault = here.vault
    for number in range(5):
        begin = NOW + timedelta(minutes=number)
        vault.keep(A, {f"EMAIL_{number}": b"%d" % number}, begin, begin + DAY)
    assert list(vault.rows(A, NOW, 3)) == ["EMAIL_4", "EMAIL_3", "EMAIL_2"]


def test_many_rows_at_once(here: Setting) -> None:
    rows = {f"PHONE_{number:04}": os.urandom(40) for number in range(1234)}
    assert here.vault.keep(A, rows, NOW, NOW + DAY) == rows
    assert here.vault.rows(A, NOW, 5000) == rows
    assert here.vault.keep(A, dict.fromkeys(rows, b"other"), NOW, NOW + DAY) == rows


def test_sweeping_forgets_what_is_over(here: Setting) -> None:
    vault = here.vault
    vault.keep(A, {"EMAIL_X": b"one", "EMAIL_Y": b"two"}, NOW, NOW + DAY)
    vault.keep(B, {"EMAIL_Z": b"three"}, NOW, NOW + 2 * DAY)
    assert vault.sweep(NOW) == 0
    assert vault.sweep(NOW + DAY) == 2
    assert vault.rows(A, NOW, 9) == {} and vault.rows(B, NOW, 9) == {"EMAIL_Z": b"three"}


def test_out_of_reach_and_back(here: Setting) -> None:
    vault = here.vault
    vault.keep(A, {"EMAIL_X": b"one"}, NOW, NOW + DAY)
    here.break_()
    try:
        asks: tuple[Any, ...] = (
            lambda: vault.keep(A, {"EMAIL_Y": b"two"}, NOW, NOW + DAY),
            lambda: vault.rows(A, NOW, 9),
            lambda: vault.sweep(NOW),
        )
        for ask in asks:
            with pytest.raises(AuditUnavailable, match="token_vault"):
                ask()
    finally:
        here.mend()
    assert vault.rows(A, NOW, 9) == {"EMAIL_X": b"one"}


@pytest.mark.parametrize("here", ["sqlite", "postgresql"], indirect=True)
def test_many_threads_and_processes_agree(here: Setting) -> None:
    """Each opens the vault for itself (there is no table yet) and keeps the same names, in another order."""
    vaults = [SqlVault.from_url(here.there.url) for _ in range(4)]
    names = [f"EMAIL_{number}" for number in range(30)]

    def live(number: int) -> dict[str, bytes]:
        order = names[number:] + names[:number]
        found: dict[str, bytes] = {}
        for some in (order[:20], order[10:], order):
            found |= vaults[number].keep(A, dict.fromkeys(some, b"%d" % number), NOW, NOW + DAY)
        return found

    with ThreadPoolExecutor(4) as pool:
        first, *others = pool.map(live, range(4))
    assert sorted(first) == sorted(names)
    assert all(other == first for other in others)
    for vault in vaults:
        vault.close()


@pytest.mark.parametrize("here", ["sqlite", "postgresql"], indirect=True)
def test_the_table_stands_beside_the_registrys(here: Setting) -> None:
    """Whoever comes first: the registry minds no table that is not its own, and no table is made to be swept."""
    assert here.vault.sweep(NOW) == 0
    with pytest.raises(Exception, match="tokens"):
        here.there.execute("SELECT * FROM tokens")
    registry = SqlRegistry.from_url(here.there.url)
    here.vault.keep(A, {"EMAIL_X": b"one"}, NOW, NOW + DAY)
    again = SqlRegistry.from_url(here.there.url)
    registry.add("a", 1, b"wrapped")
    assert again.newest("a") is not None
    for one in (registry, again):
        one.close()


@pytest.mark.parametrize("here", ["sqlite", "postgresql"], indirect=True)
def test_another_versions_table_is_told_apart(here: Setting) -> None:
    here.there.execute("CREATE TABLE tokens (scope TEXT, name TEXT)")
    with pytest.raises(AuditUnavailable, match="another version"):
        here.vault.rows(A, NOW, 9)


def test_sqlite_overwrites_what_is_swept(tmp_path: Path) -> None:
    vault = SqlVault.from_url(database.sqlite_url(tmp_path / "registry.sqlite"))
    rows = {f"EMAIL_{number}": os.urandom(60) for number in range(200)}
    vault.keep(A, rows, NOW, NOW + DAY)
    vault.keep(B, {"EMAIL_X": b"stays" * 12}, NOW, NOW + 2 * DAY)
    vault.sweep(NOW + DAY)
    vault.close()
    everything = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert b"stays" * 12 in everything
    assert not any(sealed in everything for sealed in rows.values())
