"""Limits of spending hold for all workers together."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Coroutine
from pathlib import Path
from typing import Any

import pytest

from agent.model import Request
from gateway.lifecycle import supervision
from gateway.store import Store, open_store
from gateway.turns.budgets import Budgets, Reservation, SpendingLimits
from tests.engines import engines

pytestmark = pytest.mark.engines("postgresql")

PERSON = "telegram:7"
LIMITS = {
    "turn": SpendingLimits(turn=1.0),
    "person": SpendingLimits(person_daily=1.0),
    "everybody": SpendingLimits(daily=1.0),
}


def estimate(request: Request, model: str) -> float:
    return 0.4


def budgets(store: Store, limits: SpendingLimits) -> Budgets:
    return Budgets(store, limits, estimate, shared=store)


@pytest.fixture
def url(tmp_path: Path) -> str:
    return engines.url(tmp_path / "interject.db")


Reserve = Callable[[Budgets], Coroutine[Any, Any, tuple[str | None, Reservation | None]]]


def of(limits: SpendingLimits) -> Reserve:
    return lambda own: own.reserve_cost(limits, "turn", PERSON, 0.4, 0)


@pytest.mark.parametrize("limits", LIMITS.values(), ids=LIMITS)
async def test_two_workers_cannot_both_take_the_rest(url: str, limits: SpendingLimits) -> None:
    reserve = of(limits)
    async with (
        open_store(url, worker="a") as one,
        open_store(url, worker="b") as other,
        budgets(one, limits) as a,
        budgets(other, limits) as b,
    ):
        found = await asyncio.gather(*(reserve(own) for own in (a, b) * 4))
        held = [(own, reservation) for own, (_, reservation) in zip((a, b) * 4, found, strict=True) if reservation]
        assert len(held) == 2
        assert all("the limit is $1" in words for words, _ in found if words is not None)
        assert sum(words is None for words, _ in found) == 2
        for own, reservation in held:
            own.release(reservation)
        # Each call sees the end of the worker's own calls before it.
        own, _ = held[0]
        for _ in range(3):
            words, again = await reserve(own)
            assert again is not None, words
            own.release(again)


async def test_what_was_reserved_by_a_worker_that_has_died_is_free_again(url: str) -> None:
    limits = LIMITS["everybody"]
    reserve = of(limits)
    async with open_store(url, worker="a") as one, budgets(one, limits) as a:
        async with open_store(url, worker="b") as other, budgets(other, limits) as b:
            assert [(await reserve(b))[0] is None for _ in range(3)] == [True, True, False]
            assert (await reserve(a))[0] is not None
        assert (await reserve(a))[0] is None


async def test_without_limits_nothing_is_stored(url: str, tmp_path: Path) -> None:
    async with open_store(url, worker="a") as store, budgets(store, SpendingLimits(task_tokens=5)) as own:
        assert await own.reserve_cost(SpendingLimits(task_tokens=5), "turn", PERSON, 0.4, 0) == (None, None)
    assert engines.sql(tmp_path / "interject.db", "SELECT * FROM reservations") == []


async def test_reservations_are_ended_also_after_an_unexpected_error(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    limits = LIMITS["everybody"]
    monkeypatch.setattr(supervision, "FIRST_PAUSE", 0.01)
    async with asyncio.timeout(20), open_store(url, worker="a") as store, budgets(store, limits) as own:
        first, second = [(await of(limits)(own))[1] for _ in range(2)]
        assert first is not None
        assert second is not None
        end, ended = store.release_spending, asyncio.Event()

        async def failing(ids: Collection[str]) -> None:
            monkeypatch.setattr(store, "release_spending", ending)
            raise ZeroDivisionError("an error of the program")

        async def ending(ids: Collection[str]) -> None:
            await end(ids)
            ended.set()

        monkeypatch.setattr(store, "release_spending", failing)
        own.release(first)
        while store.release_spending is failing:  # noqa: ASYNC110 - it has no event
            await asyncio.sleep(0.005)
        own.release(second)
        await ended.wait()
        assert await store.reserved_spending() == 0.0


async def test_what_a_cancelled_call_has_reserved_is_free_again(url: str) -> None:
    limits = LIMITS["everybody"]
    async with asyncio.timeout(20), open_store(url, worker="a") as store, budgets(store, limits) as own:
        reserving = asyncio.create_task(of(limits)(own))
        await asyncio.sleep(0)
        reserving.cancel()
        await asyncio.wait((reserving,))
        assert reserving.cancelled()
        assert await store.reserved_spending() in (0.0, 0.4), "the store goes on with what was asked"
        while await store.reserved_spending():  # noqa: ASYNC110 - it has no event
            await asyncio.sleep(0.005)
