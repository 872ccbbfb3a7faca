"""INSERT … ON CONFLICT, in the form that SQLite and PostgreSQL have in common."""

from __future__ import annotations

from typing import Any, Self, TypeVar

from sqlalchemy import Table
from sqlalchemy.dialects.sqlite import Insert

T = TypeVar("T")


class _Insert(Insert):
    """SQLAlchemy's statement for SQLite, which its compiler for PostgreSQL takes too once the conflict names no
    constraint: only the columns tell which it is."""

    inherit_cache = True

    def on_conflict_do_update(self, *args: Any, **kwargs: Any) -> Self:
        return _by_columns(super().on_conflict_do_update(*args, **kwargs))

    def on_conflict_do_nothing(self, *args: Any, **kwargs: Any) -> Self:
        return _by_columns(super().on_conflict_do_nothing(*args, **kwargs))


def _by_columns(statement: T) -> T:
    vars(statement)["_post_values_clause"].constraint_target = None
    return statement


def insert(table: Table) -> _Insert:
    """An INSERT that may say what happens on a conflict."""
    return _Insert(table)
