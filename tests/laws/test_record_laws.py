"""Laws of the record: no content, of either side, can make an exchange that cannot be written down (L1, L7).

A leaf that cannot be built is a call without a record, or a call that went on and never has its outcome. The entries
here are those of a real session with the real reader of bodies, with what the writer adds to them.
"""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ext_proc.audit.record import LEAF_MAX_BYTES, build_leaf, canonical
from ext_proc.audit.writer import LISTED, binding_of
from ext_proc.errors import GateError, IntegrityError
from ext_proc.model import Entry, Inspection, Redaction, ToolCall, Usage
from ext_proc.phases import Session, facts
from ext_proc.phases import effects as do
from ext_proc.phases import events as ev
from ext_proc.phases.table import State
from tests.fakes.exchange import AT, HEADERS, answer_head, attributes, done, receipt
from tests.fakes.log import ADA, a_keyring
from tests.unit.app.exchange.bodies import CONNECTION, GATE, PATHS
from tests.unit.redaction.samples import texts as trapped

if TYPE_CHECKING:
    from collections.abc import Callable

    from ext_proc.audit.keys import KeyRing

ORIGIN = "audit.example/" + "r" * 63 + "-0/20261125T132130148789-b82a2e92"
SSE = (("content-type", b"text/event-stream"),)

# Whatever JSON can say, and what it is hard to write down ----------------------------------------------------------------

texts = trapped.filter(lambda text: not any(0xD800 <= ord(char) < 0xE000 for char in text)) | st.sampled_from(
    ["stop", "Patient-John-Smith-has-HIV", "a" * 64, "x" * 5000, "gpt-4o-2024-08-06", "ä" * 200]
)
numbers = (
    st.integers(-(10**30), 10**30)
    | st.sampled_from([2**53, -(2**53), 2**63 - 1, 2**63, 10**4299, 0, -1])
    | st.floats(allow_nan=False, allow_infinity=False)
)
scalars = st.none() | st.booleans() | numbers | texts
trees = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
)


def known(typical: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """A field of the API: as it should be, or of another type."""
    return typical | numbers | trees


def many(one: st.SearchStrategy[Any], most: int = 400) -> st.SearchStrategy[Any]:
    """A few, or very many alike."""
    return st.lists(one, max_size=3) | st.builds(lambda item, times: [item] * times, one, st.integers(1, most))


parameters = st.fixed_dictionaries(
    {},
    optional=dict.fromkeys(
        ("n", "max_tokens", "max_completion_tokens", "n_predict", "temperature", "top_p", "top_k", "dimensions"), known(numbers)
    )
    | dict.fromkeys(("stream", "store"), known(st.booleans()))
    | dict.fromkeys(("reasoning_effort", "encoding_format", "service_tier"), known(texts)),
)  # fmt: skip
parts = st.fixed_dictionaries({}, optional={"type": known(st.just("text")), "text": known(texts)})
messages = st.fixed_dictionaries({"role": known(texts)}, optional={"content": known(many(parts, 80)), "name": trees})
tools = st.fixed_dictionaries(
    {}, optional={"name": known(texts), "function": st.fixed_dictionaries({"name": known(texts)})}
)
asked = st.builds(
    lambda body, more: {**more, **body},
    st.fixed_dictionaries(
        {"model": st.just("demo") | st.just("m" * 128) | trees},
        optional={"messages": known(many(messages, 40)), "tools": known(many(tools)), "input": known(many(texts, 80))},
    ),
    parameters,
)
calls = st.fixed_dictionaries(
    {}, optional={"function": st.fixed_dictionaries({}, optional={"name": known(texts), "arguments": known(texts)})}
)
choices = st.fixed_dictionaries(
    {},
    optional={
        "index": known(st.integers(0, 3)),
        "finish_reason": known(st.just("content_filter")),
        "message": known(st.fixed_dictionaries({}, optional={"content": texts, "tool_calls": known(many(calls))})),
        "delta": known(st.fixed_dictionaries({}, optional={"content": texts, "tool_calls": known(many(calls, 40))})),
    },
)
usage = st.fixed_dictionaries(
    {}, optional=dict.fromkeys(("prompt_tokens", "completion_tokens", "input_tokens", "output_tokens"), known(numbers))
)
blocks = st.fixed_dictionaries({"type": known(st.sampled_from(("text", "tool_use")))}, optional={"text": texts, "name": known(texts), "input": trees})  # fmt: skip
answers = (
    st.fixed_dictionaries(
        {},
        optional={
            "model": known(texts),
            "system_fingerprint": known(texts),
            "stop_reason": known(texts),
            "usage": known(usage),
            "choices": known(many(choices)),
            "content": known(many(blocks)),
            "message": trees,
        },
    )
    | trees
)
protocols = st.sampled_from(("openai.chat", "openai.completions", "openai.embeddings", "anthropic.messages", "generic"))


_KEYS: list[KeyRing] = []


@pytest.fixture(scope="module", autouse=True)
def _keyring(tmp_path_factory: pytest.TempPathFactory) -> None:
    _KEYS[:] = [a_keyring(tmp_path_factory.mktemp("keys"))]


def built(entry: Entry) -> bytes:
    """The leaf, with everything that the writer adds.

    Raises:
        IntegrityError: it cannot be built.
    """
    [keyring] = _KEYS
    subject = keyring.subject_reference(entry.identity)
    told, _ = keyring.encrypt(subject, entry.payloads, binding_of(ORIGIN, entry.exchange_id))
    person = {
        "subject_ref": subject,
        "issuer": "https://" + "i" * 248,
        "method": "oidc",
        **dict.fromkeys(("client", "groups_ref", "token_ref"), subject),
    }
    fields = {
        **entry.facts,
        "exchange_id": entry.exchange_id,
        "payloads": told,
        "actor": person,
        "source": dict.fromkeys(("address_ref", "user_agent_ref"), subject),
    }
    leaf = build_leaf(entry.kind, origin=ORIGIN, sequence=2**53 - 1, at=AT, fields=fields, listed=LISTED)
    assert len(leaf) <= LEAF_MAX_BYTES
    return leaf


def real(effect: do.Effect) -> ev.AnswerEvent:
    """The rooms; those that read bodies are the real ones."""
    try:
        match effect:
            case do.Inspect(connection, method, path, headers, body):
                return ev.Inspected(AT, GATE.inspect(connection, method, path, headers, body))
            case do.RedactRequest(inspection, rules):
                return ev.Redacted(AT, GATE.redact_request(inspection, rules))
            case do.RedactResponse(inspection, rules, status, headers, body, limit):
                return ev.Redacted(AT, GATE.redact_response(inspection, rules, status, headers, body, limit))
            case do.Authenticate():
                return ev.Authenticated(AT, ADA)
    except GateError as error:
        return ev.Failed(AT, error)
    return done(effect)


def exchange(
    protocol: str, request: bytes, answer: bytes, kind: bytes, room: Callable[[do.Effect], ev.AnswerEvent]
) -> list[Entry]:
    """All entries of one exchange, from its first word to its last."""
    session = Session({"demo": CONNECTION})
    entries: list[Entry] = []

    def say(event: ev.Event) -> do.Effect | None:
        effects = session.handle(event)
        while effects and isinstance(effects[0], do.Step):
            if isinstance(effects[0], do.Record):
                entries.append(effects[0].entry)
            effects = session.handle(room(effects[0]))
        return effects[0] if effects else None

    headers = tuple((name, value) for name, value in HEADERS if name not in (":path", "content-length"))
    head = ev.RequestHeaders(
        AT, ((":path", PATHS[protocol].encode()), *headers), is_last=False, attributes=attributes()
    )
    told = ((":status", b"200"), ("content-type", kind))
    say(head)
    effect = say(ev.RequestBody(AT, request)) if session.state is State.AWAIT_REQUEST_BODY else None
    if isinstance(effect, do.Continue):
        upstream = answer_head().upstream
        effect = say(ev.ResponseHeaders(AT, told, is_last=False, attributes=attributes(), upstream=upstream))
        if isinstance(effect, do.Continue):
            say(ev.ResponseBody(AT, answer))
    session.unanswered()
    say(ev.StreamEnded(AT))
    assert session.state is State.ENDED
    return entries


def wire(body: Any) -> bytes:
    return json.dumps(body).encode()


@settings(max_examples=200, deadline=None)
@given(protocols, asked | trees, answers, st.booleans())
def test_every_entry_can_be_written_down(protocol: str, request: Any, answer: Any, is_stream: bool) -> None:
    body = b"".join(b"data: " + wire(answer) + b"\n\n" for _ in "abc") if is_stream else wire(answer)
    kind = b"text/event-stream" if is_stream else b"application/json"
    entries = exchange(protocol, wire(request), body, kind, real)
    assert entries
    for entry in entries:
        built(entry)


HEAVY: dict[str, Any] = {
    "model": "m1" + "x" * 62,
    "system_fingerprint": "f1" + "x" * 62,
    "usage": {"prompt_tokens": 10**20, "completion_tokens": 2**53 - 1},
    "choices": [
        {
            "finish_reason": "model_context_window_exceeded",
            "message": {"tool_calls": [{"function": {"name": "t" * 60 + str(n % 10), "arguments": "{}"}}] * 9, "content": "a@b.example " * 9},
        }
        for n in range(50)
    ],
}  # fmt: skip


def test_the_heaviest_exchange_is_written_down_and_was_let_on() -> None:
    """A law that never sees an intent and an outcome is no law."""
    request = {
        "model": "m" * 128, "n": 2**63 - 1, "temperature": 1e300 / 1e290, "max_tokens": 2**63 - 1, "reasoning_effort": "x" * 5000,
        "messages": [{"role": "user", "content": "bob@example.org 4111111111111111 " * 50}],
        "tools": [{"function": {"name": "t" * 60 + str(n)}} for n in range(10)],
    }  # fmt: skip
    entries = exchange("openai.chat", wire(request), wire(HEAVY), b"application/json", real)
    leaves = [json.loads(built(entry)) for entry in entries]
    assert [leaf["kind"] for leaf in leaves] == ["inference.intent", "inference.outcome", "inference.undelivered"]
    assert leaves[0]["request"]["parameters"]["n"] == str(2**63 - 1)
    model = leaves[1]["model"]
    assert (model["input_tokens"], model["output_tokens"]) == (None, 2**53 - 1)
    assert (len(model["tool_calls"]), model["tool_calls"][0]["name"]) == (facts.TOOLS_MAX, "t" * 60 + "0")


def hostile(inspection: Inspection, redaction: Redaction, fails_at: str) -> Callable[[do.Effect], ev.AnswerEvent]:
    """Rooms that say anything at all, and a log that cannot write it down."""

    def room(effect: do.Effect) -> ev.AnswerEvent:
        match effect:
            case do.Inspect():
                return ev.Inspected(AT, inspection)
            case do.RedactRequest() | do.RedactResponse():
                return ev.Redacted(AT, redaction)
            case do.Record(entry) if entry.kind == fails_at and "recorded" in entry.facts["time"]:
                is_last = entry.facts.get("outcome", {}).get("status") == "unrecorded"
                return ev.Recorded(AT, receipt(2)) if is_last else ev.Failed(AT, IntegrityError("leaf number"))
            case do.Record():
                return ev.Recorded(AT, receipt(1))
        return done(effect)

    return room


@settings(max_examples=100, deadline=None)
@given(
    st.dictionaries(texts, st.integers() | st.floats() | texts | st.just(b"x"), max_size=4),
    st.integers(),
    st.text(max_size=9) | st.just("x" * 20_000),
)
def test_the_last_word_can_always_be_written_down(odd: dict[str, Any], number: int, text: str) -> None:
    """Whatever the rooms may ever say: a record that fails for what is in it must still have an end."""
    inspection = Inspection(text, text, text, is_stream=False, parameters=odd, findings=odd, text_bytes=number)
    redaction = Redaction(b"x", b"x", model_served=text, model_fingerprint=text, usage=Usage(number, number),
                          finish_reasons=(text,), tool_calls=(ToolCall(text, text),), blocked=())  # fmt: skip

    for fails_at in ("inference.intent", "inference.outcome"):
        last = exchange("openai.chat", b"{}", b"{}", b"application/json", hostile(inspection, redaction, fails_at))[-1]
        leaf = json.loads(built(last))
        assert (leaf["outcome"]["status"], leaf["outcome"]["code"]) == ("unrecorded", "integrity")
        assert leaf["intent_sequence"] == (1 if fails_at == "inference.outcome" else None)
        assert leaf["payloads"] == []


CHAT = {"model": "demo", "messages": []}
MANY: dict[str, Any] = {**HEAVY, "choices": [one for one in HEAVY["choices"] for _ in range(8)]}


# Planted mistakes --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mistake", ["number as it is", "tokens as they are", "all tools", "all reasons"])
def test_each_mistake_is_caught(mistake: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if mistake == "number as it is":
        monkeypatch.setattr(facts, "_plain", lambda value: value)
    elif mistake == "tokens as they are":
        monkeypatch.setattr(facts, "_counted", lambda _tokens: 10**20)
    elif mistake == "all tools":
        monkeypatch.setattr(facts, "TOOLS_MAX", 10**6)
    else:
        monkeypatch.setattr(facts, "REASONS_MAX", 10**6)
    entries = exchange("openai.chat", wire({**CHAT, "n": 2**60}), wire(MANY), b"application/json", real)
    assert [entry.kind for entry in entries[:2]] == ["inference.intent", "inference.outcome"]
    with pytest.raises(IntegrityError, match="leaf"):
        _ = [built(entry) for entry in entries]


def test_a_last_word_that_repeats_everything_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """As this house once did: the intent was durable, and the outcome never was."""
    monkeypatch.setattr(Session, "_least_entry", lambda self, *told: replace(self._outcome_entry(*told), payloads=()))
    odd = Inspection("openai.chat", "chat", "x" * 20_000, is_stream=False, parameters={}, findings={}, text_bytes=1)
    room = hostile(odd, Redaction(b"x", b"x"), "inference.outcome")
    entries = exchange("openai.chat", b"{}", b"{}", b"application/json", room)
    with pytest.raises(IntegrityError, match="leaf"):
        built(entries[-1])


PLAIN = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False)
SAFE_MAX = 2**53 - 1
safe = (
    st.none() | st.booleans() | st.integers(-SAFE_MAX, SAFE_MAX) | texts | st.text() | st.sampled_from(State).map(str)
)
leaves = st.recursive(
    safe,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(st.characters(max_codepoint=127), max_size=8), inner, max_size=4)
    ),
    max_leaves=20,
)


@settings(deadline=None)
@given(leaves)
def test_a_leaf_is_written_as_the_standard_library_would(value: Any) -> None:
    assert canonical(value) == PLAIN.encode(value).encode()


@pytest.mark.parametrize(
    "value",
    [
        {"a": 1.5},
        {"a": SAFE_MAX + 1},
        {"\u00e9": 1},
        {1: "a"},
        {State.START: "a"},
        {"a": {"b", "c"}},
        {"a": AT},
        {"a": b"bytes"},
        {"a": ADA},
        {"a": "\ud800"},
        {"\ud800": "a"},
        {"ok": 1, None: 2},
    ],
    ids=repr,
)
def test_what_a_leaf_cannot_hold_is_refused(value: Any) -> None:
    with pytest.raises(IntegrityError):
        canonical([value])
