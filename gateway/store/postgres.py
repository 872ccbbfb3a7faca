"""The PostgreSQL engine: a few writing threads, each with a connection, and connections that only read.

Writes of one conversation exclude each other across all processes by an advisory lock that lasts as long as their
transaction; writes of different conversations run side by side, in several threads when one is not enough: a
transaction costs as much processor time as a few of the writes in it.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections import OrderedDict, deque
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar
from uuid import uuid4
from zlib import crc32

from sqlalchemy import URL, Connection, bindparam, select, text
from sqlalchemy import Engine as Database
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from gateway.sessions import conversation_of
from gateway.store import transaction_marks
from gateway.store.engine import Job
from gateway.store.errors import StoreFailed, StoreUnreachable
from gateway.store.postgres_database import ALL, MAX_IDLE, WRITING, connect_directly, explain, is_lost, open_database
from gateway.store.prepared import KnownStatements, PreparingConnection, Rows
from gateway.store.records import Arrival, Turn
from gateway.store.schema import inbox, turns
from gateway.store.scope import WHOLE, Apart, OfMessage, OfSession, OfTable, OfTurn, Scope, Urgent, Whole, group_of
from gateway.store.writer import LATER, OnCommitted, Writer, untold

if TYPE_CHECKING:
    # psycopg may be missing, which is told when a database is opened.
    from gateway.store.postgres_driver import DirectConnection

log = logging.getLogger(__name__)

T = TypeVar("T")

_Indirect: TypeAlias = OfTurn | OfMessage
"""What is in a conversation without naming it."""

LANES = 4
"""Writing threads. The writes of one conversation of this process follow one another in one of them."""

GATHERED = 64
"""Writes that wait for one lane before the next is used, so that few transactions commit many."""

SLOW = 0.02
"""Seconds after which no more writes are to wait for the transaction of a lane, while there are other lanes."""

HELD_WAIT = 0.05
"""Seconds for which a lane waits for a conversation in which another process writes, before it goes on with others."""

READERS = 4
"""Connections that read."""

CONNECTIONS = LANES + 1 + READERS
"""One lane more is for what is urgent, and for finding the conversations of turns and messages."""

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

_LOCK_NOT_AVAILABLE = "55P03"
_CONFLICTS = frozenset({"40001", "40P01", _LOCK_NOT_AVAILABLE})
"""SQLSTATE: serialization failure, deadlock, lock not available."""

_NOT_GIVEN = "22023"
"""SQLSTATE (invalid parameter value) where the server is asked for a transaction whose number it has not given to any:
it has crashed before it had written down that it gave it."""

_sessions_of_turns = select(turns.c.id, turns.c.session).where(turns.c.id.in_(bindparam("ids", expanding=True)))
_sessions_of_rows = select(inbox.c.id, inbox.c.session).where(inbox.c.id.in_(bindparam("ids", expanding=True)))
_NUMBER = "SELECT pg_current_xact_id()::text"
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
    await asyncio.to_thread(_make_current, url, max_idle)
    server = _Server(
        connect_directly(url, LANES + 1, autocommit=False, max_idle=max_idle),
        connect_directly(url, READERS, autocommit=True, max_idle=max_idle),
        url,
        patience,
    )
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
                await engine.write(transaction_marks.forget_old, Apart("transaction-marks"))
                yield engine
            finally:
                await engine.stop()
    finally:
        await asyncio.to_thread(server.dispose)


def _make_current(url: URL, max_idle: float) -> None:
    open_database(url, 1, max_idle=max_idle).dispose()


@dataclass(frozen=True, slots=True)
class _Waiting:
    """A write that waits until the conversation is known of it, or of one before it."""

    job: Job[Any]
    scope: Scope
    future: asyncio.Future[Any]


class PostgresEngine:
    """Implements `gateway.store.engine.Engine`. Made by `open_postgres`."""

    is_shared = True

    def __init__(self, server: _Server, lanes: Sequence[Writer], sessions: _Sessions) -> None:
        self._server = server
        *self._lanes, self._urgent = lanes
        self._sessions = sessions
        self._readers = ThreadPoolExecutor(READERS, "store-reader")
        self._waiting = deque[_Waiting]()
        self._finding: asyncio.Task[None] | None = None

    async def write(self, job: Job[T], scope: Scope) -> T:
        if isinstance(scope, OfSession | OfTurn | OfMessage):
            found = self._sessions.found(scope)
            if self._waiting or not isinstance(found, OfSession):
                return await self._write_when_found(job, scope)
            scope = found
        return await self._lane(scope).run(job, scope)

    async def read(self, query: Job[T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._readers, self._read, query)

    async def vacuum(self) -> bool:
        await self._lane(WHOLE).run(_vacuum, WHOLE, alone=True)
        return True

    async def stop(self) -> None:
        """Queues the writes that wait to be, and waits for the queries that run; those that wait are given up."""
        if self._finding is not None:
            await asyncio.shield(self._finding)
        await asyncio.shield(asyncio.to_thread(self._readers.shutdown, cancel_futures=True))

    async def _write_when_found(self, job: Job[T], scope: Scope) -> T:
        """Queues the write in the lane of its conversation, behind those that wait already: of which conversation they
        are is not known yet."""
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._waiting.append(_Waiting(job, scope, future))
        if self._finding is None:
            self._finding = asyncio.create_task(self._queue_waiting())
        return await future

    async def _queue_waiting(self) -> None:
        try:
            while self._waiting:
                await self._queue_next(len(self._waiting))
        finally:
            self._finding = None

    async def _queue_next(self, count: int) -> None:
        """Queues the first writes of those that wait, so many."""
        scopes = [each.scope for each in islice(self._waiting, count)]
        failed: Exception | None = None
        try:
            await self._find(scopes)
        except Exception as error:  # noqa: BLE001  # whatever it is goes to those who wait
            failed = error
        for _ in range(count):
            each = self._waiting[0]
            try:
                scope = self._sessions.found(each.scope)
                if failed is not None and not isinstance(scope, OfSession):
                    raise failed
                await self._lane(scope).queue(each.job, scope, each.future)
            except Exception as error:  # noqa: BLE001  # it goes to the caller, and must not keep the others waiting
                if not each.future.done():
                    each.future.set_exception(error)
                else:
                    log.error("a write failed after its caller had gone: %s", error)
            self._waiting.popleft()

    async def _find(self, scopes: Iterable[Scope]) -> None:
        """Remembers the conversations of the turns and messages in these scopes. One in which something goes on never
        changes, so what is found without a lock stands."""
        unknown = {scope for scope in map(self._sessions.found, scopes) if isinstance(scope, OfTurn | OfMessage)}
        if unknown:
            for scope, session in (await self._urgent.run(partial(_conversations_of, unknown), Urgent())).items():
                self._sessions.note(scope, session)

    def _lane(self, scope: Scope) -> Writer:
        """Where the write is queued: behind others of its group, else in the first lane that is not loaded."""
        if isinstance(scope, Urgent):
            return self._urgent
        lanes, group = self._lanes, group_of(scope)
        for lane in lanes:
            if lane.has(group):
                return lane
        for lane in lanes:
            if lane.waiting < GATHERED and lane.busy_for < SLOW:
                return lane
        return min(lanes, key=lambda lane: lane.waiting)

    def _read(self, query: Job[T]) -> T:
        try:
            return self._server.patiently(partial(self._read_once, query))
        except DBAPIError as error:
            raise self._server.explain(error) from error

    def _read_once(self, query: Job[T]) -> T:
        with self._server.reading.connect() as connection:
            return query(connection)


class _Sessions:
    """The conversations of turns and messages, as far as they are remembered; used by all threads."""

    def __init__(self) -> None:
        self._known: OrderedDict[_Indirect, str] = OrderedDict()
        self._lock = threading.Lock()

    def found(self, scope: Scope) -> Scope:
        """That of the conversation, for one of a turn or a message whose conversation is remembered."""
        if isinstance(scope, OfSession):
            key = conversation_of(scope.key)
            return scope if key == scope.key else replace(scope, key=key)
        if not isinstance(scope, OfTurn | OfMessage):
            return scope
        with self._lock:
            session = self._known.get(scope)
            if session is None:
                return scope
            self._known.move_to_end(scope)
            return OfSession(session)

    def note(self, scope: _Indirect, session: str) -> None:
        with self._lock:
            self._known[scope] = session
            if len(self._known) > REMEMBERED:
                self._known.popitem(last=False)


def run_sql(driver: DirectConnection, sql: str, arguments: Sequence[Sequence[Any]], *, gives_rows: bool) -> Rows:
    """See `gateway.store.prepared.RunSql`."""
    if gives_rows:
        (one,) = arguments
        description, count, rows = driver.run(sql, one)
        return description, lambda: count, rows
    changed = [driver.run_later(sql, each) for each in arguments]
    return None, lambda: sum(each() for each in changed), ()


class _ServerTransactions:
    """Implements `gateway.store.writer.Transactions` on a connection of its own."""

    def __init__(self, server: _Server, sessions: _Sessions, closing: threading.Event) -> None:
        self._server = server
        self._sessions = sessions
        self._closing = closing
        self._statements = KnownStatements()
        self._writer = uuid4().hex

    def run(self, jobs: Sequence[tuple[Job[Any], Scope]], *, again: bool) -> list[Any]:
        conflicts = 0
        while True:
            try:
                return self._server.patiently(partial(self._run_once, jobs, wait=again))
            except DBAPIError as error:
                conflicts += 1
                if conflicts == MAX_CONFLICTS or getattr(error.orig, "sqlstate", None) not in _CONFLICTS:
                    raise
                log.debug("a transaction is run again: %s", error.orig)

    def run_alone(self, job: Job[T]) -> T:
        with self._server.writing.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            return job(connection)

    def explain(self, error: DBAPIError) -> StoreFailed:
        return self._server.explain(error)

    def _run_once(self, jobs: Sequence[tuple[Job[Any], Scope]], *, wait: bool) -> list[Any]:
        with PreparingConnection(self._server.writing, self._statements, run_sql) as connection:
            transaction = connection.begin()
            try:
                number, held = _begin(connection, [scope for _, scope in jobs], wait=wait)
            except DBAPIError as error:
                if wait and getattr(error.orig, "sqlstate", None) == _LOCK_NOT_AVAILABLE:
                    return [LATER] * len(jobs)
                raise
            results = [LATER if group_of(scope) in held else job(connection) for job, scope in jobs]
            mark = uuid4().hex
            transaction_marks.note(connection, self._writer, mark)
            try:
                transaction.commit()
            except SQLAlchemyError as error:
                if not is_lost(error) or not self._is_committed(number, mark):
                    raise
        for scope, session in _made_in(results):
            self._sessions.note(scope, session)
        return results

    def _is_committed(self, number: str, mark: str) -> bool:
        """Whether the transaction is committed whose connection was lost when it should be; waits until the
        server says so, or the store closes. Raises `DBAPIError` or `StoreUnreachable`."""

        def ask() -> bool | None:
            """None while it is in progress: the server has not noticed that its connection is lost."""
            try:
                with self._server.writing.connect() as connection:
                    if connection.execute(_status, {"id": number}).scalar() == "in progress":
                        return None
                    return transaction_marks.is_last(connection, self._writer, mark)
            except DBAPIError as error:
                if getattr(error.orig, "sqlstate", None) != _NOT_GIVEN:
                    raise
                return False

        while True:
            try:
                committed = self._server.patiently(ask)
            except StoreUnreachable:
                # Nothing may be said about the write before that is known.
                if self._closing.is_set():
                    raise
                continue
            if committed is None:
                time.sleep(PAUSE)
                continue
            log.warning(
                "the connection to the database was lost during a commit, which is %s",
                "stored" if committed else "made again",
            )
            return committed


@dataclass(frozen=True, slots=True)
class _Server:
    """The database: connections with transactions, and without; and for how many seconds a call is tried again while it
    cannot be reached."""

    writing: Database
    reading: Database
    url: URL
    patience: float

    def dispose(self) -> None:
        self.writing.dispose()
        self.reading.dispose()

    def patiently(self, attempt: Callable[[], T]) -> T:
        """The result; tries again for a while when the connection is lost, counted from when that was noticed. Raises
        `StoreUnreachable`."""
        until: float | None = None
        while True:
            try:
                return attempt()
            except SQLAlchemyError as error:
                if not is_lost(error):
                    raise
                if until is None:
                    until = time.monotonic() + self.patience
                elif time.monotonic() > until:
                    raise StoreUnreachable(str(explain(self.url, error))) from error
                time.sleep(PAUSE)

    def explain(self, error: DBAPIError) -> StoreFailed:
        return explain(self.url, error)


def _begin(connection: Connection, scopes: Sequence[Scope], *, wait: bool) -> tuple[str, frozenset[Scope]]:
    """Begins the transaction, and excludes everybody else from its scopes until it ends. Its number, and those of its
    groups in which somebody else writes now. `wait`: it waits for that process, at most `HELD_WAIT`; then it raises
    `DBAPIError` with 55P03."""
    if all(isinstance(scope, Urgent) for scope in scopes):
        number = connection.exec_driver_sql(_NUMBER).scalar_one()
        return number, frozenset()
    if any(isinstance(scope, Whole) for scope in scopes):
        number, _ = connection.exec_driver_sql(f"{_NUMBER}, pg_advisory_xact_lock({WRITING}, {ALL})").one()
        return number, frozenset()
    numbers = [(group_of(scope), _number(name)) for scope in set(scopes) for name in _locked(scope)]
    ordered = sorted({number for _, number in numbers})
    lock = "pg_advisory_xact_lock" if wait else "pg_try_advisory_xact_lock"
    asked = f"{_NUMBER}, pg_advisory_xact_lock_shared({WRITING}, {ALL})"
    asked += "".join(f", {lock}({WRITING}, {each})" for each in ordered)
    if wait:
        connection.exec_driver_sql(f"SET LOCAL lock_timeout = {HELD_WAIT * 1000:.0f}")
    row = connection.exec_driver_sql(asked).one()
    if wait:
        connection.exec_driver_sql("SET LOCAL lock_timeout TO DEFAULT")
        return row[0], frozenset()
    refused = {each for each, given in zip(ordered, row[2:], strict=True) if not given}
    return row[0], frozenset(group for group, each in numbers if each in refused)


def _locked(scope: Scope) -> Sequence[str]:
    """The names of what is locked for the scope."""
    match scope:
        case OfSession(key, person, table):
            named = (f"person {person}" if person else "", f"table {table}" if table else "")
            return (conversation_of(key), *filter(None, named))
        case OfTable(name):
            return (f"table {name}",)
        case _:
            return ()


def _conversations_of(scopes: Iterable[_Indirect], connection: Connection) -> dict[_Indirect, str]:
    """The conversations of these turns and messages, without those that there are not."""
    found = dict[_Indirect, str]()
    for make, query in ((OfTurn, _sessions_of_turns), (OfMessage, _sessions_of_rows)):
        ids = [scope.id for scope in scopes if isinstance(scope, make)]
        for id, session in connection.execute(query, {"ids": ids}) if ids else ():
            found[make(id)] = conversation_of(session)
    return found


def _made_in(results: Sequence[Any]) -> Iterator[tuple[_Indirect, str]]:
    """The conversations of the turns and messages that these results of jobs tell of, so that nobody has to ask."""
    for result in results:
        for each in result if isinstance(result, tuple) and len(result) == 2 else (result,):
            match each:
                case Turn(id=id, session=session):
                    yield OfTurn(id), conversation_of(session)
                case Arrival(id=row, session=session, duplicate=False):
                    yield OfMessage(row), conversation_of(session)
                case _:
                    pass


def _number(name: str) -> int:
    """The number of the lock of a conversation or a table, from 1 to 2^31 - 1. Those that share one only wait
    longer."""
    return crc32(name.encode("utf-8", "replace")) % 0x7FFFFFFE + 1


def _vacuum(connection: Connection) -> None:
    connection.exec_driver_sql("VACUUM")
