"""A PostgreSQL database: connected to, checked before anything is changed, and migrated to the newest schema."""

from __future__ import annotations

import importlib
import json
import logging
import re
import time
from typing import Any

from sqlalchemy import URL, Connection, Engine, create_engine, event, func, inspect, select
from sqlalchemy.exc import DBAPIError, PendingRollbackError, SQLAlchemyError

from agent import gate
from gateway.store.errors import StoreCorrupt, StoreFailed, StoreTooNew, StoreUnreachable
from gateway.store.schema import REVISION, alembic_version, metadata, workers
from gateway.store.schema_support import UNFINISHED_COPY, found_schema, is_usable, unfinished_copy
from gateway.store.sqlite_file import create

_REFUSED = re.compile(r"\\u(?:0000|d[89ab]..(?!\\ud[c-f])|d[c-f](?<!\\ud[89ab]..\\ud[c-f]))")
"""NUL and lone surrogates, in JSON as Python writes it. With one beginning, a long text is searched fast."""

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

WRITING = 0x1E7
"""The class of the advisory locks of writes; the number in it is that of a conversation. `ALL` is held shared by every
write."""

ALL = 0

LOCK_WAIT = 2.0
"""Seconds for which an upgrade waits for a lock, and others behind it."""

UPGRADE_PATIENCE = 60.0
"""Seconds for which an upgrade is tried again while others hold the tables."""

_LOCKED = frozenset({"55P03", "40P01"})
"""SQLSTATE: lock not available, deadlock."""


COMMAND = "interject command"
"""How connections of commands are named in the server's list; those of gateways are named `interject`."""


def open_database(url: URL, connections: int, *, max_idle: float = MAX_IDLE) -> Engine:
    """The database with its newest schema, or one that is newer and can be used; see `connect`. Raises `StoreTooNew`,
    `StoreCorrupt`, `StoreUnreachable` or `StoreFailed`."""
    engine = connect(url, connections, max_idle=max_idle)
    try:
        _make_current(engine, url)
    except SQLAlchemyError as error:
        engine.dispose()
        raise explain(url, error) from error
    except BaseException:
        engine.dispose()
        raise
    return engine


def connect(url: URL, connections: int, *, name: str = "interject", max_idle: float = MAX_IDLE) -> Engine:
    """The database as it is; nothing is asked of it yet. `name` is shown in its list of connections; it ends
    transactions that wait for longer than `max_idle` seconds. Raises `StoreFailed` without the library for it."""
    _need_driver()
    return _engine(url, connections, name, max_idle, {}, isolation_level="READ COMMITTED")


def connect_directly(url: URL, connections: int, *, autocommit: bool, max_idle: float = MAX_IDLE) -> Engine:
    """As `connect`, with the connections of `gateway.store.postgres_driver`: for what a gateway does with each message.
    SQL that is written out has the server's placeholders, `$1`. `autocommit`: there are no transactions."""
    _need_driver()
    from gateway.store.postgres_driver import PARAMSTYLE, DirectConnection

    engine = _engine(
        url,
        connections,
        "interject",
        max_idle,
        {"autocommit": autocommit},
        paramstyle=PARAMSTYLE,
        # It would be asked for with psycopg's own cursor.
        use_native_hstore=False,
    )

    @event.listens_for(engine, "do_connect")
    def connect(dialect: Any, record: Any, arguments: tuple[Any, ...], options: dict[str, Any]) -> DirectConnection:
        return DirectConnection.connect(*arguments, **options)

    return engine


def _need_driver() -> None:
    try:
        importlib.import_module("psycopg")
    except ImportError as error:
        raise StoreFailed(
            "[store] url names a PostgreSQL database, for which a part is missing: install interject[postgres]"
        ) from error


def _engine(
    url: URL, connections: int, name: str, max_idle: float, connecting: dict[str, Any], **options: Any
) -> Engine:
    given = url.query.get("options", "")
    settings = f"{given if isinstance(given, str) else ' '.join(given)} -c timezone=UTC"
    settings = f"{settings} -c idle_in_transaction_session_timeout={max_idle * 1000:.0f}"
    return create_engine(
        url.set(drivername=DRIVER),
        pool_size=connections,
        max_overflow=0,
        pool_use_lifo=True,
        json_serializer=_json,
        # They may be tokens, and errors are logged.
        hide_parameters=True,
        connect_args={
            "application_name": name,
            **{option: value for option, value in CONNECTING.items() if option not in url.query},
            "options": settings.strip(),
            **connecting,
        },
        **options,
    )


def parameters(url: URL) -> dict[str, Any]:
    """What the URL says, as psycopg takes it."""
    from sqlalchemy.dialects.postgresql.psycopg import PGDialect_psycopg

    dialect: Any = PGDialect_psycopg()  # type: ignore[no-untyped-call]
    _, given = dialect.create_connect_args(url)
    return dict(given)


def _make_current(engine: Engine, url: URL) -> None:
    with engine.begin() as connection:
        connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({OPENING}, 0)")
        tables = inspect(connection).get_table_names()
        if not tables:
            create_tables(connection)
            return
        if UNFINISHED_COPY in tables:
            raise unfinished_copy(shown(url))
        if alembic_version.name not in tables:
            raise StoreCorrupt(shown(url), "there are tables of another program in it")
        found, oldest = found_schema(connection)
    if is_usable(found, oldest):
        if found != REVISION:
            log.info("the database has the newer schema %s, with which this version works too", found)
        return
    _upgrade(engine, url, found)


def create_tables(connection: Connection) -> None:
    """Creates all tables in an empty database."""
    give_indexes_their_conditions()
    create(connection)


def _upgrade(engine: Engine, url: URL, found: str) -> None:
    """Upgrades the database in one transaction, between the writes of gateways that use it already. It waits shortly
    for each lock, because everybody else waits behind it, and tries again."""
    check_known(found, url)
    until = time.monotonic() + UPGRADE_PATIENCE
    while True:
        try:
            with engine.begin() as connection:
                connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({OPENING}, 0)")
                if not is_usable(*found_schema(connection)):
                    upgrade_tables(connection, url)
            return
        except DBAPIError as error:
            if getattr(error.orig, "sqlstate", None) not in _LOCKED:
                raise
            if time.monotonic() > until:
                raise StoreFailed(
                    f"the database {shown(url)} cannot be upgraded from the schema {found} to {REVISION}: other "
                    "connections keep its tables locked. Look for long transactions with `interject doctor`, then "
                    "start again"
                ) from error
            time.sleep(0.2)


def check_known(revision: str, url: URL) -> None:
    """Raises `StoreTooNew` if this version cannot upgrade from there."""
    # Alembic takes longer to load than the rest of the store; most starts do not need it.
    from gateway.store.migrate import has_revision

    if not has_revision(revision):
        raise StoreTooNew(shown(url), revision)


def upgrade_tables(connection: Connection, url: URL) -> None:
    """Runs the missing migrations in the connection's transaction, while nobody else writes. Raises `StoreFailed` if
    gateways run that could not go on, and `DBAPIError` with 55P03 if somebody holds a lock for too long."""
    from gateway.store.migrate import upgrade

    before, _ = found_schema(connection)
    log.info("the database is upgraded from the schema %s to %s", before, REVISION)
    connection.exec_driver_sql(f"SET LOCAL lock_timeout = {LOCK_WAIT * 1000:.0f}")
    lock_everything(connection)
    upgrade(connection)
    _, oldest = found_schema(connection)
    if oldest > before and (running := count_running(connection)):
        raise StoreFailed(
            f"the database {shown(url)} cannot be upgraded from the schema {before} to {REVISION} beside the "
            f"{running} gateways that use it: their version would not understand it. Nothing was changed. Stop them, "
            "then start this version"
        )


def lock_everything(connection: Connection) -> None:
    """Nobody else writes until the transaction ends."""
    connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({WRITING}, {ALL})")


_running = (
    select(func.count()).select_from(workers).where(workers.c.until > func.extract("epoch", func.clock_timestamp()))
)


def count_running(connection: Connection) -> int:
    """How many gateways use the database at this moment."""
    return connection.execute(_running).scalar_one() if inspect(connection).has_table(workers.name) else 0


def give_indexes_their_conditions() -> None:
    """The schema names the conditions of partial indexes for SQLite only, so that PostgreSQL's part of SQLAlchemy is
    loaded where there is such a database."""
    for table in metadata.tables.values():
        for index in table.indexes:
            index.dialect_options["postgresql"]["where"] = index.dialect_options["sqlite"]["where"]


def _json(value: Any) -> str:
    """As JSONB takes it: without NUL and lone surrogates, which become U+FFFD, and numbers that are none, which become
    null."""
    written = json.dumps(value, ensure_ascii=True)
    is_refused = "NaN" in written or "Infinity" in written or _REFUSED.search(written)
    return json.dumps(gate.json_value(value)) if is_refused else written


def is_lost(error: SQLAlchemyError) -> bool:
    """Whether the server cannot be reached, or has ended the connection."""
    if isinstance(error, PendingRollbackError):
        # A job has gone on after that: it rolled back to a savepoint.
        return True
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
        # An error of the connection has no code: it may be a refusal just as well.
        advice = "Check that the server runs, and host, database, user and password in [store] url"
        return StoreUnreachable(f"the database {shown(url)} cannot be reached: {words}. {advice}")
    match state:
        case "28P01" | "28000":
            why = f"it refuses this user ({words}). Check the user and the password in [store] url"
        case "3D000":
            why = f"there is no such database ({words}). Create it, as with `createdb`"
        case "42501" | "3F000":
            why = f"the user may not do that ({words}). Grant it the right to create tables, and make it their owner"
        case "53100":
            why = "its disk is full. Make room; nothing else is needed"
        case "25006":
            why = (
                "it is read-only, as a standby server is, or one with default_transaction_read_only. "
                "Give [store] url the primary server, and let it write"
            )
        case "42P01":
            why = "there is no data of interject in it yet. Start the gateway once with `interject run`"
        case "53300":
            why = f"it has no connection left ({words}). Raise its max_connections"
        case _:
            why = words
    return StoreFailed(f"the database {shown(url)}: {why}")
