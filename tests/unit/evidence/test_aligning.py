"""`ext_proc.evidence.aligning`: what stands instead of what, or nothing."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ext_proc.evidence.aligning import aligned


@pytest.mark.parametrize(
    ("before", "spans", "after", "expected"),
    [
        ("to ada@x.org, please", [(3, 12)], "to [EMAIL], please", [(3, 10)]),
        ("ada@x.org", [(0, 9)], "[EMAIL]", [(0, 7)]),
        ("a 12 b 34 c", [(2, 4), (7, 9)], "a [N] b [N] c", [(2, 5), (8, 11)]),
        ("a 12 b", [(2, 4)], "a  b", [(2, 2)]),  # dropped
        ("1234", [(0, 2), (2, 4)], "[A][B]", [None, None]),  # side by side: whose is which?
        ("a 12 b", [(2, 4)], "another text", [None]),
        ("a 12 b 34 c 56", [(2, 4)], "a [N] b [M] c [K]", [None]),  # others follow that no record lists
        ("a 12 and then a lot of the same text follows after it, so long that 34", [(2, 4)],
         "a [N] and then a lot of the same text follows after it, so long that [M]", [(2, 5)]),
        ("a 12", [(9, 3)], "a [N]", [None]),
        ("", [], "", []),
    ],
)  # fmt: skip
def test_cases(before: str, spans: list[tuple[int, int]], after: str, expected: list[tuple[int, int] | None]) -> None:
    assert aligned(before, spans, after) == expected


@given(st.lists(st.tuples(st.text("ab ", min_size=1), st.text("xy", min_size=1)), min_size=1), st.text("ab "))
def test_placeholders_of_another_alphabet_are_found_exactly(pairs: list[tuple[str, str]], tail: str) -> None:
    before, after = "", ""
    spans: list[tuple[int, int]] = []
    wanted: list[tuple[int, int]] = []
    for text, instead in pairs:
        before, after = before + text, after + text
        spans.append((len(before), len(before) + 3))
        wanted.append((len(after), len(after) + len(instead)))
        before, after = before + "123", after + instead
    assert aligned(before + tail, spans, after + tail) == wanted


@given(st.text("ab1"), st.lists(st.tuples(st.integers(-3, 9), st.integers(-3, 9))), st.text("ab["))
def test_whatever_comes_it_stays_inside(before: str, spans: list[tuple[int, int]], after: str) -> None:
    found = aligned(before, spans, after)
    assert len(found) == len(spans)
    assert all(0 <= place[0] <= place[1] <= len(after) for place in found if place is not None)
