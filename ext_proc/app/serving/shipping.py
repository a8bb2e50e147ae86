"""The process that takes evidence from the disk to the store: the logs, Envoy's access log, and what the canary found.

One thread does it all in rounds, so nothing here is ever shipped twice at once. What it does itself is on record in a
log of its own, which it ships like any other.
"""

from __future__ import annotations

import signal
from collections import Counter
from contextlib import suppress
from datetime import timedelta
from threading import Event
from time import monotonic
from typing import TYPE_CHECKING, Any, Final

from ext_proc import telemetry
from ext_proc.app import registry
from ext_proc.app.envoy_admin import ask_envoy, read_stats, stats_path
from ext_proc.app.logs import Journal, remember_born
from ext_proc.app.process import clock, end_with_parent, give_back_memory, read_states, release_sigterm, tell
from ext_proc.app.serving.bundle_door import BundleDoor
from ext_proc.app.serving.bundle_fetch import BundleFetcher
from ext_proc.app.serving.distribution import Distribution, Distributor
from ext_proc.app.serving.due import Due
from ext_proc.app.serving.life_door import LifeDoor
from ext_proc.app.serving.policy_archive import PolicyArchive, reported
from ext_proc.audit.access_log import AccessLogTail
from ext_proc.audit.attest import Attestor
from ext_proc.audit.canary_s3 import run_canary
from ext_proc.audit.desk import Desk, NotKept, code_of
from ext_proc.audit.origin import Origin
from ext_proc.audit.s3 import S3Store
from ext_proc.audit.shipper import Shipper, ShipReport, Terms
from ext_proc.audit.store import StoreRefused, StoreUnavailable
from ext_proc.config import load
from ext_proc.errors import ApprovalUnavailable, AuditUnavailable, ConfigError, GateError
from ext_proc.model import ExchangeId
from ext_proc.record_kinds import LeafKind

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path

    from ext_proc.approval.register import Register
    from ext_proc.audit.recovery import EndedLog
    from ext_proc.audit.seal import SealedObject
    from ext_proc.config import Config

INTERVAL_SECONDS: Final = 0.5
ACCESS_LOG_SECONDS: Final = 60.0
"""Envoy's lines go to the store this often: each time costs an object."""
CANARY_RETRY_SECONDS: Final = 300.0
"""After a canary that learnt nothing, because the store did not answer."""
JOURNAL_RETRY_SECONDS: Final = 5.0
"""After a log of our own that could not be opened."""
FROM_THE_START: Final = ("not_kept", "quarantined")
"""Failures that are counted from 0: an alert sees the first one."""
UNTOLD_MAX: Final = 1000
"""Notes kept in memory while there is no log to write them into."""
CUT_OFF: Final = ("store_unavailable", "store_refused", "audit_unavailable")
"""Failures that keep a birth record from the store, and are no fault of the log that waits for it."""

_log = telemetry.logger()


def store_of(config: Config) -> S3Store:
    """The configured store."""
    s3 = config.audit.s3
    return S3Store(s3.bucket, s3.prefix, s3.region, s3.endpoint, s3.credentials_file)


def run(config_path: Path, listen: str | None = None) -> int:
    """The shipper's whole life: until SIGTERM, then one last round.

    Args:
        config_path: the configuration's file.
        listen: where ``/live`` says whether it goes on, for where no supervisor is that would see it.
    """
    end_with_parent()
    stop = Event()
    for name in (signal.SIGTERM, signal.SIGINT):
        signal.signal(name, lambda *_: stop.set())
    release_sigterm()  # one that came before is heard: the last round must be, whenever it is asked for
    telemetry.set_up_logging()
    config, digest = load(config_path)
    _make_folders(config)
    for code in FROM_THE_START:
        telemetry.SHIPPING_FAILURES.labels(code)
    shipping = _Shipping(config, digest)
    if listen is not None:
        LifeDoor(lambda: shipping.said_at, listen)
    shipping.live(stop)
    return 0


def _make_folders(config: Config) -> None:
    """Where no supervisor is, as in the pod of a console, nobody else does; and a shipper that says nothing looks dead.

    Raises:
        ConfigError: they cannot be made.
    """
    try:
        (config.run_dir / "state").mkdir(parents=True, exist_ok=True, mode=0o750)
        registry.evidence_directory(config).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"run_dir or state_dir: {error.filename}: {error.strerror}") from None


def _is_birth_of_worker(key: str) -> bool:
    """Not that of the shipper's own log, which serves nobody."""
    replica = key.rpartition("/")[2].partition(".")[0]
    return key.startswith("v1/roster/") and replica.rpartition("-")[2].isdecimal()


class _Shipping:
    def __init__(self, config: Config, config_sha256: str) -> None:
        self._config = config
        self._store = store_of(config)
        terms = Terms(timedelta(days=config.audit.s3.retention_days), registry.log_signer(config))
        self._shipper = Shipper(registry.evidence_directory(config), self._store, terms, clock)
        self._config_sha256 = config_sha256
        self._journal: Journal | None = None
        self._untold: list[tuple[str, Mapping[str, Any]]] = []
        self._access = AccessLogTail(registry.access_log_path(config), config.state_dir, config.audit.replica)
        memory = config.state_dir / "attested.json"
        outsiders = registry.outsiders(config)
        self._attestor = Attestor(Desk(self._store, terms, clock), outsiders, config.audit.replica, memory)
        self._journal_due = Due()
        self._access_due = Due()
        self._archive = PolicyArchive(
            registry.bundle_copies(config) / "active.json",
            self._bundles,
            self._put_bundle,
            self._store.fetch,
            self._note,
            clock,
        )
        self._distributor: Distributor | None = None
        self._fetcher: BundleFetcher | None = None
        if (section := config.policy.distribution) is not None:
            self._distributor = Distributor(Distribution.of(config), self._note)
            BundleDoor(self._distributor, section.listen, config.run_dir / "opa" / "token")
            if section.s3 is not None:
                self._fetcher = BundleFetcher(section.s3, config.policy.bundle_file)
        self._canary_due = Due()
        self._canary_holes: tuple[str, ...] = ()
        self._canary_at: float | None = None
        self._was_born = False
        self._shipped = 0
        self._failed = Counter(dict.fromkeys(FROM_THE_START, 0))
        self.said_at = 0.0
        """When it last said how it stands; 0: it has not yet."""
        self._register: Register | None = None
        self._ended: list[EndedLog] = []  # logs whose ends the register of holds has not heard of
        self._shipper.tell_ends_to(self._ended.append)

    def live(self, stop: Event) -> None:
        """Rounds until ``stop``; then everything that is left, this process's own log last.

        A log of our own that fails ends this process: its successor begins another.
        """
        self._open_journal()
        if self._fetcher is not None and self._config.policy.distribution is not None:
            self._fetcher.start(stop, self._config.policy.distribution.poll_seconds)
        self._shipper.journal = self._note
        self._shipper.on_failure = self._tell_state
        self._shipper.tell_frees_to(self._tell_state)

        def after(made: ShipReport) -> None:
            self._after_round(made)
            if made.freed:
                give_back_memory()
            if self._journal is not None and self._journal.failure is not None:
                _log.error("log failed, ending the shipper", failure=self._journal.failure)
                stop.set()

        self._shipper.run(stop, INTERVAL_SECONDS, after)
        with suppress(StoreUnavailable, StoreRefused, NotKept, GateError, OSError):
            self._ship_access_log(ShipReport(), is_last=True)
        with suppress(StoreUnavailable, StoreRefused, NotKept, GateError, OSError):
            self._archive.end()
        self._shipper.journal = None
        if self._journal is not None:
            self._journal.close()
        self._tell(self._shipper.run_once())

    # This process's own log ----------------------------------------------------------------------------------------

    def _open_journal(self) -> None:
        """A full disk has no room for another log. It will have some again only if shipping goes on without one."""
        if self._journal is not None or not self._journal_due.is_now:
            return
        self._journal_due.again_in(JOURNAL_RETRY_SECONDS)
        try:
            keyring = registry.keyring(self._config)
            self._journal = Journal(self._config, self._config_sha256, "shipper", keyring, self._envoy_requests)
        except AuditUnavailable as error:
            _log.warning("shipping without a log of its own for now", detail=error.detail)
            return
        while self._untold:
            self._journal.note(*self._untold[0])
            del self._untold[0]

    def _note(self, kind: str, facts: Mapping[str, Any]) -> None:
        if self._journal is not None:
            self._journal.note(kind, facts)
        elif len(self._untold) < UNTOLD_MAX:
            self._untold.append((kind, facts))
        else:
            raise AuditUnavailable("no log of the shipper's own")
        if kind == LeafKind.EPOCH_BORN:
            remember_born(self._config, facts["born_origin"])

    # Each round ----------------------------------------------------------------------------------------------------

    def _after_round(self, made: ShipReport) -> None:
        """What else there is to do in a round, each whatever became of the others; then say how it went."""
        steps: list[Callable[[], object]] = [
            self._open_journal,
            lambda: self._ship_access_log(made, is_last=False),
            lambda: self._run_canary(made),
            self._settle_holds,
            lambda: self._archive.attend(reported(read_states(self._config.run_dir))),
        ]
        if self._distributor is not None:
            steps.insert(-1, self._distributor.round)
        for step in steps:
            try:
                step()
            except ApprovalUnavailable as error:
                _log.warning("register of holds cannot be used", detail=error.detail)
            except (StoreUnavailable, StoreRefused, NotKept, GateError, OSError) as error:
                made.failures.append(f"{code_of(error)}: {error}")
        self._tell(made)

    def _tell(self, made: ShipReport) -> None:
        self._attestor.attend(made.shipped)  # outsiders come last, and never keep the evidence waiting
        telemetry.SHIPPED_OBJECTS.inc(len(made.shipped))
        self._shipped += len(made.shipped)
        for failure in made.failures:
            self._count_failure(failure.partition(":")[0])
            _log.warning("evidence not shipped, kept on disk", failure=failure)
        for one in made.quarantined:
            self._count_failure("quarantined")
            _log.error("segment put in quarantine: a person must look", segment=one)
        self._tell_state(made)

    def _count_failure(self, code: str) -> None:
        telemetry.SHIPPING_FAILURES.labels(code).inc()
        self._failed[code] += 1

    def _tell_state(self, made: ShipReport) -> None:
        """How the round is going, or went: a worker that was killed may be waiting to hear that the store is away."""
        self._was_born = self._was_born or any(_is_birth_of_worker(key) for key in made.shipped)
        at = clock().timestamp()
        state = {
            "at": at,
            "is_ready": not made.failures,
            "failures": made.failures[:3],
            "shipped_total": self._shipped,
            "failed_total": dict(self._failed),
            "was_born": self._was_born,
            "is_cut_off": any(one.startswith(CUT_OFF) for one in made.failures),
            "canary_holes": list(self._canary_holes),
            "canary_at": self._canary_at,
            "clock_offset_seconds": self._clock_offset(),
            "policy_refused": self._policy_degraded,
        }
        tell(self._config.run_dir, "shipper", state)
        self.said_at = at

    def _clock_offset(self) -> float | None:
        """How far our clock is ahead of the store's. It says whole seconds: the middle of its second is taken."""
        if self._store.said_at is None:
            return None
        said, heard = self._store.said_at
        return clock().timestamp() - (monotonic() - heard) - (said.timestamp() + 0.5)

    # The policy ------------------------------------------------------------------------------------------------------

    @property
    def _policy_degraded(self) -> str | None:
        """Why another policy may be published than decides."""
        if self._distributor is not None and (refused := self._distributor.degraded):
            return refused
        trouble = self._fetcher.trouble if self._fetcher else None
        return f"bundles are not fetched: {trouble}" if trouble else None

    def _bundles(self) -> Iterable[Path]:
        return (self._config.policy.bundle_file, *registry.bundle_copies(self._config).glob("*.tar.gz"))

    def _put_bundle(self, one: SealedObject) -> None:
        self._shipper.put(one, ShipReport())

    # Holds of workers that died --------------------------------------------------------------------------------------

    def _settle_holds(self) -> None:
        """What a dead worker's exchanges had claimed or waited for: its log tells who passed. The evidence never waits
        for the register of holds; what it cannot be told now, it is told later.
        """
        while self._ended:
            one = self._ended[0]
            if Origin.read(one.origin).is_of_worker:  # the others hold nothing
                self._register = self._register or registry.register_of_holds(self._config)
                passed = frozenset(map(ExchangeId, one.intents))
                self._register.recovered(one.origin, one.first_sequence, passed, clock())
            del self._ended[0]

    # Envoy's access log --------------------------------------------------------------------------------------------

    def _ship_access_log(self, made: ShipReport, *, is_last: bool) -> None:
        if not self._access_due.is_now and not is_last:
            return
        self._access_due.again_in(min(ACCESS_LOG_SECONDS, 4 * self._config.audit.wal.seal_seconds))
        while (part := self._access.next_part(clock())) is not None:
            self._shipper.put(part.sealed, made)
            self._note(LeafKind.ACCESS_SHIPPED, part.facts())
            self._access.shipped(part)
        if self._access.rotate_if_large():
            ask_envoy(self._config.listen.admin, "/reopen_logs", "POST")

    def _envoy_requests(self) -> int | None:
        said = ask_envoy(self._config.listen.admin, stats_path("^http.gate.downstream_rq_total$"))
        with suppress(ValueError):
            [value] = read_stats(said).values()
            return value
        return None

    # The canary ----------------------------------------------------------------------------------------------------

    def _run_canary(self, made: ShipReport) -> None:
        """Try to get rid of a bait; what the store let happen is on record, and keeps the gateway from being ready."""
        if not self._canary_due.is_now or made.failures:
            return
        now = clock()
        self._canary_due.again_in(CANARY_RETRY_SECONDS)
        if self._journal is None:
            return
        epoch = Origin.read(self._journal.origin).epoch
        report = run_canary(self._store.client, self._config.audit.s3.bucket, self._store.prefix, epoch, clock)
        self._note(LeafKind.WORM_CANARY, report.leaf_fields())
        self._canary_holes, self._canary_at = report.holes, now.timestamp()
        self._canary_due.again_in(3600 * self._config.audit.canary_hours)
        if report.holes:
            _log.error("the store does not keep what it locked", store=report.store, holes=list(report.holes))
