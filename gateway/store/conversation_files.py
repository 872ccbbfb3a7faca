"""Which stored files belong to a conversation: those of its messages and turns, and those that were uploaded for it."""

from __future__ import annotations

import json
from dataclasses import replace

from sqlalchemy import Connection, bindparam, or_, select

from agent.media import Attachment
from channels.message import STORED
from gateway.store import uploads
from gateway.store.encoding import files_from_json
from gateway.store.schema import inbox, is_message, is_waiting, media, media_uses, sessions, turns

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

_unread = select(inbox.c.files).where(
    inbox.c.session == bindparam("session"), is_waiting, is_message, inbox.c.ready.is_(False)
)


def find_file(connection: Connection, session: str, hash: str, name: str) -> Attachment | None:
    """The file with this hash, under this name; None if neither a message nor a turn of the conversation has it, and it
    was not uploaded there lately."""
    # In this order: a message that is ready meanwhile uses its files.
    return (
        uploads.find(connection, session, hash, name)
        or _find_unread(connection, session, hash, name)
        or _find_used(connection, session, hash, name)
    )


def _find_unread(connection: Connection, session: str, hash: str, name: str) -> Attachment | None:
    """A stored file of a message that was accepted a moment ago, and is not ready to be read yet."""
    for files in connection.execute(_unread, {"session": session}).scalars():
        for file in files_from_json(files):
            if file.ref.startswith(STORED):
                attachment = Attachment(**json.loads(file.ref.removeprefix(STORED)))
                if attachment.hash == hash:
                    return replace(attachment, name=name)
    return None


def _find_used(connection: Connection, session: str, hash: str, name: str) -> Attachment | None:
    row = connection.execute(_used, {"session": session, "hash": hash}).first()
    return None if row is None else Attachment(row.hash, name, row.media_type, row.size, row.width, row.height)
