"""`ports.Recorder` in memory: what was made durable, in order, and every way of failing at it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from ext_proc.errors import AuditUnavailable
from ext_proc.model import Receipt

if TYPE_CHECKING:
    from datetime import datetime

    from ext_proc.model import Entry, ExchangeId

ORIGIN = "fake/recorder"


class FakeRecorder:
    """Keeps ``entries``; an entry's place is its sequence.

    ``over``: exchanges of which nothing is left to say. ``errors`` by kind of entry: raised instead of recording. ``gates`` by kind: the record waits for the event first,
    and, as the real writer does, becomes durable even if whoever waits for it has gone (``late``).
    """

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self.late: list[Entry] = []
        self.errors: dict[str, BaseException] = {}
        self.gates: dict[str, asyncio.Event] = {}
        self.begun: asyncio.Queue[str] = asyncio.Queue()
        self.admit_error: BaseException | None = None
        self.over: list[ExchangeId] = []
        self._changed = asyncio.Event()

    def hold(self, kind: str) -> asyncio.Event:
        """Let entries of this kind wait; set the event to let them through."""
        self.gates[kind] = asyncio.Event()
        return self.gates[kind]

    async def until(self, count: int) -> None:
        """Wait until so many entries are on record.

        Raises:
            TimeoutError: they never were.
        """
        async with asyncio.timeout(10):
            while len(self.entries) < count:
                self._changed.clear()
                await self._changed.wait()

    def kinds(self) -> list[str]:
        """What was recorded, in order, without ``inference.``."""
        return [entry.kind.removeprefix("inference.") for entry in self.entries]

    def statuses(self) -> list[str]:
        """How the exchanges ended."""
        return [entry.facts["outcome"]["status"] for entry in self.entries if entry.kind == "inference.outcome"]

    def admit(self, size_bytes: int) -> None:
        """See `ports.Recorder.admit`."""
        if self.admit_error is not None:
            raise self.admit_error
        if size_bytes <= 0:
            raise AuditUnavailable("nothing to admit")

    def ended(self, exchange_id: ExchangeId) -> None:
        """See `ports.Recorder.ended`."""
        self.over.append(exchange_id)

    async def record(self, entry: Entry, now: datetime) -> Receipt:
        """See `ports.Recorder.record`."""
        del now
        self.begun.put_nowait(entry.kind)
        error = self.errors.get(entry.kind)
        if error is not None:
            raise error
        gate = self.gates.get(entry.kind)
        if gate is not None:
            try:
                await gate.wait()
            except asyncio.CancelledError:
                self.late.append(entry)
                raise
        await asyncio.sleep(0)
        self.entries.append(entry)
        self._changed.set()
        sequence = len(self.entries) - 1
        return Receipt(ORIGIN, sequence, f"{sequence:064x}")
