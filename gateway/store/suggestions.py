"""Suggested replies under the results of tools: a pressed button says the suggested text in the person's name."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import uuid4

from sqlalchemy import Connection, bindparam, select, update

from agent.log import CallEnded, Entry, SuggestedReply
from gateway.store import logs
from gateway.store.inbox import queue_if_lower
from gateway.store.schema import inbox, is_command, is_turn, is_waiting, turns
from gateway.store.sessions import current_generation

_row = select(inbox.c.session, inbox.c.level, inbox.c.run).where(inbox.c.id == bindparam("row"), is_command, is_waiting)
_turn = select(turns.c.number).where(
    turns.c.id == bindparam("turn_id"),
    turns.c.session == bindparam("session"),
    turns.c.generation == current_generation,
    is_turn,
    ~turns.c.undone,
)
_become_message = (
    update(inbox)
    .where(inbox.c.id == bindparam("of_row"))
    .values(
        kind="new", command=None, text=bindparam("new_text"), message_id=None, busy="steer", run=bindparam("new_run")
    )
)


def say_suggested(connection: Connection, command_id: int, turn_id: str, place: int, option: int) -> bool:
    """A pressed button becomes a message with the text of a suggestion: the `option` of the call that is the turn's
    call with suggestions number `place`, from 0. False if there is none (any more) in this conversation."""
    row = connection.execute(_row, {"row": command_id}).first()
    if row is None:
        return False
    number = connection.execute(_turn, {"turn_id": turn_id, "session": row.session}).scalar()
    if number is None:
        return False
    made = suggested(logs.read(connection, number))
    if not (0 <= place < len(made) and 0 <= option < len(made[place])):
        return False
    text = made[place][option].text
    values = {"of_row": command_id, "new_text": text, "new_run": row.run or uuid4().hex}
    connection.execute(_become_message, values)
    queue_if_lower(connection, row.session, row.level)
    return True


def suggested(entries: Sequence[Entry]) -> list[tuple[SuggestedReply, ...]]:
    """The suggestions of each call that has some, in the order of the log."""
    return [entry.suggestions for entry in entries if isinstance(entry, CallEnded) and entry.suggestions]
