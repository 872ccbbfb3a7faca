"""Reservations: what running calls may cost, so that calls of several workers cannot take the rest of a limit twice.

A reservation counts as spent as long as its worker is alive. Reservations are read before costs: whoever ends one has
stored the cost before, so what ends meanwhile counts twice rather than not at all.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime

from sqlalchemy import Connection, bindparam, delete, func, select

from gateway.store.costs import spent
from gateway.store.records import Exceeded, SpendingCaps
from gateway.store.schema import reservations
from gateway.store.upsert import insert
from gateway.store.workers import is_alive

_insert = insert(reservations).values({column.name: bindparam(column.name) for column in reservations.c})
_remove_dead = delete(reservations).where(~is_alive(reservations.c.worker))
_release = delete(reservations).where(reservations.c.id.in_(bindparam("ids", expanding=True)))
_sum = select(func.coalesce(func.sum(reservations.c.cost), 0.0)).where(is_alive(reservations.c.worker))
_of_turn = _sum.where(reservations.c.turn == bindparam("of_turn"))
_of_person = _sum.where(reservations.c.person == bindparam("of_person"))


def reserve(
    connection: Connection,
    worker: str,
    id: str,
    turn: str,
    person: str,
    cost: float,
    caps: SpendingCaps,
    today: datetime,
    ended: Collection[str] = (),
) -> Exceeded | None:
    """Reserves the cost of a call, with the turn that all was delegated from. Otherwise the limit that it would exceed;
    nothing is reserved then. `today` is the first moment of the day. The reservations `ended` are ended before."""
    if ended:
        release(connection, ended)
    connection.execute(_remove_dead)
    if caps.turn is not None:
        reserved = float(connection.execute(_of_turn, {"of_turn": turn}).scalar_one()) + cost
        if (bill := spent(connection, turn=turn)).cost + reserved > caps.turn:
            return Exceeded("turn", bill, reserved, caps.turn)
    if caps.person_daily is not None:
        reserved = reserved_by(connection, person) + cost
        if (bill := spent(connection, person=person, since=today)).cost + reserved > caps.person_daily:
            return Exceeded("person", bill, reserved, caps.person_daily)
    if caps.daily is not None:
        reserved = reserved_by(connection) + cost
        if (bill := spent(connection, since=today)).cost + reserved > caps.daily:
            return Exceeded("everybody", bill, reserved, caps.daily)
    values = {"id": id, "worker": worker, "turn": turn, "person": person, "cost": cost}
    connection.execute(_insert, values)
    return None


def reserved_by(connection: Connection, person: str | None = None) -> float:
    """What is reserved for calls that this person has asked for; None: for all."""
    if person is None:
        return float(connection.execute(_sum).scalar_one())
    return float(connection.execute(_of_person, {"of_person": person}).scalar_one())


def release(connection: Connection, ids: Collection[str]) -> None:
    """Ends these reservations, if they are there."""
    connection.execute(_release, {"ids": list(ids)})
