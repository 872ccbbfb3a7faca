"""The specification of a chart, as the model gives it, and its validation."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

ChartKind = Literal["line", "bar", "pie", "scatter"]

MAX_POINTS = 5000
MAX_SERIES = 20
MAX_SLICES = 100


class InvalidChart(ValueError):
    """The chart cannot be drawn; the message says why, for the model."""


@dataclass(frozen=True, slots=True)
class Series:
    """One line, set of bars or set of points. `x` are the positions of the values; without them they are 1, 2, 3, …"""

    name: str
    values: tuple[float, ...]
    x: tuple[float, ...] | None = None


@dataclass(frozen=True, slots=True)
class Chart:
    """`labels` name the values of all series: the categories of bars, the slices of a pie, the ticks below a line."""

    kind: ChartKind
    title: str
    series: tuple[Series, ...]
    labels: tuple[str, ...] = ()
    x_label: str = ""
    y_label: str = ""


def validated(chart: Chart) -> Chart:
    """The chart as it will be drawn. Raises `InvalidChart`."""
    problem = next(_problems(chart), None)
    if problem is not None:
        raise InvalidChart(problem)
    return _with_one_series(chart) if chart.kind == "pie" else chart


def _problems(chart: Chart) -> Iterator[str]:
    if not any(series.values for series in chart.series):
        yield "there are no values to draw"
    if len(chart.series) > MAX_SERIES:
        yield f"there are {len(chart.series)} series, more than the {MAX_SERIES} that can be distinguished"
    points = sum(len(series.values) for series in chart.series)
    if points > MAX_POINTS:
        yield f"there are {points:,} values, more than {MAX_POINTS:,}; aggregate them or omit some"
    for series in chart.series:
        yield from _problems_of(series, chart)
    if chart.kind == "pie":
        yield from _problems_of_pie(chart)


def _problems_of(series: Series, chart: Chart) -> Iterator[str]:
    name = f"the series {series.name!r}"
    count = len(series.values)
    if not count:
        yield f"{name} has no values"
    if not all(math.isfinite(number) for number in (*series.values, *(series.x or ()))):
        yield f"{name} has values that are not finite numbers"
    if any(abs(number) > 1e300 for number in (*series.values, *(series.x or ()))):
        yield f"{name} has values too large to draw"
    if series.x is not None and chart.kind in ("bar", "pie"):
        yield f"a {chart.kind} chart takes labels, not x"
    if series.x is not None and len(series.x) != count:
        yield f"{name} has {count} values but {len(series.x)} x"
    if series.x is not None and chart.labels:
        yield "give either x or labels, not both"
    if series.x is None and chart.kind == "scatter":
        yield f"{name} needs x for a scatter chart"
    if chart.labels and chart.kind != "pie" and len(chart.labels) != count:
        yield f"{name} has {count} values but there are {len(chart.labels)} labels"


def _problems_of_pie(chart: Chart) -> Iterator[str]:
    values = [value for series in chart.series for value in series.values]
    if len(chart.series) > 1 and any(len(series.values) > 1 for series in chart.series):
        yield "a pie chart shows one series"
    if len(chart.series) == 1 and len(chart.labels) != len(values):
        yield f"a pie chart needs a label for each value: there are {len(values)} values and {len(chart.labels)} labels"
    if any(value < 0 for value in values):
        yield "a pie chart cannot show negative values"
    if not any(value > 0 for value in values):
        yield "a pie chart needs a value above zero"
    if len(values) > MAX_SLICES:
        yield f"a pie chart cannot show {len(values)} slices"


def _with_one_series(chart: Chart) -> Chart:
    """A pie of several series of one value each becomes a pie of one series."""
    if len(chart.series) == 1:
        return chart
    slices = Series("", tuple(series.values[0] for series in chart.series))
    return Chart("pie", chart.title, (slices,), tuple(series.name for series in chart.series))
