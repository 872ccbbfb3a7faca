"""How many messages a person has sent in the last minute, to all workers together.

They are counted by the second in which they were sent: what was written over hours while the gateway was down is taken.
What decides by them has the person in its scope.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import Connection, bindparam, delete, false, func, select, true, update

from channels.message import InboundMessage
from gateway.store.schema import SafeText, Timestamp, message_counts
from gateway.store.upsert import insert

WINDOW = 60
"""Seconds in which messages count together."""

KEPT = timedelta(hours=1)
"""How long a count is kept: meanwhile messages may arrive that were sent beside those."""

PRUNE_EVERY = 16
"""In one of so many seconds, what is too old is deleted too."""

_columns = ("channel", "sender_id", "second", "messages", "told", "counted_at")
_channel = bindparam("channel", type_=SafeText)
_sender = bindparam("sender_id", type_=SafeText)
_second = bindparam("second", type_=message_counts.c.second.type)
_now = bindparam("now", type_=Timestamp)
_near = (
    (message_counts.c.channel == _channel)
    & (message_counts.c.sender_id == _sender)
    & (message_counts.c.second > _second - WINDOW)
    & (message_counts.c.second < _second + WINDOW)
)
_sent = select(func.coalesce(func.sum(message_counts.c.messages), 0)).where(_near).scalar_subquery()
_count = insert(message_counts).from_select(
    _columns,
    select(_channel, _sender, _second, bindparam("one", 1), false(), _now).where(_sent < bindparam("limit")),
)
_take = _count.on_conflict_do_update(
    index_elements=["channel", "sender_id", "second"],
    set_={"messages": message_counts.c.messages + 1, "counted_at": _count.excluded.counted_at},
).returning(message_counts.c.messages)
_give_back = (
    update(message_counts)
    .where(
        message_counts.c.channel == bindparam("of_channel"),
        message_counts.c.sender_id == bindparam("of_sender"),
        message_counts.c.second == bindparam("of_second"),
    )
    .values(messages=message_counts.c.messages - 1)
)
_was_told = select(message_counts.c.second).where(_near, message_counts.c.told).exists()
_told = insert(message_counts).from_select(
    _columns, select(_channel, _sender, _second, bindparam("none", 0), true(), _now).where(~_was_told)
)
_tell = _told.on_conflict_do_update(
    index_elements=["channel", "sender_id", "second"],
    set_={"told": True, "counted_at": _told.excluded.counted_at},
).returning(message_counts.c.second)
_delete_old = delete(message_counts).where(message_counts.c.counted_at < bindparam("oldest"))


def take(connection: Connection, message: InboundMessage, limit: int) -> bool:
    """Counts the message, if its sender has sent fewer than `limit` in the minute; returns whether it is so."""
    values = _values(message)
    number = connection.execute(_take, values | {"limit": limit}).scalar()
    if number == 1 and values["second"] % PRUNE_EVERY == 0:
        connection.execute(_delete_old, {"oldest": values["now"] - KEPT})
    return number is not None


def give_back(connection: Connection, message: InboundMessage) -> None:
    """The counted message was not new."""
    values = _values(message)
    of_message = {"of_channel": values["channel"], "of_sender": values["sender_id"], "of_second": values["second"]}
    connection.execute(_give_back, of_message)


def tell(connection: Connection, message: InboundMessage) -> bool:
    """Whether the sender is to be told now that there were too many: once a minute."""
    return connection.execute(_tell, _values(message)).first() is not None


def _values(message: InboundMessage) -> dict[str, Any]:
    return {
        "channel": message.address.channel,
        "sender_id": message.sender.id,
        "second": int(message.sent_at.timestamp()),
        "now": datetime.now(UTC),
    }
