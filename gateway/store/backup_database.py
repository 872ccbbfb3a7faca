"""The database in backups: a SQLite file in each of them, whatever engine it was copied from or is restored to."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Protocol

from sqlalchemy import URL, create_engine, inspect
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from gateway.store.backup_archive import copy_database
from gateway.store.copying import check_same_schema, check_unused, copy_snapshot, name_of, remove_tables
from gateway.store.errors import StoreFailed
from gateway.store.read_only import file_snapshot, snapshot
from gateway.store.row_copying import TABLES, count_rows
from gateway.store.sqlite_file import database_path, explain, locked, open_current, prepare_writing
from gateway.store.urls import database_url


def write_copy(url: str, copy: Path) -> None:
    """Writes what is committed at this moment into a new SQLite file. Raises `StoreError`."""
    parsed = database_url(url)
    if parsed.get_backend_name() == "sqlite":
        path = database_path(url)
        if not path.exists():
            raise StoreFailed(f"{path} does not exist yet: there is nothing to back up")
        copy_database(path, copy)
        return
    os.close(os.open(copy, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    engine = create_engine(f"sqlite:///{copy}")
    prepare_writing(engine)
    try:
        with snapshot(parsed, max_idle=0) as source:
            check_same_schema(source, name_of(parsed))
            with engine.begin() as target:
                copy_snapshot(source, target)
    except DBAPIError as error:
        raise explain(copy, error) from error
    finally:
        engine.dispose()
    with closing(sqlite3.connect(copy)) as database:
        database.execute("PRAGMA journal_mode=DELETE")


class Replaced(Protocol):
    """The database in whose place a backup is put."""

    place: str
    """For messages."""

    @property
    def has_data(self) -> bool: ...

    @property
    def folder(self) -> Path | None:
        """Where the backup's database is unpacked, so that it can be moved; None: anywhere."""
        ...

    def replace(self, database: Path) -> None:
        """Puts a SQLite file of any schema that this program knows in its place, or changes nothing. Raises
        `StoreError` and `OSError`."""
        ...


@contextmanager
def replaced(url: str) -> Iterator[Replaced]:
    """Raises `StoreBusy` or `StoreFailed` while a gateway runs on it."""
    parsed = database_url(url)
    if parsed.get_backend_name() == "postgresql":
        with snapshot(parsed) as connection:
            check_unused(connection, name_of(parsed))
        yield _OnServer(parsed)
        return
    path = database_path(url)
    with locked(path):
        yield _File(path)


class _File:
    def __init__(self, path: Path) -> None:
        self.place = str(path)
        self._path = path

    @property
    def has_data(self) -> bool:
        return self._path.exists() and self._path.stat().st_size > 0

    @property
    def folder(self) -> Path:
        return self._path.parent

    def replace(self, database: Path) -> None:
        # A journal of the old database would be applied to the new one.
        for suffix in ("-wal", "-shm"):
            self._path.with_name(self._path.name + suffix).unlink(missing_ok=True)
        database.replace(self._path)


class _OnServer:
    def __init__(self, url: URL) -> None:
        self.place = name_of(url)
        self._url = url

    @property
    def has_data(self) -> bool:
        with snapshot(self._url) as connection:
            tables = set(inspect(connection).get_table_names())
            return any(table.name in tables and count_rows(connection, table) for table in TABLES)

    @property
    def folder(self) -> None:
        return None

    def replace(self, database: Path) -> None:
        from gateway.store import postgres_database as server

        open_current(database, back_up=False).dispose()
        engine = server.connect(self._url, 1, name=server.COMMAND, max_idle=0)
        try:
            with file_snapshot(database) as source, engine.begin() as target:
                check_unused(target, self.place)
                remove_tables(target)
                copy_snapshot(source, target)
        except SQLAlchemyError as error:
            raise server.explain(self._url, error) from error
        finally:
            engine.dispose()
