"""The database's clock, by which processes on several machines agree."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, Double, select
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import GenericFunction


class Now(GenericFunction[Any]):
    """In seconds since 1970, at the moment when the statement is run."""

    type = Double()
    inherit_cache = True
    name = "seconds_now"


@compiles(Now, "sqlite")
def _now_in_sqlite(element: Now, compiler: Any, **kwargs: Any) -> str:
    return "((julianday('now') - 2440587.5) * 86400.0)"


@compiles(Now, "postgresql")
def _now_in_postgresql(element: Now, compiler: Any, **kwargs: Any) -> str:
    return "extract(epoch from clock_timestamp())"


_now = select(Now())


def now(connection: Connection) -> float:
    """The time on the database's clock, in seconds since 1970."""
    return float(connection.execute(_now).scalar_one())
