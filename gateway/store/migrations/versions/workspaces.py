"""Workspaces that several machines keep in step by the media store."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0026"
down_revision = "0025"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "workspaces",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("key", sa.Text(), nullable=True),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("manifest", sa.String(length=64), nullable=False),
        sa.Column("files", sa.Integer(), nullable=False),
        sa.Column("host", sa.Text(), nullable=False),
        sa.Column("at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_workspaces")),
        sa.UniqueConstraint("key", name=op.f("uq_workspaces_key")),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "workspace_files",
        sa.Column("workspace", sa.String(length=32), nullable=False),
        sa.Column("hash", sa.String(length=64), nullable=False),
        sa.ForeignKeyConstraint(["workspace"], ["workspaces.id"], name=op.f("fk_workspace_files_workspace_workspaces")),
        sa.PrimaryKeyConstraint("workspace", "hash", name=op.f("pk_workspace_files")),
        sqlite_with_rowid=False,
    )
    op.create_index(op.f("ix_workspace_files_hash"), "workspace_files", ["hash"], unique=False)


def downgrade() -> None:
    op.drop_table("workspace_files")
    op.drop_table("workspaces")
