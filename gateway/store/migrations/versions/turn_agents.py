"""Which agent was chosen when a turn began."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("turns", sa.Column("agent", sa.String(length=32), nullable=True))


def downgrade() -> None:
    op.drop_column("turns", "agent")
