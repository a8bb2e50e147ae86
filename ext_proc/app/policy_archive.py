"""Which policy decides, on record and in the bucket: without the bundle no decision can be tried again.

What is active is what OPA says it decided with (the workers ask it every second, whether anybody calls or not). Its
file is put once, under its digest; the record ``policy.activated`` follows when it is locked there.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Final

from ext_proc.audit.seal import SealedObject
from ext_proc.errors import AuditUnavailable
from ext_proc.model import PolicyVersion
from ext_proc.policy.bundle import BUNDLE_MAX_BYTES, read_facts

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path

ACTIVATED: Final = "policy.activated"


def archive_key(digest: str) -> str:
    """Where a bundle lies in the bucket."""
    return f"v1/policy/{digest}.tar.gz"


def reported(states: Mapping[str, Mapping[str, Any]]) -> PolicyVersion | None:
    """What the worker that spoke last says OPA decides with."""
    told = [state for name, state in states.items() if name.startswith("worker-") and state.get("policy")]
    if not told:
        return None
    newest = max(told, key=lambda state: state["at"])["policy"]
    return PolicyVersion(str(newest["revision"]), str(newest["digest"]))


@dataclass(slots=True)
class PolicyArchive:
    """Puts and notes each change. What it did is remembered in a file, so that a restart is no change.

    Args:
        memory: that file.
        candidates: files that may be the bundle.
        put: into the bucket, locked and read back.
        note: on record.
    """

    memory: Path
    candidates: Callable[[], Iterable[Path]]
    put: Callable[[SealedObject], None]
    note: Callable[[str, Mapping[str, Any]], None]

    def attend(self, active: PolicyVersion | None) -> None:
        """Do what there is to do, if this is another one than before.

        Raises:
            AuditUnavailable: its file is not to be found, or it cannot be put on record; nothing is remembered.
            StoreUnavailable, StoreRefused, NotKept: it is not in the bucket.
        """
        before = self._remembered()
        if active is None or before == active:
            return
        raw = self._bytes_of(active.digest)
        self.put(SealedObject(archive_key(active.digest), raw, active.digest))
        facts = read_facts(raw)
        self.note(
            ACTIVATED,
            {
                "revision": active.revision,
                "digest": active.digest,
                "key": archive_key(active.digest),
                "number": facts.number,
                "key_id": facts.key_id,
                "previous": None if before is None else _told(before),
            },
        )
        self._remember(active)

    def _bytes_of(self, digest: str) -> bytes:
        for path in self.candidates():
            try:
                if path.stat().st_size > BUNDLE_MAX_BYTES:
                    continue
                raw = path.read_bytes()
            except OSError:
                continue
            if sha256(raw).hexdigest() == digest:
                return raw
        raise AuditUnavailable(f"policy bundle {digest[:16]}: its file is not there any more, put it back")

    def _remembered(self) -> PolicyVersion | None:
        try:
            told = json.loads(self.memory.read_text())
            return PolicyVersion(told["revision"], told["digest"])
        except (OSError, ValueError, TypeError, KeyError):  # never, or half a file: it is put and noted once more
            return None

    def _remember(self, active: PolicyVersion) -> None:
        self.memory.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        beside = self.memory.with_name(f".{self.memory.name}.new")
        beside.write_text(json.dumps(_told(active)))
        beside.replace(self.memory)


def _told(version: PolicyVersion) -> dict[str, str]:
    return {"revision": version.revision, "digest": version.digest}
