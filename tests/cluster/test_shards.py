"""A Discord bot with several connections, shared by workers in processes of their own."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.channels.test_discord_shards import places, shards
from tests.cluster.fleet import Fleet, fleet
from tests.cluster.test_day import settled
from tests.cluster.test_platforms import SETTINGS
from tests.engines import engines
from tests.servers.discord import Discord
from tests.servers.models import ModelServer, Request, Say

pytestmark = pytest.mark.engines("postgresql")


WORDS = ("one", "two", "three", "four")


def repeat(request: Request) -> list[object]:
    """In a server, a message is between lines that say whose it is."""
    return [Say(f"You said {next(word for word in WORDS if word in request.messages[-1].text)}.")]


async def a_moment() -> None:
    await asyncio.sleep(0.1)


async def shared(workers: Fleet, *numbers: int) -> None:
    """Returns when the workers have so many connections each."""
    query = """
        SELECT count(*) FROM leases JOIN workers ON workers.id = leases.worker
        WHERE leases.name LIKE 'discord:%' GROUP BY leases.worker"""
    async with asyncio.timeout(120):
        while sorted(number for (number,) in engines.sql(workers.database, query)) != sorted(numbers):
            await a_moment()


async def test_two_workers_share_four_connections_and_one_takes_over_those_of_the_other(tmp_path: Path) -> None:
    async with Discord(shards=4, max_concurrency=4, identify_seconds=5.0) as discord, ModelServer() as models:
        models.respond(repeat)
        rooms = places(discord)
        urls = f'api_url = "{discord.api_url}"\ngateway_url = "{discord.gateway_url}"\ngroups = "all"'
        file = tmp_path / "interject.toml"
        channel = f'[channels.discord]\ntoken = "{discord.token}"\n{urls}'
        file.write_text(SETTINGS.format(folder=tmp_path, models=models.openai_url, channel=channel))
        expected: list[str] = []

        async def asks() -> None:
            word = WORDS[len(expected)]
            for room in rooms:
                await room.say(word)
            expected.append(f"You said {word}.")

        async def answered() -> None:
            for room in rooms:
                await room.hear(expected[-1])
            await settled(workers)

        async def connected(*numbers: int) -> None:
            await shared(workers, *numbers)
            await discord.until(lambda discord: discord.gateway.connected_shards == shards(4), timeout=120)

        async with fleet(file, "a", "b") as workers:
            await connected(2, 2)
            await asks()
            await answered()
            await workers.kill("a")
            await asks()
            await connected(4)
            await answered()
            await workers.start("c")
            await connected(2, 2)
            await asks()
            await answered()
            assert await workers.end("b") == 0
            await asks()
            await connected(4)
            await answered()
        assert [room.texts for room in rooms] == [expected] * len(rooms)
        gateway = discord.gateway
        assert (len(gateway.identifies), gateway.early) == (4, [])
        assert len(discord.called("PUT /applications/*/commands")) == 1
