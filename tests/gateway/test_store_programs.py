"""Random transactions give the same rows, counts and errors on both engines, with statements that are known and through
SQLAlchemy alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, TypeAlias

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import (
    CheckConstraint,
    Column,
    Connection,
    CursorResult,
    Engine,
    ForeignKey,
    Integer,
    MetaData,
    Table,
    Text,
    bindparam,
    delete,
    insert,
    make_url,
    select,
    update,
)
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from gateway.store import postgres, sqlite, upsert
from gateway.store.postgres_database import connect_directly, is_lost
from gateway.store.prepared import PREPARED_FROM, KnownStatements, PreparingConnection
from gateway.store.sqlite_file import open_current
from tests.engines import engines

TIMES = PREPARED_FROM + 2
"""So often each program runs on a connection, so that its statements are known, and prepared in the server."""

MAX_NUMBER = 5

kept = Table(
    "kept",
    MetaData(),
    Column("key", Integer, primary_key=True, autoincrement=False),
    Column("number", Integer, CheckConstraint(f"number <= {MAX_NUMBER}"), nullable=False),
    Column("text", Text, unique=True),
    Column("of", Integer, ForeignKey("kept.key", deferrable=True, initially="DEFERRED")),
)

_of_key = kept.c.key == bindparam("of_key")
_values: dict[str, Any] = {column.name: bindparam(column.name) for column in kept.c}
_add = insert(kept).values(_values)
_change = update(kept).where(_of_key).values(number=bindparam("number"), text=bindparam("text"))
_count_up = update(kept).values(number=kept.c.number + bindparam("more"))
_remove = delete(kept).where(_of_key)
_take = delete(kept).where(_of_key).returning(kept.c.key, kept.c.text)
_put = upsert.insert(kept).values(_values)
_put = _put.on_conflict_do_update(index_elements=["key"], set_={"number": _put.excluded.number})
_look = select(kept).order_by(kept.c.key)
_find = select(kept.c.number).where(_of_key)

Asked: TypeAlias = Literal["at once", "at the end", "afterwards", "never"]


@dataclass(frozen=True)
class Do:
    """One statement; `asked` is when it is asked how many rows it has changed."""

    name: str
    parameters: dict[str, Any] | list[dict[str, Any]]
    asked: Asked = "never"


@dataclass(frozen=True)
class Within:
    """Statements behind a savepoint, SQLAlchemy's or one in SQL. An error rolls back to it."""

    parts: Sequence[Part]
    kept: bool
    in_sql: bool


@dataclass(frozen=True)
class Transaction:
    parts: Sequence[Part]
    kept: bool


Part: TypeAlias = Do | Within

STATEMENTS = {
    "add": _add,
    "add many": _add,
    "change": _change,
    "count up": _count_up,
    "remove": _remove,
    "take": _take,
    "put": _put,
    "look": _look,
    "find": _find,
}
WITH_ROWS = ("take", "look", "find")

_keys = st.integers(1, 3)
_numbers = st.integers(0, MAX_NUMBER + 1)
_texts = st.sampled_from([None, None, "a", "b", "x" * 2_000])
_rows = st.fixed_dictionaries({"key": _keys, "number": _numbers, "text": _texts, "of": st.none() | _keys})
_parameters: dict[str, st.SearchStrategy[Any]] = {
    "add": _rows,
    "add many": st.lists(_rows, min_size=2, max_size=3),
    "change": st.fixed_dictionaries({"of_key": _keys, "number": _numbers | st.none(), "text": _texts}),
    "count up": st.fixed_dictionaries({"more": st.integers(-1, 1)}),
    "remove": st.fixed_dictionaries({"of_key": _keys}),
    "take": st.fixed_dictionaries({"of_key": _keys}),
    "put": _rows,
    "look": st.just({}),
    "find": st.fixed_dictionaries({"of_key": _keys}),
}
_asked = st.sampled_from(["never", "never", "at once", "at the end", "afterwards"])
_statements = st.one_of(
    *(
        st.builds(Do, st.just(name), parameters, st.just("never") if name in WITH_ROWS else _asked)
        for name, parameters in _parameters.items()
    )
)
_mostly = st.sampled_from([True, True, False])
_parts: st.SearchStrategy[Part] = st.deferred(
    lambda: st.one_of(_statements, _statements, st.builds(Within, st.lists(_parts, max_size=4), _mostly, st.booleans()))
)
_programs = st.lists(st.builds(Transaction, st.lists(_parts, min_size=1, max_size=6), _mostly), min_size=1, max_size=5)


class Ended(Exception):
    """The transaction, or what is behind the savepoint, is to be rolled back."""


Told: TypeAlias = list[Any]
Database: TypeAlias = Callable[[], Connection]


@contextmanager
def savepoint(connection: Connection) -> Iterator[None]:
    """One of the same name hides those around it."""
    connection.exec_driver_sql("SAVEPOINT here")
    try:
        yield
        connection.exec_driver_sql("RELEASE SAVEPOINT here")
    except Exception:
        connection.exec_driver_sql("ROLLBACK TO SAVEPOINT here")
        connection.exec_driver_sql("RELEASE SAVEPOINT here")
        raise


def play(database: Database, transaction: Transaction) -> Told:
    """What its statements have given, or that it has failed; and the rows that are there then."""
    with database() as connection:
        told = _played(connection, transaction)
    with database() as connection, connection.begin():
        return [told, *map(tuple, connection.execute(_look))]


def _played(connection: Connection, transaction: Transaction) -> Told | str:
    told, later, afterwards = Told(), list[Callable[[], int]](), list[Callable[[], int]]()
    try:
        with connection.begin():
            _play(connection, transaction.parts, told, later, afterwards)
            told += [count() for count in later]
            if not transaction.kept:
                raise Ended
    except Ended:
        return "rolled back"
    except SQLAlchemyError as error:
        if is_lost(error):
            raise
        # One that would have failed may never have run.
        return "failed" if transaction.kept else "rolled back"
    return told + [count() for count in afterwards]


def _play(
    connection: Connection,
    parts: Sequence[Part],
    told: Told,
    later: list[Callable[[], int]],
    afterwards: list[Callable[[], int]],
) -> None:
    for part in parts:
        if isinstance(part, Within):
            seen, own, last = Told(), list[Callable[[], int]](), list[Callable[[], int]]()
            try:
                with savepoint(connection) if part.in_sql else connection.begin_nested():
                    _play(connection, part.parts, seen, own, last)
                    if not part.kept:
                        raise Ended
            except Ended:
                told.append("rolled back")
            except DBAPIError as error:
                if is_lost(error):
                    raise
                told.append("failed" if part.kept else "rolled back")
            else:
                told += seen
                later += own
                afterwards += last
            continue
        result: CursorResult[Any] = connection.execute(STATEMENTS[part.name], part.parameters)
        if part.name in WITH_ROWS:
            told.append([tuple(row) for row in result])
        elif part.asked == "at once":
            told.append(result.rowcount)
        elif part.asked != "never":
            (later if part.asked == "at the end" else afterwards).append(partial(getattr, result, "rowcount"))


@pytest.fixture(scope="module")
def engines_of(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Engine]]:
    server = engines.server()
    urls = [make_url(server.create("template_interject")) for _ in range(2)]
    folder = tmp_path_factory.mktemp("programs")
    made = {
        "SQLite, known": open_current(folder / "known.db"),
        "SQLite": open_current(folder / "plain.db"),
        "PostgreSQL, known": connect_directly(urls[0], 1, autocommit=False),
        "PostgreSQL": connect_directly(urls[1], 1, autocommit=False),
    }
    for engine in made.values():
        with engine.begin() as connection:
            kept.create(connection)
    yield made
    for engine in made.values():
        engine.dispose()
    for url in urls:
        server.drop(url.render_as_string(hide_password=False))


def database_of(engine: Engine, *, known: bool) -> Database:
    if not known:
        return engine.connect
    run = sqlite.run_sql if engine.dialect.name == "sqlite" else postgres.run_sql
    return partial(PreparingConnection, engine, KnownStatements(), run)


@given(_programs)
@settings(max_examples=200, deadline=None)
def test_transactions_give_the_same(engines_of: dict[str, Engine], program: Sequence[Transaction]) -> None:
    databases = {name: database_of(engine, known="known" in name) for name, engine in engines_of.items()}
    for _ in range(TIMES):
        for database in databases.values():
            with database() as connection, connection.begin():
                connection.exec_driver_sql("DELETE FROM kept")
        for transaction in program:
            told = {name: play(database, transaction) for name, database in databases.items()}
            assert list(told.values()) == [told["PostgreSQL"]] * len(told)
