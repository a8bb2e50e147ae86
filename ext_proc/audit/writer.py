"""A worker's log. What `Writer.record` has returned for is on the disk: it survives this process and this machine.

The event loop gives each record its sequence number and bytes; one thread writes them in that order, many to one
``fdatasync`` (group commit):

 1. take everything that is waiting;
 2. write the frames into the current segment; when it is full, begin another first (steps 4 to 6);
 3. sync; then, and only then, tell the waiting callers. A crash before: they were told nothing, and nothing passed.
 4. sync the old segment, then take the spare file for the next one, so that a full disk does not stop what is already
    admitted;
 5. begin it with a carry frame, and sync: the exchanges that are not over, and the parts of streamed answers that no
    leaf tells of yet, so that recovery never needs a segment that was shipped. A crash here leaves two ``.wal``, and
    recovery reads both;
 6. only now cut off the old one's unused end and rename it to ``.sealed``: from here on it may be shipped and freed.

No space for another segment: what does not fit is given back, refused and unnumbered, until there is. A failed write
or sync is fatal: after it nobody knows what is on the disk, so everything is refused from then on, and a new process
starts a new epoch.
"""

from __future__ import annotations

import asyncio
import os
from collections import Counter, deque
from contextlib import suppress
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue
from threading import Lock, Thread
from time import monotonic
from typing import TYPE_CHECKING, Any, Final

from ext_proc import telemetry
from ext_proc.audit import frames, segments
from ext_proc.audit.parts import PART, Parts
from ext_proc.audit.receipt import issue
from ext_proc.audit.record import build_leaf, canonical, claims_release, instant, leaf_hash
from ext_proc.errors import AuditUnavailable, GateError
from ext_proc.model import Receipt

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import datetime
    from pathlib import Path

    from ext_proc.audit.keys import KeyRing
    from ext_proc.audit.note import Signer
    from ext_proc.model import Entry, ExchangeId, Identity

LISTED: Final = ("request_redaction", "response_redaction")
_SPACE_CHECK_SECONDS: Final = 0.5
_BATCH_MAX: Final = 256
_KNOWN_PEOPLE_MAX: Final = 1024
EFFECT: Final = "effect.tool_call"
TENANT: Final = "tenant"
"""What a reference to a tenant is of. Of its name alone: as holds know tenants, whichever issuer speaks of them."""
_TOOL_CALL: Final = "tool-call"
_STREAMED: Final = frozenset({PART, "inference.outcome"})
"""Kinds that tell of a streamed answer, and of which a caller gets a receipt: a stream's head goes before its end."""
_FRAME: Final = "part frame"
"""Kind of what is waiting: a part that is no leaf. It has no number of its own; its ``sequence`` is the next leaf's."""
_MORE, _OVER = False, True  # what the thread is woken for: records; nothing comes any more
_RESERVED_BYTES: Final = 4096
"""Kept free in each segment: a log can always be closed, full disk or not."""
_ENDS_SECONDS: Final = 0.05
"""How long the end of an exchange may wait for a record to be written with."""
_LOOK_AGAIN_SECONDS: Final = 0.25
"""How often to try for a spare file while the disk is full."""


@dataclass(frozen=True, slots=True)
class WalLimits:
    """Sizes in bytes, time in seconds; see the configuration's ``audit.wal``."""

    segment_bytes: int
    max_bytes: int
    emergency_bytes: int
    seal_seconds: float


@dataclass(frozen=True, slots=True)
class WriterHealth:
    """Can this log still take records, and how full is the disk's share."""

    is_writable: bool
    unshipped_bytes: int
    capacity_bytes: int
    failure: str | None


@dataclass(slots=True)
class _Waiting:
    """A record on its way: its frame, who waits, and what it means for the open exchanges."""

    frame: bytes
    sequence: int
    kind: str
    exchange_id: str
    done: asyncio.Future[Receipt]
    receipt: Receipt
    claims_release: bool = False
    is_last: bool = False
    part: dict[str, int] | None = None


@dataclass(slots=True)
class _Segment:
    path: Path
    descriptor: int
    size_bytes: int
    offset: int = 0
    has_leaf: bool = False
    opened_at: float = field(default_factory=monotonic)


class Writer:
    """`ports.Recorder` for one worker process and epoch. Call from one event loop only."""

    def __init__(
        self,
        folder: Path,
        lock: int,
        origin: str,
        keyring: KeyRing,
        limits: WalLimits,
        ops: segments.FileOps,
        receipts: Signer | None = None,
    ) -> None:
        self.origin = origin
        self._receipts = receipts
        self._counts: Counter[str] = Counter()
        self._folder = folder
        self._directory = folder.parent
        self._keyring = keyring
        self._limits = limits
        self._ops = ops
        self._sequence = 0
        self._loop = asyncio.get_running_loop()
        self._pending: list[_Waiting] = []  # numbered, and not yet taken by the thread
        self._is_handing_over = False
        self._bell: SimpleQueue[bool] = SimpleQueue()  # wakes the thread: `_MORE` or `_OVER`
        self._failure: str | None = None
        self._is_closed = False
        self._is_full = False
        self._looked_at = 0.0  # when a spare file could not be had
        self._is_over = False  # the thread has nothing more to do
        self._used = (0, -1.0)
        self._used_lock = Lock()  # guards _used: the event loop and health checks from a thread read it
        self._order_lock = Lock()  # guards _sequence and _pending together: giving records back rewinds both
        self._last_written = -1
        self._known_people: dict[tuple[Identity | None, tuple[str, str] | None], dict[str, Any]] = {}
        self._parts = Parts()
        self._open: dict[str, dict[str, Any]] = {}  # exchanges with an intent and no outcome; the thread's own
        self._unsealed: dict[str, list[bytes]] = {}  # of those, parts that are frames only; the thread's own
        self._untaken: dict[str, dict[str, Any]] = {}  # whose outcome tells of an answer, and that go on; likewise
        self._ended: deque[str] = deque()  # exchanges out of those that ended
        self._is_to_ring = False
        self._lock: int | None = lock
        self._segment = self._first_segment()
        self._thread = Thread(target=self._write_forever, name="evidence-writer", daemon=True)
        self._thread.start()

    @classmethod
    async def open(  # noqa: PLR0913 - all that a log is
        cls,
        directory: Path,
        *,
        origin: str,
        epoch: str,
        keyring: KeyRing,
        opening: Mapping[str, Any],
        limits: WalLimits,
        now: datetime,
        ops: segments.FileOps | None = None,
        receipts: Signer | None = None,
    ) -> Writer:
        """Begin a new epoch. Durable when it returns: the leaf ``log.open`` is on the disk.

        ``receipts`` signs what callers of exchanges can keep.

        Raises:
            AuditUnavailable: no space, or the disk fails.
        """
        folder = directory / epoch
        lock: int | None = None
        try:
            unborn = directory / f".{epoch}"  # locked before the shipper can see it, or it would take it for dead
            unborn.mkdir(parents=True, mode=0o700)
            lock = segments.take_lock(unborn)
            if lock is None:
                raise AuditUnavailable("epoch is locked")
            unborn.rename(folder)
            segments.sync_folder(directory)
            segments.sync_folder(directory.parent)
            writer = cls(folder, lock, f"{origin}/{epoch}", keyring, limits, ops or segments.FileOps(), receipts)
        except OSError:
            if lock is not None:  # nothing was promised: leave no file that would fill the disk at each attempt
                (folder / segments.SPARE).unlink(missing_ok=True)
                os.close(lock)
            raise AuditUnavailable("cannot open log") from None
        try:
            await writer.note("log.open", opening, now)
        except AuditUnavailable:
            await writer.close(now)
            raise
        return writer

    # Called from the event loop ------------------------------------------------------------------------------------

    def admit(self, size_bytes: int) -> None:
        """See `ports.Recorder.admit`."""
        self._raise_if_unusable()
        if self._is_full or self._used_bytes() + size_bytes > self._limits.max_bytes - self._limits.emergency_bytes:
            raise AuditUnavailable("full")

    def record(self, entry: Entry, now: datetime) -> asyncio.Future[Receipt]:
        """See `ports.Recorder.record`. Begun when this returns: it goes on whether or not anybody waits for it."""
        try:
            subject = self._keyring.subject_reference(entry.identity)
            if entry.payloads and not self._keyring.is_prepared(subject):
                return self._loop.create_task(self._begin_prepared(entry, now, subject))
            return self._begin(entry, now, subject)
        except GateError as error:
            failed: asyncio.Future[Receipt] = self._loop.create_future()
            failed.set_exception(error)
            return failed

    async def _begin_prepared(self, entry: Entry, now: datetime, subject: str) -> Receipt:
        """The subject's key first: a database may be slow, and the other callers must not be."""
        await asyncio.to_thread(self._keyring.prepare, subject)
        return await self._begin(entry, now, subject)

    def _begin(self, entry: Entry, now: datetime, subject: str) -> asyncio.Future[Receipt]:
        self._raise_if_unusable()
        is_part = entry.kind == PART
        is_leaf = not is_part or self._parts.is_leaf(entry, now)
        payloads = self._parts.whole(entry) if is_leaf else entry.payloads
        if payloads and (self._is_nearly_full() or self._used_bytes() > self._limits.max_bytes):
            if entry.payloads or is_part:
                raise AuditUnavailable("full")
            payloads = ()  # what an end must say is small, and is said before what is kept of a stream
        told, ciphertexts = self._keyring.encrypt(subject, payloads, binding_of(self.origin, entry.exchange_id))
        fields = {**entry.facts, "exchange_id": entry.exchange_id, "payloads": told}
        if not is_leaf:
            return self._append_part(entry, fields, now, ciphertexts)
        if not is_part:
            fields |= self._people(entry, subject)
        if entry.tool_results:
            fields["tool_results"] = [self._keyring.reference(_TOOL_CALL, one) for one in entry.tool_results]
        self._append_effects(entry, now)
        begun = self._append(entry.kind, fields, now, ciphertexts, str(entry.exchange_id), part=entry.facts.get("part"))
        if entry.kind in _STREAMED:
            _if_durable(begun, lambda: self._parts.told(entry, now))
        if entry.kind == "inference.outcome":
            self._counts[str(entry.facts.get("outcome", {}).get("status"))] += 1
        return begun

    def _append_effects(self, entry: Entry, now: datetime) -> None:
        """A record of each tool call, before the outcome: where that is durable, so are they. Nobody waits for them."""
        for number, call in enumerate(entry.tool_calls):
            told = {
                "number": number,
                "name": call.name,
                "channel": call.channel,
                # Keyed: a decision may let values through, and a plain hash of few digits is as good as they are.
                "arguments_ref": self._keyring.reference("arguments", call.arguments_sha256),
                "call_ref": self._keyring.reference(_TOOL_CALL, call.call_id) if call.call_id else None,
            }
            fields = {
                "exchange_id": entry.exchange_id,
                "intent_sequence": entry.facts.get("intent_sequence"),
                "tool_call": told,
            }
            self._append(EFFECT, fields, now, [], str(entry.exchange_id)).add_done_callback(_heard)

    def _append_part(
        self, entry: Entry, fields: dict[str, Any], now: datetime, ciphertexts: list[bytes]
    ) -> asyncio.Future[Receipt]:
        """A frame that is no leaf: durable all the same, and the next leaf of the answer has what is in it."""
        told = canonical({**fields, "at": instant(now)})
        with self._order_lock:
            frame = frames.encode_part(self._sequence, told, ciphertexts)
            receipt = Receipt(self.origin, self._sequence, "")
            waiting = self._waiting(frame, self._sequence, _FRAME, str(entry.exchange_id), receipt)
            waiting.part = entry.facts["part"]
        _if_durable(waiting.done, lambda: self._parts.keep(entry))
        return waiting.done

    def ended(self, exchange_id: ExchangeId) -> None:
        """See `ports.Recorder.ended`. Written with the next record, or soon: not worth a sync, nor a thread's turn."""
        if exchange_id not in self._untaken:
            return
        self._ended.append(exchange_id)
        if not self._is_to_ring:
            self._is_to_ring = True
            self._loop.call_later(_ENDS_SECONDS, self._ring)

    def _ring(self) -> None:
        self._is_to_ring = False
        if self._ended:
            self._bell.put(_MORE)

    async def note(self, kind: str, fields: Mapping[str, Any], now: datetime) -> Receipt:
        """Record something about the log itself (``log.open``, ``config.changed`` ...).

        Raises:
            AuditUnavailable: it could not be made durable.
        """
        self._raise_if_unusable()
        return await self._append(kind, fields, now, [], "")

    async def close(self, now: datetime) -> None:
        """End the epoch: the last leaf is ``log.close``, and the last segment is sealed.

        Where the disk does not let us, `health` says why, and recovery will end it.
        """
        if self._is_closed:
            return
        self._is_closed = True
        try:
            await self._append("log.close", {"leaves": self._sequence + 1}, now, [], "", is_last=True)
        except AuditUnavailable as error:
            self._failure = self._failure or error.detail
        self._bell.put(_OVER)  # the thread may be refusing, and waits to be told that this is over
        await asyncio.to_thread(self._thread.join)
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def health(self) -> WriterHealth:
        """How it stands."""
        is_writable = not (self._failure or self._is_closed or self._is_full)
        return WriterHealth(is_writable, self._used_bytes(), self._limits.max_bytes, self._failure)

    @property
    def in_flight(self) -> int:
        """Exchanges with an intent and no outcome yet."""
        return len(self._open)

    @property
    def next_sequence(self) -> int:
        """The number that the next leaf will have, at least."""
        return self._sequence

    @property
    def is_born(self) -> bool:
        """Is the log's birth record locked in the store?"""
        return (self._folder / segments.BORN).exists()

    def take_counts(self) -> dict[str, int]:
        """Outcomes by status since this was asked last."""
        counts, self._counts = self._counts, Counter()
        return dict(sorted(counts.items()))

    def give_back_counts(self, counts: Mapping[str, int]) -> None:
        """They could not be told: they count for the next time."""
        self._counts.update(counts)

    def _raise_if_unusable(self) -> None:
        if self._failure is not None:
            raise AuditUnavailable(self._failure)
        if self._is_closed:
            raise AuditUnavailable("closed")

    def _people(self, entry: Entry, subject: str) -> dict[str, Any]:
        """References to the caller; the two records of an exchange have the same, so the last ones are kept."""
        source = entry.source
        # Without the port, which no reference is of: another connection of the same caller is known, too.
        place = None if source is None else (source.address.rpartition(":")[0] or source.address, source.user_agent)
        known = (entry.identity, place)
        people = self._known_people.get(known)
        if people is None:
            if len(self._known_people) >= _KNOWN_PEOPLE_MAX:
                self._known_people.clear()
            people = self._known_people[known] = self._referenced(*known, subject)
        return people

    def _referenced(self, identity: Identity | None, place: tuple[str, str] | None, subject: str) -> dict[str, Any]:
        reference = self._keyring.reference
        people: dict[str, Any] = {"actor": None, "source": None}
        if identity is not None:
            people["actor"] = {
                "subject_ref": subject,
                "issuer": identity.issuer,
                "method": identity.method,
                "client": reference("client", identity.client) if identity.client else None,
                "groups_ref": reference("groups", *identity.groups),
                "token_ref": reference("token", identity.token_id) if identity.token_id else None,
                # Only where there is one: whoever may read one tenant's exchanges finds them by it.
                **({"tenant_ref": reference(TENANT, identity.tenant)} if identity.tenant else {}),
            }
        if place is not None:
            address, user_agent = place
            people["source"] = {
                "address_ref": reference("address", address),
                "user_agent_ref": reference("user-agent", user_agent),
            }
        return people

    def _append(
        self,
        kind: str,
        fields: Mapping[str, Any],
        now: datetime,
        ciphertexts: list[bytes],
        exchange_id: str,
        *,
        is_last: bool = False,
        part: dict[str, int] | None = None,
    ) -> asyncio.Future[Receipt]:
        with self._order_lock:
            sequence = self._sequence
            leaf = build_leaf(kind, origin=self.origin, sequence=sequence, at=now, fields=fields, listed=LISTED)
            frame = frames.encode_leaf(sequence, leaf, ciphertexts)
            receipt = self._receipt(kind, sequence, leaf_hash(leaf))
            waiting = self._waiting(frame, sequence, kind, exchange_id, receipt)
            waiting.is_last, waiting.part = is_last, part
            waiting.claims_release = claims_release(kind, fields)
            self._sequence += 1
        return waiting.done

    def _waiting(self, frame: bytes, sequence: int, kind: str, exchange_id: str, receipt: Receipt) -> _Waiting:
        """Hand a frame to the thread. The order's lock is held."""
        if len(frame) > self._limits.segment_bytes - _RESERVED_BYTES:
            raise AuditUnavailable("record larger than a segment")
        waiting = _Waiting(frame, sequence, kind, exchange_id, self._loop.create_future(), receipt)
        self._pending.append(waiting)
        if not self._is_handing_over:
            self._is_handing_over = True
            self._loop.call_soon(self._hand_over)
        return waiting

    def _receipt(self, kind: str, sequence: int, leaf_hash: str) -> Receipt:
        """Made now, given out only when the record is durable."""
        if kind not in _STREAMED or self._receipts is None:
            return Receipt(self.origin, sequence, leaf_hash)
        promise = issue(self.origin, sequence, leaf_hash, self._receipts)
        return Receipt(self.origin, sequence, leaf_hash, promise)

    def _hand_over(self) -> None:
        """Wake the thread, once for all records of one turn of the loop: else each would wait for a sync of its own."""
        self._is_handing_over = False
        self._bell.put(_MORE)

    def _is_nearly_full(self) -> bool:
        """No space for another segment, and half of this one is for records that are small."""
        return self._is_full and self._segment.offset > self._segment.size_bytes // 2

    def _used_bytes(self) -> int:
        with self._used_lock:
            used, at = self._used
            now = monotonic()
            if now - at > _SPACE_CHECK_SECONDS:
                try:
                    used = segments.used_bytes(self._directory)
                except OSError:  # unknown is full
                    used = self._limits.max_bytes
                self._used = (used, now)
            return used

    # The writing thread --------------------------------------------------------------------------------------------

    def _write_forever(self) -> None:
        batch: list[_Waiting] = []
        try:
            while True:
                batch = self._take()
                began = monotonic()
                is_last = self._write(batch)
                took, made_durable = monotonic() - began, len(batch)
                self._tell(batch, None)
                batch = []
                if made_durable:  # counted once everybody knows: whatever a counter does, they are durable
                    telemetry.COMMIT_SECONDS.observe(took)
                    telemetry.COMMIT_RECORDS.inc(made_durable)
                if is_last:
                    segments.mark_ended(self._folder)
                    self._seal(self._segment)
                    return
                if self._is_over:
                    return
                self._keep_house()
        except Exception as error:  # noqa: BLE001 - the writer's loop: whatever it is, refuse everything from now on
            self._failure = f"disk: {type(error).__name__}"
            self._tell(batch, self._failure)
            self._refuse_forever()

    def _take(self) -> list[_Waiting]:
        """Step 1. Wait for a first record, at most until the segment must be sealed; then take all there are."""
        patience = self._limits.seal_seconds / 4
        with suppress(Empty):
            self._bell.get(timeout=min(patience, _LOOK_AGAIN_SECONDS) if self._is_full else patience)
        with self._order_lock:
            batch, self._pending = self._pending[:_BATCH_MAX], self._pending[_BATCH_MAX:]
            if self._pending:
                self._bell.put(_MORE)
        return batch

    def _write(self, batch: list[_Waiting]) -> bool:
        """Steps 2 and 3. Is the epoch over? One system call for all that goes into one segment: each costs the lock."""
        is_last = False
        pending: list[bytes] = []
        for index, waiting in enumerate(batch):
            if not self._fits(waiting, sum(map(len, pending))):
                self._write_all(pending)
                if not self._has_room(waiting):
                    self._give_back(batch[index:])
                    del batch[index:]
                    break
            pending.append(waiting.frame)
            if waiting.kind != _FRAME:
                self._last_written = waiting.sequence
                self._segment.has_leaf = True
            self._follow(waiting)
            is_last = is_last or waiting.is_last
        self._write_all(pending)
        self._write_ended()
        if batch:
            self._ops.sync(self._segment.descriptor)
        return is_last

    def _write_all(self, pending: list[bytes]) -> None:
        if pending:
            frames_ = pending[0] if len(pending) == 1 else b"".join(pending)
            self._ops.write(self._segment.descriptor, frames_, self._segment.offset)
            self._segment.offset += len(frames_)
            pending.clear()

    def _write_ended(self) -> None:
        """For recovery: of these exchanges nothing is left to say. It outlives this process by being written.

        Lost with the machine's memory, or for want of room, it makes a later recovery say less than it could.
        """
        taken: list[int] = []
        while self._ended:
            told = self._untaken.pop(self._ended.popleft(), None)
            if told is not None:
                taken.append(told["outcome_sequence"])
        frame = frames.encode_ended(self._last_written + 1, taken) if taken else b""
        if frame and self._segment.offset + len(frame) + _RESERVED_BYTES <= self._segment.size_bytes:
            self._ops.write(self._segment.descriptor, frame, self._segment.offset)
            self._segment.offset += len(frame)

    def _fits(self, waiting: _Waiting, before_bytes: int) -> bool:
        needed = before_bytes + len(waiting.frame) + (0 if waiting.is_last else _RESERVED_BYTES)
        return self._segment.offset + needed <= self._segment.size_bytes

    def _has_room(self, waiting: _Waiting) -> bool:
        """Is there room for the record, if need be in another segment?"""
        if self._fits(waiting, 0):
            return True
        needed = len(waiting.frame) + (0 if waiting.is_last else _RESERVED_BYTES)
        if self._segment.has_leaf:
            if self._is_full and not self._has_spare():
                return False
            carry = self._carry(waiting.sequence)
            if not self._has_spare(len(carry)):
                return False
            self._next_segment(waiting.sequence, carry)
        return self._is_large_enough(self._segment.offset + needed)

    def _is_large_enough(self, size_bytes: int) -> bool:
        """Can the segment hold so much? So many exchanges may be open that they take the place of the first record."""
        if size_bytes > self._segment.size_bytes:
            try:
                self._ops.extend(self._segment.descriptor, size_bytes)
            except OSError:
                self._is_full = True
                return False
            self._segment.size_bytes = size_bytes
        return True

    def _give_back(self, rest: list[_Waiting]) -> None:
        """Refuse these and all that wait behind them. Their numbers go to others: the log has no gap."""
        with self._order_lock:
            rest = rest + self._pending
            self._pending = []
            self._sequence = rest[0].sequence
        self._tell(rest, "full")
        self._is_over = any(one.is_last for one in rest)

    def _follow(self, waiting: _Waiting) -> None:
        if waiting.kind == "inference.intent":
            self._open[waiting.exchange_id] = {
                "exchange_id": waiting.exchange_id,
                "intent_sequence": waiting.sequence,
            }
        elif waiting.kind in (PART, _FRAME):
            self._open.get(waiting.exchange_id, {})["part"] = waiting.part
            unsealed = self._unsealed.setdefault(waiting.exchange_id, [])
            if waiting.kind == _FRAME:
                unsealed.append(waiting.frame)
            else:
                unsealed.clear()
        elif waiting.kind in ("inference.outcome", "inference.undelivered"):
            self._open.pop(waiting.exchange_id, None)
            self._unsealed.pop(waiting.exchange_id, None)
            self._untaken.pop(waiting.exchange_id, None)
            if waiting.claims_release:
                told = {"exchange_id": waiting.exchange_id, "outcome_sequence": waiting.sequence}
                self._untaken[waiting.exchange_id] = told

    def _tell(self, batch: list[_Waiting], failure: str | None) -> None:
        if batch:
            with suppress(RuntimeError):  # the loop is closed: nobody waits any more
                self._loop.call_soon_threadsafe(_resolve, batch, failure)

    def _keep_house(self) -> None:
        """Seal an old segment, and see whether there is space for a spare again."""
        if self._is_full:
            self._has_spare()
        segment = self._segment
        if segment.has_leaf and monotonic() - segment.opened_at >= self._limits.seal_seconds:
            carry = self._carry(self._last_written + 1)
            if self._has_spare(len(carry)):
                self._next_segment(self._last_written + 1, carry)

    def _refuse_forever(self) -> None:
        while not self._loop.is_closed():
            is_over = False
            with suppress(Empty):
                is_over = self._bell.get(timeout=1)
            with self._order_lock:
                refused, self._pending = self._pending, []
            self._tell(refused, self._failure)
            if is_over:
                return

    # Segments ------------------------------------------------------------------------------------------------------

    def _first_segment(self) -> _Segment:
        self._ops.allocate(self._folder / segments.SPARE, self._limits.segment_bytes)
        return self._opened(0)

    def _opened(self, first: int) -> _Segment:
        """Step 4: the spare becomes the segment; a crash in between leaves an empty ``.wal``."""
        path = self._folder / segments.name_of(first, segments.WRITING)
        (self._folder / segments.SPARE).rename(path)
        descriptor = os.open(path, os.O_RDWR)
        segment = _Segment(path, descriptor, os.fstat(descriptor).st_size)
        segments.sync_folder(self._folder)
        self._has_spare()
        return segment

    def _carry(self, first: int) -> bytes:
        """What the next segment begins with, so that recovery needs no other: who is open, and what no leaf tells."""
        going_on = list(self._open.values()), list(self._untaken.values())
        carried = [frames.encode_carry(first, self.origin, *going_on)]
        return b"".join([*carried, *(frame for unsealed in self._unsealed.values() for frame in unsealed)])

    def _next_segment(self, first: int, carry: bytes) -> None:
        """Steps 4 to 6; the spare is there, and large enough."""
        # Or the carry could outlive records that it counts, and the log's numbers would have a hole after a power cut.
        self._ops.sync(self._segment.descriptor)
        old, self._segment = self._segment, self._opened(first)
        self._ops.write(self._segment.descriptor, carry, 0)
        self._ops.sync(self._segment.descriptor)
        self._segment.offset = len(carry)
        self._seal(old)

    def _has_spare(self, carry_bytes: int = 0) -> bool:
        """Is there a preallocated file for the next segment? Without one only what fits in this segment is taken.

        Args:
            carry_bytes: what it begins with. So much may go on in it that it must be larger than others.
        """
        size_bytes = max(self._limits.segment_bytes, carry_bytes + _RESERVED_BYTES)
        spare = self._folder / segments.SPARE
        if not spare.exists() or spare.stat().st_size < size_bytes:
            if self._is_full and monotonic() - self._looked_at < _LOOK_AGAIN_SECONDS:
                return False
            temporary = self._folder / "spare.tmp"
            try:
                self._ops.allocate(temporary, size_bytes)
                temporary.rename(spare)
            except OSError:
                temporary.unlink(missing_ok=True)
                self._is_full, self._looked_at = True, monotonic()
                return False
        self._is_full = False
        return True

    def _seal(self, segment: _Segment) -> None:
        """Step 6."""
        os.ftruncate(segment.descriptor, segment.offset)
        self._ops.sync(segment.descriptor)
        os.close(segment.descriptor)
        segment.path.rename(segment.path.with_suffix(segments.SEALED))
        segments.sync_folder(self._folder)


def binding_of(origin: str, exchange_id: str) -> str:
    """What a payload's encryption is bound to: it cannot be moved to another record unnoticed."""
    return f"{origin}|{exchange_id}"


def _if_durable(begun: asyncio.Future[Receipt], do: Callable[[], None]) -> None:
    """Only then: what was given back never was, and what was kept before it still is. Before anyone else is told."""

    def told(done: asyncio.Future[Receipt]) -> None:
        if not done.cancelled() and done.exception() is None:
            do()

    begun.add_done_callback(told)


def _heard(done: asyncio.Future[Receipt]) -> None:
    """Where it failed, so did the record behind it, and that one is waited for."""
    if not done.cancelled():
        done.exception()


def _resolve(batch: list[_Waiting], failure: str | None) -> None:
    for waiting in batch:
        if waiting.done.done():
            continue
        if failure is None:
            waiting.done.set_result(waiting.receipt)
        else:
            waiting.done.set_exception(AuditUnavailable(failure))
