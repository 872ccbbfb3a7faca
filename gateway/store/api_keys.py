"""Keys of the control API. A secret is told once, when its key is made; only its hash is stored."""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime

from sqlalchemy import Connection, bindparam, insert, select, update

from gateway.store import audit, revocation
from gateway.store.records import ApiKey, ApiKeyScope, AuditEvent, NewApiKey, Revoked
from gateway.store.schema import AnyRow, api_keys

SENDER = "api:"
"""Begins the sender id of a program; the id of its key follows."""

REVOKED = "the API key was revoked"

MAX_NAME_LENGTH = 64

_SECRET = re.compile(r"ij_([0-9a-f]{10})_[A-Za-z0-9_-]{43}")
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")

_insert = insert(api_keys).values({column.name: bindparam(column.name) for column in api_keys.c})
_all = select(api_keys).order_by(api_keys.c.created_at, api_keys.c.id)
_one = select(api_keys).where(api_keys.c.id == bindparam("key"))
_used = update(api_keys).where(api_keys.c.id == bindparam("key")).values(used_at=bindparam("now"))
_revoke = (
    update(api_keys)
    .where(api_keys.c.id == bindparam("key"), api_keys.c.revoked_at.is_(None))
    .values(revoked_at=bindparam("now"))
)


def create(
    connection: Connection,
    name: str,
    scope: ApiKeyScope,
    *,
    agents: Sequence[str] | None = None,
    conversations: Sequence[str] | None = None,
    expires_at: datetime | None = None,
    by: str,
    by_name: str = "",
) -> NewApiKey:
    """A new key with its secret. `agents` and `conversations` are patterns of all that it may use, None for any; `by`
    is the actor of the audit log. Raises `ValueError` for a name that cannot be shown, and for an empty pattern."""
    if not 1 <= len(name.strip()) <= MAX_NAME_LENGTH or _UNPRINTABLE.search(name):
        raise ValueError(f"the name of a key must be 1 to {MAX_NAME_LENGTH} printable characters")
    if "" in (*(agents or ()), *(conversations or ())):
        raise ValueError("a pattern of agents or conversations is empty: such a key could do nothing")
    id = secrets.token_hex(5)
    secret = f"ij_{id}_{secrets.token_urlsafe(32)}"
    values = {
        "id": id,
        "name": name.strip(),
        "hash": _hash(secret),
        "scope": scope,
        "agents": None if agents is None else list(agents),
        "conversations": None if conversations is None else list(conversations),
        "created_at": datetime.now(UTC),
        "created_by": by,
        "expires_at": expires_at,
        "used_at": None,
        "revoked_at": None,
    }
    connection.execute(_insert, values)
    detail = {"key": id, "name": name.strip(), "scope": scope, "agents": agents, "conversations": conversations}
    audit.record(connection, AuditEvent("key_created", by, by_name, detail=detail))
    return NewApiKey(_from_row(connection.execute(_one, {"key": id}).one()), secret)


def every(connection: Connection) -> tuple[ApiKey, ...]:
    """All keys, also revoked and expired ones, the oldest first."""
    return tuple(map(_from_row, connection.execute(_all)))


def used(connection: Connection, key: str) -> None:
    """Notes that the key is used now."""
    connection.execute(_used, {"key": key, "now": datetime.now(UTC)})


def revoke(connection: Connection, key: str, by: str, by_name: str = "") -> tuple[Revoked, ...] | None:
    """From now on the key is worth nothing, and what it has running, waiting and in the background ends, on each
    channel. None if there is no such key, or it is revoked already."""
    row = connection.execute(_one, {"key": key}).first()
    if row is None or connection.execute(_revoke, {"key": key, "now": datetime.now(UTC)}).rowcount == 0:
        return None
    audit.record(connection, AuditEvent("key_revoked", by, by_name, detail={"key": key, "name": row.name}))
    return tuple(_stop(connection, f"{SENDER}{key}"))


def id_in(secret: str) -> str | None:
    """The id of the key that the secret would be of; None if it is no secret of a key."""
    found = _SECRET.fullmatch(secret)
    return None if found is None else found[1]


def is_secret_of(key: ApiKey, secret: str) -> bool:
    return hmac.compare_digest(key.hash, _hash(secret))


def _hash(secret: str) -> str:
    """256 random bits need no slow hash."""
    return hashlib.sha256(secret.encode()).hexdigest()


def _stop(connection: Connection, sender: str) -> Iterator[Revoked]:
    for person in revocation.active_people(connection):
        if person.sender.id == sender:
            yield revocation.take_back(connection, person.channel, person.sender, REVOKED)


def _from_row(row: AnyRow) -> ApiKey:
    return ApiKey(
        id=row.id,
        name=row.name,
        hash=row.hash,
        scope=row.scope,
        agents=None if row.agents is None else tuple(row.agents),
        conversations=None if row.conversations is None else tuple(row.conversations),
        created_at=row.created_at,
        created_by=row.created_by,
        expires_at=row.expires_at,
        used_at=row.used_at,
        revoked_at=row.revoked_at,
    )
