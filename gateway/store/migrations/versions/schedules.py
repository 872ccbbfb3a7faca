"""Scheduled tasks."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from gateway.store.migrations.support import JSON

revision = "0030"
down_revision = "0029"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "schedules",
        sa.Column("id", sa.String(length=16), nullable=False),
        sa.Column("session", sa.Text(), nullable=False),
        sa.Column("channel", sa.Text(), nullable=False),
        sa.Column("address", JSON, nullable=False),
        sa.Column("sender_id", sa.Text(), nullable=False),
        sa.Column("sender", JSON, nullable=False),
        sa.Column("task", sa.Text(), nullable=False),
        sa.Column("cron", sa.Text(), nullable=False),
        sa.Column("zone", sa.String(length=64), nullable=False),
        sa.Column("due", sa.Double(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("made_by", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_schedules")),
        sa.UniqueConstraint("made_by", name=op.f("uq_schedules_made_by")),
    )
    op.create_index("ix_schedules_due", "schedules", ["due"])
    op.create_index("ix_schedules_session", "schedules", ["session"])


def downgrade() -> None:
    op.drop_table("schedules")
