"""How far a channel has read in each chat, for platforms that do not keep that themselves."""

from __future__ import annotations

from collections.abc import Mapping

from sqlalchemy import Connection, bindparam, select
from sqlalchemy.dialects.sqlite import insert

from gateway.store.schema import cursors

_load = select(cursors.c.chat, cursors.c.read).where(cursors.c.channel == bindparam("channel"))
_keep = insert(cursors).values(channel=bindparam("channel"), chat=bindparam("chat"), read=bindparam("read"))
_keep = _keep.on_conflict_do_update(index_elements=["channel", "chat"], set_={"read": _keep.excluded.read})


def load(connection: Connection, channel: str) -> dict[str, str]:
    return {str(row.chat): str(row.read) for row in connection.execute(_load, {"channel": channel})}


def keep(connection: Connection, channel: str, read: Mapping[str, str]) -> None:
    if read:
        connection.execute(_keep, [{"channel": channel, "chat": chat, "read": seen} for chat, seen in read.items()])
