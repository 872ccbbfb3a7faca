"""The worker process that draws a chart: JSON on stdin, PNG on stdout. The only module that loads matplotlib."""

from __future__ import annotations

import io
import json
import math
import sys
import textwrap
import warnings
from collections.abc import Iterator, Sequence
from itertools import cycle, islice, pairwise
from typing import Any

import matplotlib as mpl
from matplotlib import font_manager
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import FuncFormatter, MaxNLocator

from agent.tools.chart_spec import Chart, Series

INK, SOFT_INK, GRID = "#1f2430", "#667085", "#e6e8ee"
COLOURS = ("#3b6fd4", "#f2994a", "#2ca58d", "#d65076", "#8c6bd1", "#c9a227", "#4fb3d9", "#7a8b5c", "#b5604a", "#8a93a6")
MINUS = "\N{MINUS SIGN}"
MARKERS = ("o", "s", "^", "D")

WIDTH, HEIGHT, DPI = 8.0, 4.8, 200
"""Inches and pixels per inch: 1600 by 960 pixels."""

MAX_SLICES = 8
MAX_HORIZONTAL_BARS = 40
MAX_VALUE_LABELS = 24
MAX_BARS = 400
"""More are drawn as lines, which takes a tenth of the time and looks the same."""

LABEL_WIDTH = 26
SHORT_LABEL = 16
LINE_WIDTH = 84
"""Characters: of a label at the side, of one below the chart, and of all labels below it together."""

FONTS = (
    *("Inter", "Roboto", "Open Sans", "Noto Sans", "Helvetica Neue", "Segoe UI", "Liberation Sans", "Arial"),
    *("DejaVu Sans", "Noto Sans CJK JP", "Noto Sans CJK SC", "Hiragino Sans", "PingFang SC", "Microsoft YaHei"),
    *("Noto Sans Arabic", "Noto Sans Hebrew", "Noto Sans Devanagari", "Noto Emoji", "Symbola"),
)
"""Those of these that are installed are used, letter by letter in this order."""


def draw(chart: Chart) -> bytes:
    """The chart as a PNG."""
    with mpl.rc_context(_style()), warnings.catch_warnings():
        # A character that no font has is drawn as a box; nobody reads stderr.
        warnings.filterwarnings("ignore", message="Glyph")
        layout = ConstrainedLayoutEngine(w_pad=0.18, h_pad=0.12)
        figure = Figure(figsize=(WIDTH, _height(chart)), dpi=DPI, layout=layout, facecolor="white")
        axes = figure.add_subplot()
        match chart.kind:
            case "line":
                _draw_lines(axes, chart)
            case "bar" if _is_horizontal(chart):
                _draw_horizontal_bars(axes, chart, _categories(chart))
            case "bar":
                _draw_vertical_bars(axes, chart, _categories(chart))
            case "pie":
                _draw_pie(axes, chart)
            case "scatter":
                _draw_points(axes, chart)
        _add_title(figure, chart.title)
        _add_legend(axes, chart)
        image = io.BytesIO()
        figure.savefig(image, format="png")
        return image.getvalue()


def _style() -> dict[Any, Any]:  # The library's own type of the keys changes between its versions.
    installed = set(font_manager.fontManager.get_font_names())
    return {
        "font.family": [name for name in FONTS if name in installed] or ["sans-serif"],
        "font.size": 11,
        # Otherwise the text between two dollar signs would be a formula.
        "text.parse_math": False,
        "text.color": INK,
        "axes.unicode_minus": True,
        "axes.edgecolor": "#b8bfcc",
        "axes.labelcolor": SOFT_INK,
        "axes.labelsize": 11,
        "axes.labelpad": 8,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.axisbelow": True,
        "grid.color": GRID,
        "grid.linewidth": 0.9,
        "xtick.color": "#b8bfcc",
        "ytick.color": "#b8bfcc",
        "xtick.labelcolor": SOFT_INK,
        "ytick.labelcolor": SOFT_INK,
        "xtick.major.size": 0,
        "ytick.major.size": 0,
        "xtick.major.pad": 7,
        "ytick.major.pad": 7,
        "legend.frameon": False,
        "legend.fontsize": 10.5,
        "lines.solid_capstyle": "round",
        "lines.solid_joinstyle": "round",
    }


def _add_title(figure: Figure, title: str) -> None:
    if title.strip():
        text = "\n".join(textwrap.wrap(title, 64, max_lines=3, placeholder=" …"))
        figure.suptitle(text, x=0.022, ha="left", fontsize=15, fontweight="bold", linespacing=1.25)


def _add_legend(axes: Axes, chart: Chart) -> None:
    if len(chart.series) < 2:
        return
    handles, names = axes.get_legend_handles_labels()
    columns = max(1, min(5, int(90 / (4 + max(len(name) for name in names)))))
    axes.legend(
        handles,
        names,
        loc="lower left",
        bbox_to_anchor=(0, 1.01),
        ncols=min(columns, len(names)),
        borderaxespad=0.2,
        handlelength=1.1,
        handleheight=0.9,
        columnspacing=1.6,
        labelcolor=SOFT_INK,
    )


def _draw_lines(axes: Axes, chart: Chart) -> None:
    for number, (series, colour) in enumerate(_with_colours(chart)):
        positions = series.x if series.x is not None else tuple(range(1, len(series.values) + 1))
        few = len(positions) <= 30
        axes.plot(
            *(positions, series.values),
            color=colour,
            linestyle="solid" if number < len(COLOURS) else "dashed",
            linewidth=2.4 if len(positions) <= 300 else 1.4,
            marker="o" if few else None,
            markersize=8 if len(positions) == 1 else 5.5,
            markeredgecolor="white",
            markeredgewidth=1.2,
            label=_short(series.name, 40),
            clip_on=not few,
        )
    _style_axes(axes, chart)
    if chart.labels:
        _label_positions(axes, chart.labels, first=1)
    elif any(series.x is not None for series in chart.series):
        _format_numbers(axes, "x")
    else:
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    if chart.labels or all(series.x is None for series in chart.series):
        count = max(len(series.values) for series in chart.series)
        axes.set_xlim(1 - 0.04 * max(count - 1, 5), count + 0.04 * max(count - 1, 5))


def _draw_points(axes: Axes, chart: Chart) -> None:
    count = sum(len(series.values) for series in chart.series)
    size, alpha = (64, 0.85) if count <= 60 else (34, 0.7) if count <= 500 else (14, 0.5)
    for (series, colour), marker in zip(_with_colours(chart), cycle(MARKERS), strict=False):
        axes.scatter(
            *(series.x or (), series.values),
            s=size,
            alpha=alpha,
            color=colour,
            marker=marker,
            edgecolors="white",
            linewidths=0.7,
            label=_short(series.name, 40),
        )
    _style_axes(axes, chart)
    axes.grid(axis="x")
    _format_numbers(axes, "x")


def _draw_vertical_bars(axes: Axes, chart: Chart, labels: Sequence[str]) -> None:
    width = _bar_width(chart)
    for number, (series, colour) in enumerate(_with_colours(chart)):
        offset = _offset(number, chart, width)
        positions = [index + offset for index in range(len(series.values))]
        if len(positions) > MAX_BARS:
            axes.vlines(positions, 0, series.values, color=colour, linewidth=1, label=_short(series.name, 40))
            continue
        bars = axes.bar(positions, series.values, width=width * 0.94, color=colour, label=_short(series.name, 40))
        if _shows_values(chart, len(labels)):
            axes.bar_label(bars, labels=_numbers(series.values), padding=3, fontsize=9.5, color=INK)
    _style_axes(axes, chart)
    axes.margins(y=0.1)
    if all(value >= 0 for series in chart.series for value in series.values):
        axes.set_ylim(bottom=0)
    room = max(0.0, (4 - len(labels)) / 2)
    axes.set_xlim(-0.6 - room, len(labels) - 0.4 + room)
    _label_positions(axes, labels, first=0)
    _mark_zero(axes, chart, "horizontal")


def _draw_horizontal_bars(axes: Axes, chart: Chart, labels: Sequence[str]) -> None:
    width = _bar_width(chart)
    for number, (series, colour) in enumerate(_with_colours(chart)):
        offset = _offset(number, chart, width)
        positions = [index + offset for index in range(len(series.values))]
        bars = axes.barh(positions, series.values, height=width * 0.94, color=colour, label=_short(series.name, 40))
        if _shows_values(chart, len(labels)):
            axes.bar_label(bars, labels=_numbers(series.values), padding=4, fontsize=9.5, color=INK)
    axes.set_yticks(range(len(labels)), [_wrapped(label) for label in labels], color=INK)
    axes.set_ylim(len(labels) - 0.4, -0.6)
    axes.spines["bottom"].set_visible(False)
    axes.grid(axis="x")
    axes.margins(x=0.1)
    axes.set_xlabel(chart.y_label)
    axes.set_ylabel(chart.x_label)
    _format_numbers(axes, "x")
    _mark_zero(axes, chart, "vertical")


def _draw_pie(axes: Axes, chart: Chart) -> None:
    slices = _combined_slices(list(zip(chart.series[0].values, chart.labels, strict=True)))
    total = math.fsum(value for value, _ in slices)
    wedges, *_ = axes.pie(
        [value for value, _ in slices],
        colors=list(islice(cycle(COLOURS), len(slices))),
        startangle=90,
        counterclock=False,
        radius=1.0,
        wedgeprops={"width": 0.42, "edgecolor": "white", "linewidth": 2},
    )
    axes.legend(
        wedges,
        [f"{_wrapped(label)}   {_number(value)}  ({_percent(value / total)})" for value, label in slices],
        loc="center left",
        bbox_to_anchor=(1.04, 0.5),
        handlelength=1.0,
        handleheight=1.0,
        labelspacing=0.85,
        fontsize=11.5,
    )
    axes.text(0, 0.06, _number(total), ha="center", va="center", fontsize=19, fontweight="bold")
    axes.text(0, -0.17, "total", ha="center", va="center", fontsize=11, color=SOFT_INK)
    axes.set_anchor((0.22, 0.5))


def _combined_slices(slices: list[tuple[float, str]]) -> list[tuple[float, str]]:
    """The slices by size, the smallest ones combined into one."""
    slices = sorted((part for part in slices if part[0] > 0), reverse=True)
    if len(slices) <= MAX_SLICES:
        return slices
    rest = slices[MAX_SLICES - 1 :]
    return [*slices[: MAX_SLICES - 1], (math.fsum(value for value, _ in rest), f"{len(rest)} others")]


def _with_colours(chart: Chart) -> Iterator[tuple[Series, str]]:
    return zip(chart.series, cycle(COLOURS), strict=False)


def _categories(chart: Chart) -> Sequence[str]:
    return chart.labels or [str(number + 1) for number in range(max(len(series.values) for series in chart.series))]


def _is_horizontal(chart: Chart) -> bool:
    """Whether the bars are horizontal, so that long labels are readable."""
    labels = _categories(chart)
    return chart.kind == "bar" and len(labels) <= MAX_HORIZONTAL_BARS and _too_wide(labels)


def _height(chart: Chart) -> float:
    if not _is_horizontal(chart):
        return HEIGHT
    rows = len(_categories(chart)) * max(1.0, 0.55 * len(chart.series))
    return min(14.0, max(HEIGHT, 1.6 + 0.4 * rows))


def _bar_width(chart: Chart) -> float:
    return 0.78 / len(chart.series) if len(chart.series) > 1 else 0.66


def _offset(number: int, chart: Chart, width: float) -> float:
    """From the middle of a category to the bar of the series with that number."""
    return (number - (len(chart.series) - 1) / 2) * width


def _shows_values(chart: Chart, categories: int) -> bool:
    """Whether there is room for each bar's value: above it, or beside a horizontal one."""
    bars = categories * len(chart.series)
    longest = max(len(_number(value)) for series in chart.series for value in series.values)
    return bars <= MAX_VALUE_LABELS and (_is_horizontal(chart) or bars * longest <= LINE_WIDTH)


def _style_axes(axes: Axes, chart: Chart) -> None:
    axes.spines["left"].set_visible(False)
    axes.grid(axis="y")
    axes.set_xlabel(chart.x_label)
    axes.set_ylabel(chart.y_label)
    _format_numbers(axes, "y")


def _mark_zero(axes: Axes, chart: Chart, direction: str) -> None:
    if any(value < 0 for series in chart.series for value in series.values):
        (axes.axhline if direction == "horizontal" else axes.axvline)(0, color="#9aa3b2", linewidth=1)
        axes.spines["bottom"].set_visible(False)


def _too_wide(labels: Sequence[str]) -> bool:
    """Whether the labels do not fit side by side, on at most two lines."""
    room = LINE_WIDTH // len(labels)
    return any(len(line) >= room for label in labels for line in textwrap.wrap(label, max(room, 6))[:1]) or any(
        len(textwrap.wrap(label, max(room, 6))) > 2 for label in labels
    )


def _label_positions(axes: Axes, labels: Sequence[str], *, first: int) -> None:
    """Labels the positions on the x axis, leaving out as many labels as needed for the others to fit."""
    if _too_wide(labels):
        longest = min(max(len(label) for label in labels), SHORT_LABEL)
        step = math.ceil(len(labels) * (longest + 2) / LINE_WIDTH)
        shown = {index: _short(labels[index], SHORT_LABEL) for index in range(0, len(labels), step)}
    else:
        width = max(LINE_WIDTH // len(labels), 6)
        shown = {index: "\n".join(textwrap.wrap(label, width)) for index, label in enumerate(labels)}
    axes.set_xticks([first + index for index in shown], list(shown.values()))


def _format_numbers(axes: Axes, which: str) -> None:
    axis = axes.xaxis if which == "x" else axes.yaxis
    axis.set_major_locator(MaxNLocator(nbins=7, steps=[1, 2, 2.5, 5, 10]))
    text = _year if which == "x" else _tick
    axis.set_major_formatter(FuncFormatter(lambda value, _: text(value, list(axis.get_majorticklocs()))))


def _tick(value: float, ticks: Sequence[float]) -> str:
    """The number in the unit of the largest tick, with the decimals needed to distinguish adjacent ticks."""
    if value == 0:
        return "0"
    largest = max(abs(tick) for tick in ticks)
    step = min((after - before for before, after in pairwise(ticks)), default=largest) or 1.0
    if largest >= 1e15 or largest < 1e-4:
        return _power(value)
    scale, unit = _unit(largest)
    if step / scale < 0.01:
        scale, unit = 1.0, ""
    decimals = max(0, -math.floor(math.log10(step / scale) + 1e-9))
    if not math.isclose(round(step / scale, decimals), step / scale, rel_tol=1e-6):
        decimals += 1
    return f"{value / scale:,.{decimals}f}{unit}".replace("-", MINUS)


def _year(value: float, ticks: Sequence[float]) -> str:
    return _tick(value, ticks).replace(",", "") if max(abs(tick) for tick in ticks) < 10_000 else _tick(value, ticks)


def _power(value: float) -> str:
    digits, _, exponent = f"{value:.3g}".partition("e")
    raised = f"·10{str(int(exponent)).translate(_RAISED)}" if exponent else ""
    return f"{digits.replace('-', MINUS)}{raised}"


_RAISED = str.maketrans("0123456789-", "⁰¹²³⁴⁵⁶⁷⁸⁹⁻")


def _unit(largest: float) -> tuple[float, str]:
    for scale, unit in ((1e12, " T"), (1e9, " B"), (1e6, " M"), (1e5, " k")):
        if largest >= scale:
            return (1e3, unit) if scale == 1e5 else (scale, unit)
    return 1.0, ""


def _numbers(values: Sequence[float]) -> list[str]:
    return [_number(value) for value in values]


def _number(value: float) -> str:
    """The number, in at most four or five digits."""
    size = abs(value)
    if size >= 1e15 or 0 < size < 1e-3:
        return _power(value)
    scale, unit = _unit(size)
    scaled = value / scale
    decimals = 0 if float(scaled).is_integer() else 2 if abs(scaled) < 10 else 1 if abs(scaled) < 1000 else 0
    text = f"{scaled:,.{decimals}f}"
    return f"{text.rstrip('0').rstrip('.') if '.' in text else text}{unit}".replace("-", MINUS)


def _percent(part: float) -> str:
    return f"{part:.0%}" if part >= 0.095 else f"{part:.1%}"


def _wrapped(label: str) -> str:
    return "\n".join(textwrap.wrap(label, LABEL_WIDTH, max_lines=2, placeholder=" …"))


def _short(label: str, width: int) -> str:
    return label if len(label) <= width else f"{label[: width - 1].rstrip()}…"


def _parsed(data: bytes) -> Chart:
    fields = json.loads(data)
    series = tuple(
        Series(item["name"], tuple(item["values"]), None if item["x"] is None else tuple(item["x"]))
        for item in fields.pop("series")
    )
    return Chart(series=series, labels=tuple(fields.pop("labels")), **fields)


if __name__ == "__main__":
    sys.stdout.buffer.write(draw(_parsed(sys.stdin.buffer.read())))
