"""Which programs may use a database: those of its schema, and older ones for which its migrations leave room.

A migration that only adds (tables, columns that may be NULL or have a default, indexes) lets older programs go on. One
that takes away or tightens says from which revision on a program may still use the database, see
`gateway.store.migrations.support`.
"""

from __future__ import annotations

from sqlalchemy import Connection, inspect, select

from gateway.store.errors import StoreFailed
from gateway.store.schema import REVISION, alembic_version, schema_support

UNFINISHED_COPY = "unfinished_copy"
"""The table of a database that is the target of a copy which has not ended."""


def found_schema(connection: Connection) -> tuple[str, str]:
    """The database's revision, "" if it has none, and the oldest revision whose programs may use it."""
    revision = connection.execute(select(alembic_version.c.version_num)).scalar() or ""
    if not inspect(connection).has_table(schema_support.name):
        return revision, revision
    return revision, connection.execute(select(schema_support.c.oldest)).scalar() or revision


def schema_or_none(connection: Connection) -> tuple[str, str] | None:
    """As `found_schema`; None for a database without tables of a gateway."""
    return found_schema(connection) if inspect(connection).has_table(alembic_version.name) else None


def is_usable(revision: str, oldest: str) -> bool:
    """Whether this program may use a database with such a schema as it is. Revisions are numbers of the same length."""
    return revision == REVISION or (revision.isdecimal() and oldest <= REVISION < revision)


def check_usable(connection: Connection, place: object) -> None:
    """Raises `StoreFailed` if the database holds nothing yet, or is of a version that this program cannot use without
    an upgrade."""
    tables = inspect(connection).get_table_names()
    if UNFINISHED_COPY in tables:
        raise unfinished_copy(place)
    if alembic_version.name not in tables:
        raise StoreFailed(f"{place} holds no data of interject yet: start the gateway once with `interject run`")
    revision, oldest = found_schema(connection)
    if not is_usable(revision, oldest):
        raise StoreFailed(
            f"{place} has the schema {revision}, and this version of interject reads {REVISION}: restart the gateway "
            "with this version"
        )


def unfinished_copy(place: object) -> StoreFailed:
    return StoreFailed(
        f"{place} is the target of an unfinished copy: finish it with `interject store copy`, or give this gateway "
        "another [store] url"
    )
