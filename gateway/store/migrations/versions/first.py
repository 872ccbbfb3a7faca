"""The first tables."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from gateway.store.migrations.support import JSON

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

KEY = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


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
        sa.Column("parent", sa.Text(), nullable=True),
        sa.Column("allowed", JSON, nullable=True),
        sa.Column("model", sa.Text(), nullable=True),
        sa.Column("title", sa.Text(), nullable=True),
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
        sa.Column("deadline", sa.Double(), nullable=True),
        sa.Column("undone", sa.Boolean(), nullable=False),
        sa.Column("started_at", sa.Double(), nullable=False),
        sa.Column("ended_at", sa.Double(), nullable=True),
        sa.Column("delivered", sa.Boolean(), nullable=False),
        sa.CheckConstraint("kind IN ('turn', 'command', 'aside')", name=op.f("ck_turns_kind")),
        sa.CheckConstraint("state IN ('running', 'completed', 'failed', 'stopped')", name=op.f("ck_turns_state")),
        sa.ForeignKeyConstraint(["session"], ["sessions.key"], name=op.f("fk_turns_session_sessions")),
        sa.PrimaryKeyConstraint("number", name=op.f("pk_turns")),
        sa.UniqueConstraint("id", name=op.f("uq_turns_id")),
    )
    op.create_index(
        "ix_turns_aside",
        "turns",
        ["number"],
        unique=False,
        sqlite_where=sa.text("state = 'running' AND kind = 'aside'"),
        postgresql_where=sa.text("state = 'running' AND kind = 'aside'"),
    )
    op.create_index(
        "ix_turns_deadline",
        "turns",
        ["deadline"],
        unique=False,
        sqlite_where=sa.text("deadline IS NOT NULL"),
        postgresql_where=sa.text("deadline IS NOT NULL"),
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
        sqlite_where=sa.text("state = 'running' AND kind = 'turn'"),
        postgresql_where=sa.text("state = 'running' AND kind = 'turn'"),
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
        sa.Column("source", sa.String(length=8), nullable=False),
        sa.Column("run", sa.String(length=32), nullable=True),
        sa.Column("message_id", sa.Text(), nullable=True),
        sa.Column("sender_id", sa.Text(), nullable=False),
        sa.Column("sender_name", sa.Text(), nullable=False),
        sa.Column("sender_handle", sa.Text(), nullable=True),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("note", sa.Text(), nullable=False),
        sa.Column("command", sa.Text(), nullable=True),
        sa.Column("files", JSON, nullable=False),
        sa.Column("attachments", JSON, nullable=False),
        sa.Column("tools", JSON, nullable=False),
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
        sa.CheckConstraint("source IN ('person', 'wrap', 'work')", name=op.f("ck_inbox_source")),
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
        sa.UniqueConstraint("run", name=op.f("uq_inbox_run")),
    )
    op.create_index("ix_inbox_message", "inbox", ["session", "message_id"], unique=False)
    op.create_index("ix_inbox_turn", "inbox", ["turn"], unique=False)
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
    op.create_table(
        "usage",
        sa.Column("id", KEY, sa.Identity(always=False), nullable=False),
        sa.Column("session", sa.Text(), nullable=False),
        sa.Column("generation", sa.Integer(), nullable=False),
        sa.Column("turn", sa.String(length=32), nullable=False),
        sa.Column("root", sa.String(length=32), nullable=False),
        sa.Column("person", sa.Text(), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("purpose", sa.Text(), nullable=False),
        sa.Column("input", sa.Integer(), nullable=False),
        sa.Column("output", sa.Integer(), nullable=False),
        sa.Column("cache_read", sa.Integer(), nullable=False),
        sa.Column("cache_write", sa.Integer(), nullable=False),
        sa.Column("reasoning", sa.Integer(), nullable=False),
        sa.Column("cost", sa.Double(), nullable=False),
        sa.Column("estimated", sa.Boolean(), nullable=False),
        sa.Column("at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_usage")),
    )
    op.create_index("ix_usage_root", "usage", ["root"], unique=False)
    op.create_index("ix_usage_session", "usage", ["session", "at"], unique=False)
    op.create_index("ix_usage_person", "usage", ["person", "at"], unique=False)
    op.create_index("ix_usage_at", "usage", ["at"], unique=False)
    op.create_table(
        "work",
        sa.Column("id", KEY, sa.Identity(always=False), nullable=False),
        sa.Column("handle", sa.String(length=16), nullable=False),
        sa.Column("session", sa.Text(), nullable=False),
        sa.Column("generation", sa.Integer(), nullable=False),
        sa.Column("kind", sa.String(length=8), nullable=False),
        sa.Column("title", sa.Text(), nullable=False),
        sa.Column("address", JSON, nullable=False),
        sa.Column("principal", JSON, nullable=False),
        sa.Column("turn", sa.String(length=32), nullable=False),
        sa.Column("root", sa.String(length=32), nullable=False),
        sa.Column("call_id", sa.Text(), nullable=True),
        sa.Column("child", sa.Text(), nullable=True),
        sa.Column("waited", sa.Boolean(), nullable=False),
        sa.Column("depth", sa.Integer(), nullable=False),
        sa.Column("state", sa.String(length=8), nullable=False),
        sa.Column("shown", sa.Text(), nullable=False),
        sa.Column("started_at", sa.Double(), nullable=False),
        sa.Column("ended_at", sa.Double(), nullable=True),
        sa.CheckConstraint("kind IN ('call', 'task')", name=op.f("ck_work_kind")),
        sa.CheckConstraint("state IN ('running', 'done', 'failed', 'stopped', 'lost')", name=op.f("ck_work_state")),
        sa.ForeignKeyConstraint(["session"], ["sessions.key"], name=op.f("fk_work_session_sessions")),
        sa.ForeignKeyConstraint(["turn"], ["turns.id"], name=op.f("fk_work_turn_turns")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_work")),
        sa.UniqueConstraint("call_id", name=op.f("uq_work_call_id")),
        sa.UniqueConstraint("child", name=op.f("uq_work_child")),
        sa.UniqueConstraint("session", "handle", name=op.f("uq_work_session_handle")),
    )
    op.create_index(
        "ix_work_going_on",
        "work",
        ["session"],
        unique=False,
        sqlite_where=sa.text("state = 'running'"),
        postgresql_where=sa.text("state = 'running'"),
    )


def downgrade() -> None:
    tables = ("work", "usage", "media_uses", "pairs", "cursors", "turn_log", "inbox", "turns", "sessions", "outbox")
    for table in (*tables, "media"):
        op.drop_table(table)
