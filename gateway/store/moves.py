"""Chats whose id their platform has exchanged for another: the conversation goes on under the new id."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

from sqlalchemy import Connection, bindparam, case, delete, select, update

from channels.address import Address
from gateway.sessions import session_key
from gateway.store import audit as audit_log
from gateway.store.encoding import address_to_json
from gateway.store.records import AuditEvent, ChatMove
from gateway.store.schema import (
    audit,
    inbox,
    is_running,
    is_waiting,
    moves,
    notes,
    schedules,
    sessions,
    turns,
    uploads,
    usage,
    work,
)
from gateway.store.upsert import insert

HIDDEN = -1
"""A generation before all that the conversation itself began."""

_insert = insert(moves).values({column.name: bindparam(column.name) for column in moves.c})
_record = _insert.on_conflict_do_update(
    index_elements=["channel", "account", "chat"], set_={"new_chat": _insert.excluded.new_chat}
)
_follow = (
    update(moves)
    .where(
        moves.c.channel == bindparam("of_channel"),
        moves.c.account == bindparam("of_account"),
        moves.c.new_chat == bindparam("old_chat"),
    )
    .values(new_chat=bindparam("newest"))
)
_first = (
    select(moves.c.chat)
    .where(
        moves.c.channel == bindparam("of_channel"),
        moves.c.account == bindparam("of_account"),
        moves.c.new_chat == bindparam("newest"),
    )
    .order_by(moves.c.at)
    .limit(1)
)
_every = select(moves.c.channel, moves.c.account, moves.c.chat, moves.c.new_chat).order_by(moves.c.at)
_open = [
    select(inbox.c.id).where(inbox.c.session == bindparam("session"), is_waiting),
    select(turns.c.id).where(turns.c.session == bindparam("session"), is_running),
    select(work.c.id).where(work.c.session == bindparam("session")),
]


def every(connection: Connection) -> tuple[ChatMove, ...]:
    """All former ids of chats with the newest, oldest first: conversations began at the first of a chat."""
    return tuple(ChatMove(*row) for row in connection.execute(_every))


def move_address(connection: Connection, old: Address, new: Address) -> None:
    """The chat of the old address has the id of the new one from now on, in one transaction with all that follows.

    The conversation keeps its session: history, inbox, open questions and approvals, workspace and running work belong
    to that. What was written at the new address before this was known is moved to it.
    """
    account = {"of_channel": old.channel, "of_account": old.account, "newest": new.chat}
    connection.execute(_follow, {**account, "old_chat": old.chat})
    connection.execute(
        _record,
        {
            "channel": old.channel,
            "account": old.account,
            "chat": old.chat,
            "new_chat": new.chat,
            "at": datetime.now(UTC),
        },
    )
    first = replace(old, chat=connection.execute(_first, account).scalar_one())
    merge(connection, new, first)
    detail = {"from": old.chat, "to": new.chat}
    audit_log.record(connection, AuditEvent("moved", session=session_key(first), detail=detail))


def merge(connection: Connection, new: Address, old: Address) -> bool:
    """Moves the session at the new address to the old one; False as long as something goes on in it."""
    source, target = session_key(new), session_key(old)
    known = select(sessions).where(sessions.c.key == bindparam("session"))
    moved = connection.execute(known, {"session": source}).first()
    if moved is None:
        return True
    if any(connection.execute(query.limit(1), {"session": source}).first() for query in _open):
        return False
    kept = connection.execute(known, {"session": target}).first()
    address = address_to_json(old)
    if kept is None:
        kept = moved
        connection.execute(insert(sessions).values({**moved._mapping, "key": target, "address": address}))
    for table in (turns, inbox):
        # What was before `/new` stays hidden.
        generation = case((table.c.generation == moved.generation, kept.generation), else_=HIDDEN)
        values = {"session": target, "address": address, "generation": generation}
        connection.execute(update(table).where(table.c.session == source).values(values))
    for table in (usage, audit):
        connection.execute(update(table).where(table.c.session == source).values(session=target))
    moved_tasks = update(schedules).where(schedules.c.session == source)
    connection.execute(moved_tasks.values(session=target, address=address))
    moved_notes = update(notes).where(notes.c.session == source)
    connection.execute(moved_notes.values(session=target, owner=session_key(replace(old, thread=None))))
    known_files = select(uploads.c.hash).where(uploads.c.session == target)
    connection.execute(delete(uploads).where(uploads.c.session == source, uploads.c.hash.in_(known_files)))
    connection.execute(update(uploads).where(uploads.c.session == source).values(session=target))
    connection.execute(delete(sessions).where(sessions.c.key == source))
    return True
