"""The section [store]: the database, in a file or on a PostgreSQL server."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, NewType
from urllib.parse import parse_qsl, unquote

from pydantic import AfterValidator, Field, SecretStr

from config.section import Section, wrong

SQLITE = "sqlite:///"

DatabaseUrl = NewType("DatabaseUrl", str)
"""A reference to a variable in its user or its password is replaced by the variable's value as URLs write it."""

_FILE = re.compile(rf"{SQLITE}[^?]+")
_SERVER = re.compile(
    r"postgres(?:ql)?://(?:[^:/@\s]*(?::(?P<password>[^@\s]*))?@)?"
    r"(?:\[[0-9A-Fa-f:.]+\]|[^:/?@\s]*)(?::\d+)?(?:/(?P<database>[^/?@\s]*))?(?:\?(?P<query>\S*))?"
)
_SECRET_OPTIONS = frozenset({"password", "sslpassword"})
_SECRET_FILES = ("passfile", "sslkey")


def _database(text: str) -> str:
    if (_FILE.fullmatch(text) and not text.endswith(":memory:")) or _SERVER.fullmatch(text):
        return text
    if re.match(r"postgres(ql)?:", text):
        raise wrong(
            "expected a URL like postgresql://user:password@host:5432/database; in the user and the password @ is "
            "written %40, / is %2F and % is %25"
        )
    raise wrong("expected a database URL, like sqlite:///interject.db or postgresql://user:password@host/database")


class StoreSettings(Section):
    """The database: conversations, queued messages and replies."""

    url: Annotated[DatabaseUrl, AfterValidator(_database)] = Field(
        default=DatabaseUrl(f"{SQLITE}interject.db"),
        description="Database URL: sqlite:/// and the file's path, or postgresql://USER:PASSWORD@HOST/DATABASE for "
        "several processes that work together.",
    )
    lease: float = Field(
        default=15.0,
        ge=1.0,
        le=600.0,
        description="Seconds after which a process that does not answer is dead to the others of a PostgreSQL "
        "database. They then go on with its work.",
    )

    @property
    def file(self) -> Path | None:
        """The file of the database; None for one on a server."""
        return Path(self.url.removeprefix(SQLITE)) if self.url.startswith(SQLITE) else None

    @property
    def credentials(self) -> Iterator[SecretStr]:
        """Its passwords, as the URL writes them and as they are."""
        found = _SERVER.fullmatch(self.url)
        if found is None:
            return
        options = parse_qsl(found["query"] or "")
        given = [value for name, value in options if name in _SECRET_OPTIONS]
        yield from (SecretStr(each) for each in {found["password"], unquote(found["password"] or ""), *given} if each)

    @property
    def secret_files(self) -> Iterator[Path]:
        """The files besides the settings in which the database's client looks for passwords and keys, whether there are
        any or not: https://www.postgresql.org/docs/current/libpq-pgpass.html"""
        found = _SERVER.fullmatch(self.url)
        if found is None:
            return
        named = dict(parse_qsl(found["query"] or ""))
        yield from (Path(named[name]).absolute() for name in _SECRET_FILES if name in named)
        yield from (
            Path(value).absolute() for value in (os.environ.get("PGPASSFILE"), os.environ.get("PGSSLKEY")) if value
        )
        yield from (Path(os.path.expanduser("~")) / name for name in (".pgpass", ".postgresql"))
