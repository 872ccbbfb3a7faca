"""Links by which people of chat platforms sign in to the web server. The code is in one message only; its hash is
stored, so that a link works once, on whichever worker it is opened."""

from __future__ import annotations

import secrets
from datetime import UTC, datetime, timedelta

from sqlalchemy import Connection, bindparam, delete, select

from channels.address import Sender
from gateway.store.records import LoginLink
from gateway.store.schema import login_links
from gateway.store.upsert import insert
from gateway.store.web_sessions import hash_of

LIFETIME = timedelta(minutes=5)

MAX_LINKS = 1000
"""Links that wait at once; a further one takes the place of the oldest."""

_insert = insert(login_links).values({column.name: bindparam(column.name) for column in login_links.c})
_replace = _insert.on_conflict_do_update(
    index_elements=["channel", "sender_id", "session"],
    set_={name: _insert.excluded[name] for name in ("hash", "sender_name", "expires_at")},
)
_oldest = select(login_links.c.hash).order_by(login_links.c.expires_at.desc()).offset(MAX_LINKS)
_expired = delete(login_links).where(login_links.c.expires_at <= bindparam("now"))
_remove = delete(login_links).where(login_links.c.hash == bindparam("of_hash"))
_take = _remove.returning(*login_links.c)


def create(connection: Connection, session: str, channel: str, sender: Sender) -> str:
    """A link for this person, who asked for it in this conversation; its code. It takes the place of an earlier one."""
    now = datetime.now(UTC)
    code = secrets.token_urlsafe(24)
    connection.execute(_expired, {"now": now})
    values = {
        "hash": hash_of(code),
        "session": session,
        "channel": channel,
        "sender_id": sender.id,
        "sender_name": sender.name,
        "expires_at": now + LIFETIME,
    }
    connection.execute(_replace, values)
    for old in connection.execute(_oldest).scalars().all():
        connection.execute(_remove, {"of_hash": old})
    return code


def take(connection: Connection, code: str) -> LoginLink | None:
    """The link with this code, which is used now; None if there is none, or it has expired. Of several who use it at
    the same moment, one gets it."""
    row = connection.execute(_take, {"of_hash": hash_of(code)}).first()
    if row is None or row.expires_at <= datetime.now(UTC):
        return None
    return LoginLink(row.session, row.channel, Sender(row.sender_id, row.sender_name))
