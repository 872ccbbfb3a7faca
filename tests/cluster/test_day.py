"""A scripted day in Telegram on three workers, during which their processes are killed, stopped, restarted and cut off
from the database at random moments, and the database restarts."""

from __future__ import annotations

import asyncio
import os
import random
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path

import psycopg
import pytest

from tests.cluster.fleet import Fleet, fleet
from tests.engines import engines
from tests.gateway.stage import write_settings
from tests.gateway.test_kill import UNSETTLED, every, on_screen, play, say_next
from tests.servers.models import ModelServer
from tests.servers.telegram import BotApi

FAULTS = int(os.environ.get("FAULTS", "200"))
SEED = int(os.environ.get("FAULTS_SEED", "20261201"))
LEASE = 1.5
PER_ROUND = 2
"""Faults for each worker."""

DATABASE_RESTARTS = 0.5
"""For so many rounds."""

WORKERS = ("one", "two", "three")


async def kill(day: Fleet, name: str, chance: random.Random) -> None:
    await day.kill(name)
    await asyncio.sleep(chance.uniform(0, LEASE))
    await day.start(name)


async def stop(day: Fleet, name: str, chance: random.Random) -> None:
    """For up to twice the lease: others take it for dead, and then it is back."""
    day.processes[name].stop()
    await asyncio.sleep(chance.uniform(0.2, 2.0) * LEASE)
    day.processes[name].resume()


async def deploy(day: Fleet, name: str, chance: random.Random) -> None:
    await day.end(name)
    await day.start(name)


async def restart_database(day: Fleet, name: str, chance: random.Random) -> None:
    server = engines.server()
    await asyncio.to_thread(server.stop)
    await asyncio.sleep(chance.uniform(0, 0.5))
    await asyncio.to_thread(server.start)


Fate = Callable[[Fleet, str, random.Random], Awaitable[None]]

FATES: tuple[Fate, ...] = (kill, kill, stop, stop, stop, stop, deploy)


class Day:
    """Rounds of faults, for all workers at a time. After each, everything is answered before the next: a turn that is
    interrupted too often in a row is given up, and says so."""

    def __init__(self, workers: Fleet, seed: int) -> None:
        self.workers = workers
        self.chance = random.Random(seed)
        self.fates: Counter[str] = Counter()

    async def round(self) -> None:
        async with asyncio.TaskGroup() as group:
            for name in WORKERS:
                group.create_task(self._hurt(name))
            if self.chance.random() < DATABASE_RESTARTS:
                group.create_task(self._meet(restart_database, ""))

    async def _hurt(self, name: str) -> None:
        for _ in range(PER_ROUND):
            await asyncio.sleep(self.chance.uniform(0, LEASE))
            await self.workers.alive(name)
            await self._meet(self.chance.choice(FATES), name)

    async def _meet(self, fate: Fate, name: str) -> None:
        self.fates[fate.__name__] += 1
        await fate(self.workers, name, self.chance)


@pytest.mark.engines("postgresql")
@pytest.mark.timeout(900)
async def test_nothing_is_lost_or_doubled_whatever_happens_to_the_workers(
    tmp_path: Path, record_property: pytest.RecordProperty
) -> None:
    chance = random.Random(SEED)
    async with BotApi() as api, ModelServer() as models:
        models.respond(play)
        settings = shared_settings(tmp_path, api, models)
        chats = [api.private(user_id=7, name="Ann"), api.private(user_id=8, name="Ben"), api.group(title="All")]
        said: list[list[str]] = [[], [], []]
        async with fleet(settings, *WORKERS) as workers:
            day = Day(workers, SEED)
            number = 0
            while day.fates.total() < FAULTS:
                hurting = asyncio.create_task(day.round())
                for _ in range(PER_ROUND * len(WORKERS)):
                    number += 1
                    await say_next(api, chats, said, str(number), chance)
                    await asyncio.wait((hurting,), timeout=chance.uniform(0, 1.0))
                await hurting
                for chat, wanted in zip(chats, said, strict=True):
                    await chat.until(lambda chat, wanted=wanted: set(wanted) <= set(every(chat)), timeout=120)
            await settled(workers)
        for chat, wanted in zip(chats, said, strict=True):
            shown = on_screen(chat)
            assert shown == [each for each in wanted if each in shown], f"order (seed {SEED})"
            assert not [each for each, count in Counter(shown).items() if count > 1], f"doubled (seed {SEED})"
            assert set(every(chat)) == set(wanted), f"lost (seed {SEED})"
        effects = (tmp_path / "workspace" / "effects.txt").read_text().split()
        assert len(effects) == len(set(effects)), f"a call was run twice (seed {SEED})"
        assert models.refusals == [], "the model was always shown a complete history"
        record_property("faults", f"{day.fates.total()} faults, {number} messages, seed {SEED}")


def shared_settings(folder: Path, api: BotApi, models: ModelServer) -> Path:
    """The files of people and of the agent are in folders that all workers share."""
    file = write_settings(
        folder,
        api,
        models,
        more=f'[limits]\nmessages_per_minute = 10000\n[store]\nlease = {LEASE}\n[media]\npath = "{folder / "media"}"\n',
    )
    agent = f'[agent]\nworkspace = "{folder / "workspace"}"'
    file.write_text(file.read_text().replace("[agent]", agent, 1))
    return file


async def settled(workers: Fleet) -> None:
    """Every inbox row has its terminal state, and every reply is confirmed."""
    async with asyncio.timeout(60):
        while True:
            with suppress(psycopg.OperationalError):  # the first query after a restart of the database
                if not engines.sql(workers.database, UNSETTLED):
                    return
            await asyncio.sleep(0.05)
