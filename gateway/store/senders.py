"""What the store knows of a person and a place of a channel, for a message that nobody has sent."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, bindparam, select

from agent.log_state import deadline
from channels.address import Address, Sender
from gateway.store import inbox as unread
from gateway.store import logs
from gateway.store.encoding import address_from_json, sender_from_json
from gateway.store.records import Busy
from gateway.store.schema import inbox, is_running, is_turn, sessions, turns

_known_sender = (
    select(inbox.c.sender_id, inbox.c.sender_name, inbox.c.sender_handle)
    .where(inbox.c.channel == bindparam("channel"), inbox.c.sender_id == bindparam("sender"))
    .order_by(inbox.c.id.desc())
    .limit(1)
)
_places = (
    select(sessions.c.address)
    .where(sessions.c.channel == bindparam("channel"), sessions.c.parent.is_(None))
    .order_by(sessions.c.last_at.desc())
)
_sent = (
    select(inbox.c.sent_at)
    .where(
        inbox.c.channel == bindparam("channel"),
        inbox.c.sender_id == bindparam("sender"),
        inbox.c.sent_at >= bindparam("since"),
        inbox.c.kind == "new",
        inbox.c.state != "refused",
    )
    .order_by(inbox.c.id)
)
_unfinished = select(turns.c.number, turns.c.id, turns.c.parked, turns.c.principal).where(
    turns.c.session == bindparam("session"), is_turn, is_running
)
_busy = select(sessions.c.busy).where(sessions.c.key == bindparam("session"))


@dataclass(frozen=True, slots=True)
class OpenWork:
    """The running or parked turn of a session. `awaits_decision`: of its parked request for approval."""

    turn: str
    by: Sender
    parked: bool
    awaits_decision: bool


@dataclass(frozen=True, slots=True)
class PlaceState:
    """`busy` is the session's own setting; `waiting` counts unread messages."""

    work: OpenWork | None
    busy: Busy | None
    waiting: int


def known_sender(connection: Connection, channel: str, sender: str) -> Sender | None:
    """As in the person's last message there; None if there is none."""
    row = connection.execute(_known_sender, {"channel": channel, "sender": sender}).first()
    return None if row is None else Sender(row.sender_id, row.sender_name, row.sender_handle)


def known_addresses(connection: Connection, channel: str) -> tuple[Address, ...]:
    """Where people have written on the channel, the latest first."""
    return tuple(address_from_json(row.address) for row in connection.execute(_places, {"channel": channel}))


def sent_since(connection: Connection, channel: str, sender: str, since: datetime) -> Sequence[datetime]:
    """When the person has sent messages that were taken, oldest first."""
    values = {"channel": channel, "sender": sender, "since": since}
    return connection.execute(_sent, values).scalars().all()


def place_state(connection: Connection, session: str) -> PlaceState:
    row = connection.execute(_unfinished, {"session": session}).first()
    work = None
    if row is not None:
        awaits = bool(row.parked) and deadline(logs.read(connection, row.number)) is not None
        work = OpenWork(row.id, sender_from_json(row.principal), row.parked, awaits)
    busy: Busy | None = connection.execute(_busy, {"session": session}).scalar()
    return PlaceState(work, busy, unread.count_waiting(connection, session))
