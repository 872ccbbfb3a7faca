"""Schemas that differ: upgrades on both engines, beside gateways that run, and programs that are older than a
database."""

from __future__ import annotations

import asyncio
import io
import logging
from collections.abc import Iterator
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import psycopg
import pytest
from sqlalchemy import create_engine, inspect

from gateway.cli.main import main
from gateway.store import migrate, offline, open_store
from gateway.store.errors import StoreFailed, StoreTooNew
from gateway.store.postgres_database import connect, open_database
from gateway.store.read_only import reading
from gateway.store.schema import OLDEST, REVISION
from gateway.store.schema_support import found_schema
from gateway.store.sqlite_file import prepare_writing
from gateway.store.urls import database_url
from tests.engines import engines
from tests.gateway.notes import begin, first_words, tell, url_of

SINCE = "0018"
"""The newest schema before there were databases on PostgreSQL."""

NEWER = "9999"

CATALOG = """
    SELECT 'column', c.relname || '.' || a.attname, format_type(a.atttypid, a.atttypmod)
        || CASE WHEN a.attnotnull THEN ' NOT NULL' ELSE '' END || ' ' || a.attidentity::text
        || coalesce(pg_get_expr(d.adbin, d.adrelid), '')
      FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid LEFT JOIN pg_attrdef d
        ON d.adrelid = c.oid AND d.adnum = a.attnum
      WHERE c.relnamespace = 'public'::regnamespace AND c.relkind = 'r' AND a.attnum > 0 AND NOT a.attisdropped
    UNION ALL SELECT 'index', indexname, indexdef FROM pg_indexes WHERE schemaname = 'public'
    UNION ALL SELECT 'constraint', conrelid::regclass || '.' || conname, pg_get_constraintdef(oid)
      FROM pg_constraint WHERE connamespace = 'public'::regnamespace
"""


def newer_than(revision: str) -> list[str]:
    return [each for each in migrate.revisions() if each >= revision]


@pytest.fixture
def empty() -> Iterator[str]:
    url = engines.server().create()
    yield url
    engines.server().drop(url)


def catalog(url: str) -> set[tuple[Any, ...]]:
    """Every column, index and constraint, without Alembic's own table."""
    with psycopg.connect(url) as connection:
        return {row for row in connection.execute(CATALOG) if "alembic_version" not in str(row[1:])}


def migrate_to(url: str, revision: str) -> None:
    """As the version of that schema left it."""
    if url.startswith("sqlite"):
        engine = create_engine(url)
        prepare_writing(engine)
    else:
        engine = connect(database_url(url), 1)
    with engine.begin() as connection:
        migrate.upgrade(connection, revision)
    engine.dispose()


def mark(url: str, revision: str, oldest: str) -> None:
    """A program of that schema has upgraded the database."""
    engine = create_engine(url if url.startswith("sqlite") else url.replace("postgresql:", "postgresql+psycopg:"))
    with engine.begin() as connection:
        connection.exec_driver_sql(f"UPDATE alembic_version SET version_num = '{revision}'")
        connection.exec_driver_sql(f"UPDATE schema_support SET oldest = '{oldest}'")
    engine.dispose()


# Upgrades


@pytest.mark.parametrize("revision", newer_than(SINCE)[:-1])
def test_an_upgraded_database_on_postgresql_equals_a_new_one(empty: str, revision: str) -> None:
    migrate_to(empty, revision)
    open_database(database_url(empty), 1).dispose()
    new = engines.server().create()
    open_database(database_url(new), 1).dispose()
    assert catalog(empty) ^ catalog(new) == set()
    engines.server().drop(new)


@pytest.mark.engines
def test_what_the_schema_says_of_older_programs_is_what_the_migrations_say(tmp_path: Path) -> None:
    folder = tmp_path / "migrated"
    folder.mkdir()
    url = f"sqlite:///{folder / 'interject.db'}" if engines.kind == "sqlite" else engines.server().create()
    migrate_to(url, "head")
    with reading(url) as connection:
        assert found_schema(connection) == (REVISION, OLDEST)


@pytest.mark.parametrize("revision", newer_than("0022"))
def test_a_migration_leaves_room_for_older_programs_or_ends_their_support(tmp_path: Path, revision: str) -> None:
    """Columns and tables may be added if an older program can go on to write rows without them."""
    before = migrate.revisions()[migrate.revisions().index(revision) - 1]
    columns = {}
    for each in (before, revision):
        url = f"sqlite:///{tmp_path / f'{each}.db'}"
        migrate_to(url, each)
        engine = create_engine(url)
        with engine.connect() as connection:
            found = inspect(connection)
            columns[each] = {
                (table, column["name"]): bool(column["nullable"] or column["default"] is not None)
                for table in found.get_table_names()
                for column in found.get_columns(table)
            }
            oldest = found_schema(connection)[1]
        engine.dispose()
    tables = {table for table, _ in columns[before]}
    removed = columns[before].keys() - columns[revision].keys()
    needed = {
        key
        for key, may_lack in columns[revision].items()
        if key not in columns[before] and key[0] in tables and not may_lack
    }
    if removed or needed:
        assert oldest > before, f"{revision} removes {removed} and needs {needed}: use end_support_before"


# Programs that are older


@pytest.mark.engines
async def test_an_older_program_works_with_a_newer_database_that_leaves_room_for_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with open_store(url_of(tmp_path)) as store:
        await tell(store, "from before")
    mark(url_of(tmp_path), NEWER, REVISION)
    with caplog.at_level(logging.INFO, "gateway.store"):
        async with open_store(url_of(tmp_path)) as store:
            assert first_words(await begin(store)) == ["from before"]
    assert f"the database has the newer schema {NEWER}, with which this version works too" in caplog.text
    assert offline.conversations(url_of(tmp_path))
    assert offline.create_api_key(url_of(tmp_path), "CI", "read").secret
    with reading(url_of(tmp_path)) as connection:
        assert found_schema(connection) == (NEWER, REVISION)


@pytest.mark.engines
@pytest.mark.parametrize(("revision", "oldest"), [(NEWER, NEWER), ("from-the-future", REVISION)])
async def test_an_older_program_refuses_a_database_that_it_does_not_understand(
    tmp_path: Path, revision: str, oldest: str
) -> None:
    async with open_store(url_of(tmp_path)):
        pass
    mark(url_of(tmp_path), revision, oldest)
    with pytest.raises(StoreTooNew, match=f"newer version.*{revision}") as refusal:
        async with open_store(url_of(tmp_path)):
            pass
    assert refusal.value.revision == revision
    with pytest.raises(StoreFailed, match=f"has the schema {revision}"):
        offline.conversations(url_of(tmp_path))
    with pytest.raises(StoreFailed, match=f"has the schema {revision}"):
        offline.create_api_key(url_of(tmp_path), "CI", "read")


# Beside gateways that run on PostgreSQL


def add_worker(url: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        names = [
            (name, type)
            for name, type in connection.execute(
                "SELECT column_name, data_type FROM information_schema.columns "
                "WHERE table_name = 'workers' AND table_schema = 'public'"
            )
        ]
        made_up = {"boolean": "false", "text": "'x'", "character varying": "'x'"}
        values = [
            "extract(epoch FROM clock_timestamp()) + 60" if name == "until" else made_up.get(type, "1")
            for name, type in names
        ]
        columns = ", ".join(name for name, _ in names)
        connection.execute(f"INSERT INTO workers ({columns}) VALUES ({', '.join(values)})".encode())


def test_an_upgrade_that_ends_the_support_of_running_gateways_is_not_begun_beside_them(empty: str) -> None:
    migrate_to(empty, "0020")
    add_worker(empty)
    with pytest.raises(StoreFailed, match=r"beside the 1 gateways that use it.*Nothing was changed\. Stop them"):
        open_database(database_url(empty), 1)
    with psycopg.connect(empty) as connection:
        assert connection.execute("SELECT version_num FROM alembic_version").fetchall() == [("0020",)]
        connection.execute("DELETE FROM workers")
    open_database(database_url(empty), 1).dispose()


def test_an_upgrade_that_leaves_room_for_running_gateways_is_done_beside_them(empty: str) -> None:
    migrate_to(empty, "0021")
    add_worker(empty)
    open_database(database_url(empty), 1).dispose()
    with reading(empty) as connection:
        assert found_schema(connection)[0] == REVISION


WAITS = "SELECT 1 FROM pg_locks JOIN pg_stat_activity USING (pid) WHERE NOT granted AND datname = current_database()"


async def test_an_upgrade_waits_for_a_lock_but_nobody_waits_long_behind_it(empty: str) -> None:
    migrate_to(empty, "0021")
    with psycopg.connect(empty) as forgotten, psycopg.connect(empty, autocommit=True) as writer:
        forgotten.execute("DELETE FROM inbox")
        upgrade = asyncio.create_task(asyncio.to_thread(open_database, database_url(empty), 1))
        with psycopg.connect(empty, autocommit=True) as watching:
            while not watching.execute(WAITS).fetchone():  # noqa: ASYNC110 - it is asked of a server
                await asyncio.sleep(0.01)
        await asyncio.wait_for(asyncio.to_thread(writer.execute, "DELETE FROM inbox"), 20)
        forgotten.rollback()
        (await asyncio.wait_for(upgrade, 30)).dispose()
    with reading(empty) as connection:
        assert found_schema(connection)[0] == REVISION


# The rehearsal on a server


def check_upgrade(folder: Path, url: str) -> str:
    (folder / "interject.toml").write_text(f'[store]\nurl = "{url}"\n')
    out = io.StringIO()
    with redirect_stdout(out):
        main(["check", "--upgrade", "--config", str(folder / "interject.toml")])
    return out.getvalue()


def test_an_upgrade_is_rehearsed_on_the_server_and_taken_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, empty: str
) -> None:
    monkeypatch.setenv("INTERJECT_HOME", str(tmp_path / "home"))
    assert "there is no database yet" in check_upgrade(tmp_path, empty)
    migrate_to(empty, "0020")
    before = catalog(empty)
    assert f"ok  upgrade: the database went from the schema 0020 to {REVISION}" in check_upgrade(tmp_path, empty)
    assert catalog(empty) == before
    add_worker(empty)
    assert "is in use by 1 gateways, which an attempt would hold up" in check_upgrade(tmp_path, empty)
    with psycopg.connect(empty) as connection:
        connection.execute("DELETE FROM workers")
    open_database(database_url(empty), 1).dispose()
    assert f"nothing to do, the database has the schema {REVISION}" in check_upgrade(tmp_path, empty)
