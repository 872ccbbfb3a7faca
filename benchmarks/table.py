"""Measurements and their targets, as a Markdown table and as JSON."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any, Literal

Unit = Literal["ms", "s", "KiB", "MiB", "/s", "x"]


@dataclass(frozen=True, slots=True)
class Target:
    """The limit for the gateway: absolute, a multiple of the baseline (`of_baseline`), or an amount above the baseline
    (`beyond_baseline`)."""

    limit: float
    at_least: bool = False
    of_baseline: bool = False
    beyond_baseline: bool = False

    def is_met(self, value: float) -> bool:
        return value >= self.limit if self.at_least else value <= self.limit

    def text(self, unit: Unit) -> str:
        sign = "≥" if self.at_least else "≤"
        if self.beyond_baseline:
            return f"{sign} {with_unit(self.limit, unit)} more"
        return f"{sign} {self.limit:.3g}x the baseline" if self.of_baseline else f"{sign} {with_unit(self.limit, unit)}"


@dataclass(frozen=True, slots=True)
class Row:
    """One measurement. `details` are the individual values, for the JSON."""

    name: str
    unit: Unit
    gateway: float | None
    baseline: float | None = None
    target: Target | None = None
    details: dict[str, list[float]] | None = None

    @property
    def ratio(self) -> float | None:
        return self.gateway / self.baseline if self.gateway is not None and self.baseline else None

    @property
    def difference(self) -> float | None:
        return self.gateway - self.baseline if self.gateway is not None and self.baseline is not None else None

    @property
    def met(self) -> bool | None:
        """None without a target, or if only one of gateway and baseline was measured."""
        if self.target is None:
            return None
        value = (
            self.ratio if self.target.of_baseline else self.difference if self.target.beyond_baseline else self.gateway
        )
        return None if value is None else self.target.is_met(value)


def with_unit(value: float, unit: Unit) -> str:
    digits = 2 if value < 10 else 1 if value < 100 else 0
    text = f"{value:.{digits}f}"
    return f"{text}{unit}" if unit in ("x", "/s") else f"{text} {unit}"


Comparison = Literal["ratio", "difference"]
"""How a table compares with the baseline: as a ratio, or as a difference."""


def as_markdown(
    rows: Iterable[Row], measured: str = "gateway", baseline: str = "baseline", comparison: Comparison = "ratio"
) -> str:
    """The table, with these headings for what was measured and for the baseline."""
    lines = [f"| measure | {measured} | {baseline} | {comparison} | target | met |", "|---|--:|--:|--:|---|---|"]
    return "\n".join([*lines, *(_line(row, comparison) for row in rows)])


def _line(row: Row, comparison: Comparison) -> str:
    cells = (
        row.name,
        _cell(row.gateway, row.unit),
        _cell(row.baseline, row.unit),
        _cell(row.ratio, "x") if comparison == "ratio" else _cell(row.difference, row.unit),
        row.target.text(row.unit) if row.target else "",
        {True: "yes", False: "**no**", None: ""}[row.met],
    )
    return f"| {' | '.join(cells)} |"


def _cell(value: float | None, unit: Unit) -> str:
    return "" if value is None else with_unit(value, unit)


def as_json(rows: Iterable[Row]) -> list[dict[str, Any]]:
    return [asdict(row) | {"ratio": row.ratio, "met": row.met} for row in rows]
