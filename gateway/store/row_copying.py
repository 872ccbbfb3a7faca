"""Rows of one database in another, of either engine: read in the order of their keys, written in batches, compared."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from hashlib import sha256
from typing import Any, TypeVar

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    ColumnElement,
    Connection,
    Double,
    Integer,
    MetaData,
    Table,
    Text,
    func,
    insert,
    literal,
    select,
    text,
    tuple_,
)
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.types import TypeEngine

from agent import gate
from gateway.store.errors import StoreFailed
from gateway.store.schema import (
    Json,
    Timestamp,
    mcp_accounts,
    mcp_sign_ins,
    metadata,
    shared_secrets,
    transaction_marks,
    workers,
)

T = TypeVar("T")

BATCH_ROWS = 1000
BATCH_SIZE = 4_000_000
"""Characters of texts; a batch ends with the row that exceeds them."""

FETCHED = 200
"""Rows that are taken from the source at once."""

Row = tuple[Any, ...]
"""The values of all columns, as Python has them: times in seconds since 1970, and JSON as its value."""

Key = tuple[Any, ...]

NOT_COPIED = (workers, transaction_marks, mcp_accounts, mcp_sign_ins, shared_secrets)
"""Workers are processes, of which none runs, with their transactions. Whoever uses a copy must not sign in as those of
the original: a token that both have is exchanged for a new one by one of them, and then the other has none."""

TABLES = tuple(table for table in metadata.sorted_tables if table not in NOT_COPIED)
"""What is copied, also into backups, those first to which others refer."""


@cache
def plain(table: Table) -> Table:
    """The table with columns whose values are taken and given as they are stored."""
    columns = [Column(each.name, _plain_type(each.type), primary_key=each.primary_key) for each in table.columns]
    return Table(table.name, MetaData(), *columns)


def _plain_type(kind: TypeEngine[Any]) -> TypeEngine[Any]:
    match kind:
        case Json():
            return Json()
        case Timestamp() | Double():
            return Double()
        case Boolean():
            return Boolean()
        case Integer():
            return BigInteger()
        case _:
            return Text()


def count_rows(connection: Connection, table: Table) -> int:
    return connection.execute(select(func.count()).select_from(plain(table))).scalar_one()


def batches_of(source: Connection, table: Table, after: Key | None = None) -> Iterator[list[Row]]:
    """The rows whose key comes after this one, in the order of the source's keys, as any database can store them."""
    given = plain(table)
    query = select(given).order_by(*given.primary_key.columns).execution_options(stream_results=True, yield_per=FETCHED)
    if after is not None:
        query = query.where(_is_after(tuple(given.primary_key.columns), after))
    storable = _storable(given)
    with source.execute(query) as rows:
        yield from _in_batches(storable(row) for row in rows)


def _is_after(columns: Sequence[Column[Any]], key: Key) -> ColumnElement[bool]:
    values = [literal(value, column.type) for column, value in zip(columns, key, strict=True)]
    condition: ColumnElement[bool] = columns[0] > values[0] if len(values) == 1 else tuple_(*columns) > tuple_(*values)
    return condition


def _storable(table: Table) -> Callable[[Iterable[Any]], Row]:
    """Texts without what no database can store (NUL, halves of surrogate pairs), as `SafeText` makes them."""
    makers = [_maker(column.type) for column in table.columns]

    def storable(row: Iterable[Any]) -> Row:
        return tuple(None if value is None else make(value) for make, value in zip(makers, row, strict=True))

    return storable


def _maker(kind: TypeEngine[Any]) -> Callable[[Any], Any]:
    match kind:
        case Json():
            return gate.json_value
        case Text():
            return gate.text
        case Double():
            return float
        case _:
            return _same


def _same(value: T) -> T:
    return value


def _in_batches(rows: Iterable[Row]) -> Iterator[list[Row]]:
    batch: list[Row] = []
    size = 0
    for row in rows:
        batch.append(row)
        size += sum(len(value) for value in row if isinstance(value, str))
        if len(batch) == BATCH_ROWS or size > BATCH_SIZE:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def key_of(table: Table, row: Row) -> Key:
    return tuple(value for column, value in zip(table.columns, row, strict=True) if column.primary_key)


# Writing


def write_rows(target: Connection, table: Table, rows: Sequence[Row]) -> None:
    """Adds the rows. Raises `StoreFailed` if the database does not take one of them."""
    with _explained(table, rows):
        if target.dialect.name == "postgresql":
            _copy_in(target, table, rows)
        else:
            names = [column.name for column in table.columns]
            target.execute(insert(plain(table)), [dict(zip(names, row, strict=True)) for row in rows])


def _copy_in(target: Connection, table: Table, rows: Sequence[Row]) -> None:
    quote = target.dialect.identifier_preparer.quote
    columns = ", ".join(quote(column.name) for column in table.columns)
    is_json = [isinstance(column.type, Json) for column in table.columns]
    driver: Any = target.connection.driver_connection
    with driver.cursor() as cursor, cursor.copy(f"COPY {quote(table.name)} ({columns}) FROM STDIN") as copy:
        for row in rows:
            copy.write_row(
                [
                    json.dumps(value) if json_here and value is not None else value
                    for json_here, value in zip(is_json, row, strict=True)
                ]
            )


@contextmanager
def _explained(table: Table, rows: Sequence[Row]) -> Iterator[None]:
    try:
        yield
    except SQLAlchemyError:
        raise
    except Exception as error:
        if type(error).__module__.partition(".")[0] != "psycopg" or not getattr(error, "sqlstate", None):
            raise
        first, last = key_of(table, rows[0]), key_of(table, rows[-1])
        why = " ".join(str(error).split())
        raise StoreFailed(
            f"a row of {table.name} from {shown_key(first)} to {shown_key(last)} is refused: {why}"
        ) from error


def set_sequences(target: Connection) -> None:
    """New rows get numbers after those that were copied. SQLite does so itself."""
    if target.dialect.name != "postgresql":
        return
    for table in TABLES:
        for column in table.columns:
            if column.identity is not None:
                quoted = target.dialect.identifier_preparer.quote(table.name)
                values = {"table": quoted, "column": column.name}
                target.execute(
                    text(
                        "SELECT setval(pg_get_serial_sequence(:table, :column), coalesce(max(number), 1), "
                        f"max(number) IS NOT NULL) FROM (SELECT {column.name} AS number FROM {quoted}) AS numbers"
                    ),
                    values,
                )


# Comparing


def verify_rows(source: Connection, target: Connection, table: Table, seen: Callable[[int], None]) -> int:
    """Compares every row of the source with the one of the same key in the target; their number. `seen` is told how
    many rows were compared since the last call. Raises `StoreFailed` with the key of a row that differs or is missing.
    """
    number = 0
    for batch in batches_of(source, table):
        found = _digests(target, table, [key_of(table, row) for row in batch])
        for row in batch:
            key = key_of(table, row)
            there = found.get(key)
            if there != _digest(row):
                what = "is missing" if there is None else "differs"
                raise StoreFailed(f"the copy is not the same: in {table.name} the row {shown_key(key)} {what}")
        number += len(batch)
        seen(len(batch))
    more = count_rows(target, table) - number
    if more:
        raise StoreFailed(f"the copy is not the same: {table.name} has {more} rows that the source does not have")
    return number


def _digests(target: Connection, table: Table, keys: Sequence[Key]) -> dict[Key, bytes]:
    given = plain(table)
    columns = tuple(given.primary_key.columns)
    is_one = columns[0].in_([key[0] for key in keys]) if len(columns) == 1 else tuple_(*columns).in_(keys)
    storable = _storable(given)
    rows = (storable(row) for row in target.execute(select(given).where(is_one)))
    return {key_of(table, row): _digest(row) for row in rows}


def _digest(row: Row) -> bytes:
    return sha256(json.dumps([_comparable(value) for value in row], sort_keys=True).encode()).digest()


def _comparable(value: Any) -> Any:
    """Numbers without their form: PostgreSQL writes those in JSON differently."""
    match value:
        case float() if value.is_integer():
            return int(value)
        case dict():
            return {name: _comparable(inner) for name, inner in value.items()}
        case list():
            return [_comparable(inner) for inner in value]
        case _:
            return value


def shown_key(key: Key) -> str:
    return gate.one_line(", ".join(map(str, key)), 200)
