"""Compares the store on PostgreSQL with that on SQLite, and a large database with a small one.

`python -m benchmarks.postgres [--sessions 100000] [--entries 10000000] [--messages 300]`

It starts a PostgreSQL server of its own on this machine. What is measured:

- the CPU time of this process per message, of a whole gateway with a model that answers at once (without the server's);
- how long accepting a message, claiming its turn and reading the history take, in a database with so many conversations
  and log entries, against one with as many entries in each conversation, and few conversations.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
import time
from collections.abc import Awaitable, Mapping
from functools import partial
from pathlib import Path
from statistics import quantiles
from typing import TypeVar

import psycopg

from agent.log import Ended, ModelAnswered, Text
from agent.models.scripted import ScriptedModel
from channels.address import Address
from channels.memory import MemoryChannel
from gateway.store import open_store
from gateway.store.schema import metadata
from tests.engines import KINDS, Kind, engines
from tests.gateway.notes import message
from tests.gateway.play import inbound, playing

T = TypeVar("T")

SAMPLE = "telegram/bot/sample"
ENTRIES = 10
"""Log entries of a turn in the large database."""

FEW = 500
"""Conversations of the small database."""

PLACES = 30
"""Conversations that are used at once when CPU time is measured."""


async def fill(url: str, conversations: int, entries: int) -> None:
    """Makes conversations of ended turns, with so many log entries in all: copies of one that a store has written."""
    async with open_store(url) as store:
        await store.accept(message("How many are there?"), SAMPLE)
        turn = await store.claim(SAMPLE)
        assert turn is not None
        answers = [ModelAnswered(step, (Text("There are three. " * 20),)) for step in range(1, ENTRIES - 1)]
        await store.close(turn.id, turn.epoch, Ended("completed"), answers)
        await store.sending(turn.id, "1")
        await store.sent(turn.id, "1", "4711", "x" * 32)
        await store.delivered(turn.id)
    copies = max(1, entries // ENTRIES // conversations)
    await asyncio.to_thread(_copy, url, conversations, copies)


def _copy(url: str, conversations: int, copies: int) -> None:
    key, id = "'telegram/bot/c' || s", "md5(s || '/' || t)"
    one, each = f"generate_series(1, {conversations}) s", f"generate_series(1, {copies}) t"
    of_turn = {"id": id, "session": key}
    of_row = {"event_id": "s || '/' || t", "session": key, "turn": id, "run": "NULL", "message_id": "s || '/' || t"}
    with psycopg.connect(url, autocommit=True) as connection:
        # References need no check: they are copied together.
        connection.execute("SET session_replication_role = replica")
        for statement in (
            _copied("sessions", {"key": key}, one),
            _copied("turns", of_turn, f"{one}, {each}"),
            _copied("inbox", of_row, f"{one}, {each}"),
            _copied("outbox", {"reply_id": id}, f"{one}, {each}"),
            "INSERT INTO turn_log SELECT turns.number, sample.n, sample.entry, sample.at FROM turns, turn_log sample "
            "WHERE sample.turn = 1 AND turns.number > 1",
            "VACUUM ANALYZE",
        ):
            connection.execute(statement.encode())


def _copied(table: str, changed: Mapping[str, str], numbers: str) -> str:
    """Copies the only row of a table, with these columns changed."""
    names = [column.name for column in metadata.tables[table].columns if column.identity is None]
    columns = ", ".join(f'"{name}"' for name in names)
    values = ", ".join(changed.get(name, f'sample."{name}"') for name in names)
    return f"INSERT INTO {table} ({columns}) SELECT {values} FROM (SELECT * FROM {table} LIMIT 1) sample, {numbers}"


async def cpu_per_message(kind: Kind, folder: Path, messages: int) -> float:
    """Milliseconds of this process."""
    with engines.of(kind):
        async with playing(folder, ScriptedModel(*["It is."] * messages * 2), bound=3600) as play:
            places = [Address("memory", "me", str(number)) for number in range(PLACES)]

            async def rounds(count: int, before: int) -> None:
                for number in range(1, count + 1):
                    await play.deliver(*(inbound("Is it?", address=place) for place in places))
                    await play.channel.until(partial(_are_done, before + number * PLACES))

            await rounds(2, 0)
            since = time.process_time()
            await rounds(messages // PLACES, 2 * PLACES)
            return (time.process_time() - since) / (messages // PLACES * PLACES) * 1000


def _are_done(count: int, channel: MemoryChannel) -> bool:
    return sum(reply.done for reply in channel.replies.values()) >= count


async def latencies(url: str, among: int, count: int) -> dict[str, list[float]]:
    """Milliseconds of each operation, each time in another conversation of so many, one after the other."""
    found: dict[str, list[float]] = {"accept": [], "claim": [], "history": []}
    async with open_store(url) as store:
        for number in range(count + 20):
            session = f"telegram/bot/c{1 + number * 7919 % among}"
            await _timed(found["accept"], store.accept(message("And now?"), session))
            turn = await _timed(found["claim"], store.claim(session))
            assert turn is not None
            await _timed(found["history"], store.history(session))
            await store.close(turn.id, turn.epoch, Ended("completed"), [ModelAnswered(1, (Text("Now."),))])
    return {name: times[20:] for name, times in found.items()}


async def _timed(times: list[float], doing: Awaitable[T]) -> T:
    since = time.perf_counter()
    result = await doing
    times.append((time.perf_counter() - since) * 1000)
    return result


def _row(name: str, *values: float) -> None:
    sys.stdout.write(f"| {name} | " + " | ".join(f"{value:.2f}" for value in values) + " |\n")


async def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.postgres")
    parser.add_argument("--sessions", type=int, default=100_000)
    parser.add_argument("--entries", type=int, default=10_000_000)
    parser.add_argument("--messages", type=int, default=300)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        cpu = {kind: await cpu_per_message(kind, Path(folder) / kind, given.messages) for kind in KINDS}
    sys.stdout.write("| CPU per message, ms | SQLite | PostgreSQL | ratio |\n|---|---|---|---|\n")
    _row("a message and its answer", cpu["sqlite"], cpu["postgresql"], cpu["postgresql"] / cpu["sqlite"])
    with engines.of("postgresql"):
        small, large = engines.url(Path("small")), engines.url(Path("large"))
        since = time.monotonic()
        await fill(small, FEW, FEW * given.entries // given.sessions)
        await fill(large, given.sessions, given.entries)
        sys.stdout.write(f"\nfilled in {time.monotonic() - since:.0f} s\n\n")
        before, after = (
            await latencies(small, FEW, given.messages),
            await latencies(large, given.sessions, given.messages),
        )
    sys.stdout.write("| p95, ms | small | large | ratio |\n|---|---|---|---|\n")
    for name in before:
        a, b = (quantiles(times[name], n=20)[-1] for times in (before, after))
        _row(name, a, b, b / a)


if __name__ == "__main__":
    asyncio.run(main())
