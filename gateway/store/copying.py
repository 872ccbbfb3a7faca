"""`interject store copy`: a whole database, copied into an empty one of either engine and compared row by row.

The target is no database of a gateway until the copy has ended: it has a table of how far the copy has come, by which
it goes on after an interruption, and no revision yet.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    URL,
    BigInteger,
    Column,
    Connection,
    Engine,
    MetaData,
    Table,
    Text,
    create_engine,
    inspect,
    select,
    update,
)
from sqlalchemy import insert as insert_into
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from gateway.store.errors import StoreFailed
from gateway.store.read_only import file_snapshot, holders_of_server, snapshot
from gateway.store.row_copying import (
    TABLES,
    Key,
    Row,
    batches_of,
    count_rows,
    key_of,
    set_sequences,
    verify_rows,
    write_rows,
)
from gateway.store.schema import REVISION, Json, alembic_version, metadata, schema_support
from gateway.store.schema_support import UNFINISHED_COPY, check_usable, found_schema
from gateway.store.sqlite_file import database_path, explain, locked, mark_current, prepare_writing
from gateway.store.urls import database_url

SOURCE = ""
"""In place of a table's name: the row that says what is copied."""

_progress = Table(
    UNFINISHED_COPY,
    MetaData(),
    Column("name", Text, primary_key=True),
    Column("last", Json),
    Column("rows", BigInteger, nullable=False),
)
"""By table: the key of the last row that was copied, and how many were."""

_OURS = frozenset({*metadata.tables, alembic_version.name, schema_support.name, UNFINISHED_COPY})


@dataclass(frozen=True, slots=True)
class CopyProgress:
    """So many of `total` rows are copied, or compared (`verifies`); the last ones are of `table`."""

    table: str
    rows: int
    total: int
    verifies: bool


@dataclass(frozen=True, slots=True)
class CopySummary:
    """The rows by table, all of them compared; `resumed`: so many were copied before an interruption."""

    rows: dict[str, int]
    resumed: int

    @property
    def total(self) -> int:
        return sum(self.rows.values())


Tell = Callable[[CopyProgress], None]


def copy_store(source: str, target: str, tell: Tell, *, restart: bool = False) -> CopySummary:
    """Copies the database at the URL `source` into the one at `target`, or goes on where the same copy was
    interrupted; with `restart`, from the beginning. `tell` is called after each batch.

    Raises `StoreBusy` or `StoreFailed` while a gateway runs on either, for a target that holds something else, and for
    a row that is not the same in both at the end; the target remains unfinished then.
    """
    if database_url(source) == database_url(target):
        raise StoreFailed("a database cannot be copied into itself: name two different ones")
    with _opened_source(source) as (given, named), _opened_target(target) as (engine, place):
        counts = {table.name: count_rows(given, table) for table in TABLES}
        done = _begin(engine, place, {"source": named, "counts": counts}, restart=restart)
        _copy(given, engine, tell, done, sum(counts.values()))
        with engine.connect() as written:
            rows = _verify(given, written, tell, sum(counts.values()))
        with engine.begin() as connection:
            _finish(connection)
        _analyze(engine)
    return CopySummary(rows, sum(rows for _, rows in done.values()))


def copy_snapshot(source: Connection, target: Connection) -> None:
    """Copies a database into an empty one, within one transaction of each. Raises `StoreFailed`."""
    _create_tables(target)
    for table in TABLES:
        for batch in batches_of(source, table):
            write_rows(target, table, batch)
    _verify(source, target, lambda progress: None, 0)
    _finish(target)


def remove_tables(connection: Connection) -> None:
    """Removes all that a gateway or a copy has made."""
    _progress.drop(connection, checkfirst=True)
    schema_support.drop(connection, checkfirst=True)
    alembic_version.drop(connection, checkfirst=True)
    metadata.drop_all(connection)


# The source


@contextmanager
def _opened_source(url: str) -> Iterator[tuple[Connection, str]]:
    """Its rows, all of the same moment, and its name."""
    parsed = database_url(url)
    with ExitStack() as stack:
        if parsed.get_backend_name() == "sqlite":
            path = database_path(url)
            if not path.exists():
                raise StoreFailed(f"{path} does not exist: there is nothing to copy")
            stack.enter_context(locked(path))
            connection, place = stack.enter_context(file_snapshot(path)), str(path)
        else:
            connection, place = stack.enter_context(snapshot(parsed, max_idle=0)), name_of(parsed)
            check_unused(connection, place)
        check_same_schema(connection, place)
        yield connection, place


def check_same_schema(connection: Connection, place: str) -> None:
    """Raises `StoreFailed` if the database has tables or columns that this program does not know, or lacks some."""
    check_usable(connection, place)
    revision, _ = found_schema(connection)
    if revision != REVISION:
        raise StoreFailed(
            f"{place} has the schema {revision}, and this version of interject copies {REVISION} only: install the "
            "version that has written it"
        )


def name_of(url: URL) -> str:
    """A database on a server in messages, without its password."""
    from gateway.store.postgres_database import shown

    return f"the database {shown(url)}"


def check_unused(connection: Connection, place: str) -> None:
    """Raises `StoreFailed` while a gateway runs on the database."""
    running = holders_of_server(connection)
    if running:
        where = ", ".join(f"process {each.pid} on {each.host}" for each in running[:3])
        raise StoreFailed(f"{place} is in use by a gateway ({where}): stop it, and wait up to 15 s if it was killed")


# The target


@contextmanager
def _opened_target(url: str) -> Iterator[tuple[Engine, str]]:
    parsed = database_url(url)
    if parsed.get_backend_name() == "sqlite":
        path = database_path(url)
        with locked(path):
            engine = create_engine(f"sqlite:///{path}")
            prepare_writing(engine)
            try:
                yield engine, str(path)
            except DBAPIError as error:
                raise explain(path, error) from error
            finally:
                engine.dispose()
        return
    from gateway.store import postgres_database as server

    engine = server.connect(parsed, 2, name=server.COMMAND)
    try:
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as only:
            if not only.exec_driver_sql(f"SELECT pg_try_advisory_lock({server.OPENING}, 1)").scalar():
                raise StoreFailed(f"{name_of(parsed)} is the target of a copy that goes on at this moment")
            check_unused(only, name_of(parsed))
            yield engine, name_of(parsed)
    except SQLAlchemyError as error:
        raise server.explain(parsed, error) from error
    finally:
        engine.dispose()


def _begin(engine: Engine, place: str, what: dict[str, Any], *, restart: bool) -> dict[str, tuple[Key, int]]:
    """Prepares the target. The last key and the number of the rows that are copied already, by table."""
    with engine.begin() as connection:
        tables = set(inspect(connection).get_table_names())
        if UNFINISHED_COPY in tables and not restart:
            done = {name: (last, rows) for name, last, rows in connection.execute(select(_progress))}
            begun, _ = done.pop(SOURCE)
            if begun != what:
                is_same = begun["source"] == what["source"]
                why = "which has changed since" if is_same else "and not of this source"
                raise StoreFailed(
                    f"{place} is the target of an unfinished copy of {begun['source']}, {why}: begin again with "
                    "--restart, which deletes what was copied"
                )
            return {name: (tuple(last), rows) for name, (last, rows) in done.items()}
        if UNFINISHED_COPY not in tables:
            _check_empty(connection, place, tables)
        remove_tables(connection)
        _create_tables(connection)
        _progress.create(connection)
        connection.execute(insert_into(_progress).values(name=SOURCE, last=what, rows=0))
    return {}


def _check_empty(connection: Connection, place: str, tables: set[str]) -> None:
    if foreign := sorted(tables - _OURS):
        raise StoreFailed(f"{place} holds tables of another program ({foreign[0]}): name an empty database")
    for table in TABLES:
        if table.name in tables and (rows := count_rows(connection, table)):
            raise StoreFailed(f"{place} holds data already ({rows} rows in {table.name}): name an empty database")


def _create_tables(connection: Connection) -> None:
    if connection.dialect.name == "postgresql":
        from gateway.store.postgres_database import give_indexes_their_conditions

        give_indexes_their_conditions()
    metadata.create_all(connection)


def _copy(source: Connection, engine: Engine, tell: Tell, done: dict[str, tuple[Key, int]], total: int) -> None:
    copied = sum(rows for _, rows in done.values())
    for table in TABLES:
        last, rows = done.get(table.name, (None, 0))
        for batch in batches_of(source, table, last):
            rows += len(batch)
            with engine.begin() as connection:
                write_rows(connection, table, batch)
                _note(connection, table, batch[-1], rows)
            copied += len(batch)
            tell(CopyProgress(table.name, copied, total, verifies=False))


def _note(connection: Connection, table: Table, last: Row, rows: int) -> None:
    """How far the copy has come, in the transaction of the rows."""
    values = {"last": list(key_of(table, last)), "rows": rows}
    if not connection.execute(update(_progress).where(_progress.c.name == table.name).values(values)).rowcount:
        connection.execute(insert_into(_progress).values(name=table.name, **values))


def _verify(source: Connection, target: Connection, tell: Tell, total: int) -> dict[str, int]:
    rows: dict[str, int] = {}
    compared = 0
    for table in TABLES:

        def seen(number: int, name: str = table.name) -> None:
            nonlocal compared
            compared += number
            tell(CopyProgress(name, compared, total, verifies=True))

        rows[table.name] = verify_rows(source, target, table, seen)
    return rows


def _finish(connection: Connection) -> None:
    """From now on it is a database of a gateway."""
    set_sequences(connection)
    _progress.drop(connection, checkfirst=True)
    mark_current(connection)


def _analyze(engine: Engine) -> None:
    """Has PostgreSQL look at what is there, so that the first queries are planned as later ones."""
    if engine.dialect.name != "postgresql":
        return
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql("ANALYZE")
