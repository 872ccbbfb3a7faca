"""What model calls cost: kept with the log entries that say so, and summed for turns, conversations and people."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, bindparam, case, func, insert, select

from agent.log import Entry, ModelAnswered, Spent, Usage
from gateway.store.records import Bill
from gateway.store.schema import AnyRow, sessions, turns, usage, work

ANSWER = "answer"
"""The purpose of a model call that gives the turn its answer."""

_of_turn = select(
    turns.c.id,
    func.coalesce(sessions.c.parent, turns.c.session).label("session"),
    turns.c.generation,
    turns.c.address,
    turns.c.principal,
    func.coalesce(work.c.root, turns.c.id).label("root"),
).select_from(turns.join(sessions, sessions.c.key == turns.c.session).outerjoin(work, work.c.child == turns.c.session))
_by_number = _of_turn.where(turns.c.number == bindparam("turn"))
_by_id = _of_turn.where(turns.c.id == bindparam("turn"))
_keep = insert(usage).values({column.name: bindparam(column.name) for column in usage.c if column.name != "id"})
_bill = select(
    func.count().label("calls"),
    *(
        func.coalesce(func.sum(column), 0).label(column.name)
        for column in (
            usage.c.input,
            usage.c.output,
            usage.c.cache_read,
            usage.c.cache_write,
            usage.c.reasoning,
            usage.c.cost,
        )
    ),
    func.coalesce(func.max(usage.c.estimated), False).label("estimated"),
    func.coalesce(func.max(case((usage.c.cost == 0, 1), else_=0)), 0).label("unpriced"),
)


def record(connection: Connection, number: int, entries: Sequence[Entry]) -> None:
    """Keeps what these entries of turn `number` say was spent."""
    spent = list(_spent_in(entries))
    if not spent:
        return
    place = _place_of(connection.execute(_by_number, {"turn": number}).one())
    connection.execute(_keep, [place | _values(*each) for each in spent])


def add(connection: Connection, turn_id: str, spent: Usage, model: str, purpose: str) -> None:
    """Keeps what was spent for a turn beside its log. Raises `LookupError` if there is no such turn."""
    turn = connection.execute(_by_id, {"turn": turn_id}).first()
    if turn is None:
        raise LookupError(f"there is no turn {turn_id}")
    connection.execute(_keep, _place_of(turn) | _values(spent, model, purpose))


def _place_of(turn: AnyRow) -> dict[str, Any]:
    return {
        "session": turn.session,
        "generation": turn.generation,
        "turn": turn.id,
        "root": turn.root,
        "person": f"{turn.address['channel']}:{turn.principal['id']}",
    }


def bill(
    connection: Connection,
    turn: str | None,
    session: str | None,
    person: str | None,
    since: datetime | None,
    task: str | None = None,
) -> Bill:
    """What was spent of all that is named."""
    asked = _bill
    if turn is not None:
        asked = asked.where(usage.c.root == turn)
    if task is not None:
        asked = asked.where(usage.c.turn == task)
    if session is not None:
        asked = asked.where(usage.c.session == session)
    if person is not None:
        asked = asked.where(usage.c.person == person)
    if since is not None:
        asked = asked.where(usage.c.at >= since)
    row = connection.execute(asked).one()
    return Bill(
        calls=row.calls,
        input=row.input,
        output=row.output,
        cache_read=row.cache_read,
        cache_write=row.cache_write,
        reasoning=row.reasoning,
        cost=float(row.cost),
        estimated=bool(row.estimated),
        unpriced=bool(row.unpriced),
    )


def _spent_in(entries: Iterable[Entry]) -> Iterable[tuple[Usage, str, str]]:
    """What was spent, on which model and for what; what cost nothing is left out."""
    for entry in entries:
        match entry:
            case ModelAnswered(usage=spent, model=model) if _is_something(spent):
                yield spent, model, ANSWER
            case Spent(usage=spent, model=model, purpose=purpose) if _is_something(spent):
                yield spent, model, purpose
            case _:
                pass


def _is_something(spent: Usage) -> bool:
    return bool(spent.input or spent.output or spent.cost)


def _values(spent: Usage, model: str, purpose: str) -> dict[str, Any]:
    return {
        "model": model,
        "purpose": purpose,
        "input": spent.input,
        "output": spent.output,
        "cache_read": spent.cache_read,
        "cache_write": spent.cache_write,
        "reasoning": spent.reasoning,
        "cost": spent.cost,
        "estimated": spent.estimated,
        "at": datetime.now(UTC),
    }
