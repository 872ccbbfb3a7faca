"""Stored media: recorded, and forgotten when no message and no turn refers to them."""

from __future__ import annotations

from datetime import UTC, datetime

from sqlalchemy import Connection, bindparam, delete, exists, select

from agent.media import Attachment
from gateway.store.schema import media, media_uses
from gateway.store.upsert import insert

_record = insert(media).values(
    hash=bindparam("hash"),
    media_type=bindparam("media_type"),
    size=bindparam("size"),
    width=bindparam("width"),
    height=bindparam("height"),
    created_at=bindparam("created_at"),
)
_record = _record.on_conflict_do_update(index_elements=["hash"], set_={"created_at": _record.excluded.created_at})

_forget = delete(media).where(
    media.c.created_at < bindparam("before"), ~exists(select(media_uses.c.id).where(media_uses.c.hash == media.c.hash))
)

_all = select(media.c.hash)


def record(connection: Connection, attachment: Attachment) -> None:
    """The bytes are in the media store. Recorded again, they count as new, so that a cleanup keeps them."""
    values = {
        "hash": attachment.hash,
        "media_type": attachment.media_type,
        "size": attachment.size,
        "width": attachment.width,
        "height": attachment.height,
        "created_at": datetime.now(UTC),
    }
    connection.execute(_record, values)


def forget_unused(connection: Connection, before: datetime) -> frozenset[str]:
    """Forgets media recorded before then and used by no message and no turn; the hashes of those that remain."""
    connection.execute(_forget, {"before": before})
    return frozenset(connection.execute(_all).scalars())
