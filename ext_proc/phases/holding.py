"""The story where people must agree first: `Session`, with a wait in step 3.

 3a. The request was decided, and it is known what the model would get: the call is held, or it is found how the same
     call stands already. Approved: it goes on at once, and nothing else does with that approval.
 3b. Otherwise the asking is recorded (``approval.requested``), and the exchange waits; Envoy waits with it.
 3c. Resolved in time: the policy is asked once more, for it may have changed meanwhile; on, or refused. Not in time, or
     where the caller prefers not to wait: "come back later" (202).

In an emergency the policy may let a call pass without all this: that, and why, is a record of its own before it does.

The caller may leave meanwhile, and Envoy may lose patience: then nobody waits, and the hold is withdrawn. `hold_ending`
says at the end what became of the exchange, so that an approval that it claimed and did not use serves the next one.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from ext_proc.errors import ApprovalUnavailable, BadToken, PeerError
from ext_proc.model import Asking, HoldEnding, HoldState, Payload, Refusal
from ext_proc.phases import effects as do
from ext_proc.phases import events as ev
from ext_proc.phases import facts
from ext_proc.phases.head import Preference, read_preference
from ext_proc.phases.session import Session
from ext_proc.phases.table import State
from ext_proc.record_kinds import LeafKind, PayloadRole

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from ext_proc.model import Connection, Standing

COME_BACK_SECONDS: Final = 5
"""``Retry-After`` of a call that is held: a person takes longer, and an approval is soon noticed."""

_ACCEPTED: Final = 202
_FORBIDDEN: Final = 403
_CONFLICT: Final = 409

_UNDECIDED: Final = frozenset({HoldState.PENDING, HoldState.APPROVED})
"""Nobody knows yet whether this exchange may pass: of one that is approved, another may be about to."""
_OUTDATED: Final = (
    _CONFLICT,
    "approval_outdated",
    "The policy changed while this call waited for approval. Send it again to ask again.",
)
_REFUSED: Final = {
    HoldState.DENIED: (_FORBIDDEN, "approval_denied", "Somebody was asked to approve this call, and denied it."),
    HoldState.EXPIRED: (
        _FORBIDDEN,
        "approval_expired",
        "This call needs approval, and nobody gave it in time. Send it again to ask again.",
    ),
    HoldState.USED: (
        _CONFLICT,
        "approval_used",
        "This call was approved, and another request used the approval. Send it again to ask again.",
    ),
}


class HoldingSession(Session):
    """`Session` for calls that need an approval; others pass through it untouched."""

    def __init__(self, connections: Mapping[str, Connection]) -> None:
        super().__init__(connections)
        self.was_held = False
        """Were people asked? Then they must be told how it ended: `hold_ending`."""
        self.is_glass_broken = False
        """Does it pass without the people who would have to agree, in an emergency?"""

    @property
    def hold_ending(self) -> HoldEnding:
        """What became of the exchange. Only what the model was sent has used its approval."""
        if self._forwarded_at is not None:
            return HoldEnding.PASSED
        is_told = self._refusal is not None and self._refusal.held is not None and not self._is_unanswered
        return HoldEnding.TOLD if is_told and not isinstance(self._kept, ev.StreamEnded) else HoldEnding.LEFT

    def _unlock(self, at: datetime) -> tuple[do.Effect, ...]:
        """What passes in an emergency without people's agreement is on record by itself, with why, before it does."""
        decision = self._decision
        if decision is None or decision.break_glass is None or self.is_glass_broken:
            return super()._unlock(at)
        if not self._passing.emergency or self._known_head.is_upgrade:  # the caller never said so, or nobody sees it
            return super()._ask_people(at)
        self.state = State.RECORDING_BREAK_GLASS
        why = Payload(PayloadRole.APPROVAL_JUSTIFICATION, self._passing.emergency.encode(), "text/plain")
        entry = self._entry(LeafKind.APPROVAL_BREAK_GLASS, {"time": self._times(at)}, ())
        return (do.Record(replace(entry, payloads=(why,))),)

    def on_break_glass_recorded(self, event: ev.Recorded) -> tuple[do.Effect, ...]:
        """It is: on."""
        self.is_glass_broken = True
        if self._kept is not None:
            return self._after_kept(event.at)
        return self._unlock(event.at)

    def _ask_people(self, at: datetime) -> tuple[do.Effect, ...]:
        """Step 3a. What nobody can see beforehand (an upgrade) nobody can agree to."""
        decision = self._decision
        if decision is None or decision.approval is None or self._call is None or self._forwarded is None:
            return super()._ask_people(at)
        self.state, self.was_held = State.ASKING_APPROVAL, True
        return (do.AskApproval(Asking(self._call, decision, decision.approval, self._body, self._forwarded)),)

    def on_hold_asked(self, event: ev.HoldStands) -> tuple[do.Effect, ...]:
        """Approved before, or resolved before, or to be waited for."""
        self._standing = event.standing
        if event.standing.state not in _UNDECIDED:
            return self._after_hold(event.at)
        terms = self._decision.approval if self._decision else None
        if terms is None:
            raise PeerError("held without terms")
        self.state = State.RECORDING_HOLD
        parts = {"time": self._times(event.at), "terms": facts.terms_facts(terms)}
        return (do.Record(self._with_question(self._entry(LeafKind.APPROVAL_REQUESTED, parts, ()))),)

    def on_hold_recorded(self, event: ev.Recorded) -> tuple[do.Effect, ...]:
        """Step 3b. It is on record that people are asked: wait for them, as long as the caller and Envoy do."""
        self._question_recorded = True
        if self._kept is not None:
            return self._after_kept(event.at)
        standing, prefers = self._known_standing, self._preference
        if prefers.is_async:
            return self._come_back(event.at)
        seconds = self._known_connection.hold_seconds
        if prefers.wait_seconds is not None:
            seconds = min(seconds, prefers.wait_seconds)
        if self.exchange_id is None or self._patient_since is None:
            raise PeerError("held before begun")
        self.state = State.HOLDING
        until = self._patient_since + timedelta(seconds=seconds)  # a slow register must not cost the caller the answer
        return (do.AwaitApproval(standing.hold_id, self.exchange_id, until),)

    def on_hold_resolved(self, event: ev.HoldStands) -> tuple[do.Effect, ...]:
        """Step 3c."""
        self._standing = event.standing
        if event.standing.state in _UNDECIDED:
            return self._come_back(event.at)
        if self._is_agreed and self._call is not None:
            self.state = State.DECIDING_AGAIN
            return (do.Decide(self._call),)
        return self._after_hold(event.at)

    def on_decided_again(self, event: ev.Decided) -> tuple[do.Effect, ...]:
        """People agreed to what the policy said when they were asked. If it says something else now, they did not."""
        before, self._decided_at = self._decision, event.at
        if self._identity is not None and (ends_at := self._identity.expires_at) is not None and event.at >= ends_at:
            return self._refuse(BadToken("expired while it waited"), event.at)
        if before is not None and replace(event.decision, decision_id=before.decision_id) == before:
            return self._unlock(event.at)
        self._decision, self._question_recorded = event.decision, False  # asked the same, it answered something else
        if not event.decision.allow:
            return self._deny("denied", "The policy does not allow this call.", event.at)
        return self._record_refusal(Refusal(*_OUTDATED), "denied", event.at)

    def _after_hold(self, at: datetime) -> tuple[do.Effect, ...]:
        if self._is_agreed:
            return self._unlock(at)
        known = _REFUSED.get(self._known_standing.state)
        if known is None:  # withdrawn or abandoned, while we wait for it: somebody took us for dead
            return self._refuse(ApprovalUnavailable("abandoned"), at)
        return self._record_refusal(Refusal(*known), "denied", at)

    def _come_back(self, at: datetime) -> tuple[do.Effect, ...]:
        said = "This call waits for approval. Send the same request again to get its answer."
        refusal = Refusal(
            _ACCEPTED,
            "approval_pending",
            said,
            (),
            COME_BACK_SECONDS,
            held=self._known_standing,
            is_event=self._known_inspection.is_stream and self._preference == Preference(),
        )
        return self._record_refusal(refusal, "held", at)

    @property
    def _preference(self) -> Preference:
        return read_preference(self._known_head.headers)

    @property
    def _known_standing(self) -> Standing:
        if self._standing is None:
            raise PeerError("no hold")
        return self._standing
