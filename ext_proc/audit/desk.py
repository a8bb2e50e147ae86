"""Where the shipper hands objects in: put with ``If-None-Match: *``, then read back. What the store says is not
believed.

An object counts when its bytes were read again, are the same, and are locked in COMPLIANCE mode for long enough.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

from ext_proc.audit.store import StoreRefused, StoreUnavailable
from ext_proc.errors import AuditUnavailable, IntegrityError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import datetime

    from ext_proc.audit.note import Signer
    from ext_proc.audit.recovery import EndedLog
    from ext_proc.audit.seal import SealedObject
    from ext_proc.audit.store import Store

    Journal = Callable[[str, Mapping[str, Any]], None]

COMPLIANCE: Final = "COMPLIANCE"
CLOCK_TOLERANCE: Final = timedelta(hours=1)
"""The store's clock and ours may differ; a lock that ends an hour early is not a finding."""


class NotKept(Exception):
    """The store took the object but does not hold it as it must. Its key is said: a person must extend the lock."""

    def __init__(self, why: str, key: str) -> None:
        super().__init__(f"{why}: {key}")
        self.why = why


class OtherBytes(IntegrityError):
    """Under the object's name there is something else in the store: an incident, never overwritten."""

    code = "other_bytes"


@dataclass(frozen=True, slots=True)
class Terms:
    """How long each object must be locked, from the moment its segment was sealed; and who signs the log."""

    retention: timedelta
    signer: Signer


@dataclass(slots=True)
class ShipReport:
    """What one round did: objects locked and read back, segments freed, and what stood in the way (stable codes)."""

    shipped: list[str] = field(default_factory=list)
    freed: int = 0
    failures: list[str] = field(default_factory=list)
    quarantined: list[str] = field(default_factory=list)


@dataclass(slots=True)
class Desk:
    """What every delivery needs.

    Args:
        store: where to.
        terms: what every object must be.
        clock: aware UTC.
        journal: where to note births, digests and ends: durable when it returns. None: nowhere.
        on_end: told of each log that nobody writes any more, at least once. Must not raise.
        on_freed: told of the round after each file that is in the store and gone from the disk. Must not raise.
    """

    store: Store
    terms: Terms
    clock: Callable[[], datetime]
    journal: Journal | None = None
    on_end: Callable[[EndedLog], None] = lambda _: None
    on_freed: Callable[[ShipReport], None] = lambda _: None

    def put(self, one: SealedObject, made: ShipReport, sealed_at: datetime | None = None) -> None:
        """Put one object and read it back.

        Raises:
            StoreUnavailable: it is not known to be there.
            StoreRefused: the store does not let us.
            NotKept: it is there, and not locked as it must be.
            OtherBytes: other bytes are there.
        """
        self.store.put(one.key, one.body, one.sha256)
        self._check(one, sealed_at or self.clock())
        made.shipped.append(one.key)

    def _check(self, one: SealedObject, sealed_at: datetime) -> None:
        stored = self.store.read_back(one.key)
        if stored is None:
            raise StoreUnavailable("not there after put")
        if stored.sha256 != one.sha256:
            raise OtherBytes("other bytes under this key in the store")
        if stored.lock_mode != COMPLIANCE:
            raise NotKept("not_locked", one.key)
        if stored.retain_until is None or stored.retain_until < sealed_at + self.terms.retention - CLOCK_TOLERANCE:
            raise NotKept("locked_too_short", one.key)

    def note(self, kind: str, facts: Mapping[str, Any]) -> None:
        """Put it on record.

        Raises:
            AuditUnavailable: it could not be made durable.
        """
        if self.journal is not None:
            self.journal(kind, facts)


def code_of(error: Exception) -> str:
    """The stable code of what stood in the way."""
    match error:
        case StoreUnavailable():
            return "store_unavailable"
        case StoreRefused():
            return "store_refused"
        case NotKept():
            return "not_kept"
        case AuditUnavailable():
            return "audit_unavailable"
        case OSError():
            return "disk"
        case _:
            return "epoch"
