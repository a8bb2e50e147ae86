"""Law L6 over headers: whatever a caller puts into the head, the body is scanned, masked and recorded as without it.

The real session and the real content gate. Either the request is refused, before it is let on, or the records, what the
model sees and what the caller gets are the same to the byte; and of the headers nothing goes on that has no known form.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ext_proc.app.exchange.content import ContentGate
from ext_proc.errors import GateError
from ext_proc.model import Action, Connection, Operation, RedactionRule
from ext_proc.phases import StreamingSession
from ext_proc.phases import effects as do
from ext_proc.phases import events as ev
from ext_proc.phases.fields import is_untouchable
from ext_proc.phases.head import VARIABLE
from tests.fakes.exchange import AT, DECISION, VIA_UPSTREAM, Conversation, attributes, done

if TYPE_CHECKING:
    from ext_proc.model import Headers

ADDRESS: Final = "bob.planted@example.org"
PATH: Final = "/v1/chat/completions"
CHAT: Final = Connection("demo", (Operation("POST", PATH, "openai.chat"),), None, 1 << 16, 1 << 16)
BODY: Final = json.dumps({"model": "demo", "messages": [{"role": "user", "content": f"write to {ADDRESS}"}]}).encode()
ANSWER: Final = json.dumps({"choices": [{"message": {"role": "assistant", "content": f"wrote to {ADDRESS}"}}]}).encode()
PIECES: Final = (
    *(
        b"data: " + json.dumps({"choices": [{"index": 0, "delta": {"content": said}}]}).encode() + b"\n\n"
        for said in ("wrote to bob.pla", "nted@example.org", " today")
    ),
    b"data: [DONE]\n\n",
)
ALL: Final = (RedactionRule("*", Action.MASK),)
MASKING: Final = replace(DECISION, redact_request=ALL, redact_response=ALL)

REQUIRED: Final[Headers] = (
    (":method", b"POST"),
    (":path", PATH.encode()),
    (":authority", b"gate.example.com"),
    ("content-type", b"application/json"),
    ("authorization", b"Bearer callers-own"),
)
MAY_PASS: Final = frozenset(
    {"accept", "anthropic-beta", "anthropic-version", "content-length", "content-type", "openai-beta", "traceparent"}
)
SET_BY_US: Final = frozenset({"accept-encoding", "authorization", "content-length", "content-type"})

NAMES: Final = (
    "x-litellm-enable-message-redaction", "litellm-disable-message-redaction", "x-litellm-disable-callbacks",
    "cf-aig-collect-log", "helicone-omit-request", "x-portkey-config", "x-no-log", "x-guardrails-disable", "dnt",
    "x-affidavit-exchange", "x-affidavit-decision", "x-request-id", "x-envoy-original-path", "x-forwarded-for",
    "x-http-method-override", "x-original-url", "accept-encoding", "accept-charset", "content-encoding",
    "content-language", "content-length", "content-location", "transfer-encoding", "te", "trailer", "expect", "range",
    "connection", "cookie", "user-agent", "host", "upgrade", "x-api-key", "cache-control", "prefer", "tracestate",
    "baggage", "x-b3-sampled", *VARIABLE, ":method", ":path", ":authority", ":scheme", ":protocol", "authorization",
)  # fmt: skip
VALUES: Final = (
    b"", b"0", b"1", b"true", b"false", b"off", b"none", b"identity", b"gzip", b"gzip, br", b"text/plain", b"*/*",
    b"application/json", b"application/json; charset=utf-16", b"text/event-stream", b"2023-06-01", b"assistants=v2",
    b"prompt-caching-2024-07-31", b"00-" + b"ab" * 16 + b"-" + b"cd" * 8 + b"-00", b"chunked", b"websocket", b"GET",
    b"POST", PATH.encode(), PATH.encode() + b"?beta=true", b"/", str(len(BODY)).encode(), b"Bearer a", b"utf-16",
    ADDRESS.encode(), b"Patient John Smith", b"a=1; b=2", b'{"log":false}',
)  # fmt: skip
names = st.sampled_from(NAMES) | st.text(st.characters(codec="ascii", categories=["Ll", "Nd"], include_characters="-"),
                                         min_size=1, max_size=20)  # fmt: skip
values = st.sampled_from(VALUES) | st.binary(max_size=40)
extras = st.lists(st.tuples(names, values), max_size=8)


class Content:
    """The driver's room for content, with the real gate in it; the other rooms say yes."""

    def __init__(self) -> None:
        self.gate = ContentGate(b"k" * 32)

    def answer(self, effect: do.Effect) -> ev.AnswerEvent:  # noqa: PLR0911 - one for each step
        try:
            match effect:
                case do.Inspect(connection, method, path, headers, body):
                    return ev.Inspected(AT, self.gate.inspect(connection, method, path, headers, body))
                case do.Decide():
                    return ev.Decided(AT, MASKING)
                case do.RedactRequest(inspection, rules):
                    return ev.Redacted(AT, self.gate.redact_request(inspection, rules))
                case do.RedactResponse(inspection, rules, status, headers, body, limit):
                    made = self.gate.redact_response(inspection, rules, status, headers, body, limit)
                    return ev.Redacted(AT, made)
                case do.OpenStream(inspection, rules, headers, limit_bytes):
                    return ev.StreamOpened(AT, self.gate.open_stream(inspection, rules, headers, limit_bytes))
                case _:
                    return done(effect)
        except GateError as error:
            return ev.Failed(AT, error)


@dataclass(frozen=True)
class Came:
    """What came of an exchange. ``is_let_on``: the call went on to the model."""

    is_let_on: bool
    recorded: tuple[Any, ...]
    sent: bytes | None
    released: bytes
    passed: frozenset[str]


def exchange(headers: Headers, *, is_streamed: bool, content: Content | None = None) -> Came:
    """One exchange from its head to its end."""
    talk = Conversation((content or Content()).answer)
    talk.session = StreamingSession({"demo": CHAT})
    let_on = talk.settle(ev.RequestHeaders(AT, headers, is_last=False, attributes=attributes()))
    if isinstance(let_on, do.Continue):
        let_on = talk.settle(ev.RequestBody(AT, BODY))
    if not isinstance(let_on, do.Continue) or (let_on.metadata or {}).get("decision") != "allow":
        assert isinstance(let_on, do.Refuse), "neither let on nor refused"
        return Came(False, facts_of(talk), None, b"", frozenset())
    kind = b"text/event-stream" if is_streamed else b"application/json"
    told: Headers = ((":status", b"200"), ("content-type", kind))
    talk.settle(ev.ResponseHeaders(AT, told, is_last=False, attributes=attributes(), upstream=VIA_UPSTREAM))
    released = b""
    for body in PIECES if is_streamed else (ANSWER,):
        effect = talk.settle(ev.ResponseBody(AT, body, is_last=not is_streamed or body is PIECES[-1]))
        assert isinstance(effect, do.Continue), effect
        released += effect.body or b""
    passed = {name for name, _ in headers if name not in let_on.remove_headers and not is_untouchable(name)}
    return Came(True, facts_of(talk), let_on.body, released, frozenset(passed - {n for n, _ in let_on.set_headers}))


def facts_of(talk: Conversation) -> tuple[Any, ...]:
    """Everything that is recorded, but for what a head says of itself."""
    return tuple(
        (
            entry.kind,
            {name: value for name, value in entry.facts.items() if name != "request"},
            {name: value for name, value in entry.facts.get("request", {}).items() if name not in ("query", "betas")},
            [(one.role, one.body) for one in entry.payloads],
        )
        for entry in talk.entries
    )


WITHOUT: Final = {is_streamed: exchange(REQUIRED, is_streamed=is_streamed) for is_streamed in (False, True)}


def check(extra: list[tuple[str, bytes]], *, is_streamed: bool, at_front: bool, content: Content | None = None) -> Came:
    """The law."""
    headers = (*extra, *REQUIRED) if at_front else (*REQUIRED, *extra)
    came, without = exchange(headers, is_streamed=is_streamed, content=content), WITHOUT[is_streamed]
    if not came.is_let_on:
        assert [kind for kind, *_ in came.recorded] == ["inference.outcome"], "a refusal is on record, and no intent"
        return came
    assert came.recorded == without.recorded
    assert (came.sent, came.released) == (without.sent, without.released)
    assert came.passed <= MAY_PASS
    return came


@pytest.mark.parametrize("is_streamed", [False, True])
def test_without_tricks_all_is_masked_and_on_record(is_streamed: bool) -> None:
    """What the law compares with is worth comparing with."""
    came = WITHOUT[is_streamed]
    assert came.is_let_on
    assert came.sent == BODY.replace(ADDRESS.encode(), b"[EMAIL]").replace(b": ", b":").replace(b", ", b",")
    assert ADDRESS.encode() not in came.released
    assert b"[EMAIL]" in came.released
    kinds = [kind for kind, *_ in came.recorded]
    assert (kinds[0], kinds[-1]) == ("inference.intent", "inference.outcome")
    assert dict(came.recorded[0][3])["request.raw"] == BODY
    assert came.recorded[0][2]["findings"] == {"EMAIL": 1}
    assert b"".join(dict(one[3]).get("response.released", b"") for one in came.recorded) == came.released


@settings(deadline=None, max_examples=300)
@given(extras, st.booleans(), st.booleans())
@example([("cf-aig-collect-log", b"false"), ("x-litellm-enable-message-redaction", b"true")], True, False)
@example([("content-encoding", b"identity"), ("accept-encoding", b"gzip")], True, True)
@example([("content-type", b"text/plain")], False, True)
@example([("traceparent", b"00-" + b"ab" * 16 + b"-" + b"cd" * 8 + b"-00"), ("accept", b"*/*")], True, False)
def test_no_header_makes_less_of_it(extra: list[tuple[str, bytes]], is_streamed: bool, at_front: bool) -> None:
    check(extra, is_streamed=is_streamed, at_front=at_front)


@settings(deadline=None, max_examples=100)
@given(st.lists(st.tuples(st.sampled_from(NAMES[:16]), values), min_size=1, max_size=6), st.booleans())
def test_names_that_mean_something_elsewhere_mean_nothing_here(
    extra: list[tuple[str, bytes]], is_streamed: bool
) -> None:
    """Not even a refusal: of the law's two ways out these take the second."""
    assert check(extra, is_streamed=is_streamed, at_front=False).is_let_on


class Obliging(Content):
    """Planted mistakes: it does what a header asks for."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: frozenset[str] = frozenset()

    def answer(self, effect: do.Effect) -> ev.AnswerEvent:
        if isinstance(effect, do.Inspect):
            self.asked = frozenset(name for name, _ in effect.headers)
        event = super().answer(effect)
        if isinstance(event, ev.Inspected) and "x-no-findings" in self.asked:
            return ev.Inspected(AT, replace(event.inspection, findings={}))
        if isinstance(event, ev.Decided) and "x-no-mask" in self.asked:
            return ev.Decided(AT, replace(MASKING, redact_response=(RedactionRule("*", Action.ALLOW),)))
        if isinstance(event, ev.Decided) and "x-no-log" in self.asked:
            return ev.Decided(AT, replace(MASKING, record_payloads=False))
        return event


@pytest.mark.parametrize("is_streamed", [False, True])
def test_the_law_can_fail(is_streamed: bool) -> None:
    for name in ("x-no-findings", "x-no-mask", "x-no-log"):
        extra = [(name, b"true")]
        check(extra, is_streamed=is_streamed, at_front=False)
        with pytest.raises(AssertionError):
            check(extra, is_streamed=is_streamed, at_front=False, content=Obliging())
