"""What a PostgreSQL server says of itself and of this database, for operators."""

from __future__ import annotations

import time
from dataclasses import dataclass

from sqlalchemy import Connection, text

OLDEST_VERSION = 13
"""The oldest major version that the store works with: it asks whether a transaction was committed by its number,
`pg_current_xact_id`, https://www.postgresql.org/docs/13/functions-info.html"""

BUS_CONNECTIONS = 2
"""Those of a worker for notifications, beside those of its store."""

LONG = 300.0
"""Seconds after which a transaction is too long."""

MANY_DEAD = 100_000
"""Rows of a table that were deleted or replaced, and whose space is not free yet."""

_facts = text(
    "SELECT current_setting('server_version') AS version, current_setting('server_version_num')::int / 10000 AS major, "
    "pg_is_in_recovery() AS standby, current_setting('default_transaction_read_only')::boolean AS read_only, "
    " pg_database_size(current_database()) AS size, "
    "coalesce(has_schema_privilege(current_schema(), 'CREATE'), false) AS may_create, "
    "current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int "
    "- coalesce(nullif(current_setting('reserved_connections', true), ''), '0')::int AS connections, "
    "(SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend') AS used, "
    "current_setting('autovacuum')::boolean AS autovacuum"
)
_clock = text("SELECT extract(epoch FROM clock_timestamp())::float8")
_long = text(
    "SELECT pid, application_name, extract(epoch FROM now() - xact_start)::float8 AS seconds FROM pg_stat_activity "
    "WHERE datname = current_database() AND pid <> pg_backend_pid() "
    "AND xact_start < now() - make_interval(secs => :long) ORDER BY xact_start LIMIT 20"
)
_dead = text(
    "SELECT relname, n_dead_tup FROM pg_stat_user_tables WHERE schemaname = current_schema() AND n_dead_tup > :many "
    "AND n_dead_tup > n_live_tup / 2 ORDER BY n_dead_tup DESC LIMIT 3"
)


@dataclass(frozen=True, slots=True)
class LongTransaction:
    """`program` is the name that the connection has given itself."""

    pid: int
    program: str
    seconds: float


@dataclass(frozen=True, slots=True)
class ServerHealth:
    """`size` of the database in bytes. `is_read_only`: transactions may not write unless they say that they do.
    `latency`: seconds for a question without work. `ahead`: seconds that the server's clock is ahead of this machine's.
    `free`: connections that may still be opened by users, of all that may be. `dead`: tables of which most rows are
    dead, with their number."""

    version: str
    major: int
    is_standby: bool
    is_read_only: bool
    size: int
    may_create: bool
    latency: float
    ahead: float
    free: int
    connections: int
    autovacuum: bool
    long_transactions: tuple[LongTransaction, ...]
    dead: tuple[tuple[str, int], ...]


def server_health(connection: Connection, *, long: float = LONG) -> ServerHealth:
    """`long`: seconds after which a transaction is too long."""
    facts = connection.execute(_facts).one()
    latency, ahead = min((_asked(connection) for _ in range(3)), key=lambda measured: measured[0])
    return ServerHealth(
        version=facts.version,
        major=facts.major,
        is_standby=facts.standby,
        is_read_only=facts.read_only,
        size=facts.size,
        may_create=facts.may_create,
        latency=latency,
        ahead=ahead,
        # This connection is closed again.
        free=facts.connections - facts.used + 1,
        connections=facts.connections,
        autovacuum=facts.autovacuum,
        long_transactions=tuple(LongTransaction(*row) for row in connection.execute(_long, {"long": long})),
        dead=tuple((row.relname, row.n_dead_tup) for row in connection.execute(_dead, {"many": MANY_DEAD})),
    )


def database_size(connection: Connection) -> int:
    """In bytes."""
    return int(connection.execute(text("SELECT pg_database_size(current_database())")).scalar_one())


def _asked(connection: Connection) -> tuple[float, float]:
    before = time.monotonic()
    there = float(connection.execute(_clock).scalar_one())
    latency = time.monotonic() - before
    return latency, there - (time.time() - latency / 2)
