"""What passed although people had to agree, held against what these people said, in whichever log that stands.

Of each log the worker processes report the calls that needed people (`Passed`), what people said (`Said`) and the
emergencies (`Emergency`); `Approvals` joins them when all logs were read. What must hold of every call that passed:

 1. It names an approval, unless an emergency was on record before it.
 2. Each word that it names stands where it says, of that person, about that very call.
 3. So many different people agreed as the policy demanded, nobody denied it, and the caller is none of them.
 4. They spoke before it passed, and not so long before that it counted no more.
 5. No other call passed with the same approval.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from ext_proc.verify.shapes import OUTCOME
from ext_proc.verify.source import instant

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from ext_proc.verify.run import Run

_KEPT_MAX: Final = 1_000_000
"""Of each kind. People say less than that in a log's life; whoever holds a signing key could say more."""
_WORDS_MAX: Final = 16
"""Words that an approval names (``docs/record-format.md``, section 6)."""
RESOLVED: Final = "approval.resolved"
BREAK_GLASS: Final = "approval.break_glass"


class Word(NamedTuple):
    """What an intent says that a person said: action, keyed reference, and the leaf's place."""

    action: str
    person: str
    origin: str
    sequence: int


class Passed(NamedTuple):
    """An intent that needed people. ``hold_id`` is empty where it names no approval that lets it pass."""

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


class Said(NamedTuple):
    """A person's word in its own leaf. ``mark`` is what a `Word` about it comes to."""

    at: datetime
    mark: bytes


class Emergency(NamedTuple):
    """A call is about to pass without the people who would have to agree."""

    exchange_id: str


Told = Passed | Said | Emergency


def is_plain(leaf: dict[str, Any]) -> bool:
    """Did this intent, or outcome, need nobody?

    Raises:
        KeyError, TypeError: an intent does not say what the policy said.
    """
    if "approval" in leaf:
        return False
    if "policy" not in leaf and leaf["kind"] == OUTCOME:
        return True
    policy = leaf["policy"]
    return policy["approval_required"] is False and "break_glass" not in policy


def told_of(sequence: int, leaf: dict[str, Any]) -> Told:
    """What a leaf says: an intent that is not plain, a resolution, an emergency.

    Raises:
        ValueError, KeyError, TypeError: it is not in the published form.
    """
    kind = leaf["kind"]
    if kind == BREAK_GLASS:
        return Emergency(_text(leaf["exchange_id"]))
    if kind == RESOLVED:
        word = Word(_text(leaf["action"]), _text(leaf["actor"]["subject_ref"]), leaf["origin"], sequence)
        return Said(instant(leaf["at"]), _mark(word, _text(leaf["hold_id"]), _text(leaf["binding_sha256"])))
    approval = leaf.get("approval") or {}
    is_agreed = approval.get("state") == "claimed"
    return Passed(
        sequence,
        instant(leaf["at"]),
        leaf["exchange_id"],
        _text(leaf["actor"]["subject_ref"]) if leaf["actor"] else "",
        "break_glass" in leaf["policy"],
        _text(approval["hold_id"]) if is_agreed else "",
        _text(approval["binding_sha256"]) if is_agreed else "",
        _whole(approval["count"]) if is_agreed else 0,
        instant(_text(approval["valid_until"])) if is_agreed else instant(leaf["at"]),
        tuple(map(_word, approval["resolutions"][:_WORDS_MAX])) if is_agreed else (),
    )


def was_let_on(outcome: dict[str, Any]) -> bool:
    """Did the call go to the model? Of one whose worker died nobody knows: its approval counts as used."""
    return "forwarded" in outcome["time"] or outcome["outcome"]["status"] == "interrupted"


class Approvals:
    """Collected while the logs are read, checked when all of them were."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._said: dict[bytes, datetime] = {}
        self._passed: dict[tuple[str, int], tuple[str, Passed]] = {}
        self._emergencies: set[tuple[str, str]] = set()

    def take(self, origin: str, key: str, told: Iterable[Told], not_let_on: Iterable[int]) -> None:
        """One events object of a log was read. ``not_let_on``: intents whose outcome says so."""
        for one in told:
            if max(len(self._said), len(self._passed), len(self._emergencies)) >= _KEPT_MAX:
                self._run.findings.add("leaf_invalid", key, "More approvals are on record than people can give.")
                break
            if isinstance(one, Emergency):
                self._emergencies.add((origin, one.exchange_id))
            elif isinstance(one, Said):
                self._said[one.mark] = one.at
            elif one.is_emergency and not one.hold_id and (origin, one.exchange_id) in self._emergencies:
                continue
            elif one.hold_id:
                self._passed[origin, one.sequence] = (key, one)
            else:
                what = f"Record {one.sequence} lets a call pass that needed an approval, and names none."
                self._run.findings.add("approval_missing", key, what)
        for sequence in not_let_on:
            self._passed.pop((origin, sequence), None)

    def check(self) -> None:
        """All logs were read."""
        holds: dict[str, tuple[str, int]] = {}
        for (origin, sequence), (key, one) in self._passed.items():
            where = f"Record {sequence} of {origin}"
            for code, what in self._faults(one):
                self._run.findings.add(code, key, f"{where} lets a call pass that needed an approval: {what}")
            other = holds.setdefault(one.hold_id, (origin, sequence))
            if other != (origin, sequence):
                what = f"{where} and record {other[1]} of {other[0]} let two calls pass with one approval."
                self._run.findings.add("approval_reused", key, what)

    def _faults(self, one: Passed) -> Iterable[tuple[str, str]]:
        people = {word.person for word in one.words if word.action == "approve"}
        if len(people) < max(one.needed, 1):
            yield "approval_missing", f"{len(people)} agreed, and the policy asked for {one.needed}."
        if any(word.action != "approve" for word in one.words):
            yield "approval_mismatch", "somebody denied it."
        if one.caller in {word.person for word in one.words} or not one.caller:
            yield "approval_mismatch", "the caller is among those who resolved it, or is not known."
        tolerance = self._run.policy.tolerance
        if one.at > one.valid_until + tolerance:
            yield "approval_mismatch", f"it passed at {one.at}, and the approval counted until {one.valid_until}."
        for word in one.words:
            said_at = self._said.get(_mark(word, one.hold_id, one.binding))
            if said_at is None:
                if self._run.is_settled(one.at):  # else what was said may not have been shipped yet
                    yield (
                        "approval_missing",
                        f"record {word.sequence} of {word.origin} does not say what it names it for.",
                    )
            elif said_at > one.at + tolerance:
                yield "approval_mismatch", f"it passed at {one.at}, and somebody agreed at {said_at}, afterwards."


def _mark(word: Word, hold_id: str, binding: str) -> bytes:
    """A word and what it is about, in the few bytes that a large log leaves for it."""
    whole = "\n".join((word.origin, str(word.sequence), word.action, word.person, hold_id, binding))
    return hashlib.sha256(whole.encode()).digest()


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
