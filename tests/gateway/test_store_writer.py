"""The order of writes of one conversation where another process holds them up, for each moment at which it ends."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, TypeVar, cast

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from gateway.store.engine import Job
from gateway.store.errors import StoreFailed
from gateway.store.scope import OfSession, Scope
from gateway.store.writer import LATER, Writer

T = TypeVar("T")

HELD, FREE = OfSession("telegram/bot/held"), OfSession("telegram/bot/free")


class Held:
    """`gateway.store.writer.Transactions` in which another process holds `HELD` up in as many transactions as
    `moments` has, the last of them too; each moment is called in its transaction."""

    def __init__(self, *moments: Callable[[], None]) -> None:
        self._moments = list(moments)

    def run(self, jobs: Sequence[tuple[Job[Any], Scope]], *, again: bool) -> list[Any]:
        is_held = bool(self._moments) and any(scope == HELD for _, scope in jobs)
        connection = cast("Connection", None)
        results = [LATER if is_held and scope == HELD else job(connection) for job, scope in jobs]
        if is_held:
            self._moments.pop(0)()
        return results

    def run_alone(self, job: Job[T]) -> T:
        raise AssertionError("nothing is written alone")

    def explain(self, error: DBAPIError) -> StoreFailed:
        raise AssertionError("there is no database")


class Writes:
    """What is written, in its order."""

    def __init__(self) -> None:
        self.done: list[int] = []
        self.futures: list[asyncio.Future[None]] = []
        self._loop = asyncio.get_running_loop()

    async def queue(self, writer: Writer, number: int, scope: Scope, error: Exception | None = None) -> None:
        def job(_: Connection) -> None:
            if error is not None:
                raise error
            self.done.append(number)

        self.futures.append(self._loop.create_future())
        await writer.queue(job, scope, self.futures[-1])

    async def results(self) -> list[BaseException | None]:
        async with asyncio.timeout(20):
            return await asyncio.gather(*self.futures, return_exceptions=True)


async def test_what_is_queued_behind_a_write_that_is_held_up_does_not_overtake_it_when_that_ends() -> None:
    writes, loop = Writes(), asyncio.get_running_loop()

    def second_comes() -> None:
        asyncio.run_coroutine_threadsafe(writes.queue(writer, 2, HELD), loop).result(20)

    # The first is held up twice; the second comes meanwhile, when it has just been tried again.
    async with Writer(Held(lambda: None, second_comes)) as writer:
        await writes.queue(writer, 1, HELD)
        while len(writes.futures) < 2:  # noqa: ASYNC110 - the writer's thread calls
            await asyncio.sleep(0)
        assert await writes.results() == [None, None]
    assert writes.done == [1, 2]


async def test_of_writes_that_are_run_singly_none_overtakes_one_that_is_held_up() -> None:
    writes, failure = Writes(), ValueError("this one fails")
    writer = Writer(Held(lambda: None))
    # All are queued before the first transaction, which fails for one of them.
    await writes.queue(writer, 1, FREE)
    await writes.queue(writer, 2, HELD)
    await writes.queue(writer, 3, HELD)
    await writes.queue(writer, 4, FREE, failure)
    async with writer:
        assert await writes.results() == [None, None, None, failure]
    assert writes.done[-2:] == [2, 3]
