"""Connections of psycopg whose cursors, for SQLAlchemy, are as small as the store needs them.

psycopg's cursor runs a statement as a generator that waits for the socket in Python, in several steps, and makes its
description of the result anew each time. Here a statement is one call of libpq, which waits without Python's lock, and
what is known of a statement is kept beside its name in the server. A statement of the store costs half as much so.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from itertools import count, islice
from typing import Any

import psycopg
import psycopg.abc
from psycopg.adapt import PyFormat, Transformer
from psycopg.errors import FeatureNotSupported, InFailedSqlTransaction, InvalidSqlStatementName, error_from_result
from psycopg.pq import ConnStatus, DiagnosticField, ExecStatus, TransactionStatus
from psycopg.pq.abc import PGresult

PARAMSTYLE = "numeric_dollar"
"""How SQLAlchemy has to write placeholders: as the server does."""

PREPARED_FROM = 3
"""A statement that is run so many times on a connection is prepared in the server."""

MAX_PARAMETERS = 65_535
"""Of one statement: the protocol counts them so far."""

REMEMBERED = 200
"""Statements of a connection that are counted, or prepared."""

_BEGIN = b"BEGIN ISOLATION LEVEL READ COMMITTED"
_SUCCESSES = (ExecStatus.TUPLES_OK, ExecStatus.COMMAND_OK, ExecStatus.EMPTY_QUERY)

_REPLANNING = "RevalidateCachedQuery"
"""The server's function that refuses a prepared statement whose columns have other types now."""

_Description = tuple[tuple[Any, ...], ...]


class _Statement:
    """One text with parameters of certain types, on one connection. `name` is "" until it is prepared."""

    __slots__ = ("description", "name", "sql", "uses")

    def __init__(self, sql: bytes) -> None:
        self.sql = sql
        self.name = b""
        self.uses = 0
        self.description: _Description | None = None


class Cursor:
    """What SQLAlchemy uses of a cursor (PEP 249). A result is fetched whole."""

    arraysize = 1

    def __init__(self, connection: DirectConnection) -> None:
        self._connection = connection
        self._rows: Iterator[tuple[Any, ...]] = iter(())
        self.description: _Description | None = None
        self.rowcount = -1

    def execute(self, statement: str, parameters: Sequence[Any] = ()) -> Cursor:
        """Runs the statement, whose placeholders are `$1`, `$2`, …; without parameters it may be several."""
        self.description, self.rowcount, rows = self._connection.run(statement, parameters)
        self._rows = iter(rows)
        return self

    def executemany(self, statement: str, many: Iterable[Sequence[Any]]) -> None:
        """Runs the statement with each of these, one after another."""
        changed = sum(self._connection.run(statement, parameters)[1] for parameters in many)
        self.description, self.rowcount, self._rows = None, changed, iter(())

    def fetchone(self) -> tuple[Any, ...] | None:
        return next(self._rows, None)

    def fetchmany(self, size: int | None = None) -> list[tuple[Any, ...]]:
        return list(islice(self._rows, size or self.arraysize))

    def fetchall(self) -> list[tuple[Any, ...]]:
        return list(self._rows)

    def setinputsizes(self, *sizes: Any) -> None:
        """Nothing: types follow from the values and from casts in the statement."""

    def close(self) -> None:
        self._rows = iter(())


class DirectConnection(psycopg.Connection[Any]):
    """For use by one thread at a time. A transaction begins with the first statement, except in `autocommit`; its BEGIN
    is sent together with a statement that has no parameters."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._statements = OrderedDict[tuple[str, tuple[int, ...] | None], _Statement]()
        self._numbers = count(1)

    @cached_property
    def _transformer(self) -> psycopg.abc.Transformer:
        # What the connection adapts is set after `__init__`.
        return Transformer(self)

    def cursor(self, *args: Any, **kwargs: Any) -> Any:
        return Cursor(self)

    def commit(self) -> None:
        """Raises `psycopg.Error`, also if a statement has failed: the server rolls back then, and calls that a
        success."""
        if (result := self._end(b"COMMIT")) is not None and result.command_status == b"ROLLBACK":
            raise InFailedSqlTransaction("rolled back: a statement of the transaction has failed")

    def rollback(self) -> None:
        self._end(b"ROLLBACK")

    def _end(self, command: bytes) -> PGresult | None:
        if self.pgconn.transaction_status == TransactionStatus.IDLE:
            return None
        return self._checked(self.pgconn.exec_(command))

    def run(self, statement: str, parameters: Sequence[Any]) -> tuple[_Description | None, int, list[tuple[Any, ...]]]:
        """The description of the result, the number of its rows or of those that were changed, and its rows. Raises
        `psycopg.Error`."""
        begins = not self.autocommit and self.pgconn.transaction_status == TransactionStatus.IDLE
        if not parameters:
            sql = statement.encode()
            result = self._checked(self.pgconn.exec_(_BEGIN + b"; " + sql if begins else sql))
            return self._read(result, _described(result))
        if len(parameters) > MAX_PARAMETERS:
            # The error that libpq has for it looks like one of the connection.
            raise psycopg.ProgrammingError(f"{len(parameters)} parameters: more than {MAX_PARAMETERS} in one statement")
        if begins:
            self._checked(self.pgconn.exec_(_BEGIN))
        adapt = self._transformer
        values: Any = adapt.dump_sequence(parameters, [PyFormat.AUTO] * len(parameters))
        types, formats = adapt.types, adapt.formats
        known = self._known(statement, types)
        if known.uses == PREPARED_FROM:
            name = b"s%d" % next(self._numbers)
            self._checked(self.pgconn.prepare(name, known.sql, types))
            known.name = name
        if known.name:
            result = self._run_prepared(known.name, values, formats)
        else:
            result = self._checked(self.pgconn.exec_params(known.sql, values, types, formats))
        if known.description is None:
            known.description = _described(result)
        if len(self._statements) > REMEMBERED:
            self._forget_oldest()
        return self._read(result, known.description)

    def _run_prepared(self, name: bytes, values: Any, formats: Any) -> PGresult:
        """Ends the connection when the server does not know the statement any more, or its columns have other types
        since a migration: on another one all are prepared anew."""
        try:
            return self._checked(self.pgconn.exec_prepared(name, values, formats))
        except (FeatureNotSupported, InvalidSqlStatementName) as error:
            if isinstance(error, InvalidSqlStatementName) or error.diag.source_function == _REPLANNING:
                self.close()
            raise

    def _known(self, statement: str, types: tuple[int, ...] | None) -> _Statement:
        key = (statement, types)
        known = self._statements.get(key)
        if known is None:
            known = self._statements[key] = _Statement(statement.encode())
        else:
            self._statements.move_to_end(key)
        known.uses += 1
        return known

    def _forget_oldest(self) -> None:
        _, oldest = self._statements.popitem(last=False)
        if oldest.name:
            self._checked(self.pgconn.exec_(b"DEALLOCATE " + oldest.name))

    def _read(
        self, result: PGresult, description: _Description | None
    ) -> tuple[_Description | None, int, list[tuple[Any, ...]]]:
        if description is None:
            changed = result.command_tuples
            return None, -1 if changed is None else changed, []
        adapt = self._transformer
        adapt.set_pgresult(result)
        return description, result.ntuples, adapt.load_rows(0, result.ntuples, tuple)

    def _checked(self, result: PGresult) -> PGresult:
        if result.status in _SUCCESSES:
            return result
        if self.pgconn.status == ConnStatus.BAD and not result.error_field(DiagnosticField.SQLSTATE):
            raise psycopg.OperationalError(result.get_error_message())
        raise error_from_result(result)


def _described(result: PGresult) -> _Description | None:
    """Names and types of the columns; None where the command has no rows."""
    if result.status != ExecStatus.TUPLES_OK:
        return None
    names = ((result.fname(column) or b"").decode() for column in range(result.nfields))
    return tuple((name, result.ftype(column), None, None, None, None, None) for column, name in enumerate(names))
