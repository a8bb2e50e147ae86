"""The register in SQLite or PostgreSQL. The rules are those of `hold`; here they are applied, one at a time.

A change is one transaction: the hold's row is locked, read, changed by a rule, and what differs is written. PostgreSQL
locks rows; in SQLite whoever writes is alone. Two that ask the same at once are kept apart by a lock on the binding,
those that add a pending hold by one more, taken last, so that the limits are exact and nobody locks up.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import delete, func, insert, select, tuple_, update

from ext_proc import database
from ext_proc.approval import hold as rules
from ext_proc.approval.keeping import Keeper
from ext_proc.approval.register import Limits
from ext_proc.approval.rows import (
    IS_CURRENT,
    IS_OPEN,
    IS_PENDING,
    OF_HOLDS,
    as_json,
    as_text,
    holds,
    inbox,
    load,
    metadata,
    parts,
    spoken,
    state_of,
    waiting,
    workers,
)
from ext_proc.errors import ApprovalUnavailable, TooManyHolds
from ext_proc.model import ExchangeId, HoldState

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from sqlalchemy import ColumnElement, Connection, Engine

    from ext_proc.approval.hold import Hold
    from ext_proc.approval.register import Holder
    from ext_proc.model import HoldEnding, HoldId, Resolution

_SET_UP_LOCK: Final = 0x686F6C6473
_PENDING_LOCK: Final = 0x70656E64
_BEAT_AFTER: Final = timedelta(seconds=1)
_EXPIRED_AT_ONCE: Final = 1000
_USUAL: Final = Limits()


class SqlRegister:
    """`Register` in SQLite or PostgreSQL. The tables are made when somebody is first asked.

    Args:
        engine: from `database.open_engine`.
        limits: how many holds may be pending.
    """

    def __init__(self, engine: Engine, limits: Limits = _USUAL) -> None:
        self._tables = database.Tables(engine, metadata, _SET_UP_LOCK, "approval_register", ApprovalUnavailable)
        self._keeper = Keeper(self._tables)
        self._limits = limits

    @classmethod
    def from_url(cls, url: str, password_file: Path | None = None, limits: Limits = _USUAL) -> SqlRegister:
        """The register at an address (see `database.open_engine`); nothing is opened yet."""
        return cls(database.open_engine(url, password_file), limits)

    def close(self) -> None:
        """Close the connections."""
        self._tables.close()

    # Of one hold ---------------------------------------------------------------------------------------------------

    def ask(self, hold: Hold, exchange_id: ExchangeId, holder: Holder, now: datetime) -> Hold:
        """See `Register.ask`."""
        self._tables.set_up()
        of_binding = holds.c.binding_sha256 == hold.binding_sha256
        with self._tables.writing() as connection:
            self._tables.alone(connection, int.from_bytes(bytes.fromhex(hold.binding_sha256)[:8], signed=True))
            _greet(connection, self._tables, holder.origin, now)
            for stored in load(connection, of_binding, IS_CURRENT, is_locked=True):
                found = rules.at(stored, now)
                if rules.is_found_again(found, now):
                    after = rules.claimed(rules.joined(found, exchange_id), exchange_id)
                    self._keeper.keep(connection, stored, after, now, holder)
                    return after
                self._keeper.keep(connection, stored, found, now)
                connection.execute(update(holds).where(holds.c.hold_id == found.hold_id).values(is_current=False))
            self._admit(connection, hold.caller_ref, now)
            return self._keeper.add(connection, rules.joined(hold, exchange_id), now, holder)

    def claim(self, hold_id: HoldId, exchange_id: ExchangeId, holder: Holder, now: datetime) -> Hold | None:
        """See `Register.claim`."""
        return self._keeper.change(hold_id, lambda _, hold: rules.claimed(hold, exchange_id), now, holder)

    def ended(self, hold_id: HoldId, exchange_id: ExchangeId, ending: HoldEnding, now: datetime) -> None:
        """See `Register.ended`."""
        self._keeper.change(hold_id, lambda _, hold: rules.ended(hold, exchange_id, ending), now)

    def ended_anywhere(self, exchange_id: ExchangeId, ending: HoldEnding, now: datetime) -> int:
        """See `Register.ended_anywhere`. A claim that is not waited with any more (`abandoned`) is found too."""
        self._tables.set_up()
        waits = select(waiting.c.hold_id).where(waiting.c.exchange_id == exchange_id)
        claims = select(holds.c.hold_id).where(holds.c.claimed_by == exchange_id)
        with self._tables.reading() as connection:
            ids = connection.scalars(waits.union(claims)).all()
        return self._keeper.change_all(ids, lambda _, hold: rules.ended(hold, exchange_id, ending), now)

    def resolve(self, hold_id: HoldId, resolution: Resolution, sealed: bytes, now: datetime) -> Hold | None:
        """See `Register.resolve`."""
        is_counted = False

        def speak(connection: Connection, hold: Hold) -> Hold:
            nonlocal is_counted
            is_counted = rules.counts(hold, resolution)
            if not is_counted:
                return hold
            row = {
                "hold_id": hold_id,
                "person_ref": resolution.person_ref,
                "number": len(hold.resolutions),
                "is_yes": resolution.is_yes,
                "at": as_text(resolution.at),
                "origin": resolution.origin,
                "sequence": resolution.sequence,
                "sealed": sealed,
            }
            connection.execute(insert(spoken).values(row))
            return rules.resolved(hold, resolution)

        after = self._keeper.change(hold_id, speak, now)
        return after if is_counted else None

    def _admit(self, connection: Connection, caller_ref: str, now: datetime) -> None:
        """May one more be kept?"""
        self._tables.alone(connection, _PENDING_LOCK)
        of_them = holds.c.caller_ref == caller_ref
        if _count(connection, now, IS_OPEN, of_them) >= self._limits.pending_max_per_caller:
            raise TooManyHolds("of this caller")
        if _count(connection, now, IS_OPEN) >= self._limits.pending_max:
            raise TooManyHolds("of all")
        kept = connection.scalar(select(func.count()).select_from(holds).where(of_them)) or 0
        if kept >= self._limits.kept_max_per_caller:
            over = select(holds.c.hold_id).where(of_them, holds.c.ends_at <= as_text(now)).order_by(holds.c.asked_at)
            over = over.limit(kept - self._limits.kept_max_per_caller + 1)
            # What somebody else looks at just now stays: they may wait for the lock that is held here.
            _forget(connection, connection.scalars(over.with_for_update(skip_locked=True)).all())

    # Looking up ----------------------------------------------------------------------------------------------------

    def find(self, hold_id: HoldId, now: datetime) -> Hold | None:
        """See `Register.find`."""
        self._tables.set_up()
        with self._tables.reading() as connection:
            found = load(connection, holds.c.hold_id == hold_id, with_sealed=True)
        return rules.at(found[0], now) if found else None

    def said(self, hold_id: HoldId) -> dict[str, bytes]:
        """See `Register.said`."""
        self._tables.set_up()
        wanted = select(spoken.c.person_ref, spoken.c.sealed).where(spoken.c.hold_id == hold_id)
        with self._tables.reading() as connection:
            rows = connection.execute(wanted.order_by(spoken.c.number))
            return {row.person_ref: bytes(row.sealed) for row in rows}

    def pending(
        self, tenant: str | None, groups: Sequence[str], now: datetime, limit: int, after: HoldId | None = None
    ) -> list[Hold]:
        """See `Register.pending`."""
        self._tables.set_up()
        wanted = select(inbox.c.asked_at, inbox.c.hold_id).distinct().where(*_inbox_of(tenant, groups, now))
        wanted = wanted.order_by(inbox.c.asked_at, inbox.c.hold_id)
        with self._tables.reading() as connection:
            since = None
            if after is not None:
                since = connection.scalar(select(holds.c.asked_at).where(holds.c.hold_id == after))
            if since is not None:
                wanted = wanted.where(tuple_(inbox.c.asked_at, inbox.c.hold_id) > (since, after))
            ids = [row.hold_id for row in connection.execute(wanted.limit(limit))]
            return [hold for hold in _in_order(connection, ids, now) if hold.state is HoldState.PENDING]

    def of_caller(self, caller_ref: str, now: datetime, limit: int) -> list[Hold]:
        """See `Register.of_caller`."""
        self._tables.set_up()
        wanted = select(holds.c.hold_id).where(holds.c.caller_ref == caller_ref)
        wanted = wanted.order_by(holds.c.asked_at.desc(), holds.c.hold_id.desc()).limit(limit)
        with self._tables.reading() as connection:
            return _in_order(connection, connection.scalars(wanted).all(), now)

    def count_pending(self, now: datetime) -> int:
        """See `Register.count_pending`."""
        self._tables.set_up()
        with self._tables.reading() as connection:
            return _count(connection, now, IS_PENDING)

    def oldest_pending(self, now: datetime) -> datetime | None:
        """See `Register.oldest_pending`."""
        self._tables.set_up()
        wanted = select(func.min(holds.c.asked_at)).where(holds.c.expires_at > as_text(now), IS_PENDING)
        with self._tables.reading() as connection:
            found = connection.execute(wanted).scalar_one()
        return None if found is None else datetime.fromisoformat(found)

    def count_waiting_for(self, tenant: str | None, groups: Sequence[str], person_ref: str, now: datetime) -> int:
        """See `Register.count_waiting_for`."""
        self._tables.set_up()
        is_answered = select(spoken.c.hold_id).where(
            spoken.c.hold_id == inbox.c.hold_id, spoken.c.person_ref == person_ref
        )
        wanted = select(func.count(inbox.c.hold_id.distinct())).join(holds, holds.c.hold_id == inbox.c.hold_id)
        wanted = wanted.where(*_inbox_of(tenant, groups, now), holds.c.caller_ref != person_ref, ~is_answered.exists())
        with self._tables.reading() as connection:
            return int(connection.execute(wanted).scalar_one())

    def answered_by(self, person_ref: str, now: datetime, limit: int) -> list[Hold]:
        """See `Register.answered_by`."""
        self._tables.set_up()
        wanted = select(holds.c.hold_id).join(spoken, spoken.c.hold_id == holds.c.hold_id)
        wanted = wanted.where(spoken.c.person_ref == person_ref, IS_PENDING, holds.c.expires_at > as_text(now))
        wanted = wanted.order_by(holds.c.asked_at, holds.c.hold_id).limit(limit)
        with self._tables.reading() as connection:
            return _in_order(connection, connection.scalars(wanted).all(), now)

    def states(self, hold_ids: Iterable[HoldId], now: datetime) -> dict[HoldId, HoldState]:
        """See `Register.states`."""
        self._tables.set_up()
        found: dict[HoldId, HoldState] = {}
        with self._tables.reading() as connection:
            for some in parts(hold_ids):
                wanted = select(holds.c.hold_id, holds.c.state, holds.c.due_at).where(holds.c.hold_id.in_(some))
                found |= {one: state_of(state, due, now) for one, state, due in connection.execute(wanted)}
        return found

    # Of many holds: nobody makes tables to look after them ---------------------------------------------------------

    def beat(self, origin: str, now: datetime) -> None:
        """See `Register.beat`. Nothing is written while nobody waits."""
        if not self._tables.is_set_up():
            return
        with self._tables.reading() as connection:
            is_waited = connection.scalar(select(waiting.c.hold_id).where(waiting.c.origin == origin).limit(1))
        if is_waited is not None:
            with self._tables.writing() as connection:
                _greet(connection, self._tables, origin, now)

    def beats(self) -> dict[str, str]:
        """See `Register.beats`."""
        if not self._tables.is_set_up():
            return {}
        with self._tables.reading() as connection:
            return {one.origin: one.beat_at for one in connection.execute(select(workers))}

    def abandon_silent(self, silent: Mapping[str, str], now: datetime) -> int:
        """See `Register.abandon_silent`."""
        if not silent or not self._tables.is_set_up():
            return 0
        is_silent = tuple_(workers.c.origin, workers.c.beat_at).in_(list(silent.items()))
        count = self._abandon(waiting.c.origin.in_(select(workers.c.origin).where(is_silent)), now)
        is_waited = select(waiting.c.hold_id).where(waiting.c.origin == workers.c.origin).exists()
        with self._tables.writing() as connection:
            connection.execute(delete(workers).where(is_silent, ~is_waited))
        return count

    def recovered(self, origin: str, first_sequence: int, passed: frozenset[ExchangeId], now: datetime) -> int:
        """See `Register.recovered`."""
        if not self._tables.is_set_up():
            return 0
        claimed = select(holds.c.hold_id, holds.c.claim_sequence).where(holds.c.claim_origin == origin)

        def settle(connection: Connection, hold: Hold) -> Hold:
            claim = connection.execute(claimed.where(holds.c.hold_id == hold.hold_id)).one_or_none()
            if claim is None:  # somebody else settled it, and it may be another worker's by now
                return hold
            return rules.settled(hold, passed, is_readable=claim.claim_sequence >= first_sequence)

        with self._tables.reading() as connection:
            ids = connection.scalars(claimed).all()
        count = self._keeper.change_all(ids, settle, now)
        count += self._abandon(waiting.c.origin == origin, now)
        with self._tables.writing() as connection:
            connection.execute(delete(workers).where(workers.c.origin == origin))
        return count

    def _abandon(self, of_whom: ColumnElement[bool], now: datetime) -> int:
        """Those that wait, and are such, are gone: how many holds were abandoned."""
        count = 0

        def leave(connection: Connection, hold: Hold) -> Hold:
            nonlocal count
            gone = select(waiting.c.exchange_id).where(waiting.c.hold_id == hold.hold_id, of_whom)
            after = rules.abandoned(hold, frozenset(ExchangeId(one) for one in connection.scalars(gone)))
            count += after.state is HoldState.ABANDONED and hold.state is not HoldState.ABANDONED
            return after

        with self._tables.reading() as connection:
            ids = connection.scalars(select(waiting.c.hold_id).where(of_whom)).all()
        self._keeper.change_all(ids, leave, now)
        return count

    def expire(self, now: datetime) -> int:
        """See `Register.expire`."""
        if not self._tables.is_set_up():
            return 0
        with self._tables.reading() as connection:
            wanted = select(holds.c.hold_id).where(holds.c.due_at <= as_text(now)).limit(_EXPIRED_AT_ONCE)
            ids = connection.scalars(wanted).all()
        return self._keeper.change_all(ids, lambda _, hold: hold, now)

    def sweep(self, before: datetime) -> int:
        """See `Register.sweep`."""
        if not self._tables.is_set_up():
            return 0
        over = holds.c.ends_at <= as_text(before)
        with self._tables.reading() as connection:
            ids = connection.scalars(select(holds.c.hold_id).where(over)).all()
        for some in parts(ids):
            with self._tables.writing() as connection:
                _forget(connection, some)
        return len(ids)


def _forget(connection: Connection, hold_ids: Sequence[Any]) -> None:
    for table in OF_HOLDS if hold_ids else ():
        connection.execute(delete(table).where(table.c.hold_id.in_(hold_ids)))


def _inbox_of(tenant: str | None, groups: Sequence[str], now: datetime) -> tuple[ColumnElement[bool], ...]:
    """Holds that members of these groups could resolve."""
    named = [as_json(name) for name in sorted(set(groups))]
    return inbox.c.tenant == as_json(tenant), inbox.c.group_name.in_(named), inbox.c.expires_at > as_text(now)


def _greet(connection: Connection, tables: database.Tables, origin: str, now: datetime) -> None:
    """The worker lives. Its row is written only now and then: all its exchanges would wait for each other there."""
    heard = connection.scalar(select(workers.c.beat_at).where(workers.c.origin == origin))
    if heard is not None and as_text(now - _BEAT_AFTER) < heard <= as_text(now):
        return
    row = tables.insert(workers).values(origin=origin, beat_at=as_text(now))
    put = {"beat_at": row.excluded.beat_at}
    connection.execute(row.on_conflict_do_update(index_elements=["origin"], set_=put))


def _in_order(connection: Connection, ids: Sequence[Any], now: datetime) -> list[Hold]:
    found: dict[Any, Hold] = {}
    for some in parts(ids):
        found |= {hold.hold_id: rules.at(hold, now) for hold in load(connection, holds.c.hold_id.in_(some))}
    return [found[one] for one in ids if one in found]


def _count(connection: Connection, now: datetime, *of_which: ColumnElement[bool]) -> int:
    wanted = select(func.count()).select_from(holds)  # what the index holds is enough
    wanted = wanted.where(holds.c.expires_at > as_text(now), *of_which)
    return int(connection.execute(wanted).scalar_one())
