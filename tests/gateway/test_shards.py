"""Several workers of one PostgreSQL database that share the connections of one Discord bot."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from agent.interrupt import cancel_and_wait
from channels.channel import Lease, Shard
from channels.message import Deliver, InboundMessage, Receipt
from gateway.lifecycle.connectors import StoredConnectors
from gateway.lifecycle.shards import SharedShards
from gateway.store import Store
from tests.channels.test_discord_channel import Shelfmark, account
from tests.channels.test_discord_shards import PACE, places, shards
from tests.channels.test_telegram_channel import Shelf
from tests.engines import TEMPLATE, engines
from tests.gateway.play import until
from tests.gateway.stage import gateway
from tests.gateway.test_connectors import Office, Worker
from tests.gateway.test_discord_chat import SETTINGS
from tests.servers.discord import Discord, Place
from tests.servers.models import ModelServer, Say


@pytest.fixture
def url() -> Iterator[str]:
    server = engines.server()
    url = server.create(TEMPLATE)
    yield url
    server.drop(url)


@pytest.fixture
async def discord() -> AsyncIterator[Discord]:
    async with Discord(shards=4, max_concurrency=2, identify_seconds=PACE) as discord:
        yield discord


class Bots:
    """Workers with one bot, whose cursors are in their database."""

    def __init__(self, office: Office, discord: Discord) -> None:
        self.office = office
        self.discord = discord
        self.rooms: list[Place] = places(discord)
        self.cursors = Shelfmark()
        self.said = 0

    async def worker(self, name: str) -> Worker:
        channel = account(self.discord, Shelf(), self.cursors, identify_interval=PACE)
        return await self.office.worker(name, channel, interval=0.05)

    async def connected(self, count: int) -> None:
        await self.discord.until(lambda discord: discord.gateway.connected_shards == shards(count))

    async def held(self, *numbers: int) -> None:
        """Returns when the workers listen with so many each, in the order of their names."""
        async with asyncio.timeout(60):
            while [len(each.connectors) for each in await self.workers()] != list(numbers):  # noqa: ASYNC110
                await asyncio.sleep(0.02)

    async def workers(self) -> list[object]:
        listed = {each.id: each for each in await self.office.workers[-1].store.list_workers()}
        return [listed[worker.store.worker] for worker in self.office.workers if worker.store.worker in listed]

    async def say(self, text: str) -> None:
        for room in self.rooms:
            await room.say(f"<@4242> {text}")
        self.said += len(self.rooms)

    async def heard(self) -> None:
        """Returns when all is stored; nothing is twice."""
        desk = self.office.desk
        async with asyncio.timeout(60), desk.arrived:
            await desk.arrived.wait_for(lambda: len(desk.stored) >= self.said)
        assert len(desk.stored) == self.said

    def listeners(self) -> set[str]:
        """The workers that have stored what was said last."""
        return {worker for worker, _ in [*self.office.desk.stored.values()][-len(self.rooms) :]}


@pytest.fixture
async def bots(url: str, discord: Discord) -> AsyncIterator[Bots]:
    async with AsyncExitStack() as stack:
        yield Bots(Office(url, stack), discord)


async def test_workers_share_the_connections_evenly_and_take_over_sessions(bots: Bots) -> None:
    first = await bots.worker("first")
    await bots.connected(4)
    await bots.held(4)
    await bots.say("alone")
    await bots.heard()
    await bots.worker("second")
    await bots.held(2, 2)
    await bots.say("meanwhile")
    await bots.connected(4)
    await bots.say("together")
    await bots.heard()
    assert bots.listeners() == {"first", "second"}
    await first.stop()
    await bots.say("handed over")
    await bots.held(0, 4)
    await bots.connected(4)
    await bots.say("afterwards")
    await bots.heard()
    assert bots.listeners() == {"second"}
    gateway = bots.discord.gateway
    assert (len(gateway.identifies), gateway.early) == (4, [])
    assert len(gateway.resumes) >= 4
    assert bots.office.desk.doubles == 0


async def test_the_sessions_of_a_dead_worker_go_on_in_another(bots: Bots) -> None:
    first, second = await bots.worker("first"), await bots.worker("second")
    await bots.held(2, 2)
    await bots.connected(4)
    await bots.say("together")
    await bots.heard()
    # It was stopped, and does not know yet that it is buried.
    first.is_alive = False
    await bots.say("meanwhile")
    await second.store.bury([first.store.worker], expired=False)
    second.connectors.look()
    await bots.held(4)
    first.connectors.lose()
    await bots.connected(4)
    await bots.say("afterwards")
    await bots.heard()
    assert (len(bots.discord.gateway.identifies), bots.discord.gateway.early) == (4, [])


async def test_three_workers_differ_by_one_connection_at_most(bots: Bots) -> None:
    for name in ("first", "second", "third"):
        await bots.worker(name)
    async with asyncio.timeout(60):
        while sorted(len(each.connectors) for each in await bots.workers()) != [1, 1, 2]:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
    await bots.connected(4)
    await bots.say("together")
    await bots.heard()
    assert bots.listeners() == {"first", "second", "third"}
    assert (bots.office.desk.doubles, bots.discord.gateway.early) == (0, [])


async def test_all_workers_move_to_the_larger_number_that_one_of_them_learns(bots: Bots) -> None:
    await bots.worker("first")
    await bots.held(4)
    await bots.connected(4)
    await bots.say("before")
    await bots.heard()
    bots.discord.shards = 6
    await bots.worker("second")
    await bots.say("meanwhile")
    await bots.connected(6)
    await bots.held(3, 3)
    await bots.connected(6)
    await bots.say("after")
    await bots.heard()
    names = [name for each in await bots.workers() for name in each.connectors]
    assert sorted(name.rpartition(":")[2] for name in names) == [f"{number}/6" for number in range(6)]
    assert (bots.office.desk.doubles, bots.discord.gateway.early) == (0, [])


async def test_all_workers_move_when_discord_refuses_to_serve_so_few_connections(bots: Bots) -> None:
    await bots.worker("first")
    await bots.worker("second")
    await bots.held(2, 2)
    await bots.connected(4)
    await bots.say("before")
    await bots.heard()
    bots.discord.shards = bots.discord.least_shards = 6
    bots.discord.gateway.close(4011)
    await bots.say("meanwhile")
    await bots.connected(6)
    await bots.held(3, 3)
    await bots.connected(6)
    await bots.say("after")
    await bots.heard()
    assert (bots.office.desk.doubles, bots.discord.gateway.early) == (0, [])


@pytest.mark.parametrize("end", ["regular", "killed"])
async def test_a_new_session_keeps_the_pace_after_one_of_a_worker_that_has_ended(url: str, end: str) -> None:
    async with Discord(identify_seconds=PACE) as discord, AsyncExitStack() as stack:
        bots = Bots(Office(url, stack), discord)
        first = await bots.worker("first")
        await bots.connected(1)
        if end == "regular":
            await first.stop()
        discord.gateway.forget()
        second = await bots.worker("second")
        if end == "killed":
            first.is_alive = False
            await second.store.bury([first.store.worker], expired=False)
            first.connectors.lose()
            second.connectors.look()
        await discord.until(lambda discord: len(discord.gateway.identifies) == 2)
        await bots.connected(1)
        await bots.say("hi")
        await bots.heard()
        assert discord.gateway.early == []


async def test_one_process_goes_on_with_all_its_sessions_after_a_restart(tmp_path: Path, models: ModelServer) -> None:
    async with Discord(shards=3, max_concurrency=3, identify_seconds=5.0) as discord:
        rooms = places(discord)
        models.respond(lambda request: [Say("Noted.")])
        file = tmp_path / "interject.toml"
        urls = {"api": discord.api_url, "gateway": discord.gateway_url, "models": models.openai_url}
        file.write_text(SETTINGS.format(token=discord.token, **urls))
        async with gateway(file) as built:
            await discord.until(lambda discord: discord.gateway.connected_shards == shards(3))
            for room in rooms:
                await room.say("<@4242> one")
                await room.hear("Noted.")
            [worker] = await built.gateway.store.list_workers()
            assert [name.rpartition(":")[2] for name in worker.connectors] == ["0/3", "1/3", "2/3"]
            assert built.gateway.channel_connections() == {"discord": 3}
        for room in rooms:
            await room.say("<@4242> two")
        async with gateway(file):
            for room in rooms:
                await room.until(lambda room: room.texts == ["Noted.", "Noted."])
        assert (len(discord.gateway.identifies), len(discord.gateway.resumes)) == (3, 3)
        assert len(discord.called("PUT /applications/*/commands")) == 1


async def test_a_connection_that_another_worker_has_asked_for_is_left_to_that_one(store: Store) -> None:
    connectors = StoredConnectors(store, interval=0.01)
    listening: set[int] = set()

    async def listen(shard: Shard, lease: Lease, deliver: Deliver) -> None:
        listening.add(shard.number)
        try:
            await asyncio.Event().wait()
        finally:
            listening.discard(shard.number)

    async def deliver(message: InboundMessage) -> Receipt | None:
        raise AssertionError("nobody writes")

    running = asyncio.create_task(SharedShards("discord:1", connectors).listen(2, listen, deliver))
    try:
        await until(lambda: listening == {0, 1})
        connectors.give_up("discord:1:1/2")
        await until(lambda: listening == {0})
        for _ in range(20):
            connectors.look()
            await store.lease_holders("discord:1")
        assert listening == {0}
        assert await store.lease_holders("discord:1") == {"discord:1:0/2": store.worker}
    finally:
        await cancel_and_wait(running)
