"""Which policy decides, on record and in the bucket: without the bundle no decision can be tried again.

 1. What is active is what OPA says it decided with (the workers ask it every second, whether anybody calls or not). Its
    file is put under its digest; the record ``policy.activated`` follows when it is locked there.
 2. A lock is as long as a record's, and begins earlier: so the file is put again each day while the policy decides, a
    day after it decided last, and when the gateway ends, each time under a new name with a lock of its own, and
    ``policy.kept`` says so. A record that names the policy never outlives its last copy.

Locks that are there already are not touched: whoever may extend locks needs ``PutObjectRetention``, which the gateway's
identity does not have (`ext_proc.audit.s3`).
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Final

from ext_proc import files
from ext_proc.audit.desk import NotKept, OtherBytes
from ext_proc.audit.seal import SealedObject
from ext_proc.errors import AuditUnavailable
from ext_proc.model import PolicyVersion
from ext_proc.policy.bundle import read_facts, read_file
from ext_proc.record_kinds import LeafKind

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path

RENEWAL: Final = timedelta(days=1)
"""A policy that decides is put again this long after it was put last, and one that does not any more this long after
that: streams and calls that waited for people end on record later than they were decided."""
_RETRY: Final = timedelta(minutes=5)
"""After a copy that the store does not keep as it must: each try leaves an object."""
_TOO_SHORT: Final = "locked_too_short"


def archive_key(digest: str, at: datetime | None = None) -> str:
    """Where a bundle lies in the bucket; ``at``: a later copy."""
    return f"v1/policy/{digest}{f'.{at:%Y%m%dT%H%M%SZ}' if at else ''}.tar.gz"


def reported(states: Mapping[str, Mapping[str, Any]]) -> PolicyVersion | None:
    """What the worker that spoke last says OPA decides with."""
    told = [state for name, state in states.items() if name.startswith("worker-") and state.get("policy")]
    if not told:
        return None
    newest = max(told, key=lambda state: state["at"])["policy"]
    return PolicyVersion(str(newest["revision"]), str(newest["digest"]))


@dataclass(frozen=True, slots=True)
class _Put:
    """A policy and the newest copy of it. ``at``: when that was put; of one that decides no more, since when."""

    version: PolicyVersion
    key: str
    at: datetime | None


@dataclass(frozen=True, slots=True)
class _Memory:
    """What a restart must know: what decides, and what decided before."""

    active: _Put | None = None
    former: tuple[_Put, ...] = ()

    def find(self, digest: str) -> _Put | None:
        """One of them."""
        known = (self.active, *self.former)
        return next((one for one in known if one is not None and one.version.digest == digest), None)


@dataclass(slots=True)
class PolicyArchive:
    """Puts and notes each change. What it did is remembered in a file, so that a restart is no change.

    Args:
        memory: that file.
        candidates: files that may be the bundle.
        put: into the bucket, locked and read back.
        fetch: out of the bucket.
        note: on record.
        clock: aware UTC.
    """

    memory: Path
    candidates: Callable[[], Iterable[Path]]
    put: Callable[[SealedObject], None]
    fetch: Callable[[str], bytes]
    note: Callable[[str, Mapping[str, Any]], None]
    clock: Callable[[], datetime]
    _failed: tuple[datetime, NotKept] | None = field(default=None, init=False)

    def attend(self, active: PolicyVersion | None) -> None:
        """Do what there is to do: another one decides than before, or a copy is due.

        Raises:
            AuditUnavailable: its file is not to be found, or it cannot be put on record; nothing is remembered.
            StoreUnavailable, StoreRefused, NotKept: it is not in the bucket.
        """
        known, now = self._remembered(), self.clock()
        if active is not None and (known.active is None or active != known.active.version):
            known = self._activate(active, known)
        elif active is not None and known.active is not None and _is_over(known.active.at, now):
            known = self._remember(_Memory(self._keep_again(known.active), known.former))
        for one in known.former:
            if _is_over(one.at, now):
                self._keep_again(one)
                known = self._remember(_Memory(known.active, tuple(two for two in known.former if two is not one)))

    def end(self) -> None:
        """The gateway ends: who knows when it begins again.

        Raises:
            AuditUnavailable, StoreUnavailable, StoreRefused, NotKept: see `attend`.
        """
        known = self._remembered()
        if known.active is not None:
            self._remember(_Memory(self._keep_again(known.active), known.former))

    def _activate(self, active: PolicyVersion, known: _Memory) -> _Memory:
        raw = self._bytes_of(active.digest)
        key = self._put_first(raw, active.digest)
        facts, before = read_facts(raw), known.active
        self.note(
            LeafKind.POLICY_ACTIVATED,
            {
                "revision": active.revision,
                "digest": active.digest,
                "key": key,
                "number": facts.number,
                "key_id": facts.key_id,
                "previous": None if before is None else _told(before.version),
            },
        )
        now = self.clock()
        former = tuple(one for one in known.former if one.version != active)
        if before is not None:
            former = (*former, replace(before, at=now))
        return self._remember(_Memory(_Put(active, key, now), former))

    def _keep_again(self, one: _Put) -> _Put:
        version = one.version
        key = self._put_again(self._bytes_of(version.digest), version.digest)
        self.note(LeafKind.POLICY_KEPT, {"revision": version.revision, "digest": version.digest, "key": key})
        return _Put(version, key, self.clock())

    def _put_first(self, raw: bytes, digest: str) -> str:
        """Under its plain name, unless it lies there since long ago (another gateway put it, or it decided before); or
        something else does: whoever may write into the bucket must not keep a policy out of it.
        """
        key = archive_key(digest)
        try:
            self.put(SealedObject(key, raw, digest))
        except OtherBytes:
            return self._put_again(raw, digest)
        except NotKept as error:
            if error.why != _TOO_SHORT:
                raise
            return self._put_again(raw, digest)
        return key

    def _put_again(self, raw: bytes, digest: str) -> str:
        now = self.clock()
        if self._failed is not None and now - self._failed[0] < _RETRY:
            raise self._failed[1]
        key = archive_key(digest, now)
        try:
            self.put(SealedObject(key, raw, digest))
        except NotKept as error:
            self._failed = (now, error)
            raise
        self._failed = None
        return key

    def _bytes_of(self, digest: str) -> bytes:
        for path in self.candidates():
            try:
                raw = read_file(path)
            except OSError:
                continue
            if sha256(raw).hexdigest() == digest:
                return raw
        known = self._remembered().find(digest)
        if known is not None:
            raw = self.fetch(known.key)
            if sha256(raw).hexdigest() == digest:
                return raw
        raise AuditUnavailable(f"policy bundle {digest[:16]}: its file is not there any more, put it back")

    def _remembered(self) -> _Memory:
        try:
            told = json.loads(self.memory.read_text())
            return _Memory(_read(told), tuple(map(_read, told.get("former", ()))))
        except (OSError, ValueError, TypeError, KeyError):  # never, or half a file: it is put and noted once more
            return _Memory()

    def _remember(self, known: _Memory) -> _Memory:
        if known.active is not None:
            self.memory.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            told = {**_written(known.active), "former": [_written(one) for one in known.former]}
            files.replace(self.memory, json.dumps(told))
        return known


def _is_over(since: datetime | None, now: datetime) -> bool:
    """Is a copy due? A clock that went back makes one too many."""
    return since is None or not timedelta() <= now - since < RENEWAL


def _told(version: PolicyVersion) -> dict[str, str]:
    return {"revision": version.revision, "digest": version.digest}


def _written(one: _Put) -> dict[str, str | None]:
    return {**_told(one.version), "key": one.key, "at": None if one.at is None else one.at.isoformat()}


def _read(told: Mapping[str, Any]) -> _Put:
    """Of an older gateway, which put each once, there are two names only."""
    version = PolicyVersion(told["revision"], told["digest"])
    at = told.get("at")
    return _Put(version, told.get("key") or archive_key(version.digest), datetime.fromisoformat(at) if at else None)
