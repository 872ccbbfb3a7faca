"""Measurements and their targets, as a Markdown table and as JSON."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

FLOOR = "floor"
"""The name of a floor in a table that has one."""

Unit = Literal["ms", "s", "KiB", "MiB", "MB", "/s", "x", ""]


@dataclass(frozen=True, slots=True)
class Target:
    """The limit of a measurement: absolute, or `limit` times the floor of that name plus `more`."""

    limit: float
    floor: str = ""
    more: float = 0.0
    at_least: bool = False

    def is_met(self, value: float, floors: Mapping[str, float]) -> bool | None:
        """None if the floor was not measured."""
        if self.floor and self.floor not in floors:
            return None
        bound = self.limit * floors[self.floor] + self.more if self.floor else self.limit
        return value >= bound if self.at_least else value <= bound

    def text(self, unit: Unit) -> str:
        sign = "≥" if self.at_least else "≤"
        if not self.floor:
            return f"{sign} {with_unit(self.limit, unit)}"
        times = "" if self.limit == 1 else f"{self.limit:.3g}x "
        more = f" + {with_unit(self.more, unit)}" if self.more else ""
        return f"{sign} {times}{self.floor}{more}"


@dataclass(frozen=True, slots=True)
class Row:
    """One measurement, beside what the floors took in the same run. `details` are the individual values, for JSON."""

    name: str
    unit: Unit
    value: float | None
    floors: Mapping[str, float] = field(default_factory=dict)
    targets: Sequence[Target] = ()
    details: Mapping[str, list[float]] | None = None

    @property
    def met(self) -> bool | None:
        """None without a target, or if what one needs was not measured."""
        found = [] if self.value is None else [target.is_met(self.value, self.floors) for target in self.targets]
        if any(met is False for met in found):
            return False
        return True if found and all(found) else None


def with_unit(value: float, unit: Unit) -> str:
    digits = 2 if value < 10 else 1 if value < 100 else 0
    if not unit:
        return f"{value:.3g}"
    text = f"{value:.{digits}f}"
    return f"{text}{unit}" if unit in ("x", "/s") else f"{text} {unit}"


def as_markdown(rows: Iterable[Row], measured: str, floors: Sequence[str]) -> str:
    """The table; `measured` and `floors` head the columns. Beside each floor: how often it goes into the value."""
    heads = ["measure", measured, *floors, "target", "met"]
    lines = [f"| {' | '.join(heads)} |", f"|---|{'--:|' * (1 + len(floors))}---|---|"]
    return "\n".join([*lines, *(_line(row, floors) for row in rows)])


def _line(row: Row, floors: Sequence[str]) -> str:
    cells = (
        row.name,
        _cell(row.value, row.unit),
        *(_floor(row, floor) for floor in floors),
        ", ".join(target.text(row.unit) for target in row.targets),
        {True: "yes", False: "**no**", None: ""}[row.met],
    )
    return f"| {' | '.join(cells)} |"


def _floor(row: Row, name: str) -> str:
    floor = row.floors.get(name)
    if floor is None or row.value is None or not floor:
        return _cell(floor, row.unit)
    return f"{with_unit(floor, row.unit)} ({with_unit(row.value / floor, 'x')})"


def _cell(value: float | None, unit: Unit) -> str:
    return "" if value is None else with_unit(value, unit)


def as_json(rows: Iterable[Row]) -> list[dict[str, Any]]:
    return [asdict(row) | {"met": row.met} for row in rows]
