"""Deadlines of parked turns: decisions that expire, and external results that are overdue."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Connection, bindparam, func, select

from agent.decisions.approvals import open_decision
from agent.decisions.external_tools import endings_without_result
from agent.log import ApprovalDecided
from gateway.store import logs
from gateway.store.decisions import release
from gateway.store.schema import has_deadline, is_running, is_turn, turns

_due = (
    select(turns.c.number, turns.c.session)
    .where(has_deadline, turns.c.deadline <= bindparam("now"), is_turn, is_running, turns.c.parked)
    .order_by(turns.c.deadline)
)
_next = select(func.min(turns.c.deadline)).where(has_deadline, is_turn, is_running, turns.c.parked)


def expire(connection: Connection, now: datetime) -> tuple[str, ...]:
    """Expires the decisions that nobody made in time, and ends the calls whose external results are overdue; the
    sessions whose turns can be claimed for that."""
    due = connection.execute(_due, {"now": now}).all()
    for turn in due:
        entries = logs.read(connection, turn.number)
        asked = open_decision(entries)
        ends = (
            endings_without_result(entries, overdue=True) if asked is None else [ApprovalDecided(asked.id, "expired")]
        )
        logs.write(connection, turn.number, len(entries) + 1, ends)
        release(connection, turn.number)
    return tuple(turn.session for turn in due)


def next_deadline(connection: Connection) -> datetime | None:
    """When the next decision expires or external result is overdue; None if no parked turn has a deadline."""
    found: datetime | None = connection.execute(_next).scalar()
    return found
