"""`approval.register.Register` in memory, and a watch that rings when it is told to."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, replace
from threading import Event, Lock
from typing import TYPE_CHECKING

from ext_proc.approval import hold as rules
from ext_proc.approval.register import Holder, Limits
from ext_proc.errors import ApprovalUnavailable, TooManyHolds
from ext_proc.model import ExchangeId, HoldState

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from datetime import datetime

    from ext_proc.approval.hold import Hold
    from ext_proc.model import HoldEnding, HoldId, Resolution


@dataclass
class _Kept:
    hold: Hold
    origins: dict[ExchangeId, str]
    claim: Holder | None
    sealed: dict[str, bytes]


class FakeRegister:
    """A dict with a lock. ``is_down``: behave as if the database could not be reached. ``watch`` rings at changes."""

    def __init__(self, limits: Limits | None = None) -> None:
        self.kept: dict[HoldId, _Kept] = {}
        self._beats: dict[str, str] = {}
        self.is_down = False
        self.asked_states = 0
        self.watch = FakeWatch(self)
        self._limits = limits or Limits()
        self._lock = Lock()

    @contextmanager
    def _alone(self) -> Iterator[None]:
        with self._lock:
            if self.is_down:
                raise ApprovalUnavailable("approval_register")
            yield

    def _keep(self, one: _Kept, after: Hold, holder: Holder | None = None) -> Hold:
        before, one.hold = one.hold, after
        if holder is not None:
            for exchange in set(after.waiting) - set(one.origins):
                one.origins[exchange] = holder.origin
            if after.claimed_by not in {None, before.claimed_by}:
                one.claim = holder
        one.origins = {exchange: one.origins[exchange] for exchange in after.waiting}
        if after.claimed_by is None or after.state is HoldState.USED:
            one.claim = None
        if (after.state, after.resolutions) != (before.state, before.resolutions):
            self.watch.ring()
        return _listed(after)

    def _admit(self, caller_ref: str, now: datetime) -> None:
        waiting = [hold for hold in self._all(now) if hold.state in rules.RESUMABLE]
        if sum(hold.caller_ref == caller_ref for hold in waiting) >= self._limits.pending_max_per_caller:
            raise TooManyHolds("of this caller")
        if len(waiting) >= self._limits.pending_max:
            raise TooManyHolds("of all")
        theirs = [hold for hold in self._all(now) if hold.caller_ref == caller_ref]
        over = [hold for hold in theirs if _ends_at(hold) <= now]
        for hold in over[: max(0, len(theirs) - self._limits.kept_max_per_caller + 1)]:
            del self.kept[hold.hold_id]

    def _all(self, now: datetime) -> list[Hold]:
        found = [rules.at(one.hold, now) for one in self.kept.values()]
        return sorted(found, key=lambda hold: (hold.asked_at, hold.hold_id))

    def ask(self, hold: Hold, exchange_id: ExchangeId, holder: Holder, now: datetime) -> Hold:
        """See `Register.ask`."""
        with self._alone():
            for one in self.kept.values():
                found = rules.at(one.hold, now)
                if found.binding_sha256 != hold.binding_sha256 or not rules.is_found_again(found, now):
                    continue
                after = rules.claimed(rules.joined(found, exchange_id), exchange_id)
                self._beats[holder.origin] = now.isoformat()
                return self._keep(one, after, holder)
            self._admit(hold.caller_ref, now)
            self._beats[holder.origin] = now.isoformat()
            one = self.kept[hold.hold_id] = _Kept(replace(hold, state=HoldState.EXPIRED), {}, None, {})
            return self._keep(one, rules.joined(hold, exchange_id), holder)

    def _change(
        self, hold_id: HoldId, rule: Callable[[Hold], Hold], now: datetime, holder: Holder | None = None
    ) -> Hold | None:
        with self._alone():
            one = self.kept.get(hold_id)
            return None if one is None else self._keep(one, rule(rules.at(one.hold, now)), holder)

    def claim(self, hold_id: HoldId, exchange_id: ExchangeId, holder: Holder, now: datetime) -> Hold | None:
        """See `Register.claim`."""
        return self._change(hold_id, lambda hold: rules.claimed(hold, exchange_id), now, holder)

    def ended(self, hold_id: HoldId, exchange_id: ExchangeId, ending: HoldEnding, now: datetime) -> None:
        """See `Register.ended`."""
        self._change(hold_id, lambda hold: rules.ended(hold, exchange_id, ending), now)

    def ended_anywhere(self, exchange_id: ExchangeId, ending: HoldEnding, now: datetime) -> int:
        """See `Register.ended_anywhere`."""
        with self._alone():
            count = 0
            for one in self.kept.values():
                before = one.hold
                if exchange_id in before.waiting or before.claimed_by == exchange_id:
                    self._keep(one, rules.ended(rules.at(before, now), exchange_id, ending))
                    count += one.hold != before
            return count

    def resolve(self, hold_id: HoldId, resolution: Resolution, sealed: bytes, now: datetime) -> Hold | None:
        """See `Register.resolve`."""
        with self._alone():
            one = self.kept.get(hold_id)
            if one is None or not rules.counts(rules.at(one.hold, now), resolution):
                return None
            one.sealed[resolution.person_ref] = sealed
            return self._keep(one, rules.resolved(rules.at(one.hold, now), resolution))

    def find(self, hold_id: HoldId, now: datetime) -> Hold | None:
        """See `Register.find`."""
        with self._alone():
            one = self.kept.get(hold_id)
            return None if one is None else rules.at(one.hold, now)

    def said(self, hold_id: HoldId) -> dict[str, bytes]:
        """See `Register.said`."""
        with self._alone():
            one = self.kept.get(hold_id)
            return {} if one is None else dict(one.sealed)

    def pending(
        self, tenant: str | None, groups: Sequence[str], now: datetime, limit: int, after: HoldId | None = None
    ) -> list[Hold]:
        """See `Register.pending`."""
        with self._alone():
            last = self.kept.get(after) if after is not None else None
            found = [
                _listed(hold)
                for hold in self._all(now)
                if hold.state is HoldState.PENDING
                and hold.tenant == tenant
                and not set(groups).isdisjoint(hold.terms.groups)
                and (last is None or (hold.asked_at, hold.hold_id) > (last.hold.asked_at, last.hold.hold_id))
            ]
            return found[:limit]

    def count_waiting_for(self, tenant: str | None, groups: Sequence[str], person_ref: str, now: datetime) -> int:
        """See `Register.count_waiting_for`."""
        found = self.pending(tenant, groups, now, len(self.kept) + 1)
        return sum(hold.caller_ref != person_ref and not _has_said(hold, person_ref) for hold in found)

    def answered_by(self, person_ref: str, now: datetime, limit: int) -> list[Hold]:
        """See `Register.answered_by`."""
        with self._alone():
            pending = [hold for hold in self._all(now) if hold.state is HoldState.PENDING]
            return [_listed(hold) for hold in pending if _has_said(hold, person_ref)][:limit]

    def of_caller(self, caller_ref: str, now: datetime, limit: int) -> list[Hold]:
        """See `Register.of_caller`."""
        with self._alone():
            return [_listed(hold) for hold in self._all(now)[::-1] if hold.caller_ref == caller_ref][:limit]

    def count_pending(self, now: datetime) -> int:
        """See `Register.count_pending`."""
        with self._alone():
            return sum(hold.state is HoldState.PENDING for hold in self._all(now))

    def oldest_pending(self, now: datetime) -> datetime | None:
        """See `Register.oldest_pending`."""
        with self._alone():
            waiting = (hold.asked_at for hold in self._all(now) if hold.state is HoldState.PENDING)
            return min(waiting, default=None)

    def states(self, hold_ids: Iterable[HoldId], now: datetime) -> dict[HoldId, HoldState]:
        """See `Register.states`."""
        with self._alone():
            self.asked_states += 1
            return {one: rules.at(self.kept[one].hold, now).state for one in hold_ids if one in self.kept}

    def beat(self, origin: str, now: datetime) -> None:
        """See `Register.beat`."""
        with self._alone():
            if any(origin in one.origins.values() for one in self.kept.values()):
                self._beats[origin] = now.isoformat()

    def beats(self) -> dict[str, str]:
        """See `Register.beats`."""
        with self._alone():
            return dict(self._beats)

    def abandon_silent(self, silent: Mapping[str, str], now: datetime) -> int:
        """See `Register.abandon_silent`."""
        with self._alone():
            gone = {origin for origin, said in silent.items() if self._beats.get(origin) == said}
            self._beats = {origin: said for origin, said in self._beats.items() if origin not in gone}
            return self._abandon(gone, now)

    def recovered(self, origin: str, first_sequence: int, passed: frozenset[ExchangeId], now: datetime) -> int:
        """See `Register.recovered`."""
        with self._alone():
            count = 0
            for one in self.kept.values():
                claim = one.claim
                if claim is not None and claim.origin == origin:
                    before, is_readable = one.hold, claim.next_sequence >= first_sequence
                    self._keep(one, rules.settled(rules.at(before, now), passed, is_readable=is_readable))
                    count += one.hold != before
            self._beats.pop(origin, None)
            return count + self._abandon({origin}, now)

    def _abandon(self, origins: set[str], now: datetime) -> int:
        count = 0
        for one in self.kept.values():
            gone = frozenset(exchange for exchange, origin in one.origins.items() if origin in origins)
            if gone:
                before = rules.at(one.hold, now)
                self._keep(one, rules.abandoned(before, gone))
                count += one.hold.state is HoldState.ABANDONED and before.state is not HoldState.ABANDONED
        return count

    def expire(self, now: datetime) -> int:
        """See `Register.expire`."""
        with self._alone():
            count = 0
            for one in self.kept.values():
                before = one.hold
                self._keep(one, rules.at(before, now))
                count += one.hold != before
            return count

    def sweep(self, before: datetime) -> int:
        """See `Register.sweep`."""
        with self._alone():
            over = [hold_id for hold_id, one in self.kept.items() if _ends_at(one.hold) <= before]
            for hold_id in over:
                del self.kept[hold_id]
            return len(over)


class FakeWatch:
    """`approval.watch.Watch` of a `FakeRegister`; deaf while that is down."""

    is_polling = True

    def __init__(self, register: FakeRegister) -> None:
        self._register = register
        self._rung = Event()

    def ring(self) -> None:
        """Something changed."""
        self._rung.set()

    def wait(self, seconds: float) -> bool:
        """See `Watch.wait`."""
        if self._register.is_down:
            raise ApprovalUnavailable("approval_register: nothing is heard")
        rung = self._rung.wait(seconds)
        self._rung.clear()
        return rung

    def close(self) -> None:
        """See `Watch.close`."""
        self._rung.set()


def _ends_at(hold: Hold) -> datetime:
    return max(hold.expires_at, hold.valid_until or hold.expires_at)


def _listed(hold: Hold) -> Hold:
    return replace(hold, sealed=None, sealed_clear=None)


def _has_said(hold: Hold, person_ref: str) -> bool:
    return any(one.person_ref == person_ref for one in hold.resolutions)
