"""Patterns that could be slow, or whose matches have no known length, are refused with what to do instead."""

from __future__ import annotations

import re
from time import process_time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ext_proc.redaction.rules import RULES
from ext_proc.redaction.safety import Bounds, UnsafePattern, bounds, is_one_class, is_plain, overlap

REFUSED = [
    ("a*", "without a bound"),
    ("a+b", "without a bound"),
    ("a{3,}", "without a bound"),
    ("(a+)+b", "without a bound"),
    ("(?=a*)b", "without a bound"),
    ("(?:a{1,9}){1,9}b", "very many ways"),
    (r"(?:\w{1,20} ?){1,20}!", "very many ways"),
    ("(?:a?){30}a{30}", "very many ways"),
    ("(?:a|b|ab){1,20}c", "very many ways"),
    ("(?:aa|a){1,20}c", "very many ways"),
    ("(?:[ab]x|[bc]x){1,30}y", "very many ways"),
    ("(?:(?:ab?){1,9}a?){1,9}c", "very many ways"),
    ("(?:(?:ab|ab)-){1,40}c", "very many ways"),
    ("(?:(?:ab|ab|)-){1,40}c", "very many ways"),
    ("(?:[0-9]a|5a)-" * 40 + "c", "can read the same"),
    ("(?:(?:(?:[0-9]a|5a)-){2}_){2}" * 4 + "c", "can read the same"),
    ("(?:(?:a|a)-){0,2}" * 7 + "c", "can read the same"),
    ("a{0,1}a{0,1}-" * 20 + "c", "can read the same"),
    ("(?:a{1,3}a{1,3}-b)" * 20 + "c", "can read the same"),
    ("(?:(?:a?){0,2}b){1,20}c", "very many ways"),
    ("(?:(?:a{0,2})?b){20}c", "very many ways"),
    ("(?i)(?:aa|AA){1,20}c", "what letters"),
    ("(?:x|(?i:aa|AA)){1,20}c", "what letters"),
    ("(?s:.x|\nx){1,20}c", "what letters"),
    (r"\d{0,90}\d{0,90}x", "side by side"),
    (r"\S{1,64}@\S{1,64}\.[a-z]{2,9}", "side by side"),
    (r"(a)\1", "refers back"),
    ("(?P<x>a)(?P=x)", "refers back"),
    ("(a)?(?(1)b|c)", "refers back"),
    ("(?<=" + "a" * 65 + ")b", "65 characters back"),
    ("a(?!" + "b" * 65 + ")", "65 characters ahead"),
    ("[ab]" * 4100, "4100 characters"),
    ("[a", "no regular expression"),
    ("(", "no regular expression"),
]


@pytest.mark.parametrize(("pattern", "reason"), REFUSED, ids=range(len(REFUSED)))
def test_refused(pattern: str, reason: str) -> None:
    with pytest.raises(UnsafePattern) as caught:
        bounds(pattern)
    assert reason in caught.value.reason
    assert caught.value.remedy


@pytest.mark.parametrize(
    ("pattern", "wanted"),
    [
        ("abc", Bounds(3, 3, 0, 0)),
        ("a{2,5}b?", Bounds(2, 6, 0, 0)),
        ("(?:ab|c)d", Bounds(2, 3, 0, 0)),
        (r"(?<!\w)a(?!\w|\.\d)", Bounds(1, 1, 1, 2)),
        (r"\bab\b", Bounds(2, 2, 1, 1)),
        (r"a\Z", Bounds(1, 1, 0, 2)),
        ("(?=abc)a", Bounds(1, 1, 0, 2)),
        ("(?=abc)abcd", Bounds(4, 4, 0, 0)),
        ("ab(?<=xab)", Bounds(2, 2, 1, 0)),
        (r"(?:[A-Za-z0-9_-]{1,63}\.){1,8}[a-z]{2,9}", Bounds(4, 521, 0, 0)),
        (r"(?:[ .-]?\d){12,18}", Bounds(12, 36, 0, 0)),
        ("(?>a{1,9})b", Bounds(2, 10, 0, 0)),
    ],
)
def test_bounds(pattern: str, wanted: Bounds) -> None:
    assert bounds(pattern) == wanted


_atoms = st.sampled_from(["a", "b", "[ab]", r"\d", "[^a]", "(?:ab)", "(?:a|b)", "(?:a|bc)", "(?:ab?)", "(?:a?b)",
                          "(?:ab|ab)", "(?:ab|ab|)", "(?:[ab]b|ab)", "(?:a?a?b)"])  # fmt: skip
_counts = st.sampled_from(["", "?", "{2}", "{0,3}", "{1,9}", "{2,30}"])
_patterns = st.lists(st.tuples(_atoms, _counts), min_size=1, max_size=5).map(
    lambda parts: "".join(atom + count for atom, count in parts)
)


@settings(max_examples=300, deadline=None)
@given(_patterns, st.text("ab1", max_size=40))
def test_no_match_is_longer_than_said(pattern: str, text: str) -> None:
    try:
        said = bounds(pattern)
    except UnsafePattern:
        return
    match = re.search(pattern, text)
    assert match is None or said.min_length <= len(match.group()) <= said.max_length


@settings(max_examples=150, deadline=None)
@given(_patterns.map(lambda body: f"(?:{body}){{1,20}}!"), st.sampled_from(["a", "ab", "aab", "1a", "b"]))
def test_what_passes_is_fast_on_bait(pattern: str, bait: str) -> None:
    """CPU time of a search that fails, on bait made of what the pattern likes: far from what a square would take."""
    try:
        bounds(pattern)
    except UnsafePattern:
        return
    compiled, text = re.compile(pattern), bait * 400
    begin = process_time()
    compiled.search(text)
    assert process_time() - begin < 2


def test_every_built_in_rule_says_its_bounds() -> None:
    for rule in RULES:
        assert 0 < rule.max_length <= 4096
        if not rule.open_ended:
            assert bounds(rule.pattern.pattern) == Bounds(
                bounds(rule.pattern.pattern).min_length, rule.max_length, rule.lookbehind, rule.lookahead
            )


@pytest.mark.parametrize(("pattern", "is_one"), [("[a-z]", True), (r"\S", True), ("a", True), (".", True), ("ab", False), ("a?", False), ("a|b", True), ("(a)", False)])  # fmt: skip
def test_one_class(pattern: str, is_one: bool) -> None:
    assert is_one_class(pattern) is is_one


def test_overlap() -> None:
    assert overlap("[a-z]", "a{1,3}=")
    assert overlap("[^-]", "x|-----")
    assert not overlap("[A-Za-z0-9]", "={0,2}")


@pytest.mark.parametrize(
    ("anchor", "plain"),
    [("abc", True), ("[ab]c", True), (r"\bé\b", True), ("[é]", False), ("é?", False), ("[^a]b", False), (r"\Wb", False), ("a.b", False), ("(?=a)b", False), (r"\u00e9", False)],
)  # fmt: skip
def test_anchors_that_all_engines_read_alike(anchor: str, plain: bool) -> None:
    assert is_plain(anchor) is plain
