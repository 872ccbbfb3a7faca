"""Connections of psycopg whose cursors, for SQLAlchemy, are as small as the store needs them.

psycopg's cursor runs a statement as a generator that waits for the socket in Python, in several steps, and makes its
description of the result anew each time. Here a statement is one call of libpq, which waits without Python's lock, and
what is known of a statement is kept beside its name in the server. A statement of the store costs half as much so.

Waiting for the server costs more than anything else, and takes longer when it is on another machine. Statements whose
answer nobody needs at once wait here, and are sent with the next one or with the COMMIT, in libpq's pipeline mode.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cached_property
from itertools import count, islice
from typing import Any

import psycopg
import psycopg.abc
from psycopg.abc import PQGen
from psycopg.adapt import PyFormat, Transformer
from psycopg.errors import FeatureNotSupported, InFailedSqlTransaction, InvalidSqlStatementName, error_from_result
from psycopg.pq import ConnStatus, DiagnosticField, ExecStatus, TransactionStatus
from psycopg.pq.abc import PGconn, PGresult
from psycopg.waiting import Ready, Wait

PARAMSTYLE = "numeric_dollar"
"""How SQLAlchemy has to write placeholders: as the server does."""

PREPARED_FROM = 3
"""A statement that is run so many times on a connection is prepared in the server."""

MAX_PARAMETERS = 65_535
"""Of one statement: the protocol counts them so far."""

REMEMBERED = 200
"""Statements of a connection that are counted, or prepared."""

MAX_QUEUED = 100
"""Statements that wait to be sent with another."""

_BEGIN = b"BEGIN ISOLATION LEVEL READ COMMITTED"
_SUCCESSES = (ExecStatus.TUPLES_OK, ExecStatus.COMMAND_OK, ExecStatus.EMPTY_QUERY)
_TO_SAVEPOINT = "ROLLBACK TO "

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


class _Call:
    """A statement with its parameters, and its result once it has one."""

    __slots__ = ("formats", "result", "statement", "types", "values")

    def __init__(self, statement: _Statement, values: Any = None, types: Any = None, formats: Any = None) -> None:
        self.statement = statement
        self.values = values
        self.types = types
        self.formats = formats
        self.result: PGresult | None = None

    def run(self, pgconn: PGconn) -> PGresult:
        if self.statement.name:
            return pgconn.exec_prepared(self.statement.name, self.values, self.formats)
        return pgconn.exec_params(self.statement.sql, self.values, self.types, self.formats)

    def send(self, pgconn: PGconn) -> None:
        if self.statement.name:
            pgconn.send_query_prepared(self.statement.name, self.values, self.formats)
        else:
            pgconn.send_query_params(self.statement.sql, self.values, self.types, self.formats)


_COMMIT = _Statement(b"COMMIT")


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
        self._queued = list[_Call]()

    @cached_property
    def _transformer(self) -> psycopg.abc.Transformer:
        # What the connection adapts is set after `__init__`.
        return Transformer(self)

    def cursor(self, *args: Any, **kwargs: Any) -> Any:
        return Cursor(self)

    def commit(self) -> None:
        """Raises `psycopg.Error`, also if a statement has failed: all is rolled back then. The server calls that a
        success where the COMMIT reaches it."""
        try:
            result = self._run(_Call(_COMMIT)) if self._queued else self._end(b"COMMIT")
        except psycopg.Error:
            if self.pgconn.transaction_status == TransactionStatus.INERROR:
                self.rollback()
            raise
        if result is not None and result.command_status == b"ROLLBACK":
            raise InFailedSqlTransaction("rolled back: a statement of the transaction has failed")

    def rollback(self) -> None:
        self._queued.clear()
        self._end(b"ROLLBACK")

    def _end(self, command: bytes) -> PGresult | None:
        if self.pgconn.transaction_status == TransactionStatus.IDLE:
            return None
        return self._checked(self.pgconn.exec_(command))

    def run(self, statement: str, parameters: Sequence[Any]) -> tuple[_Description | None, int, list[tuple[Any, ...]]]:
        """The description of the result, the number of its rows or of those that were changed, and its rows. Raises
        `psycopg.Error`, also for a statement that has waited for this one."""
        if not parameters:
            result = self._run_text(statement)
            return self._read(result, _described(result))
        call = self._call(statement, parameters)
        result, known = self._run(call), call.statement
        if known.description is None:
            known.description = _described(result)
        return self._read(result, known.description)

    def run_later(self, statement: str, parameters: Sequence[Any]) -> Callable[[], int]:
        """Runs the statement, which gives no rows, with the next one that does not wait; a rollback forgets it. The
        function returns how many rows it has changed, for which it is run, and raises `psycopg.Error`."""
        if len(self._queued) == MAX_QUEUED:
            self._run_queued()
        call = self._call(statement, parameters)
        self._queued.append(call)

        def changed() -> int:
            if call.result is None:
                self._run_queued()
            if call.result is None:
                raise InFailedSqlTransaction("never run: the transaction was rolled back")
            return call.result.command_tuples or 0

        return changed

    def _run_text(self, sql: str) -> PGresult:
        if sql.startswith(_TO_SAVEPOINT):
            # They come after the savepoint: that did not wait.
            self._queued.clear()
        self._run_queued()
        begins = not self.autocommit and self.pgconn.transaction_status == TransactionStatus.IDLE
        return self._checked(self.pgconn.exec_(_BEGIN + b"; " + sql.encode() if begins else sql.encode()))

    def _call(self, statement: str, parameters: Sequence[Any]) -> _Call:
        """What it says can be run now: the transaction has begun, and the statement is prepared if it is used often."""
        if len(parameters) > MAX_PARAMETERS:
            # The error that libpq has for it looks like one of the connection.
            raise psycopg.ProgrammingError(f"{len(parameters)} parameters: more than {MAX_PARAMETERS} in one statement")
        if not self.autocommit and self.pgconn.transaction_status == TransactionStatus.IDLE:
            self._checked(self.pgconn.exec_(_BEGIN))
        adapt = self._transformer
        values: Any = adapt.dump_sequence(parameters, [PyFormat.AUTO] * len(parameters))
        types, formats = adapt.types, adapt.formats
        known = self._known(statement, types)
        while len(self._statements) > REMEMBERED:
            self._forget_oldest()
        if known.uses >= PREPARED_FROM and not known.name:
            name = b"s%d" % next(self._numbers)
            self._checked(self.pgconn.prepare(name, known.sql, types))
            known.name = name
        return _Call(known, values, types, formats)

    def _run(self, call: _Call) -> PGresult:
        """Its result, after those that wait."""
        if not self._queued:
            return self._result(call, call.run(self.pgconn))
        self._queued.append(call)
        self._run_queued()
        assert call.result is not None
        return call.result

    def _run_queued(self) -> None:
        """Sends all that wait at once. The server runs none behind one that fails."""
        calls, self._queued = self._queued, []
        for call, result in zip(calls, self._answers(calls) if calls else (), strict=True):
            try:
                call.result = self._result(call, result)
            except psycopg.Error as error:
                error.add_note(f"in {call.statement.sql.decode()}")
                raise

    def _answers(self, calls: Sequence[_Call]) -> list[PGresult]:
        try:
            self.pgconn.enter_pipeline_mode()
            for call in calls:
                call.send(self.pgconn)
            self.pgconn.pipeline_sync()
            answers = self.wait(_received(self.pgconn))
            self.pgconn.exit_pipeline_mode()
        except BaseException:
            # Nobody knows which answers are still to come.
            self.close()
            raise
        return answers

    def _result(self, call: _Call, result: PGresult) -> PGresult:
        """Ends the connection when the server does not know the statement any more, or its columns have other types
        since a migration: on another one all are prepared anew."""
        try:
            return self._checked(result)
        except (FeatureNotSupported, InvalidSqlStatementName) as error:
            unknown = isinstance(error, InvalidSqlStatementName) or error.diag.source_function == _REPLANNING
            if call.statement.name and unknown:
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
        key, oldest = next(iter(self._statements.items()))
        if oldest.name:
            # It may be among those that wait.
            self._run_queued()
            self._result(_Call(oldest), self.pgconn.exec_(b"DEALLOCATE " + oldest.name))
        del self._statements[key]

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


def _received(pgconn: PGconn) -> PQGen[list[PGresult]]:
    """The answers to what was sent before the synchronization, once all is sent. Raises `psycopg.OperationalError` if
    the connection is lost."""
    while pgconn.flush():
        if (yield Wait.RW) & Ready.R:
            pgconn.consume_input()
    answers, last = list[PGresult](), True
    while True:
        while pgconn.is_busy():
            if (yield Wait.R):
                pgconn.consume_input()
        result = pgconn.get_result()
        if result is None:
            # One follows each answer.
            if not last:
                raise psycopg.OperationalError(f"the connection is lost: {pgconn.get_error_message()}")
        elif result.status == ExecStatus.PIPELINE_SYNC:
            return answers
        else:
            answers.append(result)
        last = result is not None


def _described(result: PGresult) -> _Description | None:
    """Names and types of the columns; None where the command has no rows."""
    if result.status != ExecStatus.TUPLES_OK:
        return None
    names = ((result.fname(column) or b"").decode() for column in range(result.nfields))
    return tuple((name, result.ftype(column), None, None, None, None, None) for column, name in enumerate(names))
