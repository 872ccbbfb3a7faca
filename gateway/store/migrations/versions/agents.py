"""Which agent people have chosen for a session."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("sessions", sa.Column("agent", sa.String(length=32), nullable=True))


def downgrade() -> None:
    op.drop_column("sessions", "agent")
