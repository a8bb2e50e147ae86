"""One epoch on its way to the store, in one round of the shipper; see `shipper` for the order and its reasons."""

from __future__ import annotations

import errno
import os
from contextlib import suppress
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from ext_proc import files, telemetry
from ext_proc.audit import note, resume, segments
from ext_proc.audit.desk import OtherBytes
from ext_proc.audit.epoch import STATE, Draft, EpochState
from ext_proc.audit.origin import Origin
from ext_proc.audit.record import build_leaf
from ext_proc.audit.recovery import forget_end, reach_of, recover
from ext_proc.audit.roster import birth_of, origin_of
from ext_proc.audit.seal import Sealed, SealedObject, named_object, seal, seal_leaves
from ext_proc.errors import IntegrityError
from ext_proc.record_kinds import LeafKind

if TYPE_CHECKING:
    from pathlib import Path

    from ext_proc.audit.desk import Desk, ShipReport

ROUND_MAX: Final = 32
"""Segments of one epoch in a round: other epochs have their turn, and new ones are announced in between."""
_LOST_MAX: Final = 4096
"""``log.lost`` leaves in one object."""


class Delivery:
    """One epoch, one round.

    Args:
        folder: the epoch's.
        desk: where objects are handed in.
        made: what is done is told there.
        is_fresh: this process has shipped nothing of the epoch yet: the store may hold more than the state says.
        is_inherited: the folder was there before this process, and was not held against the store yet.
    """

    def __init__(
        self, folder: Path, desk: Desk, made: ShipReport, *, is_fresh: bool, is_inherited: bool = False
    ) -> None:
        self.folder = folder
        self.is_fresh = is_fresh
        self.is_inherited = is_inherited
        self.is_stuck = False
        """It needs a person: asking again each round would not help."""
        self._desk = desk
        self._made = made
        self._state = EpochState()

    # Birth ---------------------------------------------------------------------------------------------------------

    def announce(self) -> None:
        """Step 1: the birth record is in the store, and the worker can know it. Nothing yet if there is no first leaf.

        Raises:
            StoreUnavailable: it is not known to be there.
            StoreRefused: the store does not let us.
            NotKept: it is not locked as it must be.
            AuditUnavailable: it cannot be signed, or not be put on record.
            IntegrityError: the state cannot be read, and nothing says whose it is.
            OSError: the disk does not let us.
        """
        self._state = self._load()
        if self._state.is_over:
            return
        if self._state.roster_sha256 is None and not self._put_birth():
            return
        if not (self.folder / segments.BORN).exists():
            (self.folder / segments.BORN).touch(0o600)
            files.sync_folder(self.folder)

    def _load(self) -> EpochState:
        with suppress(IntegrityError):
            state = EpochState.load(self.folder)
            if state.origin or not self._is_beheaded():
                return state
        origin = origin_of(self.folder)
        if origin is None:
            raise IntegrityError("epoch state cannot be read, and no segment says whose it is")
        state = resume.rebuild(self._desk.store, origin, self._desk.clock())
        if state.frontier.size:
            state.save(self.folder)
            self._made.quarantined.append(f"{self.folder.name}/{STATE}: lost or damaged, made anew from the store")
        return state

    def _is_beheaded(self) -> bool:
        """Has somebody shipped the first segment, although no state says so?"""
        found = [int(path.stem) for path in self.folder.iterdir() if path.suffix in {segments.SEALED, segments.WRITING}]
        return bool(found) and 0 not in found

    def _put_birth(self) -> bool:
        try:
            birth = birth_of(self.folder, self._desk.terms.signer)
            if birth is None:
                return False
            sealed = birth.sealed
            try:
                self._desk.put(sealed, self._made)
            except OtherBytes:
                # Signed by the key that was ours when a round before this one put it there.
                known = resume.adopted_birth(self._desk.store, sealed)
                if known is None:
                    raise
                sealed = known
                self._desk.put(sealed, self._made)
        except IntegrityError as error:
            self._fail("epoch", error.detail)
            return False
        self._desk.note(LeafKind.EPOCH_BORN, {"born_origin": birth.origin, "roster_sha256": sealed.sha256})
        self._state.roster_sha256, self._state.origin = sealed.sha256, birth.origin
        self._state.save(self.folder)
        return True

    # Records -------------------------------------------------------------------------------------------------------

    def ship(self) -> None:
        """Steps 2 to 5, as far as this epoch has come; and its end. First, whether it is ours to end at all.

        Raises:
            StoreUnavailable: an object is not known to be there.
            StoreRefused: the store does not let us.
            NotKept: an object is not locked as it must be.
            AuditUnavailable: something cannot be signed, or not be put on record.
            IntegrityError: disk and store do not tell of the same log.
            OSError: the disk does not let us.
        """
        state = self._state
        self._leave_if_overtaken()
        is_complete = self._is_complete()
        if is_complete and state.roster_sha256 is None and not state.is_over and not self.is_stuck:
            self._put_birth()  # a command may begin and end its log between our first step and this one
        sealed = sorted(self.folder.glob(f"*{segments.SEALED}"))
        # A log that is dead, and whose beginning is spoilt, cannot be announced: what is left of it goes all the same.
        if not state.is_over and (state.roster_sha256 is not None or (is_complete and sealed)):
            for segment in sealed[:ROUND_MAX]:
                if not self._ship(segment):
                    return
            if len(sealed) > ROUND_MAX:
                return
            if not is_complete:
                if state.end is None and state.draft.was_over_by(self._desk.clock()):
                    self._digest(is_last=False)
                return
            if state.origin and not any(self.folder.glob(f"*{segments.WRITING}")):
                self._end()
        if is_complete:
            _remove_if_done(self.folder)

    def _leave_if_overtaken(self) -> None:
        """Does the store hold more of this log than the disk? Then the log went on elsewhere: this folder is a copy of
        its writer's, or the disk was put back to what it was. Whatever was written on here, the end of a log whose
        writer may live, and outcomes that were others, would be a second history under the same name, locked for years.
        Nothing of it is shipped, and nobody hears that it ended: what it tells of who passed is not all.
        """
        origin = self._state.origin or origin_of(self.folder)
        is_asked = self.is_inherited and origin is not None and not self._state.is_over
        lock = segments.take_lock(self.folder) if is_asked else None
        if origin is not None and lock is not None:
            try:
                held = resume.newest_size(self._desk.store, origin)
                if held > (reach := reach_of(self.folder, self._state.frontier.size)):
                    self._state.origin = origin
                    self._leave(f"the store holds {held} records of this log, this disk {reach}: a copy, or put back")
            finally:
                os.close(lock)
        self.is_inherited = False

    def _leave(self, why: str) -> None:
        """Put all of the epoch aside, and have it never looked at again. A crash on the way: it is said once more."""
        for path in sorted([*self.folder.glob(f"*{segments.SEALED}"), *self.folder.glob(f"*{segments.WRITING}")]):
            self._tell_incident(path.name, why)
            path.rename(path.with_name(f"{path.name}{segments.QUARANTINE}"))
            files.sync_folder(self.folder)
        forget_end(self.folder)
        segments.mark_ended(self.folder)
        self._state.is_over = True
        self._state.save(self.folder)

    def _is_complete(self) -> bool:
        """Has the epoch its end? What is sealed can be shipped all the same: it does not change any more."""
        try:
            recovered = recover(self.folder, self._desk.clock(), self._desk.on_end)
        except FileNotFoundError:
            raise
        except (OSError, IntegrityError) as error:
            self._fail("recovery", type(error).__name__)
            return False
        if recovered is None:
            return False
        for name in recovered.set_aside:
            self._made.quarantined.append(f"{self.folder.name}/{name}: bytes that do not check")
        return True

    def _ship(self, segment: Path) -> bool:
        """One segment. False: the ones after it must wait."""
        state, first = self._state, int(segment.stem)
        if any(int(older.stem) < first for older in self.folder.glob(f"*{segments.WRITING}")):
            return False  # its elder is not sealed yet, or its end cannot be read now
        if first > state.frontier.size or (first == state.frontier.size and not segment.stat().st_size):
            self._catch_up()
        if first < state.frontier.size:  # step 5 was not finished
            self._free(segment)
            return True
        now = self._desk.clock()
        # A file from the future was written under a wrong clock: nothing can have been sealed after now.
        sealed_at = min(now, datetime.fromtimestamp(segment.stat().st_mtime, tz=now.tzinfo))
        try:
            sealed = self._sealed(segment, first)
            if sealed is not None:
                self._fill(sealed)
                self._add(sealed, sealed_at, segment)
                telemetry.SHIP_SECONDS.observe((self._desk.clock() - sealed_at).total_seconds())
        except OtherBytes as error:
            self._put_aside(segment, error.detail)
        else:
            if sealed is None and segment.exists():
                self._free(segment)
        return True

    def _sealed(self, segment: Path, first: int) -> Sealed | None:
        """The segment's objects; None: it holds no leaf, or it was put aside."""
        try:
            sealed = seal(segment.read_bytes())
            if sealed is None:
                if not segment.stat().st_size:
                    raise IntegrityError("sealed segment is empty")
                return None
            origin = self._state.origin or sealed.origin
            name = Origin.find(origin)
            if sealed.first != first or sealed.origin != origin or name is None or name.epoch != self.folder.name:
                raise IntegrityError("segment of another place")
        except IntegrityError as error:
            self._put_aside(segment, error.detail)
            return None
        self._state.origin = origin
        return sealed

    def _put_aside(self, segment: Path, why: str) -> None:
        aside = segment.with_suffix(segments.QUARANTINE)
        if aside.exists():  # the torn end that recovery cut off
            aside = segment.with_name(f"{segment.name}{segments.QUARANTINE}")
        segment.rename(aside)
        files.sync_folder(self.folder)
        self._tell_incident(segment.name, why)

    def _tell_incident(self, file: str, why: str) -> None:
        self._made.quarantined.append(f"{self.folder.name}/{file}: {why}")
        self._desk.note(LeafKind.SEGMENT_QUARANTINED, {"of_origin": self._state.origin, "file": file, "reason": why})

    def _catch_up(self) -> None:
        """The next segment is not the next one by the state. Does the store have more than the state knows?"""
        state = self._state
        if state.origin and resume.newest_size(self._desk.store, state.origin) > state.frontier.size:
            known = state.roster_sha256
            state.take_over(resume.rebuild(self._desk.store, state.origin, self._desk.clock()))
            state.roster_sha256 = known
            state.save(self.folder)

    def _fill(self, following: Sealed) -> None:
        """Records that are gone get a leaf each that says so, or nothing after them could have a place in the tree."""
        state = self._state
        at = datetime.fromisoformat(following.first_at)
        is_quarantined = any(self.folder.glob(f"*{segments.QUARANTINE}"))
        facts = {
            "lost_origin": state.origin,
            "first_sequence": state.frontier.size,
            "last_sequence": following.first - 1,
            "reason": "segment_quarantined" if is_quarantined else "segment_missing",
        }
        while state.frontier.size < following.first:
            size = state.frontier.size
            leaves = [
                build_leaf(LeafKind.LOG_LOST, origin=state.origin, sequence=sequence, at=at, fields=facts)
                for sequence in range(size, min(size + _LOST_MAX, following.first))
            ]
            self._add(seal_leaves(size, leaves, ()), self._desk.clock(), None)

    def _add(self, sealed: Sealed, sealed_at: datetime, segment: Path | None) -> None:
        """Steps 2 to 5."""
        state = self._state
        if state.draft.is_over(sealed.first_at):
            self._digest(is_last=False)
        objects = tuple(self._known(one) for one in sealed.objects)
        for one in objects:
            self._desk.put(one, self._made, sealed_at)
        sealed = sealed.of(objects)
        frontier = state.frontier.copy()
        frontier.append(sealed.leaf_hashes)
        signer = self._desk.terms.signer
        text = note.checkpoint_text(state.origin, frontier.size, frontier.root())
        place = Origin.read(state.origin).name
        stem = f"v1/log/{place}/checkpoint/{frontier.size:016d}"
        self._put_note(named_object(stem, note.sign(text, state.origin, signer).encode(), "note"), sealed_at)
        state.frontier = frontier
        state.draft.add(sealed)
        state.end = sealed.end or state.end
        self._save(segment)
        self.is_fresh = False
        if segment is not None:
            self._free(segment)

    def _save(self, segment: Path | None) -> None:
        """Write the state. On a full disk the segment gives its space for it: everything in it was read back."""
        try:
            self._state.save(self.folder)
        except OSError as error:
            if error.errno != errno.ENOSPC or segment is None:
                raise
            # Empty and still there: a crash now, and `_catch_up` learns from the store what the state should say.
            os.truncate(segment, 0)
            self._state.save(self.folder)

    def _known(self, one: SealedObject) -> SealedObject:
        return resume.adopted(self._desk.store, one) if self.is_fresh else one

    def _put_note(self, one: SealedObject, sealed_at: datetime | None = None) -> SealedObject:
        """Put a note. Other bytes under its name are an incident; the records themselves go on."""
        known = self._known(one)
        try:
            self._desk.put(known, self._made, sealed_at)
        except OtherBytes as error:
            self._tell_incident(known.key, error.detail)
        return known

    def _digest(self, *, is_last: bool) -> None:
        state = self._state
        made = state.digest(self._desk.terms.signer, is_last=is_last)
        if made is None:
            return
        digest = self._put_note(made)
        number = state.draft.number
        facts: dict[str, Any] = {"key": digest.key, "sha256": digest.sha256, "of_origin": state.origin}
        self._desk.note(LeafKind.DIGEST_MADE, {**facts, "number": number})
        state.draft = Draft.after(number, digest.body)
        state.save(self.folder)

    def _end(self) -> None:
        """Everything of a dead epoch is in the store."""
        state = self._state
        self._digest(is_last=state.end is not None)
        if state.end is None:  # its last words were put aside
            lost = {"lost_origin": state.origin, "first_sequence": state.frontier.size, "last_sequence": None}
            self._desk.note(LeafKind.LOG_LOST, {**lost, "reason": "segment_quarantined"})
        facts = {
            "ended_origin": state.origin,
            "leaves": state.frontier.size,
            "root_hash": state.frontier.root().hex(),
            "end": state.end,
        }
        self._desk.note(LeafKind.EPOCH_ENDED, facts)
        state.is_over = True
        state.save(self.folder)

    def _free(self, segment: Path) -> None:
        segment.unlink(missing_ok=True)
        files.sync_folder(self.folder)
        self._made.freed += 1
        self._desk.on_freed(self._made)

    def _fail(self, code: str, why: str) -> None:
        self._made.failures.append(f"{code}: {why}: {self.folder.name}")
        self.is_stuck = True


def _remove_if_done(folder: Path) -> None:
    """A dead epoch whose segments are all shipped leaves nothing but these."""
    ours = (segments.BORN, STATE, files.unborn(folder / STATE).name, segments.ENDED, segments.LOCK)
    if {path.name for path in folder.iterdir()} <= set(ours):
        for name in ours:
            (folder / name).unlink(missing_ok=True)
        with suppress(OSError):
            folder.rmdir()
