"""The oldest revision whose programs may use the database."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0021"
down_revision = "0020"
branch_labels = None
depends_on = None


def upgrade() -> None:
    table = op.create_table(
        "schema_support",
        sa.Column("oldest", sa.String(length=32), nullable=False),
        sa.PrimaryKeyConstraint("oldest", name="pk_schema_support"),
    )
    op.bulk_insert(table, [{"oldest": revision}])


def downgrade() -> None:
    op.drop_table("schema_support")
