"""Workers: the processes that use the database, each alive as long as its row is here.

A worker prolongs its lease by a beat, on the clock of the database. Another one buries it when the lease has run out:
its row goes, and with it all that it held (see `adoption`). A worker that finds its row gone holds nothing any more.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

from sqlalchemy import (
    ColumnElement,
    Connection,
    bindparam,
    delete,
    exists,
    func,
    literal,
    literal_column,
    select,
    update,
)

from gateway.store import audit
from gateway.store.clock import Now
from gateway.store.records import AuditEvent
from gateway.store.schema import (
    AnyRow,
    SafeText,
    cursors,
    inbox,
    is_running,
    is_turn,
    is_waiting,
    leases,
    turns,
    workers,
)
from gateway.store.upsert import insert

LEASE = 15.0
"""Seconds for which a worker is alive after a beat."""


TURN = "turn:"
"""Begins the names of leases with which nobody listens: workers take turns at something."""

ENDED = "/workers"
"""Where the id of the worker that has ended last is stored, among the read positions: no channel can have this name."""

DrainOutcome = Literal["told", "gone", "last"]
"""`gone`: there is no such worker. `last`: no other one would go on, so it was not told to end."""


@dataclass(frozen=True, slots=True)
class Worker:
    """`place`: where its process id means something, "" if that is not known. `left`: seconds of its lease, None where
    the database has one worker only, which needs none and says nothing of itself. `running` turns of at most `room`.
    `draining`: it takes nothing new and is about to end. `connectors`: the names of the leases that it holds."""

    id: str
    host: str
    pid: int
    place: str
    version: str
    started_at: datetime
    left: float | None
    running: int
    room: int
    draining: bool
    connectors: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Beat:
    """What a worker learns from its beat: whether it is to drain, and in how many seconds the next lease of another
    worker runs out, if that does not beat (None: there is no other)."""

    draining: bool
    next_end: float | None


@dataclass(frozen=True, slots=True)
class Lease:
    """A connector that this worker holds. `state` is what its last holder has left for the next."""

    name: str
    epoch: int
    state: dict[str, Any]


_left = workers.c.until - Now()
_own = workers.c.id == bindparam("own")
_beat = (
    update(workers)
    .where(_own)
    .values(until=Now() + bindparam("seconds"), running=bindparam("runs"), room=bindparam("may_run"))
    .returning(workers.c.draining)
)
_next_end = select(func.min(_left)).where(~_own)
_enlist = insert(workers).values(
    id=bindparam("own"),
    host=bindparam("host"),
    pid=bindparam("pid"),
    place=bindparam("place"),
    version=bindparam("version"),
    started_at=bindparam("now"),
    until=Now() + bindparam("seconds"),
    running=0,
    room=0,
    draining=False,
)
_leave = delete(workers).where(_own)
_bury = delete(workers).where(~_own, workers.c.id.in_(bindparam("dead", expanding=True))).returning(workers.c.id)
_bury_expired = delete(workers).where(~_own, _left <= 0.0).returning(workers.c.id)
# Where there is nobody to know, nothing is stored.
_note_end = insert(cursors).from_select(
    ("channel", "chat", "read"),
    select(literal(ENDED, SafeText), literal("", SafeText), bindparam("ended", type_=SafeText)).where(
        exists(select(workers.c.id))
    ),
)
_note_end = _note_end.on_conflict_do_update(index_elements=["channel", "chat"], set_={"read": _note_end.excluded.read})
_last_ended = select(cursors.c.read).where(cursors.c.channel == ENDED)
_listed = select(workers, _left.label("left")).order_by(workers.c.started_at, workers.c.id)
_drain = update(workers).where(workers.c.id == bindparam("of_worker")).values(draining=True)
_another_works = select(workers.c.id).where(workers.c.id != bindparam("of_worker"), ~workers.c.draining, _left > 0.0)

# The row of the conflict, as text: as a column, the query would be about the holders of all leases.
_holder_is_alive = exists(select(workers.c.id).where(workers.c.id == literal_column("leases.worker")))
_new = insert(leases).values(name=bindparam("name"), worker=bindparam("own"), epoch=1, state=bindparam("state"))
_take = _new.on_conflict_do_update(
    index_elements=["name"],
    set_={"worker": _new.excluded.worker, "epoch": leases.c.epoch + 1},
    where=~_holder_is_alive,
).returning(leases.c.name, leases.c.epoch, leases.c.state)
_held = (leases.c.name == bindparam("of_name")) & (leases.c.worker == bindparam("own"))
_release = update(leases).where(_held).values(worker="")
_save = update(leases).where(_held).values(state=bindparam("new_state"))
_leases = select(leases.c.name, leases.c.worker).where(~leases.c.name.startswith(TURN)).order_by(leases.c.name)
_held_by_living = (
    select(leases.c.name, leases.c.worker)
    .where(
        (leases.c.name == bindparam("account")) | leases.c.name.startswith(bindparam("parts")),
        _holder_is_alive,
    )
    .order_by(leases.c.name)
)


def is_alive(worker: ColumnElement[str] | Any) -> ColumnElement[bool]:
    """The condition that this column's worker is alive."""
    return exists(select(workers.c.id).where(workers.c.id == worker))


def is_held(name: ColumnElement[str] | Any, worker: ColumnElement[str] | Any) -> ColumnElement[bool]:
    """The condition that this worker holds the connector with this name."""
    return exists(select(leases.c.epoch).where(leases.c.name == name, leases.c.worker == worker))


_alive = select(workers.c.id).where(workers.c.id == bindparam("of_worker"))


def alive(connection: Connection, worker: str) -> bool:
    """Whether this worker is alive: nobody else may go on with what it holds."""
    return connection.execute(_alive, {"of_worker": worker}).first() is not None


def enlist(
    connection: Connection, worker: str, place: str, version: str, seconds: float = LEASE, *, alone: bool = False
) -> None:
    """A worker begins, with this process. `alone`: the database is its own, so that all others are gone."""
    if alone:
        connection.execute(delete(workers))
    values = {"own": worker, "host": socket.gethostname(), "pid": os.getpid(), "place": place, "version": version}
    connection.execute(_enlist, values | {"seconds": seconds, "now": datetime.now(UTC)})


def beat(connection: Connection, worker: str, seconds: float, running: int, room: int) -> Beat | None:
    """Prolongs the worker's lease; None if it is buried."""
    values = {"own": worker, "seconds": seconds, "runs": running, "may_run": room}
    row = connection.execute(_beat, values).first()
    if row is None:
        return None
    return Beat(bool(row.draining), connection.execute(_next_end, {"own": worker}).scalar())


def leave(connection: Connection, worker: str) -> None:
    """A worker ends: others go on with what it holds at once."""
    if connection.execute(_leave, {"own": worker}).rowcount > 0:
        connection.execute(_note_end, {"ended": worker})


def last_ended(connection: Connection) -> str:
    """The id of the worker that has ended or was buried last beside others, "" if none has: it changes with each, also
    with one that nobody has seen."""
    found: str | None = connection.execute(_last_ended).scalar()
    return found or ""


def bury(connection: Connection, worker: str, dead: Collection[str], *, expired: bool) -> tuple[str, ...]:
    """Removes these workers, and if `expired` all whose lease has run out; the ids of those that were there."""
    buried = tuple(connection.execute(_bury, {"own": worker, "dead": list(dead)}).scalars())
    if expired:
        buried += tuple(connection.execute(_bury_expired, {"own": worker}).scalars())
    if buried:
        connection.execute(_note_end, {"ended": buried[-1]})
    return buried


def listed(connection: Connection) -> tuple[Worker, ...]:
    """All workers, the oldest first; one whose lease has run out is among them until it is buried."""
    held: dict[str, list[str]] = {}
    for name, holder in connection.execute(_leases):
        held.setdefault(holder, []).append(name)
    beats = connection.dialect.name != "sqlite"
    return tuple(_worker_from(row, held.get(row.id, []), beats=beats) for row in connection.execute(_listed))


def drain(connection: Connection, worker: str, *events: AuditEvent) -> bool:
    """The worker is to end after its running turns, which the `events` record; False if there is none with this id."""
    if connection.execute(_drain, {"of_worker": worker}).rowcount == 0:
        return False
    audit.record(connection, *events)
    return True


def drain_beside_others(connection: Connection, worker: str, *events: AuditEvent) -> DrainOutcome:
    """As `drain`, if another worker goes on."""
    if connection.execute(_another_works.limit(1), {"of_worker": worker}).first() is None:
        return "last"
    return "told" if drain(connection, worker, *events) else "gone"


def _worker_from(row: AnyRow, connectors: list[str], *, beats: bool) -> Worker:
    return Worker(
        row.id,
        row.host,
        row.pid,
        row.place,
        row.version,
        row.started_at,
        row.left if beats else None,
        row.running,
        row.room,
        bool(row.draining),
        tuple(connectors),
    )


# Connectors


def take_lease(connection: Connection, worker: str, name: str) -> Lease | None:
    """The connector, if no other worker that is alive holds it. One that this worker holds already is not given again,
    and a worker that is buried gets none: also None."""
    if not alive(connection, worker):
        return None
    row = connection.execute(_take, {"name": name, "own": worker, "state": {}}).first()
    return None if row is None else Lease(row.name, row.epoch, row.state)


def lease_holders(connection: Connection, account: str) -> dict[str, str]:
    """The workers, all alive, that hold this connector or one whose name goes on with ":", by its name."""
    rows = connection.execute(_held_by_living, {"account": account, "parts": f"{account}:"})
    return {row.name: row.worker for row in rows}


def release_lease(connection: Connection, worker: str, name: str) -> None:
    """Others may take the connector; nothing happens if it is another's already."""
    connection.execute(_release, {"of_name": name, "own": worker})


def save_lease_state(connection: Connection, worker: str, name: str, state: dict[str, Any]) -> bool:
    """Leaves the state for the next holder; False if the connector is another's already."""
    return connection.execute(_save, {"of_name": name, "own": worker, "new_state": state}).rowcount > 0


# What workers run

_stops = select(turns.c.session, turns.c.stop).where(
    turns.c.worker == bindparam("own"), is_running, turns.c.stop.is_not(None), ~turns.c.parked
)
_unread = select(turns.c.session).where(
    turns.c.worker == bindparam("own"),
    is_turn,
    is_running,
    ~turns.c.parked,
    exists(select(inbox.c.id).where(inbox.c.session == turns.c.session, is_waiting)),
)


def stops(connection: Connection, worker: str) -> tuple[tuple[str, str], ...]:
    """The sessions whose turns this worker runs and which are to stop, each with the reason."""
    return tuple((session, reason) for session, reason in connection.execute(_stops, {"own": worker}))


def unread(connection: Connection, worker: str) -> tuple[str, ...]:
    """The sessions whose turns this worker runs and for which something waits."""
    return tuple(connection.execute(_unread, {"own": worker}).scalars())
