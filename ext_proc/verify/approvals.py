"""What passed although people had to agree, held against what these people said, in whichever log that stands.

Of each log the worker processes report the calls that needed people (`Passed`), what they were asked (`Asked`), what
they said (`Said`, `Refused`) and the emergencies (`Emergency`); `Approvals` joins them when all logs were read. What
must hold of every call that passed:

 1. It names an approval, unless an emergency of that caller was on record before it, for this one exchange.
 2. People were asked, on record, about that very call, and for so many of them.
 3. Each word that it names stands where it says, in a log of people's words, of that person, about that very call.
 4. So many different people agreed, nobody among them denied it, none is the caller, and none was told that theirs
    came too late.
 5. They spoke before it passed, in time, and not so long before that it counted no more.
 6. No other call passed with the same approval.

Whoever holds the signing key can make all these records up; what they cannot is to contradict them.
"""

from __future__ import annotations

import hashlib
import json
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from ext_proc.verify.shapes import OUTCOME
from ext_proc.verify.source import instant

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import datetime

    from ext_proc.verify.run import Run

_KEPT_MAX: Final = 1_000_000
"""Of each kind. People say less than that in a log's life; whoever holds a signing key could say more."""
_WORDS_MAX: Final = 16
"""Words that an approval names (``docs/record-format.md``, section 6)."""
_SECONDS_MAX: Final = 10**9
REQUESTED: Final = "approval.requested"
RESOLVED: Final = "approval.resolved"
REFUSED: Final = "approval.refused"
BREAK_GLASS: Final = "approval.break_glass"
KINDS: Final = (REQUESTED, RESOLVED, REFUSED, BREAK_GLASS)
DOUBTED: Final = "unrecorded"
"""The status of an exchange of which a record was not durable in time: it was refused, whatever another one says."""
_NOT_LET_ON: Final = ("abandoned", "local_reply", DOUBTED)
_OVER: Final = frozenset({"already_approved", "already_denied", "already_used", "expired", "withdrawn", "abandoned"})
"""Codes that are said only to those whose word did not count (``docs/approvals.md``)."""
_PEOPLES_LOGS: Final = "command"
"""The ``role`` of logs in which consoles and commands write."""


class Word(NamedTuple):
    """What an intent says that a person said: action, keyed reference, and the leaf's place."""

    action: str
    person: str
    origin: str
    sequence: int


class Passed(NamedTuple):
    """An intent that needed people. ``hold_id`` is empty where it names no approval that lets it pass.

    ``about``: a digest of who asked, for what, under which policy.
    """

    sequence: int
    at: datetime
    exchange_id: str
    caller: str
    is_emergency: bool
    hold_id: str
    binding: str
    needed: int
    valid_until: datetime
    words: tuple[Word, ...]
    about: bytes


class Asked(NamedTuple):
    """People were asked. ``about`` as in `Passed`; ``valid``: how long what they say counts."""

    hold_id: str
    binding: str
    needed: int
    valid: timedelta
    expires: datetime
    about: bytes


class Said(NamedTuple):
    """A person's word in its own leaf. ``mark`` is what a `Word` about it comes to."""

    at: datetime
    mark: bytes


class Refused(NamedTuple):
    """A person was told that their word came too late."""

    sequence: int
    who: str


class Emergency(NamedTuple):
    """A call is about to pass without the people who would have to agree."""

    exchange_id: str
    caller: str


Told = Passed | Asked | Said | Refused | Emergency


def is_plain(leaf: dict[str, Any]) -> bool:
    """Is there nothing about this intent, or outcome, that other records must bear out?

    Raises:
        KeyError, TypeError: an intent does not say what the policy said.
    """
    if "approval" in leaf:
        return False
    if "policy" not in leaf and leaf["kind"] == OUTCOME:
        return True
    policy = leaf["policy"]
    return policy["approval_required"] is False and "break_glass" not in policy


def told_of(sequence: int, leaf: dict[str, Any]) -> Told | None:
    """What a leaf says: of `KINDS`, or an intent that is not plain.

    Raises:
        ValueError, KeyError, TypeError: it is not in the published form.
    """
    kind = leaf["kind"]
    if kind == BREAK_GLASS:
        return Emergency(_text(leaf["exchange_id"]), _person(leaf))
    if kind == RESOLVED:
        word = Word(_text(leaf["action"]), _person(leaf), leaf["origin"], sequence)
        return Said(instant(leaf["at"]), _mark(word, _text(leaf["hold_id"]), _text(leaf["binding_sha256"])))
    if kind == REFUSED:
        is_late = leaf["code"] in _OVER
        return Refused(sequence, f"{_text(leaf['hold_id'])} {_person(leaf)}") if is_late else None
    approval = leaf.get("approval") or {}
    if kind == REQUESTED:
        terms = leaf["terms"]
        valid = timedelta(seconds=min(_whole(terms["valid_seconds"]), _SECONDS_MAX))
        needed, expires = _whole(terms["count"]), instant(approval["expires"])
        return Asked(
            _text(approval["hold_id"]), _text(approval["binding_sha256"]), needed, valid, expires, _about(leaf)
        )
    is_agreed, at = approval.get("state") == "claimed", instant(leaf["at"])
    words = approval["resolutions"] if is_agreed else []
    if not isinstance(words, list) or len(words) > _WORDS_MAX:
        raise ValueError
    return Passed(
        sequence,
        at,
        leaf["exchange_id"],
        _person(leaf),
        "break_glass" in leaf["policy"],
        _text(approval["hold_id"]) if is_agreed else "",
        _text(approval["binding_sha256"]) if is_agreed else "",
        _whole(approval["count"]) if is_agreed else 0,
        instant(approval["valid_until"]) if is_agreed else at,
        tuple(map(_word, words)),
        _about(leaf),
    )


def was_let_on(outcome: dict[str, Any]) -> bool:
    """Did the call go to the model, by its outcome? Of one whose worker died nobody knows: it counts as if it had."""
    told, upstream = outcome["outcome"], outcome.get("upstream") or {}
    if "forwarded" in outcome["time"] or told["status"] not in _NOT_LET_ON:
        return True
    return bool(told.get("released_bytes")) or upstream.get("status") is not None


class Approvals:
    """Collected while the logs are read, checked when all of them were."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._said: dict[bytes, datetime] = {}
        self._asked: dict[str, Asked] = {}
        self._refused: dict[tuple[str, str], int] = {}
        self._passed: dict[tuple[str, int], tuple[str, Passed]] = {}
        self._places: dict[tuple[str, str], tuple[str, int]] = {}
        self._let_on: set[tuple[str, int]] = set()
        self._emergencies: dict[tuple[str, str], str] = {}

    def take(
        self, origin: str, key: str, told: Iterable[Told], ends: Mapping[int, bool], doubted: Iterable[str]
    ) -> None:
        """One events object of a log was read.

        Args:
            origin: of the log.
            key: of the object.
            told: what its leaves say, in their order.
            ends: intents that ended there: were they let on?
            doubted: exchanges that were refused because a record was late.
        """
        kept = (self._said, self._asked, self._refused, self._passed, self._places, self._emergencies)
        for one in told:
            if max(len(some) for some in kept) >= _KEPT_MAX:
                self._run.findings.add("leaf_invalid", key, "More approvals are on record than people can give.")
                break
            self._take(origin, key, one)
        for sequence, is_let_on in ends.items():
            if not is_let_on:
                self._passed.pop((origin, sequence), None)
            elif (origin, sequence) in self._passed:
                self._let_on.add((origin, sequence))
        for exchange_id in doubted:
            place = self._places.get((origin, exchange_id))
            if place is not None and place not in self._let_on:
                self._passed.pop(place, None)

    def _take(self, origin: str, key: str, one: Told) -> None:
        if isinstance(one, Emergency):
            self._emergencies[origin, one.exchange_id] = one.caller
        elif isinstance(one, Said):
            self._said[one.mark] = one.at
        elif isinstance(one, Refused):
            self._refused[origin, one.who] = max(one.sequence, self._refused.get((origin, one.who), 0))
        elif isinstance(one, Asked):
            other = self._asked.setdefault(one.hold_id, one)
            if other != one:
                what = f"People were asked twice under the id {one.hold_id}, about two things."
                self._run.findings.add("approval_mismatch", key, what)
        elif one.is_emergency and not one.hold_id and self._is_emergency(origin, one):
            return
        elif one.hold_id:
            self._passed[origin, one.sequence] = (key, one)
            self._places[origin, one.exchange_id] = (origin, one.sequence)
        else:
            what = f"Record {one.sequence} lets a call pass that needed an approval, and names none."
            self._run.findings.add("approval_missing", key, what)

    def _is_emergency(self, origin: str, one: Passed) -> bool:
        """It lets one exchange pass, of the caller who called it one."""
        return self._emergencies.pop((origin, one.exchange_id), None) == one.caller

    def check(self, roles: Mapping[str, str]) -> None:
        """All logs were read.

        Args:
            roles: what each log says that it is, by its origin.
        """
        holds: dict[str, tuple[str, int]] = {}
        for (origin, sequence), (key, one) in self._passed.items():
            where = f"Record {sequence} of {origin}"
            for code, what in (*self._faults(one), *self._word_faults(one, roles)):
                self._run.findings.add(code, key, f"{where} lets a call pass that needed an approval: {what}")
            if (origin, sequence) not in self._let_on and not self._run.is_settled(one.at):
                continue  # how it ended may be on its way
            other = holds.setdefault(one.hold_id, (origin, sequence))
            if other != (origin, sequence):
                what = f"{where} and record {other[1]} of {other[0]} let two calls pass with one approval."
                self._run.findings.add("approval_reused", key, what)

    def _faults(self, one: Passed) -> Iterable[tuple[str, str]]:
        people = {word.person for word in one.words if word.action == "approve"}
        tolerance, asked = self._run.policy.tolerance, self._asked.get(one.hold_id)
        if len(people) < max(one.needed, 1):
            yield "approval_missing", f"{len(people)} agreed, and the policy asked for {one.needed}."
        if one.caller in {word.person for word in one.words} or not one.caller:
            yield "approval_mismatch", "the caller is among those who resolved it, or is not known."
        if one.at > one.valid_until + tolerance:
            yield "approval_mismatch", f"it passed at {one.at}, and the approval counted until {one.valid_until}."
        if asked is None:
            if self._run.is_settled(one.at):
                yield "approval_missing", "that anybody was asked is not on record."
            return
        if (asked.binding, asked.needed, asked.about) != (one.binding, one.needed, one.about):
            yield "approval_mismatch", "people were asked about another call, or for another number of people."
        said = [at for word in one.words if (at := self._said.get(_mark(word, one.hold_id, one.binding)))]
        if said and max(said) > asked.expires + tolerance:
            yield (
                "approval_mismatch",
                f"somebody agreed at {max(said)}, and it could be resolved until {asked.expires}.",
            )
        if said and one.valid_until > max(said) + asked.valid + tolerance:
            yield "approval_mismatch", f"it is said to count until {one.valid_until}, longer than the policy lets it."

    def _word_faults(self, one: Passed, roles: Mapping[str, str]) -> Iterable[tuple[str, str]]:
        if any(word.action != "approve" for word in one.words):
            yield "approval_mismatch", "somebody denied it."
        for word in one.words:
            where = f"record {word.sequence} of {word.origin}"
            said_at = self._said.get(_mark(word, one.hold_id, one.binding))
            if said_at is None:
                if self._run.is_settled(one.at):  # else what was said may not have been shipped yet
                    yield "approval_missing", f"{where} does not say what it names it for."
                continue
            if said_at > one.at + self._run.policy.tolerance:
                yield "approval_mismatch", f"it passed at {one.at}, and somebody agreed at {said_at}, afterwards."
            if roles.get(word.origin, _PEOPLES_LOGS) != _PEOPLES_LOGS:
                yield "approval_mismatch", f"{where} is in no log of people's words."
            if self._refused.get((word.origin, f"{one.hold_id} {word.person}"), -1) > word.sequence:
                yield "approval_mismatch", f"{where} was followed by one that says that it came too late."


def _mark(word: Word, hold_id: str, binding: str) -> bytes:
    """A word and what it is about, in the few bytes that a large log leaves for it."""
    whole = "\n".join((word.origin, str(word.sequence), word.action, word.person, hold_id, binding))
    return hashlib.sha256(whole.encode()).digest()


def _about(leaf: dict[str, Any]) -> bytes:
    """Who asked, for what, under which policy."""
    request = leaf["request"]
    told = [request.get(name) for name in ("connection", "method", "path", "model", "body_bytes")]
    return hashlib.sha256(json.dumps([_person(leaf), leaf["policy"]["bundle_digest"], *told]).encode()).digest()


def _person(leaf: dict[str, Any]) -> str:
    """Whose leaf it is; empty: nobody is known."""
    return _text(leaf["actor"]["subject_ref"]) if leaf["actor"] else ""


def _word(told: dict[str, Any]) -> Word:
    place = told["record"]
    return Word(_text(told["action"]), _text(told["person_ref"]), _text(place["origin"]), _whole(place["sequence"]))


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError
    return value


def _whole(value: object) -> int:
    if type(value) is not int:
        raise TypeError
    return value
