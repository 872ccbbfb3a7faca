"""People who are not allowed: their messages are counted instead of stored, and answered once a day."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from sqlalchemy import Connection, bindparam, select, update

from channels.address import Sender
from gateway.store.records import Stranger
from gateway.store.schema import AnyRow, strangers
from gateway.store.upsert import insert

TELL_AGAIN_AFTER = timedelta(days=1)

MAX_LISTED = 20

_of_sender = (strangers.c.channel == bindparam("of_channel")) & (strangers.c.sender_id == bindparam("of_sender"))
_insert = insert(strangers).values(
    channel=bindparam("channel"),
    sender_id=bindparam("sender_id"),
    sender_name=bindparam("sender_name"),
    messages=1,
    first_at=bindparam("now"),
    last_at=bindparam("now"),
)
_count = _insert.on_conflict_do_update(
    index_elements=["channel", "sender_id"],
    set_={
        "messages": strangers.c.messages + 1,
        "sender_name": _insert.excluded.sender_name,
        "last_at": _insert.excluded.last_at,
    },
).returning(strangers.c.messages, strangers.c.told_at)
_tell = update(strangers).where(_of_sender).values(told_at=bindparam("now"))
_newest = select(strangers).order_by(strangers.c.last_at.desc()).limit(MAX_LISTED)


@dataclass(frozen=True, slots=True)
class Counted:
    """`first`: it is the first message of this person. `told`: the person was told lately that they are not allowed."""

    first: bool
    told: bool


def count(connection: Connection, channel: str, sender: Sender) -> Counted:
    """Counts a refused message."""
    now = datetime.now(UTC)
    values = {"channel": channel, "sender_id": sender.id, "sender_name": sender.name, "now": now}
    messages, told_at = connection.execute(_count, values).one()
    return Counted(messages == 1, told_at is not None and told_at > now - TELL_AGAIN_AFTER)


def tell(connection: Connection, channel: str, sender: Sender) -> None:
    """The person is being told that they are not allowed."""
    connection.execute(_tell, {"of_channel": channel, "of_sender": sender.id, "now": datetime.now(UTC)})


def newest(connection: Connection, channel: str | None = None) -> tuple[Stranger, ...]:
    """Those who wrote last, of this channel or of all."""
    query = _newest if channel is None else _newest.where(strangers.c.channel == channel)
    return tuple(map(_stranger_from, connection.execute(query)))


def _stranger_from(row: AnyRow) -> Stranger:
    return Stranger(row.channel, Sender(row.sender_id, row.sender_name), row.messages, row.last_at)
