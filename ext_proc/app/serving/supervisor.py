"""``affidavit serve``: renders Envoy's files, starts the workers and the shipper, keeps them running, stops them.

Children come from a fork server. One that dies is started again; its log is ended by the shipper, and its successor
begins a new one.
"""

from __future__ import annotations

import asyncio
import fcntl
import hashlib
import os
import signal
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from math import inf
from time import monotonic
from typing import TYPE_CHECKING, Any, Final

from aiohttp import web
from prometheus_client import multiprocess

from ext_proc import files, telemetry
from ext_proc.app import edge_files, registry
from ext_proc.app.exchange.rule_packs import detector_of
from ext_proc.app.listening import serve_at
from ext_proc.app.process import LOCK_FILE, RELOAD_SECONDS, Orphans, allow_descriptors, clock, read_states, tell
from ext_proc.app.serving.bundle_fetch import fetch_first
from ext_proc.app.serving.daily import Daily, run_command
from ext_proc.app.serving.distribution import write_opa_config
from ext_proc.app.serving.fork_server import ForkServer
from ext_proc.app.serving.pulse import LOOK_SECONDS, SHIPPER_SECONDS, WORKER_SECONDS, Pulse
from ext_proc.app.serving.scraping import scraped
from ext_proc.app.serving.shipping import store_of
from ext_proc.app.serving.standing import Standing
from ext_proc.audit import access_log
from ext_proc.audit.keys import read_key
from ext_proc.config import load
from ext_proc.errors import ConfigError
from ext_proc.ner import try_out

if TYPE_CHECKING:
    from pathlib import Path

    from ext_proc.app.serving.fork_server import Child
    from ext_proc.config import Config

STEADY_SECONDS: Final = 2.0
"""A process that lived this long is started again at once; one that did not waits, a little longer each time."""
BACKOFF_MAX_SECONDS: Final = 5.0
KILL_SECONDS: Final = 10.0
"""So long after its drain a process that was asked to stop is killed."""
_FOLLOW_SECONDS: Final = 0.05
ACCEPTED_FILE: Final = "accepted.yaml"
"""In ``run_dir``: the configuration that is in force, byte for byte."""

_log = telemetry.logger()


@dataclass(frozen=True, slots=True)
class _Role:
    name: str
    arguments: tuple[str, ...]


def run(config_path: Path) -> int:
    """The supervisor's whole life."""
    allow_descriptors()  # for all that it starts, too
    telemetry.set_up_logging()
    asyncio.run(_Supervisor(config_path).live())
    return 0


class _Supervisor:
    def __init__(self, config_path: Path) -> None:
        self._path = config_path.absolute()
        self._config, self._digest = load(config_path)
        self._refusal: dict[str, str] | None = None
        self._stop = asyncio.Event()
        self._reloading = asyncio.Lock()
        self._fork_server = ForkServer({"PROMETHEUS_MULTIPROC_DIR": str(self._config.run_dir.absolute() / "metrics")})
        self._children: dict[str, Child] = {}

    async def live(self) -> None:
        """Start everything, wait, stop everything: workers first, so that the shipper sees the end of their logs."""
        config = self._config
        locks = self._prepare(config)
        loop = asyncio.get_running_loop()
        for name in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(name, self._stop.set)
        for role in ("worker", "shipper"):
            telemetry.WORKER_RESTARTS.labels(role)  # there from the beginning: an alert sees the first one
        runner = await self._serve_health(config)
        workers = [_Role(f"worker-{i}", ("work", "--index", str(i))) for i in range(config.workers)]
        shipper = _Role("shipper", ("ship",))
        try:
            async with asyncio.TaskGroup() as group:
                loop.add_signal_handler(signal.SIGHUP, lambda: group.create_task(self._reload()))
                shipping_over = asyncio.Event()
                kept = [group.create_task(self._keep(role, self._stop)) for role in workers]
                group.create_task(self._keep(shipper, shipping_over))
                group.create_task(self._bury(shipping_over))
                if config.audit.daily_hour is not None:
                    group.create_task(self._daily(config).live(self._stop))
                await self._stop.wait()
                loop.remove_signal_handler(signal.SIGHUP)
                loop.call_later(self._config.drain_seconds + KILL_SECONDS, self._fork_server.give_up)
                await asyncio.wait(kept)
                shipping_over.set()
        finally:
            await self._fork_server.close()
            await runner.cleanup()
            for lock in locks:
                os.close(lock)

    def _prepare(self, config: Config) -> list[int]:
        """Folders and files, all before anything runs. Returns the locks on the folders."""
        edge_files.check(config)
        _check_files(config)
        try:
            for folder in (config.run_dir, config.run_dir / "state", config.run_dir / "metrics", config.state_dir):
                folder.mkdir(parents=True, exist_ok=True, mode=0o750)
            of_state = config.state_dir / "serve.lock"
            locks = [_locked(config.run_dir / LOCK_FILE, "run_dir"), _locked(of_state, "state_dir")]
            for leftover in (*(config.run_dir / "metrics").glob("*.*"), *(config.run_dir / "state").glob("*.json")):
                leftover.unlink()
            access_log.prepare(registry.access_log_path(config))
        except OSError as error:
            raise ConfigError(f"run_dir or state_dir: {error.filename}: {error.strerror}") from None
        if moved := registry.take_over_file(config):  # nobody else is in the folder now
            _log.warning("keys and legal holds taken over into the database of audit.registry_url", keys=moved)
        edge_files.write(config)
        if config.policy.distribution is not None:
            write_opa_config(config, config.policy.distribution)
        self._accept(config, self._digest)
        self._tell()
        return locks

    def _accept(self, config: Config, digest: str) -> None:
        """Keep a copy: a worker that is started again must not read a file that was changed and not taken over."""
        raw = self._path.read_bytes()
        if hashlib.sha256(raw).hexdigest() != digest:
            raise ConfigError(f"{self._path}: changed while it was read")
        files.replace(self._accepted, raw)
        self._config, self._digest, self._refusal = config, digest, None

    @property
    def _accepted(self) -> Path:
        return self._config.run_dir.absolute() / ACCEPTED_FILE

    def _tell(self) -> None:
        state = {"at": clock().timestamp(), "is_ready": True}
        tell(self._config.run_dir, "supervisor", {**state, "config_sha256": self._digest, "refused": self._refusal})

    def _daily(self, config: Config) -> Daily:
        public_key = registry.log_signer(config).public_key
        run = partial(run_command, self._accepted, self._stop)
        return Daily(config, store_of(config), public_key, clock, run)

    # Children ------------------------------------------------------------------------------------------------------

    async def _keep(self, role: _Role, over: asyncio.Event) -> None:
        """Keep one process running until ``over``."""
        pause = 0.0
        while not over.is_set():
            lived = 0.0
            try:
                child = await self._start(role)
                started = monotonic()  # not before: a start that takes long is no life, and may fail each time
            except ChildProcessError as error:
                _log.error("process could not be started", role=role.name, why=str(error))
            else:
                ended = asyncio.ensure_future(child.wait())  # noqa: TID251 - awaited right below
                stopping = asyncio.ensure_future(over.wait())  # noqa: TID251 - as above
                await self._watch(role, child, ended, stopping)
                stopping.cancel()
                if not ended.done():
                    await self._end(role, child)
                    return
                self._died(role, child)
                lived = monotonic() - started
            pause = 0.0 if lived >= STEADY_SECONDS else min(max(2 * pause, 0.2), BACKOFF_MAX_SECONDS)
            await _pause(pause, over)

    async def _bury(self, over: asyncio.Event) -> None:
        """Who was adopted of a child that died (a recogniser of names), once it has ended itself."""
        orphans = Orphans()
        while not over.is_set():
            orphans.look()
            await _pause(LOOK_SECONDS, over)

    async def _watch(self, role: _Role, child: Child, *over: asyncio.Future[Any]) -> None:
        """Until one of ``over``; meanwhile a process that hangs is ended."""
        is_shipper = role.name == "shipper"
        pulse = Pulse(SHIPPER_SECONDS if is_shipper else WORKER_SECONDS + 2 * self._config.policy.timeout_seconds)
        while not (await asyncio.wait(over, return_when=asyncio.FIRST_COMPLETED, timeout=LOOK_SECONDS))[0]:
            said = read_states(self._config.run_dir).get(role.name, {})
            if pulse.is_gone(said.get("at") if said.get("pid") == child.pid else None):
                _log.error("process does not answer, killing it", role=role.name, pid=child.pid)
                with suppress(ProcessLookupError):
                    child.send_signal(signal.SIGKILL)

    async def _start(self, role: _Role) -> Child:
        telemetry.WORKER_STARTS.labels(role.name.partition("-")[0]).inc()
        child = await self._fork_server.start((*role.arguments, "--config", str(self._accepted)))
        self._children[role.name] = child
        _log.info("process started", role=role.name, pid=child.pid)
        return child

    def _died(self, role: _Role, child: Child) -> None:
        multiprocess.mark_process_dead(child.pid, str(self._config.run_dir / "metrics"))  # type: ignore[no-untyped-call]
        telemetry.WORKER_RESTARTS.labels(role.name.partition("-")[0]).inc()
        _log.error("process ended, starting it again", role=role.name, status=child.returncode)

    async def _end(self, role: _Role, child: Child) -> None:
        with suppress(ProcessLookupError):  # it ended by itself in this very moment
            child.send_signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(self._config.drain_seconds + KILL_SECONDS):
                await child.wait()
        except TimeoutError:
            _log.error("process did not stop, killing it", role=role.name)
            with suppress(ProcessLookupError):
                child.send_signal(signal.SIGKILL)
            await child.wait()

    async def _reload(self) -> None:
        """Take over a changed list of connections, or say why not; what runs goes on either way."""
        digest = ""
        async with self._reloading:
            try:
                changed, digest = load(self._path)
                self._check_change(changed)
                self._accept(changed, digest)
                self._call_workers()
                if not await self._is_followed(changed, digest, RELOAD_SECONDS):
                    raise ConfigError("not every worker has taken it over: Envoy keeps its routes until they have")
            except (ConfigError, OSError) as error:
                self._refuse(digest, error)
            except Exception as bug:  # noqa: BLE001 - the outermost frame of a signal's task: what runs goes on
                _log.exception("a bug in taking over a configuration")
                self._refuse(digest, ConfigError(f"{type(bug).__name__}: see the log"))
        if self._refusal is not None and self._digest == digest:  # in force, and somebody is behind
            with suppress(ConfigError, OSError):  # said already; the next reload tries again
                await self._is_followed(self._config, digest, inf)

    def _check_change(self, changed: Config) -> None:
        rest = {"connections": self._config.connections}
        if changed.model_copy(update=rest) != self._config:
            names = type(changed).model_fields
            differ = [one for one in names if one not in rest and getattr(changed, one) != getattr(self._config, one)]
            raise ConfigError(f"more than connections changed ({', '.join(differ)}), which needs a restart")
        if registry.largest_body_bytes(changed) > registry.largest_body_bytes(self._config):
            raise ConfigError("connections: a larger body limit needs a restart")
        edge_files.check(changed)

    def _call_workers(self) -> None:
        for name, child in self._children.items():
            if name.startswith("worker") and child.returncode is None:
                with suppress(ProcessLookupError):  # it has just died: its successor reads the new file
                    child.send_signal(signal.SIGHUP)

    async def _is_followed(self, changed: Config, digest: str, seconds: float) -> bool:
        """When all workers have it, Envoy gets its routes: none before the gate knows it. False: not in this time, or
        another file came.
        """
        wanted = {f"worker-{index}" for index in range(changed.workers)}
        deadline = monotonic() + seconds
        while not wanted <= self._workers_with(digest):
            if monotonic() > deadline or self._stop.is_set() or self._digest != digest:
                return False
            await asyncio.sleep(_FOLLOW_SECONDS)
        edge_files.write_routes(changed)
        self._refusal = None
        self._tell()
        _log.info("connections taken over", connections=[one.name for one in changed.connections])
        return True

    def _workers_with(self, digest: str) -> set[str]:
        states = read_states(self._config.run_dir)
        return {name for name, state in states.items() if state.get("config_sha256") == digest}

    def _refuse(self, digest: str, error: ConfigError | OSError) -> None:
        why = error.detail if isinstance(error, ConfigError) else f"{error.filename}: {error.strerror}"
        _log.error("configuration not taken over", detail=why)
        self._refusal = {"config_sha256": digest, "why": why}
        self._tell()

    # Health --------------------------------------------------------------------------------------------------------

    async def _serve_health(self, config: Config) -> web.AppRunner:
        app = web.Application()
        app.router.add_get("/live", self._live)
        app.router.add_get("/ready", self._ready)
        app.router.add_get("/metrics", self._metrics)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        host, _, port = config.metrics.rpartition(":")
        try:
            await serve_at(runner, host, int(port))
        except OSError as error:
            raise ConfigError(f"metrics: cannot listen on {config.metrics}: {error.strerror}") from None
        return runner

    async def _live(self, _: web.Request) -> web.Response:
        return web.json_response({"live": True})

    async def _ready(self, _: web.Request) -> web.Response:
        found = Standing.of(self._config, read_states(self._config.run_dir), clock().timestamp())
        body = {
            "ready": found.is_ready,
            "problems": found.problems,
            "degraded": found.degraded,
            "processes": found.states,
        }
        return web.json_response(body, status=200 if found.is_ready else 503)

    async def _metrics(self, request: web.Request) -> web.Response:
        return await asyncio.to_thread(scraped, self._config, self._digest, request.headers.get("accept", ""))


async def _pause(seconds: float, over: asyncio.Event) -> None:
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await over.wait()


def _check_files(config: Config) -> None:
    """Load what no worker can start without: it would end, and be started again, for ever.

    Raises:
        ConfigError: a key file, the bundle, a rule pack, the recogniser of names or what traces need cannot be used.
    """
    audit = config.audit
    needed = (audit.key_encryption_key_file, audit.pepper_file, audit.receipt_key_file, audit.signing.file)
    for path in (*needed, config.redaction.hash_key_file):
        if path is not None:
            read_key(path)
    fetch_first(config)
    registry.policy_version(config)
    detector_of(config)
    if config.redaction.ner is not None:
        try_out(registry.recipe(config.redaction.ner))
    tracing = registry.tracing(config, "start")
    if tracing is not None:
        tracing.close()


def _locked(path: Path, setting: str) -> int:
    """Hold the folder: two supervisors would take each other's sockets, or logs, away.

    Raises:
        ConfigError: another one holds it.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise ConfigError(f"{setting}: another `affidavit serve` runs in {path.parent}") from None
    return descriptor
