"""Charts: the picture says what the table says."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ext_proc.console import seen
from ext_proc.console.drawing import HEIGHT, WIDTH, drawn, nice
from ext_proc.console.rendering import lasting, number, short, when
from tests.fakes.console_rooms import NOW

_COUNTS = st.integers(0, 10**9)
_MILLIS = st.none() | st.floats(0, 1e6, allow_nan=False)
_HOURS = st.lists(st.tuples(_COUNTS, _COUNTS, _COUNTS, _COUNTS, _MILLIS, _MILLIS, _COUNTS, _COUNTS), max_size=40)


def _charts(hours: list[tuple[int, int, int, int, float | None, float | None, int, int]]) -> seen.Charts:
    made = tuple(seen.Hour(NOW + timedelta(hours=n), *told) for n, told in enumerate(hours))
    return seen.Charts(NOW, NOW + timedelta(hours=len(hours)), made, (seen.Count("EMAIL", 3), seen.Count("PHONE", 1)))


@given(_HOURS)
def test_everything_is_inside_the_picture_and_in_the_table(
    hours: list[tuple[int, int, int, int, float | None, float | None, int, int]],
) -> None:
    for chart in drawn(_charts(hours)):
        for bar in chart.bars:
            assert bar.x >= 0 and bar.x + bar.width <= WIDTH and bar.width > 0
            assert bar.y >= 0 and bar.height >= 0 and bar.y + bar.height <= chart.height + 0.02
        for line in chart.lines:
            for points in line.points:
                for point in points.split(" "):
                    x, y = map(float, point.split(","))
                    assert 0 <= x <= WIDTH + 4 and 0 <= y <= HEIGHT
        assert all(len(values) == len(chart.series) for _, values in chart.rows)
        assert len(chart.rows) == (2 if chart.name == "entities" else len(hours))


def test_heights_are_in_proportion() -> None:
    [volume] = [
        one
        for one in drawn(_charts([(10, 0, 0, 0, None, None, 0, 0), (5, 0, 0, 0, None, None, 0, 0)]))
        if one.name == "volume"
    ]

    assert volume.bars[0].height == pytest.approx(2 * volume.bars[1].height, abs=0.05)
    assert volume.bars[0].title.endswith("10 calls")


def test_line_has_a_hole_where_nothing_was_measured() -> None:
    hours = [(1, 0, 0, 0, value, value, 0, 0) for value in (1.0, 2.0, None, 3.0)]
    [latency] = [one for one in drawn(_charts(hours)) if one.name == "latency"]

    assert [len(points.split()) for points in latency.lines[0].points] == [2, 2]
    assert latency.rows[2][1] == ("\N{EN DASH}", "\N{EN DASH}")


@pytest.mark.parametrize("largest", [0, 1, 2, 3, 4, 5, 7, 10, 18, 49, 5000, 10**6, 4 * 10**6])
def test_nobody_made_half_a_call(largest: int) -> None:
    for chart in drawn(_charts([(largest, 0, 0, 0, 1.5, 2.5, largest, 0)])):
        if chart.name in {"volume", "decisions", "holds"}:
            assert [mark.text for mark in chart.y_marks if not mark.text.isdigit()] == []
            assert len(chart.y_marks) in {2, 3} and int(chart.y_marks[-1].text) >= largest


def test_people_and_the_policy_deny_apart() -> None:
    hour = seen.Hour(NOW, 5, 1, denied_by_people=2)
    [decisions] = [one for one in drawn(seen.Charts(NOW, NOW, (hour,), ())) if one.name == "decisions"]

    assert decisions.summary == "Of 8 calls the policy denied 1, and people 2."
    assert dict(zip(decisions.series, decisions.rows[0][1], strict=True))["Denied by people"] == "2"
    assert [bar.title.split(": ")[1] for bar in decisions.bars] == [
        "5 allowed",
        "1 denied by the policy",
        "2 denied by people",
    ]


@given(st.floats(0.001, 1e12))
def test_axis_ends_above_the_largest(largest: float) -> None:
    assert largest <= nice(largest) * (1 + 1e-9) and nice(largest) <= largest * 2.5 + 1e-9


def test_how_things_are_written() -> None:
    assert when(NOW) == "25 Nov 2026, 12:00:00 UTC"
    assert [lasting(one) for one in (0, 59, 3600, 90_061, -60)] == ["0 s", "59 s", "1 h", "1 d 1 h", "1 min ago"]
    assert short("hmac-sha256:" + "a" * 64) == f"{'a' * 8}…" and short("abc") == "abc"
    assert number(1234567) == "1\u202f234\u202f567"
