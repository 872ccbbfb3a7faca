"""What was measured, beside what is to be reached, as a Markdown table and as JSON."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any, Literal

Unit = Literal["ms", "s", "KiB", "MiB", "/s", "x"]


@dataclass(frozen=True, slots=True)
class Reach:
    """What the gateway is to keep to: a figure of its own, a multiple of the floor's (`of_floor`), or what it may have
    more than the floor (`beyond_floor`)."""

    limit: float
    at_least: bool = False
    of_floor: bool = False
    beyond_floor: bool = False

    def is_met(self, value: float) -> bool:
        return value >= self.limit if self.at_least else value <= self.limit

    def words(self, unit: Unit) -> str:
        sign = "≥" if self.at_least else "≤"
        if self.beyond_floor:
            return f"{sign} {with_unit(self.limit, unit)} more"
        return f"{sign} {self.limit:.3g}x the floor" if self.of_floor else f"{sign} {with_unit(self.limit, unit)}"


@dataclass(frozen=True, slots=True)
class Row:
    """One measure. `details` are the single values behind it, for the JSON."""

    name: str
    unit: Unit
    gateway: float | None
    floor: float | None = None
    reach: Reach | None = None
    details: dict[str, list[float]] | None = None

    @property
    def ratio(self) -> float | None:
        return self.gateway / self.floor if self.gateway is not None and self.floor else None

    @property
    def more(self) -> float | None:
        return self.gateway - self.floor if self.gateway is not None and self.floor is not None else None

    @property
    def met(self) -> bool | None:
        """None where there is nothing to reach, or not both that are compared were measured."""
        if self.reach is None:
            return None
        value = self.ratio if self.reach.of_floor else self.more if self.reach.beyond_floor else self.gateway
        return None if value is None else self.reach.is_met(value)


def with_unit(value: float, unit: Unit) -> str:
    digits = 2 if value < 10 else 1 if value < 100 else 0
    text = f"{value:.{digits}f}"
    return f"{text}{unit}" if unit in ("x", "/s") else f"{text} {unit}"


Comparison = Literal["ratio", "more"]
"""How a table compares with the floor: how many times as much, or how much more."""


def as_markdown(
    rows: Iterable[Row], measured: str = "gateway", floor: str = "floor", comparison: Comparison = "ratio"
) -> str:
    """With these words for what was measured, and for what it is compared with."""
    lines = [f"| measure | {measured} | {floor} | {comparison} | reach | met |", "|---|--:|--:|--:|---|---|"]
    return "\n".join([*lines, *(_line(row, comparison) for row in rows)])


def _line(row: Row, comparison: Comparison) -> str:
    cells = (
        row.name,
        _cell(row.gateway, row.unit),
        _cell(row.floor, row.unit),
        _cell(row.ratio, "x") if comparison == "ratio" else _cell(row.more, row.unit),
        row.reach.words(row.unit) if row.reach else "",
        {True: "yes", False: "**no**", None: ""}[row.met],
    )
    return f"| {' | '.join(cells)} |"


def _cell(value: float | None, unit: Unit) -> str:
    return "" if value is None else with_unit(value, unit)


def as_json(rows: Iterable[Row]) -> list[dict[str, Any]]:
    return [asdict(row) | {"ratio": row.ratio, "met": row.met} for row in rows]
