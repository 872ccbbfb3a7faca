"""The PostgreSQL engine: a few writing threads, each with a connection, and connections that only read.

Writes of one conversation exclude each other across all processes by an advisory lock that lasts as long as their
transaction; writes of different conversations run side by side.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeAlias, TypeVar
from zlib import crc32

from sqlalchemy import URL, Connection, bindparam, select, text
from sqlalchemy import Engine as Database
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from gateway.sessions import conversation_of
from gateway.store.engine import Job
from gateway.store.errors import StoreFailed, StoreUnreachable
from gateway.store.postgres_database import ALL, MAX_IDLE, WRITING, explain, is_lost, open_database
from gateway.store.records import Arrival, Turn
from gateway.store.schema import inbox, turns
from gateway.store.scope import WHOLE, Apart, OfMessage, OfSession, OfTable, OfTurn, Scope, Urgent, Whole
from gateway.store.writer import OnCommitted, Writer, untold

log = logging.getLogger(__name__)

T = TypeVar("T")

_Indirect: TypeAlias = OfTurn | OfMessage
"""What is in a conversation without naming it."""

LANES = 4
"""Writing threads. The writes of one conversation of this process all use the same."""

READERS = 4
"""Connections that read."""

CONNECTIONS = LANES + 1 + READERS
"""One lane more is for what is urgent."""

PATIENCE = 3.0
"""Seconds for which a write is tried again while the server does not answer, as during its restart."""

IDLE_SHARE = 2 / 3
"""Of a lease."""

PAUSE = 0.1
"""Seconds between these attempts."""

MAX_CONFLICTS = 5
"""Attempts for a transaction that the server ends because of others."""

REMEMBERED = 10_000
"""Turns and messages whose conversation is remembered."""

_CONFLICTS = frozenset({"40001", "40P01", "55P03"})
"""SQLSTATE: serialization failure, deadlock, lock not available."""

_sessions_of_turns = select(turns.c.id, turns.c.session).where(turns.c.id.in_(bindparam("ids", expanding=True)))
_sessions_of_rows = select(inbox.c.id, inbox.c.session).where(inbox.c.id.in_(bindparam("ids", expanding=True)))
_begin = "SELECT pg_current_xact_id()::text"
_status = text("SELECT pg_xact_status(CAST(CAST(:id AS text) AS xid8))")


@asynccontextmanager
async def open_postgres(
    url: URL,
    committed: OnCommitted = untold,
    *,
    patience: float = PATIENCE,
    max_idle: float = MAX_IDLE,
    lease: float | None = None,
) -> AsyncIterator[PostgresEngine]:
    """The database at the URL, created or migrated first. `committed` is told of each transaction. While the server
    does not answer, each call is tried again for `patience` seconds; the server ends a transaction that waits for this
    process for longer than `max_idle` seconds, or for most of its `lease`: whoever goes on then waits for none.

    Raises `StoreTooNew`, `StoreCorrupt`, `StoreUnreachable` or `StoreFailed`.
    """
    if lease is not None:
        max_idle = min(max_idle, IDLE_SHARE * lease)
    database = await asyncio.to_thread(open_database, url, CONNECTIONS, max_idle=max_idle)
    server = _Server(database, url, patience)
    try:
        sessions = _Sessions()
        async with AsyncExitStack() as stack:
            closing = threading.Event()
            lanes = [
                await stack.enter_async_context(Writer(_ServerTransactions(server, sessions, closing), committed))
                for _ in range(LANES + 1)
            ]
            stack.callback(closing.set)
            engine = PostgresEngine(server, lanes, sessions)
            try:
                yield engine
            finally:
                await engine.stop_reading()
    finally:
        await asyncio.to_thread(database.dispose)


class PostgresEngine:
    """Implements `gateway.store.engine.Engine`. Made by `open_postgres`."""

    is_shared = True

    def __init__(self, server: _Server, lanes: Sequence[Writer], sessions: _Sessions) -> None:
        self._server = server
        self._lanes = lanes
        self._sessions = sessions
        self._readers = ThreadPoolExecutor(READERS, "store-reader")

    async def write(self, job: Job[T], scope: Scope) -> T:
        return await self._lane(scope).run(job, scope)

    async def read(self, query: Job[T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._readers, self._read, query)

    async def vacuum(self) -> bool:
        await self._lane(WHOLE).run(_vacuum, WHOLE, alone=True)
        return True

    async def stop_reading(self) -> None:
        """Waits for the queries that run; those that wait are given up."""
        await asyncio.shield(asyncio.to_thread(self._readers.shutdown, cancel_futures=True))

    def _lane(self, scope: Scope) -> Writer:
        *lanes, urgent = self._lanes
        match scope:
            case Urgent():
                return urgent
            case Whole():
                name = ""
            case Apart(name) | OfTable(name):
                pass
            case OfSession(key):
                name = conversation_of(key)
            case OfTurn() | OfMessage():
                name = self._sessions.of(scope) or str(scope)
        return lanes[crc32(name.encode("utf-8", "replace")) % len(lanes)]

    def _read(self, query: Job[T]) -> T:
        try:
            return self._server.patiently(partial(self._read_once, query))
        except DBAPIError as error:
            raise self._server.explain(error) from error

    def _read_once(self, query: Job[T]) -> T:
        with self._server.database.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            return query(connection)


class _Sessions:
    """The conversations of turns and messages, as far as they are remembered; used by all threads."""

    def __init__(self) -> None:
        self._known: OrderedDict[_Indirect, str] = OrderedDict()
        self._lock = threading.Lock()

    def of(self, scope: _Indirect) -> str | None:
        with self._lock:
            found = self._known.get(scope)
            if found is not None:
                self._known.move_to_end(scope)
            return found

    def note(self, scope: _Indirect, session: str) -> None:
        with self._lock:
            self._known[scope] = session
            if len(self._known) > REMEMBERED:
                self._known.popitem(last=False)


class _ServerTransactions:
    """Implements `gateway.store.writer.Transactions` on a connection of its own."""

    def __init__(self, server: _Server, sessions: _Sessions, closing: threading.Event) -> None:
        self._server = server
        self._sessions = sessions
        self._closing = closing

    def run(self, jobs: Sequence[tuple[Job[Any], Scope]]) -> list[Any]:
        conflicts = 0
        while True:
            try:
                return self._server.patiently(partial(self._run_once, jobs))
            except DBAPIError as error:
                conflicts += 1
                if conflicts == MAX_CONFLICTS or getattr(error.orig, "sqlstate", None) not in _CONFLICTS:
                    raise
                log.debug("a transaction is run again: %s", error.orig)

    def run_alone(self, job: Job[T]) -> T:
        with self._server.database.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            return job(connection)

    def explain(self, error: DBAPIError) -> StoreFailed:
        return self._server.explain(error)

    def _run_once(self, jobs: Sequence[tuple[Job[Any], Scope]]) -> list[Any]:
        with self._server.database.connect() as connection:
            transaction = connection.begin()
            known = self._conversations_of(connection, [scope for _, scope in jobs])
            number = self._lock(connection, [scope for _, scope in jobs], known)
            results = [job(connection) for job, _ in jobs]
            try:
                transaction.commit()
            except SQLAlchemyError as error:
                if not is_lost(error) or not self._is_committed(number):
                    raise
        # Only now: what is queued later may go to another thread, and must not overtake.
        for scope, session in (known | _made_in(results)).items():
            self._sessions.note(scope, session)
        return results

    def _lock(self, connection: Connection, scopes: Sequence[Scope], known: Mapping[_Indirect, str]) -> str:
        """Waits until nobody else writes in these scopes, until the transaction ends. The transaction's number."""
        locks: list[str]
        if all(isinstance(scope, Urgent) for scope in scopes):
            locks = []
        elif any(isinstance(scope, Whole) for scope in scopes):
            locks = [f"pg_advisory_xact_lock({WRITING}, {ALL})"]
        else:
            names = set(known.values())
            names |= {conversation_of(scope.key) for scope in scopes if isinstance(scope, OfSession)}
            names |= {f"person {scope.person}" for scope in scopes if isinstance(scope, OfSession) and scope.person}
            names |= {f"table {scope.name}" for scope in scopes if isinstance(scope, OfTable)}
            numbers = sorted(set(map(_number, names)))
            locks = [
                f"pg_advisory_xact_lock_shared({WRITING}, {ALL})",
                *(f"pg_advisory_xact_lock({WRITING}, {number})" for number in numbers),
            ]
        number: str = connection.exec_driver_sql(", ".join((_begin, *locks))).scalar_one()
        return number

    def _conversations_of(self, connection: Connection, scopes: Sequence[Scope]) -> dict[_Indirect, str]:
        """The conversations of the turns and messages in these scopes. One in which something goes on never changes, so
        what is looked up without a lock stands."""
        found = dict[_Indirect, str]()
        unknown = set[_Indirect]()
        for scope in scopes:
            if isinstance(scope, OfTurn | OfMessage):
                session = self._sessions.of(scope)
                unknown.add(scope) if session is None else found.update({scope: session})
        for make, query in ((OfTurn, _sessions_of_turns), (OfMessage, _sessions_of_rows)):
            ids = [scope.id for scope in unknown if isinstance(scope, make)]
            for id, session in connection.execute(query, {"ids": ids}) if ids else ():
                found[make(id)] = conversation_of(session)
        return found

    def _is_committed(self, number: str) -> bool:
        """Whether the transaction is committed whose connection was lost when it should be; waits until the
        server says so, or the store closes. Raises `DBAPIError` or `StoreUnreachable`."""

        def ask() -> str | None:
            with self._server.database.connect() as connection:
                return connection.execute(_status, {"id": number}).scalar()

        while True:
            try:
                status = self._server.patiently(ask)
            except StoreUnreachable:
                # Nothing may be said about the write before that is known.
                if self._closing.is_set():
                    raise
                continue
            if status == "in progress":
                time.sleep(PAUSE)
                continue
            log.warning("the connection to the database was lost during a commit; the server says: %s", status)
            return status == "committed"


@dataclass(frozen=True, slots=True)
class _Server:
    """The database, and for how many seconds a call is tried again while it cannot be reached."""

    database: Database
    url: URL
    patience: float

    def patiently(self, attempt: Callable[[], T]) -> T:
        """The result; tries again for a while when the connection is lost. Raises `StoreUnreachable`."""
        until = time.monotonic() + self.patience
        while True:
            try:
                return attempt()
            except SQLAlchemyError as error:
                if not is_lost(error):
                    raise
                if time.monotonic() > until:
                    raise StoreUnreachable(str(explain(self.url, error))) from error
                time.sleep(PAUSE)

    def explain(self, error: DBAPIError) -> StoreFailed:
        return explain(self.url, error)


def _made_in(results: Sequence[Any]) -> dict[_Indirect, str]:
    """The conversations of the turns and messages that these results of jobs tell of, so that nobody has to ask."""
    found = dict[_Indirect, str]()
    for result in results:
        for each in result if isinstance(result, tuple) and len(result) == 2 else (result,):
            match each:
                case Turn(id=id, session=session):
                    found[OfTurn(id)] = conversation_of(session)
                case Arrival(id=row, session=session, duplicate=False):
                    found[OfMessage(row)] = conversation_of(session)
                case _:
                    pass
    return found


def _number(name: str) -> int:
    """The number of the lock of a conversation or a table, from 1 to 2^31 - 1. Those that share one only wait
    longer."""
    return crc32(name.encode("utf-8", "replace")) % 0x7FFFFFFE + 1


def _vacuum(connection: Connection) -> None:
    connection.exec_driver_sql("VACUUM")
