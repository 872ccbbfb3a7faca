"""Read positions: how far a channel has read in each chat, for platforms that do not store that themselves."""

from __future__ import annotations

from collections.abc import Mapping

from sqlalchemy import Connection, bindparam, delete, select

from gateway.store.schema import SafeText, cursors
from gateway.store.upsert import insert
from gateway.store.workers import is_held

_load = select(cursors.c.chat, cursors.c.read).where(cursors.c.channel == bindparam("channel"))
_upsert = insert(cursors).values(channel=bindparam("channel"), chat=bindparam("chat"), read=bindparam("read"))
_upsert = _upsert.on_conflict_do_update(index_elements=["channel", "chat"], set_={"read": _upsert.excluded.read})
_delete = delete(cursors).where(cursors.c.channel == bindparam("of_channel"), cursors.c.chat == bindparam("of_chat"))

_of_holder = insert(cursors).from_select(
    ("channel", "chat", "read"),
    select(
        bindparam("channel", type_=SafeText), bindparam("chat", type_=SafeText), bindparam("read", type_=SafeText)
    ).where(is_held(bindparam("lease"), bindparam("holder"))),
)
_upsert_of_holder = _of_holder.on_conflict_do_update(
    index_elements=["channel", "chat"], set_={"read": _of_holder.excluded.read}
).returning(cursors.c.read)


def load(connection: Connection, channel: str) -> dict[str, str]:
    """The position in each chat."""
    return {str(row.chat): str(row.read) for row in connection.execute(_load, {"channel": channel})}


def save(connection: Connection, channel: str, read: Mapping[str, str | None]) -> None:
    """Stores the positions in these chats; None: there is none any more."""
    kept = [{"channel": channel, "chat": chat, "read": seen} for chat, seen in read.items() if seen is not None]
    if kept:
        connection.execute(_upsert, kept)
    gone = [{"of_channel": channel, "of_chat": chat} for chat, seen in read.items() if seen is None]
    if gone:
        connection.execute(_delete, gone)


def save_as_holder(connection: Connection, worker: str, lease: str, channel: str, chat: str, read: str) -> bool:
    """Stores the position if this worker holds the lease; whether it does."""
    values = {"lease": lease, "holder": worker, "channel": channel, "chat": chat, "read": read}
    return connection.execute(_upsert_of_holder, values).first() is not None
