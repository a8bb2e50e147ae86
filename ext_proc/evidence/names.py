"""What keys say of their objects (section 2 of ``docs/record-format.md``), as far as readers need it. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from ext_proc.audit.origin import Origin

EVENTS: Final = "v1/events/"
LOG: Final = "v1/log/"
ROSTER: Final = "v1/roster/"
PAYLOAD: Final = "v1/payload/"

_LOG: Final = r"(?P<replica>[A-Za-z0-9][A-Za-z0-9._-]{0,127})"
_EPOCH: Final = r"(?P<epoch>\d{8}T\d{12}-[0-9a-f]{8})"
_EVENTS: Final = re.compile(
    rf"v1/events/dt=(?P<day>\d{{4}}-(?:0[1-9]|1[0-2])-(?:0[1-9]|[12]\d|3[01]))/hour=(?P<hour>[01]\d|2[0-3])/replica={_LOG}/epoch={_EPOCH}"
    r"/(?P<first>\d{16})-(?P<last>\d{16})-(?P<sha16>[0-9a-f]{16})\.jsonl\.zst",
    re.ASCII,
)
_TREE_HEAD: Final = re.compile(
    rf"v1/log/{_LOG}/{_EPOCH}/(?P<kind>checkpoint|cosigned)/(?P<size>\d{{16}})-[0-9a-f]{{16}}\.note", re.ASCII
)
_BIRTH: Final = re.compile(rf"v1/roster/dt=\d{{4}}-\d\d-\d\d/{_LOG}\.{_EPOCH}\.note", re.ASCII)


@dataclass(frozen=True, slots=True)
class LogName:
    """Replica log and epoch: which log, without the gateway's name."""

    replica: str
    epoch: str

    @classmethod
    def of_origin(cls, origin: str) -> LogName | None:
        """Of a log's unique name; None if it is none."""
        name = Origin.find(origin)
        return cls(name.log, name.epoch) if name and re.fullmatch(_EPOCH, name.epoch, re.ASCII) else None

    @property
    def born_at(self) -> datetime | None:
        """When the epoch says that it began; None if that is no day that there is."""
        try:
            return datetime.strptime(self.epoch.partition("-")[0], "%Y%m%dT%H%M%S%f").replace(tzinfo=UTC)
        except ValueError:
            return None


@dataclass(frozen=True, slots=True)
class EventsName:
    """An events object: whose leaves, which, and the beginning of its SHA-256."""

    day: str
    hour: str
    log: LogName
    first: int
    last: int
    sha16: str

    @property
    def at(self) -> datetime:
        """The beginning of the hour that it lies in."""
        return datetime.fromisoformat(f"{self.day}T{self.hour}:00:00+00:00")


@dataclass(frozen=True, slots=True)
class TreeHeadName:
    """A checkpoint, or one that witnesses cosigned."""

    log: LogName
    size: int
    is_cosigned: bool


def events(key: str) -> EventsName | None:
    """What the key of an events object says; None if it is another key."""
    found = _EVENTS.fullmatch(key)
    if found is None:
        return None
    log = LogName(found["replica"], found["epoch"])
    return EventsName(found["day"], found["hour"], log, int(found["first"]), int(found["last"]), found["sha16"])


def tree_head(key: str) -> TreeHeadName | None:
    """What the key of a checkpoint says; None if it is another key."""
    found = _TREE_HEAD.fullmatch(key)
    if found is None:
        return None
    return TreeHeadName(LogName(found["replica"], found["epoch"]), int(found["size"]), found["kind"] == "cosigned")


def birth(key: str) -> LogName | None:
    """Which log's birth record the key names; None if it is another key."""
    found = _BIRTH.fullmatch(key)
    return None if found is None else LogName(found["replica"], found["epoch"])
