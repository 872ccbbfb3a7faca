"""The databases that tests run on: a SQLite file, or a real PostgreSQL server."""

from __future__ import annotations

import atexit
import os
from contextlib import ExitStack
from pathlib import Path
from typing import Literal

from gateway.store.postgres_database import open_database
from gateway.store.urls import database_url
from tests.servers.postgres import Postgres, running

Kind = Literal["sqlite", "postgresql"]

KINDS: tuple[Kind, ...] = ("sqlite", "postgresql")


class Engines:
    """Gives each test its databases; there is one, `engines`. The server starts with the first test that needs it and
    serves all tests of this process."""

    def __init__(self) -> None:
        self.kind: Kind = "sqlite"
        self._stack = ExitStack()
        self._server: Postgres | None = None
        self._made: dict[Path, str] = {}

    def url(self, file: Path) -> str:
        """The database of this test that a SQLite file with this name would be: the same one each time."""
        if self.kind == "sqlite":
            return f"sqlite:///{file}"
        if file not in self._made:
            server = self.server()
            self._made[file] = server.create("template_interject")
        return self._made[file]

    def server(self) -> Postgres:
        if self._server is None:
            self._server = self._stack.enter_context(running())
            atexit.register(self._stack.close)
            self._server.execute("CREATE DATABASE template_interject")
            open_database(database_url(self._server.url("template_interject")), 1).dispose()
        return self._server

    def forget(self) -> None:
        """Removes the databases of a test that is over."""
        for url in self._made.values():
            self.server().drop(url)
        self._made.clear()


engines = Engines()
if os.environ.get("TEST_STORE") == "postgresql":
    engines.kind = "postgresql"
