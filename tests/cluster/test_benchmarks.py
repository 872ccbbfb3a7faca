"""The benchmarks of several workers and of a large database work, in a small size; their figures are not looked at."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.large import LARGE_DATABASE, SMALL
from benchmarks.scenarios import Bench, Sizes
from benchmarks.table import Row
from benchmarks.workers import deploys, fail_overs, steering, throughput

pytestmark = pytest.mark.engines("postgresql")

SIZES = Sizes(
    entries=25_000,
    store_rounds=3,
    workers=(2,),
    conversations=6,
    load_seconds=1.0,
    steady_rate=4.0,
    steered=1,
    fail_overs=1,
    long_fail_overs=0,
    deploys=1,
)


def bench(folder: Path) -> Bench:
    return Bench(folder, lambda line: None, SIZES)


def by_name(rows: list[Row]) -> dict[str, Row]:
    return {row.name: row for row in rows}


async def test_workers_answer_under_load(tmp_path: Path) -> None:
    rows = by_name(await throughput(bench(tmp_path)))
    rate = rows["messages of 6 conversations at once"].value
    assert rate is not None
    assert 0 < rate <= 6, "each of the six takes at least the model's second"
    assert all(row.value is not None and row.value > 0 for row in rows.values())


async def test_a_turn_is_steered_by_way_of_another_worker(tmp_path: Path) -> None:
    _, slowest = await steering(bench(tmp_path))
    assert slowest.details is not None
    assert len(slowest.details[""]) == 1


async def test_the_turns_of_a_killed_worker_are_timed(tmp_path: Path) -> None:
    _, latest = await fail_overs(bench(tmp_path))
    assert latest.details is not None
    assert 1 <= len(latest.details[""]) <= 8


async def test_messages_are_answered_while_a_worker_is_replaced(tmp_path: Path) -> None:
    delayed, calm = await deploys(bench(tmp_path))
    assert delayed.details is not None
    assert len(delayed.details[""]) >= 4
    assert calm.value is not None


@pytest.mark.parametrize("scenario", ["large-postgresql", "large-sqlite"])
async def test_a_large_database_is_compared_with_a_small_one(tmp_path: Path, scenario: str) -> None:
    rows = await LARGE_DATABASE[scenario](bench(tmp_path))
    assert len(rows) == 8
    for row in rows:
        assert row.value
        assert row.floors[SMALL]
        assert row.details is not None
        assert len(row.details[""]) == 3
