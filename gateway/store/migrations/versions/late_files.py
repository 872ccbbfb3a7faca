"""Files that were still on their way when their message was read follow it in a row of their own."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("inbox", sa.Column("follows", sa.Integer(), nullable=True))


def downgrade() -> None:
    op.drop_column("inbox", "follows")
