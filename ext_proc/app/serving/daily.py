"""What is done once a day, by itself: account for the day that is over (`reconcile`), then roll it up (`rollup`).

The store says what is done: a signed statement of the whole day, a roll-up. So it does not matter which replica did it,
or whether one was away; replicas begin at different minutes, and each finds what the one before it left. Only days of
which the store has records count, and roll-ups go forward.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import sys
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from ext_proc import telemetry
from ext_proc.app.process import PARENT_VARIABLE, tell
from ext_proc.audit import note
from ext_proc.audit.record import instant
from ext_proc.audit.store import StoreRefused, StoreUnavailable
from ext_proc.errors import GateError, IntegrityError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping
    from pathlib import Path

    from ext_proc.audit.store import Store
    from ext_proc.config import Config

    Run = Callable[[str, str], Awaitable[int | None]]

LOOK_SECONDS: Final = 30.0
RETRY: Final = timedelta(minutes=30)
"""After a command that could not be run to its end, or a store that did not answer."""
CATCH_UP_DAYS: Final = 7
"""So many days back are made up for after everything was down."""
APART_SECONDS: Final = 3000
"""Replicas begin within so many seconds after the hour, each at its own."""
COMMAND_SECONDS: Final = 6 * 3600.0
"""A command that takes longer hangs: it is broken off, and tried again."""
SLACK_SECONDS: Final = 1800.0
"""What said nothing for so long after it was due does not run any more."""
_WAIT_MAX: Final = timedelta(hours=25)
"""Between two looks, at most."""
_STOP_SECONDS: Final = 10.0
_NICENESS: Final = 10
_FAILED_TO_RUN: Final = 2
_STATE: Final = "daily"

_log = telemetry.logger()


class Daily:
    """The work of the days that are over.

    Args:
        config: the configuration; ``audit.daily_hour`` must be set.
        store: the bucket.
        public_key: the log's: a statement or roll-up counts as done only with its signature.
        clock: aware UTC.
        run: runs a command (``reconcile``, ``rollup``) for a day; its exit status, None if it was broken off.
    """

    def __init__(
        self, config: Config, store: Store, public_key: bytes, clock: Callable[[], datetime], run: Run
    ) -> None:
        self._config = config
        self._store = store
        self._public_key = public_key
        self._clock = clock
        self._run = run
        seed = hashlib.sha256(config.audit.replica.encode()).digest()
        apart = timedelta(seconds=int.from_bytes(seed[:4]) % APART_SECONDS)
        self._after_midnight = timedelta(hours=config.audit.daily_hour or 0) + apart
        self._due_at = clock()
        self._failures: list[str] = []

    async def live(self, stop: asyncio.Event) -> None:
        """Look now and then, until ``stop``."""
        while not stop.is_set():
            await self.look()
            with suppress(TimeoutError):
                async with asyncio.timeout(LOOK_SECONDS):
                    await stop.wait()

    async def look(self) -> None:
        """Do what is due, and say how it went."""
        now = self._clock()
        if now < self._due_at <= now + _WAIT_MAX:  # later: the clock was ahead, and has been put right
            return
        self._due_at = now + RETRY
        try:
            failures, is_done = await self._catch_up(now)
        except (StoreUnavailable, StoreRefused, GateError) as error:
            failures, is_done = [f"store: {error}"], False
        if is_done and not failures:
            self._due_at = self._next(now)
        for failure in failures:
            _log.error("daily work", failure=failure)
        self._failures = failures
        self._say(now, self._due_at - self._clock())

    def _say(self, now: datetime, waits: timedelta) -> None:
        """How it stands; whoever reads it after ``waits`` (and a little more) in vain knows that this hangs."""
        due_by = self._clock().timestamp() + max(0.0, waits.total_seconds()) + SLACK_SECONDS
        told = {"at": now.timestamp(), "is_ready": not self._failures, "failures": self._failures, "due_by": due_by}
        tell(self._config.run_dir, _STATE, {**told, "next_at": instant(self._due_at)})

    def _next(self, now: datetime) -> datetime:
        today = now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0) + self._after_midnight
        return today if now < today else today + timedelta(days=1)

    async def _catch_up(self, now: datetime) -> tuple[list[str], bool]:
        """What failed, and whether all of it was at least done."""
        last = (now.astimezone(UTC) - self._after_midnight).date() - timedelta(days=1)
        failures: list[str] = []
        for back in reversed(range(CATCH_UP_DAYS)):
            day = f"{last - timedelta(days=back):%Y-%m-%d}"
            left, does_add_up = await asyncio.to_thread(self._left, day)
            if not does_add_up:
                failures.append(_failure("reconcile", day, 1))
            for command in left:
                self._failures = self._failures or list(failures)  # known for hours before the last command ends
                self._say(now, timedelta(seconds=COMMAND_SECONDS))
                status = await self._run(command, day)
                telemetry.DAILY_RUNS.labels(command, _word(status)).inc()
                if status != 0:
                    failures.append(_failure(command, day, status))
                if status is None or status >= _FAILED_TO_RUN or status < 0:
                    return failures, False
        return failures, True

    def _left(self, day: str) -> tuple[list[str], bool]:
        """The commands that are still to be run for a day, and whether what is stated of it adds up."""
        if next(iter(self._store.keys(f"v1/events/dt={day}/")), None) is None:
            return [], True
        stated = self._stated(day)
        left = ["reconcile"] if stated is None else []
        newest = max((key.split("/")[2].removeprefix("dt=") for key in self._store.keys("v1/rollup/")), default="")
        return [*left, "rollup"] if newest < day else left, stated is None or _adds_up(stated)

    def _stated(self, day: str) -> Mapping[str, Any] | None:
        """The newest statement of the whole day. One that an operator asked for may be of an hour of it."""
        begin = datetime.fromisoformat(day).replace(tzinfo=UTC)
        whole = (instant(begin), instant(begin + timedelta(days=1)))
        told = map(self._told, self._store.keys(f"v1/reconcile/dt={day}/"))
        found = [one for one in told if (one.get("from"), one.get("to")) == whole]
        return max(found, key=lambda one: str(one.get("at", "")), default=None)

    def _told(self, key: str) -> Mapping[str, Any]:
        """What a note of ours says; nothing if it is none."""
        try:
            opened = note.open_note(self._store.fetch(key).decode())
            is_ours = note.is_signed(opened, self._config.audit.origin, self._public_key)
            return note.json_of(opened) if is_ours else {}
        except (IntegrityError, UnicodeDecodeError):
            return {}


def _adds_up(told: Mapping[str, Any]) -> bool:
    """As the command's exit status says it; what is only not listed one by one is explained."""
    return not told.get("orphans") and all(one.get("code") == "unlisted" for one in told.get("gaps", ()))


def _failure(command: str, day: str, status: int | None) -> str:
    return f"{command} of {day}: {_word(status)}; run `affidavit {command} --day {day}`"


def _word(status: int | None) -> str:
    match status:
        case 0:
            return "done"
        case 1:
            return "something does not add up"
        case None:
            return "broken off"
        case _:
            return "could not be run"


async def run_command(
    config_path: Path, stop: asyncio.Event, command: str, day: str, *, limit_seconds: float = COMMAND_SECONDS
) -> int | None:
    """One of our own commands in a process that yields to the workers. None: ``stop`` came first, or the limit."""
    try:
        child = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "ext_proc", command, "--config", str(config_path), "--day", day, "--json",
            stdout=asyncio.subprocess.DEVNULL,  # the statement is in the store, and how it went is the exit status
            process_group=0,
            env={**os.environ, PARENT_VARIABLE: str(os.getpid())},
        )  # fmt: skip
    except OSError as error:  # no memory, no process left: the workers go on, and it is tried again
        _log.error("daily work could not be started", command=command, why=error.strerror)
        return _FAILED_TO_RUN
    with suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, child.pid, _NICENESS)
    ended = asyncio.ensure_future(child.wait())  # noqa: TID251 - awaited right below
    stopping = asyncio.ensure_future(stop.wait())  # noqa: TID251 - as above
    await asyncio.wait((ended, stopping), return_when=asyncio.FIRST_COMPLETED, timeout=limit_seconds)
    stopping.cancel()
    if ended.done():
        return ended.result()
    with suppress(ProcessLookupError):
        child.terminate()
    try:
        async with asyncio.timeout(_STOP_SECONDS):
            await ended
    except TimeoutError:
        with suppress(ProcessLookupError):
            child.kill()
        await child.wait()
    return None
