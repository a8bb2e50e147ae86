"""The ways in: what somebody said of a hold by a signed webhook, or in Slack.

A signature says who sent a message, not who speaks in it. A sender of webhooks names the person, and is believed as
far as the configuration says; a user of Slack's is the person whom our own file names. Then the rules of approval apply
to that person as to anybody, and one's own call stays one's own.

Each message counts once. What is refused is on record where the hold is known and the answer can be read: of strangers,
who can send us anything, a few for each hold.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Final, Protocol

from ext_proc import telemetry
from ext_proc.approval.channels.channel import Undelivered
from ext_proc.approval.channels.incoming import Named, read_answer, read_pressed
from ext_proc.approval.channels.secret_files import BadSecret
from ext_proc.approval.channels.signature import TOLERANCE, BadSignature, verify_slack, verify_webhook
from ext_proc.errors import ApprovalUnavailable, GateError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from datetime import datetime

    from ext_proc.approval.channels.incoming import Said
    from ext_proc.approval.channels.outbox import Seen

REFUSALS: Final[Mapping[str, str]] = {
    "signature_missing": "The headers of a signed message are missing.",
    "signature_wrong": "The signature is not that of a sender known here.",
    "out_of_time": "The time stamp is more than five minutes off. Sign it anew, and look at your clock.",
    "replayed": "This message was taken already. A new answer needs a message id of its own.",
    "unreadable": "The body is not what is described in docs/approvals.md.",
    "sender_may_not": "This sender may not speak for somebody with that issuer, tenant or one of those groups.",
    "unknown_person": "Nobody here knows whom you are. Ask whoever runs the gateway to add you to the people of Slack.",
}
"""Why a message does not count, beside `hold.OBJECTIONS`: stable codes, with what its sender is told."""

_BUSY_SECONDS: Final = 60.0
_WHISPER_SECONDS: Final = 2.0
"""Slack waits three seconds for an answer."""
_STRANGERS_MAX: Final = 10
"""What is refused, of one hold."""
_STRANGERS_HOLDS_MAX: Final = 10_000
_SIGNED_BY_NOBODY: Final = frozenset({"signature_missing", "signature_wrong", "out_of_time"})
_IN_ALL_MAX: Final = 200
"""In ten minutes, of all holds, those that are not there included: so often the register is asked for strangers. Those
whose signature was right have as much again, so that nobody's noise hides what they do."""
_IN_ALL: Final = timedelta(minutes=10)

_log = telemetry.logger()


@dataclass(frozen=True, slots=True)
class Reply:
    """What a sender is told: ``code`` is `taken`, `ignored`, or why not; ``state``: how the hold stands then."""

    status: int
    code: str
    text: str = ""
    state: str | None = None


class Refused(Exception):
    """The rules of approval say no: a code of `hold.OBJECTIONS`, with its text and HTTP status."""

    def __init__(self, code: str, text: str, status: int) -> None:
        super().__init__(code)
        self.code = code
        self.text = text
        self.status = status


class Desk(Protocol):
    """Where holds are resolved and records kept. Both may wait; both raise `GateError` when they cannot."""

    async def resolve(self, person: Named, channel: str, said: Said) -> str:
        """Say it: how the hold stands then. On record, whatever becomes of it.

        Raises:
            Refused: this person may not, or not now.
        """
        ...

    async def note_refused(self, channel: str, said: Said, code: str) -> None:
        """Nobody whom we know said it: on record if there is such a hold."""
        ...


@dataclass(frozen=True, slots=True)
class Sender:
    """Who may send webhooks, and for whom it may speak: people of these issuers, tenants and (all of their) groups."""

    name: str
    secrets: Callable[[], list[bytes]]
    issuers: frozenset[str]
    tenants: frozenset[str | None]
    groups: frozenset[str]

    def may_act_for(self, person: Named) -> bool:
        """May it?"""
        is_known = person.issuer in self.issuers and person.tenant in self.tenants
        return is_known and bool(person.groups) and self.groups.issuperset(person.groups)


class Whisperer(Protocol):
    """What is needed of `slack.Slack`."""

    async def whisper(self, channel: str, user: str, text: str) -> None:
        """See `Slack.whisper`."""
        ...


@dataclass(frozen=True, slots=True)
class Workspace:
    """A Slack app: its secrets, whom its users are (read anew each time), and how they are told something."""

    name: str
    secrets: Callable[[], list[bytes]]
    people: Callable[[], Mapping[str, Named]]
    voice: Whisperer


class _Inbox:
    """What both ways in have in common: once each, and on record."""

    def __init__(self, channel: str, seen: Seen, desk: Desk, clock: Callable[[], datetime]) -> None:
        self.channel = channel
        self.clock = clock
        self._seen = seen
        self._desk = desk
        self._strangers: OrderedDict[str, int] = OrderedDict()  # by hold; beyond the limit, the oldest is forgotten
        self._in_all: dict[bool, tuple[datetime, int]] = {}

    async def once(self, sender: str, message_id: str, person: Named | str, said: Said) -> Reply:
        """Let somebody say it, unless this message did before. A text in place of the person is why not."""
        now = self.clock()
        busy = now + timedelta(seconds=_BUSY_SECONDS)
        if not await asyncio.to_thread(self._seen.begin, sender, message_id, now, busy):
            await self.refuse("replayed", said)
            return _refusal(409, "replayed")
        try:
            reply = await self._act(person, said)
        except GateError:
            await asyncio.to_thread(self._seen.undone, sender, message_id)  # sent again, it counts
            raise
        # Its time stamp may be ahead of our clock: it must be known for as long as it would be believed.
        await asyncio.to_thread(self._seen.done, sender, message_id, now + 3 * TOLERANCE)
        return reply

    async def refuse(self, code: str, said: Said | None) -> None:
        """Nobody known said it."""
        _log.warning("an answer to a hold was refused", channel=self.channel, code=code)
        if said is not None and self._may_note(code, said.hold_id):
            await self._desk.note_refused(self.channel, said, code)

    def _may_note(self, code: str, hold_id: str) -> bool:
        """Not what was noted often enough. Who is over the limit for all makes nothing forgotten."""
        is_stranger, now = code in _SIGNED_BY_NOBODY, self.clock()
        since, count = self._in_all.get(is_stranger, (now, 0))
        if not since <= now < since + _IN_ALL:
            since, count = now, 0
        if count >= _IN_ALL_MAX or self._strangers.get(hold_id, 0) >= _STRANGERS_MAX:
            return False
        self._in_all[is_stranger] = since, count + 1
        self._strangers[hold_id] = self._strangers.get(hold_id, 0) + 1
        if len(self._strangers) > _STRANGERS_HOLDS_MAX:
            self._strangers.popitem(last=False)
        return True

    async def _act(self, person: Named | str, said: Said) -> Reply:
        if isinstance(person, str):
            await self.refuse(person, said)
            return _refusal(403, person)
        try:
            state = await self._desk.resolve(person, self.channel, said)
        except Refused as refused:
            return Reply(refused.status, refused.code, refused.text)
        return Reply(200, "taken", "It is on record, and it counts.", state)


class WebhookAnswers:
    """``POST /hooks/webhook``.

    Args:
        senders: whose messages count.
        seen: what came in.
        desk: where it is said.
        clock: aware UTC.
    """

    def __init__(self, senders: Sequence[Sender], seen: Seen, desk: Desk, clock: Callable[[], datetime]) -> None:
        self._senders = tuple(senders)
        self._inbox = _Inbox("webhook", seen, desk, clock)

    async def take(self, headers: Mapping[str, str], body: bytes) -> Reply:
        """One message.

        Raises:
            GateError: nobody can be heard at present; sent again, it counts.
        """
        read = read_answer(body)
        try:
            sender, message_id = self._sender(headers, body)
        except BadSignature as bad:
            await self._inbox.refuse(bad.code, read[0] if read else None)
            return _refusal(401, bad.code)
        if read is None:
            await self._inbox.refuse("unreadable", None)
            return _refusal(400, "unreadable")
        said, person = read
        who: Named | str = person if sender.may_act_for(person) else "sender_may_not"
        return await self._inbox.once(f"webhook:{sender.name}"[:64], message_id, who, said)

    def _sender(self, headers: Mapping[str, str], body: bytes) -> tuple[Sender, str]:
        """Whose signature it is. Of several reasons against it, the one that says most."""
        bad = BadSignature("signature_wrong")
        for sender in self._senders:
            try:
                return sender, verify_webhook(_known(sender.secrets), headers, body, self._inbox.clock())
            except BadSignature as error:
                bad = error if error.code != "signature_wrong" else bad
        raise bad


class SlackAnswers:
    """``POST /hooks/slack``.

    Args:
        workspaces: whose users count.
        seen: what came in.
        desk: where it is said.
        clock: aware UTC.
    """

    def __init__(self, workspaces: Sequence[Workspace], seen: Seen, desk: Desk, clock: Callable[[], datetime]) -> None:
        self._workspaces = tuple(workspaces)
        self._inbox = _Inbox("slack", seen, desk, clock)

    async def take(self, headers: Mapping[str, str], body: bytes) -> Reply:
        """One message: somebody pressed a button.

        Raises:
            GateError: nobody can be heard at present; pressed again, it counts.
        """
        pressed = read_pressed(body)
        said = pressed.said if pressed else None
        try:
            workspace, message_id = self._workspace(headers, body)
        except BadSignature as bad:
            await self._inbox.refuse(bad.code, said)
            return _refusal(401, bad.code)
        if pressed is None:
            await self._inbox.refuse("unreadable", None)
            return _refusal(400, "unreadable")
        if said is None:
            return Reply(200, "ignored")  # a link was opened
        who = self._people(workspace).get(pressed.user, "unknown_person")
        reply = await self._inbox.once(f"slack:{workspace.name}"[:64], message_id, who, said)
        if reply.code == "replayed":
            return reply
        try:
            async with asyncio.timeout(_WHISPER_SECONDS):
                await workspace.voice.whisper(pressed.channel, pressed.user, reply.text)
        except (Undelivered, TimeoutError):
            _log.warning("somebody was not told what became of their answer", channel=workspace.name, code=reply.code)
        return Reply(200, reply.code, "", reply.state)  # Slack would show its own words for any other status

    def _workspace(self, headers: Mapping[str, str], body: bytes) -> tuple[Workspace, str]:
        bad = BadSignature("signature_wrong")
        for workspace in self._workspaces:
            try:
                return workspace, verify_slack(_known(workspace.secrets), headers, body, self._inbox.clock())
            except BadSignature as error:
                bad = error if error.code != "signature_wrong" else bad
        raise bad

    @staticmethod
    def _people(workspace: Workspace) -> Mapping[str, Named]:
        try:
            return workspace.people()
        except BadSecret as bad:
            raise ApprovalUnavailable(str(bad)) from None


def _known(secrets: Callable[[], list[bytes]]) -> list[bytes]:
    try:
        return secrets()
    except BadSecret as bad:
        raise ApprovalUnavailable(str(bad)) from None


def _refusal(status: int, code: str) -> Reply:
    return Reply(status, code, REFUSALS[code])
