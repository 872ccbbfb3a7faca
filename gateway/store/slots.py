"""Slots: how many turns all workers of the database run at the same time, where that is limited.

A turn has a slot while a worker that is alive runs it. Parked turns have none, nor have side questions and delegated
tasks: whoever waits for them may have the last one. Turns get slots one after another, so that two workers cannot give
away the same one.
"""

from __future__ import annotations

from collections import Counter

from sqlalchemy import Connection, select

from gateway.sessions import is_child
from gateway.store.records import NoRoom, Turn
from gateway.store.schema import is_running, is_turn, sessions, turns
from gateway.store.turns import claimable
from gateway.store.workers import is_alive

RESERVED = 4
"""One in so many slots is kept for others: one person's turns cannot take all."""

_holders = (
    select(sessions.c.channel, turns.c.principal)
    .select_from(turns.join(sessions, sessions.c.key == turns.c.session))
    .where(is_turn, is_running, ~turns.c.parked, sessions.c.parent.is_(None), is_alive(turns.c.worker))
)


def claim_slot(connection: Connection, worker: str, session: str, total: int) -> Turn | NoRoom | None:
    """As `turns.claim`, if fewer than `total` turns have a slot; else why the turn has to wait."""
    found = claimable(connection, worker, session)
    if found is None:
        return None
    if not is_child(session):
        held = Counter((channel, principal["id"]) for channel, principal in connection.execute(_holders))
        if held.total() >= total:
            return "full"
        if held[found.channel, found.person] >= total - total // RESERVED:
            return "share"
    return found.claim()
