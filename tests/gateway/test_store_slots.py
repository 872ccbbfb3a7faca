"""The limit for the turns of all workers together, as the store counts them."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest

from channels.address import Address, Sender
from gateway.sessions import session_key
from gateway.store import Store, open_store, turns, workers
from gateway.store.records import Turn
from tests.engines import engines
from tests.gateway.notes import ANN, HERE, SESSION, begin, finish, message, tell

pytestmark = pytest.mark.engines

BEN = Sender("2", "Ben", "ben")
LEASE = 600.0
"""Seconds: nobody dies here."""


def place(number: int) -> Address:
    return replace(HERE, chat=str(100 + number))


async def told(store: Store, number: int, by: Sender = ANN) -> str:
    """A new conversation in which somebody has written; its session."""
    session = session_key(place(number))
    await store.accept(message(f"hi {number}", sender=by, address=place(number)), session)
    return session


async def claimed(store: Store, session: str, total: int) -> Turn:
    turn = await store.claim_slot(session, total)
    assert isinstance(turn, Turn), turn
    return turn


async def test_a_turn_waits_for_one_of_others_to_end_or_to_park(store: Store) -> None:
    one, two, three = [await told(store, number) for number in range(3)]
    first, second = await claimed(store, one, 2), await claimed(store, two, 2)
    assert await store.claim_slot(three, 2) == "full"
    assert await store.claim_slot(three, 2) == "full", "a refusal changes nothing"
    await finish(store, first)
    third = await claimed(store, three, 2)
    await told(store, 4)
    assert await store.claim_slot(session_key(place(4)), 2) == "full"
    assert await store.park(second.id, second.epoch)
    await claimed(store, session_key(place(4)), 2)
    await store.append(third.id, third.epoch, ())


async def test_nothing_to_read_needs_no_room(store: Store) -> None:
    await claimed(store, await told(store, 1), 1)
    assert await store.claim_slot(SESSION, 1) is None


async def test_a_quarter_is_left_to_others_than_the_person_with_the_most(store: Store) -> None:
    sessions = [await told(store, number) for number in range(4)]
    for session in sessions[:3]:
        await claimed(store, session, 4)
    assert await store.claim_slot(sessions[3], 4) == "share"
    await claimed(store, await told(store, 5, BEN), 4)
    assert await store.claim_slot(await told(store, 6, BEN), 4) == "full"


async def test_turns_of_workers_that_are_gone_and_delegated_ones_do_not_count(store: Store) -> None:
    one = await told(store, 1)
    await store.write(lambda connection: workers.enlist(connection, "other", "", "0", LEASE))
    await store.write(lambda connection: turns.claim(connection, "other", one))
    two = await told(store, 2)
    assert await store.claim_slot(two, 1) == "full"
    await store.bury(["other"], expired=False)
    taken = await claimed(store, one, 1)
    assert taken.former_worker == "other"
    child = f"{one}/w/w1"
    await store.accept(message("a task", address=place(1)), child)
    assert (await claimed(store, child, 1)).session == child, "whoever has the slot waits for it"
    assert await store.claim_slot(two, 1) == "full"


async def test_without_a_limit_a_turn_is_claimed_as_ever(store: Store) -> None:
    await tell(store)
    assert (await begin(store)).former_worker is None


@pytest.mark.parametrize("seed", range(3))
async def test_however_many_workers_begin_turns_at_the_same_moment_no_more_run_than_may(
    tmp_path: Path, seed: int
) -> None:
    random, total, most = Random(seed), 3, 0
    url = engines.url(tmp_path / "interject.db")
    running: set[str] = set()
    async with AsyncExitStack() as stack:
        # A file has one worker.
        names = ("a", "b", "c") if engines.kind == "postgresql" else ("a",)
        stores = [await stack.enter_async_context(open_store(url, worker=name, lease=LEASE)) for name in names]
        people = [Sender(str(number), f"P{number}") for number in range(6)]
        sessions = [await told(stores[0], number, random.choice(people)) for number in range(24)]
        freed = asyncio.Event()

        async def run(session: str) -> None:
            nonlocal freed, most
            while True:
                seen = freed
                turn = await random.choice(stores).claim_slot(session, total)
                assert turn is not None
                if isinstance(turn, Turn):
                    break
                await seen.wait()
            running.add(session)
            most = max(most, len(running))
            # Whoever has the epoch may write, by whichever connection.
            await random.choice(stores).append(turn.id, turn.epoch, ())
            running.discard(session)
            await finish(random.choice(stores), turn)
            freed, was = asyncio.Event(), freed
            was.set()

        await asyncio.gather(*map(run, sessions))
    assert most == total
    counted = engines.sql(tmp_path / "interject.db", "SELECT count(*) FROM turns WHERE state = 'completed'")
    assert counted == [(24,)]
