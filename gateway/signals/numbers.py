"""Counters and histograms in memory. What exposes them is loaded with the first scrape: counting costs the start
nothing, and an event a dict update."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, field

Labels = tuple[str, ...]


@dataclass(slots=True)
class Counter:
    """Sums by label values, in the order of `labels`. Its exposed name ends in _total."""

    name: str
    help: str
    labels: tuple[str, ...]
    values: dict[Labels, float] = field(default_factory=dict)

    def add(self, *labels: str, by: float = 1.0) -> None:
        self.values[labels] = self.values.get(labels, 0.0) + by


@dataclass(slots=True)
class Gauge:
    """Current values by label values, set at each scrape."""

    name: str
    help: str
    labels: tuple[str, ...] = ()
    values: dict[Labels, float] = field(default_factory=dict)


@dataclass(slots=True)
class Distribution:
    """What a histogram knows of one combination of label values: how many values fell into each bucket (the last is for
    those above all bounds), and their sum."""

    counts: list[int]
    sum: float = 0.0


@dataclass(slots=True)
class Histogram:
    """Values in buckets, by label values. `bounds` are the upper bounds, ascending."""

    name: str
    help: str
    labels: tuple[str, ...]
    bounds: Sequence[float]
    values: dict[Labels, Distribution] = field(default_factory=dict)

    def observe(self, value: float, *labels: str) -> None:
        found = self.values.get(labels)
        if found is None:
            found = self.values[labels] = Distribution([0] * (len(self.bounds) + 1))
        found.counts[bisect_left(self.bounds, value)] += 1
        found.sum += value


Metric = Counter | Gauge | Histogram

QUICK = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
"""Bounds, in seconds, for what takes milliseconds."""

SLOW = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0)
"""Bounds, in seconds, for what models and tools do."""

LONG = (1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3600.0, 14400.0, 86400.0)
"""Bounds, in seconds, for what people do."""
