"""How much the sender of a message may have the agent do."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("inbox", sa.Column("level", sa.Integer(), server_default=sa.text("2"), nullable=False))


def downgrade() -> None:
    op.drop_column("inbox", "level")
