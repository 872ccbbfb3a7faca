"""The bus on PostgreSQL: alone, and with what happens at one worker reaching another."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager

import pytest

from agent.events import TextDelta
from channels.message import InboundMessage, Receipt
from gateway.bus import (
    Bus,
    BusEvent,
    NoticeSent,
    Subscription,
    TurnProgress,
)
from gateway.bus.bus import MessageReceiver, TurnDispatcher
from gateway.bus.postgres import PostgresBus
from gateway.store.records import Busy
from tests.engines import engines
from tests.gateway.bus_contract import ADDRESS, HERE, BusContract, Gateway, OpenBus

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
    renewal: float = 30.0,
) -> AsyncIterator[tuple[PostgresBus, PostgresBus]]:
    """Two buses that know each other; `look_again` is the second one's."""
    one = PostgresBus(url, "one", look_again=nothing, backlog=backlog, renewal=renewal)
    other = PostgresBus(url, "other", look_again=look_again, backlog=backlog, renewal=renewal)
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
