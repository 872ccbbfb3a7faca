"""The audit log, and what was deleted."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from gateway.store.migrations.support import JSON

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

KEY = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "audit",
        sa.Column("id", KEY, sa.Identity(always=False), nullable=False),
        sa.Column("at", sa.Double(), nullable=False),
        sa.Column("event", sa.String(length=20), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("actor_name", sa.Text(), nullable=False),
        sa.Column("session", sa.Text(), nullable=False),
        sa.Column("detail", JSON, nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_audit")),
    )
    op.create_index("ix_audit_at", "audit", ["at"], unique=False)
    op.create_index("ix_audit_session", "audit", ["session"], unique=False)
    op.create_table(
        "deletions",
        sa.Column("id", KEY, sa.Identity(always=False), nullable=False),
        sa.Column("scope", sa.String(length=20), nullable=False),
        sa.Column("session", sa.Text(), nullable=False),
        sa.Column("person", sa.Text(), nullable=False),
        sa.Column("upto", KEY, nullable=True),
        sa.Column("by", sa.Text(), nullable=False),
        sa.Column("state", sa.String(length=10), nullable=False),
        sa.Column("report", JSON, nullable=True),
        sa.Column("folders", JSON, nullable=False),
        sa.Column("requested_at", sa.Double(), nullable=False),
        sa.Column("done_at", sa.Double(), nullable=True),
        sa.CheckConstraint(
            "scope IN ('conversation', 'person', 'person_here', 'old')", name=op.f("ck_deletions_scope")
        ),
        sa.CheckConstraint("state IN ('requested', 'deleted', 'done')", name=op.f("ck_deletions_state")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_deletions")),
    )
    op.create_index(
        "ix_deletions_unfinished",
        "deletions",
        ["id"],
        unique=False,
        sqlite_where=sa.text("state != 'done'"),
        postgresql_where=sa.text("state != 'done'"),
    )


def downgrade() -> None:
    op.drop_table("deletions")
    op.drop_table("audit")
