"""A text as a reader sees it, and the way back to the raw one."""

from __future__ import annotations

import pytest
from hypothesis import given, settings

from ext_proc.redaction.normalise import normalised
from tests.unit.redaction.samples import texts

SEEN = [
    ("a\u200bb\u00adc\ufeffd", "abcd"),
    ("a\u2060\u200d\u202eb\U000e0041c\ufe0f", "abc"),
    ("a\x00b\x08\x7f", "ab"),
    ("e\u0301x", "ex"),
    ("a\u3164b\u2800c\u115f", "abc"),
    ("\uff42\uff4f\uff42\uff20", "bob@"),
    ("\uff14\u0661\u0967\U0001d7cf\u2463\u00b9", "411141"),
    ("\ufb01ne", "fine"),
    ("\u0430\u0435\u043e\u03bf", "aeoo"),
    ("1\u20112\u20133\u22124", "1-2-3-4"),
    ("a\u00a0b\u2009c\u3000d", "a b c d"),
    ("bob&#64;x", "bob@x"),
    ("bob&#x40;x&commat;y&#64z", "bob@x@y@z"),
    ("bob&amp;#64;x&amp;amp;#x40;y", "bob@x@y"),
    ("a%40b%2540c%252540d", "a@b@c@d"),
    ("%EF%BC%A0", "@"),
    ("100%", "100%"),
    (r"a\u0040b\\u0040c\\\\u0040d", "a@b@c@d"),
    (r"a\x40b\u{40}c\u{000040}d", "a@b@c@d"),
    (r"\ud835\udfd2", "4"),
    (r"\ud835x", "\ufffdx"),
    (r"a\@b\.c\_d", "a@b.c_d"),
    ("a\\nb\\tc\\\\nd", "a\nb\tc\nd"),
    ("\\q stays", "\\q stays"),
    ("AT&T &c. & so", "AT&T &c. & so"),
    ("\ud800x", "\ud800x"),
    ("谢谢。", "谢谢."),
    ("tab\tline\nunit\x1fend", "tab\tline\nunit\x1fend"),
]


@pytest.mark.parametrize(("raw", "seen"), SEEN)
def test_seen(raw: str, seen: str) -> None:
    assert normalised(raw).text == seen


@pytest.mark.parametrize(
    ("raw", "seen", "span"),
    [
        ("x b\u200bo\u200bb@y", "bob", "b\u200bo\u200bb"),
        ("x\u200b4\u200b1\u200b z", "41", "4\u200b1"),
        ("say bob&#64;x.org now", "bob@x.org", "bob&#64;x.org"),
        (r"say bob\\u0040x.org", "bob@x.org", r"bob\\u0040x.org"),
        ("\ufb01x", "i", "\ufb01"),
        ("é \uff14\uff11 é", "41", "\uff14\uff11"),
        ("%41%42", "AB", "%41%42"),
    ],
)
def test_way_back(raw: str, seen: str, span: str) -> None:
    made = normalised(raw)
    start = made.text.index(seen)
    low, high = made.span(start, start + len(seen))
    assert raw[low:high] == span


@settings(deadline=None)
@given(texts)
def test_every_character_has_a_place(raw: str) -> None:
    made = normalised(raw)
    last = 0
    for index, char in enumerate(made.text):
        low, high = made.span(index, index + 1)
        assert last <= low < high <= len(raw) or (low, high) == made.span(index - 1, index)
        last = low
        if high - low == 1 and raw[low].isascii() and raw[low] not in "&%\\":
            assert raw[low] == char
    if made.text:
        low, high = made.span(0, len(made.text))
        assert normalised(raw[low:high]).text == made.text or any(mark in raw for mark in "&%\\")


@settings(deadline=None)
@given(texts)
def test_spans_hold_their_parts(raw: str) -> None:
    made = normalised(raw)
    for start in range(len(made.text)):
        for end in range(start + 1, min(start + 4, len(made.text)) + 1):
            low, high = made.span(start, end)
            assert low == made.span(start, start + 1)[0]
            assert high == made.span(end - 1, end)[1]


def test_a_place_of_the_raw_text_is_found_in_what_is_seen() -> None:
    """One in an escape, or in what is not seen at all, is where that ends."""
    seen = normalised("ab\\u0040c\u200bd%2d")
    assert seen.text == "ab@cd-"
    assert [seen.index(place) for place in (-1, 0, 1, 2, 3, 7, 8, 9, 10, 11, 12, 14)] == [
        0,
        0,
        1,
        2,
        3,
        3,
        3,
        4,
        4,
        5,
        6,
        6,
    ]
