"""One events object, read from end to end: what a worker process does. Pure but for the stream that it reads.

Every leaf is held against the format and its place, and hashed into the tree; what goes back to the parent is the
object's range of the tree and a few facts, never the leaves. An attacker chooses every byte: the number of lines, of
faults and of facts is limited.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

from ext_proc.verify import approvals
from ext_proc.verify.approvals import Told, is_plain, told_of, was_let_on
from ext_proc.verify.canonical import proven
from ext_proc.verify.lines import LEAF_MAX_BYTES, BadObject, batches
from ext_proc.verify.shapes import INTENT, OUTCOME, Shapes, outlines_of
from ext_proc.verify.tree import LEAF_HASH, Node, Range

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ext_proc.verify.source import Opened

_FAULTS_MAX: Final = 50
_RARE_MAX: Final = 20_000
_OPEN_MAX: Final = 100_000
_COMMITMENTS_MAX: Final = 1_000_000

RECOVERED: Final = "log.recovered"
PART: Final = "inference.part"
ACTIVATED: Final = "policy.activated"
KEPT: Final = "policy.kept"
KINDS: Final = (
    "log.open", "log.close", RECOVERED, "log.lost", "heartbeat", INTENT, PART, OUTCOME, "inference.undelivered",
    "effect.tool_call", *approvals.KINDS, "approval.viewed",
    "inference.refused_by_envoy", ACTIVATED, KEPT, "policy.refused",
    "policy.shadow_differed",
    "config.changed", "epoch.born", "epoch.ended", "access.shipped", "digest.made", "worm.canary",
    "segment.quarantined", "reconcile.result", "rollup.made", "key.rotated", "erasure.requested",
    "erasure.completed", "erasure.refused", "legalhold.placed", "legalhold.released", "access.read", "access.span_read",
    "access.refused",
)  # fmt: skip
_TOLD: Final = frozenset(
    {
        "log.open", "log.close", RECOVERED, "log.lost", "epoch.born", "epoch.ended", "access.shipped", "digest.made",
        "worm.canary", "reconcile.result", "rollup.made", "key.rotated", ACTIVATED, KEPT,
    }
)  # fmt: skip
"""Kinds that say something about other objects or the log itself: the parent must see them."""
_DIGEST: Final = re.compile(rb"[0-9a-f]{64}")
_DECIDED_BY: Final = b'"bundle_digest":"'
_DECIDED: Final = re.compile(_DECIDED_BY + rb"([0-9a-f]{64})\"")
_POLICIES_MAX: Final = 1000
_PLAIN_WORDS: Final = 6
"""So many groups has a leaf without payloads; see `Shapes`."""
_NO_WORDS: Final = (b"",) * _PLAIN_WORDS

_DOUBTED: Final = approvals.DOUBTED.encode()

_Place = tuple[str, str, str, bytes, bytes, bool]
"""Of one leaf: kind, ``at``, exchange, number of its intent (as written; empty: not an outcome), its status, is it of
the living process."""


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
    approvals: list[Told] = field(default_factory=list)
    ends: dict[int, bool] = field(default_factory=dict)
    doubted: list[str] = field(default_factory=list)
    last_ordinary: int = -1
    hashes: dict[int, bytes] = field(default_factory=dict)
    faults: list[tuple[str, str]] = field(default_factory=list)
    payloads: int = 0
    payloads_sha256: str = ""
    policies: set[str] = field(default_factory=set)


class Reading:
    """The state of one reading.

    Args:
        asked: what to look for.
        shapes: what this process has learnt so far.
        commitments: also collect the digests themselves, not only their hash (when they did not match).
    """

    def __init__(self, asked: Asked, shapes: Shapes, commitments: set[str] | None = None) -> None:
        self.asked = asked
        self.facts = LeafFacts(counts=dict.fromkeys(KINDS, 0))
        self._shapes = shapes
        self._origin = asked.origin.encode()
        self._range = Range(asked.first)
        self._commitments = commitments
        self._payloads = hashlib.sha256()
        self._wanted = set(asked.wanted)
        self._latest_at = ""
        self._decided_by = _DECIDED_BY
        self._is_patient = asked.silence >= timedelta(minutes=1)
        """Within one minute there is no silence to look for."""

    def run(self, opened: Opened) -> LeafFacts:
        """Read everything."""
        facts = self.facts
        try:
            for text in batches(opened):
                left = self.asked.last + 1 - self.asked.first - facts.leaves
                lines, outlines = text.split(b"\n"), outlines_of(text)
                self._take_policies(text)
                self._take(lines[:left], outlines[:left])
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
        facts.latest = datetime.fromisoformat(self._latest_at) if self._latest_at else None
        facts.nodes = self._range.nodes
        facts.payloads_sha256 = self._payloads.hexdigest()
        facts.counts = {kind: count for kind, count in facts.counts.items() if count}
        return facts

    def _take_policies(self, text: bytes) -> None:
        """Which policies decided. Hundreds of records name the same one: they are counted, which costs next to nothing.

        (In a text of a leaf a quote has a backslash before it: nobody's words look like this.)
        """
        named = text.count(_DECIDED_BY)
        if named and (self._decided_by == _DECIDED_BY or named != text.count(self._decided_by)):
            found, policies = _DECIDED.findall(text), self.facts.policies
            policies.update(one.decode() for one in islice(set(found), _POLICIES_MAX - len(policies)))
            self._decided_by = _DECIDED_BY + found[-1] + b'"' if found else _DECIDED_BY

    def _take(self, lines: list[bytes], outlines: list[bytes]) -> None:  # noqa: C901, PLR0912 - calls cost here
        """The hot loop: everything that is done for each leaf. What was learnt is matched; all else is parsed."""
        facts, origin, begin, learnt = self.facts, self._origin, LEAF_HASH.copy, self._shapes.matches
        counts, intents, latest_at, minute = facts.counts, facts.open_intents, self._latest_at, ""
        hashes: list[bytes] = []
        for sequence, (line, outline) in enumerate(zip(lines, outlines, strict=True), self._range.end):
            hashed = begin()
            hashed.update(line)
            hashes.append(hashed.digest())
            try:
                match = learnt.get(outline)
                found = match(line) if match else None
                words = found.groups() if found else _NO_WORDS
                if words[3] == origin and words[-1] == b"%d" % sequence and len(line) <= LEAF_MAX_BYTES:
                    told_at, exchange_id, intent = words[0].decode(), words[1].decode(), words[2]
                    kind = OUTCOME if intent else INTENT
                    status = words[4]
                    is_ordinary = status != b"interrupted"
                    if len(words) > _PLAIN_WORDS:
                        self._commit(words[5:-1])
                else:
                    kind, told_at, exchange_id, intent, status, is_ordinary = self._parsed(line, outline, sequence)
                if told_at[:17] != minute or told_at < latest_at:  # else there is nothing to complain of
                    self._check_time(sequence, kind, told_at, latest_at)
                    minute = told_at[:17] if self._is_patient else ""
                if told_at > latest_at:  # noqa: PLR1730 - a call costs here
                    latest_at = told_at
                counts[kind] += 1
                if is_ordinary:
                    facts.last_ordinary = sequence
                if kind == INTENT:
                    if len(intents) < _OPEN_MAX:
                        intents[sequence] = exchange_id
                elif intent and intent != b"null" and intents.pop(int(intent), None) == exchange_id:
                    if facts.approvals:
                        self._end(int(intent), line)
                elif intent:
                    self._end_elsewhere(sequence, intent, exchange_id, line, is_doubted=status == _DOUBTED)
                facts.last_at = told_at
            except (ValueError, KeyError, TypeError, AttributeError, IndexError):
                facts.faults.append(("leaf_invalid", f"Record {sequence} is not a valid record."))
                if len(facts.faults) > _FAULTS_MAX:
                    break
        self._latest_at = latest_at
        facts.leaves += len(hashes)
        for index in self._wanted.intersection(range(self._range.end, self._range.end + len(hashes))):
            facts.hashes[index] = hashes[index - self._range.end]
        self._range.add_leaves(hashes)

    def _check_time(self, sequence: int, kind: str, told_at: str, latest_at: str) -> None:
        """The first leaf, the first of a minute, or one whose time is before that of another.

        Raises:
            ValueError: there is no such time.
        """
        facts, at = self.facts, datetime.fromisoformat(told_at)
        facts.days.add(told_at[:10])
        if not latest_at:
            facts.first_at, facts.first_kind, facts.earliest = told_at, kind, at
            return
        gap = at - datetime.fromisoformat(latest_at)
        if gap > self.asked.silence and kind != RECOVERED:
            what = f"Nothing was recorded for {gap} before record {sequence}, although the process lived."
            facts.faults.append(("heartbeat_missing", what))
        elif -gap > self.asked.tolerance:
            what = f"Record {sequence} says {told_at}, but a record before it says {latest_at}."
            facts.faults.append(("clock_backwards", what))

    def _parsed(self, line: bytes, outline: bytes, sequence: int) -> _Place:
        """The long way; what is proven so may become a pattern.

        Raises:
            ValueError, KeyError, TypeError, AttributeError: the leaf is not valid.
        """
        leaf = proven(line)
        kind = leaf["kind"]
        if kind not in self.facts.counts:
            raise ValueError
        if leaf["sequence"] != sequence or leaf["origin"] != self.asked.origin or type(leaf["sequence"]) is not int:
            self._misplaced(leaf, sequence)
        if kind not in (INTENT, PART, OUTCOME):
            self._tell(sequence, leaf)
            if "payloads" in leaf:  # what approvers and callers wrote
                self._commit(_digests_of(leaf))
            return kind, leaf["at"], "", b"", b"", kind in approvals.KINDS
        if not isinstance(leaf["exchange_id"], str):
            raise TypeError
        intent, status = b"", ""
        if kind == OUTCOME:
            intent, status = self._intent_of(leaf, sequence), leaf["outcome"]["status"]
        self._commit(_digests_of(leaf))
        if kind == PART:  # a few an exchange, and recovery writes them too
            return kind, leaf["at"], "", b"", b"", False
        if is_plain(leaf):
            self._shapes.saw(outline, line, leaf)
        else:
            self._tell(sequence, leaf)
        return kind, leaf["at"], leaf["exchange_id"], intent, status.encode(), status != "interrupted"

    def _intent_of(self, leaf: dict[str, Any], sequence: int) -> bytes:
        """The number of an outcome's intent, as written."""
        named = leaf["intent_sequence"]
        if named is not None and type(named) is not int:
            raise ValueError
        if named is None and "forwarded" in leaf.get("time", ()):
            what = f"Record {sequence} is the outcome of a call that went to the model, and names no intent."
            self.facts.faults.append(("intent_missing", what))
        return b"null" if named is None else b"%d" % named

    def _commit(self, digests: Sequence[bytes]) -> None:
        self.facts.payloads += len(digests)
        self._payloads.update(bytes.fromhex(b"".join(digests).decode()))
        if self._commitments is not None and len(self._commitments) < _COMMITMENTS_MAX:
            self._commitments.update(one.decode() for one in digests)

    def _loose(self, sequence: int, named: int, exchange_id: str) -> None:
        if len(self.facts.loose_outcomes) >= _OPEN_MAX:
            raise ValueError
        self.facts.loose_outcomes.append((sequence, named, exchange_id))

    def _end(self, intent: int, line: bytes) -> None:
        """The outcome of an intent that may have needed people: did the call go on?"""
        self.facts.ends[intent] = was_let_on(json.loads(line))

    def _end_elsewhere(self, sequence: int, intent: bytes, exchange_id: str, line: bytes, *, is_doubted: bool) -> None:
        """An outcome whose intent is not open in this object: in another one, or nowhere.

        A record that was not durable in time may become so afterwards. Then an ``unrecorded`` outcome is the last word
        on an exchange that has an intent it does not name, or an outcome already.
        """
        if is_doubted:
            if len(self.facts.doubted) >= _OPEN_MAX:
                raise ValueError
            self.facts.doubted.append(exchange_id)
        elif intent != b"null":
            self._loose(sequence, int(intent), exchange_id)
        if intent != b"null":
            self._end(int(intent), line)

    def _tell(self, sequence: int, leaf: dict[str, Any]) -> None:
        """What must be held against what other leaves say. An intent is told only if it needed people."""
        if leaf["kind"] in (INTENT, *approvals.KINDS):
            if len(self.facts.approvals) >= _OPEN_MAX:
                raise ValueError
            told = told_of(sequence, leaf)
            if told is not None:
                self.facts.approvals.append(told)
        elif leaf["kind"] in _TOLD:
            if len(self.facts.told) >= _RARE_MAX:
                raise ValueError
            self.facts.told.append((sequence, leaf))

    def _misplaced(self, leaf: dict[str, Any], sequence: int) -> None:
        what = f"At place {sequence} stands a record that says it is number {leaf['sequence']!r} of {leaf['origin']!r}."
        self.facts.faults.append(("leaf_misplaced", what))


def _digests_of(leaf: dict[str, Any]) -> list[bytes]:
    """What a leaf commits to.

    Raises:
        ValueError, KeyError, TypeError, AttributeError: they are not digests.
    """
    digests = [one["ciphertext_sha256"].encode() for one in leaf["payloads"]]
    if not all(map(_DIGEST.fullmatch, digests)):
        raise ValueError
    return digests
