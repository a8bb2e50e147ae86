"""``affidavit reconcile`` and ``affidavit rollup``: read from the store, signed, locked there, and put on record.

A note goes to the store first and on record then. In between, a file in the state directory says what is to be
recorded, so that a crash leaves nothing in the bucket that no log accounts for.
"""

from __future__ import annotations

import fcntl
import json
import os
from contextlib import ExitStack, contextmanager, nullcontext
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from rich.console import Console
from rich.table import Table

from ext_proc import files
from ext_proc.app import registry
from ext_proc.app.evidence.printing import print_finding
from ext_proc.app.logs import Journal
from ext_proc.app.process import clock
from ext_proc.app.serving.shipping import store_of
from ext_proc.audit import frames, segments
from ext_proc.audit.desk import Desk, NotKept, ShipReport, Terms
from ext_proc.audit.origin import Origin
from ext_proc.audit.store import StoreRefused, StoreUnavailable
from ext_proc.config import load
from ext_proc.errors import ConfigError
from ext_proc.evidence.reconcile import REFUSED, Span, reconcile
from ext_proc.evidence.rollup import roll_up
from ext_proc.evidence.s3 import S3Versions
from ext_proc.evidence.statement import refused_leaf, result_leaf, statement
from ext_proc.evidence.times import parse_time
from ext_proc.evidence.versions import EvidenceError
from ext_proc.record_kinds import LeafKind

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from ext_proc.audit.seal import SealedObject
    from ext_proc.config import Config
    from ext_proc.evidence.reconcile import Account

_WHOLE, _NOT_WHOLE = 0, 1
_LOCK: Final = "completeness.lock"
_PENDING: Final = "completeness-pending.json"
_HEAD_BYTES: Final = 64 * 1024
_SHOWN_MAX: Final = 50


class _Recording:
    """The command's own log, begun with the first thing to record, and the way of a note into the store."""

    def __init__(self, config: Config, config_sha256: str, stack: ExitStack) -> None:
        self._config = config
        self._config_sha256 = config_sha256
        self._stack = stack
        self._journal: Journal | None = None
        self._pending = config.state_dir / _PENDING

    def note(self, kind: str, fields: Mapping[str, Any]) -> None:
        """Durable when it returns.

        Raises:
            AuditUnavailable: it could not be made durable.
        """
        if self._journal is None:
            keyring = registry.keyring(self._config)
            journal = Journal(self._config, self._config_sha256, "command", keyring)
            self._journal = self._stack.enter_context(journal)
        self._journal.note(kind, fields)

    def leave(self, made: SealedObject, kind: str, fields: Mapping[str, Any]) -> None:
        """Put a note into the store, locked, and on record.

        Raises:
            EvidenceError: the store does not take it, or does not keep it as it must.
            AuditUnavailable: it could not be put on record; the next run of the command does.
        """
        self._remember({"key": made.key, "sha256": made.sha256, "kind": kind, "fields": dict(fields)})
        self._put(made)
        self.note(kind, fields)
        self._pending.unlink()

    def finish(self) -> None:
        """Put on record what an earlier run left in the store and could not.

        Raises:
            EvidenceError: the store cannot be asked.
            AuditUnavailable: it could not be put on record.
        """
        try:
            told = json.loads(self._pending.read_bytes())
            key, sha256, kind, fields = (told[name] for name in ("key", "sha256", "kind", "fields"))
        except FileNotFoundError:
            return
        except (ValueError, KeyError, TypeError):
            raise ConfigError(f"{self._pending}: damaged; remove it, and run `affidavit verify`") from None
        with _translated(self._config):
            stored = store_of(self._config).read_back(key)
        if stored is not None and stored.sha256 == sha256:
            self.note(kind, fields)
        self._pending.unlink()

    def _put(self, made: SealedObject) -> None:
        terms = Terms(timedelta(days=self._config.audit.s3.retention_days), registry.log_signer(self._config))
        with _translated(self._config):
            Desk(store_of(self._config), terms, clock).put(made, ShipReport())

    def _remember(self, told: dict[str, Any]) -> None:
        files.replace(self._pending, json.dumps(told))


@contextmanager
def _translated(config: Config) -> Iterator[None]:
    try:
        yield
    except (StoreUnavailable, StoreRefused) as error:
        raise EvidenceError(f"bucket {config.audit.s3.bucket}: {error}") from None
    except NotKept as error:
        what = "the store does not lock what is put as configured (audit.s3.retention_days)"
        raise EvidenceError(f"bucket {config.audit.s3.bucket}: {what}: {error}") from None


def _store(config: Config) -> S3Versions:
    s3 = config.audit.s3
    return S3Versions(s3.bucket, s3.prefix, s3.region, s3.endpoint, s3.credentials_file)


@contextmanager
def _alone(config: Config) -> Iterator[None]:
    """One such command at a time: each must see what the other put on record."""
    try:
        descriptor = os.open(config.state_dir / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except FileNotFoundError:
        raise ConfigError(f"state_dir: {config.state_dir} is not there: start `affidavit serve` once") from None
    except OSError as error:
        raise ConfigError(f"state_dir: {config.state_dir / _LOCK}: {error.strerror}") from None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        raise ConfigError("another `affidavit reconcile` or `affidavit rollup` runs; wait for it") from None
    else:
        yield
    finally:
        os.close(descriptor)


@contextmanager
def _progress(*, is_quiet: bool) -> Iterator[Callable[[str, int], None]]:
    console = Console(stderr=True)
    with console.status("reading the bucket") if console.is_terminal and not is_quiet else nullcontext() as status:

        def progress(what: str, count: int) -> None:
            if status is not None:
                status.update(f"reading the bucket: {count} {what}")

        yield progress


# Reconcile ------------------------------------------------------------------------------------------------------------


def reconcile_requests(path: Path, day: str | None, since: str | None, until: str | None, *, as_json: bool) -> int:
    """``affidavit reconcile``."""
    config, digest = load(path)
    now = clock()
    span = span_of(day, since, until, now)
    with ExitStack() as stack:
        stack.enter_context(_alone(config))
        recording = _Recording(config, digest, stack)
        recording.finish()
        # What is not in the store yet is looked at first: what is shipped meanwhile is seen on one side at least.
        noted = list(unshipped_refusals(registry.evidence_directory(config)))
        with _progress(is_quiet=as_json) as progress:
            account = reconcile(
                _store(config),
                span,
                now,
                lambda line: recording.note(REFUSED, refused_leaf(line)),
                noted,
                progress,
            )
        made = statement(account, config.audit.origin, registry.log_signer(config), now)
        recording.leave(made, LeafKind.RECONCILE_RESULT, result_leaf(account, made))
    _tell(account, made, as_json=as_json)
    return _WHOLE if account.is_whole else _NOT_WHOLE


def span_of(day: str | None, since: str | None, until: str | None, now: datetime) -> Span:
    """Which requests: a day (today so far, where nothing is said), or between two instants; never the future.

    Raises:
        EvidenceError: what is written is no day or no time, or nothing lies between.
    """
    if day is not None and (since is not None or until is not None):
        raise EvidenceError("name either --day, or --since and --until")
    if since is None and until is not None:
        raise EvidenceError("--until needs --since")
    if since is None:
        first = datetime.fromisoformat(day_of(day or f"{now:%Y-%m-%d}")).replace(tzinfo=UTC)
        last = first + timedelta(days=1)
    else:
        first = parse_time(since, now)
        last = parse_time(until, now, is_end=True) if until is not None else now
    if first >= min(last, now):
        raise EvidenceError("nothing lies in that time: it must begin before it ends, and before now")
    return Span(_as_envoy_writes(first), _as_envoy_writes(min(last, now)))


def _as_envoy_writes(at: datetime) -> datetime:
    """Envoy's log cuts times off after the millisecond: what began within it must not lie before it."""
    return at.replace(microsecond=at.microsecond // 1000 * 1000)


def day_of(text: str) -> str:
    """A day as ``YYYY-MM-DD``.

    Raises:
        EvidenceError: it is none.
    """
    try:
        return f"{datetime.strptime(text, '%Y-%m-%d').replace(tzinfo=UTC):%Y-%m-%d}"
    except ValueError:
        raise EvidenceError(f"{text!r} is no day: write 2026-11-25") from None


def unshipped_refusals(directory: Path) -> Iterator[str]:
    """The refusals of Envoy's that commands put on record and that still lie on this disk: their places."""
    for path in sorted([*directory.glob(f"*/*{segments.SEALED}"), *directory.glob(f"*/*{segments.WRITING}")]):
        try:
            with path.open("rb") as file:
                head = frames.scan(file.read(_HEAD_BYTES)).frames
            if not head or not _is_commands(head[0]):
                continue
            found = frames.scan(path.read_bytes()).frames
        except FileNotFoundError:
            continue  # shipped meanwhile: it is in the store
        for frame in found:
            if frame.type == frames.LEAF and REFUSED.encode() in frame.leaf:
                told = json.loads(frame.leaf)
                yield f"{told['replica']}/{told['generation']}/{told['offset']}"


def _is_commands(frame: frames.Frame) -> bool:
    origin = frame.origin or str(json.loads(frame.leaf).get("origin"))
    name = Origin.find(origin)
    return name is not None and name.role == "command"


def _tell(account: Account, made: SealedObject, *, as_json: bool) -> None:
    classes = [{"kind": kind, "class": name, "count": count} for (kind, name), count in sorted(account.classes.items())]
    if as_json:
        told = {
            "ok": account.is_whole,
            "from": account.span.since.isoformat(),
            "to": account.span.until.isoformat(),
            "envoy": account.envoy,
            "audited": account.audited,
            "orphans": account.orphans,
            "incidents": account.incidents,
            "classes": classes,
            "explained": account.explained,
            "gaps": account.gaps,
            "key": made.key,
            "sha256": made.sha256,
        }
        print(json.dumps(told, ensure_ascii=False))
        return
    console = Console()
    table = Table("requests", "what they are", "class", box=None)
    for one in classes:
        table.add_row(str(one["count"]), str(one["kind"]), str(one["class"]))
    console.print(table)
    for gap in account.gaps[:_SHOWN_MAX]:
        print_finding(console, gap["code"], gap["object"], gap["explanation"])
    if len(account.gaps) > _SHOWN_MAX:
        console.print(f"    and {len(account.gaps) - _SHOWN_MAX} more: see the statement", highlight=False)
    mark = "✓" if account.is_whole else "✗"
    figures = f"envoy={account.envoy} audited={account.audited} orphans={account.orphans} gaps={len(account.gaps)}"
    console.print(f"{mark} {figures}", highlight=False)
    console.print(f"  signed and locked: {made.key}", highlight=False, soft_wrap=True)


# Roll-up --------------------------------------------------------------------------------------------------------------


def roll_up_day(path: Path, day: str | None, *, so_far: bool, as_json: bool) -> int:
    """``affidavit rollup``."""
    config, digest = load(path)
    now = clock()
    wanted = day_of(day or f"{now if so_far else now - timedelta(days=1):%Y-%m-%d}")
    is_over = datetime.fromisoformat(wanted).replace(tzinfo=UTC) + timedelta(days=1) <= now
    if not is_over and not so_far:
        raise EvidenceError(f"{wanted} is not over: see what there is with --so-far, which stores nothing")
    with ExitStack() as stack:
        stack.enter_context(_alone(config))
        recording = _Recording(config, digest, stack)
        recording.finish()
        with _progress(is_quiet=as_json) as progress:
            made = roll_up(_store(config), wanted, config.audit.origin, registry.log_signer(config), now, progress)
        if not made.epochs:
            raise EvidenceError(f"the bucket holds no log with a record of {wanted}")
        is_stored = made.is_new and not so_far
        if is_stored:
            recording.leave(made.sealed, LeafKind.ROLLUP_MADE, made.leaf())
    told = {"day": wanted, "epochs": made.epochs, "key": None if so_far else made.sealed.key, "is_new": is_stored}
    if as_json:
        print(json.dumps(told))
        return _WHOLE
    table = Table("log", "records", "end", "first", "last", box=None)
    for row in made.epochs:
        name = row["origin"].removeprefix(f"{config.audit.origin}/")
        table.add_row(name, str(row["size"]), row["end"] or "open", row["first_at"], row["last_at"])
    Console().print(table)
    if so_far:
        print(f"{wanted} so far: nothing was stored")
    else:
        print(f"{made.sealed.key}{'' if is_stored else ' (was there already)'}")
    return _WHOLE
