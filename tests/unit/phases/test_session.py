"""`ext_proc.phases.session`: conversations as data, one for every turn that an exchange can take."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from ext_proc.errors import AuditUnavailable, BadBody, GateError, PeerError, PolicyUnavailable, UpstreamError
from ext_proc.model import Piece, Redaction
from ext_proc.phases import effects as do
from ext_proc.phases import events as ev
from ext_proc.phases.session import RETRY_AFTER_SECONDS
from ext_proc.phases.table import TABLE, State
from tests.fakes.exchange import (
    ADA,
    AGREED,
    ANSWER,
    ANSWER_HEADERS,
    AT,
    BODY,
    CREDENTIAL,
    DECISION,
    DEMO,
    HEADERS,
    HELD,
    ID,
    INSPECTION,
    PIECE,
    RELEASED,
    RULES,
    SENT,
    TO_BE_APPROVED,
    TOKENISED,
    TOKENS,
    VIA_UPSTREAM,
    Conversation,
    FakeAnswer,
    answer_head,
    attributes,
    done,
    head,
    later,
    local_reply,
    receipt,
    stream_head,
)  # fmt: skip

if TYPE_CHECKING:
    from collections.abc import Callable

    from ext_proc.model import Decision

REQUEST = ev.RequestBody(AT, BODY)
ANSWERED = ev.ResponseBody(AT, ANSWER)
PIECE_CAME = ev.ResponseBody(AT, PIECE, is_last=False)
LAST_PIECE_CAME = ev.ResponseBody(AT, PIECE, is_last=True)
ENDED = ev.StreamEnded(AT)
FAILED = ev.Failed(AT, PolicyUnavailable("deadline"))
UNRECORDED = ev.Failed(AT, AuditUnavailable("deadline"))
OPERATION = {"method": "POST", "path": "/v1/chat/completions"}
"""For Envoy's log, once they are an operation of the connection."""
UPGRADE = (("connection", b"upgrade"), ("upgrade", b"websocket"))


def instead(kind: type[Any], event: ev.AnswerEvent) -> Callable[[do.Effect], ev.AnswerEvent]:
    """A room that answers this step otherwise."""
    return lambda effect: event if isinstance(effect, kind) else done(effect)


def in_state(state: State) -> Conversation:  # noqa: PLR0912 - one for each state
    """A session that has come this far in the ordinary way."""
    told = Conversation()
    match state:
        case State.START:
            pass
        case State.ADMITTING:
            told.until(do.Admit, head())
        case State.AUTHENTICATING:
            told.until(do.Authenticate, head())
        case State.AWAIT_REQUEST_BODY:
            told.settle(head())
        case State.INSPECTING | State.DECIDING | State.REDACTING_REQUEST | State.UNLOCKING | State.RECORDING_INTENT:
            told.settle(head())
            told.until(STEPS[state], REQUEST)
        case State.OPENING_TOKENS:
            told = Conversation(instead(do.Decide, TOKENISES))
            told.settle(head())
            told.until(do.OpenTokens, REQUEST)
        case State.ASKING_APPROVAL | State.RECORDING_HOLD | State.HOLDING:
            told = Conversation(instead(do.Decide, ev.Decided(AT, TO_BE_APPROVED)))
            told.settle(head())
            told.until(STEPS[state], REQUEST)
        case State.DECIDING_AGAIN:
            told = Conversation(instead(do.Decide, ev.Decided(AT, TO_BE_APPROVED)))
            told.settle(head())
            told.until(do.AwaitApproval, REQUEST)
            told.say(ev.HoldStands(AT, AGREED))
        case State.RECORDING_BREAK_GLASS:
            told = Conversation(instead(do.Decide, ev.Decided(AT, replace(DECISION, break_glass="emergency"))))
            told.settle(head(("x-affidavit-break-glass", b"production is down")))
            told.until(do.Record, REQUEST)
        case State.AWAIT_RESPONSE:
            told.settle(head(), REQUEST)
        case State.AWAIT_RESPONSE_BODY:
            told.settle(head(), REQUEST, answer_head())
        case State.OPENING_STREAM:
            told.settle(head(), REQUEST)
            told.until(do.OpenStream, stream_head())
        case State.RECORDING_HEAD:
            told.settle(head(), REQUEST)
            told.until(do.Record, stream_head())
        case State.AWAIT_PIECE:
            told.settle(head(), REQUEST, stream_head())
        case State.REDACTING_PIECE | State.RECORDING_PIECE:
            told.settle(head(), REQUEST, stream_head())
            told.until(STEPS[state], PIECE_CAME)
        case State.RECORDING_LAST_PIECE:
            told.settle(head(), REQUEST, stream_head())
            told.until(do.Record, LAST_PIECE_CAME)
        case State.DRAINING:
            told.settle(head(), REQUEST, stream_head())
            told.until(do.RedactPiece, PIECE_CAME)
            told.settle(ev.Failed(AT, UpstreamError("sse")))
        case State.REDACTING_RESPONSE | State.RECORDING_OUTCOME:
            told.settle(head(), REQUEST, answer_head())
            told.until(STEPS[state], ANSWERED)
        case State.RECORDING_REFUSAL:
            told.until(do.Authenticate, head())
            told.say(FAILED)
        case State.RECORDING_LOCAL_REPLY:
            told.say(local_reply())
        case State.RELEASING_LOCAL_REPLY:
            told.settle(local_reply())
        case State.RECORDING_END:
            told.settle(head())
            told.say(ENDED)
        case State.SETTLED:
            told.settle(head(), REQUEST, answer_head(), ANSWERED)
        case State.ENDED:
            told.settle(head(), ENDED)
    assert told.session.state is state
    return told


TOKENISES = ev.Decided(AT, replace(DECISION, redact_request=TOKENISED, restore=("EMAIL",)))
STEPS: dict[State, type[Any]] = {
    State.INSPECTING: do.Inspect,
    State.DECIDING: do.Decide,
    State.OPENING_TOKENS: do.OpenTokens,
    State.REDACTING_REQUEST: do.RedactRequest,
    State.ASKING_APPROVAL: do.AskApproval,
    State.RECORDING_HOLD: do.Record,
    State.HOLDING: do.AwaitApproval,
    State.UNLOCKING: do.Unlock,
    State.RECORDING_INTENT: do.Record,
    State.REDACTING_RESPONSE: do.RedactResponse,
    State.RECORDING_OUTCOME: do.Record,
    State.REDACTING_PIECE: do.RedactPiece,
    State.RECORDING_PIECE: do.Record,
}
BEFORE_THE_INTENT = [
    State.ADMITTING, State.AUTHENTICATING, State.INSPECTING, State.DECIDING, State.OPENING_TOKENS, State.REDACTING_REQUEST,
    State.ASKING_APPROVAL, State.HOLDING, State.DECIDING_AGAIN, State.UNLOCKING,
]  # fmt: skip
EVERY_EVENT: list[ev.Event] = [
    head(), REQUEST, answer_head(), ANSWERED, ev.Unknown(AT, "request_trailers"), ENDED, ev.Admitted(AT),
    ev.Authenticated(AT, ADA), ev.Inspected(AT, INSPECTION), ev.Decided(AT, DECISION), ev.Redacted(AT, Redaction(b"", b"")),
    ev.TokensOpened(AT, TOKENS), ev.HoldStands(AT, HELD), ev.StreamOpened(AT, FakeAnswer()), ev.PieceRedacted(AT, Piece(b"")), ev.Unlocked(AT, CREDENTIAL),
    ev.Recorded(AT, receipt()), FAILED,
]  # fmt: skip


def outcome(told: Conversation) -> Any:
    """What the last entry says of how it ended."""
    assert told.entries[-1].kind == "inference.outcome"
    return told.entries[-1].facts["outcome"]


def roles(entry: Any) -> list[str]:
    """Which bodies an entry keeps."""
    return [payload.role for payload in entry.payloads]


# The story --------------------------------------------------------------------------------------------------------------


def test_whole_story_step_by_step() -> None:
    told = Conversation()
    tale: list[tuple[ev.Event, do.Effect | type[Any]]] = [
        (head(), do.Admit(2 * 25 + 64 * 1024)),
        (ev.Admitted(AT), do.Authenticate),
        (ev.Authenticated(AT, ADA), do.Continue()),
        (REQUEST, do.Inspect(DEMO, "POST", "/v1/chat/completions?beta=true", HEADERS, BODY)),
        (ev.Inspected(AT, INSPECTION), do.Decide),
        (ev.Decided(AT, DECISION), do.RedactRequest(INSPECTION, RULES)),
        (ev.Redacted(AT, Redaction(SENT, BODY)), do.Unlock(DEMO)),
        (ev.Unlocked(AT, CREDENTIAL), do.Record),
        (ev.Recorded(AT, receipt(1)), do.Continue),
        (answer_head(), do.Continue(remove_headers=("content-length",))),
        (ANSWERED, do.RedactResponse(INSPECTION, DECISION.redact_response, 200, ANSWER_HEADERS, ANSWER, 1000)),
        (ev.Redacted(AT, Redaction(RELEASED, ANSWER)), do.Record),
        (ev.Recorded(AT, receipt(2)), do.Continue),
    ]
    for event, expected in tale:
        effect = told.say(event)
        if isinstance(expected, type):
            assert isinstance(effect, expected)
        else:
            assert effect == expected
    assert told.say(ENDED) is None
    assert told.session.state is State.ENDED
    assert (told.session.outcome, told.session.code, told.session.detail) == ("completed", None, None)


@pytest.mark.parametrize("decided", [{"redact_request": TOKENISED}, {"restore": ("*",)}])
def test_tokens_are_kept_before_anything_goes_on(decided: dict[str, Any]) -> None:
    decision = replace(DECISION, **decided)
    told = Conversation(instead(do.Decide, ev.Decided(AT, decision)))
    told.settle(head())
    opening = told.until(do.OpenTokens, REQUEST)
    assert isinstance(opening, do.OpenTokens)
    assert (opening.decision, opening.call.identity, opening.call.inspection) == (decision, ADA, INSPECTION)
    assert not told.entries
    known = replace(INSPECTION, tokens=TOKENS)
    assert told.say(ev.TokensOpened(AT, TOKENS)) == do.RedactRequest(known, decision.redact_request)
    told.settle(ev.Redacted(AT, Redaction(SENT, BODY)), answer_head())
    assert told.until(do.RedactResponse, ANSWERED) == do.RedactResponse(
        known, DECISION.redact_response, 200, ANSWER_HEADERS, ANSWER, 1000
    )


def test_without_the_vault_nothing_goes_on() -> None:
    told = in_state(State.OPENING_TOKENS)
    told.settle(ev.Failed(AT, AuditUnavailable("token_vault")))
    assert outcome(told)["released_bytes"] == 0
    assert (outcome(told)["status"], outcome(told)["http_status"], outcome(told)["code"], outcome(told)["detail"]) == (
        "error", 503, "audit_unavailable", "token_vault"
    )  # fmt: skip
    refused = told.effects[-1]
    assert isinstance(refused, do.Refuse) and refused.refusal.retry_after_seconds


def test_no_tokens_where_the_decision_wants_none() -> None:
    told = Conversation()
    told.settle(head(), REQUEST, answer_head(), ANSWERED)
    assert not [effect for effect in told.effects if isinstance(effect, do.OpenTokens)]


def test_question_to_the_policy() -> None:
    effect = in_state(State.DECIDING).effects[-1]

    assert isinstance(effect, do.Decide)
    call = effect.call
    assert (call.exchange_id, call.connection, call.identity) == (ID, DEMO, ADA)
    assert (call.method, call.path, call.body_bytes) == ("POST", "/v1/chat/completions", len(BODY))
    assert (call.inspection, call.received_at, call.source.address) == (INSPECTION, AT, "10.0.0.1:4000")


def test_call_that_goes_on() -> None:
    """The masked body with its length, our credential instead of the caller's, and the word for the gate."""
    effect = in_state(State.AWAIT_RESPONSE).effects[-1]

    assert isinstance(effect, do.Continue)
    assert effect.body == SENT
    assert effect.set_headers == (
        ("content-length", str(len(SENT))),
        ("content-type", "application/json"),
        ("accept-encoding", "identity"),
        ("authorization", CREDENTIAL["authorization"]),
    )
    assert effect.remove_headers == ("cookie", "user-agent"), "the caller's credential is overwritten, not removed"
    assert effect.metadata == {"decision": "allow", "event_id": ID, **OPERATION}
    assert not effect.uninspected


def test_content_type_is_said_only_of_a_body() -> None:
    effect = Conversation().settle(head(is_last=True))

    assert isinstance(effect, do.Continue)
    assert "content-type" in effect.remove_headers
    assert "content-type" not in dict(effect.set_headers)


def test_query_and_betas_are_asked_about_and_on_record() -> None:
    """What reaches the model is on record and before the policy: never a channel beside both."""
    told = Conversation()
    told.settle(head(("anthropic-beta", b"one-2024-01-01,two")), REQUEST)

    [call] = [effect.call for effect in told.effects if isinstance(effect, do.Decide)]
    assert (call.query, call.betas) == ((("beta", "true"),), ("one-2024-01-01", "two"))
    request = told.entries[0].facts["request"]
    assert (request["query"], request["betas"]) == ({"beta": "true"}, ["one-2024-01-01", "two"])


@pytest.mark.parametrize(
    ("more", "without", "status", "detail"),
    [
        (((":path", b"/v1/chat/completions?note=Patient%20John"),), ":path", 415, "query"),
        ((("openai-beta", b"Patient John Smith"),), "", 400, "openai-beta"),
        ((("openai-beta", b"a"), ("openai-beta", b"b")), "", 400, "repeated"),
        (((":path", b"/" + b"a" * 8192),), ":path", 400, "target"),
    ],
)
def test_free_text_beside_the_body_is_refused(more: Any, without: str, status: int, detail: str) -> None:
    """On record without the text; the body is not even waited for."""
    told = Conversation()
    effect = told.settle(head(*more, without=without))

    assert isinstance(effect, do.Refuse)
    assert (effect.refusal.status, told.session.detail) == (status, detail)
    assert not {"method", "path"} & set(effect.metadata), "not in Envoy's log either"
    [entry] = told.entries
    assert not [word for word in ("Patient", "aaa", "openai_beta") if word in repr(entry.facts)]


def test_callers_credential_is_removed_where_there_is_none_of_ours() -> None:
    told = Conversation(instead(do.Unlock, ev.Unlocked(AT, {})))
    effect = told.settle(head(), REQUEST)

    assert isinstance(effect, do.Continue)
    assert "authorization" in effect.remove_headers
    assert "authorization" not in dict(effect.set_headers)


def test_answer_that_is_released() -> None:
    effect = in_state(State.SETTLED).effects[-1]

    assert effect == do.Continue(
        body=RELEASED,
        set_headers=(
            ("x-affidavit-exchange", ID),
            ("x-affidavit-receipt", "promise 2"),
            ("content-length", str(len(RELEASED))),
        ),
        remove_headers=("content-encoding", "set-cookie"),
        metadata={"response": "released", "outcome": "completed"},
    )


def test_field_of_an_answer_in_which_a_rule_hit_is_taken_off() -> None:
    def room(effect: do.Effect) -> ev.AnswerEvent:
        if isinstance(effect, do.RedactResponse):
            return ev.Redacted(AT, Redaction(RELEASED, ANSWER, tainted_headers=("content-type", "request-id")))
        return done(effect)

    effect = Conversation(room).settle(head(), REQUEST, answer_head(), ANSWERED)
    assert isinstance(effect, do.Continue)
    assert "content-type" in effect.remove_headers
    assert "request-id" not in effect.remove_headers, "it was not there"


def test_parameters_of_an_answers_content_type_stay_here() -> None:
    kind = (("content-type", b"application/json; note=John-Smith"),)
    answer = replace(answer_head(), headers=(*(h for h in answer_head().headers if h[0] != "content-type"), *kind))
    effect = Conversation().settle(head(), REQUEST, answer, ANSWERED)

    assert isinstance(effect, do.Continue)
    assert dict(effect.set_headers)["content-type"] == "application/json"
    assert "content-type" not in effect.remove_headers


@pytest.mark.parametrize("name", ["x-envoy-note", "x-forwarded-blob", "x-request-id", "host"])
def test_what_envoy_should_have_taken_off_is_refused_before_the_record(name: str) -> None:
    """L7: asked to take it off, Envoy would answer 503 after the record said that the answer was released."""
    told = Conversation()
    answer = answer_head()
    effect = told.settle(head(), REQUEST, replace(answer, headers=(*answer.headers, (name, b"alice@example.com"))))

    assert isinstance(effect, do.Refuse)
    assert (effect.refusal.status, told.session.detail) == (502, "header")
    assert (outcome(told)["http_status"], outcome(told)["released_bytes"]) == (502, 0)


def test_what_is_on_record() -> None:
    intent, end = in_state(State.SETTLED).entries

    assert (intent.kind, end.kind) == ("inference.intent", "inference.outcome")
    assert roles(intent) == ["request.raw", "request.forwarded"]
    assert roles(end) == ["response.upstream", "response.released"]
    assert [payload.body for payload in (*intent.payloads, *end.payloads)] == [BODY, SENT, ANSWER, RELEASED]
    assert (intent.identity, intent.exchange_id) == (ADA, ID)
    assert "request_redaction" in intent.facts
    assert "request_redaction" not in end.facts, "said once"
    assert end.facts["intent_sequence"] == 1
    assert end.facts["outcome"] == {
        "status": "completed",
        "http_status": 200,
        "code": None,
        "detail": None,
        "released_bytes": len(RELEASED),
        "is_inspected": True,
    }
    assert end.facts["upstream"] == {
        "status": 200,
        "code_details": "via_upstream",
        "response_flags": "0",
        "address": "10.0.0.9:443",
    }
    assert list(intent.facts["time"]) == ["received", "decided", "recorded"]
    assert list(end.facts["time"]) == ["received", "decided", "forwarded", "answered", "recorded"]


def test_payloads_are_kept_only_where_the_decision_says_so() -> None:
    told = Conversation(instead(do.Decide, ev.Decided(AT, replace(DECISION, record_payloads=False))))
    told.settle(head(), REQUEST, answer_head(), ANSWERED)

    assert [entry.payloads for entry in told.entries] == [(), ()]


ASKED = replace(DECISION, asked=b'{"input":{"a":1},"result":{}}')


@pytest.mark.parametrize("is_kept", [True, False])
def test_the_question_is_kept_once_whatever_the_decision_says_of_bodies(*, is_kept: bool) -> None:
    told = Conversation(instead(do.Decide, ev.Decided(AT, replace(ASKED, record_payloads=is_kept))))
    told.settle(head(), REQUEST, answer_head(), ANSWERED)

    intent, end = told.entries
    assert roles(intent) == (["request.raw", "request.forwarded"] if is_kept else []) + ["policy.question"]
    assert intent.payloads[-1].body == ASKED.asked
    assert "policy.question" not in roles(end)


@pytest.mark.parametrize(
    ("decision", "fails"),
    [
        (replace(ASKED, allow=False, reasons=("not_permitted",)), do.Unlock),
        (replace(TO_BE_APPROVED, asked=ASKED.asked), do.AskApproval),
        (ASKED, do.Unlock),
    ],
    ids=["denied", "nobody could be asked", "no credential"],
)
def test_without_an_intent_the_outcome_has_the_question(decision: Decision, fails: type[Any]) -> None:
    def room(effect: do.Effect) -> ev.AnswerEvent:
        return FAILED if isinstance(effect, fails) else instead(do.Decide, ev.Decided(AT, decision))(effect)

    told = Conversation(room)
    told.settle(head(), REQUEST)

    [end] = told.entries
    assert (end.kind, end.payloads[-1].body) == ("inference.outcome", ASKED.asked)


def test_where_nobody_was_asked_there_is_no_question() -> None:
    told = Conversation(instead(do.Decide, FAILED))
    told.settle(head(), REQUEST)

    assert [roles(entry) for entry in told.entries] == [["request.raw"]]


def test_times_are_those_of_the_events() -> None:
    told = in_state(State.RECORDING_INTENT)
    told.say(ev.Recorded(later(1), receipt(1)))
    told.say(replace(answer_head(), at=later(2)))
    told.settle(ANSWERED)

    times = told.entries[-1].facts["time"]
    assert (times["forwarded"], times["answered"]) == ("2026-11-24T12:00:01.000000Z", "2026-11-24T12:00:02.000000Z")


def test_without_bodies() -> None:
    told = Conversation()
    asked = told.settle(head(is_last=True))
    released = told.settle(answer_head(b"204", is_last=True))

    assert isinstance(asked, do.Continue)
    assert (asked.body, asked.metadata) == (None, {"decision": "allow", "event_id": ID, **OPERATION})
    assert "content-length" not in dict(asked.set_headers)
    assert isinstance(released, do.Continue)
    assert released.body is None
    assert released.metadata == {"response": "released", "outcome": "completed"}
    assert "content-length" not in dict(released.set_headers)
    assert [entry.payloads for entry in told.entries] == [(), ()]


def test_upstreams_own_error_is_inspected_and_released() -> None:
    told = Conversation()
    effect = told.settle(head(), REQUEST, answer_head(b"429"), ANSWERED)

    assert isinstance(effect, do.Continue)
    assert effect.metadata == {"response": "released", "outcome": "error"}
    assert (outcome(told)["status"], outcome(told)["http_status"]) == ("error", 429)
    assert outcome(told)["released_bytes"] == len(RELEASED)


def test_envoys_word_for_the_upstream_is_not_the_upstreams() -> None:
    """L7: the connection was refused; the 503 is Envoy's."""
    told = Conversation()
    refused = ev.UpstreamAttributes("upstream_reset_before_response_started{remote}", "32", "10.0.0.9:443")
    told.settle(head(), REQUEST, answer_head(b"503", upstream=refused), ANSWERED)

    assert told.entries[-1].facts["upstream"]["status"] is None
    assert outcome(told)["http_status"] == 503


def test_admission_without_a_length_expects_the_most() -> None:
    assert Conversation().until(do.Admit, head(without="content-length")) == do.Admit(2 * 1000 + 64 * 1024)


# Upgrades ---------------------------------------------------------------------------------------------------------------


def test_upgrade() -> None:
    told = Conversation()
    asked = told.settle(head(*UPGRADE, route="upgrades"))
    answered = told.settle(answer_head(b"101"))

    assert isinstance(asked, do.Continue)
    assert asked.uninspected
    assert (asked.body, asked.metadata) == (None, {"decision": "allow", "event_id": ID, **OPERATION})
    assert not {"upgrade", "connection"} & set(asked.remove_headers)
    assert not [effect for effect in told.effects if isinstance(effect, do.RedactRequest)]
    assert isinstance(answered, do.Continue)
    assert answered.remove_headers == ("content-encoding", "set-cookie")
    assert outcome(told)["is_inspected"] is False
    assert outcome(told)["released_bytes"] == 0


def test_of_an_upgrade_only_the_handshake_comes_back() -> None:
    told = Conversation()
    told.settle(head(*UPGRADE, route="upgrades"))
    switched = ev.ResponseHeaders(
        AT, ((":status", b"101"), *UPGRADE, ("sec-websocket-accept", b"k"), ("x-note", b"a")), False, attributes(), VIA_UPSTREAM
    )  # fmt: skip
    effect = told.settle(switched)

    assert isinstance(effect, do.Continue)
    assert effect.remove_headers == ("x-note",)


@pytest.mark.parametrize("status", [b"101", b"100", b"199", b"600", b"999"])
@pytest.mark.parametrize("is_last", [False, True])
def test_status_that_is_none_for_this_request(status: bytes, *, is_last: bool) -> None:
    """A switch that nobody asked for would leave the caller with a connection that nobody looks into."""
    told = Conversation()
    effect = told.settle(head(), REQUEST, answer_head(status, is_last=is_last))

    assert isinstance(effect, do.Refuse)
    assert (effect.refusal.status, told.session.detail) == (502, "status")
    assert outcome(told)["status"] == "error"


def test_declined_upgrade_with_a_body_is_not_released() -> None:
    """Both body phases were turned off: nobody would see what is in it."""
    told = Conversation()
    effect = told.settle(head(*UPGRADE, route="upgrades"), answer_head(b"200"))

    assert isinstance(effect, do.Refuse)
    assert (effect.refusal.status, told.session.detail) == (502, "not_switched")


def test_declined_upgrade_without_a_body_is() -> None:
    told = Conversation()
    effect = told.settle(head(*UPGRADE, route="upgrades"), answer_head(b"403", is_last=True))

    assert isinstance(effect, do.Continue)
    assert effect.metadata == {"response": "released", "outcome": "error"}


# Refusals ---------------------------------------------------------------------------------------------------------------

LARGE = ev.RequestBody(AT, b"x" * 1001)
DENIED = ev.Decided(AT, replace(DECISION, allow=False, reasons=("not_permitted",)))
BLOCKED = ev.Redacted(AT, Redaction(b"", BODY, blocked=("SECRET_KEY",)))
AT_THE_HEAD = [
    (head((":path", b"/x")), 400, "bad_headers", "repeated"),
    (head(without=":authority"), 400, "bad_headers", "pseudo_header_missing"),
    (head(route="nowhere"), 404, "unknown_operation", "no_connection"),
    (head(*UPGRADE), 403, "upgrade_refused", ""),
    (head(("content-length", b"1001"), without="content-length"), 413, "request_too_large", "content_length"),
    (head(("authorization", b"Bearer b")), 401, "invalid_token", "credential_repeated"),
    (head(("authorization", b"Basic b"), without="authorization"), 401, "invalid_token", "credential_malformed"),
]


@pytest.mark.parametrize(("event", "status", "code", "detail"), AT_THE_HEAD)
def test_refused_at_the_head(event: ev.RequestHeaders, status: int, code: str, detail: str) -> None:
    """Recorded first, refused then; no room was asked anything else."""
    told = Conversation()
    recorded = told.say(event)
    refused = told.say(ev.Recorded(AT, receipt()))

    assert isinstance(recorded, do.Record)
    assert isinstance(refused, do.Refuse)
    assert (refused.refusal.status, refused.refusal.code) == (status, code)
    named = (("x-affidavit-exchange", ID), ("x-affidavit-receipt", "promise 7"), ("request-id", ID))
    assert refused.refusal.headers == named
    assert refused.metadata == {"event_id": ID, "outcome": "refused", "decision": "deny"}
    assert (outcome(told)["status"], outcome(told)["code"], outcome(told)["detail"]) == ("refused", code, detail)
    assert told.entries[-1].facts.get("request", {}).get("path") is None, "before it was read, it is caller's text"
    assert told.say(ENDED) is None


@pytest.mark.parametrize(
    ("room", "status", "http_status", "code"),
    [
        (instead(do.Decide, DENIED), "denied", 403, "denied"),
        (instead(do.RedactRequest, BLOCKED), "denied", 403, "content_blocked"),
    ],
)
def test_denied(room: Callable[[do.Effect], ev.AnswerEvent], status: str, http_status: int, code: str) -> None:
    told = Conversation(room)
    effect = told.settle(head(), REQUEST)

    assert isinstance(effect, do.Refuse)
    assert (effect.refusal.status, effect.refusal.code) == (http_status, code)
    assert effect.refusal.retry_after_seconds is None
    assert effect.metadata == {"event_id": ID, "outcome": status, "decision": "deny", **OPERATION}
    assert [entry.kind for entry in told.entries] == ["inference.outcome"]
    assert (outcome(told)["status"], outcome(told)["code"], outcome(told)["released_bytes"]) == (status, code, 0)
    assert roles(told.entries[0]) == ["request.raw"], "what was asked is kept; nothing was sent on"


def test_denial_says_why() -> None:
    effect = Conversation(instead(do.Decide, DENIED)).settle(head(), REQUEST)
    assert isinstance(effect, do.Refuse)
    assert effect.refusal.reasons == ("not_permitted",)


def test_denial_comes_before_approval() -> None:
    decision = replace(TO_BE_APPROVED, allow=False)
    told = Conversation(instead(do.Decide, ev.Decided(AT, decision)))
    told.settle(head(), REQUEST)
    assert outcome(told)["code"] == "denied"


def test_body_over_the_limit() -> None:
    told = Conversation()
    effect = told.settle(head(), LARGE)

    assert isinstance(effect, do.Refuse)
    assert effect.refusal.status == 413
    assert told.entries[0].payloads == (), "what was never read is not kept"
    assert isinstance(Conversation().settle(head(), replace(LARGE, body=b"x" * 1000)), do.Continue)


@pytest.mark.parametrize(
    ("error", "status", "retry"),
    [
        (BadBody("x"), "refused", None),
        (PolicyUnavailable("x"), "error", RETRY_AFTER_SECONDS),
        (GateError("bug"), "error", None),
    ],
)
@pytest.mark.parametrize("state", [*BEFORE_THE_INTENT, State.REDACTING_RESPONSE])
def test_failed_step(state: State, error: GateError, status: str, retry: int | None) -> None:
    told = in_state(state)
    effect = told.settle(ev.Failed(AT, error))

    assert isinstance(effect, do.Refuse)
    assert (effect.refusal.status, effect.refusal.code) == (error.http_status, error.code)
    assert (effect.refusal.text, effect.refusal.retry_after_seconds) == (error.client_text, retry)
    assert (outcome(told)["status"], outcome(told)["code"], outcome(told)["detail"]) == (
        status,
        error.code,
        error.detail,
    )
    assert outcome(told)["released_bytes"] == 0
    assert told.say(ENDED) is None


def test_answer_that_is_blocked() -> None:
    told = Conversation(instead(do.RedactResponse, BLOCKED))
    effect = told.settle(head(), REQUEST, answer_head(), ANSWERED)

    assert isinstance(effect, do.Refuse)
    assert (effect.refusal.status, effect.refusal.code) == (403, "content_blocked")
    assert effect.metadata == {"event_id": ID, "outcome": "denied"}, "neither allow nor deny: the call went on"
    assert (outcome(told)["http_status"], outcome(told)["released_bytes"]) == (403, 0)
    assert told.entries[-1].facts["response_redaction"]["blocked"] == ["SECRET_KEY"]
    assert roles(told.entries[-1]) == ["response.upstream"]


def test_answer_over_the_limit() -> None:
    told = Conversation()
    effect = told.settle(head(), REQUEST, answer_head(), ev.ResponseBody(AT, b"x" * 1001))

    assert isinstance(effect, do.Refuse)
    assert (effect.refusal.status, told.session.detail) == (502, "too_large")
    assert isinstance(
        Conversation().settle(head(), REQUEST, answer_head(), ev.ResponseBody(AT, b"x" * 1000)), do.Continue
    )


@pytest.mark.parametrize("status", [b"", b"abc", b"20000", b"-1"])
def test_answer_without_a_status(status: bytes) -> None:
    told = Conversation()
    effect = told.settle(head(), REQUEST, answer_head(status))

    assert isinstance(effect, do.Refuse)
    assert (effect.refusal.status, outcome(told)["code"]) == (502, UpstreamError.code)


# The record fails -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "state", [State.RECORDING_INTENT, State.RECORDING_OUTCOME, State.RECORDING_REFUSAL, State.RECORDING_LOCAL_REPLY]
)
def test_unrecorded_is_refused_and_told_at_the_end(state: State) -> None:
    """It may have become durable in the end: then the last word says that nothing went on."""
    told = in_state(state)
    effect = told.say(UNRECORDED)

    assert isinstance(effect, do.Refuse)
    assert (effect.refusal.status, effect.refusal.code) == (503, "audit_unavailable")
    assert effect.refusal.retry_after_seconds == RETRY_AFTER_SECONDS
    assert effect.metadata["outcome"] == "unrecorded"
    assert "response" not in effect.metadata
    assert (effect.metadata.get("decision") == "deny") == (state is not State.RECORDING_OUTCOME)
    end = told.say(ENDED)
    assert isinstance(end, do.Record)
    assert (outcome(told)["status"], outcome(told)["http_status"]) == ("unrecorded", 503)
    assert (outcome(told)["released_bytes"], end.entry.payloads) == (0, ())
    assert told.say(UNRECORDED) is None, "tried once"
    assert told.session.state is State.ENDED


def test_failing_log_is_told_by_its_own_code() -> None:
    told = in_state(State.RECORDING_REFUSAL)
    told.say(ev.Failed(AT, GateError("bug")))
    assert (told.session.code, told.session.detail) == ("internal", "bug")


@pytest.mark.parametrize("state", [State.RECORDING_INTENT, State.RECORDING_OUTCOME, State.RECORDING_REFUSAL])
def test_unrecorded_with_nobody_there(state: State) -> None:
    told = in_state(state)
    assert told.say(ENDED) is None
    end = told.say(UNRECORDED)

    assert isinstance(end, do.Record)
    assert (outcome(told)["status"], outcome(told)["http_status"]) == ("unrecorded", None)
    assert told.say(ev.Recorded(AT, receipt())) is None


def test_unrecorded_intent_and_a_local_reply() -> None:
    """Envoy's own words do not pass either: L1 has no exception."""
    told = in_state(State.RECORDING_INTENT)
    told.say(local_reply())
    effect = told.say(UNRECORDED)

    assert isinstance(effect, do.Refuse)
    assert effect.refusal.status == 503
    assert isinstance(told.say(ENDED), do.Record)
    assert outcome(told)["http_status"] == 503


# Envoy answers in our place ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", [State.START, State.AWAIT_REQUEST_BODY, *BEFORE_THE_INTENT])
def test_local_reply(state: State) -> None:
    told = in_state(state)
    recorded = told.say(local_reply())
    released = told.say(ev.Recorded(AT, receipt()))
    body = told.say(ev.ResponseBody(AT, b"upstream request timeout"))

    assert isinstance(recorded, do.Record)
    assert released == body == do.Continue()
    assert (outcome(told)["status"], outcome(told)["http_status"]) == ("local_reply", 504)
    assert told.entries[-1].facts["upstream"]["status"] is None
    assert told.entries[-1].facts["upstream"]["code_details"] == "stream_idle_timeout"
    assert told.entries[-1].exchange_id == ID
    assert told.say(ENDED) is None


def test_local_reply_without_a_body() -> None:
    told = Conversation()
    assert told.settle(local_reply(is_last=True)) == do.Continue()
    assert told.session.state is State.SETTLED


def test_local_reply_whose_body_never_comes() -> None:
    told = in_state(State.RELEASING_LOCAL_REPLY)
    assert told.say(ENDED) is None
    assert told.session.state is State.ENDED


def test_local_reply_that_nobody_waits_for() -> None:
    told = in_state(State.RECORDING_LOCAL_REPLY)
    told.say(ENDED)
    assert told.say(ev.Recorded(AT, receipt())) is None
    assert told.session.state is State.ENDED


def test_local_reply_while_the_intent_is_on_its_way() -> None:
    """Kept until it is durable; then the call is not let on."""
    told = in_state(State.RECORDING_INTENT)
    assert told.say(local_reply()) is None
    assert told.session.state is State.RECORDING_INTENT
    effect = told.say(ev.Recorded(AT, receipt(1)))

    assert isinstance(effect, do.Record)
    assert outcome(told)["status"] == "local_reply"
    assert told.entries[-1].facts["intent_sequence"] == 1
    assert "forwarded" not in told.entries[-1].facts["time"]
    assert told.say(ev.Recorded(AT, receipt(2))) == do.Continue()


def test_local_reply_and_then_the_end_while_the_intent_is_on_its_way() -> None:
    told = in_state(State.RECORDING_INTENT)
    told.say(local_reply())
    told.say(ENDED)
    told.say(ev.Recorded(AT, receipt(1)))
    assert outcome(told)["status"] == "abandoned"


def test_local_reply_while_a_refusal_is_on_its_way() -> None:
    """The caller gets what is on record."""
    told = in_state(State.RECORDING_REFUSAL)
    assert told.say(local_reply()) is None
    effect = told.say(ev.Recorded(AT, receipt()))
    assert isinstance(effect, do.Refuse)
    assert effect.refusal.status == outcome(told)["http_status"]


@pytest.mark.parametrize("state", [State.RECORDING_INTENT, State.RECORDING_REFUSAL])
def test_two_local_replies(state: State) -> None:
    told = in_state(state)
    told.say(local_reply())
    with pytest.raises(PeerError):
        told.say(local_reply())
    assert told.session.state is state


def test_second_head_after_an_answer_that_is_refused() -> None:
    """It must not pass for a local reply, whose body is let through unread."""
    told = Conversation(instead(do.RedactResponse, BLOCKED))
    told.settle(head(), REQUEST, answer_head())
    told.until(do.Record, ANSWERED)
    with pytest.raises(PeerError, match="answered twice"):
        told.say(local_reply(b"200"))
    assert told.session.state is State.RECORDING_REFUSAL


# The caller leaves ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "state",
    [
        State.AWAIT_REQUEST_BODY,
        *BEFORE_THE_INTENT,
        State.AWAIT_RESPONSE,
        State.AWAIT_RESPONSE_BODY,
        State.REDACTING_RESPONSE,
    ],
)
def test_left(state: State) -> None:
    told = in_state(state)
    recorded = told.say(ENDED)

    assert isinstance(recorded, do.Record)
    assert (outcome(told)["status"], outcome(told)["http_status"]) == ("abandoned", None)
    assert outcome(told)["released_bytes"] == 0
    was_let_on = state in (State.AWAIT_RESPONSE, State.AWAIT_RESPONSE_BODY, State.REDACTING_RESPONSE)
    assert ("forwarded" in told.entries[-1].facts["time"]) == was_let_on
    assert (told.entries[-1].facts["intent_sequence"] == 1) == was_let_on
    assert told.say(ev.Recorded(AT, receipt())) is None
    assert told.session.state is State.ENDED


def test_left_before_anything_was_said() -> None:
    told = Conversation()
    assert told.say(ENDED) is None
    assert told.entries == []


def test_left_while_the_intent_is_on_its_way() -> None:
    told = in_state(State.RECORDING_INTENT)
    assert told.say(ENDED) is None
    effect = told.say(ev.Recorded(AT, receipt(1)))

    assert isinstance(effect, do.Record)
    assert (outcome(told)["status"], told.entries[-1].facts["intent_sequence"]) == ("abandoned", 1)
    assert "forwarded" not in told.entries[-1].facts["time"]


def test_left_while_the_outcome_is_on_its_way() -> None:
    """What the outcome says was released was not: one more record says so."""
    told = in_state(State.RECORDING_OUTCOME)
    assert told.say(ENDED) is None
    effect = told.say(ev.Recorded(AT, receipt(2)))

    assert isinstance(effect, do.Record)
    assert (effect.entry.kind, effect.entry.facts["outcome_sequence"]) == ("inference.undelivered", 2)
    assert told.say(ev.Recorded(AT, receipt(3))) is None


def test_left_while_a_refusal_is_on_its_way() -> None:
    told = in_state(State.RECORDING_REFUSAL)
    told.say(ENDED)
    assert told.say(ev.Recorded(AT, receipt())) is None
    assert told.session.state is State.ENDED


def test_end_is_the_end() -> None:
    told = in_state(State.RECORDING_END)
    assert told.say(ENDED) is None
    assert told.say(ev.Recorded(AT, receipt())) is None
    assert told.session.state is State.ENDED
    assert told.say(ENDED) is None


def test_an_end_that_cannot_be_recorded_is_tried_once_more() -> None:
    """With the least there is to say: what the first one was to keep may be what it failed for."""
    told = in_state(State.RECORDING_END)
    again = told.say(UNRECORDED)
    assert isinstance(again, do.Record)
    assert again.entry.payloads == ()
    assert again.entry.facts["outcome"]["status"] == "unrecorded"
    assert told.say(UNRECORDED) is None
    assert told.session.state is State.ENDED


def test_blame_is_on_record() -> None:
    told = in_state(State.AWAIT_RESPONSE)
    told.session.blame(PeerError("RequestBody in AWAIT_RESPONSE"))
    told.session.blame(GateError("second"))
    told.say(ENDED)
    assert (outcome(told)["code"], outcome(told)["detail"]) == ("peer_out_of_turn", "RequestBody in AWAIT_RESPONSE")


# Out of turn ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", State)
@pytest.mark.parametrize("event", EVERY_EVENT, ids=lambda event: type(event).__name__)
def test_what_is_not_in_the_table_is_refused(state: State, event: ev.Event) -> None:
    told = in_state(state)
    before = dict(vars(told.session))
    if type(event) in TABLE[state]:
        told.say(event)
        return
    with pytest.raises(PeerError) as raised:
        told.say(event)
    assert raised.value.detail == f"{type(event).__name__} in {state.name}"
    assert vars(told.session) == before
