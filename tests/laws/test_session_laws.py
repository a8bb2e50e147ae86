"""Laws L1, L3, L4 and L7 of one exchange: whatever Envoy says and however the rooms answer, in any order.

The driver here does what `server.stream` does, without waiting: it performs effects, keeps the step in progress and the
open question, and watches. Sessions with planted mistakes show that each law can fail.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

import pytest
from hypothesis import Phase, find, given, settings
from hypothesis import strategies as st

from ext_proc.errors import AuditUnavailable, BadBody, PeerError, PolicyUnavailable, UpstreamError
from ext_proc.model import HoldEnding, HoldState, Piece, Redaction
from ext_proc.phases import StreamingSession as Session
from ext_proc.phases import effects as do
from ext_proc.phases import events as ev
from ext_proc.phases.fields import is_untouchable
from ext_proc.phases.table import State
from tests.fakes.exchange import (
    ANSWER,
    AT,
    BODY,
    CONNECTIONS,
    DECISION,
    FAREWELL,
    HELD,
    PIECE,
    TO_BE_APPROVED,
    TOKENISED,
    answer_head,
    done,
    head,
    local_reply,
    stream_head,
)  # fmt: skip

if TYPE_CHECKING:
    from collections.abc import Callable

UPGRADE: Final = (("connection", b"upgrade"), ("upgrade", b"websocket"))
PEER: Final[dict[str, ev.PeerEvent]] = {
    "head": head(),
    "head, no body": head(is_last=True),
    "head, upgrade": head(*UPGRADE, route="upgrades"),
    "head, bad": head(without=":path"),
    "head, nowhere": head(route="nowhere"),
    "body": ev.RequestBody(AT, BODY),
    "body, large": ev.RequestBody(AT, b"x" * 1001),
    "answer": answer_head(),
    "answer, no body": answer_head(is_last=True),
    "answer, switched": answer_head(b"101"),
    "answer, no status": answer_head(b""),
    "answer, error": answer_head(b"500"),
    "answer, out of range": answer_head(b"600"),
    "answer, Envoy's names": replace(
        answer_head(), headers=(*answer_head().headers, ("x-envoy-note", b"a"), ("x-request-id", b"a"), ("host", b"a"))
    ),
    "answer, stream": stream_head(),
    "piece": ev.ResponseBody(AT, PIECE, is_last=False),
    "piece, short": ev.ResponseBody(AT, b"a", is_last=False),
    "local reply": local_reply(),
    "local reply, no body": local_reply(is_last=True),
    "answer's body": ev.ResponseBody(AT, ANSWER),
    "answer's body, large": ev.ResponseBody(AT, b"x" * 1001),
    "unknown": ev.Unknown(AT, "request_trailers"),
    "end": ev.StreamEnded(AT),
}
OPENINGS: Final = ("head", "head", "head, no body", "head, upgrade", "head, bad", "local reply")
STEP_ENDS: Final = ("done", "failed", "slow", "caller's fault", "denied", "approval", "blocked", "no payloads")
# "slow" is a record that becomes durable after we gave it up.
ASKED: Final = replace(DECISION, asked=b'{"input":{},"result":{}}')
PIECES: Final = 2
STEPS_MAX: Final = 40
"""No exchange has so many steps: one that has goes in circles."""


@dataclass(slots=True)
class Watched:
    """One session, driven and watched. Every ``assert`` is a law."""

    session: Session
    step: do.Step | None = None
    question: ev.PeerEvent | None = None
    is_open: bool = True
    is_let_on: bool = False
    needs_approval: bool = False
    is_approved: bool = False
    is_over: bool = False
    is_head_of_answer_seen: bool = False
    is_streaming: bool = False
    pieces: list[str] = field(default_factory=list)
    is_end_lost: bool = False
    durable: list[Any] = field(default_factory=list)
    confirmed: list[Any] = field(default_factory=list)
    released: list[bytes | None] = field(default_factory=list)
    said: list[str] = field(default_factory=list)

    # What the driver does ---------------------------------------------------------------------------------------------

    def hear(self, event: ev.PeerEvent) -> None:
        """Envoy says something."""
        if not self.is_open:
            return
        if isinstance(event, ev.StreamEnded):
            self.end()
            return
        self.question = event
        before = dict(vars(self.session))
        try:
            effects = self.session.handle(event)
        except PeerError as error:
            assert vars(self.session) == before, "an event out of turn changes nothing"
            self.session.blame(error)
            self.end()
            return
        if effects and self.step is not None:
            assert not isinstance(self.step, do.Record), "L4: a record in progress is never given up"
            self.step = None
        self._perform(effects)

    def end(self) -> None:
        """The stream is over, or aborted: nobody can be answered any more."""
        self.is_open, self.question = False, None
        effects = self.session.handle(ev.StreamEnded(AT))
        if effects:
            assert not isinstance(self.step, do.Record), "L4: a record in progress is never given up"
            self.step = None
        self._perform(effects)

    def do(self, how: str) -> None:
        """The step in progress ends."""
        if self.step is None:
            return
        step, self.step = self.step, None
        event = _ended(step, how)
        if isinstance(event, ev.Decided):
            self.needs_approval = event.decision.approval is not None
        if isinstance(event, ev.HoldStands):
            self.is_approved = event.standing.state is HoldState.CLAIMED
        if isinstance(step, do.Record):
            if isinstance(event, ev.Recorded):
                self.confirmed.append(step.entry)
            if isinstance(event, ev.Recorded) or how == "slow":
                self.durable.append(step.entry)
            elif self.session.state is State.RECORDING_END:
                self.is_end_lost = True
        try:
            effects = self.session.handle(event)
        except PeerError as error:
            raise AssertionError("a step's answer has no place") from error
        self._perform(effects)

    def _perform(self, effects: tuple[do.Effect, ...]) -> None:
        assert len(effects) <= 1, "one thing at a time"
        for effect in effects:
            if isinstance(effect, do.Continue):
                self._continue(effect)
            elif isinstance(effect, do.Refuse):
                self._refuse(effect)
            else:
                assert self.step is None, "one step at a time"
                self.step = effect

    # The laws ---------------------------------------------------------------------------------------------------------

    def _answers(self) -> ev.PeerEvent:
        assert self.is_open, "nobody is there to be answered"
        assert not self.is_over, "nothing is answered after the last word"
        question, self.question = self.question, None
        assert question is not None, "L3: one question, at most one answer"
        return question

    def _continue(self, effect: do.Continue) -> None:
        question = self._answers()
        touched = (*effect.remove_headers, *(name for name, _ in effect.set_headers))
        assert not [name for name in touched if is_untouchable(name)], "L7: Envoy would refuse it after the record"
        words = dict(effect.metadata or {})
        match question:
            case ev.RequestHeaders() | ev.RequestBody():
                self._lets_on(question, effect, words)
            case ev.ResponseHeaders() if effect.streamed:
                assert self._has("inference.part"), "L1: a stream's head before its part is durable"
                self.is_streaming, self.pieces = True, [words["piece"]]
                return
            case ev.ResponseBody() if self.is_streaming:
                self._lets_a_piece_on(question, effect, words)
                return
            case ev.ResponseHeaders():
                assert not effect.body
                is_released = question.is_last or "response" in words or not self.is_let_on
                if is_released:
                    assert self._has("inference.outcome"), "L1: a response head before its outcome is durable"
                self.is_over = question.is_last or "response" in words
                self.is_head_of_answer_seen = True
            case ev.ResponseBody():
                assert self.is_head_of_answer_seen
                assert self._has("inference.outcome"), "L1: a response body before its outcome is durable"
                assert ("response" in words) == self.is_let_on
                self.is_over = True
            case _:
                raise AssertionError(question)
        if "response" in words:
            assert words["response"] == "released"
            assert self.is_let_on
            self.released.append(effect.body)
            end = self.confirmed[-1]
            assert end.kind == "inference.outcome"
            if effect.body is not None:
                kept = [payload.body for payload in end.payloads if payload.role == "response.released"]
                assert kept in ([], [effect.body]), "L7: what is released is what is on record"
                assert end.facts["outcome"]["released_bytes"] == len(effect.body)

    def _lets_on(
        self, question: ev.RequestHeaders | ev.RequestBody, effect: do.Continue, words: dict[str, str]
    ) -> None:
        is_held = isinstance(question, ev.RequestHeaders) and not question.is_last and not effect.uninspected
        if is_held:  # Envoy waits for our answer to the body (BUFFERED)
            assert not words and effect.body is None
            return
        assert self._has("inference.intent"), "L1: a call before its intent is durable"
        assert not self.needs_approval or self.is_approved, "nothing passes that nobody agreed to"
        assert words["decision"] == "allow"
        assert "deny" not in self.said
        self.said.append("allow")
        self.is_let_on = True

    def _lets_a_piece_on(self, question: ev.ResponseBody, effect: do.Continue, words: dict[str, str]) -> None:
        """Nothing passes, or what is on record does, with a new word for the gate before us."""
        assert effect.body is not None, "what came of the upstream is always replaced"
        self.is_over = question.is_last
        if not effect.body and not words:
            return
        assert words["piece"] not in self.pieces
        self.pieces.append(words["piece"])
        self.released.append(effect.body)
        if words.get("outcome") == "unrecorded":
            assert effect.body == FAREWELL, "L1: nothing but our own word passes unrecorded"
            return
        last = self.confirmed[-1].facts
        covered = last["part"]["covered_bytes"] if "part" in last else last["outcome"]["released_bytes"]
        assert covered == self._released_bytes(), "L1, L7: what is released is what the last record covers"
        on_record = [p.body for entry in self.confirmed for p in entry.payloads if p.role == "response.released"]
        assert on_record == [] or b"".join(on_record) == b"".join(body or b"" for body in self.released)

    def _released_bytes(self) -> int:
        return sum(len(body or b"") for body in self.released)

    def _refuse(self, effect: do.Refuse) -> None:
        self._answers()
        self.is_over = True
        assert "response" not in effect.metadata, "a refusal opens no gate"
        assert effect.metadata.get("decision") != "allow"
        assert effect.refusal.status >= 400 or (effect.refusal.status == 202 and effect.refusal.held is not None)
        if self.is_let_on:
            assert "decision" not in effect.metadata, "what was said for the request still stands"
        if effect.metadata["outcome"] != "unrecorded":
            assert self._has("inference.outcome"), "recorded first, refused then"
            assert self.confirmed[-1].facts["outcome"]["http_status"] == effect.refusal.status

    def _has(self, kind: str) -> bool:
        return any(entry.kind == kind for entry in self.confirmed)

    def settle(self) -> None:
        """Envoy ends the stream if it has not; every step ends; then everything must have been told."""
        if self.is_open:
            self.end()
        for _ in range(STEPS_MAX):
            if self.step is None:
                break
            self.do("done")
        assert (self.step, self.session.state) == (None, State.ENDED), "every exchange settles"
        for entry in self.durable:
            assert ("forwarded" not in entry.facts["time"]) or self.is_let_on, "L7: never forwarded"
        if self.is_end_lost:  # the log failed at the very last: nothing can be told any more
            return
        kinds = [entry.kind for entry in self.durable]
        for entry in [entry for entry in self.durable if "policy" in entry.facts][:1]:
            kept = [payload.body for payload in entry.payloads if payload.role == "policy.question"]
            assert kept == [ASKED.asked], "what was asked is on record with the first word on the answer"
        assert self.session.hold_ending is not HoldEnding.PASSED or self.is_let_on
        if self.is_let_on:
            assert self.session.hold_ending is HoldEnding.PASSED, "an approval that was used serves nobody else"
        if self.is_let_on or "inference.intent" in kinds:
            assert next(kind for kind in kinds if kind != "approval.requested") == "inference.intent"
            assert "inference.outcome" in kinds[1:], "L4: what went on has its outcome"
        if self.is_streaming:
            self._settle_stream()
            return
        claimed = sum(e.facts["outcome"]["released_bytes"] for e in self.durable if e.kind == "inference.outcome")
        if claimed and not self.released:
            last = self.durable[-1]
            is_set_right = last.kind == "inference.undelivered" or last.facts["outcome"]["status"] == "unrecorded"
            assert is_set_right, "L7: the record claims a release that never was"

    def _settle_stream(self) -> None:
        """What the last word on the exchange claims of a stream is what was released."""
        last = self.durable[-1]
        if last.kind == "inference.undelivered":
            return
        assert last.kind == "inference.outcome"
        assert last.facts["outcome"]["released_bytes"] == self._released_bytes(), "L7: the record claims what never was"


_STANDS: Final = {
    "denied": HoldState.DENIED,
    "approval": HoldState.CLAIMED,
    "blocked": HoldState.EXPIRED,
    "no payloads": HoldState.PENDING,
}
"""How a hold stands, for each way that a step may end in: no further ways, which would make mistakes rarer."""


def _ended(step: do.Step, how: str) -> ev.AnswerEvent:  # noqa: PLR0911 - one for each way
    if how == "failed" or (how == "slow" and isinstance(step, do.Record)):
        return ev.Failed(AT, AuditUnavailable() if isinstance(step, do.Record) else PolicyUnavailable())
    match step, how:
        case (do.Inspect() | do.RedactResponse(), "caller's fault"):
            return ev.Failed(AT, BadBody())
        case do.Decide(), "denied":
            return ev.Decided(AT, replace(ASKED, allow=False))
        case do.Decide(), "approval":
            return ev.Decided(AT, replace(TO_BE_APPROVED, asked=ASKED.asked))
        case (do.AskApproval() | do.AwaitApproval(), "denied" | "approval" | "blocked" | "no payloads"):
            return ev.HoldStands(AT, replace(HELD, state=_STANDS[how]))
        case do.Decide(), "no payloads":
            # And with tokens: one more step, and no further way to choose from, which would make mistakes rarer.
            tokens = replace(ASKED, redact_request=TOKENISED, restore=("*",))
            return ev.Decided(AT, replace(tokens, record_payloads=False))
        case (do.RedactRequest() | do.RedactResponse(), "blocked"):
            return ev.Redacted(AT, Redaction(b"x", BODY, blocked=("SECRET_KEY",)))
        case do.RedactPiece(), "blocked":
            return ev.PieceRedacted(AT, Piece(b"x", blocked=("SECRET_KEY",)))
        case do.Decide(), _:
            return ev.Decided(AT, ASKED)
        case (do.OpenStream() | do.RedactPiece(), "caller's fault"):
            return ev.Failed(AT, UpstreamError("sse"))
    return done(step)


def _next(watched: Watched, *, is_to_stream: bool) -> None:
    """What comes next where nothing goes wrong."""
    if watched.step is not None:
        watched.do("done")
        return
    match watched.session.state:
        case State.AWAIT_REQUEST_BODY:
            watched.hear(PEER["body"])
        case State.AWAIT_RESPONSE:
            watched.hear(PEER["answer, stream" if is_to_stream else "answer"])
        case State.AWAIT_PIECE | State.DRAINING:
            watched.hear(PEER["piece" if len(watched.released) < PIECES else "answer's body"])
        case State.AWAIT_RESPONSE_BODY | State.RELEASING_LOCAL_REPLY:
            watched.hear(PEER["answer's body"])


ONE = st.one_of(
    st.just("next"), st.just("next"), st.just("next"), st.just("next"), st.sampled_from(STEP_ENDS), st.sampled_from(sorted(PEER))
)  # fmt: skip
WHOLE = st.tuples(
    st.sampled_from((*OPENINGS, *PEER)), st.integers(0, 14), st.lists(ONE, max_size=12), st.just(value=False)
)
STREAMED = st.tuples(st.just("head"), st.integers(8, 20), st.lists(ONE, max_size=8), st.just(value=True))
TRACES = WHOLE | STREAMED
"""How it begins, how many turns go as they should, then anything; and whether answers stream."""

Trace = tuple[str, int, list[str], bool]


def run(make: Callable[[Any], Session], trace: Trace) -> Watched:
    """Drive a session along a trace and settle it."""
    opening, as_it_should, rest, is_to_stream = trace
    watched = Watched(make(CONNECTIONS))
    watched.hear(PEER[opening])
    for turn in (*["next"] * as_it_should, *rest):
        if turn == "next":
            _next(watched, is_to_stream=is_to_stream)
        elif turn in PEER:
            watched.hear(PEER[turn])
        else:
            watched.do(turn)
    watched.settle()
    return watched


@settings(max_examples=1500, deadline=None)
@given(TRACES)
def test_laws_hold_on_every_trace(trace: Trace) -> None:
    run(Session, trace)


def test_traces_reach_everything() -> None:
    """A law that is never put to the test is no law: calls are let on, released, refused, and set right."""
    reached = [
        lambda w: w.released == [b'{"answer":"<email>"}'],
        lambda w: w.is_let_on and not w.released and w.session.outcome == "denied",
        lambda w: any(entry.kind == "inference.undelivered" for entry in w.durable),
        lambda w: w.session.outcome == "unrecorded" and w.is_let_on,
        lambda w: w.session.outcome == "local_reply" and any(entry.kind == "inference.intent" for entry in w.durable),
        lambda w: w.session.outcome == "abandoned" and w.is_let_on,
    ]
    for is_reached in reached:
        find(WHOLE, lambda trace, f=is_reached: f(run(Session, trace)), settings=SEARCH)


TO_THE_FIRST_PIECE: Final = 12
"""Turns until it came and is to be masked."""


@pytest.mark.parametrize(
    ("turns", "rest", "outcome", "released"),
    [
        (20, ["next", "next"], "completed", 3),
        (TO_THE_FIRST_PIECE, ["blocked", "next"], "denied", 1),
        (TO_THE_FIRST_PIECE, ["caller's fault", "next"], "error", 1),
        (TO_THE_FIRST_PIECE + 2, ["end"], "abandoned", 1),
        (TO_THE_FIRST_PIECE + 1, ["slow"], "unrecorded", 1),
        (TO_THE_FIRST_PIECE + 1, ["end", "done"], "abandoned", 0),
    ],
)
def test_traces_of_streams_reach_everything(turns: int, rest: list[str], outcome: str, released: int) -> None:
    watched = run(Session, ("head", turns, rest, True))
    assert watched.is_streaming
    assert (watched.session.outcome, len(watched.released)) == (outcome, released)


# Planted mistakes --------------------------------------------------------------------------------------------------------

SEARCH: Final = settings(max_examples=20_000, deadline=None, database=None, derandomize=True, phases=[Phase.generate])


class CallBeforeIntent(Session):
    """Lets the call go while its intent is on the way."""

    def on_unlocked(self, event: ev.Unlocked) -> tuple[do.Effect, ...]:
        super().on_unlocked(event)
        self.state = State.AWAIT_RESPONSE
        return (do.Continue(metadata={"decision": "allow"}),)


class PassesUnapproved(Session):
    """A mistake: nobody is asked where the policy demands that people agree."""

    @property
    def _is_agreed(self) -> bool:
        return True


class ReleaseBeforeOutcome(Session):
    """Answers first, records then."""

    def on_response_redacted(self, event: ev.Redacted) -> tuple[do.Effect, ...]:
        super().on_response_redacted(event)
        self.state = State.SETTLED
        return (do.Continue(body=event.redaction.body, metadata={"response": "released"}),)


class RefusalBeforeRecord(Session):
    """Says no before it is on record."""

    def on_failed(self, event: ev.Failed) -> tuple[do.Effect, ...]:
        super().on_failed(event)
        return self._say_no()


class AnswersTwice(Session):
    """Lets the body come although it is already there."""

    def on_inspected(self, event: ev.Inspected) -> tuple[do.Effect, ...]:
        super().on_inspected(event)
        self.state = State.AWAIT_REQUEST_BODY
        return (do.Continue(),)


class ForgetsWhatWasKept(Session):
    """Answers although Envoy has gone meanwhile."""

    def on_kept(self, event: ev.ResponseHeaders | ev.StreamEnded) -> tuple[do.Effect, ...]:
        return ()


class TakesASecondHead(Session):
    """Lets a second head pass for Envoy's own reply (as this house once did)."""

    def on_kept(self, event: ev.ResponseHeaders | ev.StreamEnded) -> tuple[do.Effect, ...]:
        self._kept = event
        return ()

    def on_refusal_recorded(self, event: ev.Recorded) -> tuple[do.Effect, ...]:
        if isinstance(self._kept, ev.ResponseHeaders):
            self.state = State.RELEASING_LOCAL_REPLY
            return (do.Continue(),)
        return super().on_refusal_recorded(event)


class LeavesWithoutAWord(Session):
    """Does not record that the caller left."""

    def on_left(self, event: ev.StreamEnded) -> tuple[do.Effect, ...]:
        return self.on_end(event)


class LeavesDoubt(Session):
    """Does not set right what a slow disk may have kept."""

    def on_unrecorded(self, event: ev.Failed) -> tuple[do.Effect, ...]:
        effects = super().on_unrecorded(event)
        self._is_in_doubt = False
        return effects


class InterruptsARecord(Session):
    """Gives up the record in progress when the caller leaves."""

    def on_kept(self, event: ev.ResponseHeaders | ev.StreamEnded) -> tuple[do.Effect, ...]:
        if isinstance(event, ev.StreamEnded):
            return self.on_left(event)
        return super().on_kept(event)


class ClaimsToHaveForwarded(Session):
    """Notes the time before it knows."""

    def on_intent_recorded(self, event: ev.Recorded) -> tuple[do.Effect, ...]:
        self._forwarded_at = event.at
        return super().on_intent_recorded(event)


class ClaimsToHaveReleased(Session):
    """Keeps quiet about an answer that nobody took."""

    def _undelivered(self, at: Any) -> tuple[do.Effect, ...]:
        self.state = State.ENDED
        return ()


class SpoilsItsStateOutOfTurn(Session):
    """An event that is refused leaves a trace."""

    def handle(self, event: ev.Event) -> tuple[do.Effect, ...]:
        if isinstance(event, ev.Unknown):
            self.state = State.SETTLED
        return super().handle(event)


class GoesInCircles(Session):
    """Never done recording."""

    def on_end_recorded(self, event: ev.Recorded | ev.Failed) -> tuple[do.Effect, ...]:
        return self.on_left(ev.StreamEnded(event.at))


class TouchesWhatEnvoyForbids(Session):
    """Takes off every name that it does not know (as this house once did)."""

    def _taken_off(self, overwritten: frozenset[str]) -> tuple[str, ...]:
        return (*super()._taken_off(overwritten), "x-request-id")


class PieceBeforeItsPart(Session):
    """Lets a piece on, records it then."""

    def on_piece_redacted(self, event: ev.PieceRedacted) -> tuple[do.Effect, ...]:
        super().on_piece_redacted(event)
        self.state = State.AWAIT_PIECE
        return (do.Continue(body=event.piece.body, metadata={"piece": "1"}),)


class HeadBeforeItsPart(Session):
    """Releases the head of a stream at once."""

    def on_stream_opened(self, event: ev.StreamOpened) -> tuple[do.Effect, ...]:
        super().on_stream_opened(event)
        self.state = State.AWAIT_PIECE
        return (do.Continue(metadata={"response": "released", "piece": "0"}, streamed=True),)


class ForgetsWhatWasReleased(Session):
    """Tells of a stream that broke off as if nothing of it had gone out."""

    def on_left(self, event: ev.StreamEnded) -> tuple[do.Effect, ...]:
        self._released_bytes = 0
        return super().on_left(event)


class ReleasesWhatWasBlocked(Session):
    """Goes on after a block."""

    def on_piece_redacted(self, event: ev.PieceRedacted) -> tuple[do.Effect, ...]:
        if event.piece.blocked:
            self.state = State.AWAIT_PIECE
            return (self._let_on({}),)
        return super().on_piece_redacted(event)


class SaysTheSameWordTwice(Session):
    """Opens the gate before us for a piece that it was not asked about."""

    def _let_on(self, words: dict[str, str]) -> do.Continue:
        return replace(super()._let_on(words), metadata={**words, "piece": "1"})


MISTAKES_OF_STREAMS: Final = (
    PieceBeforeItsPart,
    HeadBeforeItsPart,
    ForgetsWhatWasReleased,
    ReleasesWhatWasBlocked,
    SaysTheSameWordTwice,
)
MISTAKES: Final = (
    CallBeforeIntent,
    PassesUnapproved,
    ReleaseBeforeOutcome,
    RefusalBeforeRecord,
    AnswersTwice,
    ForgetsWhatWasKept,
    TakesASecondHead,
    LeavesWithoutAWord,
    LeavesDoubt,
    InterruptsARecord,
    ClaimsToHaveForwarded,
    ClaimsToHaveReleased,
    SpoilsItsStateOutOfTurn,
    GoesInCircles,
    TouchesWhatEnvoyForbids,
)


@pytest.mark.parametrize("mistake", [*MISTAKES, *MISTAKES_OF_STREAMS])
def test_laws_catch_planted_mistakes(mistake: type[Session]) -> None:
    def is_caught(trace: Trace) -> bool:
        try:
            run(mistake, trace)
        except AssertionError:
            return True
        return False

    find(STREAMED if mistake in MISTAKES_OF_STREAMS else WHOLE, is_caught, settings=SEARCH)
