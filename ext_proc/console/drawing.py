"""Charts, drawn here: where each bar and line goes, and the table that says the same. Pure; templates write the SVG.

Units are those of the picture (`WIDTH` by `HEIGHT`), the baseline at the bottom.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ext_proc.console.seen import Charts, Count, Hour

WIDTH: Final = 720
HEIGHT: Final = 220
_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 8, 10, 26
_LABELS_MAX: Final = 8
_GAP: Final = 0.25
ENTITIES_MAX: Final = 12
_ROW: Final = 24


@dataclass(frozen=True, slots=True)
class Bar:
    """A rectangle of a series; ``title`` says in words what it is."""

    x: float
    y: float
    width: float
    height: float
    series: int
    title: str


@dataclass(frozen=True, slots=True)
class Line:
    """A series as a line: ``points`` as SVG has them, one text for each stretch without a hole."""

    series: int
    points: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Mark:
    """A label on an axis."""

    at: float
    text: str


@dataclass(frozen=True, slots=True)
class Drawn:
    """One chart. ``rows`` is its table: a name and a value for each series."""

    name: str
    title: str
    summary: str
    series: tuple[str, ...]
    height: int
    bars: tuple[Bar, ...]
    lines: tuple[Line, ...]
    x_marks: tuple[Mark, ...]
    y_marks: tuple[Mark, ...]
    rows: tuple[tuple[str, tuple[str, ...]], ...]


def drawn(charts: Charts) -> tuple[Drawn, ...]:
    """All charts of a span of time."""
    hours = charts.hours
    decisions = [(one.allowed, one.denied, one.refused, one.failed, one.denied_by_people) for one in hours]
    holds = [(one.holds_approved, one.holds_denied, one.holds_expired, one.holds_ended) for one in hours]
    totals = [sum(values) for values in decisions]
    denied, people = (sum(values[index] for values in decisions) for index in (1, 4))
    said = f"Of {sum(totals)} calls the policy denied {denied}, and people {people}."
    return (
        _stacked("volume", "Calls by hour", f"{sum(totals)} calls.", hours, ("Calls",), [(one,) for one in totals]),
        _stacked(
            "decisions", "Decisions by hour", said, hours,
            ("Allowed", "Denied by the policy", "Refused", "Failed", "Denied by people"), decisions,
        ),
        _entities(charts.entities),
        _latency(hours),
        _stacked(
            "holds", "Holds by hour", f"{sum(map(sum, holds))} calls waited for people.", hours,
            ("Approved", "Denied", "Expired", "Withdrawn or abandoned"), holds,
        ),
    )  # fmt: skip


def _stacked(
    name: str, title: str, summary: str, hours: Sequence[Hour], series: tuple[str, ...], values: Sequence[Sequence[int]]
) -> Drawn:
    top = nice(max((sum(one) for one in values), default=0))
    step = (WIDTH - _LEFT - _RIGHT) / max(len(hours), 1)
    bars: list[Bar] = []
    for index, (hour, counts) in enumerate(zip(hours, values, strict=True)):
        below = 0
        for number, count in enumerate(counts):
            if count:
                y = _y(below + count, top)
                title_of = f"{hour.at:%d %b %H:%M}: {count} {series[number].lower()}"
                x = _LEFT + step * (index + _GAP / 2)
                bars.append(Bar(_r(x), _r(y), _r(step * (1 - _GAP)), _r(_y(below, top) - y), number, title_of))
                below += count
    rows = tuple((_hour(hour), tuple(map(str, counts))) for hour, counts in zip(hours, values, strict=True))
    return Drawn(
        name, title, summary, series, HEIGHT, tuple(bars), (), _x_marks(hours, step), _y_marks(top, is_count=True), rows
    )


def _latency(hours: Sequence[Hour]) -> Drawn:
    series = ("Median", "99 of 100 below")
    values = [[one.latency_ms_p50 for one in hours], [one.latency_ms_p99 for one in hours]]
    known = [one for line in values for one in line if one is not None]
    top = nice(max(known, default=0.0))
    step = (WIDTH - _LEFT - _RIGHT) / max(len(hours), 1)
    lines = tuple(Line(number, _stretches(line, step, top)) for number, line in enumerate(values))
    rows = tuple((_hour(one), (_ms(one.latency_ms_p50), _ms(one.latency_ms_p99))) for one in hours)
    worst = max((one for one in values[1] if one is not None), default=None)
    summary = (
        f"The slowest hour's 99th percentile is {_ms(worst)} ms." if worst is not None else "Nothing was measured."
    )
    title = "The gate's own time, in milliseconds"
    return Drawn("latency", title, summary, series, HEIGHT, (), lines, _x_marks(hours, step), _y_marks(top), rows)


def _stretches(values: Sequence[float | None], step: float, top: float) -> tuple[str, ...]:
    """Lines with holes where nothing was measured: no line says what nobody knows. A lone point is a short stroke."""
    made: list[list[str]] = [[]]
    for index, value in enumerate(values):
        if value is None:
            made.append([])
            continue
        made[-1].append(f"{_r(_LEFT + step * (index + 0.5))},{_r(_y(value, top))}")
    found: list[str] = []
    for points in made:
        if len(points) == 1:
            x, y = points[0].split(",")
            points.append(f"{_r(float(x) + 4)},{y}")
        if points:
            found.append(" ".join(points))
    return tuple(found)


def _entities(counts: Sequence[Count]) -> Drawn:
    shown = counts[:ENTITIES_MAX]
    top = max((one.count for one in shown), default=1)
    height = max(len(shown), 1) * _ROW + 8
    left, width = 190, WIDTH - 190 - 60
    bars = tuple(
        Bar(left, _r(index * _ROW + 6), _r(max(width * one.count / top, 1)), _ROW - 8, 0, f"{one.count} {one.name}")
        for index, one in enumerate(shown)
    )
    marks = tuple(Mark(_r(index * _ROW + 6 + (_ROW - 8) / 2), one.name) for index, one in enumerate(shown))
    total = sum(one.count for one in counts)
    rows = tuple((one.name, (str(one.count),)) for one in counts)
    summary = f"{total} pieces of text were masked, of {len(counts)} kinds."
    return Drawn("entities", "What was masked", summary, ("Masked",), height, bars, (), (), marks, rows)


_NOTHING: Final = 1e-9
"""What is less is drawn as nothing: it has no size that a float can tell."""


def nice(largest: float) -> float:
    """The end of an axis: the next 1, 2, 5 or 10 of its size, so that its marks are numbers people like."""
    if largest < _NOTHING:
        return 1.0
    size = 10.0 ** math.floor(math.log10(largest))
    return next(size * one for one in (1, 2, 5, 10) if largest <= size * one * (1 + 1e-9))


def _y(value: float, top: float) -> float:
    return HEIGHT - _BOTTOM - (HEIGHT - _TOP - _BOTTOM) * value / top


def _y_marks(top: float, *, is_count: bool = False) -> tuple[Mark, ...]:
    """Both ends and the middle; of what is counted no halves."""
    values = (0, top) if is_count and top % 2 else (0, top / 2, top)
    return tuple(Mark(_r(_y(value, top)), f"{value:.0f}" if is_count else f"{value:g}") for value in values)


def _x_marks(hours: Sequence[Hour], step: float) -> tuple[Mark, ...]:
    every = max(1, math.ceil(len(hours) / _LABELS_MAX))
    form = "%H:%M" if len(hours) <= 48 else "%d %b"
    return tuple(
        Mark(_r(_LEFT + step * (index + 0.5)), f"{hour.at:{form}}")
        for index, hour in enumerate(hours)
        if index % every == every // 2
    )


def _hour(hour: Hour) -> str:
    return f"{hour.at:%d %b %H:%M}"


def _ms(value: float | None) -> str:
    return "\N{EN DASH}" if value is None else f"{value:.3g}"


def _r(value: float) -> float:
    return round(value, 2)
