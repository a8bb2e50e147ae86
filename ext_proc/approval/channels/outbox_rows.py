"""The outbox's tables, beside those of the register (`ext_proc.approval.rows`)."""

from __future__ import annotations

from typing import Final

from sqlalchemy import Boolean, Column, Index, Integer, MetaData, String, Table, Text

metadata: Final = MetaData()
notices: Final = Table(
    "hold_notices",
    metadata,
    Column("channel", String(64), primary_key=True),
    Column("hold_id", String(32), primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("event", String(16), nullable=False),
    Column("state", String(16), nullable=False),  # of the hold, as it is told
    Column("status", String(16), nullable=False),
    Column("is_open", Boolean, nullable=False),  # the newest of its hold, and there may be more to tell
    Column("made_at", String(32), nullable=False),
    Column("due_at", String(32), nullable=False),
    Column("tries", Integer, nullable=False),
    Column("leased_until", String(32)),
    Column("lease", String(32)),
    Column("sent_at", String(32)),
    Column("message_id", String(160)),
    Column("reference", Text),
    Index("hold_notices_due", "channel", "status", "event", "due_at"),
    Index("hold_notices_open", "channel", "is_open"),
    Index("hold_notices_sent", "channel", "sent_at"),
)
seen: Final = Table(
    "hook_messages",
    metadata,
    Column("sender", String(64), primary_key=True),
    Column("message_id", String(128), primary_key=True),
    Column("is_done", Boolean, nullable=False),
    Column("until", String(32), nullable=False),
    Index("hook_messages_until", "until"),
)
