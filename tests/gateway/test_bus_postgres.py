"""The bus on PostgreSQL: alone, and with what happens at one worker reaching another."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import replace

import psycopg
import pytest

from agent.events import Logged, TextDelta
from agent.log import CallEnded
from channels.message import InboundMessage, Receipt
from gateway.bus import (
    Bus,
    BusEvent,
    Lagged,
    NoticeSent,
    Subscription,
    TurnProgress,
    wire,
)
from gateway.bus.bus import MessageReceiver, TurnDispatcher
from gateway.bus.postgres import PostgresBus, unasked
from gateway.store.records import Busy
from tests.engines import engines
from tests.gateway.bus_contract import ADDRESS, HERE, BusContract, Gateway, OpenBus, read, started

STRONGEST_FIRST: tuple[Busy, ...] = ("steer", "wrap", "work", "answer", "interrupt", "collect", "queue")

CHANNEL = "interject_' || md5(current_schema())"


def nothing() -> None:
    """For a bus whose store is not looked at."""


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """An empty database: the bus needs no tables."""
    made = engines.server().create()
    yield made
    engines.server().drop(made)


@asynccontextmanager
async def two_workers(
    url: str,
    *,
    backlog: int = 100,
    look_again: Callable[[], None] = nothing,
    asked: Callable[[str], None] = unasked,
    renewal: float = 30.0,
) -> AsyncIterator[tuple[PostgresBus, PostgresBus]]:
    """Two buses that know each other; `look_again` and `asked` are the second one's."""
    one = PostgresBus(url, "one", look_again=nothing, backlog=backlog, renewal=renewal)
    other = PostgresBus(url, "other", look_again=look_again, asked=asked, backlog=backlog, renewal=renewal)
    async with one, other:
        await until_known(one, other)
        yield one, other


async def until_known(one: Bus, other: Bus) -> None:
    """Returns when events of one arrive at the other."""
    async with other.subscribe("probe", NoticeSent) as events:
        for number in range(1000):
            one.publish(NoticeSent("probe", ADDRESS, str(number)))
            try:
                async with asyncio.timeout(0.05):
                    while await anext(events) != NoticeSent("probe", ADDRESS, str(number)):
                        pass
            except TimeoutError:
                continue
            return
    raise AssertionError("the workers do not hear each other")


@asynccontextmanager
async def watching(one: Bus, other: Bus, session: str | None = None) -> AsyncIterator[Subscription]:
    """While entered, progress of the session (None: of all) at one is told at the other, and all that has happened
    before is over."""
    last = NoticeSent(session or HERE, ADDRESS, "last")
    async with other.subscribe(session) as events:
        found: BusEvent = last
        while not isinstance(found, TurnProgress):
            one.publish(progress("", session=session or HERE))
            try:
                async with asyncio.timeout(0.3):
                    found = await anext(events)
            except TimeoutError:
                continue
        one.publish(last)
        while found != last:
            found = await anext(events)
        yield events


def progress(text: str, *, session: str = HERE, entries: int = 0) -> TurnProgress:
    return TurnProgress(session, ADDRESS, "t1", TextDelta(text), entries)


class TestAlone(BusContract):
    @pytest.fixture
    def open_bus(self, url: str) -> OpenBus:
        return lambda backlog: PostgresBus(url, "alone", look_again=nothing, backlog=backlog)


class Across:
    """A bus whose messages, subscribers and dispatcher are at one worker, and all that happens at another one."""

    def __init__(self, url: str, backlog: int) -> None:
        self._workers = two_workers(url, backlog=backlog)
        self._stack = AsyncExitStack()
        self._waiting: defaultdict[str, set[Busy]] = defaultdict(set)

    async def __aenter__(self) -> Bus:
        self._there, self._here = await self._stack.enter_async_context(self._workers)
        watched = await self._stack.enter_async_context(watching(self._there, self._here))
        assert watched
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._stack.aclose()

    def attach(self, receiver: MessageReceiver, dispatcher: TurnDispatcher) -> None:
        nobody = Gateway()
        self._there.attach(nobody, nobody)
        self._here.attach(receiver, AsksStore(dispatcher, self._waiting))

    async def deliver(self, message: InboundMessage) -> Receipt | None:
        return await self._here.deliver(message)

    def wake(self, session: str, busy: Busy = "steer", *, by: str = "") -> None:
        self._waiting[session].add(busy)
        self._there.wake(session, busy, by=by)

    def stop(self, session: str, *, before: int, reason: str) -> None:
        self._there.stop(session, before=before, reason=reason)

    def publish(self, event: BusEvent) -> None:
        self._there.publish(event)

    def released(self) -> None:
        self._there.released()

    def recall(self, session: str) -> None:
        self._here.recall(session)

    def subscribe(
        self, session: str | None = None, *kinds: type[BusEvent], own_only: bool = False
    ) -> AbstractAsyncContextManager[Subscription]:
        return self._here.subscribe(session, *kinds, own_only=own_only)


class AsksStore:
    """A dispatcher that knows from a store how strong the messages are that wait."""

    def __init__(self, dispatcher: TurnDispatcher, waiting: Mapping[str, set[Busy]]) -> None:
        self._dispatcher = dispatcher
        self._waiting = waiting

    def wake(self, session: str, busy: Busy, *, by: str = "") -> None:
        self._dispatcher.wake(session, busy, by=by)

    def stop(self, session: str, *, before: int, reason: str) -> object:
        return self._dispatcher.stop(session, before=before, reason=reason)

    def runs(self, session: str) -> bool:
        return self._dispatcher.runs(session)

    def waits(self, session: str) -> bool:
        return self._dispatcher.waits(session)

    def hear(self, session: str, *, by: str, anyone: bool) -> None:
        self.wake(session, next(busy for busy in STRONGEST_FIRST if busy in self._waiting[session]), by=by)

    def unfinished(self, session: str) -> Iterable[BusEvent]:
        return self._dispatcher.unfinished(session)


class TestAcross(BusContract):
    @pytest.fixture
    def open_bus(self, url: str) -> OpenBus:
        return lambda backlog: Across(url, backlog)


# Losses, and other versions


def test_a_notification_holds_what_fits_and_says_when_something_does_not() -> None:
    long = TurnProgress(HERE, ADDRESS, "t1", TextDelta("ä\x01" * 9000), 3)
    texts = list(wire.texts(wire.Happened(long)))
    payloads = list(wire.payloads("one", 7, texts))
    assert all(len(payload.encode()) <= wire.MAX_PAYLOAD for payload in payloads)
    found = [wire.read(payload) for payload in payloads]
    assert [each.number for each in found if each is not None] == list(range(7, 7 + len(payloads)))
    heard = [message for each in found if each is not None for message in each.messages]
    assert len(heard) == len(texts)
    large = TurnProgress(HERE, ADDRESS, "t1", Logged(CallEnded("c1", "done", "x" * 20_000)), 4)
    (short,) = wire.texts(wire.Happened(large))
    told = wire.read(next(wire.payloads("one", 1, [short])))
    assert told is not None
    assert told.messages == (wire.Happened(replace(large, event=TextDelta(""))),)


async def test_what_another_version_says_is_ignored_and_what_is_missing_is_noticed(url: str) -> None:
    looked = asyncio.Event()
    async with two_workers(url, look_again=looked.set) as (_, other), other.subscribe(HERE) as events:
        looked.clear()
        payload = wire.VERSION, "third", 5
        text = '{"v":%d,"from":"%s","n":%d,"m":[{"k":"Unknown","session":"x"},{"k":"Wake"}]}' % payload  # noqa: UP031
        async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
            await connection.execute("SELECT pg_notify('interject_' || md5(current_schema()), %s)", [text])
        assert await read(events, 1) == [Lagged(HERE, 0)]
        assert looked.is_set()


async def test_a_worker_asks_another_for_a_connector(url: str) -> None:
    asked: asyncio.Queue[str] = asyncio.Queue()
    async with two_workers(url, asked=asked.put_nowait) as (one, _):
        one.ask_for("discord:1:3/4")
        async with asyncio.timeout(60):
            assert await asked.get() == "discord:1:3/4"


async def test_after_a_lost_connection_the_store_is_looked_at_and_events_arrive_again(url: str) -> None:
    looked = asyncio.Event()
    async with two_workers(url, look_again=looked.set) as (one, other), other.subscribe(HERE) as events:
        looked.clear()
        async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
            await connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
        async with asyncio.timeout(20):
            await looked.wait()
            assert await anext(events) == Lagged(HERE, 0)
        await until_known(one, other)
        one.publish(started(1))
        async with asyncio.timeout(20):
            while await anext(events) != started(1):
                pass
