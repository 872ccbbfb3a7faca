"""Scheduled tasks with two workers: each is done once for each of its times, whoever looks first."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from agent.models.scripted import ScriptedModel
from agent.schedules import Timing
from channels.address import Sender
from gateway.sessions import session_key
from gateway.store import Store
from tests.cluster.pair import Worker, two_gateways
from tests.gateway.play import ANN, PLACE

pytestmark = pytest.mark.engines("postgresql")

TASKS = 10
"""As many at once."""


async def plan(store: Store, number: int, due: datetime, owner: Sender = ANN) -> None:
    timing = Timing("0 9 * * *" if number % 2 else "", "UTC")
    await store.add_schedule(session_key(PLACE), PLACE, owner, f"test {number}", f"Task {number}.", due, timing)


async def test_both_workers_look_and_one_message_is_stored_for_each_time(tmp_path: Path) -> None:
    async with two_gateways(tmp_path, ScriptedModel(), ScriptedModel()) as (a, b):
        await a.say("hi")
        await a.reply("You said: hi")
        now = datetime.now(UTC)
        for number in range(TASKS):
            await plan(a.store, number, now)
        look(a, b)
        async with asyncio.timeout(60):
            while any(each.task.due <= now for each in await a.store.every_schedule()):  # noqa: ASYNC110 - the store tells nobody
                await asyncio.sleep(0.02)
        left = await a.store.every_schedule()
        rows = await a.store.rows(session_key(PLACE))
    assert sorted(row.text for row in rows) == sorted(["hi", *(f"Task {number}." for number in range(TASKS))])
    assert sorted(each.task.task for each in left) == [f"Task {number}." for number in range(1, TASKS, 2)]
    assert all(now < each.task.due <= now + timedelta(days=1) for each in left)


def look(*workers: Worker) -> None:
    for worker in workers:
        worker.gateway.schedules.changed.set()
