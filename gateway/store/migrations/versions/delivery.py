"""What platforms refused of replies, and the ids that they have exchanged for others."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    _renew_outbox("state IN ('sending', 'shown', 'simplified', 'undeliverable')", 16, sa.Column("reason", sa.Text()))
    op.add_column("turns", sa.Column("undeliverable", sa.Text(), nullable=True))
    op.create_index(
        "ix_turns_undeliverable",
        "turns",
        ["session"],
        unique=False,
        sqlite_where=sa.text("undeliverable IS NOT NULL"),
        postgresql_where=sa.text("undeliverable IS NOT NULL"),
    )
    op.create_table(
        "moves",
        sa.Column("channel", sa.Text(), nullable=False),
        sa.Column("account", sa.Text(), nullable=False),
        sa.Column("chat", sa.Text(), nullable=False),
        sa.Column("new_chat", sa.Text(), nullable=False),
        sa.Column("at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("channel", "account", "chat", name=op.f("pk_moves")),
        sqlite_with_rowid=False,
    )


def downgrade() -> None:
    op.drop_table("moves")
    op.drop_index("ix_turns_undeliverable", "turns")
    op.drop_column("turns", "undeliverable")
    op.execute(sa.text("DELETE FROM outbox WHERE state NOT IN ('sending', 'shown')"))
    _renew_outbox("state IN ('sending', 'shown')", 8)


def _renew_outbox(check: str, length: int, *more: sa.Column[str]) -> None:
    """SQLite cannot change a constraint of a table."""
    op.rename_table("outbox", "outbox_old")
    if op.get_bind().dialect.name == "postgresql":
        # Names of keys are unique there.
        op.execute(sa.text("ALTER TABLE outbox_old RENAME CONSTRAINT pk_outbox TO pk_outbox_old"))
    op.create_table(
        "outbox",
        sa.Column("reply_id", sa.String(length=64), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("state", sa.String(length=length), nullable=False),
        sa.Column("ref", sa.Text(), nullable=False),
        sa.Column("digest", sa.Text(), nullable=False),
        *more,
        sa.CheckConstraint(check, name=op.f("ck_outbox_state")),
        sa.PrimaryKeyConstraint("reply_id", "key", name=op.f("pk_outbox")),
        sqlite_with_rowid=False,
    )
    columns = "reply_id, key, position, state, ref, digest"
    op.execute(sa.text(f"INSERT INTO outbox ({columns}) SELECT {columns} FROM outbox_old"))
    op.drop_table("outbox_old")
