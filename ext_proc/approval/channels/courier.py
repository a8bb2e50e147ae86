"""Tells what is in the outbox, on all channels, in the console's process.

One loop notes what there is to be told, whenever a hold changed and every few seconds whatever happens. One loop for
each channel tells it: one after the other, no more a minute than the channel may. Where more waits than that, the
first few go out one by one and all others in digests: 10,000 calls that wait are fifty messages, not ten thousand.

What cannot be told is tried again, later and later, and given up after a day, in the log and in a metric. A channel
that fails is left alone for a while, so that a receiver that is down is not asked for every hold.
"""

from __future__ import annotations

import asyncio
import uuid
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Final, Protocol

from ext_proc import telemetry
from ext_proc.approval.channels.channel import Undelivered
from ext_proc.approval.channels.message import Event, Message, Told, told_of
from ext_proc.errors import DependencyError
from ext_proc.model import HoldState

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime

    from ext_proc.approval.channels.channel import Channel
    from ext_proc.approval.channels.outbox import Audience, Due, Lease, Outbox
    from ext_proc.model import HoldId

DIGEST_MAX: Final = 200
"""Holds of one digest."""
ALONE_MAX: Final = 5
"""Where digests are needed, so many holds a minute are told one by one before; at most half of all messages."""
LEASE_SECONDS: Final = 60.0
"""Longer than any channel takes for a message."""
GIVE_UP: Final = timedelta(days=1)
KEPT: Final = timedelta(days=3)
"""What was noted is kept so long, at least, and as long as its hold."""
_MINUTE: Final = timedelta(minutes=1)
_NOTE_SECONDS: Final = 2.0
_SPACING_SECONDS: Final = 0.5
_IDLE_TIMES: Final = 4
"""With 10,000 holds a look costs a quarter of a second: then there are fewer of them."""
_LOOK_SECONDS: Final = 2.0
_SWEEP_SECONDS: Final = 3600.0
_BACK_OFF_SECONDS: Final = 5.0
_BACK_OFF_MAX_SECONDS: Final = 900.0
_REST_SECONDS: Final = 1.0
_REST_MAX_SECONDS: Final = 60.0

_log = telemetry.logger()


class Changes(Protocol):
    """What is needed of the bell."""

    async def any_change(self, seen: int = 0) -> int:
        """See `Bell.any_change`."""
        ...


@dataclass(frozen=True, slots=True)
class Post:
    """A channel, who it is for, and how much it bears. ``is_for_people``: nobody needs to hear what is over already.

    ``has_text``: it may say what the model would get.
    """

    channel: Channel
    audience: Audience
    per_minute: int = 30
    is_for_people: bool = True
    has_text: bool = False


@dataclass(frozen=True, slots=True)
class Teller:
    """What is said of holds beside their facts: ``url_of`` their page, ``text_of`` what the model would get.

    ``text_of`` is told the kind of channel too, and puts on record that it was shown there; it may wait. None: nobody
    can read it any more.
    """

    url_of: Callable[[HoldId], str]
    text_of: Callable[[HoldId, str], str | None]


class Courier:
    """Of one event loop.

    Args:
        outbox: what there is to be told.
        posts: on which channels.
        teller: what is said.
        changes: when holds changed.
        clock: aware UTC.
    """

    def __init__(
        self, outbox: Outbox, posts: Sequence[Post], teller: Teller, changes: Changes, clock: Callable[[], datetime]
    ) -> None:
        self._outbox = outbox
        self._posts = tuple(posts)
        self._teller = teller
        self._changes = changes
        self._clock = clock
        self._woken = {post.channel.name: asyncio.Event() for post in self._posts}

    async def run_forever(self) -> None:
        """Note and tell, until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._note_forever())
            for post in self._posts:
                tasks.create_task(self._tell_forever(post))

    async def note(self) -> int:
        """Note what there is to be told: how many things.

        Raises:
            DependencyError: the database is away, or the log.
        """
        audiences = [post.audience for post in self._posts]
        return await asyncio.to_thread(self._outbox.note, audiences, self._clock())

    async def tell(self, post: Post) -> bool:
        """Tell what a channel may be told now. False: it failed, and is to be left alone for a while.

        Raises:
            DependencyError: the database is away, or the log.
        """
        for event in (Event.PENDING, Event.RESOLVED):
            while (budget := await self._budget(post)) > 0:
                count = await asyncio.to_thread(self._outbox.count_due, post.channel.name, event, self._clock())
                if not count:
                    break
                lease = await self._lease(post, event, self._size(post, event, count, budget))
                if lease.due and not await self._told(post, event, lease):
                    return False
        return True

    # ---------------------------------------------------------------------------------------------------------------

    async def _note_forever(self) -> None:
        loop = asyncio.get_running_loop()
        seen, swept_at, is_away = 0, self._clock(), False
        while True:
            began = loop.time()
            try:
                if await self.note():
                    for woken in self._woken.values():
                        woken.set()
                if (self._clock() - swept_at).total_seconds() >= _SWEEP_SECONDS:
                    swept_at = self._clock()
                    await asyncio.to_thread(self._outbox.sweep, swept_at - KEPT)
                is_away = False
            except DependencyError as error:
                if not is_away:
                    _log.warning("nobody can be told of holds", detail=error.detail)
                is_away = True
            took = loop.time() - began
            with suppress(TimeoutError):
                async with asyncio.timeout(_NOTE_SECONDS):
                    seen = await self._changes.any_change(seen)
            await asyncio.sleep(max(_SPACING_SECONDS, _IDLE_TIMES * took))

    async def _tell_forever(self, post: Post) -> None:
        rest, woken = _REST_SECONDS, self._woken[post.channel.name]
        while True:
            woken.clear()
            try:
                is_well = await self.tell(post)
            except DependencyError as error:
                _log.warning("a channel waits", channel=post.channel.name, code=error.code)
                is_well = False
            if not is_well:
                await asyncio.sleep(rest)
                rest = min(2 * rest, _REST_MAX_SECONDS)
                continue
            rest = _REST_SECONDS
            with suppress(TimeoutError):
                async with asyncio.timeout(_LOOK_SECONDS):
                    await woken.wait()

    async def _budget(self, post: Post) -> int:
        since = self._clock() - _MINUTE
        return post.per_minute - await asyncio.to_thread(self._outbox.count_sent, post.channel.name, since)

    @staticmethod
    def _size(post: Post, event: Event, count: int, budget: int) -> int:
        """Of how many holds the next message is."""
        if event not in post.channel.digests or count <= budget:
            return 1
        return 1 if budget > post.per_minute - min(ALONE_MAX, post.per_minute // 2) else DIGEST_MAX

    async def _lease(self, post: Post, event: Event, limit: int) -> Lease:
        now = self._clock()
        until = now + timedelta(seconds=LEASE_SECONDS)
        return await asyncio.to_thread(self._outbox.lease, post.channel.name, event, limit, now, until)

    async def _told(self, post: Post, event: Event, lease: Lease) -> bool:
        """One message. What is over, too old or of no use is dropped before. False: the channel failed."""
        lease = await self._without(post, lease, "given_up", self._is_too_old)
        lease = await self._without(post, lease, "moot", lambda due: _is_moot(post, due))
        if not lease.due:
            return True
        message = await self._message(post, event, lease)
        try:
            reference = await post.channel.send(message)
        except Undelivered as error:
            await self._failed(post, event, lease, error)
            return error.is_final
        await asyncio.to_thread(self._outbox.sent, lease, message.message_id, reference, self._clock())
        telemetry.NOTICES.labels(post.channel.name, event.value, "sent").inc(len(lease.due))
        return True

    async def _failed(self, post: Post, event: Event, lease: Lease, error: Undelivered) -> None:
        of_what = {"channel": post.channel.name, "of": event.value, "why": error.word, "holds": len(lease.due)}
        if error.is_final:
            await asyncio.to_thread(self._outbox.dropped, lease, "given_up")
            _log.error("nobody was told of holds, and nobody will be", **of_what)
        else:
            pause = max(back_off(max(due.tries for due in lease.due)), min(error.after_seconds, _BACK_OFF_MAX_SECONDS))
            await asyncio.to_thread(self._outbox.failed, lease, self._clock() + timedelta(seconds=pause))
            _log.warning("nobody was told of holds yet", **of_what, again_in_seconds=pause)
        result = "given_up" if error.is_final else "failed"
        telemetry.NOTICES.labels(post.channel.name, event.value, result).inc(len(lease.due))

    async def _without(self, post: Post, lease: Lease, why: str, is_such: Callable[[Due], bool]) -> Lease:
        gone = tuple(due for due in lease.due if is_such(due))
        if not gone:
            return lease
        await asyncio.to_thread(self._outbox.dropped, _of(lease, gone), why)
        telemetry.NOTICES.labels(post.channel.name, gone[0].event.value, why).inc(len(gone))
        if why == "given_up":
            _log.error("nobody was told of holds for a day", channel=post.channel.name, holds=len(gone))
        return _of(lease, tuple(due for due in lease.due if due not in gone))

    def _is_too_old(self, due: Due) -> bool:
        return self._clock() - due.made_at >= GIVE_UP

    async def _message(self, post: Post, event: Event, lease: Lease) -> Message:
        first = lease.due[0]
        if len(lease.due) > 1:
            told = tuple(self._line(due) for due in lease.due)
            return Message(f"msg_{uuid.uuid4().hex}", event, first.made_at, told)
        message_id = f"msg_{post.channel.name}_{first.hold.hold_id}_{first.number}"  # the same when it is tried again
        text = None
        if post.has_text and event is Event.PENDING:
            text = await asyncio.to_thread(self._teller.text_of, first.hold.hold_id, post.channel.kind)
        return Message(message_id, event, first.made_at, (self._line(first, text),), first.reference)

    def _line(self, due: Due, text: str | None = None) -> Told:
        return told_of(due.hold, due.number, due.state, self._teller.url_of, text)


def back_off(tries: int) -> float:
    """How long to leave something alone that failed so often."""
    return min(_BACK_OFF_SECONDS * 2.0 ** min(tries - 1, 16), _BACK_OFF_MAX_SECONDS)


def _is_moot(post: Post, due: Due) -> bool:
    """Would it be of any use? Nobody is asked about what is over; a message that is not there is not changed."""
    if due.event is Event.RESOLVED:
        return post.channel.updates and due.reference is None
    return post.is_for_people and due.hold.state is not HoldState.PENDING


def _of(lease: Lease, due: tuple[Due, ...]) -> Lease:
    return type(lease)(lease.channel, lease.token, lease.until, due)
