"""What the logs say beside the exchanges: which ended and how, how far they are in the store, what Envoy counted."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from ext_proc.audit.origin import Origin
from ext_proc.evidence import names
from ext_proc.evidence.access import Hole
from ext_proc.evidence.verdicts import SLACK, Surroundings
from ext_proc.evidence.versions import firsts
from ext_proc.record_kinds import LOG_ENDS, LeafKind

if TYPE_CHECKING:
    from ext_proc.evidence.ledger import Ledger
    from ext_proc.evidence.names import LogName
    from ext_proc.evidence.verdicts import Span
    from ext_proc.evidence.versions import VersionedStore


@dataclass(frozen=True, slots=True)
class Beat:
    """A heartbeat of a shipper's: how many requests Envoy had counted; None where it did not answer."""

    at: datetime
    counted: int | None


@dataclass(slots=True)
class _Log:
    origin: str
    last_at: datetime
    has_ended: bool = False


@dataclass(slots=True)
class Listener:
    """Hears every leaf of the time in question that is not about an exchange, and the last of each object."""

    beats: dict[str, list[Beat]] = field(default_factory=lambda: defaultdict(list))
    holes: list[Hole] = field(default_factory=list)
    _logs: dict[LogName, _Log] = field(default_factory=dict)
    _deaths: dict[str, list[Span]] = field(default_factory=lambda: defaultdict(list))
    _died: set[str] = field(default_factory=set)

    def hear(self, log: LogName, leaf: dict[str, Any], key: str) -> None:
        """The next leaf of a log.

        Raises:
            KeyError, ValueError, TypeError: it is not of the published form.
        """
        at, kind, origin = datetime.fromisoformat(leaf["at"]), leaf["kind"], leaf["origin"]
        known = self._logs.setdefault(log, _Log(origin, at))
        if kind == LeafKind.LOG_RECOVERED:
            self._deaths[Origin.read(origin).replica].append((known.last_at, at))
            self._died.add(origin)
        elif kind == LeafKind.HEARTBEAT and Origin.read(origin).role == "shipper":
            self.beats[Origin.read(origin).replica].append(Beat(at, leaf["envoy_requests"]))
        elif kind == LeafKind.LOG_LOST:
            self.holes.append(Hole("log_lost", key, f"Records of {leaf['lost_origin']} are lost: {leaf['reason']}."))
        elif kind == LeafKind.SEGMENT_QUARANTINED:
            what = f"Records of {leaf['of_origin']} could not be read on the disk and wait for a person."
            self.holes.append(Hole("segment_quarantined", key, what))
        known.last_at = max(known.last_at, at)
        known.has_ended = known.has_ended or kind in LOG_ENDS

    def expect_born(self, store: VersionedStore, since: datetime) -> None:
        """Logs that were born since then and of which nothing else is in the store.

        Raises:
            EvidenceError: the store cannot be listed.
        """
        for version in firsts(store, names.ROSTER, f"{names.ROSTER}dt={since:%Y-%m-%d}/"):
            log = names.birth(version.key)
            if log is not None and log not in self._logs:
                born_at = datetime.strptime(log.epoch.partition("-")[0], "%Y%m%dT%H%M%S%f").replace(tzinfo=UTC)
                self._logs[log] = _Log(f"/{log.replica}/{log.epoch}", born_at)

    def surroundings(self, now: datetime, lines_until: dict[str, datetime]) -> Surroundings:
        """Everything was heard."""
        made = Surroundings(now, lines_until, deaths=dict(self._deaths), died=self._died)
        for name, log in self._logs.items():
            replica, _, role = name.replica.rpartition("-")
            if role.isdigit() and not log.has_ended:
                made.log_until[log.origin] = log.last_at
                made.leaves_until[replica] = min(made.leaves_until.get(replica, log.last_at), log.last_at)
        for replica, beats in self.beats.items():
            beats.sort(key=lambda beat: beat.at)
            made.restarts[replica] = _restarts(beats)
        return made


def _restarts(beats: list[Beat]) -> list[Span]:
    """Where the counter went back, or Envoy did not answer."""
    found: list[Span] = []
    last: Beat | None = None
    for beat in beats:
        if last is not None and last.counted is not None and (beat.counted is None or beat.counted < last.counted):
            found.append((last.at, beat.at))
        if beat.counted is not None:
            last = beat
    return found


def miscounts(beats: list[Beat], replica: str, until: datetime, ledger: Ledger) -> list[Hole]:
    """Where Envoy counted other requests than its log has lines, while it ran without a restart.

    Both ends of such a time are as exact as `SLACK`: what began that close to one of them may count on either side.
    """
    holes: list[Hole] = []
    for first, last in _runs([beat for beat in beats if beat.at + SLACK <= until]):
        counted = (last.counted or 0) - (first.counted or 0)
        written = ledger.begun_between(replica, first.at, last.at)
        close = sum(ledger.begun_between(replica, beat.at - SLACK, beat.at + SLACK) for beat in (first, last))
        if abs(counted - written) > close:
            what = (
                f"Between {first.at:%Y-%m-%dT%H:%M:%SZ} and {last.at:%Y-%m-%dT%H:%M:%SZ} Envoy counted {counted}"
                f" requests, and its log has {written}."
            )
            holes.append(Hole("counter_mismatch", replica, what))
    return holes


def _runs(beats: list[Beat]) -> list[tuple[Beat, Beat]]:
    """The times without a restart: first and last heartbeat of each."""
    found: list[tuple[Beat, Beat]] = []
    was_answered = False
    for beat in beats:
        if beat.counted is not None:
            if was_answered and (found[-1][1].counted or 0) <= beat.counted:
                found[-1] = (found[-1][0], beat)
            else:
                found.append((beat, beat))
        was_answered = beat.counted is not None
    return [(first, last) for first, last in found if first is not last]
