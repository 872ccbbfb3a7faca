"""What the command line does in a database that a running gateway may hold: short transactions of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TypeVar

from sqlalchemy import Connection, create_engine
from sqlalchemy.exc import DBAPIError

from gateway.store import pairs
from gateway.store.errors import StoreFailed
from gateway.store.records import Pair
from gateway.store.sqlite import database_path, explain, prepare_writing

T = TypeVar("T")


def approve(url: str, code: str) -> Pair | None:
    """Lets in whoever was given the code; None if it is nobody's or has expired. Raises `StoreError`."""
    return _in(url, lambda connection: pairs.approve(connection, code, datetime.now(UTC)))


def every_pair(url: str) -> tuple[Pair, ...]:
    """Who asked to be let in, and who was. Raises `StoreError`."""
    return _in(url, pairs.every)


def _in(url: str, work: Callable[[Connection], T]) -> T:
    with _connected(url) as connection:
        return work(connection)


@contextmanager
def _connected(url: str) -> Iterator[Connection]:
    path = database_path(url)
    if not path.exists():
        raise StoreFailed(f"{path} does not exist yet: start the gateway once with `interject run`")
    engine = create_engine(f"sqlite:///{path}")
    prepare_writing(engine)
    try:
        with engine.begin() as connection:
            yield connection
    except DBAPIError as error:
        raise explain(path, error) from error
    finally:
        engine.dispose()
