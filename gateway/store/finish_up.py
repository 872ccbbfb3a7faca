"""`/wrap`: a request that the running turn finish up, which no other turn reads."""

from __future__ import annotations

from sqlalchemy import Connection, bindparam, exists, select, update

from gateway.store.schema import inbox, is_command, is_running, is_turn, is_waiting, turns

_unfinished = exists(select(turns.c.number).where(turns.c.session == inbox.c.session, is_turn, is_running))
_wrap = (
    update(inbox)
    .where(inbox.c.id == bindparam("row"), is_command, is_waiting, _unfinished)
    .values(kind="new", command=None, busy="wrap", source="wrap", ready=True)
)


def wrap(connection: Connection, command_id: int) -> bool:
    """The command becomes a request, with the text behind it, that the session's turn finish up; False if no turn runs
    or is parked. The turn reads it, or it ends with the turn."""
    return connection.execute(_wrap, {"row": command_id}).rowcount > 0
