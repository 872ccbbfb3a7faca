"""Run by Alembic only: migrates on the connection, and in the transaction, that `gateway.store.migrate` hands over."""

from __future__ import annotations

from alembic import context
from sqlalchemy import Connection

from gateway.store.schema import metadata


def migrate(connection: Connection) -> None:
    context.configure(connection=connection, target_metadata=metadata, render_as_batch=True)
    context.run_migrations()


migrate(context.config.attributes["connection"])
