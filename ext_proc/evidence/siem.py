"""``affidavit export-siem``: events out of the bucket to a SIEM, each at least once, going on where it stopped.

What was sent is remembered for each log: the number of its next record. A log's objects follow each other without a
gap, so whatever the order in which logs come into the bucket (a replica that was cut off for a day ships late), none is
left out; one that is stuck, or has no end yet, holds back from where on is looked. An object is remembered when the
other side has taken all its events; a crash in between sends them again, with the same ``metadata.uid``.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final, Protocol

from ext_proc import files
from ext_proc.errors import IntegrityError
from ext_proc.evidence import ocsf
from ext_proc.evidence.events import PUT_BACK, damaged, objects, parse_leaf, read_ahead, window
from ext_proc.evidence.names import LogName
from ext_proc.evidence.versions import EvidenceError
from ext_proc.record_kinds import LOG_ENDS

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from ext_proc.evidence.names import EventsName
    from ext_proc.evidence.versions import VersionedStore

LATE: Final = timedelta(days=7)
"""How late an object may come into the bucket and still be sent: what no disk kept for longer."""
SILENT: Final = timedelta(days=30)
"""For so long an end is waited for that a log does not have: its disk is gone, else it had been recovered."""
_SCHEMA: Final = "affidavit/siem-cursor/v1"
_VERIFY: Final = "run `affidavit verify`"


class Sink(Protocol):
    """Where events go."""

    def take(self, name: str, events: Sequence[dict[str, Any]]) -> None:
        """Take them all; durable there when it returns. ``name`` is the same where the same come again.

        Raises:
            EvidenceError: it does not.
        """
        ...


class State(StrEnum):
    """How a log stands."""

    OPEN = "open"
    """More is to come."""
    ENDED = "ended"
    """Its last record was sent."""
    STUCK = "stuck"
    """Its next record is damaged or missing."""
    SILENT = "silent"
    """It has no end, and that was reported. Only its number is kept."""


@dataclass(frozen=True, slots=True)
class Followed:
    """The number of a log's next record, the day of the newest object that was sent, and how it stands."""

    next: int
    day: str
    state: State = State.OPEN


@dataclass(slots=True)
class Cursor:
    """What was sent, in a file.

    Args:
        path: the file.
        since: nothing that lies in the bucket before is sent. Set by the first run, and kept.
        looked_at: when the last round began that came to its end.
        following: the logs.
    """

    path: Path
    since: datetime
    looked_at: datetime
    following: dict[LogName, Followed] = field(default_factory=dict)

    @classmethod
    def load(cls, path: Path, since: datetime) -> Cursor:
        """As it was left; new where there is none.

        Raises:
            EvidenceError: it cannot be read. Nothing is sent then: from where, nobody knows.
        """
        try:
            told = json.loads(path.read_text())
            if told["schema"] != _SCHEMA:
                raise ValueError
            logs = {LogName(*name.split("/")): _followed(*one) for name, one in told["logs"].items()}
            begun = datetime.fromisoformat(told["since"])
            return cls(path, begun, datetime.fromisoformat(told.get("looked_at", told["since"])), logs)
        except FileNotFoundError:
            return cls(path, since, since)
        except OSError as error:
            raise EvidenceError(f"{path}: {error.strerror}") from None
        except (ValueError, KeyError, TypeError, AttributeError):
            raise EvidenceError(f"{path}: not a cursor of export-siem; name another file to begin anew") from None

    def wants(self, name: EventsName) -> bool:
        """Was it not sent yet?"""
        told = self.following.get(name.log)
        return told is None or name.last >= told.next

    def expected(self, name: EventsName) -> int:
        """The record that its log must go on with: the first of all, unless the log is older than ``since``."""
        told = self.following.get(name.log)
        if told is not None:
            return told.next
        born_at = name.log.born_at
        return 0 if born_at is not None and born_at >= self.since else name.first

    def took(self, name: EventsName, *, is_ended: bool) -> None:
        """It was sent. Durable when this returns.

        Raises:
            EvidenceError: the file cannot be written.
        """
        told = self.following.get(name.log)
        was_ended = told is not None and told.state is State.ENDED  # what a recovery says comes after its end
        state = State.ENDED if is_ended or was_ended else State.OPEN
        self.following[name.log] = Followed(name.last + 1, max(name.day, told.day if told else ""), state)
        self._save()

    def waits(self, name: EventsName) -> None:
        """It cannot be sent: its log is looked for from here on, for as long as it takes."""
        told = self.following.get(name.log)
        if told is None:
            expected, born_at = self.expected(name), name.log.born_at
            is_missing = expected < name.first and born_at is not None
            told = Followed(expected, f"{born_at:%Y-%m-%d}" if is_missing else name.day)
        self.following[name.log] = replace(told, state=State.STUCK)

    def finish(self, now: datetime) -> Iterator[str]:
        """A round is over: logs whose end was sent are forgotten, those without one are told of, once.

        Raises:
            EvidenceError: the file cannot be written.
        """
        self.looked_at = now
        silent = _day(now - SILENT)
        for log, told in self.following.items():
            if told.state is State.OPEN and told.day < silent:
                self.following[log] = replace(told, state=State.SILENT)
                yield f"log {log.replica}/{log.epoch} has no end, and no record after {told.day}; {_VERIFY}"
        oldest = _day(self.begins(now) - timedelta(days=1))
        self.following = {
            log: told for log, told in self.following.items() if told.state is not State.ENDED or told.day >= oldest
        }
        self._save()

    def begins(self, now: datetime) -> datetime:
        """From where on to look: what may still have come since the last round, and what is waited for."""
        late = min(now, self.looked_at) - LATE
        held = (told.day for told in self.following.values() if told.state in {State.OPEN, State.STUCK})
        return max(self.since, min([late, *filter(None, map(_before, held))]))

    def _save(self) -> None:
        logs = {
            f"{log.replica}/{log.epoch}": [told.next, told.day, told.state]
            for log, told in sorted(self.following.items(), key=str)
        }
        told = {
            "schema": _SCHEMA,
            "since": self.since.isoformat(),
            "looked_at": self.looked_at.isoformat(),
            "logs": logs,
        }
        try:
            files.replace(self.path, json.dumps(told))
        except OSError as error:
            raise EvidenceError(f"{self.path}: {error.strerror}") from None


def _followed(first: int, day: str, state: str = State.OPEN) -> Followed:
    return Followed(int(first), str(day), State(state))


def _before(day: str) -> datetime | None:
    """From where on a log is looked for whose newest object is of ``day``; None if that is no day that there is."""
    try:
        return datetime.fromisoformat(day).replace(tzinfo=UTC) - PUT_BACK
    except (ValueError, OverflowError):
        return None


def _day(at: datetime) -> str:
    return f"{at.astimezone(UTC):%Y-%m-%d}"


@dataclass(slots=True)
class Sent:
    """What one round sent."""

    objects: int = 0
    events: int = 0
    problems: list[str] = field(default_factory=list)
    """What is damaged, missing or without an end: such logs wait there, the others go on."""


def send(store: VersionedStore, cursor: Cursor, sink: Sink, now: datetime) -> Sent:
    """Everything in the bucket that was not sent yet.

    Raises:
        EvidenceError: the bucket cannot be read, or the other side does not take it.
    """
    made, told_of = Sent(), set[LogName]()
    after, _ = window(cursor.begins(now), None)
    # A log's objects in their order: a clock that was put back puts later ones into an earlier hour.
    listed = sorted(objects(store, after), key=lambda one: (one[0].log.replica, one[0].log.epoch, one[0].first))
    found = iter([(name, version) for name, version in listed if cursor.wants(name)])
    for name, version, leaves in read_ahead(store, found):
        expected = cursor.expected(name)
        try:
            # Even where its log is stuck: what was fetched ahead must be taken.
            events, is_ended = _events(leaves, name, version.key, expected)
        except IntegrityError as error:
            # Another object may hold the same records: who can write to the bucket must not stop a log with one of
            # their own. Where none does, the gap that follows keeps the log here.
            made.problems.append(error.detail)
            told_of.add(name.log)
            if name.last >= expected:
                cursor.waits(name)
            continue
        if name.first > expected:
            if name.log not in told_of:
                made.problems.append(f"{version.key}: the records from {expected} on are missing; {_VERIFY}")
            told_of.add(name.log)
            cursor.waits(name)
            continue
        if name.last < expected:  # another object had the same
            continue
        if events:
            sink.take(f"{name.day}/{name.log.replica}-{name.log.epoch}-{name.first:016d}", events)
        cursor.took(name, is_ended=is_ended)
        made.objects += 1
        made.events += len(events)
    for log, told in cursor.following.items():
        if told.state is State.STUCK and log not in told_of:
            made.problems.append(
                f"log {log.replica}/{log.epoch}: the records from {told.next} on are missing; {_VERIFY}"
            )
    made.problems += cursor.finish(now)
    return made


def _events(leaves: Iterator[bytes], name: EventsName, key: str, first: int) -> tuple[list[dict[str, Any]], bool]:
    """The events from a record on, and whether the log ends here. All leaves must be those that the key names."""
    events, is_ended = [], False
    for number, line in enumerate(leaves, name.first):
        leaf = parse_leaf(line, key)
        if leaf["sequence"] != number or LogName.of_origin(leaf["origin"]) != name.log:
            raise damaged(key, f"record {number} is not the one that its key says")
        is_ended = is_ended or leaf["kind"] in LOG_ENDS
        event = ocsf.event_of(leaf) if number >= first else None
        if event is not None:
            events.append(event)
    return events, is_ended
