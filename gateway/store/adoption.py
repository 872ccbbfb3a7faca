"""Adoption: a worker goes on with what others have left who are not alive any more.

At the start on SQLite these are all earlier processes. With several workers, each looks again when one of them is
buried or leaves.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

from sqlalchemy import Connection, and_, bindparam, exists, func, not_, or_, select, union_all, update

from channels.address import Sender
from gateway.sessions import person_key
from gateway.store.encoding import address_from_json, sender_from_json
from gateway.store.fetching import unfetched_from
from gateway.store.records import Command, Pending
from gateway.store.schema import (
    AnyRow,
    inbox,
    is_command,
    is_ended,
    is_message,
    is_running,
    is_running_work,
    is_side_question,
    is_turn,
    is_undelivered,
    is_waiting,
    sessions,
    turns,
    work,
)
from gateway.store.workers import is_alive

RESERVED = "released:"
"""Begins the worker of an interrupted turn that only the worker whose name follows may go on with: it has the tasks
that belong to the turn."""

_turn_left = not_(is_alive(func.replace(turns.c.worker, RESERVED, "")))
_row_left = not_(is_alive(inbox.c.worker))
_is_settled = or_(is_ended, turns.c.parked)

_people_of_turns = select(turns.c.session, turns.c.address, turns.c.principal).where(is_turn, is_running)

# Few rows of many: SQLite would walk the whole table to find these in order, so they are sorted here instead.
_waiting_people = select(inbox.c.id, inbox.c.session, inbox.c.channel, inbox.c.sender_id).where(is_waiting, is_message)
_commands = update(inbox).where(is_waiting, is_command, _row_left).values(worker=bindparam("own")).returning(inbox)
_unfetched = (
    update(inbox)
    .where(is_waiting, is_message, inbox.c.ready.is_(False), _row_left)
    .values(worker=bindparam("own"))
    .returning(inbox)
)

_take = {"worker": bindparam("own"), "epoch": turns.c.epoch + 1}
_undelivered = (
    update(turns).where(is_undelivered, _is_settled, _turn_left).values(_take).returning(turns.c.number, turns.c.id)
)
_side_questions = (
    update(turns).where(is_side_question, is_running, _turn_left).values(_take).returning(turns.c.number, turns.c.id)
)
_own_undelivered = (
    select(turns.c.id).where(is_undelivered, _is_settled, turns.c.worker == bindparam("own")).order_by(turns.c.number)
)

_held_elsewhere = exists(
    select(turns.c.number).where(turns.c.session == inbox.c.session, is_turn, is_running, ~turns.c.parked, ~_turn_left)
)
# By the clock of whoever has accepted it, which may be wrong: that of a dead worker says nothing, and is not asked.
_has_waited = or_(inbox.c.received_at <= bindparam("before"), and_(inbox.c.worker.is_not(None), _row_left))
_open_since = union_all(
    select(inbox.c.session.label("session"), inbox.c.received_at.label("since")).where(
        is_waiting, is_message, ~_held_elsewhere, _has_waited
    ),
    select(turns.c.session, turns.c.started_at).where(is_turn, is_running, _turn_left),
).subquery()
_unfinished = select(_open_since.c.session).group_by(_open_since.c.session).order_by(func.min(_open_since.c.since))

_with_turn = work.join(turns, turns.c.id == work.c.turn)
_background = select(work.c.id).select_from(_with_turn).where(is_running_work, _turn_left).order_by(work.c.id)
_awaiting = (
    select(work.c.turn, is_running.label("running")).select_from(_with_turn).where(work.c.waited, _turn_left).distinct()
)
_has_tasks = turns.c.id.in_(select(work.c.turn).where(is_running_work))
_is_task = exists(select(sessions.c.key).where(sessions.c.key == turns.c.session, sessions.c.parent.is_not(None)))
_reserve = (
    update(turns)
    .where(is_turn, is_running, ~turns.c.parked, _turn_left, or_(_has_tasks, _is_task))
    .values(worker=bindparam("reserved"))
)
_take_settled = update(turns).where(_is_settled, _turn_left, _has_tasks).values(_take)


def reserved_for(worker: str) -> str:
    return f"{RESERVED}{worker}"[:64]


def pending(connection: Connection, worker: str, waited: float = 0.0) -> Pending:
    """What this worker finds to do: from now on it is its own, except for the turns and messages in `sessions`, which
    whoever claims them gets. Messages are among it that have waited for so many seconds, or that a dead worker has
    accepted."""
    own = {"own": worker}
    background = tuple(connection.execute(_background).scalars())
    awaiting = tuple((row.turn, bool(row.running)) for row in connection.execute(_awaiting))
    before = datetime.now(UTC) - timedelta(seconds=waited)
    found = tuple(connection.execute(_unfinished, {"before": before}).scalars())
    people = _people(connection)
    connection.execute(_reserve, {"reserved": reserved_for(worker)})
    # Before the turns with tasks are taken: of those, too, replies are to be delivered.
    undelivered = _in_order(connection.execute(_undelivered, own))
    connection.execute(_take_settled, own)
    return Pending(
        commands=tuple(map(_command_from, sorted(connection.execute(_commands, own), key=_id))),
        sessions=found,
        people=people,
        unfetched=tuple(map(unfetched_from, sorted(connection.execute(_unfetched, own), key=_id))),
        undelivered=undelivered,
        side_questions=_in_order(connection.execute(_side_questions, own)),
        background=background,
        awaiting=awaiting,
    )


def undelivered_of(connection: Connection, worker: str) -> tuple[str, ...]:
    """The replies of settled turns that this worker has to deliver, oldest first."""
    return tuple(connection.execute(_own_undelivered, {"own": worker}).scalars())


def _people(connection: Connection) -> dict[str, str]:
    """By session, whose turn is unfinished, else whose message is the first unread one."""
    # Newest first: in a mapping, the oldest one remains.
    rows = sorted(connection.execute(_waiting_people), key=_id, reverse=True)
    waiting = {row.session: person_key(row.channel, row.sender_id) for row in rows}
    return waiting | {
        row.session: person_key(address_from_json(row.address).channel, sender_from_json(row.principal).id)
        for row in connection.execute(_people_of_turns)
    }


def _in_order(rows: Iterable[AnyRow]) -> tuple[str, ...]:
    return tuple(row.id for row in sorted(rows, key=lambda row: row.number))


def _id(row: AnyRow) -> int:
    return int(row.id)


def _command_from(row: AnyRow) -> Command:
    return Command(
        id=row.id,
        session=row.session,
        address=address_from_json(row.address),
        sender=Sender(row.sender_id, row.sender_name, row.sender_handle, level=row.level),
        message_id=row.message_id,
        name=row.command or "",
        arguments=row.text,
    )
