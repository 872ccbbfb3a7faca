"""The bus of several workers when notifications are lost, repeated and overtake each other.

PostgreSQL loses them with a connection only. What workers promise each other does not rest on that: whatever arrives,
each of them has looked for everything, and no subscriber is told anything twice.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Literal

from hypothesis import given, settings
from hypothesis import strategies as st

from channels.message import InboundMessage, Receipt
from gateway.bus import BusEvent, Lagged, NoticeSent, Subscription
from gateway.bus.postgres import PostgresBus
from gateway.store.records import Busy
from tests.gateway.bus_contract import ADDRESS, HERE

WORKERS = 3
NEVER = 3600.0
"""Seconds: the workers do not greet each other by themselves, so that each example is the same every time."""


class Network:
    """Notifications on their way: each sender's, to each receiver."""

    def __init__(self) -> None:
        self.on_the_way: list[list[str]] = []
        self.receivers: list[Link] = []

    def connect(self, url: str, *, listening: Callable[[], None], heard: Callable[[str], None]) -> Link:
        link = Link(self, listening, heard)
        self.receivers.append(link)
        self.on_the_way.append([])
        return link

    def deliver(self, to: int, which: int = 0, *, again: bool = False) -> None:
        waiting = self.on_the_way[to]
        if waiting:
            which %= len(waiting)
            self.receivers[to].heard(waiting[which] if again else waiting.pop(which))

    def lose(self, to: int, which: int) -> None:
        waiting = self.on_the_way[to]
        if waiting:
            del waiting[which % len(waiting)]

    def reconnect(self, to: int) -> None:
        """The connection of the receiver is lost, with all that was on its way, and there is another one."""
        self.on_the_way[to].clear()
        self.receivers[to].listening()


@dataclass
class Link:
    network: Network
    listening: Callable[[], None]
    heard: Callable[[str], None]

    async def listen(self) -> None:
        self.listening()
        await asyncio.get_running_loop().create_future()

    async def send(self, payloads: Sequence[str]) -> None:
        for waiting in self.network.on_the_way:
            waiting.extend(payloads)

    async def aclose(self) -> None:
        """Nothing is open."""


@dataclass
class Worker:
    """`rows` are those of the store, that all workers share; `seen` those that this one has looked for, and `told` what
    its subscriber has read, each time with the number of all events that had been published by then."""

    name: str
    network: Network
    rows: list[str]
    published: list[NoticeSent]
    seen: set[str] = field(default_factory=set)
    told: list[tuple[BusEvent, int]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.bus = PostgresBus(
            "", self.name, look_again=self.look_again, renewal=NEVER, backlog=10_000, connect=self.network.connect
        )
        self.bus.attach(self, self)

    def look_again(self) -> None:
        self.seen.update(self.rows)

    def write(self) -> None:
        """Something to read is committed, and then told."""
        row = f"row-{len(self.rows)}"
        self.rows.append(row)
        self.bus.wake(row)

    def publish(self) -> None:
        event = NoticeSent(HERE, ADDRESS, f"{self.name}-{len(self.published)}")
        self.published.append(event)
        self.bus.publish(event)

    async def read(self, events: Subscription) -> None:
        async for event in events:
            self.told.append((event, len(self.published)))

    # The dispatcher and the receiver of this worker

    async def deliver(self, message: InboundMessage) -> Receipt | None:
        raise AssertionError("nobody sends a message")

    def wake(self, session: str, busy: Busy, *, by: str = "") -> None:
        self.seen.add(session)

    def stop(self, session: str, *, before: int, reason: str) -> None:
        raise AssertionError("nobody stops anything")

    def runs(self, session: str) -> bool:
        return False

    def waits(self, session: str) -> bool:
        return False

    def hear(self, session: str, *, by: str = "", anyone: bool = False) -> None:
        self.seen.add(session)

    def unfinished(self, session: str) -> tuple[BusEvent, ...]:
        return ()


async def settle() -> None:
    """Everything that can go on without the network has done so."""
    for _ in range(12):
        await asyncio.sleep(0)


Act = Literal["write", "publish", "deliver", "repeat", "lose", "reconnect"]
acts = st.tuples(
    st.sampled_from(["write", "publish", "deliver", "deliver", "repeat", "lose", "reconnect"]),
    st.integers(0, WORKERS - 1),
    st.integers(0, 5),
)


def perform(act: Act, worker: int, which: int, workers: Sequence[Worker], network: Network) -> None:
    match act:
        case "write":
            workers[worker].write()
        case "publish":
            workers[worker].publish()
        case "deliver":
            network.deliver(worker, which)
        case "repeat":
            network.deliver(worker, which, again=True)
        case "lose":
            network.lose(worker, which)
        case "reconnect":
            network.reconnect(worker)


async def bring_all(network: Network) -> None:
    await settle()
    while any(network.on_the_way):
        for receiver in range(len(network.receivers)):
            network.deliver(receiver)
        await settle()


async def play(script: Sequence[tuple[Act, int, int]]) -> tuple[list[Worker], list[str], list[NoticeSent]]:
    network, rows, published = Network(), list[str](), list[NoticeSent]()
    workers = [Worker(f"w{number}", network, rows, published) for number in range(WORKERS)]
    async with AsyncExitStack() as stack:
        for worker in workers:
            await stack.enter_async_context(worker.bus)
            await bring_all(network)
        reading = []
        for worker in workers:
            events = await stack.enter_async_context(worker.bus.subscribe(HERE, NoticeSent))
            reading.append(asyncio.ensure_future(worker.read(events)))
        await bring_all(network)
        for each in script:
            perform(*each, workers, network)
            await settle()
        # The network is well again: as soon as each worker says anything, a greeting would do, all is found.
        for worker in workers:
            worker.publish()
        await bring_all(network)
        for task in reading:
            task.cancel()
        await asyncio.gather(*reading, return_exceptions=True)
    return workers, rows, published


@given(st.lists(acts, max_size=60))
@settings(max_examples=150, deadline=None)
def test_whatever_becomes_of_notifications_everything_is_looked_for_and_nothing_told_twice(
    script: list[tuple[Act, int, int]],
) -> None:
    workers, rows, published = asyncio.run(play(script))
    for worker in workers:
        assert worker.seen == set(rows), worker.name
        told = [event for event, _ in worker.told if isinstance(event, NoticeSent)]
        assert len(told) == len(set(told)), "twice"
        gaps = [at for event, at in worker.told if isinstance(event, Lagged)]
        for sender in workers:
            own = [event for event in published if event.turn.startswith(sender.name)]
            arrived = [event for event in told if event in own]
            assert arrived == [event for event in own if event in arrived], "in their order"
            for missed in set(own) - set(arrived):
                assert any(at > published.index(missed) for at in gaps), "a gap that nobody is told of"
        assert [event for event in told if event.turn.startswith(worker.name)] == [
            event for event in published if event.turn.startswith(worker.name)
        ], "a worker's own events do not go by the network"
