"""What model calls cost: stored with the log entries that say so, and summed by turn, session and person."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, bindparam, case, func, insert, select

from agent.gate import storable
from agent.log import Entry, ModelAnswered, Spent, Usage
from gateway.store.records import UsageTotals
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
_insert = insert(usage).values({column.name: bindparam(column.name) for column in usage.c if column.name != "id"})
totals_columns = (
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
    func.coalesce(func.max(case((usage.c.estimated, 1), else_=0)), 0).label("estimated"),
    func.coalesce(func.max(case((usage.c.cost == 0, 1), else_=0)), 0).label("unpriced"),
)
"""What `totals_from` reads, of a group of rows of `usage`."""

_totals = select(*totals_columns)


def record(connection: Connection, number: int, entries: Sequence[Entry]) -> None:
    """Stores the usage in these entries of turn `number`."""
    spent = list(_spent_in(entries))
    if not spent:
        return
    columns = _columns_of(connection.execute(_by_number, {"turn": number}).one())
    connection.execute(_insert, [columns | _values(*each) for each in spent])


def add_spent(connection: Connection, turn: str, usage: Usage, model: str, purpose: str) -> None:
    """Stores usage for a turn that has ended, such as for its title. Raises `LookupError` if there is no such turn."""
    row = connection.execute(_by_id, {"turn": turn}).first()
    if row is None:
        raise LookupError(f"there is no turn {turn}")
    connection.execute(_insert, _columns_of(row) | _values(storable(usage), model, purpose))


def _columns_of(turn: AnyRow) -> dict[str, Any]:
    return {
        "session": turn.session,
        "generation": turn.generation,
        "turn": turn.id,
        "root": turn.root,
        "person": f"{turn.address['channel']}:{turn.principal['id']}",
    }


def spent(
    connection: Connection,
    *,
    turn: str | None = None,
    session: str | None = None,
    person: str | None = None,
    since: datetime | None = None,
    task: str | None = None,
) -> UsageTotals:
    """The usage that meets all given conditions: for a `turn` and all that it delegated, by one turn alone (`task`), in
    a `session` and its delegated ones, by a `person` ("channel:id"), `since` a time."""
    asked = _totals
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
    return totals_from(connection.execute(asked).one())


def totals_from(row: AnyRow) -> UsageTotals:
    return UsageTotals(
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
    """Usage, model and purpose of each entry that used something."""
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
