"""``affidavit export-siem``: events out of the bucket to a SIEM, each at least once, going on where it stopped.

What was sent is remembered for each log: the number of its next record. A log's objects follow each other without a
gap, so whatever the order in which logs come into the bucket (a replica that was cut off for a day ships late), none is
left out. An object is remembered when the other side has taken all its events; a crash in between sends them again,
with the same ``metadata.uid``.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, Protocol

from ext_proc.errors import IntegrityError
from ext_proc.evidence import ocsf
from ext_proc.evidence.events import objects, parse_leaf, read_ahead, window
from ext_proc.evidence.names import LogName
from ext_proc.evidence.versions import EvidenceError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from ext_proc.evidence.names import EventsName
    from ext_proc.evidence.versions import VersionedStore

LATE: Final = timedelta(days=7)
"""How late an object may come into the bucket and still be sent: what no disk kept for longer."""
_SCHEMA: Final = "affidavit/siem-cursor/v1"


class Sink(Protocol):
    """Where events go."""

    def take(self, name: str, events: Sequence[dict[str, Any]]) -> None:
        """Take them all; durable there when it returns. ``name`` is the same where the same come again.

        Raises:
            EvidenceError: it does not.
        """
        ...


@dataclass(slots=True)
class Cursor:
    """What was sent, in a file.

    Args:
        path: the file.
        since: nothing that lies in the bucket before is sent. Set by the first run, and kept.
        following: of each log the number of its next record, and the day of the last object that was sent.
    """

    path: Path
    since: datetime
    following: dict[LogName, tuple[int, str]] = field(default_factory=dict)

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
            logs = {LogName(*name.split("/")): (int(first), str(day)) for name, (first, day) in told["logs"].items()}
            return cls(path, datetime.fromisoformat(told["since"]), logs)
        except FileNotFoundError:
            return cls(path, since)
        except OSError as error:
            raise EvidenceError(f"{path}: {error.strerror}") from None
        except (ValueError, KeyError, TypeError, AttributeError):
            raise EvidenceError(f"{path}: not a cursor of export-siem; name another file to begin anew") from None

    def wants(self, name: EventsName) -> bool:
        """Was it not sent yet?"""
        return name.last >= self.following.get(name.log, (0, ""))[0]

    def took(self, name: EventsName) -> None:
        """It was sent. Durable when this returns.

        Raises:
            EvidenceError: the file cannot be written.
        """
        self.following[name.log] = (name.last + 1, name.day)
        self._save()

    def forget(self, now: datetime) -> None:
        """Logs that ended so long ago that nothing of them is looked at any more."""
        oldest = f"{now.astimezone(UTC) - LATE - timedelta(days=1):%Y-%m-%d}"
        self.following = {log: told for log, told in self.following.items() if told[1] >= oldest}

    def begins(self, now: datetime) -> datetime:
        """From where on to look."""
        return max(self.since, now - LATE)

    def _save(self) -> None:
        logs = {f"{log.replica}/{log.epoch}": list(told) for log, told in sorted(self.following.items(), key=str)}
        beside = self.path.with_name(f".{self.path.name}.new")
        try:
            with beside.open("w") as file:
                json.dump({"schema": _SCHEMA, "since": self.since.isoformat(), "logs": logs}, file)
                file.flush()
                os.fsync(file.fileno())
            beside.replace(self.path)
        except OSError as error:
            raise EvidenceError(f"{self.path}: {error.strerror}") from None


@dataclass(slots=True)
class Sent:
    """What one round sent."""

    objects: int = 0
    events: int = 0
    problems: list[str] = field(default_factory=list)
    """Objects that are damaged: their logs wait there, the others go on."""


def send(store: VersionedStore, cursor: Cursor, sink: Sink, now: datetime) -> Sent:
    """Everything in the bucket that was not sent yet.

    Raises:
        EvidenceError: the bucket cannot be read, or the other side does not take it.
    """
    made, stuck = Sent(), set[LogName]()
    cursor.forget(now)
    after, _ = window(cursor.begins(now), None)
    # A log's objects in their order: a clock that was put back puts later ones into an earlier hour.
    listed = sorted(objects(store, after), key=lambda one: (one[0].log.replica, one[0].log.epoch, one[0].first))
    found = iter([(name, version) for name, version in listed if cursor.wants(name)])
    for name, version, leaves in read_ahead(store, found):
        try:
            # Even where its log is stuck: what was fetched ahead must be taken.
            events = list(_events(leaves, version.key, cursor.following.get(name.log, (0, ""))[0]))
        except IntegrityError as error:
            made.problems.append(error.detail)
            stuck.add(name.log)
            continue
        expected = cursor.following.get(name.log, (name.first, ""))[0]
        if name.log not in stuck and name.first > expected:
            made.problems.append(f"{version.key}: the records from {expected} on are missing; run `affidavit verify`")
            stuck.add(name.log)
        if name.log in stuck:
            continue
        if events:
            sink.take(f"{name.day}/{name.log.replica}-{name.log.epoch}-{name.first:016d}", events)
        cursor.took(name)
        made.objects += 1
        made.events += len(events)
    return made


def _events(leaves: Iterator[bytes], key: str, first: int) -> Iterator[dict[str, Any]]:
    for line in leaves:
        leaf = parse_leaf(line, key)
        event = ocsf.event_of(leaf) if leaf["sequence"] >= first else None
        if event is not None:
            yield event
