"""When entries of the turn log were written, and when pieces of replies came into their state."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None

TABLES = ("turn_log", "outbox")


def upgrade() -> None:
    for table in TABLES:
        op.add_column(table, sa.Column("at", sa.Double(), nullable=True))


def downgrade() -> None:
    for table in TABLES:
        op.drop_column(table, "at")
