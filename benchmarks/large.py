"""What the store's operations take in a large database, beside one with few conversations of the same length.

The two are asked alternately. The database files are in the temporary directory, about 0.7 GB for a million log
entries on PostgreSQL. Its server keeps what is written in memory (`fsync` is off), so that the time of the disk, which
is the same for both, hides nothing.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import TypeVar

from agent.log import Ended, ModelAnswered, Text
from benchmarks.contenders import Failed
from benchmarks.meter import percentile
from benchmarks.scenarios import Bench, Scenario
from benchmarks.seeding import seed, session_of
from benchmarks.table import Row, Target
from gateway.store import Store, open_store
from gateway.store.conversation_pages import ListedConversations
from tests.gateway.notes import message
from tests.servers.postgres import MISSING, programs, running

T = TypeVar("T")

LARGE, SMALL = "large", "small"

ENTRIES_EACH = 100
"""Log entries of a conversation."""

SMALL_CONVERSATIONS = 200
"""Conversations of the small database."""

SQLITE_SHARE = 10
"""The SQLite file has one log entry for so many on PostgreSQL."""

SERVER = (
    *("fsync=off", "synchronous_commit=off", "full_page_writes=off", "autovacuum=off"),
    *("wal_level=minimal", "max_wal_senders=0", "max_wal_size=2GB"),
)

WARM_UP = 20
"""Rounds that are not counted."""

AS_SMALL = (Target(1.5, SMALL),)


@dataclass(slots=True)
class Asked:
    """A store of so many conversations, and the milliseconds that each operation took there."""

    store: Store
    conversations: int
    took: dict[str, list[float]] = field(default_factory=dict)

    async def round(self, number: int) -> None:
        """One message with all that the store does for it, in another conversation each time; the pages that people
        open; and what a worker asks every few seconds."""
        store, session = self.store, session_of(1 + number * 7919 % self.conversations)
        await self._timed("accept a message", store.accept(message("And now?"), session))
        turn = await self._timed("claim its turn", store.claim(session))
        if turn is None:
            raise Failed(f"nothing could be claimed in {session}")
        await self._timed("the history that the model is shown", store.history(session))
        await self._timed("end the turn", store.close(turn.id, turn.epoch, Ended("completed"), [_ANSWER]))
        await self._timed("record its delivery", self._deliver(turn.id))
        await self._timed("a page of the history", store.history_page(session))
        await self._timed("a page of the conversations", store.conversation_page(_LISTED, 50))
        await self._timed("look for what other workers left", self._look())

    async def _deliver(self, turn: str) -> None:
        await self.store.sending(turn, "1")
        await self.store.sent(turn, "1", "4711", "x" * 32)
        await self.store.delivered(turn)

    async def _look(self) -> None:
        await self.store.pending()
        await self.store.own_stops()
        await self.store.own_unread()

    async def _timed(self, name: str, doing: Awaitable[T]) -> T:
        since = time.perf_counter()
        result = await doing
        self.took.setdefault(name, []).append(1000 * (time.perf_counter() - since))
        return result


_ANSWER = ModelAnswered(1, (Text("There are still 1200."),))
_LISTED = ListedConversations(("telegram",))


async def on_postgresql(bench: Bench) -> list[Row]:
    """The store on a PostgreSQL server of its own."""
    if programs() is None:
        raise Failed(MISSING)
    # Not in the working directory, where the account of the server may not look.
    with running(SERVER, Path(tempfile.gettempdir())) as server:
        return await _compare(bench, "PostgreSQL", bench.sizes.entries, server.create)


async def on_sqlite(bench: Bench) -> list[Row]:
    """The store in SQLite files."""
    folder = bench.new_home()
    await asyncio.to_thread(folder.mkdir)
    numbers = count(1)
    return await _compare(
        bench,
        "SQLite",
        bench.sizes.entries // SQLITE_SHARE,
        lambda: f"sqlite:///{folder / str(next(numbers))}.db",
    )


async def _compare(bench: Bench, engine: str, entries: int, create: Callable[[], str]) -> list[Row]:
    conversations = max(SMALL_CONVERSATIONS, entries // ENTRIES_EACH)
    async with AsyncExitStack() as stack:
        asked: dict[str, Asked] = {}
        for name, size in ((SMALL, SMALL_CONVERSATIONS), (LARGE, conversations)):
            url, since = create(), time.monotonic()
            written = await seed(url, size, size * ENTRIES_EACH)
            took = time.monotonic() - since
            bench.log(f"{engine}, {name}: {size:,} conversations, {written:,} log entries, written in {took:.0f} s")
            asked[name] = Asked(await stack.enter_async_context(open_store(url)), size)
        for number in range(WARM_UP + bench.sizes.store_rounds):
            if number == WARM_UP:
                for each in asked.values():
                    each.took.clear()
            for name in (SMALL, LARGE) if number % 2 else (LARGE, SMALL):
                await asked[name].round(number)
    small, large = asked[SMALL].took, asked[LARGE].took
    return [
        Row(
            f"{engine}: {operation}, p95",
            "ms",
            percentile(large[operation], 0.95),
            {SMALL: percentile(small[operation], 0.95)},
            AS_SMALL,
            {"": large[operation], SMALL: small[operation]},
        )
        for operation in large
    ]


LARGE_DATABASE: Mapping[str, Scenario] = {"large-postgresql": on_postgresql, "large-sqlite": on_sqlite}
