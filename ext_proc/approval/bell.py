"""How exchanges that wait hear that their hold changed: one question for all of them, whenever anything did.

Three loops. One listens to the watch, in a thread of its own. One looks at how the holds stand for which somebody
waits: when the watch rang, when somebody new waits (it may have changed between their last look and their waiting),
and every second whatever happens, since time alone ends holds, and a bell can be deaf. One tells live inboxes that
there is something new, five times a second at most.

Nobody waits here longer than they said, even if the database is away.
"""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

from ext_proc import telemetry
from ext_proc.errors import ApprovalUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from datetime import datetime

    from ext_proc.approval.watch import Watch
    from ext_proc.model import HoldId, HoldState

LOOK_SECONDS: Final = 1.0
"""How often the holds that are waited for are looked at, whatever happens."""
_SPACING_SECONDS: Final = 0.02
"""Between two looks: what rings meanwhile is looked at together."""
_TOLD_SECONDS: Final = 0.2
"""Between two wake-ups of an inbox."""
_BACK_OFF_SECONDS: Final = 0.1
_BACK_OFF_MAX_SECONDS: Final = 5.0

_log = telemetry.logger()


class States(Protocol):
    """What the bell needs of the register."""

    def states(self, hold_ids: Iterable[HoldId], now: datetime) -> dict[HoldId, HoldState]:
        """See `Register.states`."""
        ...


@dataclass(eq=False, frozen=True, slots=True)
class _Waiter:
    seen: HoldState
    woken: asyncio.Future[None]


class Bell:
    """Of one event loop. Nothing is heard unless `run_forever` runs.

    Args:
        watch: what rings; whoever opened it closes it, after `run_forever` has ended.
        register: how holds stand.
        clock: the time.
    """

    def __init__(self, watch: Watch, register: States, clock: Callable[[], datetime]) -> None:
        self._watch = watch
        self._register = register
        self._clock = clock
        self._waiters: dict[HoldId, set[_Waiter]] = {}
        self._fresh: set[HoldId] = set()
        self._has_rung = False
        self._inboxes = 0
        self._change = 0
        self._told = asyncio.Event()
        self._is_wanted = asyncio.Event()
        self._is_held = asyncio.Event()
        self._is_to_look = asyncio.Event()
        self._is_to_tell = asyncio.Event()

    async def changed(self, hold_id: HoldId, seen: HoldState, until: datetime) -> None:
        """Return when the hold stands otherwise than ``seen``, or is gone; at ``until`` at the latest.

        ``seen`` is how `Hold.state` was, for whom ever it was claimed.
        """
        waiter = _Waiter(seen, asyncio.get_running_loop().create_future())
        self._waiters.setdefault(hold_id, set()).add(waiter)
        self._fresh.add(hold_id)
        self._is_to_look.set()
        self._note_who_waits()
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(max(0.0, (until - self._clock()).total_seconds())):
                    await waiter.woken
        finally:
            self._waiters[hold_id].discard(waiter)
            if not self._waiters[hold_id]:
                del self._waiters[hold_id]
                self._fresh.discard(hold_id)
            self._note_who_waits()

    @property
    def last_change(self) -> int:
        """The number of the last change; 0 if there was none since the process started."""
        return self._change

    async def any_change(self, seen: int = 0) -> int:
        """The number of the last change, once it is not ``seen`` any more: for an inbox that is looked at.

        Call it again with what it returned: what changed in between is not missed. After a start of the process
        everything counts as changed.
        """
        self._inboxes += 1
        self._note_who_waits()
        try:
            while self._change == seen:
                await self._told.wait()
        finally:
            self._inboxes -= 1
            self._note_who_waits()
        return self._change

    async def run_forever(self) -> None:
        """Listen, look and tell, until cancelled."""
        threads = ThreadPoolExecutor(2, thread_name_prefix="bell")
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._listen_forever(threads))
                tasks.create_task(self._look_forever(threads))
                tasks.create_task(self._tell_forever())
        finally:
            threads.shutdown(wait=False, cancel_futures=True)

    def _note_who_waits(self) -> None:
        _put(self._is_held, is_set=bool(self._waiters))
        _put(self._is_wanted, is_set=bool(self._waiters or self._inboxes))

    def _look_at_all(self) -> None:
        self._has_rung = True
        self._is_to_look.set()

    async def _listen_forever(self, threads: ThreadPoolExecutor) -> None:
        loop = asyncio.get_running_loop()
        pause, is_deaf = _BACK_OFF_SECONDS, False
        while True:
            if self._watch.is_polling:
                await self._is_wanted.wait()
            try:
                rung = await loop.run_in_executor(threads, self._watch.wait, LOOK_SECONDS)
            except ApprovalUnavailable as error:
                if not is_deaf:
                    _log.warning("changes of holds are not heard", detail=error.detail)
                is_deaf = True
                await asyncio.sleep(pause)
                pause = min(2 * pause, _BACK_OFF_MAX_SECONDS)
                continue
            if is_deaf:
                _log.info("changes of holds are heard again")
            pause, is_deaf = _BACK_OFF_SECONDS, False
            if rung:
                self._look_at_all()
                self._is_to_tell.set()

    async def _look_forever(self, threads: ThreadPoolExecutor) -> None:
        loop = asyncio.get_running_loop()
        is_blind = False
        while True:
            await self._is_held.wait()
            hold_ids = await self._to_look_at()
            try:
                found = await loop.run_in_executor(threads, self._register.states, hold_ids, self._clock())
            except ApprovalUnavailable as error:
                if not is_blind:
                    _log.warning("holds cannot be looked at", detail=error.detail, waiting=len(self._waiters))
                is_blind = True
                await asyncio.sleep(LOOK_SECONDS)
                self._look_at_all()
                continue
            if is_blind:
                _log.info("holds can be looked at again")
            is_blind = False
            self._wake(hold_ids, found)
            await asyncio.sleep(_SPACING_SECONDS)

    async def _to_look_at(self) -> list[HoldId]:
        """Wait until there is a reason to look: at the holds that somebody newly waits for, or at all of them."""
        is_time = False
        try:
            async with asyncio.timeout(LOOK_SECONDS):
                await self._is_to_look.wait()
        except TimeoutError:
            is_time = True
        hold_ids = list(self._waiters if self._has_rung or is_time else self._fresh)
        self._has_rung = False
        self._fresh.clear()
        self._is_to_look.clear()
        return hold_ids

    def _wake(self, hold_ids: Iterable[HoldId], found: dict[HoldId, HoldState]) -> None:
        for hold_id in hold_ids:
            if hold_id in self._fresh:  # somebody waits since who knows more than this: the next look is theirs
                continue
            for waiter in self._waiters.get(hold_id, ()):
                if found.get(hold_id) is not waiter.seen and not waiter.woken.done():
                    waiter.woken.set_result(None)

    async def _tell_forever(self) -> None:
        while True:
            await self._is_to_tell.wait()
            self._is_to_tell.clear()
            self._change += 1
            told, self._told = self._told, asyncio.Event()
            told.set()
            await asyncio.sleep(_TOLD_SECONDS)


def _put(event: asyncio.Event, *, is_set: bool) -> None:
    if is_set:
        event.set()
    else:
        event.clear()
