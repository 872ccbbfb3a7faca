"""The databases that tests run on: a SQLite file, or a real PostgreSQL server.

A module with `pytestmark = pytest.mark.engines` runs on both, and so does a test with that mark; with an argument it
runs on that engine only. The others run on SQLite, or on what the variable TEST_STORE names.
"""

from __future__ import annotations

import atexit
import os
import sqlite3
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any, Literal, cast

import psycopg
import pytest
from psycopg.types.string import TextLoader

from gateway.store.postgres_database import open_database
from gateway.store.urls import database_url
from tests.servers.postgres import MISSING, Postgres, programs, running

Kind = Literal["sqlite", "postgresql"]

KINDS: tuple[Kind, ...] = ("sqlite", "postgresql")

TEMPLATE = "template_interject"
"""A database with our tables, empty; those of tests are copies of it."""

_USUAL = cast("Kind", os.environ.get("TEST_STORE", "sqlite"))


class Engines:
    """Gives each test its databases; there is one, `engines`. The server starts with the first test that needs it and
    serves all tests of this process."""

    def __init__(self) -> None:
        self.kind: Kind = _USUAL
        self._stack = ExitStack()
        self._server: Postgres | None = None
        self._made: dict[Path, str] = {}
        self._beside: dict[Path, psycopg.Connection[Any]] = {}
        self._refusals: dict[tuple[Path, str], list[str]] = {}

    @contextmanager
    def of(self, kind: Kind) -> Iterator[None]:
        """The databases made within are of this kind, and are removed at the end."""
        self.kind = kind
        try:
            yield
        finally:
            self.kind = _USUAL
            self._refusals.clear()
            for file in list(self._made):
                self.remove(file)

    def url(self, file: Path) -> str:
        """The database of this test that a SQLite file with this name would be: the same one each time."""
        if self.kind == "sqlite":
            return f"sqlite:///{file}"
        if file not in self._made:
            self._made[file] = self.server().create(TEMPLATE)
        return self._made[file]

    def sql(self, file: Path, statement: str, *values: object) -> list[Any]:
        """The rows of SQL that both engines understand, with `?` for each value, run beside those who use the database.
        JSON is text."""
        if self.kind == "sqlite":
            with closing(sqlite3.connect(file)) as connection, connection:
                return list(connection.execute(statement, values))
        if file not in self._beside:
            opened = psycopg.connect(self.url(file), autocommit=True)
            opened.adapters.register_loader("jsonb", TextLoader)
            self._beside[file] = opened
        placed = statement.replace("%", "%%").replace("?", "%s") if values else statement
        try:
            cursor = self._beside[file].execute(placed.encode(), values or None)
        except psycopg.OperationalError:
            # The server was restarted.
            self._beside.pop(file).close()
            raise
        return cursor.fetchall() if cursor.description else []

    def refuse(
        self, file: Path, table: str, event: str = "INSERT", when: str = "TRUE", reason: str = "no room"
    ) -> None:
        """The database refuses to write to the table, as with a full disk, until `allow`. `event` is INSERT, UPDATE,
        DELETE or UPDATE OF a column, `when` a condition on the rows OLD and NEW."""
        name = f"refuse_{event.split()[0].lower()}_{table}"
        trigger = f"CREATE TRIGGER {name} BEFORE {event} ON {table}"
        if self.kind == "sqlite":
            self.sql(file, f"{trigger} WHEN {when} BEGIN SELECT RAISE(ABORT, '{reason}'); END")
        else:
            body = f"BEGIN IF {when} THEN RAISE EXCEPTION '{reason}'; END IF; RETURN coalesce(NEW, OLD); END"
            self.sql(file, f"CREATE FUNCTION {name}() RETURNS trigger LANGUAGE plpgsql AS $$ {body} $$")
            self.sql(file, f"{trigger} FOR EACH ROW EXECUTE FUNCTION {name}()")
        self._refusals.setdefault((file, table), []).append(name)

    def allow(self, file: Path, table: str) -> None:
        for name in self._refusals.pop((file, table)):
            self.sql(file, f"DROP TRIGGER {name}" if self.kind == "sqlite" else f"DROP FUNCTION {name} CASCADE")

    def server(self) -> Postgres:
        if self._server is None:
            if programs() is None:
                needed = os.environ.get("TEST_POSTGRESQL") == "required"
                pytest.fail(MISSING, pytrace=False) if needed else pytest.skip(MISSING)
            self._server = self._stack.enter_context(running())
            atexit.register(self._stack.close)
            self._server.execute(f"CREATE DATABASE {TEMPLATE}")
            open_database(database_url(self._server.url(TEMPLATE)), 1).dispose()
        return self._server

    def remove(self, file: Path) -> None:
        """Removes a database before the end of the test; a SQLite file is left to whoever made its folder."""
        if (connection := self._beside.pop(file, None)) is not None:
            connection.close()
        if (url := self._made.pop(file, None)) is not None:
            self.server().drop(url)


engines = Engines()
