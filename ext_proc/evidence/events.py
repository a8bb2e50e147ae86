"""Leaves out of events objects, a piece at a time: an object may be made to grow without end when it is unpacked."""

from __future__ import annotations

from collections import deque
from datetime import UTC, datetime, timedelta
from tempfile import SpooledTemporaryFile
from typing import TYPE_CHECKING, Any, BinaryIO, Final, cast

import orjson
import zstandard

from ext_proc.errors import IntegrityError
from ext_proc.evidence import names
from ext_proc.evidence.threads import readers
from ext_proc.evidence.versions import firsts

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from concurrent.futures import Future

    from ext_proc.evidence.names import EventsName, LogName
    from ext_proc.evidence.versions import Version, VersionedStore

LINE_MAX_BYTES: Final = 65_535
"""Entries of a C2SP tile may not be longer; leaves are at most 16 KiB."""
SPOOL_BYTES: Final = 8 << 20
_THREADS: Final = 4
_AHEAD: Final = 8
_SEALED_WITHIN: Final = timedelta(hours=1)
"""A leaf lies in an object of its own hour or the hour before: no segment stays open for longer."""
PUT_BACK: Final = timedelta(days=2)
"""How far a clock may be put back without a log's records being looked for in vain."""
_COMMON: Final = {"kind": str, "origin": str, "sequence": int, "at": str}
_STEP_BYTES: Final = 1 << 18
_WINDOW_BYTES: Final = 1 << 27


def read_leaves(file: BinaryIO) -> Iterator[bytes]:
    """The leaves of an events object.

    Raises:
        IntegrityError: it cannot be unpacked, or is not made of lines of a leaf's length.
    """
    engine = zstandard.ZstdDecompressor(max_window_size=_WINDOW_BYTES)
    rest = b""
    try:
        with engine.stream_reader(file, read_across_frames=True, closefd=False) as reader:
            while piece := reader.read(_STEP_BYTES):
                lines = (rest + piece).split(b"\n")
                rest = lines.pop()
                if len(rest) > LINE_MAX_BYTES or any(len(line) > LINE_MAX_BYTES for line in lines):
                    raise IntegrityError("a line is longer than a leaf can be")
                yield from lines
    except zstandard.ZstdError:
        raise IntegrityError("not zstd, or damaged") from None
    if rest:
        raise IntegrityError("cut off")


def parse_leaf(line: bytes, key: str) -> dict[str, Any]:
    """A leaf as an object. Reading is not verifying: only what readers rely on is looked at.

    Raises:
        IntegrityError: it is no leaf.
    """
    try:
        told = orjson.loads(line)
    except ValueError:
        told = None
    if not isinstance(told, dict) or any(type(told.get(name)) is not kind for name, kind in _COMMON.items()):
        raise damaged(key)
    return told


def damaged(key: str, what: str = "a line is no leaf") -> IntegrityError:
    """What to raise, and what to do next."""
    return IntegrityError(f"{key}: {what}; run `affidavit verify`")


def objects(store: VersionedStore, after: str = "") -> Iterator[tuple[EventsName, Version]]:
    """Every events object whose key comes after ``after``, by day, hour, log and place in it.

    Raises:
        EvidenceError: the store cannot be listed.
    """
    for version in firsts(store, names.EVENTS, after):
        name = names.events(version.key)
        if name is not None:
            yield name, version


def objects_of(store: VersionedStore, log: LogName) -> Iterator[tuple[EventsName, Version]]:
    """The events objects of one log, in order. Its epoch says when it was born; a clock may have been put back since.

    Raises:
        EvidenceError: the store cannot be listed.
    """
    try:
        after, _ = window(log.born_at - PUT_BACK, None) if log.born_at is not None else ("", None)
    except OverflowError:
        after = ""
    found = [(name, version) for name, version in objects(store, after) if name.log == log]
    yield from sorted(found, key=lambda one: one[0].first)


def read_ahead(
    store: VersionedStore, found: Iterator[tuple[EventsName, Version]]
) -> Iterator[tuple[EventsName, Version, Iterator[bytes]]]:
    """Each object with its leaves, in order; the next ones are fetched meanwhile. Leaves must be taken at once.

    Raises:
        EvidenceError: an object cannot be read. (Its leaves raise IntegrityError where it is damaged.)
    """
    waiting: deque[tuple[EventsName, Version, Future[BinaryIO]]] = deque()
    with readers(_THREADS) as pool:
        for name, version in found:
            waiting.append((name, version, pool.submit(_spooled, store, version)))
            if len(waiting) > _AHEAD:
                yield from _taken(*waiting.popleft())
        while waiting:
            yield from _taken(*waiting.popleft())


def _taken(
    name: EventsName, version: Version, future: Future[BinaryIO]
) -> Iterator[tuple[EventsName, Version, Iterator[bytes]]]:
    with future.result() as file:
        yield name, version, _checked(file, name, version)


def _checked(file: BinaryIO, name: EventsName, version: Version) -> Iterator[bytes]:
    count = 0
    try:
        for leaf in read_leaves(file):
            count += 1
            yield leaf
    except IntegrityError as error:
        raise damaged(version.key, error.detail) from None
    if count != name.last - name.first + 1:
        raise damaged(version.key, f"it holds {count} leaves, not what its key says")


def _spooled(store: VersionedStore, version: Version) -> BinaryIO:
    file = cast("BinaryIO", SpooledTemporaryFile(SPOOL_BYTES))  # noqa: SIM115 - closed by whoever takes it
    store.download(version, file)
    file.seek(0)
    return file


def window(since: datetime | None, until: datetime | None) -> tuple[str, Callable[[EventsName], bool]]:
    """Where to begin listing, and whether an object lies at or before the end. An object's hour is its first leaf's."""
    after = ""
    if since is not None:
        at = (since - _SEALED_WITHIN).astimezone(UTC)
        after = f"{names.EVENTS}dt={at:%Y-%m-%d}/hour={at:%H}"
    last = f"{until.astimezone(UTC):%Y-%m-%d %H}" if until is not None else "9999"
    return after, lambda name: f"{name.day} {name.hour}" <= last


def end_of(until: datetime) -> str:
    """Where to begin listing what comes after the hour of ``until``."""
    return f"{names.EVENTS}dt={until.astimezone(UTC):%Y-%m-%d}/hour={until.astimezone(UTC):%H}0"  # 0 follows the slash
