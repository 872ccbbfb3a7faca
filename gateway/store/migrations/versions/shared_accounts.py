"""What processes share of sign-ins: accounts at MCP servers, links to sign in there, and secrets."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from gateway.store.migrations.support import JSON

revision = "0028"
down_revision = "0027"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "mcp_accounts",
        sa.Column("server", sa.Text(), nullable=False),
        sa.Column("person", sa.String(length=32), nullable=False),
        sa.Column("content", JSON, nullable=False),
        sa.Column("version", sa.String(length=32), nullable=False),
        sa.Column("claim", sa.String(length=32), nullable=True),
        sa.Column("claimed_until", sa.Double(), nullable=True),
        sa.PrimaryKeyConstraint("server", "person", name=op.f("pk_mcp_accounts")),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "mcp_sign_ins",
        sa.Column("ticket", sa.String(length=64), nullable=False),
        sa.Column("worker", sa.String(length=64), nullable=False),
        sa.Column("server", sa.Text(), nullable=False),
        sa.Column("person", sa.Text(), nullable=False),
        sa.Column("who", sa.Text(), nullable=False),
        sa.Column("url", sa.Text(), nullable=False),
        sa.Column("state", sa.String(length=64), nullable=False),
        sa.Column("browsers", JSON, nullable=False),
        sa.Column("answer", JSON, nullable=True),
        sa.Column("expires_at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("ticket", name=op.f("pk_mcp_sign_ins")),
        sa.UniqueConstraint("server", "person", name=op.f("uq_mcp_sign_ins_server_person")),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "shared_secrets",
        sa.Column("name", sa.String(length=32), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_shared_secrets")),
        sqlite_with_rowid=False,
    )


def downgrade() -> None:
    op.drop_table("shared_secrets")
    op.drop_table("mcp_sign_ins")
    op.drop_table("mcp_accounts")
