"""The SQLite engine: one file, one writing thread, and a few connections that only read."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from agent.interrupt import shielded
from gateway.store.engine import Job
from gateway.store.errors import StoreFailed
from gateway.store.prepared import KnownStatements, PreparingConnection, Rows
from gateway.store.scope import WHOLE, Scope
from gateway.store.sqlite_file import database_path, explain, locked, open_current, prepare_reading, vacuum
from gateway.store.writer import OnCommitted, Writer, untold

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncEngine

T = TypeVar("T")

READERS = 2
"""Connections that read."""


@asynccontextmanager
async def open_sqlite(url: str, committed: OnCommitted = untold) -> AsyncIterator[SqliteEngine]:
    """The database at a URL like `sqlite:////var/lib/interject/interject.db`, created or migrated first.
    `committed` is told of each transaction.

    Raises `StoreBusy`, `StoreCorrupt`, `StoreTooNew` or `StoreFailed`.
    """
    path = database_path(url)
    with locked(path):
        writing = await asyncio.to_thread(open_current, path)
        try:
            with PreparingConnection(writing, KnownStatements(), run_sql) as connection:
                async with Writer(_FileTransactions(path, connection), committed) as writer:
                    engine = SqliteEngine(path, writer)
                    try:
                        yield engine
                    finally:
                        await engine.stop_reading()
        finally:
            writing.dispose()


def run_sql(driver: sqlite3.Connection, sql: str, arguments: Sequence[Sequence[Any]], *, gives_rows: bool) -> Rows:
    """See `gateway.store.prepared.RunSql`."""
    one = arguments[0] if len(arguments) == 1 else None
    cursor = driver.executemany(sql, arguments) if one is None else driver.execute(sql, one)
    rows = cursor.fetchall()
    return cursor.description, lambda: cursor.rowcount, rows


class _FileTransactions:
    """Implements `gateway.store.writer.Transactions`. There is one writer, so scopes exclude nothing."""

    def __init__(self, path: Path, connection: Connection) -> None:
        self._path = path
        self._connection = connection

    def run(self, jobs: Sequence[tuple[Job[Any], Scope]], *, again: bool) -> list[Any]:
        with self._connection.begin():
            return [job(self._connection) for job, _ in jobs]

    def run_alone(self, job: Job[T]) -> T:
        return job(self._connection)

    def explain(self, error: DBAPIError) -> StoreFailed:
        return explain(self._path, error)


class SqliteEngine:
    """Implements `gateway.store.engine.Engine`. Made by `open_sqlite`."""

    is_shared = False

    def __init__(self, path: Path, writer: Writer) -> None:
        self._path = path
        self._writer = writer
        self._readers: AsyncEngine | None = None

    async def write(self, job: Job[T], scope: Scope) -> T:
        return await self._writer.run(job, scope)

    async def read(self, query: Job[T]) -> T:
        if self._readers is None:
            self._readers = _open_readers(self._path)
        # A connection that is being opened for a caller who goes away would never be closed.
        return await shielded(self._read(self._readers, query))

    async def _read(self, readers: AsyncEngine, query: Job[T]) -> T:
        try:
            async with readers.connect() as connection:
                return await connection.run_sync(query)
        except DBAPIError as error:
            raise explain(self._path, error) from error

    async def vacuum(self) -> bool:
        return await self._writer.run(vacuum, WHOLE, alone=True)

    async def stop_reading(self) -> None:
        if self._readers is not None:
            await self._readers.dispose()


def _open_readers(path: Path) -> AsyncEngine:
    # Loaded with the first query, because loading it takes as long as opening the store.
    from sqlalchemy.ext.asyncio import create_async_engine

    engine = create_async_engine(
        f"sqlite+aiosqlite:///{path}",
        pool_size=READERS,
        max_overflow=0,
        isolation_level="AUTOCOMMIT",
        skip_autocommit_rollback=True,
    )
    prepare_reading(engine.sync_engine)
    return engine
