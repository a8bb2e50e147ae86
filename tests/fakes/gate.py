"""The real listener on a Unix socket, with fake rooms behind it."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ext_proc.model import Connection, Identity
from ext_proc.server.listener import Listener
from ext_proc.server.stream import Rooms
from tests.fakes.content import FakeContent, FakeCredentials
from tests.fakes.envoy import FakeEnvoy
from tests.fakes.identity import FakeIdentities
from tests.fakes.policy import FakePolicy
from tests.fakes.recorder import FakeRecorder
from tests.fakes.tokens import FakeTokenDesk

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from ext_proc.model import Call, Decision

LIMIT_BYTES = 8 * 1024 * 1024
ADA = Identity("https://idp.example.com", "ada", "oidc", ("analysts",))


class HeldPolicy(FakePolicy):
    """A policy that takes its time: ``gate`` lets it answer; ``bug`` is raised, whatever it is."""

    def __init__(self) -> None:
        super().__init__()
        self.gate: asyncio.Event | None = None
        self.bug: BaseException | None = None
        self.begun = asyncio.Event()
        self.cancelled = asyncio.Event()

    async def decide(self, call: Call) -> Decision:
        """See `ports.Policy.decide`."""
        self.begun.set()
        if self.bug is not None:
            raise self.bug
        if self.gate is not None:
            try:
                await self.gate.wait()
            except asyncio.CancelledError:
                self.cancelled.set()
                raise
        return await super().decide(call)


@dataclass(slots=True)
class FakeGate:
    """The fakes, and a way to stop the listener."""

    identities: Any = field(default_factory=lambda: FakeIdentities({"callers-own": ADA}))
    content: FakeContent = field(default_factory=FakeContent)
    policy: HeldPolicy = field(default_factory=HeldPolicy)
    recorder: FakeRecorder = field(default_factory=FakeRecorder)
    credentials: FakeCredentials = field(default_factory=FakeCredentials)
    tokens: FakeTokenDesk = field(default_factory=FakeTokenDesk)
    stop: asyncio.Event = field(default_factory=asyncio.Event)
    looks: int = 0
    """How often the gate looked at its clock: while a step waits, once for each that it hears of Envoy."""
    serving: asyncio.Task[None] | None = None
    envoy: FakeEnvoy | None = None

    def begin(self) -> Any:
        """A new stream of the fake Envoy's."""
        assert self.envoy is not None
        return self.envoy.begin()

    def clock(self) -> datetime:
        """The time."""
        self.looks += 1
        return datetime.now(UTC)

    @asynccontextmanager
    async def hearing(self, count: int = 1) -> AsyncIterator[None]:
        """Until it has heard so many things of an exchange whose step waits: questions, or that Envoy has gone."""
        before = self.looks
        yield
        async with asyncio.timeout(20):
            while self.looks < before + count:  # noqa: ASYNC110 - it rings no bell
                await asyncio.sleep(0.005)


@asynccontextmanager
async def running_gate(
    *,
    record_deadline_seconds: float = 10.0,
    grace_seconds: float = 0.0,
    upgrades: bool = False,
    content: Any = None,
    connection: Connection | None = None,
    tracing: Any = None,
) -> AsyncIterator[FakeGate]:
    """A gate that serves, and a fake Envoy connected to it. ``content`` and ``connection`` instead of the fake ones."""
    gate = FakeGate()
    computing = ThreadPoolExecutor(2, thread_name_prefix="computing")
    folder = Path(tempfile.mkdtemp(prefix="aff-gate-", dir="/tmp"))
    demo = connection or Connection("demo", (), None, LIMIT_BYTES, LIMIT_BYTES, unsafe_allow_upgrade=upgrades)
    rooms = Rooms(
        identities=gate.identities,
        content=content or gate.content,
        policy=gate.policy,
        recorder=gate.recorder,
        credentials=gate.credentials,
        connections=lambda: {"demo": demo},
        clock=gate.clock,
        computing=computing,
        record_deadline_seconds=record_deadline_seconds,
        tokens=gate.tokens,
        tracing=tracing,
    )
    listener = Listener(rooms, folder / "gate.sock", LIMIT_BYTES, leave_seconds=0.0)
    gate.serving = asyncio.create_task(listener.serve(gate.stop, grace_seconds))
    try:
        async with asyncio.timeout(10):
            while not (folder / "gate.sock").exists() and not gate.serving.done():  # noqa: ASYNC110 - a file
                await asyncio.sleep(0.005)
        async with FakeEnvoy(folder / "gate.sock") as gate.envoy:
            yield gate
            gate.stop.set()
            await asyncio.wait_for(gate.serving, 20)
    finally:
        gate.serving.cancel()
        await asyncio.gather(gate.serving, return_exceptions=True)
        computing.shutdown(wait=False)
        shutil.rmtree(folder, ignore_errors=True)
