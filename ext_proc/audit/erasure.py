"""Erasure of a person's content by destroying their key, and the legal holds that forbid it.

The order makes every crash harmless: the request is on record before the key is touched, the completion only after no
process and no file holds the key. Run again, an interrupted erasure is finished. A hold is in force before its record
says so, and its release is on record before it takes effect.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC
from time import sleep
from typing import TYPE_CHECKING, Any, Final, Literal, Protocol

from ext_proc.audit.keys import KEPT_SECONDS, NOBODY
from ext_proc.audit.record import instant
from ext_proc.audit.registry import LegalHold, Place
from ext_proc.errors import ConfigError, IntegrityError
from ext_proc.record_kinds import LeafKind

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import datetime

    from ext_proc.audit.registry import Registry, SubjectKey
    from ext_proc.model import Receipt

_REFERENCE: Final = re.compile(r"hmac-sha256:[0-9a-f]{64}")
_WORDS_MAX: Final = 200
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/-]{0,99}")


class Journal(Protocol):
    """Where the steps are recorded: the command's own log."""

    def note(self, kind: str, fields: Mapping[str, Any]) -> Receipt:
        """Append a leaf; it is durable when this returns.

        Raises:
            AuditUnavailable: it could not be made durable.
        """
        ...


@dataclass(frozen=True, slots=True)
class Order:
    """Who wants it and why, in words that may stand in a leaf for ever: a ticket and a role, not a person's name.

    Raises:
        ConfigError: empty, too long, or not one line.
    """

    reason: str
    by: str

    def __post_init__(self) -> None:
        for name, words in (("reason", self.reason), ("by", self.by)):
            if not words.strip() or len(words) > _WORDS_MAX or not words.isprintable():
                raise ConfigError(f"{name}: one line of 1 to {_WORDS_MAX} characters is needed")

    def fields(self, subject_ref: str, **more: Any) -> dict[str, Any]:
        """The fields of a leaf about ``subject_ref``."""
        return {"subject_ref": subject_ref, "reason": self.reason, "by": self.by, **more}


@dataclass(frozen=True, slots=True)
class ErasureResult:
    """How it ended.

    ``erased``: ``generations`` of the key are gone, as ``record`` (``erasure.completed``) says. ``already``: there was
    nothing left; ``record`` is of the last erasure. ``held``: ``hold`` forbids it, as ``record`` (``erasure.refused``)
    says. ``unknown``: the registry never had a key of this subject, and nothing was recorded.
    """

    outcome: Literal["erased", "already", "held", "unknown"]
    record: Place | None = None
    generations: tuple[int, ...] = ()
    hold: LegalHold | None = None

    @property
    def exit_status(self) -> int:
        """Of the command: 0 only if no key of the subject is left and there was one."""
        return 0 if self.outcome in {"erased", "already"} else 1


def parse_reference(text: str) -> str:
    """A subject's reference from the command line.

    Raises:
        ConfigError: it is none.
    """
    if text != NOBODY and _REFERENCE.fullmatch(text) is None:
        raise ConfigError(
            "a subject's reference is hmac-sha256: and 64 hex digits, as records have it in actor.subject_ref"
        )
    return text


def erase(
    registry: Registry,
    subject_ref: str,
    *,
    order: Order,
    clock: Callable[[], datetime],
    journal: Journal,
    wait: Callable[[float], None] = sleep,
) -> ErasureResult:
    """Destroy the subject's key. Idempotent: run again after a crash, it finishes what was begun.

    Args:
        registry: of the keys.
        subject_ref: whose.
        order: reason and by whom.
        clock: the time, against which holds are read.
        journal: where it is recorded.
        wait: waits that many seconds, until no process uses the key from memory.

    Raises:
        AuditUnavailable: the registry or the journal fails. Run it again.
        IntegrityError: the key is gone, and no erasure explains it.
    """
    newest = registry.newest(subject_ref)
    if newest is None:
        return ErasureResult("unknown")
    done: ErasureResult | None = None
    if registry.unfinished(subject_ref):  # an erasure that was cut short; the subject may have a new key since
        done = _complete(registry, subject_ref, order, journal, wait)
    if newest.wrapped is None:
        return done or ErasureResult("already", _explained(newest))
    standing = registry.holds(subject_ref, clock())
    if standing:
        return _refuse(subject_ref, standing[0], order, journal)
    requested = journal.note(LeafKind.ERASURE_REQUESTED, order.fields(subject_ref))
    destroyed = registry.destroy(subject_ref, requested, clock())
    if isinstance(destroyed, LegalHold):  # placed since
        return _refuse(subject_ref, destroyed, order, journal)
    return _complete(registry, subject_ref, order, journal, wait)


def _explained(newest: SubjectKey) -> Place:
    if newest.tombstone is None or newest.tombstone.completed is None:
        raise IntegrityError("the subject's key is gone from the registry, and no erasure explains it")
    return newest.tombstone.completed


def _complete(
    registry: Registry, subject_ref: str, order: Order, journal: Journal, wait: Callable[[float], None]
) -> ErasureResult:
    generations = registry.unfinished(subject_ref)
    registry.scrub()
    wait(KEPT_SECONDS)
    completed = journal.note(LeafKind.ERASURE_COMPLETED, order.fields(subject_ref, generations=list(generations)))
    registry.finish(subject_ref, generations, completed)
    return ErasureResult("erased", Place(completed.origin, completed.sequence), generations)


def _refuse(subject_ref: str, hold: LegalHold, order: Order, journal: Journal) -> ErasureResult:
    refused = journal.note(LeafKind.ERASURE_REFUSED, order.fields(subject_ref, hold=hold.name))
    return ErasureResult("held", Place(refused.origin, refused.sequence), hold=hold)


def place_hold(
    registry: Registry, subject_ref: str, name: str, *, until: datetime | None, order: Order, journal: Journal
) -> Receipt:
    """Forbid the erasure of a subject, known or not. Placed again under its name, a hold gets the new end.

    Args:
        registry: of the keys.
        subject_ref: whose content must stay.
        name: of the case.
        until: when the hold ends by itself, or None: when it is released.
        order: reason and by whom.
        journal: where it is recorded.

    Raises:
        ConfigError: the name or the time cannot stand.
        AuditUnavailable: the registry or the journal fails. Run it again.
    """
    if _NAME.fullmatch(name) is None:
        raise ConfigError("a hold is named by letters, digits and . _ / -, up to 100, for example case-2026-17")
    if until is not None:
        if until.tzinfo is None:
            raise ConfigError("until: write the time zone too, for example 2027-01-31T00:00:00Z")
        until = until.astimezone(UTC)
    registry.hold(LegalHold(subject_ref, name, until))
    told = None if until is None else instant(until)
    return journal.note(LeafKind.LEGALHOLD_PLACED, order.fields(subject_ref, hold=name, until=told))


def release_hold(
    registry: Registry, subject_ref: str, name: str, *, order: Order, journal: Journal, at: datetime
) -> Receipt:
    """End a hold.

    Raises:
        ConfigError: no hold of this name is in force.
        AuditUnavailable: the registry or the journal fails. Run it again.
    """
    if name not in {hold.name for hold in registry.holds(subject_ref, at)}:
        raise ConfigError(f"no hold {name} is in force on this subject")
    receipt = journal.note(LeafKind.LEGALHOLD_RELEASED, order.fields(subject_ref, hold=name))
    registry.release(subject_ref, name)
    return receipt
