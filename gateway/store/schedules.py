"""Scheduled tasks, each of one conversation and one person."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import uuid4

from sqlalchemy import Connection, bindparam, delete, func, select, update

from agent.schedules import ScheduledTask, Timing
from channels.address import Address, Sender
from gateway.store.encoding import address_from_json, address_to_json, sender_from_json, sender_to_json
from gateway.store.schema import AnyRow, schedules
from gateway.store.upsert import insert

MAX_TASKS = 20
"""Scheduled tasks of one conversation."""

_EVENT = re.compile(r"(?:fork/[0-9a-f]{32}:)?schedule:([0-9a-f]{8})(?::[0-9]+)?")
"""The ids of events of scheduled messages, and of their copies."""

_insert = (
    insert(schedules)
    .values({column.name: bindparam(column.name) for column in schedules.c})
    .on_conflict_do_nothing(index_elements=["made_by"])
)
_made_by = select(schedules).where(schedules.c.made_by == bindparam("by"))
_count = select(func.count()).where(schedules.c.session == bindparam("of_session"))
_every = select(schedules).order_by(schedules.c.due, schedules.c.id)
_of_session = _every.where(schedules.c.session == bindparam("of_session"))
_one = select(schedules).where(schedules.c.id == bindparam("of_id"))
_due = _every.where(
    schedules.c.due <= bindparam("now"), schedules.c.channel.in_(bindparam("channels", expanding=True))
).limit(bindparam("most"))
_next = select(func.min(schedules.c.due)).where(schedules.c.due > bindparam("now"))
_cancel = (
    delete(schedules)
    .where(schedules.c.id == bindparam("of_id"), schedules.c.session == bindparam("of_session"))
    .returning(*schedules.c)
)
_at_this_time = (schedules.c.id == bindparam("of_id"), schedules.c.due == bindparam("was_due"))
_advance = update(schedules).where(*_at_this_time).values(due=bindparam("next_due"))
_end = delete(schedules).where(*_at_this_time)


@dataclass(frozen=True, slots=True)
class Schedule:
    """A scheduled task with its place, and whose it is: `owner` has the level of when it was scheduled. `made_by` is
    unique for what has scheduled it."""

    task: ScheduledTask
    session: str
    address: Address
    owner: Sender
    made_by: str
    created_at: datetime

    @property
    def id(self) -> str:
        return self.task.handle

    @property
    def event_id(self) -> str:
        """That of its message at its next time: a second one is not taken."""
        return f"schedule:{self.id}:{int(self.task.due.timestamp())}"


def schedule_of(event_id: str) -> str | None:
    """The id of the scheduled task whose message this is; None for what somebody has sent."""
    found = _EVENT.fullmatch(event_id)
    return None if found is None else found[1]


def add(
    connection: Connection,
    session: str,
    address: Address,
    owner: Sender,
    made_by: str,
    task: str,
    due: datetime,
    timing: Timing,
) -> Schedule | None:
    """Schedules the task; what was made by the same before is found again. None: the conversation has too many."""
    known = connection.execute(_made_by, {"by": made_by}).first()
    if known is not None:
        return _schedule(known)
    if connection.execute(_count, {"of_session": session}).scalar_one() >= MAX_TASKS:
        return None
    values = {
        "id": uuid4().hex[:8],
        "session": session,
        "channel": address.channel,
        "address": address_to_json(address),
        "sender_id": owner.id,
        "sender": sender_to_json(owner),
        "task": task,
        "cron": timing.cron,
        "zone": timing.zone,
        "due": due,
        "created_at": datetime.now(UTC),
        "made_by": made_by,
    }
    connection.execute(_insert, values)
    return _schedule(connection.execute(_made_by, {"by": made_by}).one())


def of_session(connection: Connection, session: str) -> tuple[Schedule, ...]:
    """Those of the conversation, the next one first."""
    return _schedules(connection.execute(_of_session, {"of_session": session}))


def every(connection: Connection) -> tuple[Schedule, ...]:
    """All, the next one first."""
    return _schedules(connection.execute(_every))


def find(connection: Connection, id: str) -> Schedule | None:
    row = connection.execute(_one, {"of_id": id}).first()
    return None if row is None else _schedule(row)


def cancel(connection: Connection, session: str, id: str) -> Schedule | None:
    """Removes it from its conversation; None if it is not there any more."""
    row = connection.execute(_cancel, {"of_id": id, "of_session": session}).first()
    return None if row is None else _schedule(row)


def due_now(connection: Connection, now: datetime, channels: Collection[str], most: int) -> tuple[Schedule, ...]:
    """At most so many of those on these channels whose time has come, the earliest first."""
    return _schedules(connection.execute(_due, {"now": now, "channels": list(channels), "most": most}))


def next_due(connection: Connection, now: datetime) -> datetime | None:
    """When the next one is due after this moment; None if there is none."""
    found: datetime | None = connection.execute(_next, {"now": now}).scalar()
    return found


def advance(connection: Connection, schedule: Schedule, due: datetime | None) -> bool:
    """From now on it is due then, or is removed (None); False if another worker has done that."""
    at = {"of_id": schedule.id, "was_due": schedule.task.due}
    if due is None:
        return connection.execute(_end, at).rowcount == 1
    return connection.execute(_advance, {**at, "next_due": due}).rowcount == 1


def _schedules(rows: Iterable[AnyRow]) -> tuple[Schedule, ...]:
    return tuple(map(_schedule, rows))


def _schedule(row: AnyRow) -> Schedule:
    return Schedule(
        ScheduledTask(row.id, row.task, row.due, Timing(row.cron, row.zone)),
        row.session,
        address_from_json(row.address),
        sender_from_json(row.sender),
        row.made_by,
        row.created_at,
    )
