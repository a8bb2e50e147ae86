"""Laws of redaction: it never fails, settles at once, leaves nothing it can find, and takes linear time."""

from __future__ import annotations

import sys
from itertools import pairwise
from time import process_time
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ext_proc.model import Action, RedactionRule
from ext_proc.redaction import Redactor, scan, scan_all
from ext_proc.redaction.redact import action_for
from ext_proc.redaction.rules import ENTITIES
from tests.unit.redaction.samples import HITS, texts

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

REDACTOR = Redactor(b"k" * 32)
KEYS = ("", "note", "password", "phone_number", "ssn", "dob", "api_key", "licence")

anything = texts | st.text(st.characters(), max_size=40) | st.lists(st.sampled_from(HITS), max_size=3).map(" ".join)
keys = st.sampled_from(KEYS) | st.text(max_size=8)
decisions = st.lists(
    st.builds(RedactionRule, st.sampled_from(("*", *ENTITIES)), st.sampled_from(Action)),
    max_size=4,
    unique_by=lambda r: r.entity,
).map(tuple)


def after(text: str, rules: Sequence[RedactionRule], context: str) -> str:
    made = REDACTOR.edits("/x", text, scan(text, context), rules, context)
    ends = [0, *(edit.end for edit in made.edits)]
    assert all(edit.start >= end for edit, end in zip(made.edits, ends, strict=False)), "edits overlap or are unsorted"
    for edit in reversed(made.edits):
        text = text[: edit.start] + edit.replacement + text[edit.end :]
    return text


@settings(max_examples=400, deadline=None)
@given(anything, keys)
def test_scan_never_fails_and_its_spans_are_in_order(text: str, context: str) -> None:
    spans = scan(text, context)
    assert all(0 <= span.start < span.end <= len(text) for span in spans)
    assert all(one.end <= other.start for one, other in pairwise(spans))


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(anything, keys), max_size=6))
def test_many_at_once_as_one_by_one(given_texts: list[tuple[str, str]]) -> None:
    assert scan_all(given_texts) == [scan(text, context) for text, context in given_texts]


@settings(max_examples=600, deadline=None)
@given(anything, keys, decisions)
def test_nothing_that_is_found_stays(text: str, context: str, rules: tuple[RedactionRule, ...]) -> None:
    left = scan(after(text, rules, context), context)
    assert [span for span in left if action_for(span.entity, rules) is not Action.ALLOW] == []


@settings(max_examples=600, deadline=None)
@given(anything, keys, decisions)
def test_idempotent(text: str, context: str, rules: tuple[RedactionRule, ...]) -> None:
    once = after(text, rules, context)
    assert after(once, rules, context) == once


@settings(max_examples=100, deadline=None)
@given(texts, st.sampled_from(HITS))
def test_other_text_on_other_lines_hides_nothing(around: str, hit: str) -> None:
    """L6: whatever a caller writes before or after, on lines of its own, a value that was found is still found."""
    whole = f"{around}\n\n{hit}\n\n{around}"
    shift = len(around) + 2
    covered = scan(whole)
    for span in scan(hit):
        if span.end < len(hit) or not hit.startswith("-----BEGIN"):
            assert any(one.start <= span.start + shift and one.end >= span.end + shift for one in covered)


BAIT: dict[str, Callable[[int], str]] = {
    "digits": lambda n: "1" * n,
    "spaced digits": lambda n: "4 " * (n // 2),
    "at signs": lambda n: "@" * n,
    "a@": lambda n: "a@" * (n // 2),
    "long local": lambda n: ("a" * 63 + "@") * (n // 64),
    "long domain": lambda n: "a@" + "a." * (n // 2),
    "quotes": lambda n: '"' * n + "@",
    "A=": lambda n: "A=" * (n // 2),
    "open PEM": lambda n: "-----BEGIN PRIVATE KEY-----" + "a" * n,
    "many open PEM": lambda n: ("-----BEGIN PRIVATE KEY-----" + "a" * 900) * (n // 927),
    "PEM ends": lambda n: "PRIVATE KEY-----" * (n // 16),
    "eyJ": lambda n: "eyJ" * (n // 3),
    "eyJ.": lambda n: "eyJaaaaaaaaa." * (n // 13),
    "passwords": lambda n: "password:" * (n // 9),
    "words": lambda n: "token is a " * (n // 11),
    "secret runs": lambda n: "secret " + "a" * n,
    "pluses": lambda n: ("+" + "1" * 25 + "a") * (n // 27),
    "plus groups": lambda n: "+1 2 3 4 5 6 7 8 9 " * (n // 19),
    "calls": lambda n: ("call " + "1 " * 30) * (n // 65),
    "call, then digits": lambda n: "call " + "2 1 2 5 " * (n // 8),
    "colons": lambda n: ":" * n,
    "hextets": lambda n: "a:" * (n // 2),
    "escapes": lambda n: "\\u0040" * (n // 6),
    "backslashes": lambda n: "\\" * n + "z",
    "nested escapes": lambda n: "\\" * n + "u0040",
    "backslash groups": lambda n: ("\\" * 40 + "z") * (n // 41),
    "ampersands": lambda n: "&" * n,
    "amps": lambda n: "&amp;" * (n // 5) + "&" + "amp;" * (n // 5),
    "percents": lambda n: "%25" * (n // 3),
    "base64": lambda n: "QUJD" * (n // 4) + "_",
    "base64 lines": lambda n: ("QUJD" * 19 + "\n") * (n // 77),
    "base64 parts": lambda n: "Q" * 16 + "/Q" * (n // 2),
    "urls": lambda n: "ab://a:b" * (n // 8),
    "ibans": lambda n: "DE89 " * (n // 5),
    "births": lambda n: "born 1/1/" * (n // 9),
    "licences": lambda n: "DL no -----" * (n // 11),
    "zero width": lambda n: "\u200b" * n,
    "letters with marks": lambda n: "é\u0301" * (n // 2),
    "placeholders": lambda n: "password: [EMAIL] " * (n // 18),
    "addresses": lambda n: "bob@example.org " * (n // 16),
    "lines": lambda n: "a\n" * (n // 2),
}  # fmt: skip
SMALL, TIMES = 4000, 8


def calls(text: str) -> int:
    """How many calls a scan makes: the same on every machine."""
    count = 0

    def counting(_frame: object, event: str, _argument: object) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    sys.setprofile(counting)
    try:
        scan(text)
    finally:
        sys.setprofile(None)
    return count


def seconds(text: str) -> float:
    def once() -> float:
        begin = process_time()
        scan(text)
        return process_time() - begin

    return min(once() for _ in range(3))


@pytest.mark.parametrize("name", BAIT)
def test_scan_is_linear(name: str) -> None:
    small, large = BAIT[name](SMALL), BAIT[name](SMALL * TIMES)
    scan(small)
    assert calls(large) <= calls(small) * TIMES * 1.5 + 200
    # What regular expressions do inside one call: CPU time, with room for a busy machine (a square would be 64 times).
    assert seconds(large) <= max(seconds(small), 0.002) * TIMES * 3


def test_values_without_an_end_are_read_once() -> None:
    """Each begins a window of its own, and each goes on to the end of the text."""
    key = "-----BEGIN PRIVATE KEY-----" + "a" * 17_000
    assert seconds(key * 40) <= max(seconds(key * 5), 0.002) * 8 * 3


@pytest.mark.parametrize("name", ["addresses", "passwords", "many open PEM", "escapes"])
def test_redaction_is_linear(name: str) -> None:
    def once(text: str) -> float:
        spans = scan(text)
        begin = process_time()
        REDACTOR.edits("", text, spans, ())
        return process_time() - begin

    small, large = BAIT[name](SMALL), BAIT[name](SMALL * TIMES)
    assert min(once(large) for _ in range(3)) <= max(min(once(small) for _ in range(3)), 0.002) * TIMES * 3
