"""Files that were uploaded for a conversation and that a message may name: any worker takes that message."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from sqlalchemy import Connection, bindparam, delete, select

from agent.media import Attachment
from gateway.store.schema import uploads
from gateway.store.upsert import insert

KEPT = timedelta(hours=1)
"""For so long a message may name an uploaded file."""

_insert = insert(uploads).values({column.name: bindparam(column.name) for column in uploads.c})
_add = _insert.on_conflict_do_update(
    index_elements=["hash", "session"],
    set_={name: _insert.excluded[name] for name in ("media_type", "size", "width", "height", "at")},
)
_delete_old = delete(uploads).where(uploads.c.at <= bindparam("oldest"))
_find = select(uploads).where(
    uploads.c.hash == bindparam("hash"), uploads.c.session == bindparam("session"), uploads.c.at > bindparam("oldest")
)
_delete_of = (
    delete(uploads)
    .where(uploads.c.session == bindparam("of_session"), uploads.c.at < bindparam("before"))
    .returning(uploads.c.hash)
)


def add(connection: Connection, session: str, file: Attachment) -> None:
    """The file was uploaded for the conversation. What no message may name any more is forgotten."""
    now = datetime.now(UTC)
    prune(connection)
    values = {
        "hash": file.hash,
        "session": session,
        "media_type": file.media_type,
        "size": file.size,
        "width": file.width,
        "height": file.height,
        "at": now,
    }
    connection.execute(_add, values)


def find(connection: Connection, session: str, hash: str, name: str) -> Attachment | None:
    """The uploaded file with this hash, under this name; None if none was uploaded there lately."""
    values = {"session": session, "hash": hash, "oldest": datetime.now(UTC) - KEPT}
    row = connection.execute(_find, values).first()
    return None if row is None else Attachment(row.hash, name, row.media_type, row.size, row.width, row.height)


def prune(connection: Connection) -> None:
    """Forgets the files that no message may name any more."""
    connection.execute(_delete_old, {"oldest": datetime.now(UTC) - KEPT})


def delete_of(connection: Connection, session: str, before: datetime) -> frozenset[str]:
    """Forgets the files that were uploaded for the conversation before then; their hashes."""
    return frozenset(connection.execute(_delete_of, {"of_session": session, "before": before}).scalars())
