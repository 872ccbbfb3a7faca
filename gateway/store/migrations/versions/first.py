"""The first tables."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

KEY = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
JSON = sa.JSON(none_as_null=True)


def upgrade() -> None:
    op.create_table(
        "media",
        sa.Column("hash", sa.String(length=64), nullable=False),
        sa.Column("media_type", sa.Text(), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("width", sa.Integer(), nullable=True),
        sa.Column("height", sa.Integer(), nullable=True),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("hash", name=op.f("pk_media")),
    )
    op.create_table(
        "outbox",
        sa.Column("reply_id", sa.String(length=64), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("state", sa.String(length=8), nullable=False),
        sa.Column("ref", sa.Text(), nullable=False),
        sa.Column("digest", sa.Text(), nullable=False),
        sa.CheckConstraint("state IN ('sending', 'shown')", name=op.f("ck_outbox_state")),
        sa.PrimaryKeyConstraint("reply_id", "key", name=op.f("pk_outbox")),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "sessions",
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("channel", sa.Text(), nullable=False),
        sa.Column("address", JSON, nullable=False),
        sa.Column("generation", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("busy", sa.String(length=10), nullable=True),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("last_at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("key", name=op.f("pk_sessions")),
    )
    op.create_index("ix_sessions_channel", "sessions", ["channel"], unique=False)
    op.create_table(
        "turns",
        sa.Column("number", KEY, sa.Identity(always=False), nullable=False),
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("session", sa.Text(), nullable=False),
        sa.Column("generation", sa.Integer(), nullable=False),
        sa.Column("kind", sa.String(length=8), nullable=False),
        sa.Column("worker", sa.String(length=64), nullable=False),
        sa.Column("epoch", sa.Integer(), nullable=False),
        sa.Column("address", JSON, nullable=False),
        sa.Column("principal", JSON, nullable=False),
        sa.Column("reply_to", sa.Text(), nullable=True),
        sa.Column("state", sa.String(length=10), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("parked", sa.Boolean(), nullable=False),
        sa.Column("stop", sa.Text(), nullable=True),
        sa.Column("started_at", sa.Double(), nullable=False),
        sa.Column("ended_at", sa.Double(), nullable=True),
        sa.Column("delivered", sa.Boolean(), nullable=False),
        sa.CheckConstraint("kind IN ('turn', 'command')", name=op.f("ck_turns_kind")),
        sa.CheckConstraint("state IN ('running', 'completed', 'failed', 'stopped')", name=op.f("ck_turns_state")),
        sa.ForeignKeyConstraint(["session"], ["sessions.key"], name=op.f("fk_turns_session_sessions")),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_turns")),
        sa.UniqueConstraint("id", name=op.f("uq_turns_id")),
    )
    op.create_index("ix_turns_session", "turns", ["session", "generation", "number"], unique=False)
    op.create_index(
        "ix_turns_undelivered",
        "turns",
        ["number"],
        unique=False,
        sqlite_where=sa.text("delivered = false"),
        postgresql_where=sa.text("delivered = false"),
    )
    op.create_index(
        "uq_turns_running",
        "turns",
        ["session"],
        unique=True,
        sqlite_where=sa.text("state = 'running'"),
        postgresql_where=sa.text("state = 'running'"),
    )
    op.create_table(
        "inbox",
        sa.Column("id", KEY, sa.Identity(always=False), nullable=False),
        sa.Column("channel", sa.Text(), nullable=False),
        sa.Column("event_id", sa.Text(), nullable=False),
        sa.Column("session", sa.Text(), nullable=False),
        sa.Column("generation", sa.Integer(), nullable=False),
        sa.Column("address", JSON, nullable=False),
        sa.Column("kind", sa.String(length=10), nullable=False),
        sa.Column("message_id", sa.Text(), nullable=True),
        sa.Column("sender_id", sa.Text(), nullable=False),
        sa.Column("sender_name", sa.Text(), nullable=False),
        sa.Column("sender_handle", sa.Text(), nullable=True),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("note", sa.Text(), nullable=False),
        sa.Column("command", sa.Text(), nullable=True),
        sa.Column("files", JSON, nullable=False),
        sa.Column("attachments", JSON, nullable=False),
        sa.Column("album", sa.Text(), nullable=True),
        sa.Column("opening", sa.Text(), nullable=True),
        sa.Column("busy", sa.String(length=10), nullable=False),
        sa.Column("ready", sa.Boolean(), nullable=False),
        sa.Column("state", sa.String(length=10), nullable=False),
        sa.Column("turn", sa.String(length=32), nullable=True),
        sa.Column("step", sa.Integer(), nullable=True),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("sent_at", sa.Double(), nullable=False),
        sa.Column("received_at", sa.Double(), nullable=False),
        sa.CheckConstraint("kind IN ('new', 'edited', 'withdrawn', 'command')", name=op.f("ck_inbox_kind")),
        sa.CheckConstraint(
            "state <> 'consumed' OR (turn IS NOT NULL AND step IS NOT NULL)", name=op.f("ck_inbox_consumed")
        ),
        sa.CheckConstraint(
            "state IN ('waiting', 'consumed', 'answered', 'withdrawn', 'refused')", name=op.f("ck_inbox_state")
        ),
        sa.ForeignKeyConstraint(["session"], ["sessions.key"], name=op.f("fk_inbox_session_sessions")),
        sa.ForeignKeyConstraint(["turn"], ["turns.id"], name=op.f("fk_inbox_turn_turns")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_inbox")),
        sa.UniqueConstraint("channel", "event_id", name=op.f("uq_inbox_channel_event_id")),
    )
    op.create_index("ix_inbox_message", "inbox", ["session", "message_id"], unique=False)
    op.create_index(
        "ix_inbox_refused",
        "inbox",
        ["channel", "sender_id"],
        unique=False,
        sqlite_where=sa.text("state = 'refused'"),
        postgresql_where=sa.text("state = 'refused'"),
    )
    op.create_index(
        "ix_inbox_waiting",
        "inbox",
        ["session", "id"],
        unique=False,
        sqlite_where=sa.text("state = 'waiting'"),
        postgresql_where=sa.text("state = 'waiting'"),
    )
    op.create_table(
        "turn_log",
        sa.Column("turn", KEY, autoincrement=False, nullable=False),
        sa.Column("n", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("entry", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["turn"], ["turns.number"], name=op.f("fk_turn_log_turn_turns")),
        sa.PrimaryKeyConstraint("turn", "n", name=op.f("pk_turn_log")),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "cursors",
        sa.Column("channel", sa.Text(), nullable=False),
        sa.Column("chat", sa.Text(), nullable=False),
        sa.Column("read", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("channel", "chat", name=op.f("pk_cursors")),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "pairs",
        sa.Column("channel", sa.Text(), nullable=False),
        sa.Column("sender_id", sa.Text(), nullable=False),
        sa.Column("sender_name", sa.Text(), nullable=False),
        sa.Column("code", sa.String(length=16), nullable=False),
        sa.Column("expires_at", sa.Double(), nullable=False),
        sa.Column("approved", sa.Boolean(), nullable=False),
        sa.Column("session", sa.Text(), nullable=False),
        sa.Column("address", JSON, nullable=False),
        sa.PrimaryKeyConstraint("channel", "sender_id", name=op.f("pk_pairs")),
        sa.UniqueConstraint("code", name=op.f("uq_pairs_code")),
    )
    op.create_table(
        "media_uses",
        sa.Column("id", KEY, sa.Identity(always=False), nullable=False),
        sa.Column("hash", sa.String(length=64), nullable=False),
        sa.Column("inbox", KEY, nullable=True),
        sa.Column("turn", KEY, nullable=True),
        sa.CheckConstraint("inbox IS NOT NULL OR turn IS NOT NULL", name=op.f("ck_media_uses_used")),
        sa.ForeignKeyConstraint(["inbox"], ["inbox.id"], name=op.f("fk_media_uses_inbox_inbox")),
        sa.ForeignKeyConstraint(["turn"], ["turns.number"], name=op.f("fk_media_uses_turn_turns")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_media_uses")),
    )
    op.create_index(op.f("ix_media_uses_hash"), "media_uses", ["hash"], unique=False)


def downgrade() -> None:
    for table in ("media_uses", "pairs", "cursors", "turn_log", "inbox", "turns", "sessions", "outbox", "media"):
        op.drop_table(table)
