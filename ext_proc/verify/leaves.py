"""One events object, read from end to end: what a worker process does. Pure but for the stream that it reads.

Every leaf is held against the format and its place, and hashed into the tree; what goes back to the parent is the
object's range of the tree and a few facts, never the leaves. An attacker chooses every byte: the window and the output
of zstd, the length of a line, the number of lines and of faults are limited.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

import orjson
import zstandard

from ext_proc.verify.tree import LEAF_HASH, Node, Range

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ext_proc.verify.source import Opened

LEAF_MAX_BYTES: Final = 16 * 1024
WINDOW_MAX_BYTES: Final = 1 << 23
_STEP_BYTES: Final = 1024
"""Compressed bytes at a time: the worst zstd can make of them is 32 MiB."""
_BATCH_BYTES: Final = 1 << 18
_FAULTS_MAX: Final = 50
_RARE_MAX: Final = 20_000
_OPEN_MAX: Final = 100_000

INTENT: Final = "inference.intent"
OUTCOME: Final = "inference.outcome"
RECOVERED: Final = "log.recovered"
KINDS: Final = (
    "log.open", "log.close", RECOVERED, "log.lost", "heartbeat", INTENT, OUTCOME, "inference.undelivered",
    "inference.refused_by_envoy",
    "config.changed", "epoch.born", "epoch.ended", "access.shipped", "digest.made", "worm.canary",
    "segment.quarantined", "reconcile.result", "rollup.made", "key.rotated", "erasure.requested",
    "erasure.completed", "erasure.refused", "legalhold.placed", "legalhold.released", "access.read",
)  # fmt: skip
_TOLD: Final = frozenset(
    {
        "log.open", "log.close", RECOVERED, "log.lost", "epoch.born", "epoch.ended", "access.shipped", "digest.made",
        "worm.canary", "reconcile.result", "rollup.made", "key.rotated",
    }
)  # fmt: skip
"""Kinds that say something about other objects or the log itself: the parent must see them."""
_CANONICAL: Final = orjson.OPT_SORT_KEYS | orjson.OPT_STRICT_INTEGER
_DIGEST: Final = re.compile(r"[0-9a-f]{64}")
# A float is a number with a point or an exponent: without digits and most letters it shows as one of these. (The kept u
# and s tell true and false from an exponent, the slash an address from a point.) A false alarm costs time, no more.
_DROPPED: Final = bytes(set(range(256)) - set(b'":[,./eus'))
_MAPPED: Final = bytes.maketrans(b"[.", b",e")
_FLOATS: Final = (b'":e', b",e")


@dataclass(frozen=True, slots=True)
class Asked:
    """What to look for in one events object.

    Args:
        origin: of its log.
        first: sequence of the first leaf, as the key says.
        last: of the last.
        wanted: sequences whose leaf hashes somebody asks for (receipts).
        tolerance: how far a clock may go back.
        silence: the longest time without a leaf.
    """

    origin: str
    first: int
    last: int
    wanted: tuple[int, ...]
    tolerance: timedelta
    silence: timedelta


@dataclass(slots=True)
class LeafFacts:
    """What an events object says, without its leaves."""

    leaves: int = 0
    nodes: list[Node] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)
    first_at: str = ""
    last_at: str = ""
    earliest: datetime | None = None
    latest: datetime | None = None
    days: set[str] = field(default_factory=set)
    told: list[tuple[int, dict[str, Any]]] = field(default_factory=list)
    first_kind: str = ""
    open_intents: dict[int, str] = field(default_factory=dict)
    loose_outcomes: list[tuple[int, int, str]] = field(default_factory=list)
    last_ordinary: int = -1
    hashes: dict[int, bytes] = field(default_factory=dict)
    faults: list[tuple[str, str]] = field(default_factory=list)
    payloads: int = 0
    payloads_sha256: str = ""


class BadObject(Exception):
    """Nothing more can be read from it; says why."""


class Reading:
    """The state of one reading.

    Args:
        asked: what to look for.
        commitments: also collect the digests themselves, not only their hash (when they did not match).
    """

    def __init__(self, asked: Asked, commitments: set[str] | None = None) -> None:
        self.asked = asked
        self.facts = LeafFacts(counts=dict.fromkeys(KINDS, 0))
        self._range = Range(asked.first)
        self._commitments = commitments
        self._payloads = hashlib.sha256()
        self._wanted = set(asked.wanted)

    def run(self, opened: Opened) -> LeafFacts:
        """Read everything."""
        facts = self.facts
        try:
            for lines in batches(opened):
                left = self.asked.last + 1 - self.asked.first - facts.leaves
                self._take(lines[:left])
                if len(lines) > left:
                    raise BadObject("It holds more records than its name says.")
                if len(facts.faults) > _FAULTS_MAX:
                    raise BadObject("It is full of records that are not valid; the rest was not read.")
        except BadObject as error:
            facts.faults.append(("object_unreadable", str(error)))
        expected = self.asked.last - self.asked.first + 1
        if facts.leaves != expected:
            what = f"The object's name promises {expected} records and it holds {facts.leaves}."
            facts.faults.append(("sequence_gap", what))
        facts.nodes = self._range.nodes
        facts.payloads_sha256 = self._payloads.hexdigest()
        facts.counts = {kind: count for kind, count in facts.counts.items() if count}
        return facts

    def _take(self, lines: list[bytes]) -> None:  # noqa: C901, PLR0912, PLR0915 - calls cost here
        """The hot loop: everything that is done for each leaf."""
        facts, asked = self.facts, self.asked
        sequence = asked.first + facts.leaves
        loads, dumps, instant = orjson.loads, orjson.dumps, datetime.fromisoformat
        origin, counts, latest = asked.origin, facts.counts, facts.latest
        limits = (asked.tolerance, asked.silence)
        hashes: list[bytes] = []
        day = facts.last_at[:10]
        bones = b"\n".join(lines).translate(_MAPPED, _DROPPED)
        has_floats = _FLOATS[0] in bones or _FLOATS[1] in bones
        begun, intents, append = LEAF_HASH.copy, facts.open_intents, hashes.append
        for line in lines:
            hashed = begun()
            hashed.update(line)
            append(hashed.digest())
            try:
                leaf = loads(line)
                kind, told_at = leaf["kind"], leaf["at"]
                at = instant(told_at)
                if (
                    dumps(leaf, None, _CANONICAL) != line
                    or leaf["schema"] != "affidavit/v1"
                    or told_at[26:] != "Z"
                    or len(line) > LEAF_MAX_BYTES
                    or (has_floats and _holds_float(leaf))
                ):
                    raise ValueError
                counts[kind] += 1
                if leaf["sequence"] != sequence or leaf["origin"] != origin or type(leaf["sequence"]) is not int:
                    self._misplaced(leaf, sequence)
                if kind == INTENT:
                    if len(intents) < _OPEN_MAX:
                        intents[sequence] = leaf["exchange_id"]
                    facts.last_ordinary = sequence
                    for payload in leaf["payloads"]:
                        self._commit(payload["ciphertext_sha256"])
                elif kind == OUTCOME:
                    self._outcome(sequence, leaf)
                elif kind in _TOLD:
                    self._tell(sequence, leaf)
                if latest is None:
                    self._first(leaf, kind, at)
                    latest = at
                elif at >= latest:
                    if at - latest > limits[1] and kind != RECOVERED:
                        self._silent(sequence, latest, at)
                    latest = at
                elif latest - at > limits[0]:
                    self._back(sequence, latest, at)
                if told_at[:10] != day:
                    day = told_at[:10]
                    if told_at[4] + told_at[7] + told_at[10] != "--T":
                        raise ValueError
                    facts.days.add(day)
                facts.last_at = told_at
            except (ValueError, KeyError, TypeError, AttributeError, IndexError):
                facts.faults.append(("leaf_invalid", f"Record {sequence} is not a valid record."))
                if len(facts.faults) > _FAULTS_MAX:
                    break
            sequence += 1
        facts.latest = latest
        facts.leaves += len(hashes)
        self._range.add_leaves(hashes)
        if self._wanted:
            start = sequence - len(hashes)
            for index in self._wanted.intersection(range(start, start + len(hashes))):
                facts.hashes[index] = hashes[index - start]

    def _first(self, leaf: dict[str, Any], kind: str, at: datetime) -> None:
        self.facts.first_at, self.facts.first_kind, self.facts.earliest = leaf["at"], kind, at

    def _misplaced(self, leaf: dict[str, Any], sequence: int) -> None:
        what = f"At place {sequence} stands a record that says it is number {leaf['sequence']!r} of {leaf['origin']!r}."
        self.facts.faults.append(("leaf_misplaced", what))

    def _silent(self, sequence: int, before: datetime, at: datetime) -> None:
        what = f"Nothing was recorded for {at - before} before record {sequence}, although the process lived."
        self.facts.faults.append(("heartbeat_missing", what))

    def _back(self, sequence: int, before: datetime, at: datetime) -> None:
        what = f"Record {sequence} says {at}, but a record before it says {before}."
        self.facts.faults.append(("clock_backwards", what))

    def _outcome(self, sequence: int, leaf: dict[str, Any]) -> None:
        facts, exchange_id = self.facts, leaf["exchange_id"]
        named = leaf["intent_sequence"]
        if named is not None and facts.open_intents.pop(named, None) != exchange_id:
            if type(named) is not int or len(facts.loose_outcomes) >= _OPEN_MAX:
                raise ValueError
            facts.loose_outcomes.append((sequence, named, str(exchange_id)))
        if leaf["outcome"]["status"] != "interrupted":
            facts.last_ordinary = sequence
        for payload in leaf["payloads"]:
            self._commit(payload["ciphertext_sha256"])

    def _commit(self, digest: str) -> None:
        if not _DIGEST.fullmatch(digest):
            raise ValueError
        self.facts.payloads += 1
        self._payloads.update(bytes.fromhex(digest))
        if self._commitments is not None and len(self._commitments) < 10 * _OPEN_MAX:
            self._commitments.add(digest)

    def _tell(self, sequence: int, leaf: dict[str, Any]) -> None:
        if len(self.facts.told) >= _RARE_MAX:
            raise ValueError
        self.facts.told.append((sequence, leaf))


def batches(opened: Opened) -> Iterator[list[bytes]]:
    """The lines of an events object, some hundred at a time.

    Raises:
        BadObject: it is not zstd of lines.
    """
    pending = b""
    parts: list[bytes] = []
    size = 0
    for part in inflated(opened):
        parts.append(part)
        size += len(part)
        if size >= _BATCH_BYTES:
            *lines, pending = b"".join([pending, *parts]).split(b"\n")
            parts, size = [], 0
            if len(pending) > LEAF_MAX_BYTES:
                raise BadObject("It holds a record that is far too long.")
            yield lines
    *lines, pending = b"".join([pending, *parts]).split(b"\n")
    if lines:
        yield lines
    if pending:
        raise BadObject("Its last record breaks off.")


def inflated(opened: Opened) -> Iterator[bytes]:
    """The bytes in an object's zstd frames.

    Raises:
        BadObject: they are not whole, or need more memory than they may.
    """
    decompressor = zstandard.ZstdDecompressor(max_window_size=WINDOW_MAX_BYTES)
    frame = None
    while chunk := opened.read(1 << 16):
        view = memoryview(chunk)
        while view:
            if frame is None:
                frame = decompressor.decompressobj()
            piece, view = view[:_STEP_BYTES], view[_STEP_BYTES:]
            try:
                yield frame.decompress(piece)
            except zstandard.ZstdError:
                raise BadObject("It cannot be decompressed.") from None
            if frame.eof:
                rest = len(frame.unused_data)
                view = memoryview(chunk)[len(chunk) - len(view) - rest :]
                frame = None
    if frame is not None:
        raise BadObject("It breaks off in the middle.")


def _holds_float(value: Any) -> bool:
    waiting = [value]
    while waiting:
        one = waiting.pop()
        if isinstance(one, float):
            return True
        if isinstance(one, dict):
            waiting.extend(one.values())
        elif isinstance(one, list):
            waiting.extend(one)
    return False
