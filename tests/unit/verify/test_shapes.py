"""Learnt patterns are a short cut, never another verdict: whatever they accept, the long way accepts as the same."""

from __future__ import annotations

import io
from copy import deepcopy
from datetime import datetime, timedelta
from typing import Any

import pytest
import rfc8785
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ext_proc.verify import shapes as module
from ext_proc.verify.leaves import Asked, LeafFacts, Reading
from ext_proc.verify.shapes import Shapes, outlines_of
from ext_proc.verify.source import Lock, Opened
from tests.fakes.forge import compressed, leaf_hash

ORIGIN = "g.example/affidavit/gw-0-0/epoch"
FIRST = 1000


def payload(role: str, digest: str) -> dict[str, Any]:
    return {"role": role, "ciphertext_sha256": digest * 64, "ciphertext_bytes": 132, "key": "subject:x#1"}


def leaf(kind: str, sequence: int, **fields: Any) -> dict[str, Any]:
    told = {
        "schema": "affidavit/v1", "kind": kind, "origin": ORIGIN, "sequence": sequence,
        "at": "2026-11-24T22:00:01.000000Z", "exchange_id": "4359a06d", "policy": {"allow": True, "approval_required": False},
        "payloads": [payload("request.raw", "a"), payload("request.forwarded", "b")],
        "request": {"method": "POST", "path": "/v1/chat", "body_bytes": 104, "model": None, "parameters": {"n": -3}},
    }  # fmt: skip
    if kind == "inference.outcome":
        told |= {"intent_sequence": FIRST - 1, "outcome": {"status": "completed", "http_status": 200, "code": None}}
        told["time"] = {"recorded": "2026-11-24T22:00:01.000000Z"}
    return told | fields


INTENT = leaf("inference.intent", FIRST)
OUTCOME = leaf("inference.outcome", FIRST)


def read(lines: list[bytes], shapes: Shapes, first: int = FIRST) -> LeafFacts:
    asked = Asked(ORIGIN, first, first + len(lines) - 1, (), timedelta(seconds=300), timedelta(seconds=180))
    return Reading(asked, shapes).run(Opened(io.BytesIO(compressed(lines)), Lock(None, None)))


def learnt(*samples: dict[str, Any]) -> Shapes:
    """What a process knows that has read many leaves like these."""
    shapes = Shapes()
    for one in samples:
        lines = [rfc8785.dumps({**one, "sequence": n}) for n in range(module._WORTH_LEARNING)]
        assert {code for code, _ in read(lines, shapes, 0).faults} == set()
    assert len(shapes.matches) == len(samples)
    return shapes


ALONE = leaf("inference.outcome", FIRST, intent_sequence=None, detail=None)
"""Of a call that was refused: its pattern is another one."""
SHAPES = learnt(INTENT, OUTCOME, ALONE)


def is_matched(line: bytes, shapes: Shapes = SHAPES) -> bool:
    match = shapes.matches.get(outlines_of(line)[0])
    return match is not None and match(line) is not None


def same(line: bytes) -> LeafFacts:
    """Short cut and long way say the same of a line; that is what they say."""
    found = read([line], SHAPES)
    assert found == read([line], Shapes())
    return found


@pytest.mark.parametrize("told", [INTENT, OUTCOME])
def test_the_next_leaf_of_a_shape_is_matched(told):
    other = deepcopy(told) | {"exchange_id": "other", "at": "2026-11-24T22:00:09.123456Z"}
    other["request"] |= {"path": "/a,b:{c}", "body_bytes": 0, "model": False, "parameters": {"n": 999_999_999_999_999}}
    line = rfc8785.dumps(other)
    assert not is_matched(line)  # a text with brackets has another outline
    assert same(line).faults == []
    other["request"]["path"] = "/other 'path' <&>"
    line = rfc8785.dumps(other)
    assert is_matched(line)
    facts = same(line)
    assert facts.faults == []
    assert facts.payloads == 2
    assert facts.nodes == [(0, leaf_hash(line))]


def test_what_an_exchange_was_is_the_same_by_both_ways():
    told = [
        leaf("inference.intent", FIRST), leaf("inference.outcome", FIRST + 1, intent_sequence=FIRST),
        leaf("inference.intent", FIRST + 2, exchange_id="lost"), leaf("inference.outcome", FIRST + 3),
        leaf("inference.outcome", FIRST + 4, intent_sequence=None, detail=None),
        leaf("inference.outcome", FIRST + 5, outcome={"status": "interrupted", "http_status": None, "code": None}),
    ]  # fmt: skip
    lines = [rfc8785.dumps(one) for one in told]
    assert all(map(is_matched, lines))
    short = read(lines, SHAPES)
    assert short == read(lines, Shapes())
    assert short.open_intents == {FIRST + 2: "lost"}
    assert [(where, named) for where, named, _ in short.loose_outcomes] == [(n, FIRST - 1) for n in (1003, 1005)]
    assert short.last_ordinary == FIRST + 4
    assert short.counts == {"inference.intent": 2, "inference.outcome": 4}


@pytest.mark.parametrize(
    ("old", "new", "code"),
    [
        (b'"sequence":1000', b'"sequence":1001', "leaf_misplaced"),
        (b'"sequence":1000', b'"sequence":-1000', "leaf_misplaced"),
        (b"gw-0-0", b"gw-0-1", "leaf_misplaced"),
        (b"2026-11-24T22", b"2026-13-24T22", "leaf_invalid"),
        (b"2026-11-24T22", b"2026-11-24 22", "leaf_invalid"),
        (b"22:00:01", b"22:00:61", "leaf_invalid"),
        (b"22:00:01.0", b"22:00:01,0", "leaf_invalid"),
        (b"01.000000Z", b"01.00000ZZ", "leaf_invalid"),
        (b'"kind":"inference.intent"', b'"kind":"inference.insect"', "leaf_invalid"),
        (b'"kind":"inference.intent"', b'"kind":"inference.outcome"', "leaf_invalid"),
        (b"affidavit/v1", b"affidavit/v2", "leaf_invalid"),
        (b'"body_bytes":104', b'"body_bytes":0104', "leaf_invalid"),
        (b'"body_bytes":104', b'"body_bytes":-0', "leaf_invalid"),
        (b'"body_bytes":104', b'"body_bytes":1.5', "leaf_invalid"),
        (b'"body_bytes":104', b'"body_bytes":1e3', "leaf_invalid"),
        (b'"body_bytes":104', b'"body_bytes":9007199254740992', "leaf_invalid"),
        (b'"body_bytes":104', b'"body_bytes": 104', "leaf_invalid"),
        (b'"body_bytes":104', b'"body_bytes":nul', "leaf_invalid"),
        (b'"path":"/v1/chat"', b'"path":"\\u002fv1/chat"', "leaf_invalid"),
        (b'"path":"/v1/chat"', b'"path":"/v1\tchat"', "leaf_invalid"),
        (b'"path":"/v1/chat"', b'"path":"/v1\xffchat"', "leaf_invalid"),
        (b'"path":"/v1/chat"', b'"kind":"/v1/chat"', "leaf_invalid"),
        (b'"method":"POST","model":null', b'"model":null,"method":"POST"', "leaf_invalid"),
        (b'"exchange_id":"4359a06d"', b'"exchange_id":435906', "leaf_invalid"),
        (b"aaaaaaaa", b"AAAAAAAA", "leaf_invalid"),
        (b"aaaaaaaa", b"aaaaaaa", "leaf_invalid"),
    ],
)
def test_what_does_not_hold_is_found(old, new, code):
    line = rfc8785.dumps(INTENT)
    assert is_matched(line)
    assert old in line
    assert code in [one for one, _ in same(line.replace(old, new, 1)).faults]


def test_a_leaf_may_not_be_too_long():
    told = deepcopy(INTENT)
    told["request"]["path"] = "/" * 16_384
    line = rfc8785.dumps(told)
    assert is_matched(line)
    assert [code for code, _ in same(line).faults] == ["leaf_invalid"]


@pytest.mark.parametrize(
    ("times", "codes"),
    [
        (["00:01", "00:03", "00:01", "00:03"], []),
        (["00:05", "00:01", "00:02", "00:04"], ["clock_backwards", "clock_backwards"]),
        (["00:01", "00:03", "00:06"], ["heartbeat_missing"]),
        (["00:58", "01:00", "00:57", "00:57"], ["clock_backwards", "clock_backwards"]),
        (["00:58", "01:01"], ["heartbeat_missing"]),
    ],
)
@pytest.mark.parametrize("shapes", [SHAPES, Shapes()])
def test_short_limits_count_within_a_minute(times, codes, shapes):
    lines = [
        rfc8785.dumps({**INTENT, "sequence": n, "at": f"2026-11-24T22:{one}.000000Z"}) for n, one in enumerate(times)
    ]
    asked = Asked(ORIGIN, 0, len(lines) - 1, (), timedelta(seconds=2), timedelta(seconds=2))
    facts = Reading(asked, shapes).run(Opened(io.BytesIO(compressed(lines)), Lock(None, None)))
    assert [code for code, _ in facts.faults] == codes
    patient = Asked(ORIGIN, 0, len(lines) - 1, (), timedelta(seconds=2), timedelta(seconds=90))
    facts = Reading(patient, shapes).run(Opened(io.BytesIO(compressed(lines)), Lock(None, None)))
    assert [code for code, _ in facts.faults] == [code for code in codes if code == "clock_backwards"]
    assert facts.latest == max(datetime.fromisoformat(f"2026-11-24T22:{one}.000000Z") for one in times)


PIECES = st.sampled_from(
    [b'"', b"\\", b",", b":", b"{", b"}", b"[", b"]", b" ", b"0", b"-", b".", b"e", b"\t", b"\x00", b"\x7f", b"\xc3\xa9",
     b"\xed\xa0\x80", b'\\"', b"\\n", b"null", b'":1,"', b"[]", b"{}", b"T", b"Z", b"9" * 20]
) | st.binary(max_size=3).filter(lambda piece: b"\n" not in piece)  # fmt: skip


@settings(max_examples=600)
@given(
    st.sampled_from([INTENT, OUTCOME]),
    st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 3), PIECES), max_size=3),
)
@example(INTENT, [])
def test_no_change_of_bytes_makes_the_two_ways_differ(told, cuts):
    line = rfc8785.dumps(told)
    for place, length, piece in cuts:
        at = place % (len(line) + 1)
        line = line[:at] + piece + line[at + length :]
    same(line)


@given(st.data())
def test_whatever_a_pattern_accepts_is_canonical(data):
    """Values of a shape at will: texts, numbers and words in place of one another."""
    told = deepcopy(data.draw(st.sampled_from([INTENT, OUTCOME])))
    text = st.text(st.characters(exclude_categories=["Cs"]), max_size=6) | st.sampled_from(["", '"', "\\", "é", "\x7f"])
    bare = st.none() | st.booleans() | st.integers(-(2**53) + 1, 2**53 - 1) | st.floats(-1e20, 1e20)
    told["request"] |= {
        "path": data.draw(text), "method": data.draw(text), "model": data.draw(bare), "body_bytes": data.draw(bare),
    }  # fmt: skip
    line = rfc8785.dumps(told)
    facts = same(line)
    if is_matched(line):
        assert facts.faults == []


def test_shapes_are_learnt_within_limits(monkeypatch):
    monkeypatch.setattr(module, "_LEARNT_MAX", 3)
    monkeypatch.setattr(module, "_COUNTED_MAX", 5)
    monkeypatch.setattr(module, "_WORTH_LEARNING", 2)
    shapes = Shapes()
    for number in range(12):
        told = {**INTENT, "extra": dict.fromkeys((f"k{n}" for n in range(number)), 1)}
        lines = [rfc8785.dumps({**told, "sequence": n}) for n in range(2)]
        assert read(lines, shapes, 0).faults == []
        assert is_matched(lines[0], shapes)
        assert len(shapes.matches) <= 3
        assert len(shapes._counts) <= 5
    long = [rfc8785.dumps({**INTENT, "extra": [1] * 2000, "sequence": n}) for n in range(3)]
    before = dict(shapes.matches)
    assert read(long, shapes, 0).faults == []
    assert shapes.matches == before


@pytest.mark.parametrize("kind", ["heartbeat", "log.open"])
def test_only_exchanges_are_learnt(kind):
    shapes = Shapes()
    read([rfc8785.dumps({**INTENT, "kind": kind, "sequence": n}) for n in range(300)], shapes, 0)
    assert shapes.matches == {}


@pytest.mark.parametrize("text", ["é", "a\\b", 'a"b', "\x7f", "\n"])
def test_a_text_that_a_pattern_cannot_vouch_for_is_not_learnt(text):
    shapes = Shapes()
    lines = [rfc8785.dumps({**INTENT, "exchange_id": text, "sequence": n}) for n in range(300)]
    assert read(lines, shapes, 0).faults == []
    assert shapes.matches == {}
