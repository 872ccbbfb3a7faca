"""Fills a database with conversations of ended turns: copies of two that the store has written, with ids, people and
times of their own. Turns of all conversations alternate, as they do in time."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

import psycopg
from psycopg.types.string import TextLoader

from agent.log import Call, CallEnded, CallStarted, Ended, Entry, ModelAnswered, Text, Usage
from agent.media import Attachment
from gateway.store import open_store
from gateway.store.schema import metadata
from tests.gateway.notes import HERE, SESSION, message

CALLS = 5
"""Tool calls of the longer one of the two turns."""

ENTRIES = 3 + 3 + 3 * CALLS
"""Log entries of both turns together."""

FIRST = 1000
"""Numbers of copied turns and messages begin here; those below are the samples'."""

BEGUN = 1_760_000_000.0
"""When the first copied turn was begun, in seconds since 1970."""

BETWEEN = 20.0
"""Seconds between the beginnings of two turns."""

TABLES = ("sessions", "turns", "inbox", "turn_log", "outbox", "usage", "media_uses")
_TIMES = frozenset({"started_at", "ended_at", "sent_at", "received_at", "at"})
_BATCH = 10_000

Values = Sequence[Any]


class Database(Protocol):
    """A database whose rows are read and written as they are, JSON as text."""

    def read(self, statement: str) -> Sequence[Values]: ...
    def write(self, table: str, columns: Sequence[str], rows: Iterable[Values]) -> None: ...
    def finish(self) -> None:
        """Ids that are given from now on follow those that were written, and the planner knows of the tables what it
        knows of those of a gateway."""

    def close(self) -> None: ...


async def seed(url: str, conversations: int, entries: int) -> int:
    """Makes so many conversations, see `session_of`, with about so many log entries in all. Returns how many there
    are. Every conversation has as many turns: at least two, one with tool calls and one without."""
    await _play_samples(url)
    pairs = max(1, round(entries / ENTRIES / conversations))
    await asyncio.to_thread(_copy, url, conversations, 2 * pairs)
    return conversations * pairs * ENTRIES


def session_of(number: int) -> str:
    """The session of conversation `number`, from 1 on."""
    return f"telegram/bot/{_chat(number)}"


def _chat(number: int) -> str:
    return str(10_000_000 + number)


async def _play_samples(url: str) -> None:
    plain: list[Entry] = [_answer(1)]
    busy: list[Entry] = []
    for step in range(1, CALLS + 1):
        call = Call(f"call{step}", "read_file", '{"path": "stock/warehouse-3/shelves.csv"}')
        files = (Attachment("ab" * 32, "stock.png", "image/png", 120_000, 800, 600),) if step == CALLS else ()
        rows = "shelf,article,count\n" + "A17,screws M4,1200\n" * 25
        busy += [_answer(step, call), CallStarted(call.id), CallEnded(call.id, "done", rows, files)]
    async with open_store(url) as store:
        for number, entries in enumerate((plain, [*busy, _answer(CALLS + 1)]), 1):
            await store.accept(message("How many screws are there in the third warehouse?"), SESSION)
            turn = await store.claim(SESSION)
            assert turn is not None
            await store.close(turn.id, turn.epoch, Ended("completed"), entries)
            await store.sending(turn.id, "1")
            await store.sent(turn.id, "1", f"47{number}", "x" * 32)
            await store.delivered(turn.id)


def _answer(step: int, *calls: Call) -> ModelAnswered:
    text = "I look at the next shelf." if calls else "There are 1200 screws of this kind on shelf A17. " * 8
    return ModelAnswered(step, (Text(text), *calls), Usage(1800, 90, cost=0.004), "openai:gpt-5")


@dataclass(frozen=True, slots=True)
class _Copy:
    """One turn of a conversation, with the message that it has read; `number` is that of both."""

    number: int
    chat: str
    sample: int

    @property
    def id(self) -> str:
        # Spread as real ids are.
        return f"{self.number * 0x9E3779B97F4A7C15 % (1 << 64):016x}{self.number:016x}"

    @property
    def at(self) -> float:
        return BEGUN + BETWEEN * (self.number - FIRST)


def _copies(conversations: int, turns: int) -> Iterator[_Copy]:
    number = FIRST
    for turn in range(turns):
        for conversation in range(1, conversations + 1):
            yield _Copy(number, _chat(conversation), turn % 2)
            number += 1


def _copy(url: str, conversations: int, turns: int) -> None:
    with closing(_database(url)) as database:
        for table in TABLES:
            columns = _columns(table)
            samples = _samples(database, table, columns)
            if table == "sessions":
                rows = _sessions(samples[0][0], columns, conversations, turns)
            else:
                rows = _rows(table, columns, samples, _copies(conversations, turns))
            database.write(table, columns, rows)
        database.finish()


def _columns(table: str) -> list[str]:
    """All but an id that nobody refers to."""
    columns = metadata.tables[table].columns
    return [column.name for column in columns if column.identity is None or table in ("turns", "inbox")]


def _samples(database: Database, table: str, columns: Sequence[str]) -> list[Sequence[Values]]:
    """The rows of the samples, by turn."""
    names = ", ".join(f'{table}."{name}"' for name in columns)
    if table == "sessions":
        return [database.read(f"SELECT {names} FROM sessions")]
    joined = {
        "turns": "turns.number",
        "inbox": "(SELECT number FROM turns WHERE turns.id = inbox.turn)",
        "turn_log": "turn_log.turn",
        "outbox": "(SELECT number FROM turns WHERE turns.id = outbox.reply_id)",
        "usage": "(SELECT number FROM turns WHERE turns.id = usage.turn)",
        "media_uses": "media_uses.turn",
    }[table]
    order = " ORDER BY n" if table == "turn_log" else ""
    return [database.read(f"SELECT {names} FROM {table} WHERE {joined} = {number}{order}") for number in (1, 2)]


def _sessions(sample: Values, columns: Sequence[str], conversations: int, turns: int) -> Iterator[Values]:
    for number in range(1, conversations + 1):
        last = _Copy(FIRST + (turns - 1) * conversations + number - 1, _chat(number), 0).at
        changed = {"key": session_of(number), "created_at": BEGUN, "last_at": last}
        yield [
            changed[name] if name in changed else _elsewhere(value, _chat(number))
            for name, value in zip(columns, sample, strict=True)
        ]


def _rows(
    table: str, columns: Sequence[str], samples: Sequence[Sequence[Values]], copies: Iterable[_Copy]
) -> Iterator[Values]:
    """The rows of each copy. Only the places that differ are filled in: there are tens of millions of values."""
    fills = [(columns.index(name), fill) for name, fill in _FILLS[table].items()]
    times = [place for place, name in enumerate(columns) if name in _TIMES]
    placed = [place for place, name in enumerate(columns) if name == "address"]
    for copy in copies:
        for sample in samples[copy.sample]:
            row = list(sample)
            for place, fill in fills:
                row[place] = fill(copy)
            for place in times:
                row[place] = copy.at
            for place in placed:
                row[place] = _elsewhere(row[place], copy.chat)
            yield row


def _elsewhere(value: Any, chat: str) -> Any:
    """An address of the sample, in another chat."""
    return value.replace(f'"{HERE.chat}"', f'"{chat}"') if isinstance(value, str) else value


def _id(copy: _Copy) -> str:
    return copy.id


def _number(copy: _Copy) -> int:
    return copy.number


def _session(copy: _Copy) -> str:
    return f"telegram/bot/{copy.chat}"


_FILLS: Mapping[str, Mapping[str, Callable[[_Copy], Any]]] = {
    "turns": {"number": _number, "id": _id, "session": _session},
    "inbox": {
        "id": _number,
        "event_id": lambda copy: str(copy.number),
        "session": _session,
        "run": lambda copy: f"f{copy.id[1:]}",
        "message_id": lambda copy: str(copy.number),
        "sender_id": lambda copy: copy.chat,
        "turn": _id,
    },
    "turn_log": {"turn": _number},
    "outbox": {"reply_id": _id},
    "usage": {"session": _session, "turn": _id, "root": _id, "person": lambda copy: f"telegram:{copy.chat}"},
    "media_uses": {"turn": _number, "hash": lambda copy: 2 * copy.id},
}
"""What differs between the copies, besides times and addresses."""


def _database(url: str) -> Database:
    return _File(Path(url.removeprefix("sqlite:///"))) if url.startswith("sqlite:///") else _Server(url)


class _Server:
    """A PostgreSQL database, of which the user of the URL is the superuser."""

    def __init__(self, url: str) -> None:
        self._connection = psycopg.connect(url, autocommit=True)
        self._connection.adapters.register_loader("jsonb", TextLoader)
        # References need no check: both ends are copied.
        self._connection.execute("SET session_replication_role = replica")

    def read(self, statement: str) -> Sequence[Values]:
        return self._connection.execute(statement.encode()).fetchall()

    def write(self, table: str, columns: Sequence[str], rows: Iterable[Values]) -> None:
        names = ", ".join(f'"{name}"' for name in columns)
        with self._connection.cursor() as cursor, cursor.copy(f"COPY {table} ({names}) FROM STDIN".encode()) as copy:
            for row in rows:
                copy.write_row(row)

    def finish(self) -> None:
        for table, column in (("turns", "number"), ("inbox", "id")):
            self._connection.execute(
                f"SELECT setval(pg_get_serial_sequence('{table}', '{column}'), max({column})) FROM {table}".encode()
            )
        self._connection.execute("VACUUM ANALYZE")

    def close(self) -> None:
        self._connection.close()


class _File:
    """A SQLite file."""

    def __init__(self, file: Path) -> None:
        self._connection = sqlite3.connect(file)
        self._connection.execute("PRAGMA foreign_keys = off")

    def read(self, statement: str) -> Sequence[Values]:
        return self._connection.execute(statement).fetchall()

    def write(self, table: str, columns: Sequence[str], rows: Iterable[Values]) -> None:
        names, places = ", ".join(f'"{name}"' for name in columns), ", ".join("?" * len(columns))
        statement, remaining = f"INSERT INTO {table} ({names}) VALUES ({places})", iter(rows)
        while batch := list(islice(remaining, _BATCH)):
            with self._connection:
                self._connection.executemany(statement, batch)

    def finish(self) -> None:
        pass

    def close(self) -> None:
        self._connection.close()
