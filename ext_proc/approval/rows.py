"""The register's tables, and holds as their rows.

What lists and changes need is narrow. Bodies, sealed, have a table of their own: a claim writes no megabyte.
Who may resolve a pending hold stands in `hold_inbox` for as long as it is pending, and no longer: an inbox is read
there, however many holds are over. Instants are texts that sort; tenants and groups are JSON texts: whatever a token
says, any database can keep it.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, cast

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    select,
    text,
)

from ext_proc.approval.hold import Hold, due_at, state_at
from ext_proc.errors import ApprovalUnavailable
from ext_proc.model import ApprovalTerms, ExchangeId, HoldId, HoldState, Resolution

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from sqlalchemy import ColumnElement, Connection, Row

metadata: Final = MetaData()

# As they stand in the indexes, to the letter: a parameter, or SQLite's "= 1", would not match them.
IS_PENDING: Final = cast("ColumnElement[bool]", text("state = 'pending'"))
IS_OPEN: Final = cast("ColumnElement[bool]", text("state IN ('pending', 'withdrawn', 'abandoned')"))
IS_CURRENT: Final = cast("ColumnElement[bool]", text("is_current"))

holds: Final = Table(
    "holds",
    metadata,
    Column("hold_id", String(32), primary_key=True),
    Column("binding_sha256", String(64), nullable=False),
    Column("is_current", Boolean, nullable=False),  # the one that the same call, sent again, may find
    Column("caller_ref", String(128), nullable=False),
    Column("tenant", Text, nullable=False),
    Column("terms", Text, nullable=False),
    Column("facts", Text, nullable=False),
    Column("asked_at", String(32), nullable=False),
    Column("expires_at", String(32), nullable=False),
    Column("state", String(16), nullable=False),
    Column("valid_until", String(32)),
    Column("is_detached", Boolean, nullable=False),
    Column("claimed_by", String(64)),
    Column("claim_origin", Text),  # until it is known whether the claimer passed
    Column("claim_sequence", BigInteger),
    Column("due_at", String(32)),  # `hold.due_at`
    Column("ends_at", String(32), nullable=False),  # from then on it can matter to nobody
    Index("holds_binding", "binding_sha256", unique=True, sqlite_where=IS_CURRENT, postgresql_where=IS_CURRENT),
    Index("holds_caller", "caller_ref", "asked_at"),
    Index("holds_pending", "expires_at", sqlite_where=IS_PENDING, postgresql_where=IS_PENDING),
    Index("holds_open", "expires_at", sqlite_where=IS_OPEN, postgresql_where=IS_OPEN),
    Index("holds_callers_open", "caller_ref", "expires_at", sqlite_where=IS_OPEN, postgresql_where=IS_OPEN),
    Index("holds_due", "due_at"),
    Index("holds_ends", "ends_at"),
    Index("holds_claims", "claim_origin"),
    Index("holds_claimers", "claimed_by"),
)
contents: Final = Table(
    "hold_contents",
    metadata,
    Column("hold_id", String(32), primary_key=True),
    Column("sealed", LargeBinary, nullable=False),
    Column("sealed_clear", LargeBinary),
)
inbox: Final = Table(
    "hold_inbox",
    metadata,
    Column("tenant", Text, primary_key=True),
    Column("group_name", Text, primary_key=True),
    Column("asked_at", String(32), primary_key=True),
    Column("hold_id", String(32), primary_key=True),
    Column("expires_at", String(32), nullable=False),
    Index("hold_inbox_hold", "hold_id"),
)
waiting: Final = Table(
    "hold_waiting",
    metadata,
    Column("hold_id", String(32), primary_key=True),
    Column("exchange_id", String(64), primary_key=True),
    Column("origin", Text, nullable=False),
    Column("since", String(32), nullable=False),
    Index("hold_waiting_origin", "origin"),
    Index("hold_waiting_exchange", "exchange_id"),
)
spoken: Final = Table(
    "hold_resolutions",
    metadata,
    Column("hold_id", String(32), primary_key=True),
    Column("person_ref", String(128), primary_key=True),
    Column("number", Integer, nullable=False),
    Column("is_yes", Boolean, nullable=False),
    Column("at", String(32), nullable=False),
    Column("origin", Text, nullable=False),
    Column("sequence", BigInteger, nullable=False),
    Column("sealed", LargeBinary, nullable=False),
    Index("hold_resolutions_person", "person_ref"),
)
workers: Final = Table(
    "hold_workers", metadata, Column("origin", Text, primary_key=True), Column("beat_at", String(32), nullable=False)
)
changes: Final = Table(
    "hold_changes", metadata, Column("name", String(8), primary_key=True), Column("value", BigInteger, nullable=False)
)
"""One counter, for whoever watches SQLite."""

OF_HOLDS: Final = (contents, inbox, waiting, spoken, holds)
_AT_ONCE: Final = 500
_OTHER_VERSION: Final = "approval_register: a hold was kept by another version of affidavit"


def as_text(at: datetime) -> str:
    """An instant as a text that sorts."""
    return at.astimezone(UTC).isoformat(timespec="microseconds")


def as_json(name: str | None) -> str:
    """A tenant's or a group's name, in ASCII."""
    return json.dumps(name)


def new_row(hold: Hold) -> dict[str, Any]:
    """The row of a hold that nobody has asked before."""
    return {
        "hold_id": hold.hold_id,
        "binding_sha256": hold.binding_sha256,
        "is_current": True,
        "caller_ref": hold.caller_ref,
        "tenant": as_json(hold.tenant),
        "terms": json.dumps(asdict(hold.terms)),
        "facts": json.dumps(dict(hold.facts)),
        "asked_at": as_text(hold.asked_at),
        "expires_at": as_text(hold.expires_at),
        **changing(hold),
    }


def changing(hold: Hold) -> dict[str, Any]:
    """What of its row changes in the life of a hold."""
    due = due_at(hold)
    return {
        "state": hold.state.value,
        "valid_until": None if hold.valid_until is None else as_text(hold.valid_until),
        "is_detached": hold.is_detached,
        "claimed_by": hold.claimed_by,
        "due_at": None if due is None else as_text(due),
        "ends_at": as_text(max(hold.expires_at, hold.valid_until or hold.expires_at)),
    }


def inbox_rows(hold: Hold) -> list[dict[str, Any]]:
    """Who may resolve it."""
    fixed = {
        "tenant": as_json(hold.tenant),
        "asked_at": as_text(hold.asked_at),
        "hold_id": hold.hold_id,
        "expires_at": as_text(hold.expires_at),
    }
    return [{**fixed, "group_name": as_json(name)} for name in sorted(set(hold.terms.groups))]


def load(
    connection: Connection, *where: ColumnElement[bool], is_locked: bool = False, with_sealed: bool = False
) -> list[Hold]:
    """Holds as they were kept, in the order of their ids (so that two who lock several do not lock up).

    Raises:
        ApprovalUnavailable: a row cannot be what this version wrote.
    """
    wanted = select(holds, contents).join(contents, contents.c.hold_id == holds.c.hold_id)
    if not with_sealed:
        wanted = select(holds)
    wanted = wanted.where(*where).order_by(holds.c.hold_id)
    rows = connection.execute(wanted.with_for_update() if is_locked else wanted).all()
    ids = [row.hold_id for row in rows]
    wait = _by_hold(connection, waiting, ids, waiting.c.since, waiting.c.exchange_id)
    spoke = _by_hold(connection, spoken, ids, spoken.c.number)
    try:
        return [_hold(row, wait.get(row.hold_id, []), spoke.get(row.hold_id, []), with_sealed) for row in rows]
    except (ValueError, TypeError, AttributeError, LookupError):
        raise ApprovalUnavailable(_OTHER_VERSION) from None


def state_of(state: str, due_at_text: str | None, now: datetime) -> HoldState:
    """How a hold stands now, by what its row says."""
    try:
        due = None if due_at_text is None else datetime.fromisoformat(due_at_text)
        return state_at(HoldState(state), due, now)
    except (ValueError, TypeError):
        raise ApprovalUnavailable(_OTHER_VERSION) from None


def parts(ids: Iterable[HoldId], at_once: int = _AT_ONCE) -> Iterator[list[HoldId]]:
    """Ids for one statement each, sorted."""
    ordered = sorted(set(ids))
    for begin in range(0, len(ordered), at_once):
        yield ordered[begin : begin + at_once]


def _by_hold(
    connection: Connection, table: Table, ids: list[HoldId], *order: ColumnElement[Any]
) -> dict[HoldId, list[Row[Any]]]:
    columns = [column for column in table.columns if column.name != "sealed"]
    found: dict[HoldId, list[Row[Any]]] = {}
    for some in parts(ids):
        for row in connection.execute(select(*columns).where(table.c.hold_id.in_(some)).order_by(*order)):
            found.setdefault(row.hold_id, []).append(row)
    return found


def _hold(row: Row[Any], wait: Sequence[Row[Any]], spoke: Sequence[Row[Any]], with_sealed: bool) -> Hold:  # noqa: FBT001
    terms = json.loads(row.terms)
    return Hold(
        hold_id=HoldId(row.hold_id),
        binding_sha256=row.binding_sha256,
        caller_ref=row.caller_ref,
        tenant=json.loads(row.tenant),
        terms=ApprovalTerms(**{**terms, "groups": tuple(terms["groups"]), "clear_to": tuple(terms["clear_to"])}),
        facts=json.loads(row.facts),
        sealed=bytes(row.sealed) if with_sealed else None,
        sealed_clear=bytes(row.sealed_clear) if with_sealed and row.sealed_clear is not None else None,
        asked_at=datetime.fromisoformat(row.asked_at),
        expires_at=datetime.fromisoformat(row.expires_at),
        state=HoldState(row.state),
        valid_until=None if row.valid_until is None else datetime.fromisoformat(row.valid_until),
        resolutions=tuple(
            Resolution(one.is_yes, one.person_ref, datetime.fromisoformat(one.at), one.origin, one.sequence)
            for one in spoke
        ),
        waiting=tuple(ExchangeId(one.exchange_id) for one in wait),
        is_detached=row.is_detached,
        claimed_by=row.claimed_by,
    )
