"""What turns ask people: the turns that wait for a decision or an answer."""

from __future__ import annotations

from sqlalchemy import Connection, bindparam, or_, select

from agent.log import InputRequested, load
from gateway.store import logs
from gateway.store.records import Turn
from gateway.store.schema import is_running, is_turn, turns
from gateway.store.turn_rows import turn_from

MAX_ASKING = 500
"""Turns that are looked at, the oldest first."""

_asking = (
    select(turns)
    .where(is_turn, is_running, or_(turns.c.parked, turns.c.asks.is_not(None)), turns.c.stop.is_(None))
    .order_by(turns.c.number)
    .limit(MAX_ASKING)
)
_asking_there = _asking.where(turns.c.session == bindparam("session"))

AskingTurn = tuple[Turn, InputRequested | None]
"""A turn with its log, and the open request of a running call."""


def asking_turns(connection: Connection, session: str | None = None) -> tuple[AskingTurn, ...]:
    """The turns that wait for people, or whose calls do; of all conversations, or of one."""
    found = connection.execute(_asking) if session is None else connection.execute(_asking_there, {"session": session})
    return tuple((turn_from(row, logs.read(connection, row.number)), _request(row.asks)) for row in found.all())


def _request(asks: str | None) -> InputRequested | None:
    [entry] = load([asks]) if asks is not None else (None,)
    return entry if isinstance(entry, InputRequested) else None
