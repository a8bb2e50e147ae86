"""What somebody else says of our evidence: time stamps over the digests, cosignatures of the checkpoints.

Outsiders may be slow or away: the log goes on without them, and what they did not attest is asked for again, after a
pause that grows. Nothing is lost by a crash: the store itself remembers. A digest without a ``.tsr`` beside it is one
that is not stamped, and an epoch whose last digest has no cosigned checkpoint of its size is not cosigned. A new
process looks there, from the day on that a small file names; that file only marks how far back everything is done.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from ext_proc import files, telemetry
from ext_proc.audit import note
from ext_proc.audit.cosign import Cosigner
from ext_proc.audit.desk import NotKept, ShipReport
from ext_proc.audit.seal import SealedObject, named_object
from ext_proc.audit.store import StoreRefused, StoreUnavailable
from ext_proc.audit.timestamp import StampInvalid, request_stamp, verify_stamp
from ext_proc.errors import IntegrityError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from ext_proc.audit.desk import Desk
    from ext_proc.audit.timestamp import Authority
    from ext_proc.audit.witness import Witnesses

ROUND_MAX: Final = 4
"""Digests and logs attested in one round: shipping does not wait longer for outsiders."""
LOOK_BACK: Final = timedelta(days=7)
"""A digest may be of an earlier day than the one on which it reached the store: so long may the store be away."""
PAUSE: Final = timedelta(seconds=15)
PAUSE_MAX: Final = timedelta(minutes=10)

_DIGEST: Final = re.compile(
    r"v1/digest/dt=(\d{4}-\d\d-\d\d)/hour=\d\d/replica=([^/]+)/epoch=([^/]+)/(\d{6})-[0-9a-f]{16}\.note(\.tsr)?"
)
_log = telemetry.logger()


@dataclass(frozen=True, slots=True)
class Outsiders:
    """Whom to ask. None of them: nothing is done."""

    authorities: Sequence[Authority] = ()
    witnesses: Witnesses | None = None


class _NotAttested(Exception):
    """Nobody gave what was asked for: the message is in ``failures``."""

    def __init__(self, failures: list[str]) -> None:
        super().__init__(failures)
        self.failures = failures


_FAILURES: Final = (
    _NotAttested, StoreUnavailable, StoreRefused, NotKept, IntegrityError, OSError,
    ValueError, KeyError,  # what the store gave back is not what was put there
)  # fmt: skip


def _told_of(error: Exception) -> list[str]:
    return error.failures if isinstance(error, _NotAttested) else [f"{type(error).__name__}: {error}"]


class _Pause:
    """When to ask again somebody who failed."""

    def __init__(self) -> None:
        self._pause = PAUSE
        self._until: datetime | None = None

    def is_over(self, now: datetime) -> bool:
        return self._until is None or now >= self._until

    def begin(self, now: datetime) -> None:
        self._until, self._pause = now + self._pause, min(2 * self._pause, PAUSE_MAX)

    def end(self) -> None:
        self._until, self._pause = None, PAUSE


class Attestor:
    """Called by the shipper after each of its rounds, in its thread.

    Args:
        desk: where what they gave is handed in, and what it is about is read back.
        outsiders: whom to ask.
        replica: whose logs these are: another replica asks for its own.
        memory: the mark's file.
    """

    def __init__(self, desk: Desk, outsiders: Outsiders, replica: str, memory: Path) -> None:
        self._desk = desk
        self._store = desk.store
        self._authorities = tuple(outsiders.authorities)
        self._cosigner = Cosigner(desk.store, outsiders.witnesses) if outsiders.witnesses else None
        self._is_ours = re.compile(rf"{re.escape(replica)}-(?:\d+|shipper|command)").fullmatch
        self._memory = memory
        self._unstamped: dict[str, None] = {}
        self._unsure: list[str] = []  # newest digests of earlier epochs: was their checkpoint cosigned?
        self._stamp_pause, self._cosign_pause = _Pause(), _Pause()
        self._marked: date | None = None
        self._has_looked = False

    def attend(self, shipped: Iterable[str]) -> tuple[str, ...]:
        """Ask for what is due. Raises nothing: what failed is told, and asked for again.

        Args:
            shipped: keys of the objects that this round put into the store.
        """
        if not self._authorities and self._cosigner is None:
            return ()
        now = self._desk.clock()
        failures: list[str] = []
        for key in shipped:
            self._saw(key, now)
        for work, pause in ((self._stamp_all, self._stamp_pause), (self._cosign_all, self._cosign_pause)):
            if not pause.is_over(now):
                continue
            try:
                self._look_back(now)
                failed = work(now)
            except _FAILURES as error:
                failed = _told_of(error)
            if failed:
                pause.begin(now)
            else:
                pause.end()
            failures += failed
        for failure in failures:
            telemetry.SHIPPING_FAILURES.labels("attest").inc()
            _log.warning("not attested yet, asked again later", failure=failure)
        return tuple(failures)

    @property
    def is_done(self) -> bool:
        """Is everything attested that is in the store?"""
        is_cosigned = self._cosigner is None or not (self._unsure or self._cosigner.waiting())
        return self._has_looked and not self._unstamped and is_cosigned

    def _saw(self, key: str, now: datetime) -> None:
        found = _DIGEST.fullmatch(key)
        if self._cosigner is not None:
            self._cosigner.saw(key, now)
            if found:
                self._cosigner.hurry(f"{found[2]}/{found[3]}", now)
        if self._authorities and found and not found[5]:
            self._unstamped[key] = None

    # Time stamps ---------------------------------------------------------------------------------------------------

    def _stamp_all(self, now: datetime) -> list[str]:
        for key in list(self._unstamped)[:ROUND_MAX]:
            del self._unstamped[key]
            try:
                self._stamp(key, now)
            except _FAILURES as error:
                self._unstamped[key] = None  # behind the others: one bad digest does not hold them up
                return _told_of(error)
        self._mark(now)
        return []

    def _stamp(self, key: str, now: datetime) -> None:
        body = self._store.fetch(key)
        der = self._kept_stamp(f"{key}.tsr", body)
        if der is None:
            stamped = request_stamp(body, self._authorities)
            if stamped.stamp is None:
                raise _NotAttested([f"time_stamp: {one}" for one in stamped.failures])
            der = stamped.stamp.der
        self._desk.put(SealedObject.named(f"{key}.tsr", der), ShipReport(), now)

    def _kept_stamp(self, key: str, body: bytes) -> bytes | None:
        """One that was put while we did not learn that it was: a second one would be other bytes."""
        if self._store.read_back(key) is None:
            return None
        der = self._store.fetch(key)
        try:
            verify_stamp(body, der, [one for authority in self._authorities for one in authority.certificates])
        except StampInvalid as error:  # somebody else's: it is locked, and can only be reported
            _log.error("a time stamp in the store does not verify: a person must look", object=key, why=str(error))
        return der

    # Cosignatures --------------------------------------------------------------------------------------------------

    def _cosign_all(self, now: datetime) -> list[str]:
        if self._cosigner is None:
            return []
        failures: list[str] = []
        for _ in range(min(ROUND_MAX, len(self._unsure))):
            digest = self._unsure.pop(0)
            try:
                self._recall(digest, self._cosigner, now)
            except _FAILURES as error:
                self._unsure.append(digest)
                failures += _told_of(error)
        for place in self._cosigner.due(now)[:ROUND_MAX]:
            try:
                self._cosign(place, self._cosigner, now)
            except _FAILURES as error:
                failures += _told_of(error)
                self._cosigner.put_last(place)
        self._mark(now)
        return failures

    def _cosign(self, place: str, cosigner: Cosigner, now: datetime) -> None:
        cosigned = cosigner.ask(place)
        if not cosigned.has_quorum or not cosigned.cosignatures:
            raise _NotAttested([f"witness: {place}: {one}" for one in cosigned.failures])
        # A quorum is enough; who failed is asked again with the next checkpoint.
        size = note.read_checkpoint(note.open_note(cosigned.note.decode()))[1]
        made = named_object(f"v1/log/{place}/cosigned/{size:016d}", cosigned.note, "note")
        self._desk.put(made, ShipReport(), now)
        cosigner.done(place, size)

    def _recall(self, digest: str, cosigner: Cosigner, now: datetime) -> None:
        """The last digest of an epoch before this process: its checkpoint waits too, unless it is cosigned."""
        found = _DIGEST.fullmatch(digest)
        if found is None:
            return
        place = f"{found[2]}/{found[3]}"
        size = int(self._told(digest)["size"])
        if cosigner.is_cosigned(place, size):
            return
        for key in self._store.keys(f"v1/log/{place}/checkpoint/{size:016d}-"):
            cosigner.saw(key, now)
            cosigner.hurry(place, now)

    def _told(self, digest: str) -> dict[str, Any]:
        return note.json_of(note.open_note(self._store.fetch(digest).decode()))

    # What was before -----------------------------------------------------------------------------------------------

    def _look_back(self, now: datetime) -> None:
        """Once: what is in the store and not attested."""
        if self._has_looked:
            return
        newest: dict[tuple[str, str], tuple[str, str]] = {}
        stamped: set[str] = set()
        notes: list[str] = []
        for prefix in self._days(now):
            for key in self._store.keys(prefix):
                found = _DIGEST.fullmatch(key)
                if found is None or not self._is_ours(found[2]):
                    continue
                if found[5]:
                    stamped.add(key.removesuffix(".tsr"))
                    continue
                notes.append(key)
                log = (found[2], found[3])
                newest[log] = max(newest.get(log, ("", "")), (found[4], key))
        if self._authorities:
            waiting = dict.fromkeys(key for key in notes if key not in stamped)
            self._unstamped = {**waiting, **self._unstamped}
        self._unsure = [key for _, key in sorted(newest.values())] if self._cosigner is not None else []
        self._has_looked = True

    def _days(self, now: datetime) -> list[str]:
        try:
            self._marked = date.fromisoformat(json.loads(self._memory.read_bytes())["from_day"])
        except (OSError, ValueError, KeyError, TypeError):
            return ["v1/digest/"]  # nothing is known: everything is looked at
        first = self._marked - LOOK_BACK
        return [f"v1/digest/dt={first + timedelta(days=n)}/" for n in range((now.date() - first).days + 1)]

    def _mark(self, now: datetime) -> None:
        """Everything before this day is attested."""
        days = [found[1] for key in (*self._unstamped, *self._unsure) if (found := _DIGEST.fullmatch(key))]
        waiting = [at.date() for at in self._cosigner.waiting()] if self._cosigner is not None else []
        day = min((*map(date.fromisoformat, days), *waiting, now.date()))
        if day == self._marked:
            return
        files.replace(self._memory, json.dumps({"from_day": day.isoformat()}))
        self._marked = day
