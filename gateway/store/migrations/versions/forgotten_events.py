"""Hashes of the events of deleted messages."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "forgotten_events",
        sa.Column("event", sa.String(64), nullable=False),
        sa.Column("at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("event", name=op.f("pk_forgotten_events")),
        sqlite_with_rowid=False,
    )


def downgrade() -> None:
    op.drop_table("forgotten_events")
