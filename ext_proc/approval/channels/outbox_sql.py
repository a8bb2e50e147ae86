"""The outbox in SQLite or PostgreSQL, beside the register of holds whose tables it reads."""

from __future__ import annotations

import json
import uuid
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import (
    ColumnElement,
    and_,
    delete,
    func,
    insert,
    or_,
    select,
    update,
)

from ext_proc import database
from ext_proc.approval import hold as rules
from ext_proc.approval.channels.message import Event, announced, event_of
from ext_proc.approval.channels.outbox import GRACE_SECONDS, Due, Lease
from ext_proc.approval.channels.outbox_rows import metadata, notices, seen
from ext_proc.approval.rows import IS_PENDING, as_text, holds, load, parts, state_of
from ext_proc.approval.rows import metadata as holds_metadata
from ext_proc.errors import ApprovalUnavailable
from ext_proc.model import HoldState

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from sqlalchemy import Connection, Engine, Row, Select

    from ext_proc.approval.channels.outbox import Audience
    from ext_proc.approval.hold import Hold

_SET_UP_LOCK: Final = 0x6E6F7469
_HOLDS_LOCK: Final = 0x686F6C6473
"""As `register_sql` has it: whoever is first makes those tables."""
_NOTE_LOCK: Final = 0x6E6F7465
_NOTED_AT_ONCE: Final = 1000
_STILL_OPEN: Final = frozenset({HoldState.PENDING, HoldState.WITHDRAWN, HoldState.ABANDONED})
_LEFT: Final = frozenset({HoldState.WITHDRAWN, HoldState.ABANDONED})
_WAITING, _SENT, _SKIPPED = "waiting", "sent", "skipped"


class SqlOutbox:
    """`Outbox` and `Seen`. The tables are made when somebody is first asked.

    Args:
        engine: from `database.open_engine`: the register's database.
    """

    def __init__(self, engine: Engine) -> None:
        self._tables = database.Tables(engine, metadata, _SET_UP_LOCK, "approval_outbox", ApprovalUnavailable)
        self._register = database.Tables(engine, holds_metadata, _HOLDS_LOCK, "approval_register", ApprovalUnavailable)

    @classmethod
    def from_url(cls, url: str, password_file: Path | None = None) -> SqlOutbox:
        """The outbox at an address (see `database.open_engine`); nothing is opened yet."""
        return cls(database.open_engine(url, password_file))

    def close(self) -> None:
        """Close the connections."""
        self._tables.close()

    def _set_up(self) -> None:
        self._register.set_up()
        self._tables.set_up()

    # What there is to be told --------------------------------------------------------------------------------------

    def note(self, audiences: Sequence[Audience], now: datetime) -> int:
        """See `Outbox.note`."""
        self._set_up()
        return sum(self._note(audience, now) for audience in audiences)

    def _note(self, audience: Audience, now: datetime) -> int:
        with self._tables.reading() as connection:
            if not _new(connection, audience.channel, now) and not _changed(connection, audience.channel, now):
                return 0
        with self._tables.writing() as connection:
            self._tables.alone(connection, _NOTE_LOCK)
            rows, count = [], 0
            for one in _new(connection, audience.channel, now):
                is_theirs = audience.has(json.loads(one.tenant), json.loads(one.terms)["groups"])
                rows.append(_row(audience, one.hold_id, 1, HoldState.PENDING, now, is_theirs=is_theirs))
            for one in _changed(connection, audience.channel, now):
                count += 1
                state = _stands(one, now)
                if _is_back(one, state):
                    _take_back(connection, one)
                    continue
                connection.execute(update(notices).where(_is(one)).values(is_open=False))
                rows.append(_row(audience, one.hold_id, one.number + 1, state, now, is_theirs=True))
            if rows:
                connection.execute(insert(notices), rows)
        return len(rows) + count

    def count_due(self, channel: str, event: Event, now: datetime) -> int:
        """See `Outbox.count_due`."""
        self._set_up()
        with self._tables.reading() as connection:
            wanted = select(func.count(notices.c.hold_id)).where(*_due(channel, event, now))
            return int(connection.execute(wanted).scalar_one())

    def count_sent(self, channel: str, since: datetime) -> int:
        """See `Outbox.count_sent`."""
        self._set_up()
        wanted = select(func.count(notices.c.message_id.distinct()))
        with self._tables.reading() as connection:
            wanted = wanted.where(notices.c.channel == channel, notices.c.sent_at > as_text(since))
            return int(connection.execute(wanted).scalar_one())

    # Telling it ----------------------------------------------------------------------------------------------------

    def lease(self, channel: str, event: Event, limit: int, now: datetime, until: datetime) -> Lease:
        """See `Outbox.lease`."""
        self._set_up()
        token = uuid.uuid4().hex
        wanted = select(notices).where(*_due(channel, event, now)).order_by(notices.c.made_at, notices.c.hold_id)
        with self._tables.writing() as connection:
            rows = connection.execute(wanted.limit(limit).with_for_update(skip_locked=True)).all()
            for row in rows:
                values = {"lease": token, "leased_until": as_text(until), "tries": notices.c.tries + 1}
                connection.execute(update(notices).where(_is(row)).values(values))
            due = _loaded(connection, channel, rows, now)
            gone = {row.hold_id for row in rows} - {one.hold.hold_id for one in due}
            for some in parts(gone):  # forgotten by the register meanwhile
                connection.execute(
                    update(notices)
                    .where(notices.c.lease == token, notices.c.hold_id.in_(some))
                    .values(status="moot", is_open=False)
                )
        return Lease(channel, token, until, due)

    def sent(self, lease: Lease, message_id: str, reference: str | None, now: datetime) -> None:
        """See `Outbox.sent`."""
        put = {"status": _SENT, "sent_at": as_text(now), "message_id": message_id, "reference": reference}
        self._end(lease, put)

    def failed(self, lease: Lease, due_at: datetime) -> None:
        """See `Outbox.failed`."""
        self._end(lease, {"due_at": as_text(due_at)})

    def dropped(self, lease: Lease, why: str) -> None:
        """See `Outbox.dropped`."""
        self._end(lease, {"status": why})

    def _end(self, lease: Lease, put: dict[str, Any]) -> None:
        """Only what is still leased so: whoever was too slow has lost it to another."""
        with self._tables.writing() as connection:
            for due in lease.due:
                which = and_(
                    notices.c.channel == lease.channel,
                    notices.c.hold_id == due.hold.hold_id,
                    notices.c.number == due.number,
                    notices.c.lease == lease.token,
                )
                connection.execute(update(notices).where(which).values(**put, lease=None, leased_until=None))

    def sweep(self, before: datetime) -> int:
        """See `Outbox.sweep`."""
        self._set_up()
        is_held = select(holds.c.hold_id).where(holds.c.hold_id == notices.c.hold_id).exists()
        with self._tables.writing() as connection:
            result = connection.execute(delete(notices).where(notices.c.made_at < as_text(before), ~is_held))
            return int(result.rowcount)

    # What came in --------------------------------------------------------------------------------------------------

    def begin(self, sender: str, message_id: str, now: datetime, until: datetime) -> bool:
        """See `Seen.begin`."""
        self._set_up()
        with self._tables.writing() as connection:
            connection.execute(delete(seen).where(seen.c.until <= as_text(now)))
            row = self._tables.insert(seen).values(
                sender=sender, message_id=message_id, is_done=False, until=as_text(until)
            )
            return connection.execute(row.on_conflict_do_nothing().returning(seen.c.sender)).first() is not None

    def done(self, sender: str, message_id: str, forget_at: datetime) -> None:
        """See `Seen.done`."""
        which = and_(seen.c.sender == sender, seen.c.message_id == message_id)
        with self._tables.writing() as connection:
            connection.execute(update(seen).where(which).values(is_done=True, until=as_text(forget_at)))

    def undone(self, sender: str, message_id: str) -> None:
        """See `Seen.undone`."""
        which = and_(seen.c.sender == sender, seen.c.message_id == message_id, ~seen.c.is_done)
        with self._tables.writing() as connection:
            connection.execute(delete(seen).where(which))


def _new(connection: Connection, channel: str, now: datetime) -> Sequence[Row[Any]]:
    """Holds that wait and that this channel was never told of."""
    is_noted = select(notices.c.hold_id).where(notices.c.channel == channel, notices.c.hold_id == holds.c.hold_id)
    wanted: Select[Any] = select(holds.c.hold_id, holds.c.tenant, holds.c.terms)
    wanted = wanted.where(IS_PENDING, holds.c.expires_at > as_text(now), ~is_noted.exists())
    return connection.execute(wanted.order_by(holds.c.asked_at).limit(_NOTED_AT_ONCE)).all()


def _changed(connection: Connection, channel: str, now: datetime) -> Sequence[Row[Any]]:
    """What was last told, or is to be, of holds that stand otherwise now."""
    wanted = select(notices, holds.c.state.label("now"), holds.c.due_at.label("hold_due_at"), holds.c.valid_until)
    wanted = wanted.join(holds, holds.c.hold_id == notices.c.hold_id)
    is_other = or_(holds.c.state != notices.c.state, holds.c.due_at <= as_text(now))
    wanted = wanted.where(notices.c.channel == channel, notices.c.is_open, is_other)
    return connection.execute(wanted.order_by(notices.c.hold_id).limit(_NOTED_AT_ONCE)).all()


def _row(
    audience: Audience, hold_id: str, number: int, state: HoldState, now: datetime, *, is_theirs: bool
) -> dict[str, Any]:
    event = event_of(state)
    grace = timedelta(seconds=GRACE_SECONDS if state in _LEFT else 0)
    return {
        "channel": audience.channel,
        "hold_id": hold_id,
        "number": number,
        "event": event.value,
        "state": state.value,
        "status": _WAITING if is_theirs and event in audience.events else _SKIPPED,
        "is_open": is_theirs and state in _STILL_OPEN,
        "made_at": as_text(now),
        "due_at": as_text(now + grace),
        "tries": 0,
    }


def _stands(row: Row[Any], now: datetime) -> HoldState:
    """What is to be told. What was approved and not used in time was approved nevertheless."""
    if row.valid_until is not None:
        return HoldState.APPROVED
    return announced(state_of(row.now, row.hold_due_at, now))


def _is_back(row: Row[Any], state: HoldState) -> bool:
    """The caller left, and came back before anybody was told."""
    return state is HoldState.PENDING and row.number > 1 and row.tries == 0 and row.status != _SENT


def _take_back(connection: Connection, row: Row[Any]) -> None:
    connection.execute(delete(notices).where(_is(row)))
    before = and_(
        notices.c.channel == row.channel, notices.c.hold_id == row.hold_id, notices.c.number == row.number - 1
    )
    connection.execute(update(notices).where(before).values(is_open=True))


def _is(row: Row[Any]) -> ColumnElement[bool]:
    return and_(notices.c.channel == row.channel, notices.c.hold_id == row.hold_id, notices.c.number == row.number)


def _due(channel: str, event: Event, now: datetime) -> list[ColumnElement[bool]]:
    earlier = notices.alias("earlier")
    is_earlier = (
        select(earlier.c.hold_id)
        .where(
            earlier.c.channel == notices.c.channel,
            earlier.c.hold_id == notices.c.hold_id,
            earlier.c.number < notices.c.number,
            earlier.c.status == _WAITING,
        )
        .exists()
    )
    return [
        notices.c.channel == channel,
        notices.c.status == _WAITING,
        notices.c.event == event.value,
        notices.c.due_at <= as_text(now),
        or_(notices.c.leased_until.is_(None), notices.c.leased_until <= as_text(now)),
        ~is_earlier,
    ]


def _loaded(connection: Connection, channel: str, rows: Sequence[Row[Any]], now: datetime) -> tuple[Due, ...]:
    stand: dict[str, Hold] = {}
    called: dict[str, str] = {}
    for some in parts(row.hold_id for row in rows):
        stand |= {hold.hold_id: rules.at(hold, now) for hold in load(connection, holds.c.hold_id.in_(some))}
        wanted = select(notices.c.hold_id, notices.c.reference).order_by(notices.c.number)
        wanted = wanted.where(notices.c.channel == channel, notices.c.hold_id.in_(some))
        found = connection.execute(wanted.where(notices.c.reference.is_not(None)))
        called |= {row.hold_id: row.reference for row in found}
    return tuple(
        Due(
            hold=stand[row.hold_id],
            number=row.number,
            event=Event(row.event),
            state=HoldState(row.state),
            made_at=datetime.fromisoformat(row.made_at),
            tries=row.tries + 1,
            reference=called.get(row.hold_id),
        )
        for row in rows
        if row.hold_id in stand
    )
