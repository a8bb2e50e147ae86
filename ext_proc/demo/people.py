"""The demo's people: a call that waits for one of them, one that is denied, one that nobody answers.

They come by the console's API, as its pages and `affidavit approvals` do.
"""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Final

from ext_proc.app.approval.approving import API, Desk
from ext_proc.demo.telling import StoryError
from ext_proc.record_kinds import LeafKind

if TYPE_CHECKING:
    from ext_proc.demo.story import Answer, Story

RESTRICTED: Final = "demo-restricted"
BRIEF: Final = "demo-brief"
"""Whose approvers have two seconds."""
_OK: Final = 200


class People:
    """Three scenes of the story.

    Args:
        story: asks, reads the records, and says what happened.
    """

    def __init__(self, story: Story) -> None:
        self._story = story
        stack = story.stack
        self._bob = Desk(stack.console, stack.token("bob", ["approvers"]))
        self._grace = Desk(stack.console, stack.token("grace", ["analysts", "approvers"]))

    def approved(self) -> None:
        """It waits; whoever asked may not agree; somebody else may."""
        story = self._story
        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(story.ask, "Name a colour.", story.analyst, model=RESTRICTED)
            hold = self._held()
            story.say("waits", f"{hold['hold_id']}: {hold['reason']}")
            status, said = self._resolve(self._grace, hold, "approve", "It is my own.")
            story.say("grace says yes", f"{status} {said['error']['message']}")
            story.expect(said["error"]["code"] == "own_call", f"grace approved her own call: {said}")
            story.expect(not waiting.done(), "the call did not wait")
            status, said = self._resolve(self._bob, hold, "approve", "Case 2026-17, spoken about with Grace.")
            story.expect(status == _OK, f"bob could not approve: {said}")
            story.say("bob says yes", "Case 2026-17, spoken about with Grace.")
            answer: Answer = waiting.result(60)
        story.say(
            "the caller got", f"{answer.status} {json.loads(answer.body)['choices'][0]['message']['content'][:60]}…"
        )
        story.expect(answer.status == _OK, f"status {answer.status}")
        intent, outcome = story.records(answer.exchange_id, (LeafKind.INFERENCE_INTENT, LeafKind.INFERENCE_OUTCOME))
        [word] = intent[1]["approval"]["resolutions"]
        place = word["record"]
        resolved = story.wait_for(
            lambda: story.leaf(place["origin"], place["sequence"]), "the yes is not in the bucket"
        )
        story.say("linked", f"the intent names record {place['sequence']} of {place['origin']}: {resolved['kind']}")
        story.expect(resolved["actor"]["subject_ref"] == word["person_ref"], "the records name two people")
        story.proof(outcome)

    def denied(self) -> None:
        """One no is enough."""
        story = self._story
        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(story.ask, "Name another colour.", story.analyst, model=RESTRICTED)
            hold = self._held()
            status, said = self._resolve(self._bob, hold, "deny", "Not with this model.")
            story.expect(status == _OK, f"bob could not deny: {said}")
            story.say("bob says no", "Not with this model.")
            story.told(waiting.result(60), "denied", 403)

    def expired(self) -> None:
        """Nobody says anything in time."""
        story = self._story
        answer = story.ask("Name a third colour.", story.analyst, model=BRIEF)
        story.told(answer, "denied", 403)
        story.expect("approval_expired" in answer.body, "it did not expire")

    def _held(self) -> dict[str, Any]:
        def look() -> dict[str, Any] | None:
            status, said = self._bob.ask("GET", f"{API}/holds")
            if status != _OK:
                raise StoryError(f"the inbox says {status} {said}")
            return next(iter(said["lines"]), None)

        return self._story.wait_for(look, "nothing waits")

    @staticmethod
    def _resolve(desk: Desk, hold: dict[str, Any], answer: str, why: str) -> tuple[int, dict[str, Any]]:
        return desk.ask("POST", f"{API}/holds/{hold['hold_id']}/resolution", {"answer": answer, "justification": why})
