"""Which stored files belong to a conversation."""

from __future__ import annotations

from sqlalchemy import Connection, bindparam, or_, select

from agent.media import Attachment
from gateway.store.schema import inbox, media, media_uses, sessions, turns

_within = or_(sessions.c.key == bindparam("session"), sessions.c.parent == bindparam("session"))
_sessions = select(sessions.c.key).where(_within)
_used = (
    select(media)
    .select_from(
        media.join(media_uses, media_uses.c.hash == media.c.hash)
        .outerjoin(inbox, inbox.c.id == media_uses.c.inbox)
        .outerjoin(turns, turns.c.number == media_uses.c.turn)
    )
    .where(media.c.hash == bindparam("hash"), or_(inbox.c.session.in_(_sessions), turns.c.session.in_(_sessions)))
    .limit(1)
)


def find_file(connection: Connection, session: str, hash: str, name: str) -> Attachment | None:
    """The file with this hash, under this name; None if neither a message nor a turn of the conversation has it."""
    row = connection.execute(_used, {"session": session, "hash": hash}).first()
    return None if row is None else Attachment(row.hash, name, row.media_type, row.size, row.width, row.height)
