"""The logs of turns: entries are written together with the media that they use and what they cost."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from sqlalchemy import Connection, bindparam, insert, select

from agent.gate import storable
from agent.log import Entry, dump, load
from gateway.store import costs
from gateway.store.encoding import attachments_of
from gateway.store.schema import media_uses, turn_log

_insert = insert(turn_log).values({column.name: bindparam(column.name) for column in turn_log.c})
_read = select(turn_log.c.entry).where(turn_log.c.turn == bindparam("turn")).order_by(turn_log.c.n)
_newest = select(turn_log.c.entry).where(turn_log.c.turn == bindparam("turn")).order_by(turn_log.c.n.desc())
_times = select(turn_log.c.at).where(turn_log.c.turn == bindparam("turn")).order_by(turn_log.c.n)
_use_media = insert(media_uses).values(hash=bindparam("hash"), turn=bindparam("turn"))


def write(connection: Connection, number: int, first: int, entries: Sequence[Entry]) -> None:
    """Adds the entries to the log of turn `number`, from place `first` on, as they pass the gate."""
    if not entries:
        return
    entries, now = tuple(map(storable, entries)), datetime.now(UTC)
    lines = [{"turn": number, "n": n, "entry": dump(entry), "at": now} for n, entry in enumerate(entries, first)]
    connection.execute(_insert, lines)
    uses = [{"hash": used.hash, "turn": number} for entry in entries for used in attachments_of(entry)]
    if uses:
        connection.execute(_use_media, uses)
    costs.record(connection, number, entries)


def read(connection: Connection, number: int) -> tuple[Entry, ...]:
    """The log of turn `number`."""
    return load(connection.execute(_read, {"turn": number}).scalars())


def newest(connection: Connection, number: int, count: int) -> tuple[Entry, ...]:
    """So many entries from the end of the log of turn `number`, the last one first."""
    return load(connection.execute(_newest.limit(count), {"turn": number}).scalars())


def times(connection: Connection, number: int) -> tuple[datetime | None, ...]:
    """When each entry of the log of turn `number` was written; None for those of earlier versions."""
    return tuple(connection.execute(_times, {"turn": number}).scalars())
