"""One Discord adapter after another on one account, as two workers have them: the next goes on with the session."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest

from channels.channel import ListenOn, Shard
from channels.discord.channel import DiscordChannel
from channels.discord.shards import AllShards
from channels.message import Deliver, InboundMessage, Receipt
from tests.channels.test_discord_channel import COMMANDS, Inbox, Shelfmark, account, reply_in, text
from tests.channels.test_sync import MemoryLedger
from tests.channels.test_telegram_channel import Shelf
from tests.servers.discord import Discord


@dataclass
class Seat:
    """A lease that one adapter after another holds."""

    state: Mapping[str, Any] = field(default_factory=dict)
    held: bool = True
    saved: asyncio.Condition = field(default_factory=asyncio.Condition)

    def is_held(self) -> bool:
        return self.held

    async def save(self, state: Mapping[str, Any]) -> None:
        async with self.saved:
            self.state = state
            self.saved.notify_all()

    async def until_saved(self) -> None:
        async with asyncio.timeout(60), self.saved:
            await self.saved.wait_for(lambda: self.state)


class OneSeat(AllShards):
    """The only shard, with that lease."""

    def __init__(self, seat: Seat) -> None:
        super().__init__()
        self._seat = seat

    async def listen(self, count: int, listen: ListenOn, deliver: Deliver) -> None:
        assert count == 1
        await listen(Shard(0, 1), self._seat, deliver)


@dataclass
class Workers:
    """All have the cursors and the inbox of one database."""

    discord: Discord
    lease: Seat = field(default_factory=Seat)
    cursors: Shelfmark = field(default_factory=Shelfmark)
    inbox: Inbox = field(default_factory=Inbox)

    @asynccontextmanager
    async def listening(self, **options: Any) -> AsyncIterator[DiscordChannel]:
        """One of them listens."""
        channel = account(self.discord, Shelf(), self.cursors, **options)
        channel.use_shards(OneSeat(self.lease))
        count = self._sessions()
        try:
            async with asyncio.TaskGroup() as tasks:
                listener = tasks.create_task(channel.listen(self.inbox.deliver, COMMANDS))
                await self.discord.until(lambda _: self._sessions() > count)
                await self.discord.connected()
                yield channel
                listener.cancel()
        finally:
            await channel.aclose()

    def _sessions(self) -> int:
        return len(self.discord.gateway.identifies) + len(self.discord.gateway.resumes)


@pytest.fixture
def workers(discord: Discord) -> Workers:
    return Workers(discord)


async def test_the_next_one_resumes_the_session_and_gets_what_was_said_meanwhile(workers: Workers) -> None:
    ann, room = workers.discord.direct(), workers.discord.channel("general")
    async with workers.listening():
        await ann.say("one")
        await workers.inbox.texts(1)
    said = await room.say("two")
    await room.say("two again", reply_to=said)
    await room.edit(said, "two, changed")
    async with workers.listening():
        await workers.inbox.until(lambda: len(workers.inbox.messages) >= 4)
        await ann.say("three")
        texts = await workers.inbox.texts(5)
    assert sorted(texts) == sorted(["one", "two", "two again", "two, changed", "three"])
    assert (len(workers.discord.gateway.identifies), len(workers.discord.gateway.resumes)) == (1, 1)
    assert workers.inbox.doubles == 0


async def test_a_resumed_session_has_the_names_of_channels_and_roles(workers: Workers) -> None:
    room, other = workers.discord.channel("general"), workers.discord.channel("plans")
    assert room.guild is not None
    role = room.guild.role("helpers")
    async with workers.listening():
        await room.say("one")
        await workers.inbox.texts(1)
    async with workers.listening():
        await room.say(f"<@&{role}> see <#{other.id}>")
        assert await workers.inbox.texts(2) == ["one", "@helpers see #plans"]
    assert len(workers.discord.gateway.resumes) == 1


@pytest.mark.parametrize("why", ["forgotten", "other intents", "unreadable"])
async def test_without_a_session_that_can_be_resumed_the_missed_messages_are_read(workers: Workers, why: str) -> None:
    ann = workers.discord.direct()
    async with workers.listening():
        await ann.say("one")
        await workers.inbox.texts(1)
    await ann.say("two")
    if why == "forgotten":
        workers.discord.gateway.forget()
    if why == "unreadable":
        workers.lease.state = {"session": 5, "sequence": "x"}
    async with workers.listening(reaction_answers=why == "other intents"):
        await ann.say("three")
        assert await workers.inbox.texts(3) == ["one", "two", "three"]
    assert len(workers.discord.gateway.identifies) == 2
    assert workers.inbox.doubles == 0


async def test_what_was_received_and_not_stored_comes_to_the_next_one(workers: Workers) -> None:
    """Also where later messages were stored already."""
    ann, room = workers.discord.direct(), workers.discord.channel("general")
    stored, received = workers.inbox.deliver, asyncio.Event()

    async def deliver(message: InboundMessage) -> Receipt | None:
        if message.text == "one" and not received.is_set():
            received.set()
            await asyncio.Event().wait()
        return await stored(message)

    workers.inbox.deliver = deliver  # type: ignore[method-assign]
    async with workers.listening():
        await ann.say("one")
        await received.wait()
        await room.say("two")
        await workers.inbox.texts(1)
    async with workers.listening():
        await workers.inbox.texts(2)
        await ann.say("three")
        assert await workers.inbox.texts(3) == ["two", "one", "three"]
    assert len(workers.discord.gateway.resumes) == 1


async def test_missed_messages_whose_reading_was_interrupted_are_read_by_the_next_one(workers: Workers) -> None:
    ann, room = workers.discord.direct(), workers.discord.channel("general")
    async with workers.listening():
        await ann.say("one")
        await room.say("one")
        await workers.inbox.texts(2)
    workers.discord.gateway.forget()
    for place in (ann, room):
        await place.say("two")
    pages = workers.discord.hold("GET /channels/*/messages")
    async with workers.listening():
        await pages.until_arrived(2)
        await room.say("three")
    pages.release()
    async with workers.listening():
        texts = await workers.inbox.texts(5)
    assert sorted(texts) == ["one", "one", "three", "two", "two"]


async def test_one_that_lost_the_lease_does_not_take_the_session_back(workers: Workers) -> None:
    ann = workers.discord.direct()
    async with workers.listening():
        await ann.say("one")
        await workers.inbox.texts(1)
        await workers.lease.until_saved()
        workers.lease.held = False
        old, workers.lease = workers.lease, Seat(workers.lease.state)
        async with workers.listening():
            await ann.say("two")
            assert await workers.inbox.texts(2) == ["one", "two"]
            assert not old.held
            assert len(workers.discord.gateway.connections) == 1
    assert len(workers.discord.gateway.resumes) == 1


async def test_a_button_pressed_meanwhile_works_and_one_whose_press_failed_does_not(workers: Workers) -> None:
    ann, inbox, old = workers.discord.direct(), workers.inbox, Discord().new_id() - (60_000 << 22)
    async with workers.listening():
        await ann.say("one")
        await inbox.texts(1)
    pressed = await ann.press(1, "stop:run-1", stale=True)
    [session] = workers.discord.gateway.sessions.values()
    press = json.loads(session.events[-1][1])["d"]
    workers.discord.gateway.push_raw("INTERACTION_CREATE", press | {"id": str(old)})
    async with workers.listening():
        assert await pressed.until_answered() == 6
        await ann.say("two")
        await inbox.until(lambda: len(inbox.messages) >= 3)
    assert [message.command or message.text for message in inbox.messages] == ["one", "stop", "two"]


async def test_a_command_without_an_answer_does_not_stay_thinking_and_is_answered_by_the_next_one(
    workers: Workers,
) -> None:
    ann = workers.discord.direct()
    async with workers.listening() as first:
        await workers.discord.until(lambda discord: discord.commands)
        used = await ann.command("busy")
        assert await used.until_answered() == 5
        answered = await ann.command("stop")
        await answered.until_answered()
        asked, stopped = workers.inbox.messages
        await first.show(reply_in(ann, text("Stopped."), to=stopped.message_id), MemoryLedger())
    assert ann.texts == ["Stopped."]
    async with workers.listening() as second:
        await second.show(reply_in(ann, text("Busy."), to=asked.message_id), MemoryLedger())
    assert ann.texts == ["Stopped.", "Busy."]
