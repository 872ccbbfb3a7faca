"""The answer that a model was giving, as far as people had read it."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("turns", sa.Column("draft", sa.Text(), nullable=True))


def downgrade() -> None:
    op.drop_column("turns", "draft")
