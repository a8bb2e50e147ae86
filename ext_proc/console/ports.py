"""What the console needs of others. `ext_proc.app.console.run` joins the real ones.

All methods are called from the console's event loop and may be called many times at once; none is retried by the
console. Whatever cannot be had raises a `GateError`: the viewer gets its safe text, and what to do. Each view and each
action that a method says is recorded is a durable leaf *before* the method returns: no record, no view.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

if TYPE_CHECKING:
    from datetime import datetime

    from ext_proc.console import seen
    from ext_proc.console.people import Viewer
    from ext_proc.model import Identity, Secret

Channel = Literal["console", "api", "cli"]
"""By which way somebody resolved a hold: it stands in the record."""


class Objection(Exception):
    """Somebody may not do this to a hold: ``code`` is one of `ext_proc.approval.hold.OBJECTIONS`."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


class Approvals(Protocol):
    """Holds, as the rules of approval let this viewer see them. Of another tenant's it says ``no_such_hold``."""

    async def inbox(self, viewer: Viewer, limit: int, after: str | None) -> seen.Inbox:
        """Holds that wait for the viewer, at most ``limit``, after ``after``: not their own, nor what they answered.

        On the first page also those that they agreed to and that wait for others.
        """
        ...

    async def read(
        self, viewer: Viewer, hold_id: str, *, want_clear: bool, channel: Channel = "console"
    ) -> seen.HoldSeen:
        """One hold; recorded. ``want_clear``: also as it came, if this viewer may read that; otherwise masked only.

        Raises:
            Objection: ``no_such_hold`` or ``not_an_approver``.
        """
        ...

    async def resolve(
        self, viewer: Viewer, hold_id: str, *, is_yes: bool, justification: str, channel: Channel
    ) -> seen.HoldSeen:
        """Say yes or no; recorded. The hold as it stands then. Of two at once one is first, the other is told so.

        Raises:
            Objection: any.
        """
        ...

    async def change_after(self, viewer: Viewer, seen: int) -> int:
        """Wait until something that the viewer may see has changed after change ``seen``; the newest change's number.

        Safe to cancel and to call again: nothing is missed. ``seen`` is 0 at first, which waits for nothing; a number
        from before a restart, higher than any that there is, is answered at once.
        """
        ...


class Exchanges(Protocol):
    """The evidence, as this viewer's tenant may see it. What is another tenant's is None, as what never was."""

    async def search(self, viewer: Viewer, filters: seen.Filters, limit: int, after: str | None) -> seen.Found:
        """Exchanges, the newest first; at most ``limit``, those after ``after``."""
        ...

    async def one(self, viewer: Viewer, exchange_id: str) -> seen.ExchangeSeen | None:
        """One exchange."""
        ...

    async def payloads(self, viewer: Viewer, exchange_id: str, purpose: str) -> seen.PayloadsSeen | None:
        """Its bodies in clear, masked spans marked; recorded (``access.read``) with ``purpose``."""
        ...

    async def verify_one(self, viewer: Viewer, exchange_id: str) -> seen.Verdict | None:
        """Verify its records against the bucket: leaves, tree, signatures, locks."""
        ...

    async def charts(self, viewer: Viewer, since: datetime) -> seen.Charts:
        """Traffic by hour from ``since`` to now."""
        ...

    async def activations(self) -> seen.Activations:
        """Which policies decided since when, and what differs."""
        ...

    async def verification(self) -> seen.Standing:
        """How the evidence stands."""
        ...


class Refusals(Protocol):
    """What people asked for that is for others, so that an auditor sees who tried what."""

    async def note(self, viewer: Viewer, page: str, code: str, *, is_api: bool) -> None:
        """On record (``access.refused``) when this returns. Again within a while it is counted only, for the next.

        Args:
            viewer: who.
            page: the route's name: nothing that the viewer wrote.
            code: why not.
            is_api: was it the twin?

        Raises:
            AuditUnavailable: it could not be recorded.
        """
        ...


class Bearers(Protocol):
    """Whose an access token is: for the API."""

    async def identify(self, token: Secret, now: datetime) -> Identity:
        """Verify it.

        Raises:
            BadToken: it is not valid here.
            KeysUnavailable: the issuer's keys cannot be had.
        """
        ...


@dataclass(frozen=True, slots=True)
class Session:
    """Somebody who signed in. ``csrf`` is what their forms must bring; at ``ends_at`` it is over, used or not."""

    csrf: str
    identity: Identity
    began_at: datetime
    used_at: datetime
    ends_at: datetime

    def __repr__(self) -> str:
        return f"Session(began_at={self.began_at!r})"


class Sessions(Protocol):
    """Who is signed in. An id is a secret of the browser's: whoever keeps sessions keeps its digest."""

    async def begin(self, identity: Identity, now: datetime) -> str:
        """Begin one under an id that nobody had before."""
        ...

    async def find(self, session_id: str, now: datetime, *, is_use: bool = True) -> Session | None:
        """The session; None if there is none, or it is over. ``is_use``: somebody did something, so it is not idle."""
        ...

    async def end(self, session_id: str) -> None:
        """It is over. Idempotent."""
        ...


@dataclass(frozen=True, slots=True)
class Health:
    """How the console stands. ``failure``: why it cannot go on, and ends. ``degraded`` keeps nobody from using it."""

    failure: str | None = None
    degraded: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Rooms:
    """All of them."""

    approvals: Approvals
    exchanges: Exchanges
    refusals: Refusals
    bearers: Bearers
    sessions: Sessions
