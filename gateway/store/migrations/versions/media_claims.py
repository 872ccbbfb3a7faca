"""Claims on media that are being deleted, and how often media were stored."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0019"
down_revision = "0018"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("media", sa.Column("stored", sa.Integer(), nullable=False, server_default="1"))
    op.add_column("media", sa.Column("claimed_at", sa.Double(), nullable=True))


def downgrade() -> None:
    op.drop_column("media", "claimed_at")
    op.drop_column("media", "stored")
