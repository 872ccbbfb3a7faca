"""A database on a PostgreSQL server: whether it answers, how fast, and what would hold up the gateways on it."""

from __future__ import annotations

from collections.abc import Iterator

from gateway.cli.doctor.finding import Finding
from gateway.cli.doctor.schema import schema_finding
from gateway.cli.output import size, span
from gateway.store import postgres
from gateway.store.errors import StoreError
from gateway.store.postgres_database import shown
from gateway.store.read_only import snapshot
from gateway.store.schema_support import schema_or_none
from gateway.store.server_health import BUS_CONNECTIONS, LONG, OLDEST_VERSION, ServerHealth, server_health
from gateway.store.urls import database_url

CONNECTIONS = postgres.CONNECTIONS + BUS_CONNECTIONS
"""What a gateway takes."""

SLOW = 0.02
"""Seconds for a question without work; each message needs some ten of them, one after another."""

OFF = 2.0
FAR_OFF = 30.0
"""Seconds between the clocks."""

_PART = "database"


def check_server(url: str, *, is_running: bool, long: float = LONG) -> Iterator[Finding]:
    """`is_running`: a gateway uses it. `long`: seconds after which a transaction is too long."""
    parsed = database_url(url)
    try:
        with snapshot(parsed) as connection:
            found = server_health(connection, long=long)
            schema = schema_or_none(connection)
    except StoreError as error:
        why = "the gateway does not start without it; one that runs keeps its messages and goes on when it is back"
        yield Finding(_PART, "problem", *_parts(str(error), why))
        return
    yield _server(shown(parsed), found)
    yield schema_finding(schema)
    yield _rights(found)
    yield _latency(found)
    yield _clock(found)
    yield _connections(found, is_running=is_running)
    yield _transactions(found)
    yield _vacuum(found)


def _parts(text: str, why: str) -> tuple[str, str, str]:
    what, _, advice = text.rpartition(". ")
    return what or advice, why, advice if what else "install it, or correct [store] url"


def _server(place: str, found: ServerHealth) -> Finding:
    what = f"PostgreSQL {found.version} at {place} ({size(found.size)})"
    if found.major < OLDEST_VERSION:
        why = "the store asks it what only newer versions answer"
        return Finding(_PART, "problem", what, why, f"upgrade the server to version {OLDEST_VERSION} or newer")
    if found.is_standby:
        return Finding(_PART, "problem", f"{what} is a standby", "it cannot be written", "name the primary server")
    if found.is_read_only:
        do = (
            "set default_transaction_read_only = off for the database and its user; a full hosted one has set it itself"
        )
        return Finding(_PART, "problem", f"{what} is read-only", "no message can be stored", do)
    return Finding(_PART, "ok", what)


def _rights(found: ServerHealth) -> Finding:
    if found.may_create:
        return Finding("database rights", "ok", "its user may create tables")
    why = "the first start makes the tables, and an upgrade changes them"
    do = "GRANT CREATE ON SCHEMA public TO the user of [store] url, or make it the owner of the database"
    return Finding("database rights", "problem", "its user may not create tables", why, do)


def _latency(found: ServerHealth) -> Finding:
    what = f"answers in {found.latency * 1000:.1f} ms"
    if found.latency < SLOW:
        return Finding("database latency", "ok", what)
    why = "each message waits for several answers in turn"
    return Finding("database latency", "warning", what, why, "run the gateways near the database")


def _clock(found: ServerHealth) -> Finding:
    what = f"its clock is {abs(found.ahead):.1f} s {'ahead of' if found.ahead > 0 else 'behind'} this machine's"
    if abs(found.ahead) < OFF:
        return Finding("database clock", "ok", what)
    why = "times of messages of several gateways are in the wrong order, and deadlines come too early or too late"
    return Finding("database clock", "problem" if abs(found.ahead) > FAR_OFF else "warning", what, why, "switch on NTP")


def _connections(found: ServerHealth, *, is_running: bool) -> Finding:
    what = f"{found.free} of {found.connections} are free; a gateway takes {CONNECTIONS}"
    # One more starts beside the old ones in an update.
    if found.free >= CONNECTIONS * (1 if is_running else 2):
        return Finding("database connections", "ok", what)
    why = "a gateway that gets none does not start, or stores nothing"
    do = "raise max_connections of the server, or end programs that keep connections open"
    return Finding("database connections", "problem" if found.free < CONNECTIONS else "warning", what, why, do)


def _transactions(found: ServerHealth) -> Finding:
    part = "database transactions"
    if not found.long_transactions:
        return Finding(part, "ok", "none is long")
    oldest = found.long_transactions[0]
    what = f"{len(found.long_transactions)} are long, one of {oldest.program or 'a program without a name'} (process "
    what += f"{oldest.pid}) for {span(oldest.seconds)}"
    why = "deleted rows keep their space, tables grow, and an upgrade waits"
    return Finding(part, "warning", what, why, f"end that program, or SELECT pg_terminate_backend({oldest.pid})")


def _vacuum(found: ServerHealth) -> Finding:
    part = "database vacuum"
    if not found.autovacuum:
        why = "deleted rows keep their space, and queries become slow"
        return Finding(part, "problem", "autovacuum is off", why, "set autovacuum = on on the server")
    if found.dead:
        name, number = found.dead[0]
        what = f"most of the table {name} is dead rows ({number:,})"
        why = "queries become slow, and the disk fills"
        return Finding(part, "warning", what, why, f"VACUUM ANALYZE {name}, and look for long transactions")
    return Finding(part, "ok", "autovacuum is on")
