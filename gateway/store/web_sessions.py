"""Sessions of people who are signed in to the web server. The secret is in one browser only; its hash is stored."""

from __future__ import annotations

import hashlib
import secrets
from datetime import UTC, datetime, timedelta

from sqlalchemy import Connection, bindparam, delete, insert, select

from channels.address import Sender
from gateway.store import audit, pairing
from gateway.store.audit import actor_of
from gateway.store.records import AuditEvent, WebSession
from gateway.store.schema import web_sessions

PREFIX = "iw_"
"""Begins the secret of a session."""

LIFETIME = timedelta(days=7)

MAX_OF_PERSON = 20
"""Sessions of one person. A further one takes the place of the oldest."""

_insert = insert(web_sessions).values({column.name: bindparam(column.name) for column in web_sessions.c})
_one = select(web_sessions).where(web_sessions.c.hash == bindparam("of_hash"))
_end = delete(web_sessions).where(web_sessions.c.hash == bindparam("of_hash"))
_of_person = (web_sessions.c.channel == bindparam("of_channel")) & (web_sessions.c.sender_id == bindparam("of_sender"))
_oldest = select(web_sessions.c.hash).where(_of_person).order_by(web_sessions.c.created_at.desc()).offset(MAX_OF_PERSON)
_end_all = delete(web_sessions).where(_of_person)
_expired = delete(web_sessions).where(web_sessions.c.expires_at <= bindparam("now"))


def begin(connection: Connection, channel: str, sender: Sender) -> str:
    """A new session of this person; its secret."""
    now = datetime.now(UTC)
    secret = f"{PREFIX}{secrets.token_urlsafe(32)}"
    connection.execute(_expired, {"now": now})
    values = {
        "hash": hash_of(secret),
        "channel": channel,
        "sender_id": sender.id,
        "sender_name": sender.name,
        "created_at": now,
        "expires_at": now + LIFETIME,
    }
    connection.execute(_insert, values)
    person = {"of_channel": channel, "of_sender": sender.id}
    for old in connection.execute(_oldest, person).scalars().all():
        connection.execute(_end, {"of_hash": old})
    audit.record(connection, AuditEvent("signed_in", actor_of(channel, sender), sender.name))
    return secret


def find(connection: Connection, secret: str) -> WebSession | None:
    """The session with this secret, unless it has ended."""
    row = connection.execute(_one, {"of_hash": hash_of(secret)}).first()
    if row is None or row.expires_at <= datetime.now(UTC):
        return None
    is_paired = pairing.is_approved(connection, row.channel, row.sender_id)
    return WebSession(row.channel, Sender(row.sender_id, row.sender_name), is_paired)


def end(connection: Connection, secret: str) -> None:
    """The session with this secret ends, if there is one."""
    connection.execute(_end, {"of_hash": hash_of(secret)})


def end_all(connection: Connection, channel: str, sender: str) -> int:
    """All sessions of the person end; their number."""
    return connection.execute(_end_all, {"of_channel": channel, "of_sender": sender}).rowcount


def hash_of(secret: str) -> str:
    """What is stored of a secret that nobody can guess."""
    return hashlib.sha256(secret.encode(errors="replace")).hexdigest()
