"""Pairing: unknown people get a code, and may write to the bot once an admin has approved it."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

from sqlalchemy import Connection, bindparam, delete, func, select, update

from channels.address import Address, Sender
from gateway.store import audit
from gateway.store.encoding import address_from_json, address_to_json
from gateway.store.records import AuditEvent, Pairing, PairingRequest, RefusedMessage, Revoked, StopRequest
from gateway.store.schema import AnyRow, clean, inbox, is_running, is_waiting, pairs, turns
from gateway.store.upsert import insert

CODE_LIFETIME = timedelta(hours=1)
MAX_PENDING = 1000
"""Codes that may wait for approval in one channel. Beyond that the oldest becomes invalid: its owner gets a new one
with the next message."""

REVOKED = "access was revoked"

_LETTERS = "ABCDEFGHJKLMNPQRSTUVWXYZ23456789"
_LENGTH = 8

_of_sender = (pairs.c.channel == bindparam("of_channel")) & (pairs.c.sender_id == bindparam("of_sender"))
_approved = select(pairs.c.sender_id).where(_of_sender, pairs.c.approved)
_own = select(pairs).where(_of_sender)
_is_pending = (pairs.c.channel == bindparam("of_channel")) & ~pairs.c.approved
_delete_expired = delete(pairs).where(_is_pending, pairs.c.expires_at <= bindparam("now"))
_pending = select(func.count()).select_from(pairs).where(_is_pending)
_oldest = select(pairs.c.sender_id).where(_is_pending).order_by(pairs.c.expires_at).limit(1)
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
_delete = delete(pairs).where(_of_sender)

_refuse_waiting = (
    update(inbox)
    .where(inbox.c.channel == bindparam("of_channel"), inbox.c.sender_id == bindparam("of_sender"), is_waiting)
    .values(state="refused", reason=bindparam("why"))
    .returning(inbox.c.id, inbox.c.message_id, inbox.c.address)
)
_last_read = select(func.max(inbox.c.id)).where(inbox.c.turn == turns.c.id).scalar_subquery()
_running = select(
    turns.c.number,
    turns.c.id,
    turns.c.kind,
    turns.c.session,
    turns.c.address,
    turns.c.principal,
    turns.c.stop,
    _last_read.label("last"),
).where(is_running)
_stop = update(turns).where(turns.c.number == bindparam("turn")).values(stop=bindparam("why"), deadline=None)
_stops = _running.where(turns.c.stop.is_not(None))


def is_approved(connection: Connection, channel: str, sender: str) -> bool:
    values = {"of_channel": channel, "of_sender": sender}
    return connection.execute(_approved, values).first() is not None


def may_request(connection: Connection, channel: str, sender: str) -> bool:
    """Whether the sender has neither a valid code nor an approval."""
    known = connection.execute(_own, {"of_channel": channel, "of_sender": sender}).first()
    return known is None or not (known.approved or known.expires_at > datetime.now(UTC))


def request(
    connection: Connection, channel: str, sender: Sender, session: str, address: Address
) -> PairingRequest | None:
    """A new code for an unknown sender; None while an earlier code is valid."""
    if not may_request(connection, channel, sender.id):
        return None
    now = datetime.now(UTC)
    pending = _make_room(connection, channel, now)
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
    pairing = Pairing(channel, sender, code, now + CODE_LIFETIME, False, session, address)
    return PairingRequest(pairing, pending + 1)


def _make_room(connection: Connection, channel: str, now: datetime) -> int:
    """Deletes expired requests, and the oldest if there are too many; how many are left."""
    connection.execute(_delete_expired, {"of_channel": channel, "now": now})
    pending = int(connection.execute(_pending, {"of_channel": channel}).scalar_one())
    if pending < MAX_PENDING:
        return pending
    oldest = connection.execute(_oldest, {"of_channel": channel}).scalar_one()
    connection.execute(_delete, {"of_channel": channel, "of_sender": oldest})
    return pending - 1


def approve(
    connection: Connection, code: str, by: str = "", by_name: str = "", channel: str | None = None
) -> Pairing | None:
    """Approves the sender who was given the code; None if nobody was, the code has expired, or it is one of another
    channel than `channel`. `by`: the actor."""
    row = connection.execute(_by_code, {"the_code": code}).first()
    if row is None or (not row.approved and row.expires_at <= datetime.now(UTC)):
        return None
    if channel is not None and row.channel != channel:
        return None
    connection.execute(_approve, {"the_code": code})
    if not row.approved:
        person = {"person": f"{row.channel}:{row.sender_id}", "name": row.sender_name}
        audit.record(connection, AuditEvent("admitted", by, by_name, detail=person))
    return _pairing_from(row)


def revoke(connection: Connection, channel: str, sender: str, by: str = "", by_name: str = "") -> Revoked | None:
    """Takes back what pairing gave: the sender's queued messages are refused, and turns that the sender began have to
    stop. None if the sender was not paired there."""
    values = {"of_channel": channel, "of_sender": sender}
    row = connection.execute(_own, values).first()
    if row is None:
        return None
    connection.execute(_delete, values)
    return take_back(connection, channel, Sender(sender, row.sender_name), by, by_name)


def take_back(
    connection: Connection, channel: str, sender: Sender, by: str = "", by_name: str = "", reason: str = REVOKED
) -> Revoked:
    """The sender's queued messages are refused, and turns that the sender began have to stop."""
    values = {"of_channel": channel, "of_sender": sender.id, "why": reason}
    refused = tuple(
        RefusedMessage(address_from_json(message.address), message.id, message.message_id)
        for message in connection.execute(_refuse_waiting, values)
    )
    stops = tuple(_stop_turns(connection, channel, sender.id, reason))
    person = {"person": f"{channel}:{sender.id}", "name": sender.name}
    audit.record(connection, AuditEvent("revoked", by, by_name, detail=person))
    return Revoked(sender, stops, refused, reason=reason)


def _stop_turns(connection: Connection, channel: str, sender: str, reason: str) -> Iterator[StopRequest]:
    for turn in connection.execute(_running).all():
        if turn.address["channel"] == channel and turn.principal["id"] == clean(sender):
            connection.execute(_stop, {"turn": turn.number, "why": reason})
            yield _stop_request(turn, reason)


def requested_stops(connection: Connection) -> tuple[StopRequest, ...]:
    """Unfinished turns that are to stop, also at the request of another process."""
    return tuple(_stop_request(row, row.stop) for row in connection.execute(_stops))


def _stop_request(turn: AnyRow, reason: str) -> StopRequest:
    is_aside = turn.kind == "aside"
    return StopRequest(turn.id if is_aside else turn.session, (turn.last or 0) + 1, reason, is_aside)


def every(connection: Connection) -> tuple[Pairing, ...]:
    """All pairings, approved or not."""
    return tuple(map(_pairing_from, connection.execute(_all)))


def _pairing_from(row: AnyRow) -> Pairing:
    sender = Sender(row.sender_id, row.sender_name)
    address = address_from_json(row.address)
    return Pairing(row.channel, sender, row.code, row.expires_at, row.approved, row.session, address)
