"""``affidavit console``: the parts joined, served until SIGTERM. What people do is on record in a log of its own."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from aiohttp import web

from ext_proc import telemetry
from ext_proc.app import registry
from ext_proc.app.approval import channels
from ext_proc.app.approval.approvals import Approvals
from ext_proc.app.background import keep_running
from ext_proc.app.console.approvals import DeskApprovals
from ext_proc.app.console.evidence import EvidenceHalf
from ext_proc.app.console.metrics import ShippingCollector, metrics_app
from ext_proc.app.console.refusals import NotedRefusals
from ext_proc.app.console.shipped import Shipped
from ext_proc.app.listening import serve_at
from ext_proc.app.logs import Journal
from ext_proc.app.process import allow_descriptors, clock
from ext_proc.app.serving.pulse import LOOK_SECONDS as DISK_LOOK_SECONDS
from ext_proc.app.serving.pulse import WORKER_SECONDS, Pulse
from ext_proc.approval.bell import Bell
from ext_proc.config import load
from ext_proc.console.people import Role
from ext_proc.console.ports import Health, Rooms
from ext_proc.console.routes import BY_NAME
from ext_proc.console.server import Console
from ext_proc.console.sessions import MemorySessions
from ext_proc.console.settings import Client, Settings
from ext_proc.console.signing_in import Provider
from ext_proc.errors import ApprovalUnavailable, ConfigError
from ext_proc.identity.authenticator import Authenticator
from ext_proc.model import Connection, Presented, Secret

if TYPE_CHECKING:
    from datetime import datetime
    from pathlib import Path

    from ext_proc.approval.channels.courier import Courier
    from ext_proc.approval.register import Register
    from ext_proc.config import Config, ConsoleSection
    from ext_proc.console.hooks import Hooks
    from ext_proc.console.ports import Exchanges
    from ext_proc.model import Identity

_API = Connection("console", (), None, 1, 1)
"""What bearers of tokens call: the console is nobody's inference service."""

TIDY_SECONDS: Final = 30.0
LOOK_SECONDS: Final = 1.0
"""Between looks at the log: so long a probe that asks meanwhile is told why the console ends."""
END_SECONDS: Final = 10.0
"""For who is being answered, once the disk is known to hang."""
ANSWER_SECONDS: Final = 10.0
"""A record that takes longer is taken as failed, as in the gate: whoever asked is told so while they still wait."""
KEPT: Final = timedelta(days=30)
"""How long a hold that is over can still be looked up: what a caller was told names it."""

_log = telemetry.logger()


class TokenBearers:
    """`console.ports.Bearers`: the callers' own access tokens, verified as the gate verifies them."""

    def __init__(self, authenticator: Authenticator) -> None:
        self._authenticator = authenticator

    async def identify(self, token: Secret, now: datetime) -> Identity:
        """See `console.ports.Bearers.identify`."""
        return await self._authenticator.authenticate(Presented(token), _API, now)


def run(path: Path) -> int:
    """Serve until SIGTERM or SIGINT, or until the log fails: a new process begins a new one. Returns 1 then; where the
    disk hangs, the process ends with 1.
    """
    allow_descriptors()
    telemetry.set_up_logging()
    config, digest = load(path)
    if config.console is None:
        raise ConfigError(f"{path}: there is no section console: see docs/configuration.md")
    keyring = registry.keyring(config)
    with Journal(config, digest, "command", keyring, answer_seconds=ANSWER_SECONDS) as journal:
        evidence = EvidenceHalf(config, keyring, journal, clock)
        register, watch = registry.register_of_holds(config), registry.watch_over_holds(config)
        outbox = registry.outbox_of_holds(config)
        try:
            desk = Approvals(keyring, register, journal, clock, config.approvals.justification_min)
            bell = Bell(watch, register, clock)
            approvals = DeskApprovals(desk, bell, lambda viewer: keyring.subject_reference(viewer.identity))
            ways_in = channels.hooks(config, outbox, desk)
            courier = channels.courier(config, outbox, desk, bell) if config.approvals.channels else None
            evidence.start()
            refusals = NotedRefusals(keyring, journal, clock)
            desks = (approvals, evidence.exchanges, refusals, bell, ways_in, courier, register)
            rooms = _Joined(*desks, journal, Shipped(config))
            asyncio.run(_serve(config, config.console, rooms))
            has_failed = journal.failure is not None
        finally:
            evidence.stop()
            outbox.close()
            watch.close()
            register.close()
    return int(has_failed)


@dataclass(frozen=True, slots=True)
class _Joined:
    """What is there before the event loop is."""

    approvals: DeskApprovals
    exchanges: Exchanges
    refusals: NotedRefusals
    bell: Bell
    ways_in: Hooks
    courier: Courier | None
    register: Register
    journal: Journal
    shipped: Shipped

    def health(self) -> Health:
        """For `/health`."""
        failure = self.journal.failure
        return Health(None if failure is None else f"log: {failure}", self.shipped.troubles)


async def _serve(config: Config, section: ConsoleSection, joined: _Joined) -> None:
    stop = asyncio.Event()
    for name in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(name, stop.set)
    # Only this one's: another issuer's groups and tenants may have the same names and mean other people.
    authenticator = Authenticator([registry.trust_of(registry.people_issuer(config, section.issuer))])
    await authenticator.start()
    settings = _settings(section, config.approvals.justification_min)
    rooms = Rooms(joined.approvals, joined.exchanges, joined.refusals, TokenBearers(authenticator), MemorySessions())
    provider = _provider(config, section, settings.client)
    console = Console(settings, rooms, provider, clock, joined.ways_in, joined.health)
    runner = web.AppRunner(console.app(), access_log=None)
    shipping = ShippingCollector(config, lambda: joined.journal.failure)
    beside = web.AppRunner(metrics_app(joined.register, shipping), access_log=None)
    try:
        await runner.setup()
        await listen(runner, section.listen)
        if section.metrics is not None:
            await beside.setup()
            await listen(beside, section.metrics, "console.metrics")
        _log.info("console", listen=section.listen, url=section.public_url)
        async with asyncio.TaskGroup() as group:
            aside = {"bell": joined.bell.run_forever, "tidy": lambda: _tidy_forever(joined.register)}
            aside |= {"shipped": joined.shipped.look_forever}
            aside |= {"courier": joined.courier.run_forever} if joined.courier is not None else {}
            running = [group.create_task(keep_running(name, live)) for name, live in aside.items()]
            running.append(group.create_task(end_with_log(joined.journal, stop)))
            running.append(group.create_task(end_with_disk(joined.journal, stop)))
            await stop.wait()
            for task in running:
                task.cancel()
    finally:
        await runner.cleanup()
        await beside.cleanup()
        await authenticator.close()


async def listen(runner: web.AppRunner, address: str, setting: str = "console.listen") -> None:
    """Serve there.

    Raises:
        ConfigError: somebody else does, or there is no such address here.
    """
    host, _, port = address.rpartition(":")
    try:
        await serve_at(runner, host.strip("[]"), int(port))
    except OSError as error:
        number = error.errno or 0  # of names that are none it is below 0
        why = os.strerror(number) if number > 0 else error.strerror
        raise ConfigError(f"{setting}: {address}: {why}") from None


async def end_with_log(journal: Journal, stop: asyncio.Event) -> None:
    """What fails once fails for good: after it nothing could be approved, nor read."""
    while journal.failure is None:  # noqa: ASYNC110 - its writer is a thread of another loop's
        await asyncio.sleep(LOOK_SECONDS)
    _log.error("log failed, ending the console", failure=journal.failure)
    stop.set()


async def end_with_disk(journal: Journal, stop: asyncio.Event) -> None:
    """A disk that hangs has no error that would end the log: until it goes on nothing can be approved, nor read, and
    whoever started this again might have another disk. A worker of the gate is ended as soon.
    """
    pulse = Pulse(WORKER_SECONDS)
    while not pulse.is_gone(journal.waits_for):  # noqa: ASYNC110 - its writer is a thread of another loop's
        await asyncio.sleep(DISK_LOOK_SECONDS)
    _log.error("the disk of the log hangs, ending the console", hangs_seconds=WORKER_SECONDS)
    end = threading.Timer(END_SECONDS, _end_at_once)
    end.daemon = True
    end.start()
    stop.set()


def _end_at_once() -> None:
    """Closing the log would wait for the disk, and so would Python for the threads that do. Its log is ended by the
    shipper, like that of a worker that was killed.
    """
    os._exit(1)


async def _tidy_forever(register: Register) -> None:
    """Write down what time has done to holds, and forget those that were over long ago: their records stay."""
    while True:
        try:
            await asyncio.to_thread(register.expire, clock())
            await asyncio.to_thread(register.sweep, clock() - KEPT)
        except ApprovalUnavailable as error:  # nothing depends on it but speed
            _log.warning("register of holds cannot be used", detail=error.detail)
        await asyncio.sleep(TIDY_SECONDS)


def _settings(section: ConsoleSection, justification_min: int) -> Settings:
    client = Client(section.client_id, section.client_secret_file, tuple(section.scopes))
    roles = {role: tuple(getattr(section.roles, role.value)) for role in Role}
    return Settings(section.public_url, client, roles, justification_min)


def _provider(config: Config, section: ConsoleSection, client: Client) -> Provider:
    issuer = registry.people_issuer(config, section.issuer)
    trust, keys = registry.trust_for(issuer, section.client_id)
    return Provider(
        trust,
        keys,
        client,
        f"{section.public_url}{BY_NAME['callback'].path}",
        knows_by_sub=issuer.names_people_by_sub_to(section.client_id),
        unsafe_allow_http=issuer.unsafe_allow_http,
        ca_file=str(issuer.ca_file) if issuer.ca_file else None,
    )
