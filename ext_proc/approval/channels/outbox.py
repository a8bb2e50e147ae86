"""What is still to be told of holds, to whom: kept beside them, so that no console forgets any, and two tell it once.

What there is to be told follows from how holds stand (`note`): no worker has to write anything down here, and a console
that was away tells what it missed. Each thing is told at least once: a process that dies between telling and noting it
leaves a lease that runs out, and another one tells it again.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

from ext_proc.approval.channels.message import Event

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from ext_proc.approval.hold import Hold
    from ext_proc.model import HoldState

GRACE_SECONDS: Final = 30.0
"""Whose caller left, comes back at once as a rule (its own patience ended, it sends again): nobody is told earlier."""


@dataclass(frozen=True, slots=True)
class Audience:
    """Of which holds a channel is told what. ``groups`` and ``tenants``: None is any.

    A hold is for a channel if one of its groups could resolve it.
    """

    channel: str
    events: frozenset[Event] = frozenset({Event.PENDING, Event.RESOLVED})
    groups: frozenset[str] | None = None
    tenants: frozenset[str | None] | None = None

    def has(self, tenant: str | None, groups: Sequence[str]) -> bool:
        """Is this channel told of such a hold?"""
        if self.tenants is not None and tenant not in self.tenants:
            return False
        return self.groups is None or not self.groups.isdisjoint(groups)


@dataclass(frozen=True, slots=True)
class Due:
    """One thing to be told. ``hold`` as it stands now; ``state`` is what was to be told of it when it was noted;
    ``tries``: with this one.
    """

    hold: Hold
    number: int
    event: Event
    state: HoldState
    made_at: datetime
    tries: int
    reference: str | None


@dataclass(frozen=True, slots=True)
class Lease:
    """Things that one process tells now; until ``until`` no other does."""

    channel: str
    token: str
    until: datetime
    due: tuple[Due, ...]


class Outbox(Protocol):
    """Safe from several threads and processes; durable when a method returns; nobody retries.

    Every method raises `ApprovalUnavailable` when the database cannot be used.
    """

    def note(self, audiences: Sequence[Audience], now: datetime) -> int:
        """Note what there is to be told since somebody last did: how many things."""
        ...

    def count_due(self, channel: str, event: Event, now: datetime) -> int:
        """How many things a channel could be told now."""
        ...

    def count_sent(self, channel: str, since: datetime) -> int:
        """How many messages went out on a channel since then, whichever process sent them."""
        ...

    def lease(self, channel: str, event: Event, limit: int, now: datetime, until: datetime) -> Lease:
        """Take the oldest of those, at most so many. One whose hold has something older to be told waits for that."""
        ...

    def sent(self, lease: Lease, message_id: str, reference: str | None, now: datetime) -> None:
        """They were told, in one message."""
        ...

    def failed(self, lease: Lease, due_at: datetime) -> None:
        """They were not; not again before ``due_at``."""
        ...

    def dropped(self, lease: Lease, why: str) -> None:
        """They are not told any more: ``moot`` or ``given_up``."""
        ...

    def sweep(self, before: datetime) -> int:
        """Forget what was noted before, of holds that are forgotten: how many."""
        ...


class Seen(Protocol):
    """Messages that came in: each counts once. As safe, and as unavailable, as `Outbox`."""

    def begin(self, sender: str, message_id: str, now: datetime, until: datetime) -> bool:
        """Whoever is first may act on it, until ``until``. False: somebody did, or does.

        Args:
            sender: whose ids they are.
            message_id: of the message.
            now: the time.
            until: a process that did not say by then what became of it has died.
        """
        ...

    def done(self, sender: str, message_id: str, forget_at: datetime) -> None:
        """It was acted upon, and counts for nobody any more; after ``forget_at`` its time stamp is too old anyway."""
        ...

    def undone(self, sender: str, message_id: str) -> None:
        """It could not be acted upon: sent again, it counts."""
        ...
