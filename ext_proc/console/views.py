"""What each page shows, got from the rooms. A view knows nothing of HTML, cookies or status lines.

None from a room is somebody else's, or never was: the viewer is told the same of both (`NotHere`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from ext_proc.console.people import Role  # noqa: TC001 - the API's schemas are made of these classes

if TYPE_CHECKING:
    from ext_proc.console import seen
    from ext_proc.console.asking import Asked
    from ext_proc.console.ports import Rooms

_T = TypeVar("_T")


class NotHere(Exception):
    """There is no such thing, for this viewer."""


@dataclass(frozen=True, slots=True)
class Myself:
    """Who the API takes the caller for, and in which roles."""

    issuer: str
    subject: str
    groups: tuple[str, ...]
    tenant: str | None
    roles: tuple[Role, ...]


async def myself(_: Rooms, asked: Asked) -> Myself:
    """Who am I?"""
    who = asked.viewer.identity
    return Myself(who.issuer, who.subject, who.groups, who.tenant, tuple(sorted(asked.viewer.roles)))


async def inbox(rooms: Rooms, asked: Asked) -> seen.Inbox:
    """Holds that wait."""
    return await rooms.approvals.inbox(asked.viewer, asked.limit, asked.after)


async def hold(rooms: Rooms, asked: Asked) -> seen.HoldSeen:
    """One hold, as the model would see the request."""
    return await rooms.approvals.read(asked.viewer, asked.path["hold_id"], want_clear=False, channel=asked.channel)


async def hold_clear(rooms: Rooms, asked: Asked) -> seen.HoldSeen:
    """One hold, with the request as it came."""
    return await rooms.approvals.read(asked.viewer, asked.path["hold_id"], want_clear=True, channel=asked.channel)


async def resolve(rooms: Rooms, asked: Asked) -> seen.HoldSeen:
    """Approve or deny."""
    return await rooms.approvals.resolve(
        asked.viewer,
        asked.path["hold_id"],
        is_yes=asked.is_yes,
        justification=asked.justification,
        channel=asked.channel,
    )


async def exchanges(rooms: Rooms, asked: Asked) -> seen.Found:
    """Exchanges that fit."""
    return await rooms.exchanges.search(asked.viewer, asked.filters, asked.limit, asked.after)


async def exchange(rooms: Rooms, asked: Asked) -> seen.ExchangeSeen:
    """One exchange."""
    return _here(await rooms.exchanges.one(asked.viewer, asked.path["exchange_id"]))


async def payloads(rooms: Rooms, asked: Asked) -> seen.PayloadsSeen:
    """Its bodies."""
    return _here(await rooms.exchanges.payloads(asked.viewer, asked.path["exchange_id"], asked.purpose))


async def verify_one(rooms: Rooms, asked: Asked) -> seen.Verdict:
    """Is it as it was written?"""
    return _here(await rooms.exchanges.verify_one(asked.viewer, asked.path["exchange_id"]))


async def charts(rooms: Rooms, asked: Asked) -> seen.Charts:
    """Traffic by hour."""
    return await rooms.exchanges.charts(asked.viewer, asked.since)


async def policies(rooms: Rooms, _: Asked) -> seen.Activations:
    """Which policies decided."""
    return await rooms.exchanges.activations()


async def verification(rooms: Rooms, _: Asked) -> seen.Standing:
    """How the evidence stands."""
    return await rooms.exchanges.verification()


def _here(found: _T | None) -> _T:
    if found is None:
        raise NotHere
    return found
