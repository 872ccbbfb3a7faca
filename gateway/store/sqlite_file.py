"""A SQLite file: locked for one process, checked before anything is changed, and migrated to the newest schema."""

from __future__ import annotations

import fcntl
import logging
import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from shutil import disk_usage
from urllib.parse import quote

from sqlalchemy import Connection, Engine, create_engine, event, insert, make_url
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import ArgumentError, DBAPIError
from sqlalchemy.pool import ConnectionPoolEntry

from gateway.private_files import private_file
from gateway.store.errors import StoreBusy, StoreCorrupt, StoreFailed, StoreTooNew
from gateway.store.schema import OLDEST, REVISION, alembic_version, metadata, schema_support
from gateway.store.schema_support import UNFINISHED_COPY, is_usable, unfinished_copy

log = logging.getLogger(__name__)

HEADER = b"SQLite format 3\0"

MAX_CHECKED_SIZE = 32 * 1024 * 1024
"""Bytes; files up to this size are checked page by page when they are opened, which takes 50 ms at most."""

LOOK = 0.05
"""Seconds; longer than a command needs to look whether the database is locked."""

NEEDED_SPACE = 64 * 1024
"""Bytes; with less room on the disk SQLite cannot make the files beside the database, and reports an I/O error."""

WRITING = ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", "busy_timeout=5000", "secure_delete=ON")
READING = ("query_only=ON", "busy_timeout=5000")


def database_path(url: str) -> Path:
    """The file of a URL like `sqlite:////var/lib/interject/interject.db`. Raises `StoreFailed`."""
    try:
        parsed = make_url(url)
    except ArgumentError as error:
        raise StoreFailed(f"the store's url {url!r} is not understood: write sqlite:///FILE") from error
    if parsed.get_backend_name() != "sqlite" or not parsed.database or parsed.database == ":memory:":
        raise StoreFailed(f"the store's url {parsed.render_as_string()!r} is not supported: write sqlite:///FILE")
    return Path(parsed.database).absolute()


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Locks the database for this process. Raises `StoreBusy`, or `StoreFailed` where nothing can be written."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Here, before anything is written: SQLite gives its other files the mode of the database.
        for part in (path, *(path.with_name(path.name + suffix) for suffix in ("-wal", "-shm"))):
            if part == path or part.exists():
                private_file(part)
        file = os.open(lock_file(path), os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise StoreFailed(f"{path} cannot be opened for writing: {error.strerror}. Check [store] url") from error
    try:
        _lock(file, path)
        yield
    finally:
        os.close(file)


def lock_file(path: Path) -> Path:
    """The file that the process which holds the database has locked, with its process id in it."""
    return path.with_name(path.name + ".lock")


def _lock(file: int, path: Path) -> None:
    try:
        if not _is_locked(file):
            # A command that looks whether a gateway runs holds the lock for a moment.
            time.sleep(LOOK)
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        holder = os.pread(file, 20, 0).decode("ascii", "replace").strip()
        raise StoreBusy(path, int(holder) if holder.isdecimal() else None) from error
    os.ftruncate(file, 0)
    os.pwrite(file, f"{os.getpid()}\n".encode(), 0)


def _is_locked(file: int) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def open_current(path: Path, *, back_up: bool = True) -> Engine:
    """An engine for writing to the database, after its migration to the newest schema; before that it is backed up.

    Raises `StoreCorrupt` or `StoreTooNew` before anything was changed, or `StoreFailed`.
    """
    found, oldest = _find_schema(path)
    is_current = found is None or is_usable(found, oldest)
    if found and not is_current:
        _prepare_upgrade(path, found, back_up=back_up)
    elif found and found != REVISION:
        log.info("the database has the newer schema %s, with which this version works too", found)
    engine = create_engine(f"sqlite:///{path}")
    prepare_writing(engine)
    try:
        with engine.begin() as connection:
            if found is None:
                create(connection)
            elif not is_current:
                _upgrade(connection)
    except DBAPIError as error:
        engine.dispose()
        raise explain(path, error) from error
    except BaseException:
        engine.dispose()
        raise
    return engine


def _find_schema(path: Path) -> tuple[str | None, str]:
    """The file's schema revision, and the oldest one whose programs may use it. None for a new file, "" for one that
    Alembic has prepared but not filled yet."""
    try:
        if not path.exists() or path.stat().st_size == 0:
            return None, ""
        with path.open("rb") as file:
            if file.read(len(HEADER)) != HEADER:
                raise StoreCorrupt(path, "it is not an SQLite database")
    except OSError as error:
        raise StoreFailed(f"{path} cannot be read: {error.strerror}") from error
    try:
        with closing(sqlite3.connect(read_only_uri(path), uri=True)) as database:
            return _schema(database, path)
    except sqlite3.DatabaseError as error:
        raise StoreCorrupt(path, f"it is damaged ({error})") from error


def read_only_uri(path: Path) -> str:
    """A URI that reads the file without creating others, unless a crash left a journal that must be read too."""
    journal = path.with_name(path.name + "-wal")
    return f"file:{quote(str(path))}?{'mode=ro' if journal.exists() else 'immutable=1'}"


def _schema(database: sqlite3.Connection, path: Path) -> tuple[str | None, str]:
    if path.stat().st_size <= MAX_CHECKED_SIZE:
        finding = database.execute("PRAGMA quick_check(1)").fetchone()[0]
        if finding != "ok":
            raise StoreCorrupt(path, f"it is damaged ({finding})")
    tables = {name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    if not tables:
        return None, ""
    if UNFINISHED_COPY in tables:
        raise unfinished_copy(path)
    if alembic_version.name not in tables:
        raise StoreCorrupt(path, "it is a database of another program")
    row = database.execute("SELECT version_num FROM alembic_version").fetchone()
    revision = str(row[0]) if row else ""
    if schema_support.name not in tables:
        return revision, revision
    row = database.execute("SELECT oldest FROM schema_support").fetchone()
    return revision, str(row[0]) if row else revision


def create(connection: Connection) -> None:
    """Creates all tables as the migrations would, without the cost of loading Alembic."""
    metadata.create_all(connection)
    mark_current(connection)


def mark_current(connection: Connection) -> None:
    """The tables are there, and are those of the newest schema."""
    for table, values in ((alembic_version, {"version_num": REVISION}), (schema_support, {"oldest": OLDEST})):
        table.create(connection)
        connection.execute(insert(table).values(values))


def _prepare_upgrade(path: Path, found: str, *, back_up: bool) -> None:
    # Alembic takes longer to load than the rest of the store; most starts do not need it.
    from gateway.store.migrate import has_revision
    from gateway.store.upgrade_backup import back_up_before_upgrade

    if not has_revision(found):
        raise StoreTooNew(path, found)
    if back_up:
        made = back_up_before_upgrade(path, found)
        log.info("the database is upgraded from the schema %s to %s; a backup of it is %s", found, REVISION, made)


def _upgrade(connection: Connection) -> None:
    from gateway.store.migrate import upgrade

    upgrade(connection)


def prepare_writing(engine: Engine) -> None:
    """Leaves transactions to SQLAlchemy instead of the driver, and makes each take the write lock when it begins."""
    _on_connect(engine, WRITING)

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        cursor = connection.connection.cursor()
        try:
            cursor.execute("BEGIN IMMEDIATE")
        except sqlite3.Error as error:
            # As SQLAlchemy translates the errors of other statements, but not those of listeners.
            raise DBAPIError("BEGIN IMMEDIATE", None, error) from error
        finally:
            cursor.close()


def prepare_reading(engine: Engine) -> None:
    """Each statement sees what was committed before it began."""
    _on_connect(engine, READING)


def _on_connect(engine: Engine, pragmas: tuple[str, ...]) -> None:
    @event.listens_for(engine, "connect")
    def connect(connection: DBAPIConnection, record: ConnectionPoolEntry) -> None:
        connection.isolation_level = None
        cursor = connection.cursor()
        for pragma in pragmas:
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()


def vacuum(connection: Connection) -> bool:
    """Rewrites the file without its free space and empties the journal, so that no deleted byte is left in either.
    Outside a transaction. False: a reader holds a part of the journal."""
    driver = connection.connection.driver_connection
    assert isinstance(driver, sqlite3.Connection)
    try:
        driver.execute("VACUUM")
        is_busy, _, _ = driver.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    except sqlite3.OperationalError as error:
        raise StoreFailed(f"the database could not be compacted: {error}") from error
    return not is_busy


def explain(path: Path, error: DBAPIError) -> StoreFailed:
    """SQLite's error in words for a person."""
    name = error.orig.sqlite_errorname if isinstance(error.orig, sqlite3.Error) else ""
    match name.removeprefix("SQLITE_").split("_")[0]:
        case "FULL" | "IOERR" if name.startswith("SQLITE_FULL") or disk_usage(path.parent).free < NEEDED_SPACE:
            why = "the disk is full. Make room; nothing else is needed"
        case "IOERR":
            why = f"the disk reports an error ({name}). Check the disk"
        case "READONLY" | "CANTOPEN" | "PERM" | "AUTH":
            why = "the file or its directory cannot be written. Check who owns it"
        case "BUSY" | "LOCKED":
            why = "another program keeps it locked. Stop that program"
        case "CORRUPT" | "NOTADB":
            why = "the file is damaged. Stop the gateway and restore a backup"
        case _:
            why = str(error.orig)
    return StoreFailed(f"{path}: {why}")
