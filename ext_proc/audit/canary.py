"""The WORM canary: what is tried against a store that says it locks, and how the outcome is judged. Pure.

A store is believed by what it holds afterwards, not by what it answers. Every attack is aimed at a *bait*, a small
object that lies where evidence lies and is locked as evidence is; afterwards the bait's first version is read again. A
refusal is good whoever refused, and the check says who: the lock, or a missing permission of the gateway's own
credentials. `canary_s3` carries the attacks out.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final

from ext_proc.audit.record import instant

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

COMPLIANCE: Final = "COMPLIANCE"
RACERS: Final = 8
_TEXT: Final = re.compile(r"[A-Za-z0-9_.-]{1,64}")


class Refuser(StrEnum):
    """What stood in the way of an attack."""

    LOCK = "by the lock"
    PERMISSION = "for lack of permission"
    CONDITION = "by the condition"
    STORE = "by the store"


class Goal(StrEnum):
    """What must be true after an attack. The value is the ``expected`` of the check."""

    KEPT = "refused, or the first version stays as it was"
    REFUSED = "refused, and the first version stays as it was"
    ABSENT = "refused, and no object is made"
    LOCKED = "a new object is locked in COMPLIANCE mode"
    LOCKED_OR_DENIED = "refused, or the object is locked in COMPLIANCE mode"
    SETTINGS = "refused: the bucket's settings stay"
    ONE_WINNER = f"exactly one of {RACERS} is accepted"


GOALS: Final[Mapping[str, Goal]] = {
    "default_lock": Goal.LOCKED,
    "create_twice": Goal.REFUSED,
    "wrong_checksum": Goal.ABSENT,
    "past_retention": Goal.ABSENT,
    "delete_version": Goal.KEPT,
    "delete_version_bypass": Goal.KEPT,
    "delete_batch": Goal.KEPT,
    "delete_batch_bypass": Goal.KEPT,
    "shorten": Goal.REFUSED,
    "shorten_bypass": Goal.REFUSED,
    "downgrade": Goal.REFUSED,
    "downgrade_bypass": Goal.REFUSED,
    "unlock": Goal.REFUSED,
    "unlock_bypass": Goal.REFUSED,
    "copy_over_itself": Goal.KEPT,
    "overwrite": Goal.KEPT,
    "multipart_lock": Goal.LOCKED_OR_DENIED,
    "multipart_create_twice": Goal.REFUSED,
    "delete_marker": Goal.KEPT,
    "race": Goal.ONE_WINNER,
    "bucket_lock": Goal.SETTINGS,
    "suspend_versioning": Goal.SETTINGS,
}
"""Every check, in the order in which it is made. The last two aim at the whole bucket."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What the store said: ``code`` is empty if it accepted."""

    code: str = ""
    refuser: Refuser = Refuser.STORE

    @property
    def is_accepted(self) -> bool:
        """Did it say yes?"""
        return not self.code


@dataclass(frozen=True, slots=True)
class Held:
    """One version as the store gives it back: SHA-256 of the bytes read (hex), lock mode and its end."""

    sha256: str
    mode: str | None
    until: datetime | None


@dataclass(frozen=True, slots=True)
class Attempt:
    """One attack: the answer, and the first version of its object before and after (None: there is none)."""

    answer: Answer
    before: Held | None = None
    after: Held | None = None


@dataclass(frozen=True, slots=True)
class Check:
    """One line of the report."""

    name: str
    expected: str
    found: str
    ok: bool


@dataclass(frozen=True, slots=True)
class CanaryReport:
    """What a store did to its baits.

    Args:
        checks: in the order of `GOALS`.
        store: which one: host and bucket, the same from run to run.
        server: the software's own name for itself; for people, not in the leaf.
    """

    checks: tuple[Check, ...]
    store: str
    server: str = ""

    @property
    def ok(self) -> bool:
        """Did the store hold in every check? A report without checks is not ok."""
        return bool(self.checks) and all(check.ok for check in self.checks)

    @property
    def holes(self) -> tuple[str, ...]:
        """Names of the checks that failed."""
        return tuple(check.name for check in self.checks if not check.ok)

    def leaf_fields(self) -> dict[str, Any]:
        """The fields of a ``worm.canary`` leaf."""
        checks = [{"name": one.name, "expected": one.expected, "found": one.found, "ok": one.ok} for one in self.checks]
        return {"checks": checks, "ok": self.ok, "store": self.store}


def judge(name: str, attempt: Attempt, now: datetime) -> Check:
    """Judge any attack but the race.

    Args:
        name: a key of `GOALS`.
        attempt: what happened.
        now: a lock that ends before is none.
    """
    goal = GOALS[name]
    answer = attempt.answer
    said = "accepted" if answer.is_accepted else f"refused {answer.refuser} ({_plain(answer.code)})"
    if goal is Goal.SETTINGS:
        return Check(name, goal, said, not answer.is_accepted)
    if goal is Goal.ABSENT:
        is_made = attempt.after is not None
        return Check(name, goal, f"{said}, object made" if is_made else said, not (is_made or answer.is_accepted))
    if goal is Goal.LOCKED or goal is Goal.LOCKED_OR_DENIED:
        return _judge_lock(name, goal, attempt, said, now)
    harm = damage(attempt.before, attempt.after)
    ok = not harm and not (goal is Goal.REFUSED and answer.is_accepted)
    return Check(name, goal, f"{said}, {harm or 'first version as it was'}", ok)


def judge_race(accepted: int, versions: int) -> Check:
    """Judge the race: how many conditional creates of one key were accepted, and how many versions it has now."""
    found = f"{accepted} accepted, {versions} {'version' if versions == 1 else 'versions'}"
    return Check("race", Goal.ONE_WINNER, found, accepted == versions == 1)


def _judge_lock(name: str, goal: Goal, attempt: Attempt, said: str, now: datetime) -> Check:
    made = attempt.after
    if made is None:
        return Check(name, goal, said, goal is Goal.LOCKED_OR_DENIED and not attempt.answer.is_accepted)
    if made.mode is None or made.until is None:
        return Check(name, goal, "not locked", ok=False)
    found = f"{_plain(made.mode)} until {instant(made.until)}"
    return Check(name, goal, found, made.mode == COMPLIANCE and made.until > now)


def damage(before: Held | None, after: Held | None) -> str:
    """What the attack did to the first version, in words; empty if nothing."""
    if before is None or after is None:
        return "first version is gone"
    if after.sha256 != before.sha256:
        return "first version has other bytes"
    if after.mode is None or after.until is None:
        return "lock is gone"
    if after.mode != before.mode:
        return f"mode is now {_plain(after.mode)}"
    if before.until is not None and after.until < before.until:
        return f"lock now ends {instant(after.until)}"
    return ""


def _plain(word: str) -> str:
    """A store's word goes into a leaf only if it is one: a leaf holds nobody's free text."""
    return word if _TEXT.fullmatch(word) else "other"
