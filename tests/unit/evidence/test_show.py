from __future__ import annotations

import json
from datetime import timedelta

import pytest

from ext_proc.audit.erasure import Order, erase
from ext_proc.errors import AuditUnavailable, ConfigError
from ext_proc.evidence.rendering import indented, shown
from ext_proc.evidence.show import Link, Opened, find, links, open_payloads
from ext_proc.model import Receipt
from ext_proc.record_kinds import BODY_ROLES
from tests.fakes.recorded import ADA, ANSWER, MASKED, NOON, QUESTION, SPAN, FakeJournal, LogJournal, Recorded, as_json


def quiet(_count):
    pass


def forget(recorded, journal):
    erase(
        recorded.keyring.registry,
        recorded.keyring.subject_reference(ADA),
        order=Order("art. 17", "dpo"),
        clock=lambda: NOON + timedelta(days=1),
        journal=journal,
        wait=lambda _: None,
    )


@pytest.fixture
def recorded(tmp_path):
    return Recorded.at(tmp_path)


@pytest.fixture
def journal():
    return FakeJournal()


def read(recorded, journal, located, **more):
    return open_payloads(
        recorded.store, recorded.keyring, journal, located, by="audit/17", purpose="sample 3 of 25", **more
    )


def test_four_payloads_and_the_reading_is_on_record(recorded, journal):
    log = recorded.log()
    log.exchange("other", NOON)
    log.exchange("wanted", NOON)
    log.seal()
    located = find(recorded.store, "wanted", quiet)
    assert [one.leaf["kind"] for one in located] == ["inference.intent", "inference.outcome"]
    opened = read(recorded, journal, located)
    assert [one.role for one in opened] == list(BODY_ROLES)
    assert [json.loads(one.body) for one in opened] == [QUESTION, MASKED, ANSWER, ANSWER]
    fields = {"exchange_id": "wanted", "roles": list(BODY_ROLES), "by": "audit/17", "purpose": "sample 3 of 25"}
    assert journal.notes == [("access.read", fields)]
    assert "ada@example.com" not in repr(opened)


def test_no_record_no_payload(recorded, journal):
    log = recorded.log()
    log.exchange("wanted", NOON)
    log.seal()
    located = find(recorded.store, "wanted", quiet)
    journal.failure = AuditUnavailable("disk")
    before = len(recorded.store.downloads)
    with pytest.raises(AuditUnavailable):
        read(recorded, journal, located)
    assert len(recorded.store.downloads) == before, "no pack was even fetched"
    with pytest.raises(ConfigError):
        open_payloads(recorded.store, recorded.keyring, FakeJournal(), located, by="", purpose="x")


def test_nothing_to_read_is_no_access(recorded, journal):
    log = recorded.log()
    log.refused("wanted", NOON)
    log.seal()
    assert read(recorded, journal, find(recorded.store, "wanted", quiet)) == []
    assert journal.notes == []


@pytest.mark.parametrize(
    "told",
    [7, [7], [{}], [{"role": "request.raw"}], [{"role": "request.raw", "ciphertext_sha256": 7}], [{"role": ["x"]}]],
)
def test_leaves_of_another_form_are_no_traceback(recorded, journal, told):
    log = recorded.log()
    log.exchange("other", NOON)
    log.add("inference.intent", NOON, {"exchange_id": "wanted", "payloads": told, "request": 7, "actor": []})
    log.seal()
    opened = read(recorded, journal, find(recorded.store, "wanted", quiet))
    assert {one.state for one in opened} <= {"damaged", "missing"}


def test_a_key_that_cannot_be_read_is_damage(recorded, journal):
    log = recorded.log()
    fields, sealed = log.intent_fields("wanted")
    fields["payloads"][0]["wrapped_data_key"] = "not base64 \u00e9"
    log.add("inference.intent", NOON, fields, sealed)
    log.seal()
    assert [one.state for one in read(recorded, journal, find(recorded.store, "wanted", quiet))] == ["damaged", "read"]


@pytest.mark.parametrize("spans", [[7], [{}], [{"channel": "/messages/0/content"}], [{**SPAN, "end": "x"}], "x"])
def test_spans_of_another_form_are_not_marked(recorded, spans):
    log = recorded.log()
    fields, _ = log.intent_fields("x")
    fields["request_redaction"]["spans"] = spans
    log.add("inference.intent", NOON, fields)
    log.seal()
    text, unplaced = shown(opened(as_json(QUESTION)), find(recorded.store, "x", quiet))
    assert "ada@example.com" in text
    assert unplaced == len(spans)


def test_who_read_it_is_shown_with_it(recorded):
    log = recorded.log()
    log.exchange("wanted", NOON)
    log.add("access.read", NOON, {"exchange_id": "wanted", "roles": [], "by": "audit", "purpose": "x"})
    log.seal()
    assert find(recorded.store, "wanted", quiet)[-1].leaf["kind"] == "access.read"


def test_each_loss_has_its_own_name(recorded, journal):
    log = recorded.log()
    log.exchange("wanted", NOON)
    log.seal()
    located = find(recorded.store, "wanted", quiet)
    pack = next(n for n, (key, _, _) in enumerate(recorded.store.puts) if key.endswith(".pack"))
    key, body, at = recorded.store.puts[pack]
    for harm, state in ((body[:-20], "damaged"), (b"AFP1", "missing"), (b"what", "damaged")):
        recorded.store.puts[pack] = (key, harm, at)
        assert state in {one.state for one in read(recorded, journal, located)}
    recorded.store.puts[pack] = (key, body[:-1] + bytes([body[-1] ^ 1]), at)
    assert [one.state for one in read(recorded, journal, located)] == ["read", "read", "read", "damaged"]
    recorded.store.puts[pack] = (key, body, at)
    forget(recorded, LogJournal(recorded))
    opened = read(recorded, journal, located)
    assert {one.state for one in opened} == {"shredded"}
    assert "shredded by record" in opened[0].why
    assert shown(opened[0])[0].startswith("[shredded: shredded by record")


def test_masked_spans_are_marked_in_what_came_in(recorded, journal):
    log = recorded.log()
    log.exchange("wanted", NOON)
    log.seal()
    located = find(recorded.store, "wanted", quiet)
    raw, forwarded = read(recorded, journal, located)[:2]
    text, unplaced = shown(raw, located)
    assert "Write to ⟦EMAIL mask: ada@example.com⟧, please" in text
    assert unplaced == 0
    assert text.startswith('{\n  "model": "gpt-4o",\n')
    assert "⟦" not in shown(forwarded, located)[0]


def opened(body, **more):
    return Opened("request.raw", "read", "application/json", body, **more)


def test_spans_that_cannot_be_placed_are_counted(recorded):
    log = recorded.log()
    fields, _ = log.intent_fields("x")
    fields["request_redaction"] |= {"spans": [{**SPAN, "channel": "/nowhere"}], "spans_unlisted": 2}
    log.add("inference.intent", NOON, {**fields, "exchange_id": "x"})
    log.seal()
    located = find(recorded.store, "x", quiet)
    text, unplaced = shown(opened(as_json(QUESTION)), located)
    assert unplaced == 3
    assert "ada@example.com" in text
    assert shown(opened(b"\xff not json"), located) == ("\ufffd not json", 3)


def test_of_two_channels_with_one_public_name_the_right_one_is_marked(recorded):
    log = recorded.log()
    body = {"model": "m", "Kund A": {"x": "nothing of the kind at all"}, "Kund B": {"x": "Write to ada@example.com"}}
    fields, _ = log.intent_fields("x")
    fields["request"]["protocol"] = "generic"
    fields["request_redaction"]["spans"] = [{**SPAN, "channel": "/*/x"}]
    log.add("inference.intent", NOON, {**fields, "exchange_id": "x"})
    log.seal()
    text, unplaced = shown(opened(as_json(body)), find(recorded.store, "x", quiet))
    assert unplaced == 0
    assert text.count("⟦") == 1
    assert "Write to ⟦EMAIL mask: ada@example.com⟧" in text


def test_terminals_are_not_steered():
    text, _ = shown(Opened("request.raw", "read", "text/plain", b"a\x1b[2Jb\x9b\r\nc\td\xe2\x80\xae"))
    assert text == "a[U+001B][2Jb\ufffd\nc\td[U+202E]"


def test_streams_stay_as_they_are():
    body = b'data: {"a":1}\n\ndata: [DONE]\n\n'
    assert shown(Opened("response.released", "read", "text/event-stream", body))[0] == body.decode()


@pytest.mark.parametrize(
    "text",
    ['{"a":1e5,"a":1.0,"b":[],"c":{},"d":[1,"x, {y}: \\" \\u00e9",null,true]}', '"x"', "[]", "12345678901234567890"],
)
def test_indentation_changes_no_token(text):
    laid_out = indented(text)
    assert "".join(one.strip() for one in laid_out.split("\n")).replace('": ', '":') == text.replace('": ', '":')
    assert json.loads(laid_out) == json.loads(text)


def test_what_is_not_json_is_left_alone():
    assert indented("{not json") == "{not json"
    assert indented("[" * 100_000) == "[" * 100_000


class Lying(LogJournal):
    """What the registry is told of is not what the log holds."""

    def __init__(self, recorded, lie):
        super().__init__(recorded)
        self._lie = lie

    def note(self, kind, fields):
        told = super().note(*self._lie.get("leaf", lambda kind, fields: (kind, fields))(kind, dict(fields)))
        return Receipt(
            *self._lie.get("place", lambda origin, sequence: (origin, sequence))(told.origin, told.sequence), ""
        )


@pytest.mark.parametrize(
    "lie",
    [
        {"place": lambda origin, sequence: (origin, sequence + 100)},
        {"place": lambda origin, sequence: (origin.replace("aaaaaaaa", "bbbbbbbb"), sequence)},
        {"place": lambda origin, sequence: (origin.replace("demo", "other"), sequence)},
        {"place": lambda _, sequence: ("nowhere", sequence)},
        {"leaf": lambda kind, fields: ("access.read", fields)},
        {"leaf": lambda kind, fields: (kind, {**fields, "subject_ref": "hmac-sha256:" + "0" * 64})},
        {"leaf": lambda kind, fields: (kind, {**fields, "generations": [2]})},
        {"leaf": lambda kind, fields: (kind, {**fields, "generations": "1"})},
        {"leaf": lambda kind, fields: (kind, {k: v for k, v in fields.items() if k != "generations"})},
    ],
)
def test_an_erasure_that_the_log_does_not_hold_is_unexplained(recorded, journal, lie):
    log = recorded.log()
    log.exchange("wanted", NOON)
    log.seal()
    forget(recorded, Lying(recorded, lie))
    opened = read(recorded, journal, find(recorded.store, "wanted", quiet))
    assert {one.state for one in opened} == {"damaged"}
    assert all(one.why.startswith("unexplained: ") for one in opened)


def test_a_tool_call_and_the_requests_that_bring_its_result_are_linked(recorded):
    log, ref = recorded.log(), recorded.keyring.reference("tool-call", "call_1")
    log.tool_call("asks", NOON, "call_1")
    log.exchange("brings", NOON + timedelta(minutes=1), results=["call_1"])
    log.exchange("repeats", NOON + timedelta(minutes=2), results=["call_1", "call_2"])
    log.exchange("another", NOON + timedelta(minutes=3), results=["call_3"])
    log.seal()
    first, second = Link(ref, "asks", "brings"), Link(ref, "asks", "repeats")

    def linked(name):
        return links(recorded.store, find(recorded.store, name, quiet))

    assert linked("asks") == [first, second]
    assert (linked("brings"), linked("repeats"), linked("another")) == ([first], [second], [])


@pytest.mark.parametrize("told", [{"tool_call": 1}, {"tool_call": {"call_ref": 2}}, {}])
def test_tool_calls_of_another_form_are_no_traceback(recorded, told):
    log = recorded.log()
    log.add("effect.tool_call", NOON, {"exchange_id": "odd", **told})
    log.exchange("even", NOON, results=["call_1"])
    log.seal()
    assert links(recorded.store, find(recorded.store, "odd", quiet)) == []
    assert links(recorded.store, find(recorded.store, "even", quiet)) == []
