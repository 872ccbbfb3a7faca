"""An index of all turns that run or are parked, in place of the one of side questions alone."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0027"
down_revision = "0026"
branch_labels = None
depends_on = None


def upgrade() -> None:
    _create("ix_turns_open", "state = 'running'")
    op.drop_index("ix_turns_aside", table_name="turns")


def downgrade() -> None:
    _create("ix_turns_aside", "state = 'running' AND kind = 'aside'")
    op.drop_index("ix_turns_open", table_name="turns")


def _create(name: str, condition: str) -> None:
    op.create_index(
        name, "turns", ["number"], unique=False, sqlite_where=sa.text(condition), postgresql_where=sa.text(condition)
    )
