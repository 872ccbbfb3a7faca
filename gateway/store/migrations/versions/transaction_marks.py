"""Which transactions of a process are committed."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0032"
down_revision = "0031"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "transaction_marks",
        sa.Column("writer", sa.String(length=32), nullable=False),
        sa.Column("mark", sa.String(length=32), nullable=False),
        sa.Column("at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("writer", name=op.f("pk_transaction_marks")),
        sqlite_with_rowid=False,
    )


def downgrade() -> None:
    op.drop_table("transaction_marks")
