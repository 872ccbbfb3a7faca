"""Watchers of topics: what they get, what they miss, and who is woken first."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from gateway.api.broadcast import EVERYTHING, Broadcast, Missed, Watcher


@asynccontextmanager
async def distributing(events: Broadcast) -> AsyncIterator[None]:
    task = asyncio.create_task(events.distribute())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def publish(events: Broadcast, session: str, text: str, *, erases: bool = False) -> None:
    events.publish(session, session, lambda id: f"{id} {text}".encode(), renews=erases, erases=erases)


async def taken(watcher: Watcher, seconds: float = 10) -> list[str]:
    found = await watcher.next(seconds)
    assert isinstance(found, list)
    return [frame.data.decode().partition(" ")[2] for frame in found]


async def test_a_watcher_gets_its_session_and_who_watches_everything_gets_all() -> None:
    events = Broadcast()
    async with distributing(events):
        with events.watch("a") as one, events.watch(EVERYTHING) as all_of_them:
            publish(events, "a", "1")
            publish(events, "b", "2")
            assert await taken(one) == ["1"]
            assert await taken(all_of_them) == ["1", "2"]
            assert await taken(one, 0.001) == []


async def test_every_watcher_is_given_the_same_bytes_encoded_once() -> None:
    events, encoded = Broadcast(), 0

    def encode(id: str) -> bytes:
        nonlocal encoded
        encoded += 1
        return id.encode()

    async with distributing(events):
        with events.watch("a") as one, events.watch("a") as two, events.watch(EVERYTHING) as three:
            events.publish("a", "a", encode)
            found = [await watcher.next(10) for watcher in (one, two, three)]
    frames = [frame for each in found if isinstance(each, list) for frame in each]
    assert len(frames) == 3
    assert all(frame.data is frames[0].data for frame in frames)
    assert encoded == 1


@pytest.mark.parametrize("limits", [{"max_frames": 3}, {"max_bytes": 40}])
async def test_a_slow_watcher_misses_events_and_costs_no_memory(limits: dict[str, int]) -> None:
    events = Broadcast(**limits)
    with events.watch("a") as slow:
        for number in range(100):
            publish(events, "a", str(number))
        assert len(slow.topic.frames) <= 3
        assert await slow.next(10) == Missed()
        slow.position = slow.topic.lost
        assert (await taken(slow))[-1] == "99"


async def test_who_comes_back_with_an_id_goes_on_there_and_with_a_foreign_id_nowhere() -> None:
    events, other = Broadcast(), Broadcast()
    with events.watch("a") as watcher:
        publish(events, "a", "1")
        first = await watcher.next(10)
        assert isinstance(first, list)
        id = events.id(first[0].number)
    publish(events, "a", "2")
    with events.watch("a") as again:
        number = events.number_of(id)
        assert number is not None
        assert [frame.data for frame in again.topic.after(number) or ()] == [f"{events.id(number + 1)} 2".encode()]
    wrong = ("", "x", other.id(1), events.id(number + 2), f"{id}0")
    assert [events.number_of(each) for each in wrong] == [None] * 5


async def test_what_erases_a_conversation_takes_its_earlier_events_away() -> None:
    events = Broadcast()
    with events.watch(EVERYTHING) as watcher:
        publish(events, "a", "secret")
        publish(events, "b", "other")
        publish(events, "a", "deleted", erases=True)
        assert await taken(watcher) == ["other", "deleted"]


async def test_what_was_published_before_the_end_is_still_taken() -> None:
    events = Broadcast()
    with events.watch("a") as watcher:
        publish(events, "a", "last")
        events.close()
        assert await taken(watcher) == ["last"]
        assert await watcher.next(10) is None


async def test_topics_with_few_watchers_come_first() -> None:
    events, order, ready = Broadcast(), list[str](), asyncio.Semaphore(0)

    async def watch(session: str) -> None:
        with events.watch(session) as watcher:
            ready.release()
            await watcher.next(10)
            order.append(session)

    tasks = [asyncio.create_task(watch(session)) for session in (*["many"] * 40, "few")]
    for _ in tasks:
        await ready.acquire()
    publish(events, "many", "1")
    publish(events, "few", "1")
    async with distributing(events):
        await asyncio.gather(*tasks)
    assert order == ["few", *["many"] * 40]


async def test_a_topic_without_watchers_is_dropped_after_a_while_and_nobody_goes_on_there() -> None:
    events = Broadcast(warm_seconds=0)
    with events.watch("a") as watcher:
        events.expire()
        assert events.is_watched("a")
        last = watcher.position
    assert events.is_watched("a")
    events.expire()
    assert events.is_idle
    with events.watch("a") as again:
        assert again.topic.after(last) is None
