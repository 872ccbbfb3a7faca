"""Reading a database that a running gateway may hold: nothing is written, no lock is taken, no file is made."""

from __future__ import annotations

import fcntl
import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from sqlalchemy import Connection, create_engine, select
from sqlalchemy.exc import DBAPIError

from gateway.store.errors import StoreFailed
from gateway.store.schema import REVISION, alembic_version
from gateway.store.sqlite_file import database_path, explain, lock_file, prepare_reading, read_only_uri


@dataclass(frozen=True, slots=True)
class Holder:
    """The gateway that runs on a database: its process, and since when."""

    pid: int | None
    since: datetime


def holder(url: str) -> Holder | None:
    """Who holds the database; None if nobody does. Raises `StoreFailed` for a URL that is not understood."""
    file = lock_file(database_path(url))
    try:
        opened = os.open(file, os.O_RDONLY)
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
    """The database as it is now: one snapshot for all queries. Raises `StoreFailed`, also where another version of
    the gateway has written it."""
    path = database_path(url)
    if not path.exists():
        raise StoreFailed(f"{path} does not exist yet: start the gateway once with `interject run`")
    engine = create_engine("sqlite://", creator=lambda: sqlite3.connect(read_only_uri(path), uri=True))
    prepare_reading(engine)
    try:
        with engine.connect() as connection:
            connection.exec_driver_sql("BEGIN")
            _check_revision(connection, path)
            yield connection
    except DBAPIError as error:
        raise explain(path, error) from error
    finally:
        engine.dispose()


def _check_revision(connection: Connection, path: Path) -> None:
    found = connection.execute(select(alembic_version.c.version_num)).scalar()
    if found != REVISION:
        raise StoreFailed(
            f"{path} has the schema {found}, and this version of interject reads {REVISION}: restart the gateway with "
            "this version"
        )
