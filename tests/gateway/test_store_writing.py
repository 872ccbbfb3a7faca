"""Concurrent writers, cancelled writers, full disks and killed processes."""

from __future__ import annotations

import asyncio
import gc
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import Connection

from agent.journal import TurnLost
from gateway.store import Store, open_store, workers
from gateway.store.errors import StoreFailed
from tests.gateway.notes import ANSWER, SESSION, begin, first_words, message, tell, url_of

pytestmark = pytest.mark.engines

KILLED = """\
import asyncio, sys
from gateway.store import open_store
from tests.gateway.notes import ANSWER, SESSION, begin, message

async def main():
    async with open_store(sys.argv[1], worker="killed") as store:
        for number in range(100_000):
            await store.accept(message(str(number), event=str(number)), SESSION)
            print("accepted", number, flush=True)
            if number == 5:
                turn = await begin(store)
            if number > 5:
                await store.append(turn.id, turn.epoch, (ANSWER,))
                print("logged", number, flush=True)

asyncio.run(main())
"""


def run_and_kill(url: str, lines: int) -> list[list[str]]:
    """The output of the process, which is killed after so many lines."""
    command = [sys.executable, "-c", KILLED, url]
    root = Path(__file__).parents[2]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=root) as process:
        assert process.stdout is not None
        output = [process.stdout.readline() for _ in range(lines)]
        process.kill()
        output += process.stdout.readlines()
    return [line.split() for line in output if line.endswith("\n")]


async def test_a_thousand_concurrent_messages_stay_in_order(store: Store) -> None:
    arrivals = await asyncio.gather(*(tell(store, str(number)) for number in range(1000)))
    ids = [arrival.id for arrival in arrivals]
    assert ids == sorted(set(ids))
    assert first_words(await begin(store)) == [str(number) for number in range(1000)]


@pytest.mark.engines("sqlite")
async def test_queued_writes_share_a_transaction(store: Store, tmp_path: Path) -> None:
    held, open_ = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()

    def hold(connection: Connection) -> None:
        loop.call_soon_threadsafe(held.set)
        asyncio.run_coroutine_threadsafe(open_.wait(), loop).result(30)

    with closing(sqlite3.connect(tmp_path / "interject.db")) as watcher:
        holding = asyncio.create_task(store.write(hold))
        await held.wait()
        writing = [asyncio.create_task(tell(store, str(number))) for number in range(200)]
        await asyncio.sleep(0)
        seen = {watcher.execute("PRAGMA data_version").fetchone()[0]}
        open_.set()
        await holding
        for arrival in asyncio.as_completed(writing):
            await arrival
            seen.add(watcher.execute("PRAGMA data_version").fetchone()[0])
        assert watcher.execute("SELECT count(*) FROM inbox").fetchone()[0] == 200
    assert len(seen) <= 3


async def test_concurrent_duplicates_are_stored_once(store: Store) -> None:
    arrivals = await asyncio.gather(*(store.accept(message("hi", event="same"), SESSION) for _ in range(100)))
    assert [arrival.duplicate for arrival in arrivals] == [False] + [True] * 99
    assert len({arrival.id for arrival in arrivals}) == 1
    assert await store.count_waiting(SESSION) == 1


async def test_a_failed_write_does_not_affect_others(store: Store) -> None:
    outcomes = await asyncio.gather(
        tell(store, "before"),
        store.append("no such turn", 1, (ANSWER,)),
        tell(store, "after"),
        return_exceptions=True,
    )
    assert isinstance(outcomes[1], TurnLost)
    assert first_words(await begin(store)) == ["before", "after"]


async def test_a_write_that_fails_half_way_is_rolled_back(store: Store) -> None:
    def half(connection: Connection) -> None:
        connection.exec_driver_sql("DELETE FROM inbox")
        raise ValueError("half way")

    await tell(store)
    with pytest.raises(ValueError, match="half way"):
        await store.write(half)
    assert await store.waiting_busy(SESSION)


async def test_the_queued_write_of_a_cancelled_caller_is_written(store: Store) -> None:
    giving_up = [asyncio.create_task(tell(store, str(number))) for number in range(20)]
    await asyncio.sleep(0)
    for task in giving_up[::2]:
        task.cancel()
    await asyncio.gather(*giving_up, return_exceptions=True)
    assert sum(task.cancelled() for task in giving_up) == 10
    assert first_words(await begin(store)) == [str(number) for number in range(20)]


async def test_a_failure_whose_caller_is_gone_is_logged(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    giving_up = asyncio.create_task(store.append("no such turn", 1, (ANSWER,)))
    await asyncio.sleep(0)
    giving_up.cancel()
    await asyncio.gather(giving_up, return_exceptions=True)
    async with asyncio.timeout(60):
        while "after its caller had gone" not in caplog.text:
            await tell(store)
            gc.collect()


async def test_concurrent_claims_get_one_turn_for_each_session(store: Store) -> None:
    await tell(store, "one", "a")
    await tell(store, "two", "b")
    turns = await asyncio.gather(*(store.claim(session) for session in "aabb"))
    assert [turn.session for turn in turns if turn is not None] == ["a", "b"]


async def test_reading_does_not_wait_for_the_writer(store: Store) -> None:
    await tell(store, "hi")
    held, open_ = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()

    def hold(connection: Connection) -> None:
        loop.call_soon_threadsafe(held.set)
        asyncio.run_coroutine_threadsafe(open_.wait(), loop).result(30)

    holding = asyncio.create_task(store.write(hold))
    await held.wait()
    async with asyncio.timeout(60):
        assert [row.text for row in await store.rows(SESSION)] == ["hi"]
    assert not holding.done()
    open_.set()
    await holding


@pytest.mark.engines("sqlite")
async def test_a_full_disk_is_explained_and_the_store_works_again_when_there_is_room(store: Store) -> None:
    def pages(connection: Connection) -> int:
        return int(connection.exec_driver_sql("PRAGMA page_count").scalar_one())

    full = await store.write(pages)
    await store.write(lambda connection: connection.exec_driver_sql(f"PRAGMA max_page_count = {full}").scalar())
    with pytest.raises(StoreFailed, match=r"interject\.db: the disk is full"):
        await tell(store, "x" * 100_000)
    await store.write(lambda connection: connection.exec_driver_sql("PRAGMA max_page_count = 100000").scalar())
    await tell(store, "there is room again")
    assert first_words(await begin(store)) == ["there is room again"]


async def test_queued_writes_are_written_when_the_store_closes_and_later_ones_are_refused(tmp_path: Path) -> None:
    async with open_store(url_of(tmp_path)) as store:
        queued = [asyncio.create_task(tell(store, str(number))) for number in range(50)]
        await asyncio.sleep(0)
    assert len({arrival.id for arrival in await asyncio.gather(*queued)}) == 50
    with pytest.raises(StoreFailed, match="closed"):
        await tell(store)


@pytest.mark.crash
@pytest.mark.parametrize("lines", [1, 12, 200])
async def test_writes_that_returned_before_a_kill_are_there_after_it(tmp_path: Path, lines: int) -> None:
    output = await asyncio.to_thread(run_and_kill, url_of(tmp_path), lines)
    accepted = [number for what, number in output if what == "accepted"]
    logged = [number for what, number in output if what == "logged"]
    async with open_store(url_of(tmp_path), worker="next") as store:
        found = [row.text for row in await store.rows(SESSION)]
        assert found in (accepted, [*accepted, str(len(accepted))])
        if logged:
            # Where it shares the database, its lease runs out first.
            await store.write(lambda connection: workers.leave(connection, "killed"))
            turn = await begin(store)
            assert turn.epoch == 2
            assert sum(entry == ANSWER for entry in turn.entries) - len(logged) in (0, 1)
        again = await store.accept(message(accepted[-1], event=accepted[-1]), SESSION)
        assert again.duplicate
