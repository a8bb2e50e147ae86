"""`audit.vault.Vault` in memory."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ext_proc.errors import AuditUnavailable

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime


class FakeVault:
    """A dict. ``is_down``: behave as if the database could not be reached."""

    def __init__(self) -> None:
        self.kept: dict[tuple[str, str], tuple[bytes, datetime]] = {}
        self.is_down = False

    def _ask(self) -> None:
        if self.is_down:
            raise AuditUnavailable("token_vault")

    def keep(self, scope: str, rows: Mapping[str, bytes], at: datetime, until: datetime) -> dict[str, bytes]:
        """See `Vault.keep`."""
        self._ask()
        half = at + (until - at) / 2
        for name, sealed in rows.items():
            stood = self.kept.get((scope, name))
            if stood is None or stood[1] <= at:
                self.kept[scope, name] = (sealed, until)
            elif stood[1] <= half:
                self.kept[scope, name] = (stood[0], until)
        return {name: self.kept[scope, name][0] for name in rows}

    def rows(self, scope: str, at: datetime, limit: int) -> dict[str, bytes]:
        """See `Vault.rows`."""
        self._ask()
        found = [(name, *row) for (of, name), row in self.kept.items() if of == scope and row[1] > at]
        found.sort(key=lambda row: row[0])
        found.sort(key=lambda row: row[2], reverse=True)
        return {name: sealed for name, sealed, _ in found[:limit]}

    def sweep(self, at: datetime) -> int:
        """See `Vault.sweep`."""
        self._ask()
        over = [key for key, (_, until) in self.kept.items() if until <= at]
        for key in over:
            del self.kept[key]
        return len(over)
