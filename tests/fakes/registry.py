"""`audit.registry.Registry` in memory, and a journal that keeps its leaves in a list."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ext_proc.audit.registry import LegalHold, Place, SubjectKey, Tombstone
from ext_proc.errors import AuditUnavailable
from ext_proc.model import Receipt

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime


class FakeRegistry:
    """A dict. ``is_down``: behave as if the database could not be reached. ``asked`` counts questions.

    ``before``: called with a method's name before it does anything; what it raises goes up.
    """

    def __init__(self) -> None:
        self.rows: dict[tuple[str, int], SubjectKey] = {}
        self.standing: dict[tuple[str, str], LegalHold] = {}
        self.is_down = False
        self.asked = 0
        self.before: Any = lambda name: None
        self._erasures = 0

    def _ask(self, name: str) -> None:
        self.asked += 1
        self.before(name)
        if self.is_down:
            raise AuditUnavailable("key_registry")

    def newest(self, subject_ref: str) -> SubjectKey | None:
        """See `Registry.newest`."""
        self._ask("newest")
        found = [row for (ref, _), row in self.rows.items() if ref == subject_ref]
        return max(found, key=lambda row: row.generation, default=None)

    def key(self, subject_ref: str, generation: int) -> SubjectKey | None:
        """See `Registry.key`."""
        self._ask("key")
        return self.rows.get((subject_ref, generation))

    def add(self, subject_ref: str, generation: int, wrapped: bytes) -> None:
        """See `Registry.add`."""
        self._ask("add")
        self.rows.setdefault((subject_ref, generation), SubjectKey(generation, wrapped))

    def erasure_count(self) -> int:
        """See `Registry.erasure_count`."""
        self._ask("erasure_count")
        return self._erasures

    def destroy(self, subject_ref: str, requested: Receipt, at: datetime) -> tuple[int, ...] | LegalHold:
        """See `Registry.destroy`."""
        self._ask("destroy")
        standing = self._in_force(subject_ref, at)
        if standing:
            return standing[0]
        living = [key for key, row in self.rows.items() if key[0] == subject_ref and row.wrapped is not None]
        place = Place(requested.origin, requested.sequence)
        for key in living:
            self.rows[key] = SubjectKey(key[1], None, Tombstone(place, None))
        self._erasures += bool(living)
        return tuple(generation for _, generation in living)

    def scrub(self) -> None:
        """See `Registry.scrub`."""
        self._ask("scrub")

    def unfinished(self, subject_ref: str) -> tuple[int, ...]:
        """See `Registry.unfinished`."""
        self._ask("unfinished")
        return tuple(
            sorted(
                generation
                for (ref, generation), row in self.rows.items()
                if ref == subject_ref and row.tombstone is not None and row.tombstone.completed is None
            )
        )

    def finish(self, subject_ref: str, generations: Sequence[int], completed: Receipt) -> None:
        """See `Registry.finish`."""
        self._ask("finish")
        for generation in generations:
            row = self.rows.get((subject_ref, generation))
            if row is not None and row.tombstone is not None:
                tombstone = Tombstone(row.tombstone.requested, Place(completed.origin, completed.sequence))
                self.rows[subject_ref, generation] = SubjectKey(generation, None, tombstone)

    def hold(self, hold: LegalHold) -> None:
        """See `Registry.hold`."""
        self._ask("hold")
        self.standing[hold.subject_ref, hold.name] = hold

    def release(self, subject_ref: str, name: str) -> bool:
        """See `Registry.release`."""
        self._ask("release")
        return self.standing.pop((subject_ref, name), None) is not None

    def holds(self, subject_ref: str | None, at: datetime) -> tuple[LegalHold, ...]:
        """See `Registry.holds`."""
        self._ask("holds")
        return self._in_force(subject_ref, at)

    def _in_force(self, subject_ref: str | None, at: datetime) -> tuple[LegalHold, ...]:
        found = [hold for (ref, _), hold in sorted(self.standing.items()) if subject_ref in (None, ref)]
        return tuple(hold for hold in found if hold.until is None or hold.until > at)


class FakeJournal:
    """`erasure.Journal`. ``before`` and ``after``: called with the kind around each note; what they raise goes up."""

    def __init__(self) -> None:
        self.leaves: list[tuple[str, dict[str, Any]]] = []
        self.before: Any = lambda kind: None
        self.after: Any = lambda kind: None

    @property
    def kinds(self) -> list[str]:
        """Of the leaves, in order."""
        return [kind for kind, _ in self.leaves]

    def note(self, kind: str, fields: Mapping[str, Any]) -> Receipt:
        """See `Journal.note`."""
        self.before(kind)
        self.leaves.append((kind, dict(fields)))
        self.after(kind)
        return Receipt("test/gw-0-command/1", len(self.leaves) - 1, "00" * 32)
