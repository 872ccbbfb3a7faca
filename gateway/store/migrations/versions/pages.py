"""What pages of histories and of the list of conversations are found by."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0022"
down_revision = "0021"
branch_labels = None
depends_on = None

LISTED = sa.text("parent IS NULL AND archived_at IS NULL")
ARCHIVED = sa.text("parent IS NULL AND archived_at IS NOT NULL")


def upgrade() -> None:
    op.create_index("ix_inbox_session", "inbox", ["session", "generation", "id"], unique=False)
    op.create_index(
        "ix_sessions_listed",
        "sessions",
        ["channel", "last_at", "key"],
        unique=False,
        sqlite_where=LISTED,
        postgresql_where=LISTED,
    )
    op.create_index(
        "ix_sessions_archived",
        "sessions",
        ["channel", "last_at", "key"],
        unique=False,
        sqlite_where=ARCHIVED,
        postgresql_where=ARCHIVED,
    )


def downgrade() -> None:
    op.drop_index("ix_sessions_archived", table_name="sessions")
    op.drop_index("ix_sessions_listed", table_name="sessions")
    op.drop_index("ix_inbox_session", table_name="inbox")
