"""Reading a database that a running gateway may hold: nothing is written, no lock is taken, no file is made."""

from __future__ import annotations

import fcntl
import os
import socket
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from sqlalchemy import URL, Connection, create_engine, inspect
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from gateway.store.errors import StoreFailed
from gateway.store.schema import workers
from gateway.store.schema_support import check_usable
from gateway.store.sqlite_file import database_path, explain, lock_file, prepare_reading, read_only_uri
from gateway.store.urls import database_url


@dataclass(frozen=True, slots=True)
class Holder:
    """A gateway that runs on a database: its process, since when, and on which machine ("": this one)."""

    pid: int | None
    since: datetime
    host: str = ""

    @property
    def is_here(self) -> bool:
        """Whether it runs on this machine."""
        return self.host in ("", socket.gethostname())


def holder(url: str) -> Holder | None:
    """Who holds the database, of several the one that began first; None if nobody does. Raises `StoreFailed` for a URL
    that is not understood, and for a server that does not answer."""
    return next(iter(holders(url)), None)


def holders(url: str) -> tuple[Holder, ...]:
    """All gateways that run on the database, see `holder`."""
    parsed = database_url(url)
    if parsed.get_backend_name() == "sqlite":
        found = _holder_of_file(database_path(url))
        return () if found is None else (found,)
    with snapshot(parsed) as connection:
        return holders_of_server(connection)


def holders_of_server(connection: Connection) -> tuple[Holder, ...]:
    """The gateways whose lease has not run out, without those of which this machine knows that they have ended."""
    if not inspect(connection).has_table(workers.name):
        return ()
    from gateway.store.process import state_of
    from gateway.store.workers import listed

    return tuple(
        Holder(each.pid, each.started_at, each.host) for each in listed(connection) if state_of(each) != "dead"
    )


def _holder_of_file(path: Path) -> Holder | None:
    try:
        opened = os.open(lock_file(path), os.O_RDONLY)
    except OSError:
        return None
    try:
        fcntl.flock(opened, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        pid = os.pread(opened, 20, 0).decode("ascii", "replace").strip()
        since = datetime.fromtimestamp(os.fstat(opened).st_mtime, UTC)
        return Holder(int(pid) if pid.isdecimal() else None, since)
    finally:
        os.close(opened)
    return None


@contextmanager
def reading(url: str) -> Iterator[Connection]:
    """The database as it is now: one snapshot for all queries. Raises `StoreFailed`, also where a version of the
    gateway has written it that this one does not understand."""
    parsed = database_url(url)
    if parsed.get_backend_name() == "postgresql":
        from gateway.store.postgres_database import shown

        with snapshot(parsed) as connection:
            check_usable(connection, f"the database {shown(parsed)}")
            yield connection
        return
    path = database_path(url)
    if not path.exists():
        raise StoreFailed(f"{path} does not exist yet: start the gateway once with `interject run`")
    with file_snapshot(path) as connection:
        check_usable(connection, path)
        yield connection


@contextmanager
def file_snapshot(path: Path) -> Iterator[Connection]:
    """A SQLite file as it is now. Raises `StoreFailed`."""
    engine = create_engine("sqlite://", creator=lambda: _opened(path))
    prepare_reading(engine)
    try:
        with engine.connect() as connection:
            connection.exec_driver_sql("BEGIN")
            yield connection
    except DBAPIError as error:
        raise explain(path, error) from error
    finally:
        engine.dispose()


def _opened(path: Path) -> sqlite3.Connection:
    opened = sqlite3.connect(read_only_uri(path), uri=True)
    opened.text_factory = _decoded
    return opened


def _decoded(stored: bytes) -> str:
    """Text that another program has written may be no UTF-8."""
    for errors in ("strict", "surrogatepass"):
        with suppress(UnicodeDecodeError):
            return stored.decode(errors=errors)
    return stored.decode(errors="replace")


@contextmanager
def snapshot(url: URL, max_idle: float = 120.0) -> Iterator[Connection]:
    """A database on a server as it is now, in a transaction that cannot write. It ends when nothing was asked for
    `max_idle` seconds (0: never). Raises `StoreFailed`."""
    from gateway.store.postgres_database import COMMAND, connect, explain

    engine = connect(url, 1, name=COMMAND, max_idle=max_idle)
    try:
        with engine.connect().execution_options(
            isolation_level="REPEATABLE READ", postgresql_readonly=True
        ) as connection:
            yield connection
    except SQLAlchemyError as error:
        raise explain(url, error) from error
    finally:
        engine.dispose()
