"""Operations of the command line on a database that a running gateway may hold, each in a short transaction."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import TypeVar

from sqlalchemy import Connection, create_engine
from sqlalchemy.exc import DBAPIError

from gateway.store import audit, identities, pairing, strangers
from gateway.store.errors import StoreFailed
from gateway.store.records import AuditRow, Identity, Pairing, Revoked, Stranger
from gateway.store.sqlite_file import database_path, explain, prepare_writing

T = TypeVar("T")


def approve(url: str, code: str) -> Pairing | None:
    """Approves the sender who was given the code; None if nobody was, or it has expired. Raises `StoreError`."""
    return _in(url, lambda connection: pairing.approve(connection, code, audit.OPERATOR))


def all_pairings(url: str) -> tuple[Pairing, ...]:
    """All pairings, approved or not. Raises `StoreError`."""
    return _in(url, pairing.every)


def revoke(url: str, channel: str, sender: str) -> Revoked | None:
    """Takes back what pairing gave; None if the sender was not paired there. Raises `StoreError`."""
    return _in(url, lambda connection: pairing.revoke(connection, channel, sender, audit.OPERATOR))


def all_strangers(url: str) -> tuple[Stranger, ...]:
    """Those who were refused last. Raises `StoreError`."""
    return _in(url, strangers.newest)


def all_identities(url: str) -> tuple[Identity, ...]:
    """Whom the @names of the settings mean. Raises `StoreError`."""
    return _in(url, identities.all_identities)


def audit_since(url: str, time: datetime) -> Sequence[AuditRow]:
    """The audit log since then, oldest first. Raises `StoreError`."""
    return _in(url, lambda connection: audit.since(connection, time))


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
