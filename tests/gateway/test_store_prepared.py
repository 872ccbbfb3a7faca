"""Statements that are run again and again: what they give is what SQLAlchemy gives."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, Engine, bindparam, delete, func, make_url, select, update
from sqlalchemy.exc import DBAPIError, IntegrityError, StatementError

from gateway.store import postgres, sqlite
from gateway.store.postgres_database import connect_directly, is_lost
from gateway.store.prepared import PREPARED_FROM, KnownStatements, PreparingConnection
from gateway.store.schema import inbox, sessions
from gateway.store.sqlite_file import open_current
from gateway.store.upsert import insert
from tests.engines import engines

ADDRESS = {"channel": "telegram", "chat": "5", "names": ["Łukasz", None]}
TIMES = PREPARED_FROM + 1

_add = insert(sessions).values(
    key=bindparam("key"),
    channel=bindparam("channel"),
    address=bindparam("address"),
    busy=bindparam("busy"),
    created_at=bindparam("now"),
    last_at=bindparam("now"),
)
_add_or_change = _add.on_conflict_do_update(index_elements=["key"], set_={"busy": _add.excluded.busy}).returning(
    sessions.c.key, sessions.c.generation, sessions.c.busy
)
_one = select(sessions).where(sessions.c.key == bindparam("of_key"))
_several = select(sessions.c.key).where(sessions.c.key.in_(bindparam("keys", expanding=True))).order_by(sessions.c.key)
_titled = (
    update(sessions).where(sessions.c.key == bindparam("of_key")).values(title="a title", generation=bindparam("now"))
)
_count = select(func.count().label("of_all"), func.max(sessions.c.last_at).label("last")).select_from(sessions)
_remove = delete(sessions).where(sessions.c.key == bindparam("of_key"))


@pytest.fixture(params=["sqlite", "postgresql"])
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Engine]:
    if request.param == "sqlite":
        engine = open_current(tmp_path / "interject.db")
        yield engine
        engine.dispose()
        return
    url = engines.server().create("template_interject")
    engine = connect_directly(make_url(url), 2, autocommit=False)
    yield engine
    engine.dispose()
    engines.server().drop(url)


def connect(engine: Engine) -> PreparingConnection:
    run = sqlite.run_sql if engine.dialect.name == "sqlite" else postgres.run_sql
    return PreparingConnection(engine, KnownStatements(), run)


@pytest.fixture
def prepared(engine: Engine) -> Iterator[Connection]:
    with connect(engine) as connection, connection.begin():
        yield connection


def session(key: str, **others: Any) -> dict[str, Any]:
    now = datetime(2026, 12, 1, 12, 30, 0, 123456, UTC)
    return {"key": key, "channel": "telegram", "address": ADDRESS, "busy": None, "now": now} | others


def test_rows_have_the_same_names_and_types_each_time(prepared: Connection) -> None:
    for number in range(TIMES):
        assert prepared.execute(_add, session(f"s{number}")).rowcount == 1
    rows = [prepared.execute(_one, {"of_key": "s1"}).one() for _ in range(TIMES)]
    assert rows == [rows[0]] * TIMES
    assert [row._fields for row in rows] == [rows[0]._fields] * TIMES
    assert rows[-1].address == ADDRESS
    assert rows[-1].created_at == datetime(2026, 12, 1, 12, 30, 0, 123456, UTC)
    assert (rows[-1].busy, rows[-1].allowed, rows[-1].generation) == (None, None, 0)
    counts = [prepared.execute(_count).one() for _ in range(TIMES)]
    assert [(row.of_all, row.last) for row in counts] == [(TIMES, rows[0].last_at)] * TIMES


def test_what_cannot_be_stored_is_replaced_each_time(prepared: Connection) -> None:
    for number in range(TIMES):
        prepared.execute(_add, session(f"s{number}", channel="half \ud83a, \0"))
    assert set(prepared.execute(select(sessions.c.channel)).scalars()) == {"half \N{REPLACEMENT CHARACTER}, \ufffd"}


def test_a_conflict_changes_the_row_and_returns_it(prepared: Connection) -> None:
    found = [prepared.execute(_add_or_change, session("s", busy=str(number))).one() for number in range(TIMES)]
    assert found == [("s", 0, str(number)) for number in range(TIMES)]


def test_many_at_once(prepared: Connection) -> None:
    for number in range(TIMES):
        many = [session(f"{number}-{each}") for each in range(3)]
        assert prepared.execute(_add, many).rowcount == 3
        assert prepared.execute(_add, [session(f"{number}-alone")]).rowcount == 1
    assert prepared.execute(_count).one().of_all == 4 * TIMES


def test_lists_of_any_length_are_looked_for(prepared: Connection) -> None:
    prepared.execute(_add, [session(key) for key in "abc"])
    for keys in ([], ["a"], ["a", "c"], ["a", "b", "c"]):
        assert prepared.execute(_several, {"keys": keys}).scalars().all() == keys


def test_values_of_the_statement_itself_are_written(prepared: Connection) -> None:
    prepared.execute(_add, session("s"))
    for number in range(TIMES):
        assert prepared.execute(_titled, {"of_key": "s", "now": number}).rowcount == 1
        row = prepared.execute(_one, {"of_key": "s"}).one()
        assert (row.title, row.generation) == ("a title", number)
    assert prepared.execute(_titled, {"of_key": "nobody", "now": 0}).rowcount == 0


def test_other_parameters_than_before_are_no_others_values(prepared: Connection) -> None:
    """An INSERT without values takes its columns from what it is given."""
    statement = insert(sessions)
    values = {"channel": "telegram", "address": ADDRESS, "created_at": datetime.now(UTC), "last_at": datetime.now(UTC)}
    for number in range(TIMES):
        prepared.execute(statement, values | {"key": f"without {number}"})
    prepared.execute(statement, values | {"key": "with", "title": "its title"})
    titles = {row.key: row.title for row in prepared.execute(select(sessions.c.key, sessions.c.title))}
    assert titles == {f"without {number}": None for number in range(TIMES)} | {"with": "its title"}


def test_a_missing_parameter_is_refused_each_time(prepared: Connection) -> None:
    for _ in range(TIMES):
        prepared.execute(_one, {"of_key": "s"})
        with pytest.raises(StatementError, match="of_key"):
            prepared.execute(_one, {})


def test_an_error_of_the_database_is_the_same_each_time(prepared: Connection) -> None:
    prepared.execute(_add, session("s"))
    for _ in range(TIMES):
        with pytest.raises(IntegrityError) as raised, prepared.begin_nested():
            prepared.execute(_add, session("s"))
        code = getattr(raised.value.orig, "sqlite_errorname", getattr(raised.value.orig, "sqlstate", ""))
        assert code in ("SQLITE_CONSTRAINT_PRIMARYKEY", "23505")


def test_each_statement_sees_those_before_it(prepared: Connection) -> None:
    for number in range(TIMES):
        prepared.execute(_add, session(f"s{number}"))
        changes = [prepared.execute(_titled, {"of_key": f"s{number}", "now": each}) for each in (5, 7)]
        prepared.execute(_remove, {"of_key": f"s{number - 1}"})
        assert prepared.execute(_one, {"of_key": f"s{number}"}).one().generation == 7
        assert prepared.execute(_one, {"of_key": f"s{number - 1}"}).one_or_none() is None
        assert [change.rowcount for change in changes] == [1, 1]


def test_any_number_of_statements_without_rows_follow_each_other(prepared: Connection) -> None:
    added = [prepared.execute(_add, session(f"s{number:04}", channel="x" * 2_000)) for number in range(1_000)]
    prepared.execute(_add, [session(f"t{number:04}") for number in range(1_000)])
    assert prepared.execute(_count).one().of_all == 2_000
    assert all(each.rowcount == 1 for each in added)


def test_an_error_ends_the_transaction_at_the_commit_at_the_latest(engine: Engine) -> None:
    with connect(engine) as connection:
        for number in range(TIMES):
            with connection.begin():
                connection.execute(_add, session(f"s{number}"))

            def fail(number: int = number) -> None:
                with connection.begin():
                    for key in (f"before {number}", f"s{number}", f"behind {number}"):
                        connection.execute(_add, session(key))

            with pytest.raises(IntegrityError) as raised:
                fail()
            assert not is_lost(raised.value)
        with connection.begin():
            assert connection.execute(_count).one().of_all == TIMES


def test_an_error_behind_a_savepoint_leaves_what_was_before_it(engine: Engine) -> None:
    with connect(engine) as connection:
        for number in range(TIMES):
            with connection.begin():
                connection.execute(_add, session(f"before {number}"))
                connection.exec_driver_sql("SAVEPOINT here")
                # One engine runs the second at once, the other never.
                with suppress(IntegrityError):
                    connection.execute(_add, session(f"behind {number}"))
                    connection.execute(_add, session(f"before {number}"))
                connection.exec_driver_sql("ROLLBACK TO SAVEPOINT here")
                connection.execute(_add, session(f"at last {number}"))
        with connection.begin():
            found = [
                connection.execute(_one, {"of_key": f"{when} {number}"}).one_or_none() is not None
                for when in ("before", "behind", "at last")
                for number in range(TIMES)
            ]
            assert found == [True] * TIMES + [False] * TIMES + [True] * TIMES


def test_what_is_rolled_back_is_not_there(engine: Engine) -> None:
    with connect(engine) as connection:
        for number in range(TIMES):
            transaction = connection.begin()
            connection.execute(_add, session(f"s{number}"))
            transaction.rollback()
            with connection.begin():
                assert connection.execute(_count).one().of_all == 0
                assert connection.execute(_remove, {"of_key": "s"}).rowcount == 0


def test_a_changed_table_is_read_anew(engine: Engine) -> None:
    """As a migration in another process leaves it."""
    query = select(func.count()).select_from(inbox)
    with connect(engine) as connection:
        for number in range(TIMES):
            with connection.begin():
                connection.execute(_one, {"of_key": "s"}).all()
                assert connection.execute(query).scalar_one() == 0
            with engine.begin() as other:
                other.exec_driver_sql(f"ALTER TABLE sessions ADD COLUMN more{number} TEXT")
                other.exec_driver_sql(f"CREATE INDEX more{number} ON inbox (text, id)")


@pytest.mark.parametrize("later", ["a query", "another statement", "the commit"])
def test_a_lost_connection_is_told_as_one(later: str) -> None:
    url = engines.server().create("template_interject")
    engine = connect_directly(make_url(url), 2, autocommit=False)
    try:
        with connect(engine) as connection:
            for number in range(TIMES):
                with connection.begin():
                    connection.execute(_one, {"of_key": "s"})
                    connection.execute(_add, session(f"s{number}"))
            transaction = connection.begin()
            connection.execute(_one, {"of_key": "s"})
            if later != "a query":
                connection.execute(_add, session("lost"))
            with engine.begin() as other:
                others = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE pid <> pg_backend_pid()"
                assert other.exec_driver_sql(f"{others} AND datname = current_database()").scalar_one() == 1
            meet: dict[str, Callable[[], object]] = {
                "a query": lambda: connection.execute(_one, {"of_key": "s"}),
                "another statement": lambda: connection.execute(_add, session("lost too")).rowcount,
                "the commit": transaction.commit,
            }
            with pytest.raises(DBAPIError) as raised:
                meet[later]()
            assert is_lost(raised.value)
            assert connection.invalidated
    finally:
        engine.dispose()
        engines.server().drop(url)
