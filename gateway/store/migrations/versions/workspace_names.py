"""Names of workspace folders, each of one owner: those of the conversations that there are. And an index of the ends of
turns."""

from __future__ import annotations

import re
from hashlib import sha256
from urllib.parse import unquote

import sqlalchemy as sa
from alembic import op

revision = "0029"
down_revision = "0028"
branch_labels = None
depends_on = None

AT_ONCE = 1000


def upgrade() -> None:
    op.create_table(
        "workspace_names",
        sa.Column("name", sa.String(length=160), nullable=False),
        sa.Column("owner", sa.String(length=64), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_workspace_names")),
        sa.UniqueConstraint("owner", name=op.f("uq_workspace_names_owner")),
        sqlite_with_rowid=False,
    )
    connection = op.get_bind()
    sessions = sa.table(
        "sessions", sa.column("key", sa.Text()), sa.column("parent", sa.Text()), sa.column("created_at", sa.Double())
    )
    names = sa.table("workspace_names", sa.column("name", sa.String()), sa.column("owner", sa.String()))
    keys = connection.execute(
        sa.select(sessions.c.key).where(sessions.c.parent.is_(None)).order_by(sessions.c.created_at, sessions.c.key)
    ).scalars()
    # Of two with the same name, the older one keeps it.
    owners: dict[str, str] = {}
    for key in (key for key in keys if key.count("/") >= 2):
        owners.setdefault(_name_of(key), sha256(key.encode()).hexdigest())
    rows = [{"name": name, "owner": owner} for name, owner in owners.items()]
    for first in range(0, len(rows), AT_ONCE):
        connection.execute(sa.insert(names), rows[first : first + AT_ONCE])
    op.create_index(
        "ix_turns_ended",
        "turns",
        ["ended_at"],
        unique=False,
        sqlite_where=sa.text("ended_at IS NOT NULL"),
        postgresql_where=sa.text("ended_at IS NOT NULL"),
    )


def downgrade() -> None:
    op.drop_index("ix_turns_ended", table_name="turns")
    op.drop_table("workspace_names")


def _name_of(key: str) -> str:
    """As `gateway.turns.workspaces` made it before this revision."""
    channel, _, *rest = map(unquote, key.split("/"))
    readable = re.sub(r"[^A-Za-z0-9_.-]+", "-", f"{channel}-{'-'.join(rest)}")[:60].strip("-.")
    return f"{readable}-{sha256(key.encode()).hexdigest()[:10]}"
