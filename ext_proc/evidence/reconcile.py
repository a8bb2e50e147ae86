"""Completeness: what Envoy wrote against what the logs hold, request by request, both ways.

Both sides are read from the store, because only what is locked is proven. The memory does not grow with the traffic
(`ledger`); `verdicts` says what is to be thought of each request, `statement` makes the signed note of it.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Final

from ext_proc.evidence import access
from ext_proc.evidence.access import Hole
from ext_proc.evidence.events import damaged, objects, parse_leaf, read_ahead, window
from ext_proc.evidence.ledger import Ledger, Pair
from ext_proc.evidence.surroundings import Listener, miscounts
from ext_proc.evidence.verdicts import SLACK, Kind, Verdict, judge, judge_end
from ext_proc.evidence.versions import EvidenceError
from ext_proc.record_kinds import LeafKind

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from datetime import datetime

    from ext_proc.evidence.envoy_lines import Line
    from ext_proc.evidence.ledger import Exchange
    from ext_proc.evidence.names import EventsName
    from ext_proc.evidence.verdicts import Surroundings
    from ext_proc.evidence.versions import VersionedStore

MARGIN: Final = timedelta(hours=1)
"""Read on both sides of the span: the two clocks differ, and a request is known by its beginning."""
LASTING: Final = timedelta(days=1)
"""How long after the span the end of a request is looked for."""
LISTED_MAX: Final = 20_000
"""Requests told one by one in a statement; the rest is counted."""
REFUSED: Final = LeafKind.INFERENCE_REFUSED_BY_ENVOY
_ASKED: Final = (LeafKind.APPROVAL_REQUESTED, LeafKind.APPROVAL_BREAK_GLASS)
"""Written before an intent is: whoever died or failed right after it has heard of the request all the same."""
_EXCHANGE: Final = tuple(
    f'"kind":"{kind}"'.encode()
    for kind in (LeafKind.INFERENCE_INTENT, LeafKind.INFERENCE_OUTCOME, LeafKind.INFERENCE_UNDELIVERED, *_ASKED)
)
_OTHER: Final = (
    b'"kind":"heartbeat"', b'"kind":"log.', b'"kind":"segment.quarantined"', b'"kind":"inference.refused_by_envoy"',
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Span:
    """Requests that began at ``since`` or later, and before ``until``."""

    since: datetime
    until: datetime

    def holds(self, at: datetime) -> bool:
        """Is ``at`` in it?"""
        return self.since <= at < self.until


@dataclass(slots=True)
class Account:
    """The result. ``explained`` and ``gaps`` are as in the statement; ``classes`` count every request."""

    span: Span
    envoy: int = 0
    audited: int = 0
    orphans: int = 0
    incidents: int = 0
    noted: int = 0
    classes: Counter[tuple[str, str]] = field(default_factory=Counter)
    explained: list[dict[str, Any]] = field(default_factory=list)
    gaps: list[dict[str, Any]] = field(default_factory=list)

    @property
    def is_whole(self) -> bool:
        """Does everything add up?"""
        return not self.orphans and not self.incidents

    def add_hole(self, hole: Hole) -> None:
        """Something is missing that is no request: always an incident."""
        self.incidents += 1
        self.classes[Kind.INCIDENT.value, hole.code] += 1
        self._list(self.gaps, {"code": hole.code, "object": hole.object, "explanation": hole.explanation})

    def add(self, verdict: Verdict, line: Line | None, exchange: Exchange | None) -> None:
        """One request."""
        self.envoy += line is not None
        self.audited += exchange is not None or verdict.is_to_note
        self.classes[verdict.kind.value, verdict.name] += 1
        request_id = exchange.request_id if exchange else line.request_id if line else None
        if verdict.kind is Kind.EXPLAINED:
            told = {"request_id": request_id, "class": verdict.name, "explanation": verdict.explanation}
            self._list(self.explained, told)
        elif verdict.kind is not Kind.RECONCILED:
            self.orphans += verdict.kind is Kind.ORPHAN or line is None or exchange is None
            self.incidents += verdict.kind is Kind.INCIDENT
            place = request_id or (line.place if line else "")
            self._list(self.gaps, {"code": verdict.name, "object": place, "explanation": verdict.explanation})

    def close(self) -> None:
        """Say how many were not listed one by one."""
        told = Counter(one["class"] for one in self.explained) + Counter(one["code"] for one in self.gaps)
        for (_, name), count in sorted(self.classes.items()):
            left = count - told[name]
            if name != "reconciled" and left > 0:
                what = f"{left} more of the class {name} are counted and not listed."
                self.gaps.append({"code": "unlisted", "object": name, "explanation": what})

    @staticmethod
    def _list(where: list[dict[str, Any]], told: dict[str, Any]) -> None:
        if len(where) < LISTED_MAX:
            where.append(told)


def reconcile(
    store: VersionedStore,
    span: Span,
    now: datetime,
    note: Callable[[Line], None],
    noted: Iterable[str],
    progress: Callable[[str, int], None],
) -> Account:
    """Account for every request of ``span``.

    Args:
        store: the bucket.
        span: which requests.
        now: the present.
        note: makes the record of a request that Envoy refused by itself; called once for each that has none.
        noted: places (`Line.place`) of such records that are not in the store yet.
        progress: is told what is being read, and how much of it was.

    Raises:
        EvidenceError: the store or the temporary folder cannot be used.
        IntegrityError: an object is damaged: verify.
    """
    try:
        with TemporaryDirectory(prefix="affidavit-reconcile-") as folder, Ledger(Path(folder) / "ledger") as ledger:
            for place in noted:
                ledger.add_noted(place)
            return _Reconciling(store, span, ledger, note, progress).run(now)
    except OSError as error:
        raise EvidenceError(f"{error.filename or 'temporary folder'}: {error.strerror}") from None


class _Reconciling:
    def __init__(
        self,
        store: VersionedStore,
        span: Span,
        ledger: Ledger,
        note: Callable[[Line], None],
        progress: Callable[[str, int], None],
    ) -> None:
        self._store = store
        self._span = span
        self._ledger = ledger
        self._note = note
        self._progress = progress
        self._listener = Listener()
        self._account = Account(span)

    def run(self, now: datetime) -> Account:
        # Envoy's side first: of what is written meanwhile, a record without its line is the rarer case, and explained.
        lines_until = self._read_lines()
        self._read_leaves()
        self._listener.expect_born(self._store, self._span.since - MARGIN)
        around = self._listener.surroundings(now, lines_until)
        self._judge_named(around)
        self._judge_nameless(around)
        for hole in self._listener.holes:
            self._account.add_hole(hole)
        for replica, beats in self._listener.beats.items():
            until = lines_until.get(replica)
            if until is not None:
                inside = [beat for beat in beats if self._span.holds(beat.at)]
                for hole in miscounts(inside, replica, until, self._ledger):
                    self._account.add_hole(hole)
        self._account.close()
        return self._account

    # Reading -------------------------------------------------------------------------------------------------------

    def _read_lines(self) -> dict[str, datetime]:
        until: dict[str, datetime] = {}
        count = 0
        for line in access.lines(self._store, self._span.since - MARGIN, self._span.until + LASTING):
            if isinstance(line, Hole):
                self._account.add_hole(line)
                continue
            self._ledger.add_line(line)
            until[line.replica] = max(until.get(line.replica, line.ended_at), line.ended_at)
            count += 1
            if count % 10_000 == 0:
                self._progress("lines of Envoy's", count)
        return until

    def _read_leaves(self) -> None:
        count = 0
        for name, version, leaves in read_ahead(self._store, self._wanted()):
            last = b""
            for line in leaves:
                last = line
                count += 1
                if any(one in line for one in _EXCHANGE):
                    self._take(name, line, version.key)
                elif any(one in line for one in _OTHER):
                    self._take(name, line, version.key)
                    last = b""
            if last:
                self._hear(name, parse_leaf(last, version.key), version.key)
            self._progress("records", count)

    def _wanted(self) -> Iterator[tuple[EventsName, Any]]:
        """The span with its margins; and every command's log, however late: a refusal may be on record long after."""
        after, is_before = window(self._span.since - MARGIN, self._span.until + LASTING)
        for name, version in objects(self._store, after):
            if is_before(name) or name.log.replica.endswith("-command"):
                yield name, version

    def _take(self, name: EventsName, line: bytes, key: str) -> None:
        leaf = parse_leaf(line, key)
        try:
            if leaf["kind"] == REFUSED:
                self._ledger.add_noted(f"{leaf['replica']}/{leaf['generation']}/{leaf['offset']}")
            elif leaf["kind"].startswith("inference.") or leaf["kind"] in _ASKED:
                self._ledger.add_leaf(leaf)
            else:
                self._hear(name, leaf, key)
        except (KeyError, TypeError, ValueError, AttributeError):
            raise damaged(key, "a leaf is not of the published form") from None

    def _hear(self, name: EventsName, leaf: dict[str, Any], key: str) -> None:
        try:
            self._listener.hear(name.log, leaf, key)
        except (KeyError, TypeError, ValueError, AttributeError, IndexError):
            raise damaged(key, "a leaf is not of the published form") from None

    # Judging -------------------------------------------------------------------------------------------------------

    def _judge_named(self, around: Surroundings) -> None:
        for count, pair in enumerate(self._ledger.pairs()):
            if count % 10_000 == 0:
                self._progress("requests", count)
            line = _line_of(pair)
            if line is not None:
                self._ledger.add_beginning(line.replica, line.began_at)
            exchange = pair.exchange
            at = line.began_at if line else exchange.began_at if exchange else self._span.until
            if line is None and exchange is not None and exchange.status == "local_reply":
                self._ledger.add_leftover(exchange)
            elif self._span.holds(at):
                self._settle(judge(pair, around), line, exchange)

    def _judge_nameless(self, around: Surroundings) -> None:
        """Envoy gives no id to what it does not route; what the gate has on record of it has an id of the gate's."""
        for line, exchange in paired(self._ledger.nameless(), self._ledger.leftovers()):
            at = line.began_at if line else exchange.began_at if exchange else self._span.until
            if not self._span.holds(at):
                continue
            if line is not None:
                self._settle(judge_end(line, exchange, around), line, exchange)
            elif exchange is not None:
                self._settle(judge(_alone(exchange), around), None, exchange)

    def _settle(self, verdict: Verdict, line: Line | None, exchange: Exchange | None) -> None:
        self._account.add(verdict, line, exchange)
        if verdict.is_to_note and line is not None and not self._ledger.is_noted(line):
            self._note(line)
            self._account.noted += 1


def _line_of(pair: Pair) -> Line | None:
    return next(iter(pair.ends + pair.starts), None)


def _alone(exchange: Exchange) -> Pair:
    return Pair(exchange.request_id, exchange=exchange)


def paired(lines: Iterator[Line], exchanges: Iterator[Exchange]) -> Iterator[tuple[Line | None, Exchange | None]]:
    """Match by replica, Envoy's reason, and time. Both come sorted by these; each is given once."""
    line, exchange = next(lines, None), next(exchanges, None)
    while line is not None or exchange is not None:
        if exchange is None:
            yield line, None
            line = next(lines, None)
        elif line is None:
            yield None, exchange
            exchange = next(exchanges, None)
        else:
            mine, theirs = (line.replica, line.details), (exchange.replica, exchange.details or "")
            if mine < theirs or (mine == theirs and line.ended_at + SLACK < exchange.began_at):
                yield line, None
                line = next(lines, None)
            elif theirs < mine or exchange.began_at < line.began_at - SLACK:
                yield None, exchange
                exchange = next(exchanges, None)
            else:
                yield line, exchange
                line, exchange = next(lines, None), next(exchanges, None)
