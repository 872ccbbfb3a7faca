"""The open request of a running call for input."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("turns", sa.Column("asks", sa.Text(), nullable=True))


def downgrade() -> None:
    op.drop_column("turns", "asks")
