"""``affidavit drain``: Envoy takes nobody new, and whoever is in there gets an answer; then it may be stopped.

With ``at_end`` it waits for its own SIGTERM first: as the main container of a pod it is the first to be told that the
pod ends, and the others (Envoy, the gate, OPA) are told when it has ended. Meanwhile it says whether Envoy takes
requests: Envoy's admin interface, which knows, is for nobody outside of the pod.
"""

from __future__ import annotations

import asyncio
import signal
from dataclasses import dataclass
from time import monotonic
from typing import TYPE_CHECKING, Final, TypeVar

from aiohttp import ClientConnectorError, ClientError, ClientSession, ClientTimeout, UnixConnector, web

from ext_proc import telemetry
from ext_proc.app.envoy_admin import read_stats, stats_path
from ext_proc.app.listening import serve_at
from ext_proc.config import load
from ext_proc.config.fields import socket_of
from ext_proc.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

STREAM_SECONDS: Final = 300.0
"""For the longest answer, where nothing else is said."""
QUIET_SECONDS: Final = 2.0
"""Nobody in there for so long: nobody is left, and nobody new comes."""
_POLL_SECONDS: Final = 0.25
_ADMIN_SECONDS: Final = 2.0
_DRAINED, _LEFT = 0, 1

_log = telemetry.logger()
Said = TypeVar("Said")


class EnvoyGoneError(Exception):
    """Nobody listens at Envoy's admin interface: there is nothing to drain."""


class EnvoyUnclearError(Exception):
    """Somebody listens there and does not say what was asked: nobody knows who is in there."""


@dataclass(frozen=True, slots=True)
class Patience:
    """How long to wait.

    Attributes:
        settle_seconds: callers may still come in, until everybody has heard that this Envoy is leaving.
        deadline_seconds: for all of it.
    """

    settle_seconds: float
    deadline_seconds: float


class Admin:
    """What is asked of Envoy.

    Args:
        address: of its admin interface.
        session: of the HTTP client, for this address (`admin_session`).
    """

    def __init__(self, address: str, session: ClientSession) -> None:
        self._url = "http://envoy" if socket_of(address) else f"http://{address}"
        self._session = session

    async def tell(self, path: str) -> None:
        """Have it do something.

        Raises:
            EnvoyGoneError: there is none.
            EnvoyUnclearError: it does not do it, or not in time.
        """
        await self._asked("POST", path)

    async def in_flight(self) -> int:
        """Requests that have not ended.

        Raises:
            EnvoyGoneError: there is none.
            EnvoyUnclearError: it does not say, or not in time.
        """
        said = await self._asked("GET", stats_path("^http.gate.downstream_rq_active$"))
        try:
            [value] = read_stats(said).values()
        except ValueError:
            raise EnvoyUnclearError("it does not say how many requests it has") from None
        return value

    async def is_live(self) -> bool:
        """Does it take requests, and is it not draining?"""
        try:
            await self._asked("GET", "/ready")
        except (EnvoyGoneError, EnvoyUnclearError):
            return False
        return True

    async def _asked(self, method: str, path: str) -> bytes:
        try:
            async with self._session.request(method, f"{self._url}{path}") as answer:
                said = await answer.read()
        except ClientConnectorError as error:
            if isinstance(error.os_error, PermissionError):  # a socket that is not for us: its Envoy may have callers
                raise EnvoyUnclearError(f"{path}: {error.os_error.strerror}") from None
            raise EnvoyGoneError(type(error).__name__) from None
        except (ClientError, TimeoutError, OSError) as error:
            raise EnvoyUnclearError(type(error).__name__) from None
        if answer.status != 200:
            raise EnvoyUnclearError(f"{path}: status {answer.status}")
        return said


def admin_session(address: str) -> ClientSession:
    """The HTTP client for an admin interface at this address."""
    path = socket_of(address)
    return ClientSession(connector=UnixConnector(str(path)) if path else None, timeout=ClientTimeout(_ADMIN_SECONDS))


def run(path: Path, settle_seconds: float, deadline_seconds: float | None, *, at_end: bool, listen: str | None) -> int:
    """Exit status 0 only if nobody was left."""
    telemetry.set_up_logging()
    config, _ = load(path)
    usual = settle_seconds + config.listen.hold_seconds + STREAM_SECONDS
    patience = Patience(settle_seconds, usual if deadline_seconds is None else deadline_seconds)
    return asyncio.run(_live(config.listen.admin, patience, at_end=at_end, listen=listen))


async def _live(address: str, patience: Patience, *, at_end: bool, listen: str | None) -> int:
    ending = asyncio.Event()
    async with admin_session(address) as session:
        admin = Admin(address, session)
        runner = await _serve(admin, ending, listen) if listen else None
        try:
            if at_end:
                loop = asyncio.get_running_loop()
                for name in (signal.SIGTERM, signal.SIGINT):
                    loop.add_signal_handler(name, ending.set)
                await ending.wait()
            ending.set()
            return await drained(admin, patience)
        except EnvoyGoneError as gone:
            if not at_end:
                raise ConfigError(_no_envoy(address, gone)) from None
            _log.warning("no Envoy to drain", detail=str(gone))  # the pod ends, and its other containers wait for us
            return _DRAINED
        finally:
            if runner is not None:
                await runner.cleanup()


def _no_envoy(address: str, gone: EnvoyGoneError) -> str:
    return (
        f"listen.admin: no Envoy to drain: nobody listens at {address} ({gone}). Was Envoy started with the bootstrap "
        "of this configuration? If it has ended already, nobody is in there: stop `affidavit serve`"
    )


async def drained(admin: Admin, patience: Patience) -> int:
    """Let Envoy drain, and wait until nobody is in there. Exit status 0: nobody is.

    An Envoy that is too busy to say is asked again, until the deadline: its callers are still in there.

    Raises:
        EnvoyGoneError: there was none from the start.
    """
    deadline = monotonic() + patience.deadline_seconds
    was_told = False
    try:
        # It says so on every answer from now on (connection: close, GOAWAY).
        await _insisted(lambda: admin.tell("/healthcheck/fail"), deadline)
        was_told = True
        _log.info("draining", in_flight=await _insisted(admin.in_flight, deadline))
        await asyncio.sleep(patience.settle_seconds)
        await _insisted(lambda: admin.tell("/drain_listeners?graceful"), deadline)
        left = await _left(admin, deadline)
    except EnvoyGoneError as gone:
        if not was_told:
            raise
        _log.error("Envoy ended while it drained: whoever was in there was cut off, and recorded so", detail=str(gone))
        return _LEFT
    except EnvoyUnclearError as unclear:
        _log.error("Envoy did not say in time who is in there: whoever is will be cut off", detail=str(unclear))
        return _LEFT
    if left == 0:
        _log.info("drained")
        return _DRAINED
    _log.error("not drained in time: these requests will be cut off, and recorded so", in_flight=left)
    return _LEFT


async def _left(admin: Admin, deadline: float) -> int:
    """Requests that are in there at the deadline; 0 as soon as it has been quiet for a while."""
    left, quiet_since = 0, None
    while monotonic() < deadline:
        left = await _insisted(admin.in_flight, deadline)
        quiet_since = (quiet_since or monotonic()) if left == 0 else None
        if quiet_since is not None and monotonic() - quiet_since >= QUIET_SECONDS:
            return 0
        await asyncio.sleep(_POLL_SECONDS)
    return left


async def _insisted(ask: Callable[[], Awaitable[Said]], deadline: float) -> Said:
    """What Envoy says, asked again until the deadline.

    Raises:
        EnvoyGoneError: there is none.
        EnvoyUnclearError: the deadline has passed.
    """
    while True:
        try:
            return await ask()
        except EnvoyUnclearError as unclear:
            if monotonic() >= deadline:
                raise
            _log.warning("Envoy does not say, and is asked again", detail=str(unclear))
            await asyncio.sleep(_POLL_SECONDS)


async def _serve(admin: Admin, ending: asyncio.Event, address: str) -> web.AppRunner:
    """``/live`` says that this process lives, ``/ready`` that Envoy takes requests and we are not leaving.

    Raises:
        ConfigError: it cannot be listened on there.
    """

    async def live(_: web.Request) -> web.Response:
        return web.json_response({"live": True})

    async def ready(_: web.Request) -> web.Response:
        is_ready = not ending.is_set() and await admin.is_live()
        return web.json_response({"ready": is_ready}, status=200 if is_ready else 503)

    app = web.Application()
    app.router.add_get("/live", live)
    app.router.add_get("/ready", ready)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    host, _, port = address.rpartition(":")
    try:
        await serve_at(runner, host, int(port))
    except (OSError, ValueError, OverflowError) as error:
        await runner.cleanup()
        raise ConfigError(f"--listen {address}: {getattr(error, 'strerror', None) or 'host:port is wanted'}") from None
    return runner
