"""``affidavit export-siem``: the places that events can go to, and the rounds."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import json
import os
import signal
import ssl
import sys
from contextlib import suppress
from threading import Event
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

import aiohttp

from ext_proc import telemetry
from ext_proc.app.process import clock
from ext_proc.approval.channels.address import BadAddress, check_url
from ext_proc.audit.s3 import S3Store
from ext_proc.audit.store import StoreRefused, StoreUnavailable
from ext_proc.errors import ConfigError
from ext_proc.evidence.siem import Cursor, send
from ext_proc.evidence.versions import EvidenceError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from datetime import datetime
    from pathlib import Path

    from ext_proc.evidence.siem import Sink
    from ext_proc.evidence.versions import VersionedStore

    Opened = Callable[[Callable[[float], bool]], Sink]
    """Opens the place, given what waits (and says whether to give up)."""

AT_ONCE: Final = 500
"""Events in one request."""
ATTEMPTS: Final = 5
FIRST_PAUSE_SECONDS: Final = 1.0
DEADLINE_SECONDS: Final = 30.0
_PASSING: Final = (408, 425, 429, 500, 502, 503, 504)
_LAST_PAUSE_SECONDS: Final = 60.0

_log = telemetry.logger()


class FileSink:
    """Lines of JSON at the end of a file; synced before they count. Rotate it by renaming: it is opened anew each time.

    Args:
        path: the file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def take(self, name: str, events: Sequence[dict[str, Any]]) -> None:
        """See `Sink.take`."""
        del name
        try:
            descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o640)
            with os.fdopen(descriptor, "ab", buffering=0) as file:
                size = os.fstat(descriptor).st_size
                try:
                    _write_all(descriptor, (b"\n" if size and self._is_cut() else b"") + _lines(events))
                    os.fsync(descriptor)
                except OSError:
                    with suppress(OSError):  # what is no file on a disk cannot be cut
                        file.truncate(size)
                    raise
        except OSError as error:
            raise EvidenceError(f"{self._path}: {error.strerror}") from None

    def _is_cut(self) -> bool:
        """Does it end within a line? After a crash in the middle of writing it may."""
        with self._path.open("rb") as file:
            file.seek(-1, os.SEEK_END)
            return file.read(1) != b"\n"


def _write_all(descriptor: int, body: bytes) -> None:
    rest = memoryview(body)
    while rest:
        rest = rest[os.write(descriptor, rest) :]


class BucketSink:
    """An object of gzipped lines for each object of events, under a name that says which: sent twice, it is one.

    Args:
        store: the bucket, and the prefix in it.
    """

    def __init__(self, store: S3Store) -> None:
        self._store = store

    def take(self, name: str, events: Sequence[dict[str, Any]]) -> None:
        """See `Sink.take`."""
        day, _, rest = name.partition("/")
        body = gzip.compress(_lines(events), mtime=0)
        try:
            self._store.put(f"dt={day}/{rest}.jsonl.gz", body, hashlib.sha256(body).hexdigest())
        except (StoreUnavailable, StoreRefused) as error:
            raise EvidenceError(f"bucket for events: {error}") from None


class HttpSink:
    """POST of gzipped lines, some hundred events at a time. What passes (429, 5xx, no answer) is tried again.

    Args:
        url: where to.
        headers: what it wants to be told, a key for example.
        pause: waits so many seconds; true: give up.
        ca_file: authorities of its certificate, where the system's do not do.
        deadline_seconds: of one request with its answer: who drips is no answer.
    """

    def __init__(
        self,
        url: str,
        headers: Mapping[str, str],
        pause: Callable[[float], bool],
        ca_file: Path | None = None,
        deadline_seconds: float = DEADLINE_SECONDS,
    ) -> None:
        self._url = url
        self._headers = {**headers, "content-type": "application/x-ndjson", "content-encoding": "gzip"}
        self._pause = pause
        self._tls = ssl.create_default_context(cafile=ca_file)
        self._deadline_seconds = deadline_seconds

    def take(self, name: str, events: Sequence[dict[str, Any]]) -> None:
        """See `Sink.take`."""
        for start in range(0, len(events), AT_ONCE):
            key = f"{name}-{start}"
            self._post(gzip.compress(_lines(events[start : start + AT_ONCE]), mtime=0), key)

    def _post(self, body: bytes, key: str) -> None:
        said = ""
        for attempt in range(ATTEMPTS):
            wait = FIRST_PAUSE_SECONDS * 2.0**attempt
            try:
                status, after = asyncio.run(self._asked(body, key))
                if 200 <= status < 300:
                    return
                said = f"status {status}"
                if status not in _PASSING:
                    break
                wait = _asked_to_wait(after) or wait
            except (aiohttp.ClientError, OSError, ValueError) as error:  # `TimeoutError` is an OSError
                said = type(getattr(error, "os_error", error)).__name__
            if attempt + 1 == ATTEMPTS or self._pause(min(wait, _LAST_PAUSE_SECONDS)):
                break
        raise EvidenceError(f"{urlsplit(self._url).hostname}: {said}; nothing is lost: run it again")

    async def _asked(self, body: bytes, key: str) -> tuple[int, str | None]:
        """The status, and when to ask again; nothing else of the answer is read. Events go where the command line says,
        or nowhere: no proxy of the environment's, and no redirect.
        """
        async with (
            asyncio.timeout(self._deadline_seconds),
            aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(ssl=self._tls, force_close=True),
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
            ) as session,
            session.post(
                self._url, data=body, headers={**self._headers, "idempotency-key": key}, allow_redirects=False
            ) as answer,
        ):
            return answer.status, answer.headers.get("retry-after")


def _asked_to_wait(text: str | None) -> float | None:
    return float(text) if text and text.isdecimal() else None


def _lines(events: Sequence[dict[str, Any]]) -> bytes:
    return b"".join(json.dumps(event, separators=(",", ":")).encode() + b"\n" for event in events)


def sink_of(
    to: str, headers: Mapping[str, str], pause: Callable[[float], bool], ca_file: Path | None, s3: Mapping[str, Any]
) -> Sink:
    """The place by its name: a path, ``s3://bucket/prefix``, or ``https://…``.

    Raises:
        ConfigError: it is none of these.
    """
    from pathlib import Path as FilePath

    if to.startswith("s3://"):
        parts = urlsplit(to)
        if not parts.netloc:
            raise ConfigError(f"--to: {to}: s3://BUCKET/PREFIX is wanted")
        prefix = parts.path.strip("/")
        return BucketSink(S3Store(parts.netloc, f"{prefix}/" if prefix else "", **s3))
    if "://" in to:
        try:
            check_url(to)
        except BadAddress as error:
            raise ConfigError(f"--to: {error}") from None
        try:
            return HttpSink(to, headers, pause, ca_file)
        except OSError as error:  # `ssl.SSLError` is one: the file holds no certificate
            raise ConfigError(f"--ca-file: {ca_file}: {error.strerror or 'no certificate in it'}") from None
    return FileSink(FilePath(to))


def run(
    store: VersionedStore,
    sink: Callable[[Callable[[float], bool]], Sink],
    state: Path,
    since: datetime,
    every: float | None,
) -> int:
    """One round, or rounds until SIGTERM. Exit status 0: all was sent; 1: something of the bucket could not be read.

    Raises:
        EvidenceError: the other side does not take it (in rounds: it is tried again).
    """
    stop = Event()
    if every is not None:
        for name in (signal.SIGTERM, signal.SIGINT):
            signal.signal(name, lambda *_: stop.set())
    cursor, place = Cursor.load(state, since), sink(stop.wait)
    status = 0
    for _ in _rounds(stop, every):
        try:
            made = send(store, cursor, place, clock())
        except EvidenceError as error:
            if every is None:
                raise
            _log.warning("events not sent", detail=error.detail)
            continue
        for problem in made.problems:
            print(f"affidavit: {problem}", file=sys.stderr)
            status = 1
        if every is None:
            print(f"{made.events} events of {made.objects} objects sent")
        elif made.events:
            _log.info("events sent", events=made.events, objects=made.objects)
    return status


def _rounds(stop: Event, every: float | None) -> Iterator[None]:
    yield
    while every is not None and not stop.wait(every):
        yield
