"""Turns outside the conversation: answers to commands, notices of the gateway, and side questions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from uuid import NAMESPACE_URL, uuid4, uuid5

from sqlalchemy import Connection, bindparam, select, update

from agent.log import Ended, Entry, MessagesRead, Notice, UserMessage
from channels.address import Address, Sender
from gateway.store import logs, sessions
from gateway.store.encoding import address_from_json, foreign_from_json
from gateway.store.inbox import queue_if_lower
from gateway.store.records import Turn, TurnKind
from gateway.store.schema import AnyRow, inbox, is_command, is_running, is_side_question, is_turn, turns
from gateway.store.sessions import current_generation
from gateway.store.turn_rows import insert_ended, insert_running, new_turn, with_settings
from gateway.store.turns import resume

GATEWAY = Sender(id="interject", name="Interject")
"""The principal of the gateway's own notices."""

SENT_AS_TEXT = "sent as text"

_command = select(inbox).where(inbox.c.id == bindparam("row"), is_command)
_answer_command = (
    update(inbox)
    .where(inbox.c.id == bindparam("row"))
    .values(state="answered", turn=bindparam("by"), reason="a command")
)
_mark_sent = update(inbox).where(inbox.c.id == bindparam("row")).values(reason=SENT_AS_TEXT)
_become_message = (
    update(inbox)
    .where(inbox.c.id == bindparam("of_row"))
    .values(
        kind="new", command=None, text=bindparam("new_text"), message_id=None, busy="steer", run=bindparam("new_run")
    )
)
_newest_turn = (
    select(turns.c.id, turns.c.state)
    .where(turns.c.session == bindparam("session"), turns.c.generation == current_generation, is_turn, ~turns.c.undone)
    .order_by(turns.c.number.desc())
    .limit(1)
)
_side_question = select(turns).where(turns.c.id == bindparam("turn_id"), is_side_question, is_running)


def answer(connection: Connection, worker: str, command_id: int, notice: Notice) -> str:
    """Answers a command, once; the id of the reply. Raises `LookupError` if the row is no command."""
    row = connection.execute(_command, {"row": command_id}).first()
    if row is None:
        raise LookupError(f"inbox row {command_id} is no command")
    if row.turn is not None:
        return str(row.turn)
    turn = _turn_for(row, "command")
    _write_notice(connection, worker, turn, notice)
    connection.execute(_answer_command, {"row": command_id, "by": turn.id})
    return turn.id


def send_as_text(connection: Connection, command_id: int, unknown: int) -> bool:
    """A pressed button becomes a message with the words of the command `unknown`, once; False if there is none, or it
    is somebody else's."""
    row = connection.execute(_command, {"row": command_id}).first()
    meant = connection.execute(_command, {"row": unknown}).first()
    if row is None or meant is None or row.state != "waiting" or meant.reason == SENT_AS_TEXT:
        return False
    if (meant.session, meant.sender_id) != (row.session, row.sender_id):
        return False
    connection.execute(_mark_sent, {"row": unknown})
    text = f"/{meant.command} {meant.text}".rstrip()
    values = {"of_row": command_id, "new_text": text, "new_run": row.run or uuid4().hex}
    connection.execute(_become_message, values)
    queue_if_lower(connection, row.session, row.level)
    return True


def compact(connection: Connection, worker: str, command_id: int, through: str, entries: Sequence[Entry]) -> str | None:
    """Answers a command by a turn of the conversation whose log is `entries`: a summary of the history up to turn
    `through`, and words for the person. Its id; None if a turn runs, or `through` is not the last turn any more."""
    row = connection.execute(_command, {"row": command_id}).first()
    if row is None or row.state != "waiting":
        return None
    newest = connection.execute(_newest_turn, {"session": row.session}).first()
    if newest is None or newest.id != through or newest.state == "running":
        return None
    turn = _turn_for(row, "turn")
    _write_log(connection, worker, turn, entries)
    connection.execute(_answer_command, {"row": command_id, "by": turn.id})
    return turn.id


def say(
    connection: Connection,
    worker: str,
    session: str,
    address: Address,
    reply_to: str | None,
    notice: Notice,
    key: str,
) -> str | None:
    """A notice of the gateway, at most once per key; the id of the reply, None if the key was used before."""
    sessions.touch(connection, session, address)
    turn = new_turn(uuid5(NAMESPACE_URL, key).hex, session, address, GATEWAY, reply_to, "command")
    return turn.id if _write_notice(connection, worker, turn, notice) else None


def begin_side_question(connection: Connection, worker: str, command_id: int) -> Turn:
    """Answers a command by a side question: a turn, held by this worker, that has read the command's text. It reads no
    other message, is no part of the history and is never claimed.

    Raises `LookupError` if no such command waits.
    """
    row = connection.execute(_command, {"row": command_id}).first()
    if row is None or row.state != "waiting":
        raise LookupError(f"inbox row {command_id} is no command that waits")
    turn = _turn_for(row, "aside")
    number, turn = insert_running(connection, turn, worker)
    is_group = turn.address.kind == "group"
    message = UserMessage(
        row.id,
        row.sender_name,
        row.text,
        (),
        row.note,
        row.message_id,
        is_group,
        sender_id=row.sender_id,
        foreign=foreign_from_json(row.foreign),
    )
    read = MessagesRead(1, (message,))
    logs.write(connection, number, 1, [read])
    connection.execute(_answer_command, {"row": command_id, "by": turn.id})
    return with_settings(connection, replace(turn, entries=(read,)))


def resume_side_question(connection: Connection, worker: str, turn_id: str) -> Turn:
    """Takes over a side question that another worker left. Raises `LookupError` if there is none with this id."""
    left = connection.execute(_side_question, {"turn_id": turn_id}).first()
    if left is None:
        raise LookupError(f"there is no unfinished aside {turn_id}")
    return resume(connection, left, worker)


def _turn_for(command: AnyRow, kind: TurnKind) -> Turn:
    principal = Sender(command.sender_id, command.sender_name, command.sender_handle, level=command.level)
    address = address_from_json(command.address)
    return new_turn(command.run or uuid4().hex, command.session, address, principal, command.message_id, kind)


def _write_notice(connection: Connection, worker: str, turn: Turn, notice: Notice) -> bool:
    """A completed turn that holds the notice only; False if it exists already."""
    return _write_log(connection, worker, turn, [notice])


def _write_log(connection: Connection, worker: str, turn: Turn, entries: Sequence[Entry]) -> bool:
    number = insert_ended(connection, turn, worker)
    if number is not None:
        logs.write(connection, number, 1, [*entries, Ended("completed")])
    return number is not None
