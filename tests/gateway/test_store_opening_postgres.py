"""Opening a PostgreSQL database that is not as it should be: what is wrong is told, and nothing is changed."""

from __future__ import annotations

import asyncio
import logging
import traceback
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from gateway.store import open_store
from gateway.store.errors import StoreCorrupt, StoreError, StoreFailed, StoreTooNew, StoreUnreachable
from tests.engines import engines
from tests.gateway.notes import begin, first_words, tell, url_of
from tests.servers.postgres import PASSWORD

pytestmark = pytest.mark.engines("postgresql")


@pytest.fixture
def empty() -> Iterator[str]:
    """The URL of a database without tables."""
    url = engines.server().create()
    yield url
    engines.server().drop(url)


def execute(url: str, *statements: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        for statement in statements:
            connection.execute(statement.encode())


def tables(url: str) -> list[str]:
    with psycopg.connect(url) as connection:
        found = connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'").fetchall()
    return sorted(name for (name,) in found)


async def refused(url: str) -> StoreError:
    with pytest.raises(StoreError) as told:
        async with open_store(url):
            pass
    return told.value


async def test_an_empty_database_gets_the_same_tables_whoever_opens_it_first(empty: str) -> None:
    async def use(name: str) -> None:
        async with open_store(empty, worker=name) as store:
            await tell(store, name, name)
            assert first_words(await begin(store, name)) == [name]

    await asyncio.gather(*map(use, ("a", "b", "c")))
    assert tables(empty) == tables(url_of(Path("another")))


async def test_a_database_that_is_opened_again_has_what_was_stored(empty: str) -> None:
    async with open_store(empty) as store:
        await tell(store, "hi")
    async with open_store(empty) as store:
        assert first_words(await begin(store)) == ["hi"]


async def test_a_server_that_does_not_answer_is_told_with_its_address() -> None:
    told = await refused("postgresql://interject:secret@127.0.0.1:1/gone")
    assert isinstance(told, StoreUnreachable)
    assert "postgresql://interject:***@127.0.0.1:1/gone cannot be reached" in str(told)
    assert "Check that the server runs" in str(told)


async def test_a_wrong_password_is_told_and_never_shown(empty: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    told = await refused(empty.replace(PASSWORD, "a-wrong-one"))
    assert 'password authentication failed for user "interject"' in str(told)
    assert "a-wrong-one" not in caplog.text + "".join(traceback.format_exception(told))


async def test_the_password_of_a_working_database_is_in_no_log_and_no_error(
    empty: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    execute(empty, "ALTER ROLE interject PASSWORD 'quite%20unmistakable'")
    try:
        url = empty.replace(PASSWORD, "quite%2520unmistakable")
        async with open_store(url) as store:
            with pytest.raises(StoreFailed) as told:
                await store.write(lambda connection: connection.exec_driver_sql("SELECT nonsense"))
    finally:
        engines.server().execute(f"ALTER ROLE interject PASSWORD '{PASSWORD}'")
    assert "unmistakable" not in caplog.text + "".join(traceback.format_exception(told.value))


async def test_a_missing_database_is_told_by_its_name(empty: str) -> None:
    told = await refused(empty.rpartition("/")[0] + "/not_there")
    assert 'database "not_there" does not exist' in str(told)


async def test_the_tables_of_another_program_are_left_alone(empty: str) -> None:
    execute(empty, "CREATE TABLE accounts (id integer)")
    told = await refused(empty)
    assert isinstance(told, StoreCorrupt)
    assert "there are tables of another program in it" in str(told)
    assert tables(empty) == ["accounts"]


async def test_a_newer_database_is_refused_and_not_changed(empty: str) -> None:
    async with open_store(empty) as store:
        await tell(store, "hi")
    before = tables(empty)
    execute(empty, "DELETE FROM schema_support", "UPDATE alembic_version SET version_num = '9999'")
    told = await refused(empty)
    assert isinstance(told, StoreTooNew)
    assert "its schema is 9999" in str(told)
    assert tables(empty) == before


@pytest.mark.parametrize("missing", ["CREATE", "ALL"])
async def test_a_user_who_may_not_create_tables_is_told_what_to_grant(empty: str, missing: str) -> None:
    name = empty.rpartition("/")[2]
    guest = f"guest_{name}"
    execute(empty, f"CREATE ROLE {guest} LOGIN PASSWORD 'secret'", f"REVOKE {missing} ON SCHEMA public FROM PUBLIC")
    try:
        told = await refused(empty.replace("interject:", f"{guest}:"))
        assert "Grant it the right to create tables" in str(told)
        assert tables(empty) == []
    finally:
        execute(empty, f"DROP OWNED BY {guest}")
        engines.server().execute(f'REVOKE ALL ON DATABASE "{name}" FROM {guest}')
        engines.server().execute(f"DROP ROLE {guest}")


async def test_a_database_that_only_reads_names_the_primary_server(empty: str) -> None:
    async with open_store(empty) as store:
        await tell(store, "hi")
    execute(empty, f'ALTER DATABASE "{empty.rpartition("/")[2]}" SET default_transaction_read_only = on')
    told = await refused(empty)
    assert "it is read-only, as a standby server is" in str(told)


async def test_a_server_without_free_connections_is_told_with_its_setting(empty: str) -> None:
    name = empty.rpartition("/")[2]
    guest = f"guest_{name}"
    async with open_store(empty) as store:
        await tell(store, "hi")
    execute(
        empty,
        f"CREATE ROLE {guest} LOGIN PASSWORD 'secret' CONNECTION LIMIT 0",
        f"GRANT CREATE ON SCHEMA public TO {guest}",
    )
    try:
        told = await refused(empty.replace("interject:", f"{guest}:"))
        assert "too many connections" in str(told)
    finally:
        execute(empty, f"DROP OWNED BY {guest}")
        engines.server().execute(f'REVOKE ALL ON DATABASE "{name}" FROM {guest}')
        engines.server().execute(f"DROP ROLE {guest}")
