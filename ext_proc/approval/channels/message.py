"""What a channel tells of holds. Pure.

A hold's facts hold no content (`Hold.facts`), but the model's name is the caller's word: it is cut, and each channel
writes it as plain text.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import UTC
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final

from ext_proc.model import HoldState

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import datetime

    from ext_proc.approval.hold import Hold
    from ext_proc.model import HoldId

SHOWN_MAX: Final = 20
"""Holds of a digest that people are shown one by one; the others are counted."""
_WORD_MAX: Final = 200
_UNSEEN: Final = re.compile(
    r"[\x00-\x1f\x7f-\x9f\xad\u034f\u061c\u115f\u1160\u180b-\u180f\u200b-\u200f\u2028-\u202e\u2060-\u206f\u3164\ufe00-\ufe0f\ufeff"
    r"\uffa0\U000e0000-\U000e0fff]+"
)


class Event(StrEnum):
    """What there is to be told."""

    PENDING = "hold.pending"
    RESOLVED = "hold.resolved"
    TEST = "hold.test"


@dataclass(frozen=True, slots=True)
class Told:
    """One hold, as a channel tells it.

    ``number`` counts what one channel is told of one hold: a receiver that gets the same twice knows it by that.
    ``masked``: what the model would get; None unless the channel may say it.
    """

    hold_id: HoldId
    number: int
    state: HoldState
    connection: str
    model: str
    operation: str
    findings: Mapping[str, int]
    reason: str
    groups: tuple[str, ...]
    needed: int
    given: int
    asked_at: datetime
    expires_at: datetime
    url: str
    masked: str | None = None


@dataclass(frozen=True, slots=True)
class Message:
    """One message of one channel: of one hold, or of many (a digest).

    ``reference``: what the channel called the message that this one follows, if it called it anything.
    """

    message_id: str
    event: Event
    at: datetime
    told: tuple[Told, ...] = field(default=())
    reference: str | None = None

    @property
    def is_digest(self) -> bool:
        """Is it of many?"""
        return len(self.told) > 1


def told_of(
    hold: Hold, number: int, state: HoldState, url_of: Callable[[HoldId], str], masked: str | None = None
) -> Told:
    """A hold as it is told.

    Args:
        hold: as it stands.
        number: of what this channel is told of it.
        state: what there is to be told; it may be otherwise by now.
        url_of: its page.
        masked: what the model would get, if that may be said.
    """
    facts = hold.facts
    return Told(
        hold_id=hold.hold_id,
        number=number,
        state=state,
        connection=plain(facts.get("connection")),
        model=plain(facts.get("model")),
        operation=plain(facts.get("operation")),
        findings={plain(name): int(count) for name, count in facts.get("findings", {}).items()},
        reason=plain(hold.terms.reason),
        groups=tuple(plain(name) for name in hold.terms.groups),
        needed=hold.terms.count,
        given=sum(one.is_yes for one in hold.resolutions),
        asked_at=hold.asked_at,
        expires_at=hold.expires_at,
        url=url_of(hold.hold_id),
        masked=masked,
    )


def plain(value: Any) -> str:
    """A word on one line: no control characters, nothing that turns the direction of writing, not too long."""
    text = _UNSEEN.sub(" ", "" if value is None else str(value))
    return text if len(text) <= _WORD_MAX else f"{text[:_WORD_MAX]}…"


def lines_of(told: Told) -> list[tuple[str, str]]:
    """What people read of one hold: labels and values."""
    found = ", ".join(f"{name} {count}" for name, count in told.findings.items())
    return [
        ("Connection", told.connection),
        ("Model", told.model or "not named"),
        ("Operation", told.operation),
        ("Found", found or "nothing"),
        ("Why it waits", told.reason or "the policy wants it"),
        ("Who may agree", f"{told.needed} of {', '.join(told.groups)}"),
        ("Until", minute(told.expires_at)),
    ]


def line_of(told: Told) -> str:
    """One hold of a digest."""
    what = f"{told.connection}, {told.model or 'no model'}"
    return f"{told.hold_id[:8]}  {what}: {STATES[told.state]}, until {minute(told.expires_at)}"


def title_of(message: Message) -> str:
    """What it is about, in our own words only: it may stand in a header."""
    count = len(message.told)
    if message.event is Event.TEST:
        return "Affidavit: a test of this channel"
    if message.is_digest:
        said = "calls wait for approval" if message.event is Event.PENDING else "calls do not wait any more"
        return f"Affidavit: {count} {said}"
    [told] = message.told
    if message.event is Event.PENDING:
        return f"Affidavit: a call waits for approval ({told.hold_id[:8]})"
    return f"Affidavit: {STATES[told.state]} ({told.hold_id[:8]})"


STATES: Final[Mapping[HoldState, str]] = {
    HoldState.PENDING: "it waits",
    HoldState.APPROVED: "approved",
    HoldState.DENIED: "denied",
    HoldState.EXPIRED: "nobody answered in time",
    HoldState.WITHDRAWN: "withdrawn: the caller has left",
    HoldState.ABANDONED: "abandoned: the gateway that held it stopped",
}
"""In words. `announced` leads to no other."""
_AS_APPROVED: Final = frozenset({HoldState.APPROVED, HoldState.CLAIMED, HoldState.USED})


def announced(state: HoldState) -> HoldState:
    """What is told of a hold that stands so: whether the call was made already, does not matter to who approved it."""
    return HoldState.APPROVED if state in _AS_APPROVED else state


def event_of(state: HoldState) -> Event:
    """What it is to be told that a hold stands so."""
    return Event.PENDING if state is HoldState.PENDING else Event.RESOLVED


def minute(at: datetime) -> str:
    """An instant for people."""
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M} UTC"
