"""Whether a database on a server can be reached, and used by a gateway."""

from __future__ import annotations

from collections.abc import Iterator

from config.settings import Settings
from gateway.cli.checks.result import CheckResult
from gateway.store.errors import StoreError
from gateway.store.read_only import snapshot
from gateway.store.server_health import BUS_CONNECTIONS, OLDEST_VERSION, server_health
from gateway.store.urls import database_url


def check_database(settings: Settings) -> Iterator[CheckResult]:
    """Nothing for a file, which the start makes."""
    if settings.store.file is not None:
        return
    from gateway.store.postgres import CONNECTIONS
    from gateway.store.postgres_database import shown

    needed = CONNECTIONS + BUS_CONNECTIONS

    try:
        url = database_url(settings.store.url)
        with snapshot(url) as connection:
            found = server_health(connection)
    except StoreError as error:
        yield CheckResult("database", False, str(error))
        return
    place = f"PostgreSQL {found.version} at {shown(url)}"
    if found.major < OLDEST_VERSION:
        yield CheckResult("database", False, f"{place} is too old. Upgrade it to version {OLDEST_VERSION} or newer")
    elif found.is_standby:
        yield CheckResult("database", False, f"{place} is a standby, which cannot be written. Name the primary server")
    elif found.is_read_only:
        text = f"{place} is read-only. Set default_transaction_read_only = off for the database and its user"
        yield CheckResult("database", False, text)
    elif not found.may_create:
        text = f"{place}: the user may not create tables. Run GRANT CREATE ON SCHEMA public TO its user, as the owner"
        yield CheckResult("database", False, text)
    elif found.connections < needed:
        text = f"{place} allows {found.connections} connections, and a worker takes {needed}. Raise its max_connections"
        yield CheckResult("database", False, text)
    else:
        rights = "its user may create tables"
        free = f"{found.free} of {found.connections} connections are free, and a worker takes {needed}"
        yield CheckResult("database", True, f"{place}; {rights}; {free}")
