"""The tables, in types that both SQLite and PostgreSQL have, and conditions that the partial indexes serve."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Dialect,
    Double,
    ForeignKey,
    Identity,
    Index,
    Integer,
    MetaData,
    Row,
    String,
    Table,
    Text,
    TypeDecorator,
    UniqueConstraint,
    and_,
    literal_column,
    text,
)
from sqlalchemy.types import TypeEngine

from agent import gate

AnyRow = Row[*tuple[Any, ...]]

REVISION = "0032"
"""The newest revision in `migrations/versions`, repeated here so that opening a current database needs no Alembic."""

OLDEST = "0021"
"""The oldest revision whose programs may use a database of the newest one; as the migrations say it."""


class Timestamp(TypeDecorator[datetime]):
    """A time, stored as seconds since 1970 in UTC: exact to the microsecond, with the same order in every engine."""

    impl = Double
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> float | None:
        return None if value is None else value.timestamp()

    def process_result_value(self, value: float | None, dialect: Dialect) -> datetime | None:
        return None if value is None else datetime.fromtimestamp(value, UTC)


class SafeText(TypeDecorator[str]):
    """Text from outside. What databases cannot store (lone surrogates, NUL) becomes U+FFFD instead of an error."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:
        return None if value is None else clean(value)


clean = gate.text
"""The text as `SafeText` stores it."""

Key = BigInteger().with_variant(Integer, "sqlite")


class Json(TypeDecorator[Any]):
    """A value as JSON; JSONB in PostgreSQL. No query looks inside."""

    impl = JSON(none_as_null=True)
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        if dialect.name != "postgresql":
            return dialect.type_descriptor(JSON(none_as_null=True))
        from sqlalchemy.dialects.postgresql import JSONB  # its dialect takes half as long to load as all of SQLAlchemy

        return dialect.type_descriptor(JSONB(none_as_null=True))


metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
        "pk": "pk_%(table_name)s",
    }
)

sessions = Table(
    "sessions",
    metadata,
    Column("key", SafeText, primary_key=True),
    Column("channel", SafeText, nullable=False),
    Column("address", Json, nullable=False),
    Column("generation", Integer, nullable=False, server_default=text("0")),
    Column("busy", String(10)),
    Column("parent", SafeText),
    Column("allowed", Json),
    Column("model", SafeText),
    Column("reasoning", String(20)),
    Column("agent", String(32)),
    Column("title", SafeText),
    Column("created_at", Timestamp, nullable=False),
    Column("last_at", Timestamp, nullable=False),
    # Until something happens there again.
    Column("archived_at", Timestamp),
    # Of other bots, since a person wrote there.
    Column("bot_messages", Integer, nullable=False, server_default=text("0")),
    Index("ix_sessions_channel", "channel"),
)

turns = Table(
    "turns",
    metadata,
    Column("number", Key, Identity(), primary_key=True),
    Column("id", String(32), nullable=False, unique=True),
    Column("session", SafeText, ForeignKey("sessions.key"), nullable=False),
    Column("generation", Integer, nullable=False),
    Column("kind", String(8), nullable=False),
    Column("worker", String(64), nullable=False),
    Column("epoch", Integer, nullable=False),
    Column("address", Json, nullable=False),
    Column("principal", Json, nullable=False),
    Column("reply_to", SafeText),
    Column("state", String(10), nullable=False),
    Column("reason", SafeText, nullable=False),
    Column("parked", Boolean, nullable=False),
    Column("stop", SafeText),
    Column("deadline", Timestamp),
    Column("undone", Boolean, nullable=False),
    Column("started_at", Timestamp, nullable=False),
    Column("ended_at", Timestamp),
    Column("delivered", Boolean, nullable=False),
    Column("undeliverable", SafeText),
    # The unfinished answer of the model, as an entry of the log.
    Column("draft", SafeText),
    # The open request of a running call for input, as an entry of the log.
    Column("asks", SafeText),
    # The one that was chosen for the session when the turn began.
    Column("agent", String(32)),
    CheckConstraint("kind IN ('turn', 'command', 'aside')", name="kind"),
    CheckConstraint("state IN ('running', 'completed', 'failed', 'stopped')", name="state"),
    Index("ix_turns_session", "session", "generation", "number"),
)

inbox = Table(
    "inbox",
    metadata,
    Column("id", Key, Identity(), primary_key=True),
    Column("channel", SafeText, nullable=False),
    Column("event_id", SafeText, nullable=False),
    Column("session", SafeText, ForeignKey("sessions.key"), nullable=False),
    Column("generation", Integer, nullable=False),
    Column("address", Json, nullable=False),
    Column("kind", String(10), nullable=False),
    Column("source", String(8), nullable=False),
    Column("run", String(32), unique=True),
    Column("message_id", SafeText),
    Column("sender_id", SafeText, nullable=False),
    Column("sender_name", SafeText, nullable=False),
    Column("sender_handle", SafeText),
    Column("text", SafeText, nullable=False),
    Column("note", SafeText, nullable=False),
    Column("command", SafeText),
    Column("files", Json, nullable=False),
    Column("attachments", Json, nullable=False),
    Column("tools", Json, nullable=False),
    Column("album", SafeText),
    Column("opening", SafeText),
    Column("busy", String(10), nullable=False),
    Column("ready", Boolean, nullable=False),
    Column("state", String(10), nullable=False),
    Column("turn", String(32), ForeignKey("turns.id")),
    Column("step", Integer),
    Column("reason", SafeText, nullable=False),
    Column("sent_at", Timestamp, nullable=False),
    Column("received_at", Timestamp, nullable=False),
    Column("foreign", Json),
    Column("level", Integer, nullable=False, server_default=text("2")),
    # The row of the message whose late files these are.
    Column("follows", Integer),
    # Who answers the command, or fetches the files.
    Column("worker", String(64)),
    # Of what a program has sent: the same event with another one is not the same message.
    Column("digest", String(64)),
    UniqueConstraint("channel", "event_id"),
    CheckConstraint("kind IN ('new', 'edited', 'withdrawn', 'command')", name="kind"),
    CheckConstraint("source IN ('person', 'wrap', 'work')", name="source"),
    CheckConstraint("state IN ('waiting', 'consumed', 'answered', 'withdrawn', 'refused')", name="state"),
    CheckConstraint("state <> 'consumed' OR (turn IS NOT NULL AND step IS NOT NULL)", name="consumed"),
    Index("ix_inbox_message", "session", "message_id"),
    Index("ix_inbox_session", "session", "generation", "id"),
    Index("ix_inbox_turn", "turn"),
)

turn_log = Table(
    "turn_log",
    metadata,
    Column("turn", Key, ForeignKey("turns.number"), primary_key=True, autoincrement=False),
    Column("n", Integer, primary_key=True, autoincrement=False),
    Column("entry", Text, nullable=False),
    # When it was written; unknown in logs of earlier versions.
    Column("at", Timestamp),
    sqlite_with_rowid=False,
)

outbox = Table(
    "outbox",
    metadata,
    Column("reply_id", String(64), primary_key=True),
    Column("key", SafeText, primary_key=True),
    Column("position", Integer, nullable=False),
    Column("state", String(16), nullable=False),
    Column("ref", SafeText, nullable=False),
    Column("digest", SafeText, nullable=False),
    Column("reason", SafeText),
    # When it came into this state; unknown in outboxes of earlier versions.
    Column("at", Timestamp),
    CheckConstraint("state IN ('sending', 'shown', 'simplified', 'undeliverable')", name="state"),
    sqlite_with_rowid=False,
)

moves = Table(
    "moves",
    metadata,
    Column("channel", SafeText, primary_key=True),
    Column("account", SafeText, primary_key=True),
    Column("chat", SafeText, primary_key=True),
    Column("new_chat", SafeText, nullable=False),
    Column("at", Timestamp, nullable=False),
    sqlite_with_rowid=False,
)
"""Chats whose id their platform has exchanged for another."""

media = Table(
    "media",
    metadata,
    Column("hash", String(64), primary_key=True),
    Column("media_type", Text, nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("width", Integer),
    Column("height", Integer),
    Column("created_at", Timestamp, nullable=False),
    Column("stored", Integer, nullable=False, server_default="1"),
    Column("claimed_at", Timestamp),
)
"""`stored` says how often the bytes were stored, the last time at `created_at`; `claimed_at` is set while a process
deletes them."""

cursors = Table(
    "cursors",
    metadata,
    Column("channel", SafeText, primary_key=True),
    Column("chat", SafeText, primary_key=True),
    Column("read", SafeText, nullable=False),
    sqlite_with_rowid=False,
)

pairs = Table(
    "pairs",
    metadata,
    Column("channel", SafeText, primary_key=True),
    Column("sender_id", SafeText, primary_key=True),
    Column("sender_name", SafeText, nullable=False),
    Column("code", String(16), nullable=False, unique=True),
    Column("expires_at", Timestamp, nullable=False),
    Column("approved", Boolean, nullable=False),
    Column("session", SafeText, nullable=False),
    Column("address", Json, nullable=False),
)

identities = Table(
    "identities",
    metadata,
    Column("channel", SafeText, primary_key=True),
    Column("name", SafeText, primary_key=True),
    Column("user_id", SafeText, nullable=False),
    Column("user_name", SafeText, nullable=False),
    Column("at", Timestamp, nullable=False),
    sqlite_with_rowid=False,
)
"""The user id that an @name of the settings means, with the display name that the user had then."""

strangers = Table(
    "strangers",
    metadata,
    Column("channel", SafeText, primary_key=True),
    Column("sender_id", SafeText, primary_key=True),
    Column("sender_name", SafeText, nullable=False),
    Column("messages", Integer, nullable=False),
    Column("first_at", Timestamp, nullable=False),
    Column("last_at", Timestamp, nullable=False),
    Column("told_at", Timestamp),
    sqlite_with_rowid=False,
)
"""How many messages of people who are not allowed were refused, and when each was told so."""

media_uses = Table(
    "media_uses",
    metadata,
    Column("id", Key, Identity(), primary_key=True),
    Column("hash", String(64), nullable=False, index=True),
    Column("inbox", Key, ForeignKey("inbox.id")),
    Column("turn", Key, ForeignKey("turns.number")),
    CheckConstraint("inbox IS NOT NULL OR turn IS NOT NULL", name="used"),
)

usage = Table(
    "usage",
    metadata,
    Column("id", Key, Identity(), primary_key=True),
    Column("session", SafeText, nullable=False),
    Column("generation", Integer, nullable=False),
    Column("turn", String(32), nullable=False),
    Column("root", String(32), nullable=False),
    Column("person", SafeText, nullable=False),
    Column("model", SafeText, nullable=False),
    Column("purpose", SafeText, nullable=False),
    Column("input", Integer, nullable=False),
    Column("output", Integer, nullable=False),
    Column("cache_read", Integer, nullable=False),
    Column("cache_write", Integer, nullable=False),
    Column("reasoning", Integer, nullable=False),
    Column("cost", Double, nullable=False),
    Column("estimated", Boolean, nullable=False),
    Column("at", Timestamp, nullable=False),
    Index("ix_usage_root", "root"),
    Index("ix_usage_session", "session", "at"),
    Index("ix_usage_person", "person", "at"),
    Index("ix_usage_at", "at"),
)
"""What model calls cost. `session` is the conversation, also for a turn delegated in it; `root` is the turn that a
person began."""

work = Table(
    "work",
    metadata,
    Column("id", Key, Identity(), primary_key=True),
    Column("handle", String(16), nullable=False),
    Column("session", SafeText, ForeignKey("sessions.key"), nullable=False),
    Column("generation", Integer, nullable=False),
    Column("kind", String(8), nullable=False),
    Column("title", SafeText, nullable=False),
    Column("address", Json, nullable=False),
    Column("principal", Json, nullable=False),
    Column("turn", String(32), ForeignKey("turns.id"), nullable=False),
    Column("root", String(32), nullable=False),
    Column("call_id", SafeText, unique=True),
    Column("child", SafeText, unique=True),
    Column("waited", Boolean, nullable=False),
    Column("depth", Integer, nullable=False),
    Column("state", String(8), nullable=False),
    Column("shown", SafeText, nullable=False),
    Column("started_at", Timestamp, nullable=False),
    Column("ended_at", Timestamp),
    UniqueConstraint("session", "handle"),
    CheckConstraint("kind IN ('call', 'task')", name="kind"),
    CheckConstraint("state IN ('running', 'done', 'failed', 'stopped', 'lost')", name="state"),
)

audit = Table(
    "audit",
    metadata,
    Column("id", Key, Identity(), primary_key=True),
    Column("at", Timestamp, nullable=False),
    Column("event", String(20), nullable=False),
    Column("actor", SafeText, nullable=False),
    Column("actor_name", SafeText, nullable=False),
    Column("session", SafeText, nullable=False),
    Column("detail", Json, nullable=False),
    Index("ix_audit_at", "at"),
    Index("ix_audit_session", "session"),
)
"""Who did what: `actor` is "channel:user id", "operator" on the command line, or "" for the gateway."""

api_keys = Table(
    "api_keys",
    metadata,
    Column("id", String(16), primary_key=True),
    Column("name", SafeText, nullable=False),
    Column("hash", String(64), nullable=False),
    Column("scope", String(10), nullable=False),
    Column("agents", Json),
    Column("conversations", Json),
    Column("created_at", Timestamp, nullable=False),
    Column("created_by", SafeText, nullable=False),
    Column("expires_at", Timestamp),
    Column("used_at", Timestamp),
    Column("revoked_at", Timestamp),
    CheckConstraint("scope IN ('read', 'chat', 'operate', 'admin')", name="scope"),
    sqlite_with_rowid=False,
)
"""Keys of the control API; `hash` is the SHA-256 of the secret, `created_by` an actor of the audit log."""

deletions = Table(
    "deletions",
    metadata,
    Column("id", Key, Identity(), primary_key=True),
    Column("scope", String(20), nullable=False),
    Column("session", SafeText, nullable=False),
    Column("person", SafeText, nullable=False),
    Column("upto", Key),
    Column("by", SafeText, nullable=False),
    Column("state", String(10), nullable=False),
    Column("report", Json),
    Column("folders", Json, nullable=False),
    Column("requested_at", Timestamp, nullable=False),
    Column("done_at", Timestamp),
    CheckConstraint("scope IN ('conversation', 'person', 'person_here', 'old')", name="scope"),
    CheckConstraint("state IN ('requested', 'deleted', 'done')", name="state"),
)
"""Deletions of data, from the request to their end. `deleted`: the rows are gone; files, `folders` (addresses) and the
traces in the database file are left to remove. They never hold content."""

forgotten_events = Table(
    "forgotten_events",
    metadata,
    Column("event", String(64), primary_key=True),
    Column("at", Timestamp, nullable=False),
    sqlite_with_rowid=False,
)
"""Hashes of the events of messages that were deleted lately."""

web_sessions = Table(
    "web_sessions",
    metadata,
    Column("hash", String(64), primary_key=True),
    Column("channel", SafeText, nullable=False),
    Column("sender_id", SafeText, nullable=False),
    Column("sender_name", SafeText, nullable=False),
    Column("created_at", Timestamp, nullable=False),
    Column("expires_at", Timestamp, nullable=False),
    sqlite_with_rowid=False,
)
"""People of chat platforms who are signed in to the web server."""

login_links = Table(
    "login_links",
    metadata,
    Column("hash", String(64), primary_key=True),
    Column("session", SafeText, nullable=False),
    Column("channel", SafeText, nullable=False),
    Column("sender_id", SafeText, nullable=False),
    Column("sender_name", SafeText, nullable=False),
    Column("expires_at", Timestamp, nullable=False),
    UniqueConstraint("channel", "sender_id", "session"),
    sqlite_with_rowid=False,
)
"""Links that people of chat platforms have asked for, to sign in to the web server."""

workers = Table(
    "workers",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("host", SafeText, nullable=False),
    Column("pid", Integer, nullable=False),
    # Where the process id means something.
    Column("place", SafeText, nullable=False),
    Column("version", String(32), nullable=False),
    Column("started_at", Timestamp, nullable=False),
    # On the database's clock, in seconds since 1970.
    Column("until", Double, nullable=False),
    Column("running", Integer, nullable=False),
    Column("room", Integer, nullable=False),
    Column("draining", Boolean, nullable=False),
    sqlite_with_rowid=False,
)
"""The processes that use the database. Each is alive as long as its row is here."""

leases = Table(
    "leases",
    metadata,
    Column("name", String(200), primary_key=True),
    Column("worker", String(64), nullable=False),
    Column("epoch", Integer, nullable=False),
    Column("state", Json, nullable=False),
    sqlite_with_rowid=False,
)
"""Connections to platforms that only one worker may have: held as long as the worker is alive."""

reservations = Table(
    "reservations",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("worker", String(64), nullable=False),
    # That all was delegated from.
    Column("turn", String(64), nullable=False),
    Column("person", SafeText, nullable=False),
    Column("cost", Double, nullable=False),
    sqlite_with_rowid=False,
)
"""What running calls of several workers may cost, in dollars, where there are limits: each counts as long as its worker
is alive."""

uploads = Table(
    "uploads",
    metadata,
    Column("hash", String(64), primary_key=True),
    Column("session", SafeText, primary_key=True),
    Column("media_type", Text, nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("width", Integer),
    Column("height", Integer),
    Column("at", Timestamp, nullable=False),
    sqlite_with_rowid=False,
)
"""Files that were uploaded for a conversation, which may not have begun yet."""

message_counts = Table(
    "message_counts",
    metadata,
    Column("channel", SafeText, primary_key=True),
    Column("sender_id", SafeText, primary_key=True),
    # In which the messages were sent, since 1970.
    Column("second", BigInteger, primary_key=True, autoincrement=False),
    Column("messages", Integer, nullable=False),
    # Whether the person was told then that there were too many.
    Column("told", Boolean, nullable=False),
    Column("counted_at", Timestamp, nullable=False),
    sqlite_with_rowid=False,
)
"""How many messages several workers have taken from a person lately, where there is a limit."""

notes = Table(
    "notes",
    metadata,
    # Its name for people, too.
    Column("id", String(16), primary_key=True),
    Column("owner", SafeText, nullable=False),
    Column("session", SafeText, nullable=False),
    Column("channel", SafeText, nullable=False),
    # Whoever the turn was for that took it.
    Column("sender_id", SafeText, nullable=False),
    Column("sender_name", SafeText, nullable=False),
    Column("text", SafeText, nullable=False),
    Column("at", Timestamp, nullable=False),
    # The call that took it: it is carried out once.
    Column("made_by", SafeText, nullable=False, unique=True),
    Index("ix_notes_owner", "owner"),
    Index("ix_notes_session", "session"),
)
"""What the agent remembers of people and groups."""

schedules = Table(
    "schedules",
    metadata,
    # Its name for people, too.
    Column("id", String(16), primary_key=True),
    Column("session", SafeText, nullable=False),
    Column("channel", SafeText, nullable=False),
    Column("address", Json, nullable=False),
    # Who has the task done, with the rights of when it was scheduled.
    Column("sender_id", SafeText, nullable=False),
    Column("sender", Json, nullable=False),
    Column("task", SafeText, nullable=False),
    # "" for a task that is done once.
    Column("cron", SafeText, nullable=False),
    Column("zone", String(64), nullable=False),
    Column("due", Timestamp, nullable=False),
    Column("created_at", Timestamp, nullable=False),
    # The call or request that has scheduled it: it is carried out once.
    Column("made_by", SafeText, nullable=False, unique=True),
    Index("ix_schedules_due", "due"),
    Index("ix_schedules_session", "session"),
)
"""Tasks that the agent does at a time."""

workspaces = Table(
    "workspaces",
    metadata,
    # A random one: what the copies of deleted workspaces are known by.
    Column("id", String(32), primary_key=True),
    # The folder within the data directory; NULL once the workspace is deleted.
    Column("key", SafeText, unique=True),
    Column("version", Integer, nullable=False),
    # The hash of the list of its files, which is a file in the media store.
    Column("manifest", String(64), nullable=False),
    Column("files", Integer, nullable=False),
    # The machine that has saved this version.
    Column("host", SafeText, nullable=False),
    Column("at", Timestamp, nullable=False),
    sqlite_with_rowid=False,
)
"""Workspaces that several machines keep in step by the media store."""

workspace_files = Table(
    "workspace_files",
    metadata,
    Column("workspace", String(32), ForeignKey("workspaces.id"), primary_key=True),
    Column("hash", String(64), primary_key=True, index=True),
    sqlite_with_rowid=False,
)
"""The files in the media store that a workspace uses, with the list of them."""

workspace_names = Table(
    "workspace_names",
    metadata,
    Column("name", String(160), primary_key=True),
    # A hash of the key of the conversation, person or channel.
    Column("owner", String(64), nullable=False, unique=True),
    sqlite_with_rowid=False,
)
"""The folders of workspaces: names that are made with a part of a hash only, and yet belong to one owner each."""

transaction_marks = Table(
    "transaction_marks",
    metadata,
    Column("writer", String(32), primary_key=True),
    Column("mark", String(32), nullable=False),
    Column("at", Timestamp, nullable=False),
    sqlite_with_rowid=False,
)
"""The last committed transaction of each thread that writes on a server."""

mcp_accounts = Table(
    "mcp_accounts",
    metadata,
    Column("server", SafeText, primary_key=True),
    # A hash of "channel:id", "" for the account that everybody uses.
    Column("person", String(32), primary_key=True),
    Column("content", Json, nullable=False),
    # Another one after each change.
    Column("version", String(32), nullable=False),
    # Who gets new tokens for it at the moment, and until when on the database's clock.
    Column("claim", String(32)),
    Column("claimed_until", Double),
    sqlite_with_rowid=False,
)
"""Who is signed in at MCP servers, where several processes share that: `content` has the tokens."""

mcp_sign_ins = Table(
    "mcp_sign_ins",
    metadata,
    Column("ticket", String(64), primary_key=True),
    Column("worker", String(64), nullable=False),
    Column("server", SafeText, nullable=False),
    Column("person", SafeText, nullable=False),
    Column("who", SafeText, nullable=False),
    Column("url", SafeText, nullable=False),
    Column("state", String(64), nullable=False),
    Column("browsers", Json, nullable=False),
    Column("answer", Json),
    Column("expires_at", Timestamp, nullable=False),
    UniqueConstraint("server", "person"),
    sqlite_with_rowid=False,
)
"""Links with which people sign in at MCP servers: hashes of what is in the link (`ticket`), what the browser comes back
with (`state`) and the `browsers` that have opened it. `worker` waits for the `answer`."""

shared_secrets = Table(
    "shared_secrets",
    metadata,
    Column("name", String(32), primary_key=True),
    Column("value", Text, nullable=False),
    sqlite_with_rowid=False,
)
"""Secrets that all processes have, such as the token of the web chat's owner."""

# A partial index serves only queries that repeat its condition literally, so the values are no bound parameters.
is_waiting = inbox.c.state == literal_column("'waiting'")
is_refused = inbox.c.state == literal_column("'refused'")
is_command = inbox.c.kind == literal_column("'command'")
is_message = inbox.c.kind != literal_column("'command'")
is_wrap = inbox.c.busy == literal_column("'wrap'")
is_running = turns.c.state == literal_column("'running'")
is_ended = turns.c.state != literal_column("'running'")
is_turn = turns.c.kind == literal_column("'turn'")
is_side_question = turns.c.kind == literal_column("'aside'")
has_deadline = turns.c.deadline.is_not(None)
has_ended_at = turns.c.ended_at.is_not(None)
is_unarchived = and_(sessions.c.parent.is_(None), sessions.c.archived_at.is_(None))
is_archived = and_(sessions.c.parent.is_(None), sessions.c.archived_at.is_not(None))
is_running_work = work.c.state == literal_column("'running'")
is_undelivered = turns.c.delivered == literal_column("false")
is_undeliverable = turns.c.undeliverable.is_not(None)
is_unfinished_deletion = deletions.c.state != literal_column("'done'")

Index("ix_sessions_listed", sessions.c.channel, sessions.c.last_at, sessions.c.key, sqlite_where=is_unarchived)
Index("ix_sessions_archived", sessions.c.channel, sessions.c.last_at, sessions.c.key, sqlite_where=is_archived)
Index("ix_inbox_waiting", inbox.c.session, inbox.c.id, sqlite_where=is_waiting)
Index("ix_inbox_refused", inbox.c.channel, inbox.c.sender_id, sqlite_where=is_refused)
Index("uq_turns_running", turns.c.session, unique=True, sqlite_where=and_(is_running, is_turn))
Index("ix_turns_open", turns.c.number, sqlite_where=is_running)
Index("ix_turns_deadline", turns.c.deadline, sqlite_where=has_deadline)
Index("ix_turns_ended", turns.c.ended_at, sqlite_where=has_ended_at)
Index("ix_work_going_on", work.c.session, sqlite_where=is_running_work)
Index("ix_turns_undelivered", turns.c.number, sqlite_where=is_undelivered)
Index("ix_turns_undeliverable", turns.c.session, sqlite_where=is_undeliverable)
Index("ix_deletions_unfinished", deletions.c.id, sqlite_where=is_unfinished_deletion)

alembic_version = Table(
    "alembic_version",
    MetaData(),
    Column("version_num", String(32), nullable=False, primary_key=True),
)
"""Alembic's own table, for reading the revision of a database and for marking a new one."""

schema_support = Table(
    "schema_support",
    MetaData(naming_convention=metadata.naming_convention),
    Column("oldest", String(32), nullable=False, primary_key=True),
)
"""The oldest revision whose programs may use the database: one row, written by migrations."""
