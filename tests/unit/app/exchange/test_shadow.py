"""A candidate beside the policy: it is asked, what differs is on record, and no caller ever notices it."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from ext_proc import telemetry
from ext_proc.app.exchange.shadow import WAITING_MAX, ShadowedPolicy
from ext_proc.errors import AuditUnavailable, PolicyUnavailable, PolicyUndefined
from ext_proc.model import PolicyVersion
from tests.fakes.policy import FakePolicy, a_call

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

OTHER = PolicyVersion("candidate", "1" * 64)


class House:
    def __init__(self) -> None:
        self.active, self.candidate = FakePolicy(), FakePolicy()
        self.candidate.version = OTHER
        self.notes: list[tuple[str, Mapping[str, Any]]] = []
        self.failure: Exception | None = None
        self.policy = ShadowedPolicy(self.active, self.candidate, self.note)

    async def note(self, kind: str, facts: Mapping[str, Any]) -> None:
        if self.failure is not None:
            raise self.failure
        self.notes.append((kind, facts))

    @asynccontextmanager
    async def living(self) -> AsyncIterator[None]:
        async with asyncio.TaskGroup() as group:
            task = group.create_task(self.policy.live())
            yield
            task.cancel()


def count(result: str) -> float:
    return telemetry.SHADOW_DECISIONS.labels(result)._value.get()


async def settled(before: float, result: str) -> None:
    for _ in range(1000):
        if count(result) > before:
            return
        await asyncio.sleep(0.001)
    raise AssertionError(result)


@pytest.mark.asyncio
async def test_the_same_answer_leaves_no_record() -> None:
    house, before = House(), count("same")
    async with house.living():
        decision = await house.policy.decide(a_call())
        await settled(before, "same")
    assert (decision.policy, house.notes) == (house.active.version, [])
    assert house.candidate.asked == house.active.asked


@pytest.mark.asyncio
async def test_a_difference_is_on_record_and_not_enforced() -> None:
    house, before = House(), count("differed")
    house.candidate.deny("too_dear")
    async with house.living():
        decision = await house.policy.decide(a_call())
        await settled(before, "differed")
    assert decision.allow
    [(kind, facts)] = house.notes
    assert kind == "policy.shadow_differed"
    assert facts == {
        "exchange_id": a_call().exchange_id, "decision_id": decision.decision_id, "fields": ["allow", "reasons"],
        "effects": ["otherwise"], "active": {"revision": house.active.version.revision, "digest": "0" * 64},
        "candidate": {"revision": "candidate", "digest": "1" * 64},
    }  # fmt: skip


@pytest.mark.asyncio
async def test_no_decision_is_a_difference_too() -> None:
    house, before = House(), count("differed")
    house.candidate.error = PolicyUndefined("fields")
    async with house.living():
        assert (await house.policy.decide(a_call())).allow
        await settled(before, "differed")
    assert house.notes[0][1]["fields"] == ["decision"]
    assert house.notes[0][1]["candidate"] is None


@pytest.mark.asyncio
@pytest.mark.parametrize("who", ["candidate", "log"])
async def test_what_fails_beside_costs_nobody_anything(who: str) -> None:
    house = House()
    house.candidate.deny("x")
    if who == "candidate":
        house.candidate.error = PolicyUnavailable("deadline")
    else:
        house.failure = AuditUnavailable("full")
    code = "policy_unavailable" if who == "candidate" else "audit_unavailable"
    before = count(code)
    async with house.living():
        assert (await house.policy.decide(a_call())).allow
        await settled(before, code)
        assert (await house.policy.decide(a_call())).allow
    assert house.notes == []


@pytest.mark.asyncio
async def test_a_candidate_that_hangs_is_left_out_and_counted() -> None:
    house, before = House(), count("dropped")
    for number in range(WAITING_MAX + 10):  # nobody asks it
        assert (await house.policy.decide(replace(a_call(), body_bytes=number))).allow
    assert count("dropped") == before + 10


@pytest.mark.asyncio
async def test_where_the_policy_fails_the_candidate_is_not_asked() -> None:
    house = House()
    house.active.fail()
    with pytest.raises(PolicyUnavailable):
        await house.policy.decide(a_call())
    assert house.candidate.asked == []
