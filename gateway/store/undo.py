"""`/undo` and `/retry`: the last turn is removed from the history, and its messages are returned. Its log stays."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from uuid import uuid4

from sqlalchemy import Connection, bindparam, case, exists, select, update

from agent.frames import inline
from agent.log import DeclaredTool, ForeignText
from agent.media import Attachment
from channels.address import Sender
from gateway.store.encoding import (
    attachments_from_json,
    attachments_to_json,
    foreign_from_json,
    foreign_to_json,
    sender_from_json,
    tools_from_json,
    tools_to_json,
)
from gateway.store.fetching import use_media
from gateway.store.records import UndoneTurn
from gateway.store.schema import AnyRow, clean, inbox, is_command, is_ended, is_running, is_turn, is_waiting, turns
from gateway.store.sessions import current_generation
from gateway.store.turn_rows import level_of

_last = (
    select(turns.c.number, turns.c.id, turns.c.principal)
    .where(
        turns.c.session == bindparam("session"),
        turns.c.generation == current_generation,
        is_turn,
        is_ended,
        ~turns.c.undone,
    )
    .order_by(turns.c.number.desc())
    .limit(1)
)
_first = (
    select(turns.c.principal)
    .where(turns.c.session == bindparam("session"), turns.c.generation == current_generation, is_turn, ~turns.c.undone)
    .order_by(turns.c.number)
    .limit(1)
)
_running = select(turns.c.number).where(turns.c.session == bindparam("session"), is_turn, is_running)
_undo = update(turns).where(turns.c.number == bindparam("turn")).values(undone=True)
_read_messages = (
    select(
        inbox.c.id,
        inbox.c.kind,
        inbox.c.message_id,
        inbox.c.sender_id,
        inbox.c.sender_name,
        inbox.c.text,
        inbox.c.attachments,
        inbox.c.tools,
        inbox.c.foreign,
    )
    .where(inbox.c.turn == bindparam("turn_id"), inbox.c.state == "consumed", inbox.c.source == "person")
    .order_by(inbox.c.id)
)
_unfinished = exists(select(turns.c.number).where(turns.c.session == inbox.c.session, is_turn, is_running))
_command = select(inbox.c.session, inbox.c.level, inbox.c.run).where(
    inbox.c.id == bindparam("row"), is_command, is_waiting, ~_unfinished
)
_become_message = (
    update(inbox)
    .where(inbox.c.id == bindparam("of_row"))
    .values(
        kind="new",
        command=None,
        run=bindparam("new_run"),
        text=bindparam("new_text"),
        note="",
        attachments=bindparam("new_attachments"),
        tools=bindparam("new_tools"),
        foreign=bindparam("new_foreign"),
        level=bindparam("new_level"),
        # A pressed button names the bot's own message.
        message_id=case((inbox.c.command == "answer", None), else_=inbox.c.message_id),
        busy="steer",
        ready=True,
    )
)


@dataclass(frozen=True, slots=True)
class _Message:
    """A message of a person, after all edits."""

    sender_id: str
    sender: str
    text: str
    attachments: tuple[Attachment, ...]
    tools: tuple[DeclaredTool, ...]
    foreign: tuple[ForeignText, ...]


def undo(connection: Connection, session: str, by: str | None = None) -> UndoneTurn | None:
    """Removes the newest ended turn since the last `/new` from the history; None if there is none, or a turn runs, or
    somebody else began it than `by`, the id of a sender (None: no matter who began it)."""
    turn = _last_turn(connection, session, by)
    if turn is None or connection.execute(_running, {"session": session}).first() is not None:
        return None
    connection.execute(_undo, {"turn": turn.number})
    return UndoneTurn(turn.id, tuple(message.text for message in _messages_of(connection, turn.id)))


def retry(connection: Connection, command_id: int, by: str | None = None, of: str = "") -> bool:
    """Undoes the last turn; the command becomes a message with all that people had written in it. False if there is no
    such turn, people had written nothing in it, or a turn runs. `by`: see `undo`; `of`: only the turn with this id."""
    row = connection.execute(_command, {"row": command_id}).first()
    turn = None if row is None else _last_turn(connection, row.session, by)
    messages = [] if turn is None or of not in ("", turn.id) else _messages_of(connection, turn.id)
    if row is None or turn is None or not messages:
        return False
    connection.execute(_undo, {"turn": turn.number})
    attachments = tuple(dict.fromkeys(each for message in messages for each in message.attachments))
    values = {
        "of_row": command_id,
        "new_run": row.run or uuid4().hex,
        "new_text": _joined(messages),
        "new_attachments": attachments_to_json(attachments),
        "new_tools": tools_to_json([tool for message in messages for tool in message.tools]),
        "new_foreign": foreign_to_json([text for message in messages for text in message.foreign]),
        "new_level": min(row.level, level_of(turn)),
    }
    connection.execute(_become_message, values)
    use_media(connection, command_id, attachments)
    return True


def who_began_last_task(connection: Connection, session: str) -> Sender | None:
    """Who began the turn that `undo` would remove."""
    turn = connection.execute(_last, {"session": session}).first()
    return None if turn is None else sender_from_json(turn.principal)


def who_began(connection: Connection, session: str) -> Sender | None:
    """Who began the conversation since the last `/new`."""
    turn = connection.execute(_first, {"session": session}).first()
    return None if turn is None else sender_from_json(turn.principal)


def _last_turn(connection: Connection, session: str, by: str | None) -> AnyRow | None:
    turn = connection.execute(_last, {"session": session}).first()
    return turn if turn is None or by is None or turn.principal["id"] == clean(by) else None


def _messages_of(connection: Connection, turn_id: str) -> list[_Message]:
    """People's messages in the turn, with their edits and without deleted ones."""
    messages: dict[str | int, _Message] = {}
    for row in connection.execute(_read_messages, {"turn_id": turn_id}):
        key = row.id if row.message_id is None else row.message_id
        if row.kind == "withdrawn":
            messages.pop(key, None)
        else:
            messages[key] = _message_from(row, messages.get(key))
    return list(messages.values())


def _message_from(row: AnyRow, before: _Message | None) -> _Message:
    if before is not None:
        return replace(before, sender_id=row.sender_id, sender=row.sender_name, text=row.text)
    attachments, tools = attachments_from_json(row.attachments), tools_from_json(row.tools)
    return _Message(row.sender_id, row.sender_name, row.text, attachments, tools, foreign_from_json(row.foreign))


def _joined(messages: Sequence[_Message]) -> str:
    """One text. Messages of several people are a line each, with the sender and a quoted text, so that no text can look
    like a line of somebody else."""
    several = len({message.sender_id for message in messages}) > 1
    if not several:
        return "\n".join(message.text for message in messages if message.text)
    lines = (
        f"{inline(each.sender)} ({inline(each.sender_id)}): {_quoted(each.text)}" for each in messages if each.text
    )
    return "\n".join(lines)


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)
