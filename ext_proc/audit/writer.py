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
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from threading import Lock, Thread
from time import monotonic
from typing import TYPE_CHECKING, Any, Final

from ext_proc import files, telemetry
from ext_proc.audit import frames, segments
from ext_proc.audit.going_on import FRAME, GoingOn
from ext_proc.audit.parts import Parts
from ext_proc.audit.people import People
from ext_proc.audit.receipt import issue
from ext_proc.audit.record import build_leaf, canonical, claims_release, instant, leaf_hash
from ext_proc.audit.segment_files import LOOK_AGAIN_SECONDS, RESERVED_BYTES, SegmentFiles
from ext_proc.audit.waiting import Waiting
from ext_proc.errors import AuditUnavailable, GateError
from ext_proc.model import Receipt
from ext_proc.record_kinds import LeafKind

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import datetime
    from pathlib import Path

    from ext_proc.audit.keys import KeyRing
    from ext_proc.audit.note import Signer
    from ext_proc.model import Entry, ExchangeId

LISTED: Final = ("request_redaction", "response_redaction")
_SPACE_CHECK_SECONDS: Final = 0.5
_BATCH_MAX: Final = 256
_TOOL_CALL: Final = "tool-call"
_STREAMED: Final = frozenset({LeafKind.INFERENCE_PART, LeafKind.INFERENCE_OUTCOME})
"""Kinds that tell of a streamed answer, and of which a caller gets a receipt: a stream's head goes before its end."""
_MORE, _OVER = False, True  # what the thread is woken for: records; nothing comes any more
_ENDS_SECONDS: Final = 0.05
"""How long the end of an exchange may wait for a record to be written with."""


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
        self._sequence = 0
        self._loop = asyncio.get_running_loop()
        self._pending: list[Waiting] = []  # numbered, and not yet taken by the thread
        self._is_handing_over = False
        self._bell: SimpleQueue[bool] = SimpleQueue()  # wakes the thread: `_MORE` or `_OVER`
        self._failure: str | None = None
        self._is_closed = False
        self._is_over = False  # the thread has nothing more to do
        self._used = (0, -1.0)
        self._used_lock = Lock()  # guards _used: the event loop and health checks from a thread read it
        self._order_lock = Lock()  # guards _sequence and _pending together: giving records back rewinds both
        self._last_written = -1
        self._last_durable = -1
        self._people = People(keyring)
        self._parts = Parts()
        self._going_on = GoingOn(self.origin)  # the thread's own
        self._ended: deque[str] = deque()  # exchanges that ended, of those whose outcome tells of an answer
        self._is_to_ring = False
        self._lock: int | None = lock
        self._files = SegmentFiles(folder, limits.segment_bytes, ops)  # the thread's; others ask whether it is full
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
            files.sync_folder(directory)
            files.sync_folder(directory.parent)
            writer = cls(folder, lock, f"{origin}/{epoch}", keyring, limits, ops or segments.FileOps(), receipts)
        except OSError:
            if lock is not None:  # nothing was promised: leave no file that would fill the disk at each attempt
                (folder / segments.SPARE).unlink(missing_ok=True)
                os.close(lock)
            raise AuditUnavailable("cannot open log") from None
        try:
            await writer.note(LeafKind.LOG_OPEN, opening, now)
        except AuditUnavailable:
            await writer.close(now)
            raise
        return writer

    # Called from the event loop ------------------------------------------------------------------------------------

    def admit(self, size_bytes: int) -> None:
        """See `ports.Recorder.admit`."""
        self._raise_if_unusable()
        free = self._limits.max_bytes - self._limits.emergency_bytes - self._used_bytes()
        if self._files.is_full or size_bytes > free:
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
        is_part = entry.kind == LeafKind.INFERENCE_PART
        is_leaf = not is_part or self._parts.is_leaf(entry, now)
        payloads = self._parts.whole(entry) if is_leaf else entry.payloads
        if payloads and (self._files.is_nearly_full or self._used_bytes() > self._limits.max_bytes):
            if entry.payloads or is_part:
                raise AuditUnavailable("full")
            payloads = ()  # what an end must say is small, and is said before what is kept of a stream
        told, ciphertexts = self._keyring.encrypt(subject, payloads, binding_of(self.origin, entry.exchange_id))
        fields = {**entry.facts, "exchange_id": entry.exchange_id, "payloads": told}
        if not is_leaf:
            return self._append_part(entry, fields, now, ciphertexts)
        if not is_part:
            fields |= self._people.of(entry, subject)
        if entry.tool_results:
            fields["tool_results"] = [self._keyring.reference(_TOOL_CALL, one) for one in entry.tool_results]
        self._append_effects(entry, now)
        begun = self._append(entry.kind, fields, now, ciphertexts, str(entry.exchange_id), part=entry.facts.get("part"))
        if entry.kind in _STREAMED:
            _if_durable(begun, lambda: self._parts.told(entry, now))
        if entry.kind == LeafKind.INFERENCE_OUTCOME:
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
            self._append(LeafKind.EFFECT_TOOL_CALL, fields, now, [], str(entry.exchange_id)).add_done_callback(_heard)

    def _append_part(
        self, entry: Entry, fields: dict[str, Any], now: datetime, ciphertexts: list[bytes]
    ) -> asyncio.Future[Receipt]:
        """A frame that is no leaf: durable all the same, and the next leaf of the answer has what is in it."""
        told = canonical({**fields, "at": instant(now)})
        with self._order_lock:
            frame = frames.encode_part(self._sequence, told, ciphertexts)
            receipt = Receipt(self.origin, self._sequence, "")
            waiting = self._waiting(frame, self._sequence, FRAME, str(entry.exchange_id), receipt)
            waiting.part = entry.facts["part"]
        _if_durable(waiting.done, lambda: self._parts.keep(entry))
        return waiting.done

    def ended(self, exchange_id: ExchangeId) -> None:
        """See `ports.Recorder.ended`. Written with the next record, or soon: not worth a sync, nor a thread's turn."""
        if not self._going_on.is_untaken(exchange_id):
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
            await self._append(LeafKind.LOG_CLOSE, {"leaves": self._sequence + 1}, now, [], "", is_last=True)
        except AuditUnavailable as error:
            self._failure = self._failure or error.detail
        self._bell.put(_OVER)  # the thread may be refusing, and waits to be told that this is over
        await asyncio.to_thread(self._thread.join)
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def health(self) -> WriterHealth:
        """How it stands."""
        is_writable = not (self._failure or self._is_closed or self._files.is_full)
        return WriterHealth(is_writable, self._used_bytes(), self._limits.max_bytes, self._failure)

    @property
    def failure(self) -> str | None:
        """Why nothing can be written any more; None: all is well. The disk is not asked: it may hang."""
        return self._failure

    @property
    def waits_for(self) -> int | None:
        """The number of the leaf that the disk has not taken yet; None: nothing waits. The disk is not asked."""
        durable = self._last_durable
        return durable + 1 if durable + 1 < self._sequence else None

    @property
    def in_flight(self) -> int:
        """Exchanges with an intent and no outcome yet."""
        return self._going_on.open_count

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

    def _waiting(self, frame: bytes, sequence: int, kind: str, exchange_id: str, receipt: Receipt) -> Waiting:
        """Hand a frame to the thread. The order's lock is held."""
        if len(frame) > self._limits.segment_bytes - RESERVED_BYTES:
            raise AuditUnavailable("record larger than a segment")
        waiting = Waiting(frame, sequence, kind, exchange_id, self._loop.create_future(), receipt)
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
        batch: list[Waiting] = []
        try:
            while True:
                batch = self._take()
                began = monotonic()
                is_last = self._write(batch)
                took, made_durable = monotonic() - began, len(batch)
                self._last_durable = self._last_written
                self._tell(batch, None)
                batch = []
                if made_durable:  # counted once everybody knows: whatever a counter does, they are durable
                    telemetry.COMMIT_SECONDS.observe(took)
                    telemetry.COMMIT_RECORDS.inc(made_durable)
                if is_last:
                    self._files.end()
                    return
                if self._is_over:
                    return
                self._keep_house()
        except Exception as error:  # noqa: BLE001 - the writer's loop: whatever it is, refuse everything from now on
            self._failure = f"disk: {type(error).__name__}"
            self._tell(batch, self._failure)
            self._refuse_forever()

    def _take(self) -> list[Waiting]:
        """Step 1. Wait for a first record, at most until the segment must be sealed; then take all there are."""
        patience = self._limits.seal_seconds / 4
        with suppress(Empty):
            self._bell.get(timeout=min(patience, LOOK_AGAIN_SECONDS) if self._files.is_full else patience)
        with self._order_lock:
            batch, self._pending = self._pending[:_BATCH_MAX], self._pending[_BATCH_MAX:]
            if self._pending:
                self._bell.put(_MORE)
        return batch

    def _write(self, batch: list[Waiting]) -> bool:
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
            if waiting.kind != FRAME:
                self._last_written = waiting.sequence
                self._files.current.has_leaf = True
            self._going_on.follow(waiting)
            is_last = is_last or waiting.is_last
        self._write_all(pending)
        self._write_ended()
        if batch:
            self._files.sync()
        return is_last

    def _write_all(self, pending: list[bytes]) -> None:
        if pending:
            self._files.write(pending[0] if len(pending) == 1 else b"".join(pending))
            pending.clear()

    def _write_ended(self) -> None:
        """For recovery: of these exchanges nothing is left to say. It outlives this process by being written.

        Lost with the machine's memory, or for want of room, it makes a later recovery say less than it could.
        """
        taken: list[int] = []
        while self._ended:
            taken += self._going_on.take(self._ended.popleft())
        frame = frames.encode_ended(self._last_written + 1, taken) if taken else b""
        if frame and self._files.fits(len(frame) + RESERVED_BYTES):
            self._files.write(frame)

    def _fits(self, waiting: Waiting, before_bytes: int) -> bool:
        return self._files.fits(before_bytes + _needed(waiting))

    def _has_room(self, waiting: Waiting) -> bool:
        """Is there room for the record, if need be in another segment?"""
        files = self._files
        if self._fits(waiting, 0):
            return True
        if files.current.has_leaf:
            if files.is_full and not files.has_spare():
                return False
            carry = self._going_on.carry(waiting.sequence)
            if not files.has_spare(len(carry)):
                return False
            files.begin_next(waiting.sequence, carry)
        return files.extend(files.current.offset + _needed(waiting))

    def _give_back(self, rest: list[Waiting]) -> None:
        """Refuse these and all that wait behind them. Their numbers go to others: the log has no gap."""
        with self._order_lock:
            rest = rest + self._pending
            self._pending = []
            self._sequence = rest[0].sequence
        self._tell(rest, "full")
        self._is_over = any(one.is_last for one in rest)

    def _tell(self, batch: list[Waiting], failure: str | None) -> None:
        if batch:
            with suppress(RuntimeError):  # the loop is closed: nobody waits any more
                self._loop.call_soon_threadsafe(_resolve, batch, failure)

    def _keep_house(self) -> None:
        """Seal an old segment, and see whether there is space for a spare again."""
        files = self._files
        if files.is_full:
            files.has_spare()
        if files.current.has_leaf and monotonic() - files.current.opened_at >= self._limits.seal_seconds:
            carry = self._going_on.carry(self._last_written + 1)
            if files.has_spare(len(carry)):
                files.begin_next(self._last_written + 1, carry)

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


def _needed(waiting: Waiting) -> int:
    """Bytes that must be free for it: what is kept for the log's end is the end's alone."""
    return len(waiting.frame) + (0 if waiting.is_last else RESERVED_BYTES)


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


def _resolve(batch: list[Waiting], failure: str | None) -> None:
    for waiting in batch:
        if waiting.done.done():
            continue
        if failure is None:
            waiting.done.set_result(waiting.receipt)
        else:
            waiting.done.set_exception(AuditUnavailable(failure))
