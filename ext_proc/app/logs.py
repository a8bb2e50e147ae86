"""How a process of ours begins a log, and keeps it from falling silent.

Each worker, the shipper, and each command that leaves a record has a log of its own: one epoch a process life. Its
first leaf says who writes and what came before; a heartbeat follows whenever the period is over.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import platform
import secrets
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Thread
from time import monotonic_ns
from typing import TYPE_CHECKING, Any, Final, Self

from ext_proc import __version__, files
from ext_proc.app import registry
from ext_proc.app.exchange.rule_packs import rules_of
from ext_proc.app.process import clock
from ext_proc.audit.note import vkey_of
from ext_proc.audit.origin import Origin
from ext_proc.audit.roster import opened_log
from ext_proc.audit.writer import WalLimits, Writer
from ext_proc.errors import AuditUnavailable, ConfigError
from ext_proc.record_kinds import LeafKind
from ext_proc.redaction.rules import version_of

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator, Mapping
    from concurrent.futures import Future

    from ext_proc.audit.keys import KeyRing
    from ext_proc.audit.note import Signer
    from ext_proc.config import Config
    from ext_proc.model import Entry, Receipt

SMALL_SEGMENT_BYTES: Final = 1024 * 1024
"""Segments of a log that holds no exchanges."""
ANSWER_SECONDS: Final = 30.0
"""A record of a command that takes longer is taken as failed."""


async def open_log(
    config: Config, config_sha256: str, role: str, keyring: KeyRing, receipts: Signer | None = None
) -> Writer:
    """Begin a log for ``role``: a worker's number, ``shipper`` or ``command``. Its first leaf is durable then.

    Raises:
        AuditUnavailable: no space, or the disk fails.
    """
    known = _known(config, f"{config.audit.replica}-{role}")
    try:
        known.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with _held(known):
            return await _open(config, config_sha256, role, keyring, receipts, known)
    except OSError:
        raise AuditUnavailable("cannot open log") from None


async def _open(
    config: Config, config_sha256: str, role: str, keyring: KeyRing, receipts: Signer | None, known: Path
) -> Writer:
    now = clock()
    bundle = registry.policy_version(config)
    opening: dict[str, Any] = {
        "version": __version__,
        "python": platform.python_version(),
        "role": role,
        "config_sha256": config_sha256,
        "policy_bundle": {"revision": bundle.revision, "digest": bundle.digest},
        "redaction_rules": version_of(rules_of(config)),
        "connections": sorted(connection.name for connection in config.connections),
        "process": os.getpid(),
        "previous": _previous(config, known),
        "boot_id": boot_id(),
        "monotonic_ns": str(monotonic_ns()),
        "receipt_key": vkey_of(config.audit.origin, receipts.public_key) if receipts else None,
    }
    limits = registry.wal_limits(config)
    if receipts is None:
        limits = WalLimits(SMALL_SEGMENT_BYTES, limits.max_bytes, limits.emergency_bytes, limits.seal_seconds)
    writer = await Writer.open(
        registry.evidence_directory(config),
        origin=f"{config.audit.origin}/{known.name}",
        epoch=f"{now:%Y%m%dT%H%M%S}{now.microsecond:06d}-{secrets.token_hex(4)}",
        keyring=keyring,
        opening=opening,
        limits=limits,
        now=now,
        receipts=receipts,
    )
    _remember(known, writer.origin)
    return writer


def boot_id() -> str | None:
    """The kernel's name for the time since the machine started; None where there is none."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return None


async def beat_forever(writer: Writer, config: Config, envoy_requests: Callable[[], int | None] = lambda: None) -> None:
    """A heartbeat each period. A log that cannot be written says so by its silence: nothing is done about it here."""
    bundle = registry.policy_version(config)
    while True:
        await asyncio.sleep(config.audit.heartbeat_seconds)
        counted = await asyncio.to_thread(envoy_requests)
        with suppress(ConfigError):  # a file that is just being replaced: what was known before
            bundle = registry.policy_version(config)
        counts = writer.take_counts()
        facts = {
            "in_flight": writer.in_flight,
            "counts": counts,
            "unshipped_bytes": writer.health().unshipped_bytes,
            "monotonic_ns": str(monotonic_ns()),
            "boot_id": boot_id(),
            "policy_bundle": {"revision": bundle.revision, "digest": bundle.digest},
            "envoy_requests": counted,
        }
        try:
            await writer.note(LeafKind.HEARTBEAT, facts, clock())
        except AuditUnavailable:
            writer.give_back_counts(counts)


def remember_born(config: Config, origin: str) -> None:
    """The shipper saw this log first. Its process may have died before it could remember it itself, and no trace of the
    log will be left on the disk when it is in the store.

    Raises:
        OSError: the disk does not let us.
    """
    known = _known(config, Origin.read(origin).log)
    known.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    with _held(known):
        if _epoch_of(origin) > _epoch_of(_told(known)):
            _remember(known, origin)


def _known(config: Config, name: str) -> Path:
    """Where the newest log of the replica log ``name`` is remembered."""
    return config.state_dir / "epochs" / name


@contextmanager
def _held(known: Path) -> Iterator[None]:
    """One at a time: two commands that ran at once would name the same log as the one before them."""
    with known.with_name(f".{known.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _previous(config: Config, known: Path) -> str | None:
    """The newest log of this name: remembered, or opened by a process that died before it could remember it."""
    found = [_told(known)]
    for folder in registry.evidence_directory(config).glob("[!.]*"):
        origin = opened_log(folder) if folder.is_dir() else None
        name = Origin.find(origin or "")
        if origin is not None and name and (name.gateway, name.log) == (config.audit.origin, known.name):
            found.append(origin)
    return max(found, key=_epoch_of) or None


def _epoch_of(origin: str) -> str:
    """Epochs' names sort as they began."""
    name = Origin.find(origin)
    return name.epoch if name else ""


def _told(known: Path) -> str:
    try:
        return known.read_text().strip()
    except FileNotFoundError:
        return ""


def _remember(known: Path, origin: str) -> None:
    """The next log of this name will say that this one was there."""
    files.replace(known, origin)


class Journal:
    """A log for a process that is not asynchronous: the shipper, a command. The writing is done in a thread's loop.

    Use it as a context manager: the log is closed in order.

    Args:
        config: the configuration.
        config_sha256: of its file.
        role: ``shipper`` or ``command``.
        keyring: the keys (references to people).
        envoy_requests: what Envoy counted, for the heartbeats.
        answer_seconds: a record that takes longer is taken as failed.
    """

    def __init__(
        self,
        config: Config,
        config_sha256: str,
        role: str,
        keyring: KeyRing,
        envoy_requests: Callable[[], int | None] = lambda: None,
        *,
        answer_seconds: float = ANSWER_SECONDS,
    ) -> None:
        self._answer_seconds = answer_seconds
        self._overdue: Future[Any] | None = None
        self._overdue_count = 0
        self._loop = asyncio.new_event_loop()
        self._thread = Thread(target=self._loop.run_forever, name="journal", daemon=True)
        self._thread.start()
        try:
            self._writer: Writer = self._await(open_log(config, config_sha256, role, keyring), ANSWER_SECONDS)
        except BaseException:
            self._stop()
            raise
        self.origin: Final[str] = self._writer.origin
        self._beating = asyncio.run_coroutine_threadsafe(beat_forever(self._writer, config, envoy_requests), self._loop)

    def note(self, kind: str, fields: Mapping[str, Any]) -> Receipt:
        """Record something. Durable when it returns.

        Raises:
            AuditUnavailable: it could not be made durable.
        """
        receipt: Receipt = self._answer(self._writer.note(kind, fields, clock()))
        return receipt

    def record(self, entry: Entry) -> Receipt:
        """Record what somebody did, with what they wrote, encrypted for them. Durable when it returns.

        Raises:
            AuditUnavailable: it could not be made durable.
        """

        async def recorded() -> Receipt:
            receipt: Receipt = await self._writer.record(entry, clock())
            return receipt

        done: Receipt = self._answer(recorded())
        return done

    @property
    def failure(self) -> str | None:
        """Why nothing can be written any more; None: all is well."""
        return self._writer.failure

    @property
    def waits_for(self) -> int | None:
        """What the disk has not taken yet: another number whenever something went on; None: nothing waits."""
        if self._overdue is not None and not self._overdue.done():
            return -self._overdue_count
        return self._writer.waits_for

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the log in order."""
        self._beating.cancel()
        try:
            self._await(self._writer.close(clock()), ANSWER_SECONDS)
        finally:
            self._stop()

    def _answer(self, work: Coroutine[Any, Any, Any]) -> Any:
        """While something is overdue, nothing else is waited for: each who asks would hold a thread as long, and those
        who ask for something else find none. It goes on as soon as the disk does.
        """
        if self._overdue is not None and not self._overdue.done():
            work.close()
            raise AuditUnavailable("journal deadline")
        return self._await(work, self._answer_seconds)

    def _await(self, work: Coroutine[Any, Any, Any], seconds: float) -> Any:
        begun = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return begun.result(seconds)
        except TimeoutError:
            self._overdue = begun
            self._overdue_count += 1
            raise AuditUnavailable("journal deadline") from None

    def _stop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(ANSWER_SECONDS)
        self._loop.close()
