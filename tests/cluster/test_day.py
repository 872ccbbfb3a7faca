"""A scripted day in Telegram, Slack and Discord on three workers. At random moments their processes are killed, stopped
and restarted, their network to the database is cut or hangs, their clocks go wrong, and the database restarts."""

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
from tests.cluster.homes import Conversation, conversations, three_homes
from tests.engines import engines
from tests.gateway.test_kill import UNSETTLED, play
from tests.servers.models import ModelServer

FAULTS = int(os.environ.get("FAULTS", "200"))
SEED = int(os.environ.get("FAULTS_SEED", "20261201"))
DAYS = 2
"""The faults are shared out among so many, each with a seed of its own."""

LEASE = 1.5
PER_ROUND = 3
"""Faults for each worker."""

DATABASE_RESTARTS = 0.5
"""For so many rounds."""

SKEW = 30
"""Seconds."""

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


async def cut(day: Fleet, name: str, chance: random.Random) -> None:
    """The worker cannot reach the database, and knows it."""
    await day.links[name].cut()
    await asyncio.sleep(chance.choice((0.0, chance.uniform(0, 2.0))) * LEASE)
    await day.links[name].open()


async def hang(day: Fleet, name: str, chance: random.Random) -> None:
    """The worker cannot reach the database, and does not know it. What it has sent arrives later."""
    day.links[name].swallow()
    await asyncio.sleep(chance.uniform(0.2, 2.0) * LEASE)
    day.links[name].deliver()


async def skew(day: Fleet, name: str, chance: random.Random) -> None:
    """Its clock is half a minute fast or slow from now on, or right again."""
    day.clocks[name].move(chance.choice((-SKEW, 0, SKEW)))


async def deploy(day: Fleet, name: str, chance: random.Random) -> None:
    await day.end(name)
    await day.start(name)


async def restart_database(day: Fleet, name: str, chance: random.Random) -> None:
    server = engines.server()
    await asyncio.to_thread(server.stop)
    await asyncio.sleep(chance.uniform(0, 0.5))
    await asyncio.to_thread(server.start)


Fate = Callable[[Fleet, str, random.Random], Awaitable[None]]

FATES: tuple[Fate, ...] = (*(kill,) * 3, *(stop,) * 3, *(cut,) * 3, *(hang,) * 3, skew, deploy)


class Day:
    """Rounds of faults, for all workers at a time. After each, everything is answered before the next: a turn that is
    interrupted too often in a row is given up, and says so."""

    def __init__(self, workers: Fleet, talks: tuple[Conversation, ...], seed: int) -> None:
        self.workers = workers
        self.talks = talks
        self.chance = random.Random(seed)
        self.fates: Counter[str] = Counter()
        self.wishes = 0

    async def round(self) -> None:
        async with asyncio.TaskGroup() as group:
            for name in WORKERS:
                group.create_task(self._hurt(name))
            if self.chance.random() < DATABASE_RESTARTS:
                group.create_task(self._meet(restart_database, ""))
            for talk in self.talks:
                group.create_task(self._talk(talk))
        async with asyncio.TaskGroup() as group:
            for talk in self.talks:
                group.create_task(talk.answered())

    async def _hurt(self, name: str) -> None:
        for _ in range(PER_ROUND):
            await asyncio.sleep(self.chance.uniform(0, LEASE / 2))
            await self.workers.alive(name)
            await self._meet(self.chance.choice(FATES), name)

    async def _meet(self, fate: Fate, name: str) -> None:
        self.fates[fate.__name__] += 1
        await fate(self.workers, name, self.chance)

    async def _talk(self, talk: Conversation) -> None:
        for _ in range(self.chance.randint(1, 3)):
            await asyncio.sleep(self.chance.uniform(0, 2 * LEASE))
            self.wishes += 1
            await talk.say(str(self.wishes))


@pytest.mark.engines("postgresql")
@pytest.mark.timeout(600)
@pytest.mark.parametrize("seed", range(SEED, SEED + DAYS))
async def test_nothing_is_lost_or_doubled_whatever_happens_to_the_workers(
    tmp_path: Path, seed: int, record_property: pytest.RecordProperty
) -> None:
    async with three_homes() as homes, ModelServer() as models:
        models.respond(play)
        talks = conversations(homes)
        settings = homes.write_settings(tmp_path, models, lease=LEASE)
        async with fleet(settings, *WORKERS, apart=WORKERS) as workers:
            await homes.listened_to()
            day = Day(workers, talks, seed)
            while day.fates.total() < FAULTS / DAYS:
                await day.round()
            await settled(workers)
        for talk in talks:
            shown, told = talk.shown(), f"({talk.name}, seed {seed})\n{talk.screen()}\n{stored(workers, talk)}"
            assert shown == [each for each in talk.said if each in shown], f"order {told}"
            assert not [each for each, count in Counter(shown).items() if count > 1], f"doubled {told}"
            assert set(talk.every()) == set(talk.said), f"lost {told}"
        effects = (tmp_path / "workspace" / "effects.txt").read_text().split()
        assert len(effects) == len(set(effects)), f"a call was run twice (seed {seed})"
        assert models.refusals == [], "the model was always shown a complete history"
        kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(day.fates.items()))
        record_property("faults", f"{day.fates.total()} faults ({kinds}), {day.wishes} messages, seed {seed}")


async def settled(workers: Fleet) -> None:
    """Every inbox row has its terminal state, and every reply is confirmed."""
    async with asyncio.timeout(60):
        while True:
            with suppress(psycopg.OperationalError):  # the first query after a restart of the database
                if not engines.sql(workers.database, UNSETTLED):
                    return
            await asyncio.sleep(0.05)


def stored(workers: Fleet, talk: Conversation) -> str:
    """What became of the messages of a conversation, for who reads why the test has failed."""
    columns = "inbox.id, inbox.text, inbox.state, inbox.step, turns.number, turns.epoch, inbox.worker, received_at"
    rows = engines.sql(
        workers.database, f"SELECT {columns} FROM inbox LEFT JOIN turns ON turns.id = inbox.turn ORDER BY inbox.id"
    )
    return "\n".join(" ".join(map(str, row)) for row in rows if row[1].rpartition("#")[2] in talk.said)
