"""A candidate policy beside the active one: asked the same, after the decision, and never listened to.

Nobody waits for it: calls go on with the active policy's decision, and the candidate is asked from a queue. Where the
queue is full a call is left out, and counted: a candidate that is slow must not cost a caller anything. What differs is
on record by its fields, never with content.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from ext_proc import telemetry
from ext_proc.errors import GateError, PolicyUndefined
from ext_proc.policy.differing import differences, effects
from ext_proc.policy.question import NotAskedError, read_asked
from ext_proc.record_kinds import LeafKind

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from ext_proc.model import Call, Decision, PolicyVersion
    from ext_proc.ports import Policy

WAITING_MAX: Final = 256
AT_ONCE: Final = 4


@dataclass(frozen=True, slots=True)
class _Asked:
    call: Call
    decision: Decision


class ShadowedPolicy:
    """`ports.Policy`: the active one's, whatever the candidate says. ``live`` asks the candidate.

    Args:
        active: decides.
        candidate: is asked too.
        note: puts a difference on record.
    """

    def __init__(
        self, active: Policy, candidate: Policy, note: Callable[[str, Mapping[str, Any]], Awaitable[object]]
    ) -> None:
        self._active = active
        self._candidate = candidate
        self._note = note
        self._waiting: asyncio.Queue[_Asked] = asyncio.Queue(WAITING_MAX)

    async def decide(self, call: Call) -> Decision:
        """See `ports.Policy.decide`."""
        decision = await self._active.decide(call)
        try:
            self._waiting.put_nowait(_Asked(call, decision))
        except asyncio.QueueFull:
            telemetry.SHADOW_DECISIONS.labels("dropped").inc()
        return decision

    async def live(self) -> None:
        """Ask the candidate, for ever."""
        async with asyncio.TaskGroup() as group:
            for _ in range(AT_ONCE):
                group.create_task(self._ask_forever())

    async def _ask_forever(self) -> None:
        while True:
            asked = await self._waiting.get()
            telemetry.SHADOW_DECISIONS.labels(await self._compared(asked)).inc()

    async def _compared(self, asked: _Asked) -> str:
        before = asked.decision
        candidate: PolicyVersion | None = None
        try:
            old, new = read_asked(before.asked), None
            try:
                now = await self._candidate.decide(asked.call)
                candidate, new = now.policy, read_asked(now.asked).result
            except PolicyUndefined:
                pass  # its answer is no decision: that is a difference
            fields = [one.field for one in differences(old.result, new)]
            if not fields:
                return "same"
            told = {
                "exchange_id": asked.call.exchange_id,
                "decision_id": before.decision_id,
                "fields": fields,
                "effects": list(effects(old.result, new, asked.call.inspection.findings)),
                "active": _told(before.policy),
                "candidate": None if candidate is None else _told(candidate),
            }
            await self._note(LeafKind.POLICY_SHADOW_DIFFERED, told)
        except NotAskedError:
            return "failed"
        except GateError as error:  # the candidate does not answer, or the log has no room: nobody's call suffers
            return error.code
        return "differed"


def _told(version: PolicyVersion) -> dict[str, str]:
    return {"revision": version.revision, "digest": version.digest}
