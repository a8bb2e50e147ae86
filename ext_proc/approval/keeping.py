"""Holds, written to their tables: what differs after a rule was applied, and who must hear of it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import delete, func, insert, select, update

from ext_proc.approval import hold as rules
from ext_proc.approval.rows import (
    as_text,
    changes,
    changing,
    contents,
    holds,
    inbox,
    inbox_rows,
    load,
    new_row,
    parts,
    waiting,
)
from ext_proc.model import HoldState

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from datetime import datetime

    from sqlalchemy import Connection

    from ext_proc.approval.hold import Hold
    from ext_proc.approval.register import Holder
    from ext_proc.database import Tables
    from ext_proc.model import HoldId

    Rule = Callable[[Connection, Hold], Hold]

CHANNEL: Final = "affidavit_holds"
"""Where PostgreSQL tells of changes."""

_CHANGED_AT_ONCE: Final = 100
"""Holds of one transaction, where many change: others wait for it."""


class Keeper:
    """Changes holds in their tables.

    Args:
        tables: theirs.
    """

    def __init__(self, tables: Tables) -> None:
        self._tables = tables

    def change(self, hold_id: HoldId, rule: Rule, now: datetime, holder: Holder | None = None) -> Hold | None:
        """One transaction: the hold, locked, as it stands now, becomes what the rule says. None: no such hold."""
        self._tables.set_up()
        with self._tables.writing() as connection:
            for stored in load(connection, holds.c.hold_id == hold_id, is_locked=True):
                after = rule(connection, rules.at(stored, now))
                self.keep(connection, stored, after, now, holder)
                return after
        return None

    def change_all(self, hold_ids: Iterable[HoldId], rule: Rule, now: datetime) -> int:
        """The same for many, some in each transaction: how many changed."""
        count = 0
        for some in parts(hold_ids, _CHANGED_AT_ONCE):
            with self._tables.writing() as connection:
                for stored in load(connection, holds.c.hold_id.in_(some), is_locked=True):
                    after = rule(connection, rules.at(stored, now))
                    self.keep(connection, stored, after, now)
                    count += after != stored
        return count

    def add(self, connection: Connection, hold: Hold, now: datetime, holder: Holder) -> Hold:
        """Keep a hold that nobody has asked before."""
        if hold.sealed is None:
            raise ValueError("a hold that people are to read has something to read")
        connection.execute(insert(holds).values(new_row(hold)))
        sealed = {"hold_id": hold.hold_id, "sealed": hold.sealed, "sealed_clear": hold.sealed_clear}
        connection.execute(insert(contents).values(sealed))
        hold = replace(hold, sealed=None, sealed_clear=None)
        self._keep_beside(connection, replace(hold, state=HoldState.EXPIRED, waiting=()), hold, now, holder)
        return hold

    def keep(
        self, connection: Connection, before: Hold, after: Hold, now: datetime, holder: Holder | None = None
    ) -> None:
        """Write what differs."""
        _keep_row(connection, before, after, holder)
        self._keep_beside(connection, before, after, now, holder)

    def _keep_beside(
        self, connection: Connection, before: Hold, after: Hold, now: datetime, holder: Holder | None
    ) -> None:
        """Everything but the hold's own row."""
        of_it = after.hold_id
        if after.state is not HoldState.PENDING:
            if before.state is HoldState.PENDING:
                connection.execute(delete(inbox).where(inbox.c.hold_id == of_it))
        elif before.state is not HoldState.PENDING:
            connection.execute(insert(inbox), inbox_rows(after))
        gone = set(before.waiting) - set(after.waiting)
        if gone:
            connection.execute(delete(waiting).where(waiting.c.hold_id == of_it, waiting.c.exchange_id.in_(gone)))
        come = set(after.waiting) - set(before.waiting)
        if come and holder is not None:
            of_them = {"hold_id": of_it, "origin": holder.origin, "since": as_text(now)}
            connection.execute(insert(waiting), [{**of_them, "exchange_id": one} for one in sorted(come)])
        if (after.state, after.resolutions) != (before.state, before.resolutions):
            self._ring(connection)

    def _ring(self, connection: Connection) -> None:
        """Have it heard, once it is durable (`watch`)."""
        if self._tables.is_sqlite:
            one_more = self._tables.insert(changes).values(name="holds", value=1)
            put = {"value": changes.c.value + 1}
            connection.execute(one_more.on_conflict_do_update(index_elements=["name"], set_=put))
        else:
            connection.execute(select(func.pg_notify(CHANNEL, "")))


def _keep_row(connection: Connection, before: Hold, after: Hold, holder: Holder | None) -> None:
    stood = changing(before)
    put: dict[str, Any] = {name: value for name, value in changing(after).items() if stood[name] != value}
    if holder is not None and after.claimed_by not in {None, before.claimed_by}:
        put |= {"claim_origin": holder.origin, "claim_sequence": holder.next_sequence}
    elif before.claimed_by is not None and (after.claimed_by is None or after.state is HoldState.USED):
        put |= {"claim_origin": None, "claim_sequence": None}  # it is known what became of it
    if put:
        connection.execute(update(holds).where(holds.c.hold_id == after.hold_id).values(put))
