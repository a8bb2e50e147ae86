"""One gate process: its rooms joined, its log opened, its door opened; closed in reverse."""

from __future__ import annotations

import asyncio
import gc
import signal
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import uvloop

from ext_proc import telemetry
from ext_proc.app import registry
from ext_proc.app.approval.holds import HoldDesk
from ext_proc.app.background import keep_running
from ext_proc.app.exchange.content import ContentGate
from ext_proc.app.exchange.credentials import FileCredentials
from ext_proc.app.exchange.rule_packs import detector_of
from ext_proc.app.exchange.shadow import ShadowedPolicy
from ext_proc.app.logs import beat_forever, open_log
from ext_proc.app.process import clock, end_with_parent, read_states, release_sigterm, tell
from ext_proc.app.serving.scraping import tell_exemplars
from ext_proc.approval.bell import Bell
from ext_proc.approval.register import Holder
from ext_proc.audit.keys import read_key
from ext_proc.config import load
from ext_proc.errors import GateError
from ext_proc.identity.authenticator import Authenticator
from ext_proc.ner.pool import WAITING_MAX
from ext_proc.record_kinds import LeafKind
from ext_proc.server.listener import Listener
from ext_proc.server.stream import Rooms

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping
    from pathlib import Path

    from ext_proc.app.exchange.tokens import VaultDesk
    from ext_proc.approval.register_sql import SqlRegister
    from ext_proc.approval.watch import Watch
    from ext_proc.audit.keys import KeyRing
    from ext_proc.audit.writer import Writer
    from ext_proc.model import HoldId
    from ext_proc.policy.opa import OpaPolicy

TELL_SECONDS: Final = 1.0
BIRTH_POLL_SECONDS: Final = 0.1
BIRTH_PATIENCE: Final = 100
"""So many looks, and it is said what is waited for."""
SETTLE_SECONDS: Final = 5.0
"""For the register of holds to hear what became of the last exchanges. What it does not hear, the log tells."""
GC_ALLOCATIONS: Final = 20_000
"""Objects more than before that begin a round of the garbage collector; Python's own number is 700."""

COMPUTING_THREADS: Final = 2
"""Beside those that wait for a recogniser of names. With six busy ones the event loop had its turn after 0.3 s, with
two after 0.05 s, and no more was computed."""

_log = telemetry.logger()


def run(config_path: Path, index: int) -> int:
    """A worker's whole life."""
    end_with_parent()
    release_sigterm()  # no log is open: it may just end
    telemetry.set_up_logging()
    uvloop.run(_Worker(config_path, index).live())
    return 0


def _settle_memory() -> None:
    """What is there now stays: the collector need not look at it at every round, nor after every few exchanges.

    An exchange leaves no cycles, so rounds are for bugs and libraries; with Python's own threshold they cost 4 percent.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(GC_ALLOCATIONS, 20, 20)


def _computing(*, is_waiting: bool) -> ThreadPoolExecutor:
    """Threads that large bodies are read in; some of them may be waiting for a recogniser."""
    return ThreadPoolExecutor(COMPUTING_THREADS + (WAITING_MAX if is_waiting else 0), thread_name_prefix="computing")


class _Worker:
    def __init__(self, config_path: Path, index: int) -> None:
        self._path = config_path
        self._index = index
        self._config, self._digest = load(config_path)
        self._connections = registry.connections(self._config)
        telemetry.begin_with(self._connections)
        self._stop = asyncio.Event()
        self._has_news = asyncio.Event()
        self._computing = _computing(is_waiting=self._config.redaction.ner is not None)

    async def live(self) -> None:
        """Open, serve, close."""
        config = self._config
        # Before the log: it compiles the rules for a second or two, and a log that is open must give signs of life.
        recogniser = registry.recogniser(config)
        if recogniser is not None:
            await asyncio.to_thread(recogniser.start)
        content = ContentGate(read_key(config.redaction.hash_key_file), detector_of(config), recogniser)
        keyring = registry.keyring(config)
        tokens = registry.token_desk(config, keyring)
        authenticator = Authenticator(registry.trusts(config), registry.mtls(config))
        tracing = registry.tracing(config, str(self._index))
        policy = registry.opa_policy(config)
        shadow = registry.shadow_policy(config)
        # Behind what may be refused: each start of a worker that fails here would leave a log, locked for years.
        writer = await open_log(config, self._digest, str(self._index), keyring, registry.receipt_signer(config))
        shadowed = (
            ShadowedPolicy(policy, shadow, lambda kind, facts: writer.note(kind, facts, clock())) if shadow else None
        )
        await policy.start()
        if shadow is not None:
            await shadow.start()
        await authenticator.start()
        register, watch = registry.register_of_holds(config), registry.watch_over_holds(config)
        holds = self._hold_desk(keyring, register, watch, writer)
        rooms = Rooms(
            identities=authenticator,
            content=content,
            policy=shadowed or policy,
            recorder=writer,
            credentials=FileCredentials(),
            connections=lambda: self._connections,
            clock=clock,
            tokens=tokens,
            holds=holds,
            tracing=tracing,
            computing=self._computing,
        )
        socket = registry.worker_socket(config, self._index)
        _settle_memory()
        listener = Listener(rooms, socket, registry.largest_body_bytes(config))
        try:
            async with asyncio.TaskGroup() as group:
                self._handle_signals(group, writer)
                beating = group.create_task(beat_forever(writer, config))
                await wait_for_birth(writer, lambda: read_states(config.run_dir).get("shipper", {}), self._stop)
                telling = group.create_task(self._tell_forever(writer, policy))
                beside = _beside(tokens, holds, shadowed)
                aside = [group.create_task(keep_running(name, live)) for name, live in beside.items()]
                await listener.serve(self._stop, config.drain_seconds)
                telling.cancel()
                await holds.settle(SETTLE_SECONDS)
                for one in aside:
                    one.cancel()
                beating.cancel()
        finally:
            await policy.close()
            if shadow is not None:
                await shadow.close()
            await authenticator.close()
            await asyncio.to_thread(watch.close)
            register.close()
            await writer.close(clock())
            self._computing.shutdown(wait=False, cancel_futures=True)
            for optional in (recogniser, tracing):
                if optional is not None:
                    await asyncio.to_thread(optional.close)
            telemetry.tell_metrics()

    def _hold_desk(self, keyring: KeyRing, register: SqlRegister, watch: Watch, writer: Writer) -> HoldDesk:
        console = self._config.console

        def status_url(hold_id: HoldId) -> str | None:
            return f"{console.public_url}/api/v1/holds/{hold_id}" if console else None

        def holder() -> Holder:
            return Holder(writer.origin, writer.next_sequence)

        return HoldDesk(keyring, register, Bell(watch, register, clock), holder, status_url, clock)

    def _handle_signals(self, group: asyncio.TaskGroup, writer: Writer) -> None:
        loop = asyncio.get_running_loop()
        for name in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(name, self._stop.set)
        loop.add_signal_handler(signal.SIGHUP, lambda: group.create_task(self._reload(writer)))

    async def _reload(self, writer: Writer) -> None:
        """Take over the connections of the accepted file. The change is on record before it counts."""
        try:
            config, digest = load(self._path)
            changed = registry.connections(config)
            await writer.note(
                LeafKind.CONFIG_CHANGED, {"config_sha256": digest, "connections": sorted(changed)}, clock()
            )
        except GateError as error:  # the exchanges in flight must not die of it
            _log.error("configuration not taken over", code=error.code, detail=error.detail)
            return
        telemetry.begin_with(changed)
        self._connections, self._digest = changed, digest
        self._has_news.set()
        _log.info("connections taken over", connections=sorted(changed))

    async def _tell_forever(self, writer: Writer, policy: OpaPolicy) -> None:
        """Whoever hears nothing takes this worker for hung: no thread that others wait for too says it."""
        apart = ThreadPoolExecutor(1, thread_name_prefix="telling")
        in_thread = partial(asyncio.get_running_loop().run_in_executor, apart)
        while True:
            health, active = writer.health(), await policy.active()
            telemetry.UNSHIPPED_BYTES.set(health.unshipped_bytes)
            telemetry.tell_metrics()
            at, is_policy_ready = clock().timestamp(), await policy.is_ready()
            await in_thread(tell_exemplars, self._config.run_dir, self._index, telemetry.take_exemplars(at))
            state = {
                "at": at,
                "is_ready": health.is_writable and is_policy_ready,
                "is_writable": health.is_writable,
                "is_policy_ready": is_policy_ready,
                "config_sha256": self._digest,
                "log": writer.origin,
                "failure": health.failure,
                "unshipped_bytes": health.unshipped_bytes,
                "policy": None if active is None else {"revision": active.revision, "digest": active.digest},
            }
            await in_thread(tell, self._config.run_dir, f"worker-{self._index}", state)
            if health.failure is not None:
                _log.error("log failed, ending this worker", failure=health.failure)
                self._stop.set()
                return
            self._has_news.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(TELL_SECONDS):
                    await self._has_news.wait()


def _beside(
    tokens: VaultDesk, holds: HoldDesk, shadowed: ShadowedPolicy | None
) -> dict[str, Callable[[], Awaitable[None]]]:
    """What no call waits for."""
    beside: dict[str, Callable[[], Awaitable[None]]] = {
        "tokens": lambda: tokens.sweep_forever(clock),
        "holds": holds.live,
    }
    return beside | ({"shadow": shadowed.live} if shadowed else {})


async def wait_for_birth(writer: Writer, shipper: Callable[[], Mapping[str, Any]], stop: asyncio.Event) -> None:
    """No log may serve before its birth record is locked in the store. One exception: while the store cannot be
    reached, a replica that was born once may start a worker again; the record follows as soon as the store is back.

    Args:
        writer: the log. One that fails meanwhile sets ``stop``.
        shipper: what the shipper last said of itself.
        stop: ends the waiting.
    """
    waited = 0
    while not writer.is_born and not stop.is_set():
        told = shipper()
        if told.get("was_born") and told.get("is_cut_off"):
            _log.warning("serving before the birth record is in the store, which cannot be reached", log=writer.origin)
            return
        if (failure := writer.health().failure) is not None:
            _log.error("log failed, ending this worker", failure=failure)
            stop.set()
        waited += 1
        if waited == BIRTH_PATIENCE:
            failures = told.get("failures")
            _log.warning("not ready: the birth record is not in the store yet", log=writer.origin, failures=failures)
        with suppress(TimeoutError):
            async with asyncio.timeout(BIRTH_POLL_SECONDS):
                await stop.wait()
