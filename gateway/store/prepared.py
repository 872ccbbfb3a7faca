"""Connections to SQLite that know the statements which they have run before.

SQLAlchemy makes several objects for each execution of a statement, which for a small one takes three times as long as
SQLite does. What follows from the statement alone is found once here: its SQL, and how its parameters and columns are
converted. Statements without such a simple form are left to SQLAlchemy.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

from sqlalchemy import Connection, Delete, Dialect, Engine, Insert, Select, Update
from sqlalchemy.engine import IteratorResult
from sqlalchemy.engine.result import SimpleResultMetaData
from sqlalchemy.exc import DBAPIError
from sqlalchemy.sql.compiler import SQLCompiler

PREPARED_FROM = 2
"""A statement that is run so many times on a connection is prepared."""

_Convert = Callable[[Any], Any]
_Parameters = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class _Prepared:
    """A statement with parameters of these names (`keys`). `arguments` are in the order of the SQL; those `given` to an
    execution are put at their places in it, converted."""

    sql: str
    keys: frozenset[str]
    arguments: tuple[Any, ...]
    given: tuple[tuple[int, str, _Convert | None], ...]
    columns: SimpleResultMetaData

    def bound(self, parameters: _Parameters) -> list[Any]:
        arguments = list(self.arguments)
        for place, key, convert in self.given:
            value = parameters[key]
            arguments[place] = value if convert is None else convert(value)
        return arguments


class _Result(IteratorResult[*tuple[Any, ...]]):
    """The rows of a statement, fetched whole, and how many it has changed."""

    def __init__(self, columns: SimpleResultMetaData, cursor: sqlite3.Cursor) -> None:
        super().__init__(columns, iter(cursor.fetchall()))
        self.rowcount = cursor.rowcount


class _Statement:
    """`prepared` is None for one that was not run often enough, or has no simple form."""

    __slots__ = ("prepared", "uses")

    def __init__(self) -> None:
        self.prepared: _Prepared | None = None
        self.uses = 0


class PreparingConnection(Connection):
    """For use by one thread at a time. What is known of a statement belongs to the object: those of a module are run
    again and again, those that are made for one use never are."""

    def __init__(self, engine: Engine) -> None:
        super().__init__(engine)
        self._known = WeakKeyDictionary[Any, _Statement]()

    def execute(self, statement: Any, parameters: Any = None, *, execution_options: Any = None) -> Any:
        """As `Connection.execute`. Raises `DBAPIError`, and what converting a parameter raises."""
        many = parameters if parameters and isinstance(parameters, list) else [parameters or {}]
        prepared = self._prepared(statement, many) if self.in_transaction() and not execution_options else None
        if prepared is None:
            return super().execute(statement, parameters, execution_options=execution_options)
        driver = self.connection.driver_connection
        assert isinstance(driver, sqlite3.Connection)
        bound = [prepared.bound(each) for each in many]
        try:
            run_many = len(bound) > 1
            cursor = driver.executemany(prepared.sql, bound) if run_many else driver.execute(prepared.sql, bound[0])
            return _Result(prepared.columns, cursor)
        except sqlite3.Error as error:
            # As SQLAlchemy translates them.
            raise DBAPIError.instance(prepared.sql, bound, error, sqlite3.Error, dialect=self.dialect) from error

    def _prepared(self, statement: Any, many: Sequence[_Parameters]) -> _Prepared | None:
        known = self._known.get(statement)
        if known is None:
            known = self._known[statement] = _Statement()
        known.uses += 1
        if known.uses == PREPARED_FROM:
            known.prepared = _prepare(statement, self.dialect, many[0])
        prepared = known.prepared
        if prepared is None or many[0].keys() != prepared.keys:
            return None
        if len(many) > 1 and (prepared.columns.keys or any(each.keys() != prepared.keys for each in many)):
            return None
        return prepared


def _prepare(statement: Any, dialect: Dialect, parameters: _Parameters) -> _Prepared | None:
    """None for a statement whose SQL or whose values depend on more than these parameters."""
    if not isinstance(statement, Select | Insert | Update | Delete) or statement.get_execution_options():
        return None
    compiled = statement.compile(dialect=dialect, column_keys=sorted(parameters))
    assert isinstance(compiled, SQLCompiler)
    if compiled.post_compile_params or compiled.literal_execute_params or compiled.prefetch:
        return None
    arguments, given = list[Any](), list[tuple[int, str, _Convert | None]]()
    for place, name in enumerate(compiled.positiontup or ()):
        bind = compiled.binds[name]
        convert = bind.type.dialect_impl(dialect).bind_processor(dialect)
        if bind.key in parameters:
            arguments.append(None)
            given.append((place, bind.key, convert))
        elif bind.required or bind.callable is not None:
            return None
        else:
            arguments.append(bind.value if convert is None else convert(bind.value))
    columns = statement.exported_columns
    convert_back = [column.type.dialect_impl(dialect).result_processor(dialect, None) for column in columns]
    return _Prepared(
        compiled.string,
        frozenset(parameters),
        tuple(arguments),
        tuple(given),
        SimpleResultMetaData([key or "" for key in columns.keys()], _processors=convert_back),  # noqa: SIM118
    )
