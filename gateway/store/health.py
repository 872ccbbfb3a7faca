"""What operators' tools ask of the store: whether it can write, and how much waits in it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy import Connection, func, select, update

from gateway.store.schema import alembic_version, inbox, is_running, is_turn, is_waiting, turns

_write = update(alembic_version).values(version_num=alembic_version.c.version_num)
"""Changes nothing, and is written and committed all the same."""

_waiting = (
    select(inbox.c.channel, func.count().label("number"), func.min(inbox.c.received_at).label("oldest"))
    .where(is_waiting)
    .group_by(inbox.c.channel)
)
_parked = select(func.count()).select_from(turns).where(is_turn, is_running, turns.c.parked)


@dataclass(frozen=True, slots=True)
class Waiting:
    """So many messages wait to be read, the oldest since `seconds`."""

    count: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Backlog:
    """What waits: messages by channel, and turns for people."""

    inbox: Mapping[str, Waiting]
    parked: int


def check_writing(connection: Connection) -> None:
    """A small write, like any other."""
    connection.execute(_write)


def backlog(connection: Connection) -> Backlog:
    now = datetime.now(UTC)
    waiting = {
        row.channel: Waiting(row.number, max(0.0, (now - row.oldest).total_seconds()))
        for row in connection.execute(_waiting)
    }
    return Backlog(waiting, connection.execute(_parked).scalar_one())
