"""What migrations share: types that are the same as those of a new database on every engine, and the end of support
for older programs."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

JSON = sa.JSON(none_as_null=True).with_variant(JSONB(none_as_null=True), "postgresql")


def end_support_before(revision: str) -> None:
    """Programs whose newest revision is older than this one must not use the database any more. For migrations that
    remove or rename something, or want more of a row than before."""
    table = sa.table("schema_support", sa.column("oldest", sa.String(32)))
    op.execute(sa.update(table).where(table.c.oldest < revision).values(oldest=revision))
