"""Where holds are kept, for all workers of all replicas: the rules of `hold`, made durable and one at a time.

Every change is one transaction in which the hold is locked, brought up to the time (`hold.at`), changed and kept. So of
two approvers who speak at once one is first, and of two exchanges that would pass with one approval only one does.
`register_sql` is the real one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from datetime import datetime

    from ext_proc.approval.hold import Hold
    from ext_proc.model import ExchangeId, HoldEnding, HoldId, HoldState, Resolution


@dataclass(frozen=True, slots=True)
class Holder:
    """The log of the worker in which an exchange waits, and the number that its next leaf will have.

    Enough for whoever recovers that log to say whether an exchange that claimed an approval passed.
    """

    origin: str
    next_sequence: int


@dataclass(frozen=True, slots=True)
class Limits:
    """How many holds may wait to be resolved or sent again at once: in all, and of one caller.

    Those whose caller left count until their time is over: they are kept as well, and who sends and leaves must not
    fill the register. Of what is over, no more than ``kept_max_per_caller`` are kept of one caller, the newest.
    """

    pending_max: int = 10_000
    pending_max_per_caller: int = 100
    kept_max_per_caller: int = 1000


class Register(Protocol):
    """Holds. Safe from several threads and processes; durable when a method returns; nobody retries.

    Every method raises `ApprovalUnavailable` when the database cannot be used. Holds come back as they stand at
    ``now``, without what is sealed: only `find` reads that.
    """

    def ask(self, hold: Hold, exchange_id: ExchangeId, holder: Holder, now: datetime) -> Hold:
        """Hold the call for this exchange, or find the hold of the same binding that is not over and join it.

        - pending, withdrawn or abandoned: the exchange waits too (`hold.joined`);
        - approved: the exchange claims it (`hold.claimed`);
        - claimed, by another exchange: it waits for what becomes of that (`hold.standing` tells the two apart);
        - denied: as it stands, until it would have expired: a denial is not asked again every second;
        - used, expired, or none: ``hold`` is kept as a new one, and the exchange waits.

        Whoever waits and sees the hold withdrawn or abandoned (its worker was taken for dead), used (by another) or
        expired asks again. `ended` must not be said before this has returned.

        Raises:
            TooManyHolds: the caller, or all callers together, have as many as may be (`Limits`).
        """
        ...

    def claim(self, hold_id: HoldId, exchange_id: ExchangeId, holder: Holder, now: datetime) -> Hold | None:
        """The hold as the exchange that waits finds it: claimed by it if it is approved. None: no such hold.

        An exchange that does not wait (it ended, or was taken for dead) claims nothing.
        """
        ...

    def ended(self, hold_id: HoldId, exchange_id: ExchangeId, ending: HoldEnding, now: datetime) -> None:
        """An exchange does not wait any more (`hold.ended`). Idempotent."""
        ...

    def ended_anywhere(self, exchange_id: ExchangeId, ending: HoldEnding, now: datetime) -> int:
        """`ended`, for whoever does not know the hold: the answer to `ask` was lost, and it may have been a claim.

        How many holds changed; 0: nothing was kept of the exchange, or it is not kept yet. Idempotent.
        """
        ...

    def resolve(self, hold_id: HoldId, resolution: Resolution, sealed: bytes, now: datetime) -> Hold | None:
        """Somebody said something, and it is on record. None, and nothing happens: it does not count (`hold.counts`).

        Args:
            hold_id: of what.
            resolution: what.
            sealed: who, in clear, and why: encrypted for that person's key.
            now: the time.
        """
        ...

    def find(self, hold_id: HoldId, now: datetime) -> Hold | None:
        """One hold, with what is sealed."""
        ...

    def said(self, hold_id: HoldId) -> dict[str, bytes]:
        """What `resolve` was given as ``sealed``, by the people's references."""
        ...

    def pending(
        self, tenant: str | None, groups: Sequence[str], now: datetime, limit: int, after: HoldId | None = None
    ) -> list[Hold]:
        """Holds that members of these groups could resolve, the oldest first; ``after``: those that come after it.

        One that was forgotten meanwhile (`sweep`) stands before all.
        """
        ...

    def count_waiting_for(self, tenant: str | None, groups: Sequence[str], person_ref: str, now: datetime) -> int:
        """How many of those are neither the person's own nor answered by them."""
        ...

    def answered_by(self, person_ref: str, now: datetime, limit: int) -> list[Hold]:
        """Holds that wait for others to agree as well, and of which the person said something; the oldest first."""
        ...

    def of_caller(self, caller_ref: str, now: datetime, limit: int) -> list[Hold]:
        """A caller's own, the newest first."""
        ...

    def count_pending(self, now: datetime) -> int:
        """How many wait."""
        ...

    def oldest_pending(self, now: datetime) -> datetime | None:
        """When the one that waits longest was asked for; None: none waits."""
        ...

    def states(self, hold_ids: Iterable[HoldId], now: datetime) -> dict[HoldId, HoldState]:
        """How these stand, in one question: for those that wait. What is not there is left out."""
        ...

    def beat(self, origin: str, now: datetime) -> None:
        """The worker with this log lives. Whoever asks lives too."""
        ...

    def beats(self) -> dict[str, str]:
        """What each worker said last to say that it lives, by its log: another text each time (`silence`).

        It has no other meaning: each is made with the clock of its worker, and clocks lie apart.
        """
        ...

    def abandon_silent(self, silent: Mapping[str, str], now: datetime) -> int:
        """Waiting exchanges of workers that have said nothing since are gone (`hold.abandoned`).

        Args:
            silent: what each said last (`beats`). Who has said something else by now lives.
            now: the time.

        Returns:
            How many holds were abandoned.
        """
        ...

    def recovered(self, origin: str, first_sequence: int, passed: frozenset[ExchangeId], now: datetime) -> int:
        """The log of a dead worker was read to its end. What its exchanges claimed is settled (`hold.settled`), what
        they waited for abandoned. How many holds changed. Idempotent.

        Args:
            origin: the log.
            first_sequence: of what could still be read of it.
            passed: exchanges whose intent was found there. What was claimed by another one, at a sequence that could
                still be read, did not pass: it is approved again. What was claimed earlier than that nobody knows: it
                counts as used.
            now: the time.
        """
        ...

    def expire(self, now: datetime) -> int:
        """Write down what time has done: how many holds, a bounded number at once. Nothing depends on it but speed.

        Holds that nobody touches would stand as pending for ever, and inboxes would have to skip them.
        """
        ...

    def sweep(self, before: datetime) -> int:
        """Forget holds that were over before, whatever happened: how many. Their records stay in the log."""
        ...
