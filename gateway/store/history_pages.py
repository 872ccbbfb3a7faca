"""Pages of the history of a conversation, from the newest messages and replies back to the oldest. A page reads what it
shows, however long the conversation is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, Integer, and_, bindparam, func, or_, select

from gateway.store import watching
from gateway.store.reading import is_listed, turns_by_id
from gateway.store.records import Turn
from gateway.store.schema import inbox, turns
from gateway.store.sessions import current_generation

NEWEST = 2**62
"""Above every id."""


@dataclass(frozen=True, slots=True)
class Position:
    """A place in a history. Before it are the messages with inbox ids below `row`, or that one too if `with_row` (its
    reply comes after it); of the replies that answer none of them, those of turns with numbers below `turn`."""

    row: int = NEWEST
    with_row: bool = False
    turn: int = NEWEST


@dataclass(frozen=True, slots=True)
class HistoryPage:
    """Messages, and turns with their logs where their replies are shown, oldest first. `before` leads to the page
    before it; None: there is none."""

    items: tuple[watching.WatchedMessage | Turn, ...]
    before: Position | None


@dataclass(frozen=True, slots=True)
class _Place:
    """A message (`row`) or a reply (`turn`, its id) of the page. `after` is the position behind which it is."""

    after: Position
    row: int | None = None
    turn: str | None = None


@dataclass(frozen=True, slots=True)
class _Row:
    id: int
    received_at: datetime
    reply: str | None
    """The turn whose reply follows."""


@dataclass(frozen=True, slots=True)
class _OtherTurn:
    """A turn, and whether it answers none of the listed messages: a notice, or the result of background work."""

    number: int
    id: str
    started_at: datetime
    is_shown: bool


_of_generation = func.coalesce(bindparam("of_generation", type_=Integer), current_generation)

_begins = or_(inbox.c.step.is_(None), and_(inbox.c.step == 1, inbox.c.state == "consumed"))
"""Whether a turn began with the message: a command, or one that the first step read. Decisions came later."""

_rows = (
    select(inbox.c.id, inbox.c.received_at, inbox.c.turn)
    .where(
        inbox.c.session == bindparam("session"),
        inbox.c.generation == _of_generation,
        inbox.c.id < bindparam("end"),
        is_listed,
    )
    .order_by(inbox.c.id.desc())
    .limit(bindparam("size"))
)
_answered = (
    select(inbox.c.turn, func.max(inbox.c.id))
    .where(inbox.c.turn.in_(bindparam("ids", expanding=True)), is_listed, _begins)
    .group_by(inbox.c.turn)
)
_turns = (
    select(
        turns.c.number,
        turns.c.id,
        turns.c.started_at,
        (~select(inbox.c.id).where(inbox.c.turn == turns.c.id, is_listed, _begins).exists()).label("is_shown"),
    )
    .where(
        turns.c.session == bindparam("session"),
        turns.c.generation == _of_generation,
        turns.c.number < bindparam("end"),
    )
    .order_by(turns.c.number.desc())
    .limit(bindparam("size"))
)


def history_page(
    connection: Connection,
    session: str,
    generation: int | None = None,
    before: Position | None = None,
    limit: int = 100,
) -> HistoryPage:
    """The newest `limit` messages and replies before that position, or of all, since the last `/new` or of that earlier
    generation. Each reply comes after the messages that its turn began with; one that answers none, by its start."""
    start = before or Position()
    places: list[_Place] = []
    for place in _backwards(connection, {"session": session, "of_generation": generation, "size": limit + 1}, start):
        if len(places) == limit:
            return HistoryPage(_items(connection, places), place.after)
        places.append(place)
    return HistoryPage(_items(connection, places), None)


def _backwards(connection: Connection, asked: Mapping[str, object], start: Position) -> Iterator[_Place]:
    """All messages and replies before the position, newest first, read in parts as they are taken."""
    others = _other_turns(connection, asked, start.turn)
    other = next(others, None)
    position = start
    for row in _listed_rows(connection, asked, start):
        while other is not None and other.started_at >= row.received_at:
            if other.is_shown:
                yield _Place(Position(position.row, position.with_row, other.number + 1), turn=other.id)
            other = next(others, None)
        seen = 0 if other is None else other.number + 1
        if row.reply is not None and not (start.with_row and row.id == start.row):
            yield _Place(Position(position.row, position.with_row, seen), turn=row.reply)
        position = Position(row.id, False, seen)
        yield _Place(Position(row.id, True, seen), row=row.id)
    while other is not None:
        if other.is_shown:
            yield _Place(Position(position.row, position.with_row, other.number + 1), turn=other.id)
        other = next(others, None)


def _listed_rows(connection: Connection, asked: Mapping[str, object], start: Position) -> Iterator[_Row]:
    end = start.row + start.with_row
    while found := connection.execute(_rows, {**asked, "end": end}).all():
        ids = {row.turn for row in found if row.turn is not None}
        answered: dict[str, int] = dict(connection.execute(_answered, {"ids": list(ids)}).all()) if ids else {}
        for row in found:
            yield _Row(row.id, row.received_at, row.turn if answered.get(row.turn) == row.id else None)
        end = found[-1].id


def _other_turns(connection: Connection, asked: Mapping[str, object], end: int) -> Iterator[_OtherTurn]:
    while found := connection.execute(_turns, {**asked, "end": end}).all():
        for row in found:
            yield _OtherTurn(row.number, row.id, row.started_at, row.is_shown)
        end = found[-1].number


def _items(connection: Connection, places: list[_Place]) -> tuple[watching.WatchedMessage | Turn, ...]:
    rows = [place.row for place in places if place.row is not None]
    shown = [place.turn for place in places if place.turn is not None]
    messages = {message.id: message for message in watching.messages(connection, rows)}
    replies = {turn.id: turn for turn in turns_by_id(connection, shown)}
    found = (messages.get(place.row or 0) or replies.get(place.turn or "") for place in reversed(places))
    return tuple(item for item in found if item is not None)
