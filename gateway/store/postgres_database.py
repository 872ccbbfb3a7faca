"""A PostgreSQL database: connected to, checked before anything is changed, and migrated to the newest schema."""

from __future__ import annotations

import importlib
import json
import logging
import re
from typing import Any

from sqlalchemy import URL, Connection, Engine, create_engine, inspect, select
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from agent import gate
from gateway.store.errors import StoreCorrupt, StoreFailed, StoreTooNew, StoreUnreachable
from gateway.store.schema import REVISION, alembic_version, metadata
from gateway.store.sqlite_file import create

_REFUSED = re.compile(r"\\\\u(?:0000|d[89a-f])")

log = logging.getLogger(__name__)

DRIVER = "postgresql+psycopg"

CONNECTING = {
    "connect_timeout": 5,
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 3,
    "tcp_user_timeout": 10_000,
}
"""In seconds, `tcp_user_timeout` in milliseconds: a server that is cut off is noticed within ten seconds."""

MAX_IDLE = 10
"""Seconds that a transaction may wait for this process; the server ends it then, so that a process which was stopped
in the middle holds up nobody."""

OPENING = 0x1E8
"""The class of the advisory lock of a process that creates or migrates the tables."""


def open_database(url: URL, connections: int) -> Engine:
    """The database with its newest schema. Raises `StoreTooNew`, `StoreCorrupt`, `StoreUnreachable` or
    `StoreFailed`."""
    try:
        importlib.import_module("psycopg")
    except ImportError as error:
        raise StoreFailed(
            "[store] url names a PostgreSQL database, for which a part is missing: install interject[postgres]"
        ) from error
    settings = f"-c idle_in_transaction_session_timeout={MAX_IDLE * 1000} -c timezone=UTC"
    engine = create_engine(
        url.set(drivername=DRIVER),
        pool_size=connections,
        max_overflow=0,
        pool_use_lifo=True,
        isolation_level="READ COMMITTED",
        json_serializer=_json,
        connect_args={"application_name": "interject", "options": settings, **CONNECTING},
    )
    try:
        with engine.begin() as connection:
            _make_current(connection, url)
    except SQLAlchemyError as error:
        engine.dispose()
        raise explain(url, error) from error
    except BaseException:
        engine.dispose()
        raise
    return engine


def _make_current(connection: Connection, url: URL) -> None:
    connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({OPENING}, 0)")
    tables = inspect(connection).get_table_names()
    if not tables:
        _give_indexes_their_conditions()
        create(connection)
        return
    if alembic_version.name not in tables:
        raise StoreCorrupt(shown(url), "it holds tables of another program")
    found = connection.execute(select(alembic_version.c.version_num)).scalar() or ""
    if found == REVISION:
        return
    # Alembic takes longer to load than the rest of the store; most starts do not need it.
    from gateway.store.migrate import has_revision, upgrade

    if not has_revision(found):
        raise StoreTooNew(shown(url), found)
    log.info("the database is upgraded from the schema %s to %s", found, REVISION)
    upgrade(connection)


def _give_indexes_their_conditions() -> None:
    """The schema names the conditions of partial indexes for SQLite only, so that PostgreSQL's part of SQLAlchemy is
    loaded where there is such a database."""
    for table in metadata.tables.values():
        for index in table.indexes:
            index.dialect_options["postgresql"]["where"] = index.dialect_options["sqlite"]["where"]


def _json(value: Any) -> str:
    """As JSONB takes it: without NUL and lone surrogates, which become U+FFFD."""
    written = json.dumps(value, ensure_ascii=True)
    return json.dumps(gate.json_value(value)) if _REFUSED.search(written) else written


def is_lost(error: SQLAlchemyError) -> bool:
    """Whether the server cannot be reached, or has ended the connection."""
    if not isinstance(error, DBAPIError):
        return False
    state = getattr(error.orig, "sqlstate", None)
    return error.connection_invalidated or (
        type(error.orig).__name__ in ("OperationalError", "ConnectionTimeout", "AdminShutdown", "CannotConnectNow")
        and (state is None or state[:2] in ("08", "57"))
    )


def shown(url: URL) -> str:
    """The database's address without its password, and without its options, which may hold one too."""
    return url.set(drivername="postgresql", query={}).render_as_string(hide_password=True)


def explain(url: URL, error: SQLAlchemyError) -> StoreFailed:
    """PostgreSQL's error in words for a person."""
    original = error.orig if isinstance(error, DBAPIError) else error
    words = " ".join(str(original).split())
    state = getattr(original, "sqlstate", None) or ""
    if is_lost(error):
        return StoreUnreachable(f"the database {shown(url)} cannot be reached: {words}. Check that the server runs")
    match state:
        case "28P01" | "28000":
            why = f"it refuses this user ({words}). Check the user and the password in [store] url"
        case "3D000":
            why = f"there is no such database ({words}). Create it, as with `createdb`"
        case "42501":
            why = f"the user may not do that ({words}). Grant it the right to create tables"
        case "53100":
            why = "its disk is full. Make room; nothing else is needed"
        case "25006":
            why = "it is read-only, as a standby server is. Give [store] url the primary server"
        case "53300":
            why = f"it has no connection left ({words}). Raise its max_connections"
        case _:
            why = words
    return StoreFailed(f"the database {shown(url)}: {why}")
