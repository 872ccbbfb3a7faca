"""What is told to those who watch conversations: messages as they are now, and what turns have read."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, bindparam, select

from agent.log import TurnOutcome
from agent.media import Attachment
from channels.address import Address, Sender
from channels.message import MessageState
from gateway.store.encoding import address_from_json, attachments_from_json
from gateway.store.reading import HIDDEN_COMMANDS, as_written, is_listed
from gateway.store.records import RowState
from gateway.store.schedules import schedule_of
from gateway.store.schema import AnyRow, inbox, is_command, sessions, turns
from gateway.store.sessions import current_generation


@dataclass(frozen=True, slots=True)
class WatchedMessage:
    """A person's message. `turn` read it at `step`, or, for a command (`is_command`), is its answer. `schedule` is the
    id of the scheduled task that was due."""

    id: int
    session: str
    message_id: str | None
    sender: Sender
    text: str
    attachments: tuple[Attachment, ...]
    state: MessageState
    reason: str
    run: str | None
    turn: str | None
    step: int | None
    is_command: bool
    schedule: str | None
    sent_at: datetime


@dataclass(frozen=True, slots=True)
class WatchedConversation:
    """`title` is "" if it has none of its own."""

    address: Address
    title: str
    is_empty: bool


_messages = select(inbox, turns.c.state.label("turn_state"), turns.c.reason.label("turn_reason")).select_from(
    inbox.outerjoin(turns, turns.c.id == inbox.c.turn)
)
_some = _messages.where(inbox.c.id.in_(bindparam("ids", expanding=True)), is_listed).order_by(inbox.c.id)
_hidden = _messages.where(
    inbox.c.id.in_(bindparam("ids", expanding=True)), is_command, inbox.c.command.in_(HIDDEN_COMMANDS)
).order_by(inbox.c.id)
_read_by = _messages.where(inbox.c.turn == bindparam("of_turn"), is_listed).order_by(inbox.c.id)
_ended_since = (
    select(turns.c.id, turns.c.ended_at)
    .join(sessions, sessions.c.key == turns.c.session)
    .where(turns.c.ended_at > bindparam("time"), sessions.c.parent.is_(None))
    .order_by(turns.c.ended_at)
    .limit(bindparam("limit"))
)
_conversation = select(sessions.c.address, sessions.c.title).where(
    sessions.c.key == bindparam("session"), sessions.c.parent.is_(None)
)
_any_of = (
    select(inbox.c.id)
    .where(inbox.c.session == bindparam("session"), inbox.c.generation == current_generation, is_listed)
    .limit(1)
)


def messages(connection: Connection, ids: Collection[int]) -> tuple[WatchedMessage, ...]:
    """Those of the messages with these ids that screens list."""
    return tuple(map(_message_from, connection.execute(_some, {"ids": list(ids)})))


def hidden_commands(connection: Connection, ids: Collection[int]) -> tuple[WatchedMessage, ...]:
    """Those of the messages with these ids that are commands of which screens list the answers only."""
    return tuple(map(_message_from, connection.execute(_hidden, {"ids": list(ids)})))


def read_by(connection: Connection, turn: str) -> tuple[WatchedMessage, ...]:
    """The messages that the turn has read."""
    return tuple(map(_message_from, connection.execute(_read_by, {"of_turn": turn})))


def conversation(connection: Connection, session: str) -> WatchedConversation | None:
    """The conversation of this session; None if there is none."""
    row = connection.execute(_conversation, {"session": session}).first()
    if row is None:
        return None
    first = connection.execute(_any_of, {"session": session}).first()
    return WatchedConversation(address_from_json(row.address), row.title or "", first is None)


def ended_since(connection: Connection, time: datetime, limit: int) -> tuple[tuple[str, datetime], ...]:
    """The turns in conversations that ended after then, with the time of their ends, in this order."""
    found = connection.execute(_ended_since, {"time": time, "limit": limit})
    return tuple((row.id, row.ended_at) for row in found)


def _message_from(row: AnyRow) -> WatchedMessage:
    has_ended = row.state == "consumed" and row.turn_state != "running"
    return WatchedMessage(
        id=row.id,
        session=row.session,
        message_id=row.message_id,
        sender=Sender(row.sender_id, row.sender_name, row.sender_handle, level=row.level),
        text=as_written(row),
        attachments=tuple(file for file in attachments_from_json(row.attachments) if file.taken_from is None),
        state=_state(row.state, row.turn_state),
        reason=row.turn_reason if has_ended else row.reason,
        run=row.run,
        turn=row.turn,
        step=row.step,
        is_command=row.kind == "command",
        schedule=schedule_of(row.event_id),
        sent_at=row.sent_at,
    )


def _state(state: RowState, turn: TurnOutcome | str | None) -> MessageState:
    match state, turn:
        case "consumed", "completed":
            return "answered"
        case "consumed", "failed" | "stopped" as outcome:
            return "failed" if outcome == "failed" else "stopped"
        case "consumed", _:
            return "read"
        case "answered" | "waiting" | "withdrawn" | "refused" as plain, _:
            return plain
        case _:
            raise ValueError(f"{state} is no state of a message")
