"""Pairing: unknown people get a code, and may write to the bot once an admin has approved it."""

from __future__ import annotations

import secrets
from datetime import UTC, datetime, timedelta

from sqlalchemy import Connection, bindparam, func, select, update
from sqlalchemy.dialects.sqlite import insert

from channels.address import Address, Sender
from gateway.store import audit
from gateway.store.encoding import address_from_json, address_to_json
from gateway.store.records import AuditEvent, Pairing
from gateway.store.schema import AnyRow, pairs

CODE_LIFETIME = timedelta(hours=1)
MAX_PENDING = 50
"""Codes that may wait for approval in one channel. Beyond that nobody gets a code until some have expired."""

_LETTERS = "ABCDEFGHJKLMNPQRSTUVWXYZ23456789"
_LENGTH = 8

_of_sender = (pairs.c.channel == bindparam("of_channel")) & (pairs.c.sender_id == bindparam("of_sender"))
_approved = select(pairs.c.sender_id).where(_of_sender, pairs.c.approved)
_own = select(pairs).where(_of_sender)
_pending = (
    select(func.count())
    .select_from(pairs)
    .where(pairs.c.channel == bindparam("of_channel"), ~pairs.c.approved, pairs.c.expires_at > bindparam("now"))
)
_upsert = insert(pairs).values({column.name: bindparam(column.name) for column in pairs.c})
_upsert = _upsert.on_conflict_do_update(
    index_elements=["channel", "sender_id"],
    set_={
        name: _upsert.excluded[name] for name in ("sender_name", "code", "expires_at", "approved", "session", "address")
    },
)
_by_code = select(pairs).where(pairs.c.code == bindparam("the_code"))
_approve = update(pairs).where(pairs.c.code == bindparam("the_code")).values(approved=True)
_all = select(pairs).order_by(pairs.c.channel, pairs.c.expires_at)


def is_approved(connection: Connection, channel: str, sender: str) -> bool:
    values = {"of_channel": channel, "of_sender": sender}
    return connection.execute(_approved, values).first() is not None


def request(connection: Connection, channel: str, sender: Sender, session: str, address: Address) -> Pairing | None:
    """A new code for an unknown sender; None while an earlier code is valid, or when too many wait for approval."""
    now = datetime.now(UTC)
    values = {"of_channel": channel, "of_sender": sender.id, "now": now}
    known = connection.execute(_own, values).first()
    if known is not None and (known.approved or known.expires_at > now):
        return None
    if connection.execute(_pending, values).scalar_one() >= MAX_PENDING:
        return None
    code = "".join(secrets.choice(_LETTERS) for _ in range(_LENGTH))
    row = {
        "channel": channel,
        "sender_id": sender.id,
        "sender_name": sender.name,
        "code": code,
        "expires_at": now + CODE_LIFETIME,
        "approved": False,
        "session": session,
        "address": address_to_json(address),
    }
    connection.execute(_upsert, row)
    return Pairing(channel, sender, code, now + CODE_LIFETIME, False, session, address)


def approve(connection: Connection, code: str, by: str = "", by_name: str = "") -> Pairing | None:
    """Approves the sender who was given the code; None if nobody was, or the code has expired. `by`: the actor."""
    row = connection.execute(_by_code, {"the_code": code}).first()
    if row is None or (not row.approved and row.expires_at <= datetime.now(UTC)):
        return None
    connection.execute(_approve, {"the_code": code})
    if not row.approved:
        person = {"person": f"{row.channel}:{row.sender_id}", "name": row.sender_name}
        audit.record(connection, AuditEvent("admitted", by, by_name, detail=person))
    return _pairing_from(row)


def every(connection: Connection) -> tuple[Pairing, ...]:
    """All pairings, approved or not."""
    return tuple(map(_pairing_from, connection.execute(_all)))


def _pairing_from(row: AnyRow) -> Pairing:
    sender = Sender(row.sender_id, row.sender_name)
    address = address_from_json(row.address)
    return Pairing(row.channel, sender, row.code, row.expires_at, row.approved, row.session, address)
