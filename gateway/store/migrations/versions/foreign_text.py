"""Text from outside in messages: its sources, and what a message quotes."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from gateway.store.migrations.support import JSON

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("inbox", sa.Column("foreign", JSON, nullable=True))


def downgrade() -> None:
    op.drop_column("inbox", "foreign")
