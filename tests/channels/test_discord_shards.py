"""A Discord bot for which Discord asks for several connections, each with a part of its servers."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from channels.channel import Shard
from channels.discord.cursors import MessageCursors
from channels.discord.shards import AllShards
from channels.discord.snowflakes import first_id
from channels.discord.starts import SessionStarts, StartLimits
from tests.channels.test_discord_channel import Inbox, Shelfmark, account, listening
from tests.channels.test_telegram_channel import Shelf
from tests.servers.discord import Discord, Place

PACE = 0.3
"""Seconds between two identifies, as strict here as Discord with its five."""


def places(discord: Discord) -> list[Place]:
    """A channel of each shard, the first a direct one."""
    rooms = []
    for shard in range(discord.shards):
        discord.guild(f"guild {shard}", shard=shard)
        rooms.append(discord.channel(f"room {shard}", guild=f"guild {shard}"))
    return [discord.direct(), *rooms]


def shards(count: int) -> list[tuple[int, int]]:
    return [(number, count) for number in range(count)]


async def test_a_bot_with_one_connection_names_no_shard() -> None:
    async with Discord() as discord:
        channel = account(discord, Shelf(), Shelfmark())
        async with listening(discord, channel, Inbox()):
            assert "shard" not in discord.gateway.identifies[0]
        await channel.aclose()


@pytest.mark.parametrize("concurrency", [1, 2])
async def test_one_process_has_all_connections_that_discord_asks_for(concurrency: int) -> None:
    inbox = Inbox()
    async with Discord(shards=3, max_concurrency=concurrency, identify_seconds=PACE) as discord:
        rooms = places(discord)
        channel = account(discord, Shelf(), Shelfmark(), identify_interval=PACE)
        async with listening(discord, channel, inbox):
            await discord.until(lambda discord: discord.gateway.connected_shards == shards(3))
            for number, room in enumerate(rooms):
                await room.say(f"<@4242> {number}")
            texts = await inbox.texts(4)
            await discord.until(lambda discord: discord.commands)
            assert channel.problem == ""
        await channel.aclose()
        assert sorted(text[-1] for text in texts) == ["0", "1", "2", "3"]
        assert inbox.doubles == 0
        assert discord.gateway.early == []
        assert len(discord.gateway.identifies) == 3
        assert len(discord.called("PUT /applications/*/commands")) == 1


async def test_what_was_missed_is_read_by_the_shard_of_its_server() -> None:
    inbox, cursors = Inbox(), Shelfmark()
    async with Discord(shards=3, max_concurrency=3) as discord:
        rooms = places(discord)
        for round in range(2):
            channel = account(discord, Shelf(), cursors)
            async with listening(discord, channel, inbox):
                await discord.until(lambda discord: discord.gateway.connected_shards == shards(3))
                await inbox.texts(8 * round)
                for room in rooms:
                    await room.say(f"<@4242> heard {round}")
                await inbox.texts(8 * round + 4)
            await channel.aclose()
            discord.gateway.forget()
            for room in rooms:
                await room.say(f"<@4242> missed {round}")
        assert len(inbox.messages) == 12
        assert inbox.doubles == 0
    assert sum("direct" in stored for stored in cursors.kept.values()) == 1


@pytest.mark.parametrize("code", [4010, 4011])
async def test_the_number_of_connections_rises_when_discord_requires_it(code: int) -> None:
    inbox = Inbox()
    async with Discord(shards=2, max_concurrency=8) as discord:
        rooms = places(discord)
        channel = account(discord, Shelf(), Shelfmark())
        async with listening(discord, channel, inbox):
            await discord.until(lambda discord: discord.gateway.connected_shards == shards(2))
            for room in rooms:
                await room.say("<@4242> before")
            await inbox.texts(3)
            discord.shards = discord.least_shards = 5
            discord.gateway.close(code)
            for room in rooms:
                await room.say("<@4242> meanwhile")
            await discord.until(lambda discord: discord.gateway.connected_shards == shards(5))
            for room in rooms:
                await room.say("<@4242> after")
            await inbox.texts(9)
        await channel.aclose()
        assert inbox.doubles == 0


async def test_nothing_begins_beyond_the_limit_of_sessions() -> None:
    async with Discord() as discord:
        discord.starts_left, discord.starts_reset_ms = 1, 20
        channel = account(discord, Shelf(), Shelfmark())
        inbox = Inbox()

        async def allow() -> None:
            await discord.until(lambda discord: len(discord.called("GET /gateway/bot")) >= 4)
            assert channel.problem == "Discord allows this bot no new session for 0 minutes"
            assert discord.gateway.identifies == []
            discord.starts_left = 1000

        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(allow())
            async with listening(discord, channel, inbox):
                await discord.direct().say("hi")
                await inbox.texts(1)
                assert channel.problem == ""
        await channel.aclose()


@pytest.mark.parametrize("wanted", [0, -1, 10**6, 10**400, "x", None, [], True], ids=lambda each: repr(each)[:9])
async def test_a_number_of_connections_that_cannot_be_is_one(wanted: Any) -> None:
    inbox = Inbox()
    async with Discord() as discord:
        room, discord.shards = discord.direct(), wanted
        channel = account(discord, Shelf(), Shelfmark())
        async with listening(discord, channel, inbox):
            await room.say("hi")
            await inbox.texts(1)
        await channel.aclose()
        assert ["shard" in each for each in discord.gateway.identifies] == [False]


async def test_discord_is_not_asked_again_at_once_where_a_limit_ends_now() -> None:
    asked = 0

    async def ask() -> StartLimits:
        nonlocal asked
        asked += 1
        return StartLimits(remaining=0, reset_after=0.0)

    problems: list[str] = []
    async with asyncio.TaskGroup() as tasks:
        starts = SessionStarts("discord", AllShards(), ask, 3600.0, problems.append, tasks)
        begins = tasks.create_task(starts.begin(0))
        for _ in range(200):
            await asyncio.sleep(0)
        begins.cancel()
    assert problems == ["Discord allows this bot no new session for 0 minutes"]
    assert asked == 1


async def test_a_channel_that_is_newer_than_all_of_its_shard_was_made_meanwhile() -> None:
    """Others read on, and know newer messages."""
    old, new = first_id(1_700_000_000), first_id(1_800_000_000)
    guilds = [str(number << 22) for number in range(4)]
    shelf = Shelfmark()
    for number, at in enumerate((new, old)):
        cursors = MessageCursors(shelf, Shard(number, 2))
        cursors.begin(f"chat {number}", at, guilds[number])
        cursors.done(f"chat {number}", at)
        await cursors.save()
    cursors = MessageCursors(shelf, Shard(0, 2))
    await cursors.load()
    assert (cursors.newest(), cursors.position("chat 1")) == (new, None)
    cursors = MessageCursors(shelf, Shard(1, 2))
    await cursors.load()
    assert cursors.newest() == old
