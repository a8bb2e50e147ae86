"""One verification: what it trusts, what it has read, what it found. Every object passes through `Run.seen`."""

from __future__ import annotations

from collections import deque
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

from ext_proc.verify import names, notes
from ext_proc.verify.findings import Findings, Progress
from ext_proc.verify.source import Absent, BucketFacts, Lock, Source, TooLarge, Version, lock_fault

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from concurrent.futures import Future
    from datetime import datetime

    from ext_proc.verify.names import Name
    from ext_proc.verify.notes import Note
    from ext_proc.verify.policy import AuditorPolicy

_READERS: Final = 16


@dataclass(frozen=True, slots=True)
class Item:
    """One object that belongs into the bucket: what its key says, and the version that is the evidence."""

    name: Name
    version: Version

    @property
    def key(self) -> str:
        """Its key."""
        return self.version.key


@dataclass(frozen=True, slots=True)
class Small:
    """A small object with its bytes."""

    item: Item
    data: bytes
    sha256: str
    lock: Lock | None = None


class Run:
    """See above.

    Args:
        policy: what the auditor trusts and asks for.
        source: where the evidence is.
        facts: of the bucket.
        findings: where findings go.
        progress: told now and then; may be None.
    """

    def __init__(
        self,
        policy: AuditorPolicy,
        source: Source,
        facts: BucketFacts,
        findings: Findings,
        progress: Callable[[Progress], None] | None,
    ) -> None:
        self.policy = policy
        self.source = source
        self.findings = findings
        self.now = facts.now
        self.accepted = policy.public_keys
        self.retired = policy.retired
        self.leaves = 0
        self.objects_total = 0
        self.places_read: set[str] = set()
        self._progress = progress
        self._objects_done = 0
        self._step = ""

    def step(self, name: str) -> None:
        """A new step begins."""
        self._step = name
        self._tell()

    def _tell(self) -> None:
        if self._progress is not None:
            self._progress(Progress(self._step, self._objects_done, self.objects_total, self.leaves))

    @property
    def retention(self) -> timedelta:
        """How long an object must be locked from its writing; the clocks' difference is no fault."""
        return timedelta(days=self.policy.retention_days) - self.policy.tolerance

    def is_settled(self, at: datetime) -> bool:
        """Is it so long ago that whatever belongs to it must be there?"""
        return at <= self.now - self.policy.grace

    def seen(self, item: Item, sha256: str, lock: Lock | None) -> bool:
        """The object was read to its end: do its bytes and its lock hold? Answers for the bytes."""
        version = item.version
        self.places_read.add(version.place)
        self._objects_done += 1
        self._tell()
        if lock is not None:
            fault = lock_fault(version, lock, self.retention)
            if fault is not None:
                self.findings.add(fault[0], version.key, fault[1])
        if not sha256:
            return True
        is_true = True
        if item.name.kind not in ("stamp", "roster") and not sha256.startswith(item.name.sha16):
            self.findings.add("object_changed", version.key, "Its bytes are not those that its name promises.")
            is_true = False
        elif version.sha256 is not None and version.sha256 != sha256:
            self.findings.add("object_changed", version.key, "Its bytes are not those that the inventory lists.")
            is_true = False
        return is_true

    def missing(self, key: str) -> None:
        """It was listed and cannot be read."""
        self.findings.add("object_missing", key, "The object is listed, but there is nothing to read.")

    def small(self, items: Iterable[Item], limit: int = notes.NOTE_MAX_BYTES) -> Iterator[Small]:
        """Read small objects, in order. What cannot be read is a finding and left out."""
        for item, data, sha256, lock in _fetched(self.source, items, limit):
            if data is None:
                if lock is None:
                    self.missing(item.key)
                else:
                    self.seen(item, "", lock)
                    self.findings.add("object_unreadable", item.key, "It is far larger than such an object can be.")
                continue
            self.seen(item, sha256, lock)
            yield Small(item, data, sha256, lock)

    def note(self, small: Small) -> Note | None:
        """The signed note in an object."""
        try:
            return notes.parse(small.data)
        except notes.NoteError as error:
            self.findings.add("object_unreadable", small.item.key, f"It cannot be read: {error}.")
            return None

    def fields(
        self, small: Small, schema: str, wanted: dict[str, type | tuple[type, ...]]
    ) -> tuple[Note, dict[str, Any]] | None:
        """The note and the JSON object in it."""
        note = self.note(small)
        if note is None:
            return None
        try:
            return note, notes.fields(note, schema, wanted)
        except notes.NoteError as error:
            self.findings.add("object_unreadable", small.item.key, f"It cannot be read: {error}.")
            return None

    def retire(self, key: bytes, until: datetime) -> None:
        """The key counts until then; of two ends the earlier."""
        self.retired[key] = min(until, self.retired.get(key, until))

    def is_late(self, signer: bytes, item: Item) -> bool:
        """Did the store get the object when the key was retired? Cosignatures come later than what they are for."""
        until = self.retired.get(signer)
        if until is None or item.name.kind == "cosigned":
            return False
        return item.version.last_modified > until + self.policy.tolerance

    def signer(self, item: Item, note: Note, name: str) -> bytes | None:
        """The accepted key that signed the note under ``name``; without one there is a finding."""
        key, signer = item.key, notes.signer(note, name, self.accepted)
        if isinstance(signer, bytes):
            if not self.is_late(signer, item):
                return signer
            what = f"The key that signed it counts until {self.retired[signer]}, and the store got it later."
            self.findings.add("signature_retired_key", key, what)
            return None
        what = {
            "signature_invalid": f"The signature of {name} does not fit the text.",
            "signature_unknown_key": f"No accepted key signed this as {name}.",
        }[signer]
        self.findings.add(signer, key, what)
        return None

    def origin(self, log: tuple[str, str]) -> str:
        """The log's unique name."""
        return f"{self.policy.gateway}/{log[0]}/{log[1]}"

    def log_of(self, origin: object) -> tuple[str, str] | None:
        """Replica log and epoch of an origin of this gateway."""
        if not isinstance(origin, str) or not origin.startswith(self.policy.gateway + "/"):
            return None
        parts = origin[len(self.policy.gateway) + 1 :].split("/")
        if len(parts) != 2 or names.read(f"v1/roster/dt=2000-01-01/{parts[0]}.{parts[1]}.note") is None:
            return None
        return parts[0], parts[1]


_Fetched = tuple[Item, bytes | None, str, Lock | None]


def _fetched(source: Source, items: Iterable[Item], limit: int) -> Iterator[_Fetched]:
    if not source.is_remote:
        for item in items:
            yield _fetch(source, item, limit)
        return
    pool = ThreadPoolExecutor(_READERS)
    try:
        left = iter(items)
        waiting: deque[Future[_Fetched]] = deque(
            pool.submit(_fetch, source, item, limit) for item in islice(left, 2 * _READERS)
        )
        while waiting:
            yield waiting.popleft().result()
            waiting.extend(pool.submit(_fetch, source, item, limit) for item in islice(left, 1))
    finally:
        pool.shutdown(wait=False, cancel_futures=True)  # who is interrupted does not wait for the store


def _fetch(source: Source, item: Item, limit: int) -> _Fetched:
    try:
        with source.open(item.version) as opened:
            try:
                data = opened.read_all(limit)
            except TooLarge:
                return item, None, "", opened.lock
            return item, data, opened.sha256, opened.lock
    except Absent:
        return item, None, "", None
