"""An upgrade of the database, tried on a copy."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from sqlalchemy import URL, Connection, inspect
from sqlalchemy.exc import SQLAlchemyError

from gateway.store.backup_archive import DATABASE, copy_database
from gateway.store.errors import StoreFailed
from gateway.store.read_only import holders_of_server
from gateway.store.row_copying import count_rows
from gateway.store.schema import REVISION, sessions
from gateway.store.schema_support import found_schema, is_usable, schema_or_none
from gateway.store.sqlite_file import database_path, open_current
from gateway.store.urls import database_url


@dataclass(frozen=True, slots=True)
class Rehearsal:
    """An upgrade that worked: from which schema to which, of how many conversations, in how many seconds. `on_copy`: of
    a copy; else it was done in the database itself, and taken back. None is needed if `is_usable`."""

    found: str
    newest: str
    conversations: int
    seconds: float
    on_copy: bool = True

    @property
    def is_usable(self) -> bool:
        return self.found >= self.newest


def rehearse_upgrade(url: str) -> Rehearsal | None:
    """Upgrades a copy of the database, also beside a running gateway; None if there is no database yet. One on a server
    is upgraded in a transaction that is rolled back, while no gateway runs on it.

    Raises `StoreError` if the upgrade fails or loses anything, and `OSError` where there is no room for a copy.
    """
    parsed = database_url(url)
    if parsed.get_backend_name() == "postgresql":
        return _rehearse_on_server(parsed)
    path = database_path(url)
    if not path.exists():
        return None
    with TemporaryDirectory(dir=path.parent, prefix=".upgrade-") as folder:
        copy = Path(folder) / DATABASE
        copy_database(path, copy)
        found, before = _contents(copy)
        started = time.monotonic()
        open_current(copy, back_up=False).dispose()
        seconds = time.monotonic() - started
        upgraded, after = _contents(copy)
        if upgraded < REVISION or not before.items() <= after.items():
            raise StoreFailed(f"{path}: the upgrade from {found} to {REVISION} would lose rows")
        _check(copy, path)
    return Rehearsal(found, upgraded, after["sessions"], seconds)


def _rehearse_on_server(url: URL) -> Rehearsal | None:
    from gateway.store import postgres_database as server

    engine = server.connect(url, 1, name=server.COMMAND)
    try:
        with engine.connect() as connection:
            schema = schema_or_none(connection)
            if schema is None:
                return None
            before = _rows(connection)
            started = time.monotonic()
            if not is_usable(*schema):
                _check_unused(connection, url)
                server.check_known(schema[0], url)
                server.upgrade_tables(connection, url)
            seconds = time.monotonic() - started
            upgraded, _ = found_schema(connection)
            after, rows = _rows(connection), count_rows(connection, sessions)
            connection.rollback()
    except SQLAlchemyError as error:
        raise server.explain(url, error) from error
    finally:
        engine.dispose()
    if not before.items() <= after.items():
        raise StoreFailed(f"{server.shown(url)}: the upgrade from {schema[0]} to {upgraded} would lose rows")
    return Rehearsal(schema[0], REVISION, rows, seconds, on_copy=False)


def _check_unused(connection: Connection, url: URL) -> None:
    from gateway.store.postgres_database import shown

    running = holders_of_server(connection)
    if running:
        raise StoreFailed(
            f"{shown(url)} is in use by {len(running)} gateways, which an attempt would hold up. Stop them, or try it "
            "on a copy: createdb COPY, pg_dump DATABASE | psql COPY, then this command with INTERJECT_STORE__URL for it"
        )


def _rows(connection: Connection) -> Mapping[str, int]:
    """The number of rows by table."""
    quote = connection.dialect.identifier_preparer.quote
    names = inspect(connection).get_table_names()
    return {name: connection.exec_driver_sql(f"SELECT count(*) FROM {quote(name)}").scalar_one() for name in names}


def _contents(path: Path) -> tuple[str, Mapping[str, int]]:
    """The schema revision, and the number of rows by table."""
    with closing(sqlite3.connect(path)) as database:
        names = [name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        rows = {name: database.execute(f'SELECT count(*) FROM "{name}"').fetchone()[0] for name in names}
        (revision,) = database.execute("SELECT version_num FROM alembic_version").fetchone()
    return revision, rows


def _check(copy: Path, path: Path) -> None:
    with closing(sqlite3.connect(copy)) as database:
        (finding,) = database.execute("PRAGMA integrity_check(1)").fetchone()
        dangling = database.execute("PRAGMA foreign_key_check").fetchone()
    if finding != "ok" or dangling is not None:
        raise StoreFailed(f"{path}: after the upgrade the database is not whole ({dangling or finding})")
