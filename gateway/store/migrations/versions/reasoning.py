"""How much a session's model is to reason."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("sessions", sa.Column("reasoning", sa.String(length=20), nullable=True))


def downgrade() -> None:
    op.drop_column("sessions", "reasoning")
