"""Connections that know the statements which they have run before.

SQLAlchemy makes several objects for each execution of a statement, which for a small one takes as long as the database
does, or longer. What follows from the statement alone is found once here: its SQL, and how its parameters and columns
are converted. Statements without such a simple form are left to SQLAlchemy.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Protocol, TypeVar
from weakref import WeakKeyDictionary

from sqlalchemy import Connection, Delete, Dialect, Engine, Insert, Select, Update
from sqlalchemy.engine import IteratorResult
from sqlalchemy.engine.result import SimpleResultMetaData
from sqlalchemy.sql.compiler import SQLCompiler

PREPARED_FROM = 2
"""A statement that is run so many times on a connection is prepared."""

T = TypeVar("T")

_Convert = Callable[[Any], Any]
_Parameters = Mapping[str, Any]


Rows = tuple[Sequence[Sequence[Any]] | None, Callable[[], int], Sequence[tuple[Any, ...]]]
"""What a statement gives: the description of its columns as a cursor has it (name, type, …; None without columns), how
many rows it has changed or found, and the rows."""


class RunSql(Protocol):
    def __call__(self, driver: Any, sql: str, arguments: Sequence[Sequence[Any]], *, gives_rows: bool) -> Rows:
        """Runs the SQL on the driver's connection, once with each of these. Raises the driver's errors.

        What gives no rows may be run later, together with what comes next: in the order of the calls, before anything
        that gives rows, before it says how many rows it has changed, and before the end of the transaction. Its errors
        are raised then."""
        ...


class _Prepared:
    """A statement with parameters of these names (`keys`). `arguments` are in the order of the SQL; those `given` to an
    execution are put at their places in it, converted."""

    def __init__(
        self,
        sql: str,
        keys: frozenset[str],
        arguments: Sequence[Any],
        given: Sequence[tuple[int, str, _Convert | None]],
        columns: Sequence[tuple[str, Any]],
    ) -> None:
        """`columns` are the names and types of those that it gives."""
        self.sql = sql
        self.keys = keys
        self.columns = columns
        self._arguments = arguments
        self._given = given
        self._metadata: SimpleResultMetaData | None = None

    def bound(self, parameters: _Parameters) -> list[Any]:
        arguments = list(self._arguments)
        for place, key, convert in self._given:
            value = parameters[key]
            arguments[place] = value if convert is None else convert(value)
        return arguments

    def result(self, found: Rows, dialect: Dialect, changed: Callable[[], int]) -> _Result:
        description, _, rows = found
        if self._metadata is None:
            convert = [
                type.dialect_impl(dialect).result_processor(dialect, column[1])
                for (_, type), column in zip(self.columns, description or (), strict=False)
            ]
            self._metadata = SimpleResultMetaData([name for name, _ in self.columns], _processors=convert)
        return _Result(self._metadata, rows if self.columns else (), changed)


class _Result(IteratorResult[*tuple[Any, ...]]):
    """The rows of a statement, fetched whole, and how many it has changed."""

    def __init__(
        self, columns: SimpleResultMetaData, rows: Sequence[tuple[Any, ...]], changed: Callable[[], int]
    ) -> None:
        super().__init__(columns, iter(rows))
        self._changed = changed

    @property
    def rowcount(self) -> int:
        """Raises `DBAPIError` where the statement is run only now."""
        return self._changed()


class _Statement:
    """`prepared` is None for one that was not run often enough, or has no simple form."""

    __slots__ = ("prepared", "uses")

    def __init__(self) -> None:
        self.prepared: _Prepared | None = None
        self.uses = 0


class KnownStatements:
    """What one thread knows of the statements that it has run. It belongs to their objects: those of a module are run
    again and again, those that are made for one use never are."""

    def __init__(self) -> None:
        self._known = WeakKeyDictionary[Any, _Statement]()

    def prepared(self, statement: Any, many: Sequence[_Parameters], dialect: Dialect) -> _Prepared | None:
        """None for a statement that SQLAlchemy has to run."""
        known = self._known.get(statement)
        if known is None:
            known = self._known[statement] = _Statement()
        known.uses += 1
        if known.uses == PREPARED_FROM:
            known.prepared = _prepare(statement, dialect, many[0])
        prepared = known.prepared
        if prepared is None or many[0].keys() != prepared.keys:
            return None
        if len(many) > 1 and (prepared.columns or any(each.keys() != prepared.keys for each in many)):
            return None
        return prepared


class PreparingConnection(Connection):
    """For use by one thread at a time."""

    def __init__(self, engine: Engine, known: KnownStatements, run: RunSql) -> None:
        super().__init__(engine)
        self._statements = known
        self._run = run

    def execute(self, statement: Any, parameters: Any = None, *, execution_options: Any = None) -> Any:
        """As `Connection.execute`. Raises `DBAPIError`, and what converting a parameter raises."""
        many = parameters if parameters and isinstance(parameters, list) else [parameters or {}]
        prepared = None
        if self.in_transaction() and not execution_options:
            prepared = self._statements.prepared(statement, many, self.dialect)
        if prepared is None:
            return super().execute(statement, parameters, execution_options=execution_options)
        bound = [prepared.bound(each) for each in many]
        run = partial(
            self._run, self.connection.driver_connection, prepared.sql, bound, gives_rows=bool(prepared.columns)
        )
        found = self._raising(run, prepared, bound)
        changed = partial(self._raising, found[1], prepared, bound)
        if self.in_nested_transaction():
            # Where it is the RELEASE that fails, SQLAlchemy does not roll back to the savepoint.
            changed()
        return prepared.result(found, self.dialect, changed)

    def _raising(self, run: Callable[[], T], prepared: _Prepared, bound: Sequence[Sequence[Any]]) -> T:
        """What it gives; the driver's errors are raised as SQLAlchemy has them."""
        try:
            return run()
        except self.dialect.loaded_dbapi.Error as error:
            self._handle_dbapi_exception(error, prepared.sql, tuple(bound[0]), None, None)


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
    columns = [(key or "", column.type) for key, column in statement.exported_columns.items()]
    return _Prepared(compiled.string, frozenset(parameters), tuple(arguments), tuple(given), columns)
