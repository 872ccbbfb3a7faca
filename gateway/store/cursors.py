"""Read positions: how far a channel has read in each chat, for platforms that do not store that themselves."""

from __future__ import annotations

from collections.abc import Mapping

from sqlalchemy import Connection, bindparam, select

from gateway.store.schema import cursors
from gateway.store.upsert import insert

_load = select(cursors.c.chat, cursors.c.read).where(cursors.c.channel == bindparam("channel"))
_upsert = insert(cursors).values(channel=bindparam("channel"), chat=bindparam("chat"), read=bindparam("read"))
_upsert = _upsert.on_conflict_do_update(index_elements=["channel", "chat"], set_={"read": _upsert.excluded.read})


def load(connection: Connection, channel: str) -> dict[str, str]:
    """The position in each chat."""
    return {str(row.chat): str(row.read) for row in connection.execute(_load, {"channel": channel})}


def save(connection: Connection, channel: str, read: Mapping[str, str]) -> None:
    """Stores the positions in these chats."""
    if read:
        connection.execute(_upsert, [{"channel": channel, "chat": chat, "read": seen} for chat, seen in read.items()])
