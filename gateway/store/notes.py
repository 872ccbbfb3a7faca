"""What the agent has noted of people and groups. A note belongs to its owner, and to the conversation in which it was
taken: it is deleted with either."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import uuid4

from sqlalchemy import Connection, bindparam, delete, func, select

from agent.memory import Note
from channels.address import Sender
from gateway.store.schema import AnyRow, notes
from gateway.store.upsert import insert

MAX_NOTES = 50
"""Notes of one owner."""


@dataclass(frozen=True, slots=True)
class StoredNote:
    """`owner` is the key of a chat or of a person on the web channel, `session` the conversation in which it was taken,
    and `author` whoever the turn was for that took it."""

    note: Note
    owner: str
    session: str
    author: Sender
    at: datetime


_insert = (
    insert(notes)
    .values({column.name: bindparam(column.name) for column in notes.c})
    .on_conflict_do_nothing(index_elements=["made_by"])
)
_made_by = select(notes).where(notes.c.made_by == bindparam("by"))
_count = select(func.count()).where(notes.c.owner == bindparam("of_owner"))
_in_order = select(notes).order_by(notes.c.at, notes.c.id)
_of_owner = _in_order.where(notes.c.owner == bindparam("of_owner"))
_of_session = _in_order.where(notes.c.session == bindparam("of_session"))
_any = select(notes.c.id).limit(1)
_forget = (
    delete(notes).where(notes.c.id == bindparam("of_id"), notes.c.owner == bindparam("of_owner")).returning(*notes.c)
)


def add(
    connection: Connection, owner: str, session: str, channel: str, author: Sender, made_by: str, text: str
) -> StoredNote | None:
    """Takes a note; what was made by the same before is found again. None: the owner has too many."""
    known = connection.execute(_made_by, {"by": made_by}).first()
    if known is not None:
        return _note(known)
    if connection.execute(_count, {"of_owner": owner}).scalar_one() >= MAX_NOTES:
        return None
    values = {
        "id": uuid4().hex[:8],
        "owner": owner,
        "session": session,
        "channel": channel,
        "sender_id": author.id,
        "sender_name": author.name,
        "text": text,
        "at": datetime.now(UTC),
        "made_by": made_by,
    }
    connection.execute(_insert, values)
    return _note(connection.execute(_made_by, {"by": made_by}).one())


def of_owner(connection: Connection, owner: str) -> tuple[StoredNote, ...]:
    """The oldest first."""
    return tuple(map(_note, connection.execute(_of_owner, {"of_owner": owner})))


def of_session(connection: Connection, session: str) -> tuple[StoredNote, ...]:
    """Those that were taken in the conversation, the oldest first."""
    return tuple(map(_note, connection.execute(_of_session, {"of_session": session})))


def forget(connection: Connection, owner: str, id: str) -> StoredNote | None:
    """Deletes a note of the owner; None if there is none with this id any more."""
    row = connection.execute(_forget, {"of_id": id, "of_owner": owner}).first()
    return None if row is None else _note(row)


def are_there(connection: Connection) -> bool:
    """Whether there are notes of anybody."""
    return connection.execute(_any).first() is not None


def _note(row: AnyRow) -> StoredNote:
    return StoredNote(Note(row.id, row.text), row.owner, row.session, Sender(row.sender_id, row.sender_name), row.at)
