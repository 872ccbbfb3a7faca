"""Events of deleted messages: as hashes, so that a platform's second delivery is not read as a new message."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from hashlib import sha256

from sqlalchemy import Connection, Select, bindparam, delete, select

from gateway.store.schema import clean, forgotten_events, inbox
from gateway.store.upsert import insert

LIFETIME = timedelta(days=7)
"""Platforms deliver an event again within a day."""

_insert = (
    insert(forgotten_events)
    .values(event=bindparam("event"), at=bindparam("now"))
    .on_conflict_do_nothing(index_elements=["event"])
)
_known = select(forgotten_events.c.event).where(forgotten_events.c.event == bindparam("event"))
_prune = delete(forgotten_events).where(forgotten_events.c.at < bindparam("before"))


def remember(connection: Connection, rows: Select[tuple[int]]) -> None:
    """The events of these inbox rows, which are about to be deleted."""
    now = datetime.now(UTC)
    recent = select(inbox.c.channel, inbox.c.event_id).where(
        inbox.c.id.in_(rows), inbox.c.source == "person", inbox.c.received_at > now - LIFETIME
    )
    found = ((row.channel, row.event_id) for row in connection.execute(recent))
    values = [{"event": event, "now": now} for event in _hashes(found)]
    if values:
        connection.execute(_insert, values)


def is_forgotten(connection: Connection, channel: str, event_id: str) -> bool:
    """Whether the event's message was deleted."""
    [event] = _hashes([(channel, event_id)])
    return connection.execute(_known, {"event": event}).first() is not None


def prune(connection: Connection) -> None:
    connection.execute(_prune, {"before": datetime.now(UTC) - LIFETIME})


def _hashes(events: Iterable[tuple[str, str]]) -> list[str]:
    return [sha256(f"{clean(channel)}\0{clean(event_id)}".encode()).hexdigest() for channel, event_id in events]
