"""Turns taken out of the model's view, and what people had said in them given back; their logs stay as they are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from uuid import uuid4

from sqlalchemy import Connection, bindparam, exists, select, update

from agent.log import DeclaredTool
from agent.media import Attachment
from gateway.store.encoding import attachments_from_json, attachments_to_json, tools_from_json, tools_to_json
from gateway.store.inbox import use_media
from gateway.store.records import Undone
from gateway.store.schema import AnyRow, inbox, is_command, is_ended, is_running, is_turn, is_waiting, sessions, turns

_generation = select(sessions.c.generation).where(sessions.c.key == bindparam("session")).scalar_subquery()
_last = (
    select(turns.c.number, turns.c.id)
    .where(
        turns.c.session == bindparam("session"), turns.c.generation == _generation, is_turn, is_ended, ~turns.c.undone
    )
    .order_by(turns.c.number.desc())
    .limit(1)
)
_runs = select(turns.c.number).where(turns.c.session == bindparam("session"), is_turn, is_running)
_undo = update(turns).where(turns.c.number == bindparam("turn")).values(undone=True)
_heard = (
    select(
        inbox.c.id,
        inbox.c.kind,
        inbox.c.message_id,
        inbox.c.sender_id,
        inbox.c.sender_name,
        inbox.c.text,
        inbox.c.attachments,
        inbox.c.tools,
    )
    .where(inbox.c.turn == bindparam("turn_id"), inbox.c.state == "consumed", inbox.c.source == "person")
    .order_by(inbox.c.id)
)
_unfinished = exists(select(turns.c.number).where(turns.c.session == inbox.c.session, is_turn, is_running))
_command = select(inbox.c.session).where(inbox.c.id == bindparam("row"), is_command, is_waiting, ~_unfinished)
_speak = (
    update(inbox)
    .where(inbox.c.id == bindparam("of_row"))
    .values(
        kind="new",
        command=None,
        run=bindparam("new_run"),
        text=bindparam("words"),
        note="",
        attachments=bindparam("found"),
        tools=bindparam("declared"),
        busy="steer",
        ready=True,
    )
)


@dataclass(frozen=True, slots=True)
class _Message:
    """What somebody had said, as they left it after editing."""

    sender_id: str
    sender: str
    text: str
    attachments: tuple[Attachment, ...]
    tools: tuple[DeclaredTool, ...]


def undo(connection: Connection, session: str) -> Undone | None:
    """Takes the newest turn that has ended out of the history; None if there is none since the session began anew, or
    one runs that knows of it."""
    turn = connection.execute(_last, {"session": session}).first()
    if turn is None or connection.execute(_runs, {"session": session}).first() is not None:
        return None
    connection.execute(_undo, {"turn": turn.number})
    return Undone(turn.id, tuple(message.text for message in _said_in(connection, turn.id)))


def retry(connection: Connection, command_id: int) -> bool:
    """Undoes the last turn; the command becomes a message of all that people had said in it. False: there is no such
    turn, nobody had said anything in it, or one runs."""
    row = connection.execute(_command, {"row": command_id}).first()
    turn = None if row is None else connection.execute(_last, {"session": row.session}).first()
    said = [] if turn is None else _said_in(connection, turn.id)
    if turn is None or not said:
        return False
    connection.execute(_undo, {"turn": turn.number})
    attachments = tuple(dict.fromkeys(each for message in said for each in message.attachments))
    values = {
        "of_row": command_id,
        "new_run": uuid4().hex,
        "words": _in_one(said),
        "found": attachments_to_json(attachments),
        "declared": tools_to_json([tool for message in said for tool in message.tools]),
    }
    connection.execute(_speak, values)
    use_media(connection, command_id, attachments)
    return True


def _said_in(connection: Connection, turn_id: str) -> list[_Message]:
    """What people had said in the turn, with edits made and without what they deleted."""
    said: dict[str | int, _Message] = {}
    for row in connection.execute(_heard, {"turn_id": turn_id}):
        key = row.id if row.message_id is None else row.message_id
        if row.kind == "withdrawn":
            said.pop(key, None)
        else:
            said[key] = _message_from(row, said.get(key))
    return list(said.values())


def _message_from(row: AnyRow, before: _Message | None) -> _Message:
    if before is not None:
        return replace(before, sender_id=row.sender_id, sender=row.sender_name, text=row.text)
    attachments, tools = attachments_from_json(row.attachments), tools_from_json(row.tools)
    return _Message(row.sender_id, row.sender_name, row.text, attachments, tools)


def _in_one(said: Sequence[_Message]) -> str:
    """All of it as one text; of several people, with their names."""
    several = len({message.sender_id for message in said}) > 1
    texts = (f"{message.sender}: {message.text}" if several else message.text for message in said)
    return "\n".join(text for text in texts if text)
