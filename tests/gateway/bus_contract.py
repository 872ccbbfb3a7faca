"""What every bus promises; written against the protocol, so that each implementation is tested alike.

A subclass gives `open_bus`, and may need time between an act and its effect: tests wait for effects.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, suppress

import pytest

from agent.events import TextDelta
from channels.address import Address
from channels.channel import NotStored
from channels.message import InboundMessage, Receipt
from gateway.bus import (
    Bus,
    BusClosed,
    BusEvent,
    Lagged,
    MessageAccepted,
    Subscription,
    TurnEnded,
    TurnParked,
    TurnProgress,
    TurnStarted,
)
from gateway.store.records import Busy
from tests.gateway.play import inbound

OpenBus = Callable[[int], AbstractAsyncContextManager[Bus]]
"""Opens a bus whose subscriptions hold so many unread events."""

ADDRESS = Address("memory", "me", "chat")
HERE, ELSEWHERE = "memory/me/chat", "memory/me/other"


def started(number: int, session: str = HERE) -> TurnStarted:
    return TurnStarted(session, ADDRESS, f"t{number}")


class Gateway:
    """A receiver and a dispatcher that record what reaches them."""

    def __init__(self) -> None:
        self.received: list[str] = []
        self.dispatched: list[tuple[str, str]] = []
        self.error: Exception | None = None
        self.running: set[str] = set()
        self.full_for: set[str] = set()
        self.repeated: list[BusEvent] = []
        self._changed = asyncio.Event()

    async def deliver(self, message: InboundMessage) -> Receipt | None:
        if self.error is not None:
            raise self.error
        self.received.append(message.text)
        return Receipt(len(self.received))

    def wake(self, session: str, busy: Busy, *, by: str = "") -> None:
        self._record(session, busy)

    def stop(self, session: str, *, before: int, reason: str) -> None:
        self._record(session, f"stop before {before}: {reason}")

    def runs(self, session: str) -> bool:
        return session in self.running

    def waits(self, session: str) -> bool:
        return session in self.full_for

    def hear(self, session: str, *, by: str, anyone: bool) -> None:
        self._record(session, "heard for anyone" if anyone else "heard")

    def unfinished(self, session: str) -> Iterable[BusEvent]:
        return self.repeated

    def _record(self, session: str, what: str) -> None:
        self.dispatched.append((session, what))
        self._changed.set()
        if self.error is not None:
            raise self.error

    async def until_dispatched(self, session: str, what: str) -> None:
        async with asyncio.timeout(30):
            while (session, what) not in self.dispatched:
                self._changed.clear()
                await self._changed.wait()


async def read(subscription: Subscription, count: int) -> list[BusEvent]:
    async with asyncio.timeout(30):
        return [await anext(subscription) for _ in range(count)]


async def read_until_closed(subscription: Subscription) -> list[BusEvent]:
    async with asyncio.timeout(30):
        return [event async for event in subscription]


class BusContract:
    @pytest.fixture
    def open_bus(self) -> OpenBus:
        raise NotImplementedError

    @pytest.fixture
    async def bus(self, open_bus: OpenBus) -> AsyncIterator[Bus]:
        async with open_bus(100) as bus:
            yield bus

    # Messages

    async def test_a_message_reaches_the_receiver_and_its_receipt_the_channel(self, bus: Bus) -> None:
        gateway = Gateway()
        bus.attach(gateway, gateway)
        assert await bus.deliver(inbound("hello")) == Receipt(1)
        assert gateway.received == ["hello"]

    async def test_messages_keep_the_order_of_their_delivery(self, bus: Bus) -> None:
        gateway = Gateway()
        bus.attach(gateway, gateway)
        await asyncio.gather(*(bus.deliver(inbound(f"m{number}")) for number in range(20)))
        assert gateway.received == [f"m{number}" for number in range(20)]

    async def test_an_error_of_the_receiver_reaches_the_channel(self, bus: Bus) -> None:
        gateway = Gateway()
        gateway.error = NotStored("the disk is full")
        bus.attach(gateway, gateway)
        with pytest.raises(NotStored, match="the disk is full"):
            await bus.deliver(inbound("hello"))

    async def test_a_message_is_refused_while_nobody_receives(self, open_bus: OpenBus) -> None:
        gateway = Gateway()
        async with open_bus(100) as bus:
            with pytest.raises(NotStored):
                await bus.deliver(inbound("too early"))
            bus.attach(gateway, gateway)
        with pytest.raises(NotStored):
            await bus.deliver(inbound("too late"))
        assert gateway.received == []

    # Wakes and stops

    async def test_a_wake_reaches_the_dispatcher(self, bus: Bus) -> None:
        gateway = Gateway()
        bus.attach(gateway, gateway)
        bus.wake(HERE)
        bus.wake(ELSEWHERE, "queue")
        await gateway.until_dispatched(HERE, "steer")
        await gateway.until_dispatched(ELSEWHERE, "queue")

    async def test_of_several_wakes_the_strongest_is_not_lost(self, bus: Bus) -> None:
        gateway = Gateway()
        bus.attach(gateway, gateway)
        for busy in ("queue", "work", "steer", "work", "queue"):
            bus.wake(HERE, busy)
        await gateway.until_dispatched(HERE, "steer")

    async def test_a_stop_reaches_the_dispatcher_before_the_wake_after_it(self, bus: Bus) -> None:
        gateway = Gateway()
        bus.attach(gateway, gateway)
        bus.stop(HERE, before=7, reason="Stopped by Ann")
        bus.wake(HERE, "interrupt")
        await gateway.until_dispatched(HERE, "interrupt")
        assert gateway.dispatched[0] == (HERE, "stop before 7: Stopped by Ann")

    async def test_an_error_of_the_dispatcher_reaches_nobody_who_wakes_or_stops(self, bus: Bus) -> None:
        gateway = Gateway()
        bus.attach(gateway, gateway)
        gateway.error = ValueError("broken")
        bus.wake(HERE)
        bus.stop(HERE, before=1, reason="")
        await gateway.until_dispatched(HERE, "stop before 1: ")
        gateway.error = None
        bus.wake(ELSEWHERE)
        await gateway.until_dispatched(ELSEWHERE, "steer")

    async def test_wakes_and_stops_without_a_dispatcher_do_nothing(self, open_bus: OpenBus) -> None:
        gateway = Gateway()
        async with open_bus(100) as bus:
            bus.wake(HERE)
            bus.stop(HERE, before=1, reason="")
            bus.attach(gateway, gateway)
        bus.wake(HERE)
        bus.stop(HERE, before=1, reason="")
        assert gateway.dispatched == []

    # Events

    async def test_a_session_s_events_arrive_in_the_order_of_publication(self, bus: Bus) -> None:
        async with bus.subscribe(HERE) as subscription:
            for number in range(50):
                bus.publish(started(number))
            assert await read(subscription, 50) == [started(number) for number in range(50)]

    async def test_nothing_published_after_subscribing_is_lost(self, bus: Bus) -> None:
        for number in range(20):
            async with bus.subscribe(HERE) as subscription:
                bus.publish(started(number))
                assert await read(subscription, 1) == [started(number)]

    async def test_events_before_the_subscription_do_not_arrive(self, bus: Bus) -> None:
        async with bus.subscribe(HERE) as earlier:
            bus.publish(started(1))
            await read(earlier, 1)
            async with bus.subscribe(HERE) as subscription:
                bus.publish(started(2))
                assert await read(subscription, 1) == [started(2)]

    async def test_a_subscription_gets_the_events_of_its_session_only(self, bus: Bus) -> None:
        async with bus.subscribe(HERE) as here, bus.subscribe() as everywhere:
            bus.publish(started(1, ELSEWHERE))
            bus.publish(started(2))
            assert await read(here, 1) == [started(2)]
            both = await read(everywhere, 2)
            assert sorted(both, key=str) == sorted([started(1, ELSEWHERE), started(2)], key=str)

    async def test_a_subscription_gets_the_kinds_that_it_names(self, bus: Bus) -> None:
        ended = TurnEnded(HERE, ADDRESS, "t1", "completed")
        async with bus.subscribe(HERE, TurnParked, TurnEnded) as subscription:
            for event in (started(1), TurnProgress(HERE, ADDRESS, "t1", TextDelta("So")), ended):
                bus.publish(event)
            assert await read(subscription, 1) == [ended]

    async def test_every_subscriber_gets_every_event(self, bus: Bus) -> None:
        async with bus.subscribe(HERE) as one, bus.subscribe(HERE) as other, bus.subscribe() as third:
            bus.publish(started(1))
            for subscription in (one, other, third):
                assert await read(subscription, 1) == [started(1)]

    async def test_events_of_every_kind_arrive_as_they_were_published(self, bus: Bus) -> None:
        events: list[BusEvent] = [
            MessageAccepted(HERE, ADDRESS, 1),
            started(1),
            TurnProgress(HERE, ADDRESS, "t1", TextDelta("So")),
            TurnParked(HERE, ADDRESS, "t1"),
            TurnEnded(HERE, ADDRESS, "t1", "failed", "the model is down"),
        ]
        async with bus.subscribe(HERE) as subscription:
            for event in events:
                bus.publish(event)
            assert await read(subscription, len(events)) == events

    async def test_a_slow_subscriber_is_told_how_many_events_it_missed(self, open_bus: OpenBus) -> None:
        async with open_bus(3) as bus, bus.subscribe(HERE) as slow, bus.subscribe(HERE) as quick:
            for number in range(8):
                bus.publish(started(number))
                assert await read(quick, 1) == [started(number)]
            assert await read(slow, 4) == [Lagged(HERE, 5), *map(started, (5, 6, 7))]
            bus.publish(started(8))
            assert await read(slow, 1) == [started(8)]

    @pytest.mark.parametrize("moments", range(5))
    async def test_a_cancelled_read_loses_no_event(self, bus: Bus, moments: int) -> None:
        async with bus.subscribe(HERE) as subscription:
            reading = asyncio.ensure_future(read(subscription, 1))
            await asyncio.sleep(0)
            bus.publish(started(1))
            for _ in range(moments):
                await asyncio.sleep(0)
            reading.cancel()
            with suppress(asyncio.CancelledError):
                await reading
            bus.publish(started(2))
            found = [] if reading.cancelled() else reading.result()
            assert found + await read(subscription, 2 - len(found)) == [started(1), started(2)]

    async def test_a_subscriber_that_fails_or_never_reads_harms_nobody(self, open_bus: OpenBus) -> None:
        async with open_bus(2) as bus, bus.subscribe(HERE), bus.subscribe(HERE) as reader:
            with pytest.raises(ZeroDivisionError):
                async with bus.subscribe(HERE):
                    raise ZeroDivisionError
            for number in range(10):
                bus.publish(started(number))
                assert await read(reader, 1) == [started(number)]

    async def test_a_change_drops_all_unread_events(self, bus: Bus) -> None:
        async with bus.subscribe(HERE) as subscription, bus.subscribe(HERE) as other:
            for number in range(3):
                bus.publish(started(number))
            await read(other, 3)
            async with asyncio.timeout(30):
                await subscription.changed()
            bus.publish(started(3))
            assert await read(subscription, 1) == [started(3)]

    async def test_a_change_is_waited_for(self, bus: Bus) -> None:
        async with bus.subscribe(HERE) as subscription:
            waiting = asyncio.ensure_future(subscription.changed())
            await asyncio.sleep(0)
            assert not waiting.done()
            bus.publish(started(1))
            async with asyncio.timeout(30):
                await waiting

    # The end

    async def test_closing_ends_subscriptions_after_their_last_event(self, open_bus: OpenBus) -> None:
        async with AsyncExitStack() as stack:
            bus = await stack.enter_async_context(open_bus(100))
            async with bus.subscribe(HERE) as waiter, bus.subscribe(HERE) as subscription:
                bus.publish(started(1))
                await read(waiter, 1)
                waiting = asyncio.ensure_future(read_until_closed(waiter))
                await asyncio.sleep(0)
                await stack.aclose()
                assert await waiting == []
                assert await read_until_closed(subscription) == [started(1)]

    async def test_closing_ends_the_wait_for_a_change(self, open_bus: OpenBus) -> None:
        async with AsyncExitStack() as stack:
            bus = await stack.enter_async_context(open_bus(100))
            async with bus.subscribe(HERE) as subscription:
                waiting = asyncio.ensure_future(subscription.changed())
                await asyncio.sleep(0)
                await stack.aclose()
                with pytest.raises(BusClosed):
                    async with asyncio.timeout(30):
                        await waiting

    async def test_a_closed_bus_publishes_nothing(self, open_bus: OpenBus) -> None:
        async with open_bus(100) as bus:
            pass
        bus.publish(started(1))
        async with bus.subscribe(HERE) as subscription:
            bus.publish(started(2))
            assert await read_until_closed(subscription) == []
