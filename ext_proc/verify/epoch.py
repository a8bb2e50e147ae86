"""One epoch: its objects joined to one log, and that log held against its checkpoints and its own first and last words.

The results of the worker processes arrive in order; only the tree's edge and small facts are kept.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

from ext_proc.verify.checkpoints import Checkpoints
from ext_proc.verify.leaves import RECOVERED, Asked
from ext_proc.verify.pool import Done, Task
from ext_proc.verify.tree import Range

if TYPE_CHECKING:
    from ext_proc.verify.approvals import Approvals
    from ext_proc.verify.claims import Claims
    from ext_proc.verify.inventory import LogObjects
    from ext_proc.verify.leaves import LeafFacts
    from ext_proc.verify.packs import PackFacts
    from ext_proc.verify.run import Item, Run

_OPEN_MAX: Final = 200_000
_NAMED_MAX: Final = 100


@dataclass(frozen=True, slots=True)
class Part:
    """One events object as a digest describes it."""

    events: Item
    sha256: str
    size_bytes: int
    pack: Item | None
    pack_sha256: str
    counts: dict[str, int]
    first_at: str
    last_at: str


@dataclass(slots=True)
class Epoch:
    """What is known of an epoch once it was read."""

    log: tuple[str, str]
    origin: str
    size: int = 0
    root_hash: bytes | None = None
    end: str | None = None
    first_at: str = ""
    latest: datetime | None = None
    days: set[str] = field(default_factory=set)
    first_stored: datetime | None = None
    last_stored: datetime | None = None
    roots: dict[int, bytes] = field(default_factory=dict)
    last_at: dict[int, str] = field(default_factory=dict)
    stored: dict[int, datetime] = field(default_factory=dict)
    opening: dict[str, Any] | None = None
    opening_key: str = ""


def chain(run: Run, objects: LogObjects) -> list[Item]:
    """The events objects that make the log, in order; what stands beside them is a fork."""
    chosen: list[Item] = []
    expected = 0
    for item in sorted(objects.events, key=lambda one: (one.name.first, one.version.last_modified, one.key)):
        if item.name.first < expected:
            what = f"It holds records {item.name.first} to {item.name.last}, which another object holds, too."
            run.findings.add("epoch_forked", item.key, what)
            continue
        if item.name.first > expected:
            what = f"The records {expected} to {item.name.first - 1} before this object are not there."
            run.findings.add("sequence_gap", item.key, what)
        chosen.append(item)
        expected = item.name.last + 1
    return chosen


def tasks(run: Run, log: tuple[str, str], objects: LogObjects, wanted: list[int], *, with_payloads: bool) -> list[Task]:
    """What the workers are to read for one epoch."""
    chosen = chain(run, objects)
    packs: dict[tuple[str, str, int, int], Item] = {}
    spans = {(one.name.day, one.name.hour, one.name.first, one.name.last) for one in chosen}
    for item in sorted(objects.payload, key=lambda one: (one.version.last_modified, one.key)):
        span = (item.name.day, item.name.hour, item.name.first, item.name.last)
        if span in packs or (span not in spans and run.is_settled(item.version.last_modified)):
            run.findings.add("object_unexpected", item.key, "No records belong to this pack.")
        else:
            packs[span] = item
    made = []
    limits = (run.policy.tolerance, 3 * run.policy.heartbeat)
    for item in chosen:
        name = item.name
        inside = tuple(one for one in wanted if name.first <= one <= name.last)
        pack = packs.get((name.day, name.hour, name.first, name.last))
        asked = Asked(run.origin(log), name.first, name.last, inside, *limits)
        made.append(Task(item.version, pack.version if pack else None, asked, with_payloads))
    return made


class Join:
    """Takes the workers' results of one epoch, in order."""

    def __init__(
        self,
        run: Run,
        log: tuple[str, str],
        objects: LogObjects,
        claims: Claims,
        approvals: Approvals,
        named: set[int],
    ) -> None:
        self.epoch = Epoch(log, run.origin(log))
        self.parts: list[Part] = []
        self.hashes: dict[int, bytes] = {}
        self._run = run
        self._objects = objects
        self._claims = claims
        self._approvals = approvals
        self._named = named
        self._items = {item.key: item for item in (*objects.events, *objects.payload)}
        self._range: Range | None = Range(0)
        self._open: dict[int, str] = {}
        self._doubted: set[str] = set()
        self._closing: tuple[int, dict[str, Any]] | None = None
        self._recovery: tuple[int, dict[str, Any]] | None = None
        self._interrupted = 0
        self._last_ordinary = -1
        self.checkpoints = Checkpoints(run, self.epoch.origin, objects)

    def take(self, done: Done) -> None:
        """One events object was read."""
        run, item = self._run, self._items[done.task.events.key]
        if done.leaf is None:
            run.missing(item.key)
            self._range = None
            return
        leaf = done.leaf
        run.seen(item, done.sha256, done.lock)
        self._claims.take_policies(leaf.policies, item, done.lock)
        for code, what in leaf.faults:
            run.findings.add(code, item.key, what)
        pack = self._take_pack(done, leaf)
        self._take_times(item, leaf)
        self._take_exchanges(item, leaf)
        for sequence, told in leaf.told:
            self._take_told(item, sequence, told)
        self._grow(item, leaf)
        self.hashes.update(leaf.hashes)
        self.parts.append(
            Part(
                item, done.sha256, done.size_bytes, pack, done.pack.sha256 if done.pack else "",
                leaf.counts, leaf.first_at, leaf.last_at,
            )
        )  # fmt: skip
        run.leaves += leaf.leaves

    def _take_pack(self, done: Done, leaf: LeafFacts) -> Item | None:
        if done.task.pack is None:
            if leaf.payloads:
                what = f"The records commit to {leaf.payloads} ciphertexts, and there is no pack that holds them."
                self._run.findings.add("payload_missing", done.task.events.key, what)
            return None
        item = self._items[done.task.pack.key]
        facts: PackFacts | None = done.pack
        if facts is None or facts.is_absent:
            self._run.missing(item.key)
            return None
        self._run.seen(item, facts.sha256, facts.lock)
        for code, what in facts.faults:
            self._run.findings.add(code, item.key, what)
        return item

    def _take_times(self, item: Item, leaf: LeafFacts) -> None:
        run, epoch, stored = self._run, self.epoch, item.version.last_modified
        if leaf.first_at and (leaf.first_at[:10], leaf.first_at[11:13]) != (item.name.day, item.name.hour):
            what = f"Its first record is of {leaf.first_at}, which is not the hour that its name says."
            run.findings.add("leaf_misplaced", item.key, what)
        if leaf.earliest is not None and epoch.latest is None:
            self._compare_birth(item, leaf.earliest)
        elif leaf.earliest is not None and epoch.latest is not None:
            gap = leaf.earliest - epoch.latest
            if -gap > run.policy.tolerance:
                what = f"It begins at {leaf.earliest}, but the records before it end at {epoch.latest}."
                run.findings.add("clock_backwards", item.key, what)
            elif gap > 3 * run.policy.heartbeat and leaf.first_kind != RECOVERED:
                what = f"Nothing was recorded for {gap} before it, although the process lived."
                run.findings.add("heartbeat_missing", item.key, what)
        if leaf.latest is not None:
            epoch.latest = max(leaf.latest, epoch.latest or leaf.latest)
            if leaf.latest > stored + run.policy.tolerance:
                what = f"It holds a record of {leaf.latest}, but the store had it by {stored}."
                run.findings.add("clock_backwards", item.key, what)
        epoch.first_at = epoch.first_at or leaf.first_at
        epoch.days |= leaf.days
        epoch.first_stored = min(stored, epoch.first_stored or stored)
        epoch.last_stored = max(stored, epoch.last_stored or stored)

    def _compare_birth(self, item: Item, earliest: datetime) -> None:
        """The epoch's name says when it began."""
        try:
            born = datetime.strptime(self.epoch.log[1].partition("-")[0], "%Y%m%dT%H%M%S%f").replace(tzinfo=UTC)
        except ValueError:
            born = earliest
        if abs(born - earliest) > self._run.policy.tolerance:
            what = f"The log was born at {born} by its name, and its first record says {earliest}."
            self._run.findings.add("clock_backwards", item.key, what)

    def _take_exchanges(self, item: Item, leaf: LeafFacts) -> None:
        for sequence, named, exchange_id in leaf.loose_outcomes:
            if self._open.pop(named, None) != exchange_id:
                what = f"Record {sequence} is the outcome of an intent in record {named}, which is not there."
                self._run.findings.add("intent_missing", item.key, what)
        if len(self._open) < _OPEN_MAX:
            self._open.update(leaf.open_intents)
        if len(self._doubted) < _OPEN_MAX:
            self._doubted.update(leaf.doubted)
        self._approvals.take(self.epoch.origin, item.key, leaf.approvals, leaf.ends, leaf.doubted)
        self._last_ordinary = max(self._last_ordinary, leaf.last_ordinary)

    def _take_told(self, item: Item, sequence: int, told: dict[str, Any]) -> None:
        kind = told["kind"]
        if kind == "log.open":
            if sequence:
                what = f"Record {sequence} opens a log that is open already."
                self._run.findings.add("leaf_misplaced", item.key, what)
            else:
                self.epoch.opening, self.epoch.opening_key = told, item.key
        elif kind == "log.close":
            self._closing = (sequence, told)
        elif kind == RECOVERED:
            if self._recovery is not None:
                self._run.findings.add("leaf_misplaced", item.key, "The log was recovered twice.")
            self._recovery = (sequence, told)
        else:
            self._claims.take(self.epoch.log, item.key, sequence, told)

    def _grow(self, item: Item, leaf: LeafFacts) -> None:
        epoch, end = self.epoch, item.name.last + 1
        is_whole = leaf.leaves == end - item.name.first
        if self._range is not None and self._range.end == item.name.first and is_whole:
            self._range.add_range(leaf.nodes)
            root = self._range.root_hash()
            epoch.root_hash = root
            self.checkpoints.compare(end, root)
            if end in self._named:
                epoch.roots[end] = root
                epoch.last_at[end] = leaf.last_at
        else:
            self._range, epoch.root_hash = None, None
            self.checkpoints.skip(end)
        epoch.stored[end] = item.version.last_modified
        epoch.size = end

    def finish(self) -> Epoch:
        """All objects were read: how did the log begin and end, and is all of it signed?"""
        run, epoch = self._run, self.epoch
        if epoch.opening is None and epoch.size:
            run.findings.add("leaf_misplaced", epoch.origin, "The first record does not open the log.")
        self._finish_end()
        self.checkpoints.finish(epoch)
        if epoch.end is not None:
            left = (one for one in self._open.items() if one[1] not in self._doubted)
            for sequence, exchange_id in islice(left, _NAMED_MAX):
                what = f"The exchange {exchange_id} (record {sequence}) has no outcome, although the log has ended."
                run.findings.add("outcome_missing", epoch.origin, what)
        elif epoch.latest is not None and run.now - epoch.latest > 2 * run.policy.heartbeat + run.policy.tolerance:
            what = f"Its last record is of {epoch.latest}, and it does not end."
            run.findings.add("epoch_unended", epoch.origin, what)
        epoch.stored = {}
        return epoch

    def _finish_end(self) -> None:
        run, epoch = self._run, self.epoch
        if self._closing is not None:
            sequence, told = self._closing
            if sequence != epoch.size - 1:
                run.findings.add("leaf_misplaced", epoch.origin, f"Records follow record {sequence}, which closes it.")
            elif told.get("leaves") != epoch.size:
                what = f"It closes with {told.get('leaves')!r} records and holds {epoch.size}."
                run.findings.add("sequence_gap", epoch.origin, what)
            else:
                epoch.end = "close"
        if self._recovery is not None:
            sequence, told = self._recovery
            if self._last_ordinary > sequence or self._closing is not None:
                run.findings.add("leaf_misplaced", epoch.origin, f"Records follow record {sequence}, its recovery.")
            elif (named := _named(told)) != epoch.size - sequence - 1:
                what = f"Its recovery names {named} exchanges that were interrupted or whose answer may not have been "
                what += f"given; {epoch.size - sequence - 1} records follow."
                run.findings.add("outcome_missing", epoch.origin, what)
                epoch.end = "recovered"
            else:
                epoch.end = "recovered"


def _named(recovery: dict[str, Any]) -> int:
    """How many records a recovery says that it wrote: exchanges without an end, parts, and answers nobody knows of."""
    told = (recovery.get("interrupted"), recovery.get("parts"), recovery.get("undelivered"))
    return sum(one for one in told if type(one) is int)
