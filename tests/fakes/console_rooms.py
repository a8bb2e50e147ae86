"""Whatever the console shows, kept in memory: holds by the real rules of approval, exchanges as they were put in.

The same suite (`tests/contract/test_console_contract.py`) is for the real ones.
"""

from __future__ import annotations

import asyncio
import hashlib
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from ext_proc.app.process import clock
from ext_proc.approval import hold as rules
from ext_proc.console import seen
from ext_proc.console.ports import Objection
from ext_proc.errors import BadToken
from ext_proc.model import ApprovalTerms, HoldId, HoldState, Identity, Resolution

if TYPE_CHECKING:
    from ext_proc.console.people import Viewer
    from ext_proc.console.ports import Channel
    from ext_proc.model import Secret

NOW = datetime(2026, 11, 25, 12, 0, tzinfo=UTC)
ISSUER = "https://issuer.example"
OPEN = (HoldState.PENDING,)


class Clock:
    """The real time, as the issuer has it, until it is moved on; or one that stands at ``now`` until then."""

    def __init__(self, now: datetime | None = None) -> None:
        self._stands_at = now
        self._moved = timedelta()

    def __call__(self) -> datetime:
        return (self._stands_at or clock()) + self._moved

    def move(self, **by: float) -> None:
        self._moved += timedelta(**by)


def person(subject: str, *groups: str, tenant: str | None = None, expires_at: datetime | None = None) -> Identity:
    """Somebody, as the issuer vouches for them."""
    return Identity(ISSUER, subject, "oidc", tuple(sorted(groups)), tenant=tenant, expires_at=expires_at)


def reference(identity: Identity) -> str:
    """As keyed references: equal people have equal ones."""
    told = f"{identity.issuer}|{identity.tenant}|{identity.subject}"
    return f"hmac-sha256:{hashlib.sha256(told.encode()).hexdigest()}"


def hold_id(number: int) -> HoldId:
    return HoldId(f"{number:032x}")


@dataclass
class _Kept:
    hold: rules.Hold
    asker: Identity
    masked: tuple[seen.Passage, ...]
    clear: tuple[seen.Passage, ...]
    model: str
    said: dict[str, tuple[str, str]] = field(default_factory=dict)


class FakeApprovals:
    """`ports.Approvals`. ``views`` and ``actions`` are what would be leaves."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._holds: dict[str, _Kept] = {}
        self._number = 1
        self._changed = asyncio.Condition()
        self.views: list[tuple[str, str, bool]] = []
        self.actions: list[tuple[str, str, bool, str]] = []
        self.failure: Exception | None = None

    async def add(
        self,
        number: int,
        asker: Identity,
        *,
        text: str = "Draft the letter to [PERSON], [EMAIL].",
        clear: str = "Draft the letter to Grace, grace@example.org.",
        model: str = "demo-restricted",
        reason: str = "This model needs a second person.",
        groups: tuple[str, ...] = ("approvers",),
        clear_to: tuple[str, ...] = (),
        count: int = 1,
        within_seconds: int = 900,
        findings: tuple[tuple[str, int], ...] = (("EMAIL", 1), ("PERSON", 1)),
        is_quiet: bool = False,
    ) -> HoldId:
        now = self._clock()
        terms = ApprovalTerms(groups, count, 900, within_seconds, reason, clear_to)
        made = rules.Hold(
            hold_id(number), f"{number:064x}", reference(asker), asker.tenant, terms, {"findings": dict(findings)}, b"", b"",
            now, now + timedelta(seconds=within_seconds),
        )  # fmt: skip
        passage = (seen.Passage("messages/0/content", _segments(text)),)
        self._holds[made.hold_id] = _Kept(
            made, asker, passage, (seen.Passage("messages/0/content", (seen.Segment(clear),)),), model
        )
        if not is_quiet:
            await self._tell()
        return made.hold_id

    async def put(self, number: int, **changes: Any) -> None:
        """Change a hold from elsewhere: another replica, or the caller."""
        kept = self._holds[hold_id(number)]
        kept.hold = replace(kept.hold, **changes)
        await self._tell()

    def erase(self, number: int) -> None:
        """The caller's key was destroyed: nobody can read it any more."""
        self._holds[hold_id(number)].masked = ()

    async def inbox(self, viewer: Viewer, limit: int, after: str | None) -> seen.Inbox:
        self._check()
        who = _who(viewer)
        seen_by = [one for one in self._holds.values() if rules.may_see(one.hold, who) and self._at(one).state in OPEN]
        seen_by.sort(key=lambda one: (one.hold.asked_at, one.hold.hold_id))
        others = [one for one in seen_by if one.hold.caller_ref != who.ref]
        mine = [one for one in others if not rules.has_answered(one.hold, who)]
        answered = [] if after else [one for one in others if rules.has_answered(one.hold, who)]
        ids = [one.hold.hold_id for one in mine]
        start = ids.index(HoldId(after)) + 1 if after in ids else 0
        shown = mine[start : start + limit]
        is_more = start + limit < len(mine)
        return seen.Inbox(
            tuple(self._line(one, viewer) for one in shown),
            len(mine),
            shown[-1].hold.hold_id if is_more else None,
            tuple(self._line(one, viewer) for one in answered),
        )

    async def read(
        self, viewer: Viewer, hold_id: str, *, want_clear: bool, channel: Channel = "console"
    ) -> seen.HoldSeen:
        del channel
        self._check()
        kept = self._found(viewer, hold_id)
        clear = want_clear and rules.may_read_clear(self._at(kept), _who(viewer))
        self.views.append((viewer.name, hold_id, clear))
        return self._seen(kept, viewer, is_clear=clear)

    async def resolve(
        self, viewer: Viewer, hold_id: str, *, is_yes: bool, justification: str, channel: Channel
    ) -> seen.HoldSeen:
        self._check()
        kept = self._found(viewer, hold_id)
        hold, who = self._at(kept), _who(viewer)
        code = rules.objection(hold, who, justification)
        if code is None and is_yes and not kept.masked:
            code = "unreadable"
        if code is not None:
            raise Objection(code)
        resolution = Resolution(is_yes, who.ref, self._clock(), "demo/gw-0-console/1", len(self.actions))
        kept.hold = rules.resolved(hold, resolution)
        kept.said[who.ref] = (viewer.name, justification)
        self.actions.append((viewer.name, hold_id, is_yes, channel))
        await self._tell()
        return self._seen(kept, viewer, is_clear=False)

    async def change_after(self, viewer: Viewer, seen: int) -> int:
        async with self._changed:
            await self._changed.wait_for(lambda: self._number != seen)
            return self._number

    async def _tell(self) -> None:
        async with self._changed:
            self._number += 1
            self._changed.notify_all()

    def _check(self) -> None:
        if self.failure is not None:
            raise self.failure

    def _at(self, kept: _Kept) -> rules.Hold:
        kept.hold = rules.at(kept.hold, self._clock())
        return kept.hold

    def _found(self, viewer: Viewer, hold_id: str) -> _Kept:
        kept = self._holds.get(hold_id)
        if kept is None or kept.hold.tenant != viewer.identity.tenant:
            raise Objection("no_such_hold")
        if not rules.may_see(kept.hold, _who(viewer)):
            raise Objection("not_an_approver")
        return kept

    def _line(self, kept: _Kept, viewer: Viewer) -> seen.HoldLine:
        hold, who = self._at(kept), _who(viewer)
        return seen.HoldLine(
            hold_id=hold.hold_id,
            state=hold.state,
            caller=kept.asker.subject,
            connection="demo",
            operation="chat",
            model=kept.model,
            findings=tuple(seen.Count(name, count) for name, count in hold.facts["findings"].items()),
            reason=hold.terms.reason,
            asked_at=hold.asked_at,
            expires_at=hold.expires_at,
            needed=hold.terms.count,
            given=sum(one.is_yes for one in hold.resolutions),
            is_own=hold.caller_ref == who.ref,
            objection=rules.objection(hold, who, None) or (None if kept.masked else "unreadable"),
            answered=next(
                ("approve" if one.is_yes else "deny" for one in hold.resolutions if one.person_ref == who.ref), None
            ),
        )

    def _seen(self, kept: _Kept, viewer: Viewer, *, is_clear: bool) -> seen.HoldSeen:
        hold, asker = self._at(kept), kept.asker
        is_own = hold.caller_ref == _who(viewer).ref
        said = tuple(
            seen.Said(one.is_yes, None, None, one.at, None)
            if is_own
            else seen.Said(
                one.is_yes,
                *kept.said.get(one.person_ref, (one.person_ref, None)),
                one.at,
                seen.Place(one.origin, one.sequence),
                one.person_ref == _who(viewer).ref,
            )
            for one in hold.resolutions
        )
        return seen.HoldSeen(
            line=self._line(kept, viewer),
            asker=seen.Asker(hold.caller_ref, asker.issuer, asker.subject, asker.groups, asker.client, asker.tenant),
            method="POST",
            path="/v1/chat/completions",
            policy=seen.PolicySeen("r-2026-11-25", "ab" * 32, "6f1d9a1c-1111-4222-8333-444455556666", ("approval_required",)),
            terms=seen.TermsSeen(hold.terms.groups, hold.terms.count, hold.terms.within_seconds, hold.terms.valid_seconds, hold.terms.clear_to),
            valid_until=hold.valid_until,
            resolutions=said,
            exchange_ids=tuple(hold.waiting),
            masked=kept.masked,
            may_read_clear=rules.may_read_clear(hold, _who(viewer)),
            clear=kept.clear if is_clear else None,
        )  # fmt: skip


def _who(viewer: Viewer) -> rules.Person:
    return rules.Person(reference(viewer.identity), viewer.identity.tenant, viewer.identity.groups)


def _segments(text: str) -> tuple[seen.Segment, ...]:
    """``[EMAIL]`` is what stands for an address."""
    made: list[seen.Segment] = []
    rest = text
    while "[" in rest and "]" in rest[rest.index("[") :]:
        before, _, after = rest.partition("[")
        inside, _, rest = after.partition("]")
        made += [
            seen.Segment(before),
            seen.Segment(f"[{inside}]", inside if inside.isupper() else None, "mask" if inside.isupper() else None),
        ]
    made.append(seen.Segment(rest))
    return tuple(one for one in made if one.text)


def exchange_id(number: int) -> str:
    return f"00000000-0000-4000-8000-{number:012x}"


@dataclass
class _Exchange:
    seen: seen.ExchangeSeen
    bodies: tuple[seen.BodySeen, ...]
    tenant: str | None
    is_ok: bool = True


class FakeExchanges:
    """`ports.Exchanges`. ``readings`` are what would be ``access.read`` leaves."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._kept: dict[str, _Exchange] = {}
        self.readings: list[tuple[str, str, str]] = []
        self.failure: Exception | None = None
        self.policies: tuple[seen.Activation, ...] = ()
        self.refused: tuple[seen.BundleRefused, ...] = ()
        self.shadows: tuple[seen.ShadowSeen, ...] = ()
        self.standing = seen.Standing(None, (), ())
        self.drawn: seen.Charts | None = None

    def add(
        self,
        number: int,
        *,
        tenant: str | None = None,
        is_ok: bool = True,
        said: str = "Hello",
        facts: tuple[seen.Fact, ...] = (),
        **changes: Any,
    ) -> str:
        at = self._clock() - timedelta(seconds=number)
        line = replace(
            seen.ExchangeLine(
                exchange_id(number), at, "hmac-sha256:" + f"{number:064x}", "demo", "chat", "demo", "allow", "completed", 200, None,
                (seen.Count("EMAIL", 1),),
            ),
            **changes,
        )  # fmt: skip
        origin = "demo.example/affidavit/gw-0-1/20261125T110000000000-0a0b0c0d"
        second = timedelta(milliseconds=137)
        refused = line.decision == "deny"
        steps = (
            seen.Step(at, "received", "Received", None, (seen.Fact("From", "hmac-sha256:5e…"),)),
            seen.Step(
                at + second,
                "decided",
                "The policy decided",
                line.decision,
                (seen.Fact("Reasons", "none"), *facts),
                None,
                refused,
            ),
            seen.Step(at + 2 * second, "masked", "Masked", None, (seen.Fact("EMAIL", "1, by rule email"),)),
            seen.Step(at + 3 * second, "forwarded", "Passed on to the model", None, (), seen.Place(origin, 2 * number)),
            seen.Step(at + 9 * second, "ended", "Released", line.outcome, (), seen.Place(origin, 2 * number + 1)),
        )
        proof = seen.Proof(
            seen.Place(origin, 2 * number), "inference.intent", "cd" * 32, f"v1/events/dt=2026-11-25/hour=11/replica=gw-0-1/{number}.jsonl.zst",
            "COMPLIANCE", at + timedelta(days=400), 64, "ef" * 32,
        )  # fmt: skip
        bodies = (
            seen.BodySeen("request.raw", "read", "application/json", (seen.Segment('{"content": "'), seen.Segment("grace@example.org", "EMAIL", "mask"), seen.Segment(f' {said}"}}'))),
            seen.BodySeen("request.forwarded", "read", "application/json", (seen.Segment('{"content": "'), seen.Segment("[EMAIL]", "EMAIL", "mask"), seen.Segment(f' {said}"}}'))),
            seen.BodySeen("response.upstream", "read", "application/json", (seen.Segment('{"content": "You are welcome."}'),)),
            seen.BodySeen("response.released", "shredded", "application/json", (), "its key was destroyed on 2026-11-24, as record 7 of demo says"),
        )  # fmt: skip
        self._kept[line.exchange_id] = _Exchange(
            seen.ExchangeSeen(line, steps, (proof,), tuple(one.role for one in bodies)), bodies, tenant, is_ok
        )
        return line.exchange_id

    async def search(self, viewer: Viewer, filters: seen.Filters, limit: int, after: str | None) -> seen.Found:
        self._check()
        fitting = [
            one.seen.line for one in self._kept.values() if self._is_for(one, viewer) and _fits(one.seen.line, filters)
        ]
        fitting.sort(key=lambda one: (one.at, one.exchange_id), reverse=True)
        ids = [one.exchange_id for one in fitting]
        start = ids.index(after) + 1 if after in ids else 0
        shown = tuple(fitting[start : start + limit])
        more = shown[-1].exchange_id if start + limit < len(fitting) else None
        return seen.Found(shown, more, len(fitting), reference(viewer.identity))

    async def one(self, viewer: Viewer, exchange_id: str) -> seen.ExchangeSeen | None:
        found = self._found(viewer, exchange_id)
        return replace(found.seen, viewer_ref=reference(viewer.identity)) if found else None

    async def payloads(self, viewer: Viewer, exchange_id: str, purpose: str) -> seen.PayloadsSeen | None:
        found = self._found(viewer, exchange_id)
        if found is None:
            return None
        self.readings.append((viewer.name, exchange_id, purpose))
        return seen.PayloadsSeen(exchange_id, found.bodies, seen.Place("demo/gw-0-console/1", len(self.readings)))

    async def verify_one(self, viewer: Viewer, exchange_id: str) -> seen.Verdict | None:
        found = self._found(viewer, exchange_id)
        if found is None:
            return None
        examined = (
            seen.Examined("Leaves", True, "2 records, as they were written"),
            seen.Examined("Tree", found.is_ok, "each leads to the signed head" if found.is_ok else "record 2 does not lead to the signed head"),
            seen.Examined("Lock", True, "COMPLIANCE, for 399 more days"),
        )  # fmt: skip
        return seen.Verdict(exchange_id, found.is_ok, self._clock(), examined)

    async def charts(self, viewer: Viewer, since: datetime) -> seen.Charts:
        self._check()
        if self.drawn is not None:
            return self.drawn
        now = self._clock()
        hours = int((now - since).total_seconds() // 3600) + 1
        made = tuple(
            seen.Hour(
                since + timedelta(hours=n), 40 + 37 * n % 90, 7 * n % 11, 5 * n % 4, n % 3,
                None if n % 9 == 4 else 3.0 + n % 5, None if n % 9 == 4 else 18.0 + 7 * (n % 6), n % 4, n % 2, n % 3, n % 2,
            )
            for n in range(hours)
        )  # fmt: skip
        entities = (("EMAIL", 412), ("PHONE", 160), ("CREDIT_CARD", 81), ("PERSON", 44), ("SECRET_GITHUB", 3))
        return seen.Charts(since, now, made, tuple(seen.Count(*one) for one in entities))

    async def activations(self) -> seen.Activations:
        self._check()
        return seen.Activations(self.policies, self.refused, self.shadows)

    async def verification(self) -> seen.Standing:
        self._check()
        return self.standing

    def _check(self) -> None:
        if self.failure is not None:
            raise self.failure

    def _is_for(self, one: _Exchange, viewer: Viewer) -> bool:
        return one.tenant == viewer.identity.tenant

    def _found(self, viewer: Viewer, exchange_id: str) -> _Exchange | None:
        self._check()
        found = self._kept.get(exchange_id)
        return found if found is not None and self._is_for(found, viewer) else None


def _fits(line: seen.ExchangeLine, wanted: seen.Filters) -> bool:
    texts = ("connection", "model", "decision", "outcome", "code")
    return (
        all(getattr(wanted, name) in (None, getattr(line, name)) for name in texts)
        and (
            wanted.query is None
            or line.exchange_id.startswith(wanted.query)
            or (line.subject_ref or "").startswith(wanted.query)
        )
        and (wanted.since is None or line.at >= wanted.since)
        and (wanted.until is None or line.at < wanted.until)
        and (wanted.entity is None or any(one.name == wanted.entity for one in line.masked))
    )


class FakeRefusals:
    """`ports.Refusals`. ``noted`` is what would be leaves: who, page, code, channel, and how often since the last."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._last: dict[tuple[str, str], tuple[datetime, int]] = {}
        self.noted: list[tuple[str, str, str, str, int]] = []
        self.failure: Exception | None = None

    async def note(self, viewer: Viewer, page: str, code: str, *, is_api: bool) -> None:
        at, count = self._last.get((viewer.name, page), (None, 0))
        if at is not None and self._clock() - at < timedelta(minutes=10):
            self._last[viewer.name, page] = (at, count + 1)
            return
        if self.failure is not None:
            self._last[viewer.name, page] = (at or NOW - timedelta(days=1), count + 1)
            raise self.failure
        self._last[viewer.name, page] = (self._clock(), 0)
        self.noted.append((viewer.name, page, code, "api" if is_api else "console", count))


class FakeBearers:
    """`ports.Bearers`: tokens are names of people who were put in."""

    def __init__(self) -> None:
        self.people: dict[str, Identity] = {}
        self.failure: Exception | None = None

    async def identify(self, token: Secret, now: datetime) -> Identity:
        if self.failure is not None:
            raise self.failure
        found = self.people.get(token.reveal())
        if found is None or (found.expires_at is not None and now >= found.expires_at):
            raise BadToken("unknown")
        return found
