"""Several workers of one PostgreSQL database: which of them listens on a platform's account, and how that changes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest

from channels.channel import Channel
from channels.message import InboundMessage, Receipt
from channels.slack.channel import SlackChannel
from channels.telegram.channel import TelegramChannel
from gateway.lifecycle.connectors import StoredConnectors
from gateway.lifecycle.listeners import Listeners
from gateway.observations import Observations
from gateway.store import Store, open_store
from tests.channels.test_discord_channel import Shelfmark, account
from tests.channels.test_telegram_channel import COMMANDS, Shelf
from tests.engines import TEMPLATE, engines
from tests.servers.discord import Discord
from tests.servers.slack import Slack
from tests.servers.telegram import BotApi

NEVER = 60.0
"""Seconds between two looks at the database: whoever waits has to be told."""


@dataclass
class Desk:
    """What all workers have in common: the messages that were stored, each once, with the worker that stored it."""

    stored: dict[str, tuple[str, str]] = field(default_factory=dict)
    doubles: int = 0
    arrived: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def until(self, *expected: tuple[str, str]) -> None:
        """These are all, each as the worker and the text."""
        async with asyncio.timeout(60), self.arrived:
            await self.arrived.wait_for(lambda: len(self.stored) >= len(expected))
        assert sorted(self.stored.values()) == sorted(expected)


class Worker:
    """A worker as far as it listens on channels."""

    def __init__(self, name: str, desk: Desk, store: Store, interval: float) -> None:
        self.name = name
        self.store = store
        self.channels: dict[str, Channel] = {}
        self.is_alive = True
        self.others: list[Worker] = []
        self.connectors = StoredConnectors(
            store,
            is_alive=lambda: self.is_alive,
            released=self._tell_others,
            ask_for=self._ask_others,
            interval=interval,
        )
        self.listeners = Listeners(self.channels, Observations(None), self.connectors)
        self._desk = desk
        self._task: asyncio.Task[None] | None = None

    def _tell_others(self) -> None:
        for other in self.others:
            other.connectors.look()

    def _ask_others(self, connector: str) -> None:
        for other in self.others:
            other.connectors.give_up(connector)

    async def deliver(self, message: InboundMessage) -> Receipt | None:
        async with self._desk.arrived:
            self._desk.arrived.notify_all()
            if message.event_id in self._desk.stored:
                self._desk.doubles += 1
                return Receipt(1, duplicate=True)
            self._desk.stored[message.event_id] = (self.name, message.text)
        return Receipt(1)

    def start(self) -> None:
        self._task = asyncio.create_task(self.listeners.run(self.deliver, lambda: COMMANDS))

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)


@dataclass
class Platform:
    """`begun`: how often somebody has begun to listen; `until` waits for a condition that is asked when it changes.
    `confirmed`: whether the platform knows that all is stored."""

    open: Callable[[], Channel]
    say: Callable[[str], Coroutine[Any, Any, object]]
    begun: Callable[[], int]
    until: Callable[[Callable[[Any], object]], Coroutine[Any, Any, object]]
    confirmed: Callable[[], bool]

    async def listened_to(self, since: int) -> None:
        await self.until(lambda _: self.begun() > since)


@asynccontextmanager
async def on_telegram() -> AsyncIterator[Platform]:
    async with BotApi() as api:
        say = api.private().say

        def open_channel() -> Channel:
            return TelegramChannel("telegram", api.token, api.url, Shelf())

        yield Platform(open_channel, say, lambda: api.polls, api.until, lambda: not api.updates.queue)


@asynccontextmanager
async def on_discord() -> AsyncIterator[Platform]:
    async with Discord() as discord:
        say, cursors, gateway = discord.direct().say, Shelfmark(), discord.gateway

        def begun() -> int:
            return len(gateway.identifies) + len(gateway.resumes) if gateway.connected else 0

        yield Platform(lambda: account(discord, Shelf(), cursors), say, begun, discord.until, lambda: True)


EXCLUSIVE = pytest.mark.parametrize("on", [on_telegram, on_discord])
On = Callable[[], AbstractAsyncContextManager[Platform]]


@pytest.fixture
def url() -> Iterator[str]:
    """A database for several workers."""
    server = engines.server()
    url = server.create(TEMPLATE)
    yield url
    server.drop(url)


@dataclass
class Office:
    """The workers of one database. Leaving it is their regular end."""

    url: str
    stack: AsyncExitStack
    desk: Desk = field(default_factory=Desk)
    workers: list[Worker] = field(default_factory=list)

    async def worker(self, name: str, *channels: Channel, interval: float = NEVER) -> Worker:
        """One more, which listens on these channels if it may."""
        store = await self.stack.enter_async_context(open_store(self.url))
        worker = Worker(name, self.desk, store, interval)
        for channel in channels:
            self.stack.push_async_callback(channel.aclose)
            worker.channels[channel.name] = channel
        self.stack.push_async_callback(worker.stop)
        worker.others = list(self.workers)
        for other in self.workers:
            other.others.append(worker)
        self.workers.append(worker)
        worker.start()
        return worker


@pytest.fixture
async def office(url: str) -> AsyncIterator[Office]:
    async with AsyncExitStack() as stack:
        yield Office(url, stack)


async def told(caplog: pytest.LogCaptureFixture, words: str) -> None:
    """Returns when these are in the log."""
    async with asyncio.timeout(60):
        while words not in caplog.text:  # noqa: ASYNC110 - a log rings no bell
            await asyncio.sleep(0.002)


@EXCLUSIVE
async def test_one_listens_and_when_it_stops_the_next_one_does_as_soon_as_it_is_told(
    office: Office, on: On, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    async with on() as platform:
        first = await office.worker("first", platform.open())
        await platform.listened_to(0)
        await office.worker("second", platform.open())
        await told(caplog, "another worker holds this; this one waits")
        await platform.say("one")
        await office.desk.until(("first", "one"))
        count = platform.begun()
        await first.stop()
        await platform.say("two")
        await platform.listened_to(count)
        await platform.say("three")
        await office.desk.until(("first", "one"), ("second", "two"), ("second", "three"))
    assert office.desk.doubles == 0


@EXCLUSIVE
async def test_a_holder_that_others_take_for_dead_stores_nothing_and_another_one_gets_it(
    office: Office, on: On, caplog: pytest.LogCaptureFixture
) -> None:
    async with on() as platform:
        first = await office.worker("first", platform.open())
        await platform.listened_to(0)
        second = await office.worker("second", platform.open(), interval=0.02)
        await platform.say("one")
        await office.desk.until(("first", "one"))
        await platform.until(lambda _: platform.confirmed())
        # It was stopped for longer than its lease, and does not know yet that it is buried.
        first.is_alive = False
        await platform.say("two")
        await told(caplog, "this worker's turn to listen is over")
        count = platform.begun()
        await second.store.bury([first.store.worker], expired=False)
        await platform.listened_to(count)
        await office.desk.until(("first", "one"), ("second", "two"))
        first.connectors.lose()
        await platform.say("three")
        await office.desk.until(("first", "one"), ("second", "two"), ("second", "three"))


@EXCLUSIVE
async def test_a_channel_that_replaces_another_keeps_the_lease_and_one_that_is_removed_gives_it_up(
    office: Office, on: On, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    async with on() as platform:
        former, new = platform.open(), platform.open()
        office.stack.push_async_callback(new.aclose)
        first = await office.worker("first", former)
        await platform.listened_to(0)
        await office.worker("second", platform.open(), interval=0.01)
        await told(caplog, "another worker holds this; this one waits")
        count = platform.begun()
        first.channels[new.name] = new
        first.listeners.follow()
        await platform.listened_to(count)
        await platform.say("one")
        await office.desk.until(("first", "one"))
        assert first.listeners.is_listening(new)
        count = platform.begun()
        first.channels.clear()
        first.listeners.follow()
        await platform.listened_to(count)
        await platform.say("two")
        await office.desk.until(("first", "one"), ("second", "two"))


async def test_all_workers_listen_on_slack_and_each_event_comes_to_one_of_them(office: Office, slack: Slack) -> None:
    for name in ("first", "second"):
        channel = SlackChannel(
            "slack", slack.bot_token, Shelf(), Shelfmark(), app_token=slack.app_token, api_url=slack.api_url
        )
        await office.worker(name, channel)
    await slack.connected(2)
    ann = slack.direct("Ann")
    for text in ("one", "two"):
        await ann.say(text)
        await slack.settle()
    assert sorted(text for _, text in office.desk.stored.values()) == ["one", "two"]
    assert {worker for worker, _ in office.desk.stored.values()} == {"first", "second"}


async def test_what_a_holder_has_saved_is_the_next_ones_and_no_longer_its_own_to_change(office: Office) -> None:
    first, second = await office.worker("first"), await office.worker("second")
    lease = await first.connectors.take("telegram:1")
    assert await first.connectors.take("telegram:1") is lease
    assert lease.state == {}
    await lease.save({"session": "a"})
    await second.store.bury([first.store.worker], expired=False)
    taken = await second.connectors.take("telegram:1")
    assert taken.state == {"session": "a"}
    await lease.save({"session": "b"})
    await lease.lost()
    assert (lease.is_held(), taken.is_held()) == (False, True)
    await second.connectors.release("telegram:1")
    assert not taken.is_held()
    third = await office.worker("third")
    assert (await third.connectors.take("telegram:1")).state == {"session": "a"}


async def test_who_stops_waiting_leaves_nothing_behind(office: Office) -> None:
    """Whether the database has been asked already, or has answered already."""
    first, second = await office.worker("first"), await office.worker("second")
    async with asyncio.timeout(60):
        for steps in range(12):
            taking = asyncio.create_task(first.connectors.take("telegram:1"))
            for _ in range(steps):
                await asyncio.sleep(0)
            taking.cancel()
            await asyncio.gather(taking, return_exceptions=True)
            for worker in (first, second):
                assert (await worker.connectors.take("telegram:1")).is_held()
                await worker.connectors.release("telegram:1")
