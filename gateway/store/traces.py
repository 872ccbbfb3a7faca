"""All that the store knows of one turn, for its trace."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from sqlalchemy import Connection, bindparam, or_, select

from channels.channel import Sent
from gateway.store import costs, logs
from gateway.store.records import Turn, UsageTotals
from gateway.store.schema import inbox, outbox, sessions, turns, work
from gateway.store.turn_rows import turn_from

MIN_PREFIX = 6
"""Characters of a turn's id that are enough to name it."""

_by_id = select(turns.c.id).where(turns.c.id == bindparam("name"))
_by_run = select(inbox.c.turn).where(inbox.c.run == bindparam("name"), inbox.c.turn.is_not(None))
_by_beginning = select(turns.c.id).where(turns.c.id.between(bindparam("name"), bindparam("last"))).limit(2)
_turn = select(turns).where(turns.c.id == bindparam("turn_id"))
_session = (
    select(turns.c.session, sessions.c.parent)
    .join(sessions, sessions.c.key == turns.c.session)
    .where(turns.c.id == bindparam("turn_id"))
)
_reading = (
    select(inbox.c.turn)
    .where(
        inbox.c.session == bindparam("session"), inbox.c.message_id == bindparam("message"), inbox.c.turn.is_not(None)
    )
    .order_by(inbox.c.id.desc())
    .limit(1)
)
_answering = (
    select(outbox.c.reply_id)
    .join(turns, turns.c.id == outbox.c.reply_id)
    .where(
        turns.c.session == bindparam("session"),
        # Telegram's messages are known by chat and number.
        or_(outbox.c.ref == bindparam("message"), outbox.c.ref.like(bindparam("with_chat"), escape="\\")),
    )
    .limit(1)
)
_received = select(inbox.c.id, inbox.c.received_at).where(inbox.c.turn == bindparam("turn_id"))
_pieces = (
    select(outbox.c.key, outbox.c.state, outbox.c.ref, outbox.c.reason, outbox.c.at)
    .where(outbox.c.reply_id == bindparam("turn_id"))
    .order_by(outbox.c.position)
)
_tasks = (
    select(work.c.handle, work.c.kind, work.c.title, work.c.state, work.c.started_at, work.c.ended_at, turns.c.id)
    .select_from(work.outerjoin(turns, turns.c.session == work.c.child))
    .where(work.c.turn == bindparam("turn_id"))
    .order_by(work.c.id, turns.c.number)
)


@dataclass(frozen=True, slots=True)
class TracedPiece:
    """A piece of the reply, and since when it is in its state; None in outboxes of earlier versions."""

    sent: Sent
    at: datetime | None


@dataclass(frozen=True, slots=True)
class TracedTask:
    """Work in the background that the turn began. `turns` are those of a delegated task; `cost`, in dollars, is
    theirs."""

    handle: str
    title: str
    state: str
    started_at: datetime
    ended_at: datetime | None
    turns: tuple[str, ...] = ()
    cost: float = 0.0


@dataclass(frozen=True, slots=True)
class TracedTurn:
    """`times` has the time of each entry of the turn's log; None in logs of earlier versions. `received` are the times
    at which the messages that it read were received, by their ids. `state` is "running", or how it ended. `spent` is
    with all that it delegated."""

    turn: Turn
    state: str
    reason: str
    ended_at: datetime | None
    times: tuple[datetime | None, ...]
    received: Mapping[int, datetime] = field(default_factory=dict)
    pieces: tuple[TracedPiece, ...] = ()
    undeliverable: str = ""
    spent: UsageTotals = field(default_factory=UsageTotals)
    tasks: tuple[TracedTask, ...] = ()


def find_turn(connection: Connection, name: str) -> str | None:
    """The id of the turn with this id, or with this beginning of it if it is the only one, or of the turn that read the
    message of this run."""
    for query in (_by_id, _by_run):
        found: str | None = connection.execute(query, {"name": name}).scalar()
        if found is not None:
            return found
    if len(name) < MIN_PREFIX:
        return None
    alike = connection.execute(_by_beginning, {"name": name, "last": f"{name}~"}).scalars().all()
    return alike[0] if len(alike) == 1 else None


def turn_of_message(connection: Connection, session: str, message: str) -> str | None:
    """The id of the turn that read this message of a person (the platform's id), or that has written it."""
    for query in (_reading, _answering):
        values = {"session": session, "message": message, "with_chat": f"%/{_literal(message)}"}
        found: str | None = connection.execute(query, values).scalar()
        if found is not None:
            return found
    return None


def _literal(text: str) -> str:
    """For LIKE."""
    return re.sub(r"([\\%_])", r"\\\1", text)


def conversation_of_turn(connection: Connection, turn_id: str) -> str | None:
    """The session of the conversation that the turn, or the task that it is for, belongs to."""
    row = connection.execute(_session, {"turn_id": turn_id}).first()
    return None if row is None else row.parent or row.session


def traced(connection: Connection, turn_id: str) -> TracedTurn | None:
    """The turn with this id; None if there is none."""
    row = connection.execute(_turn, {"turn_id": turn_id}).first()
    if row is None:
        return None
    return TracedTurn(
        turn=turn_from(row, logs.read(connection, row.number)),
        state=row.state,
        reason=row.reason,
        ended_at=row.ended_at,
        times=logs.times(connection, row.number),
        received={read.id: read.received_at for read in connection.execute(_received, {"turn_id": turn_id})},
        pieces=tuple(
            TracedPiece(Sent(key, "unknown" if state == "sending" else state, ref, "", reason or ""), at)
            for key, state, ref, reason, at in connection.execute(_pieces, {"turn_id": turn_id})
        ),
        undeliverable=row.undeliverable or "",
        spent=costs.spent(connection, turn=turn_id),
        tasks=_traced_tasks(connection, turn_id),
    )


def _traced_tasks(connection: Connection, turn_id: str) -> tuple[TracedTask, ...]:
    found: dict[str, TracedTask] = {}
    own: dict[str, list[str]] = {}
    for row in connection.execute(_tasks, {"turn_id": turn_id}):
        found[row.handle] = TracedTask(row.handle, row.title, row.state, row.started_at, row.ended_at)
        own.setdefault(row.handle, []).extend([row.id] if row.id else [])
    return tuple(
        TracedTask(
            task.handle,
            task.title,
            task.state,
            task.started_at,
            task.ended_at,
            tuple(own[handle]),
            sum(costs.spent(connection, task=child).cost for child in own[handle]),
        )
        for handle, task in found.items()
    )
