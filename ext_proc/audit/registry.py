"""What is kept of subject keys: wrapped keys by generation, tombstones of destroyed ones, and legal holds.

A row is never deleted. Destroying a key blanks it and leaves a tombstone that names the record of the erasure, so a
number that was used is never used again, and nobody can make a destroyed key anew: the subject's next key is the
next generation. The keys here are wrapped: the registry alone opens nothing. `registry_sql` keeps it in a database.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from ext_proc.model import Receipt


@dataclass(frozen=True, slots=True)
class Place:
    """Where a record stands: its log and its number there."""

    origin: str
    sequence: int


@dataclass(frozen=True, slots=True)
class Tombstone:
    """What is left of a destroyed key: the records of its erasure. ``completed`` is None until that one is durable."""

    requested: Place
    completed: Place | None


@dataclass(frozen=True, slots=True)
class SubjectKey:
    """One generation of a subject's key: ``wrapped``, or destroyed; ``tombstone`` tells by which erasure, if by any."""

    generation: int
    wrapped: bytes | None
    tombstone: Tombstone | None = None


@dataclass(frozen=True, slots=True)
class LegalHold:
    """Nobody may erase the subject before ``until`` (None: before it is released). ``name``: of the case."""

    subject_ref: str
    name: str
    until: datetime | None


class Registry(Protocol):
    """What the key ring and erasure need. Safe from several threads and processes.

    Every method raises `AuditUnavailable` ("key_registry…") when the database cannot be used.
    """

    def newest(self, subject_ref: str) -> SubjectKey | None:
        """The subject's key of the highest generation, living or destroyed."""
        ...

    def key(self, subject_ref: str, generation: int) -> SubjectKey | None:
        """One generation."""
        ...

    def add(self, subject_ref: str, generation: int, wrapped: bytes) -> None:
        """Keep a new key unless that generation was ever used: the first wins, so read back what was kept."""
        ...

    def erasure_count(self) -> int:
        """Grows with each destruction: while it stands still, keys that were read are still there."""
        ...

    def destroy(self, subject_ref: str, requested: Receipt, at: datetime) -> tuple[int, ...] | LegalHold:
        """Blank the living key, all or nothing. A hold in force at ``at`` forbids it and is returned instead.

        Returns:
            The generations destroyed: one, or none if no key is living.
        """
        ...

    def scrub(self) -> None:
        """Leave no destroyed key in the database's files. Idempotent. Limits: see `database.scrub`."""
        ...

    def unfinished(self, subject_ref: str) -> tuple[int, ...]:
        """Generations that are destroyed without a record that says so."""
        ...

    def finish(self, subject_ref: str, generations: Sequence[int], completed: Receipt) -> None:
        """Write the record of the completed erasure into the tombstones."""
        ...

    def hold(self, hold: LegalHold) -> None:
        """Place a hold, or change the end of the one of this name."""
        ...

    def release(self, subject_ref: str, name: str) -> bool:
        """Forget a hold. False: there is none of this name."""
        ...

    def holds(self, subject_ref: str | None, at: datetime) -> tuple[LegalHold, ...]:
        """The holds in force on a subject (None: on anybody), by subject and name."""
        ...
