"""Queries that may be large or slow: turns with their logs, histories, lists for screens, and what a start finds."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from itertools import groupby

from sqlalchemy import BindParameter, Connection, Integer, and_, bindparam, func, or_, select

from agent.log import TurnOutcome, load
from channels.address import Address, Sender
from gateway.store.encoding import address_from_json, attachments_from_json
from gateway.store.records import Command, InboxRow, PastTurn, StoredConversation, Turn
from gateway.store.schema import (
    AnyRow,
    inbox,
    is_command,
    is_ended,
    is_message,
    is_running,
    is_turn,
    sessions,
    turn_log,
    turns,
)
from gateway.store.sessions import current_generation
from gateway.store.turn_rows import turn_from

EncodedTurn = tuple[str, TurnOutcome, list[str]]

MAX_TITLE_LENGTH = 80

MAX_EARLIER = 200
"""Earlier conversations in a list."""

HIDDEN_COMMANDS = ("stop", "new", "answer")
"""Commands that screens do not list: their effect is shown."""

_of_session: BindParameter[str] = bindparam("session")
_of_generation = func.coalesce(bindparam("of_generation", type_=Integer), current_generation)
"""The generation that is asked for; without one, the current one."""

_with_log = turns.join(turn_log, turn_log.c.turn == turns.c.number)

_history = (
    select(turns.c.id, turns.c.state, turn_log.c.entry)
    .select_from(_with_log)
    .where(turns.c.session == _of_session, turns.c.generation == current_generation, is_turn, is_ended, ~turns.c.undone)
    .order_by(turns.c.number, turn_log.c.n)
)

_turns_with_logs = select(turns, turn_log.c.entry).select_from(_with_log)
_one_turn = _turns_with_logs.where(turns.c.id == bindparam("turn_id")).order_by(turn_log.c.n)
_several_turns = _turns_with_logs.where(turns.c.id.in_(bindparam("ids", expanding=True))).order_by(
    turns.c.number, turn_log.c.n
)
_turns_of = _turns_with_logs.where(turns.c.session == _of_session, turns.c.generation == _of_generation).order_by(
    turns.c.number, turn_log.c.n
)

is_listed = and_(
    inbox.c.source != "work",
    or_(
        and_(
            is_message,
            inbox.c.kind != "withdrawn",
            # A message that decided something was answered by the turn that it released.
            or_(inbox.c.state != "answered", inbox.c.turn.is_not(None)),
        ),
        and_(is_command, inbox.c.command.not_in(HIDDEN_COMMANDS)),
    ),
)
"""Whether screens list the inbox row."""

_rows = (
    select(inbox)
    .where(inbox.c.session == _of_session, inbox.c.generation == _of_generation, is_listed)
    .order_by(inbox.c.id)
)

_newest_of_senders = (
    select(func.max(inbox.c.id))
    .where(inbox.c.channel == bindparam("channel"), inbox.c.state != "refused", inbox.c.source != "work")
    .group_by(inbox.c.session, inbox.c.sender_id)
)
_senders = select(inbox.c.session, inbox.c.address, inbox.c.sender_id, inbox.c.sender_handle).where(
    inbox.c.id.in_(_newest_of_senders)
)

is_said = and_(inbox.c.kind == "new", inbox.c.source == "person", inbox.c.state != "refused")
_title = (
    select(func.substr(inbox.c.text, 1, MAX_TITLE_LENGTH))
    .where(inbox.c.session == sessions.c.key, inbox.c.generation == sessions.c.generation, is_said)
    .order_by(inbox.c.id)
    .limit(1)
    .scalar_subquery()
)
shown_title = func.coalesce(func.substr(sessions.c.title, 1, MAX_TITLE_LENGTH), _title)
"""A session's title, or else the beginning of its first message."""

is_running_conversation = (
    select(turns.c.number).where(turns.c.session == sessions.c.key, is_turn, is_running, ~turns.c.parked).exists()
)

_earlier_parts = (
    select(
        inbox.c.session,
        inbox.c.generation,
        func.min(inbox.c.id).label("first"),
        func.max(inbox.c.received_at).label("last_at"),
    )
    .join(sessions, sessions.c.key == inbox.c.session)
    .where(
        sessions.c.channel == bindparam("channel"),
        sessions.c.parent.is_(None),
        inbox.c.generation.between(0, sessions.c.generation - 1),
        is_said,
    )
    .group_by(inbox.c.session, inbox.c.generation)
    .subquery()
)
_earlier = (
    select(
        _earlier_parts.c.session,
        inbox.c.address,
        func.substr(inbox.c.text, 1, MAX_TITLE_LENGTH).label("title"),
        _earlier_parts.c.last_at,
        _earlier_parts.c.generation,
    )
    .join(inbox, inbox.c.id == _earlier_parts.c.first)
    .order_by(_earlier_parts.c.last_at.desc())
    .limit(MAX_EARLIER)
)


def turn(connection: Connection, turn_id: str) -> Turn:
    """Any turn, whatever its state. Raises `LookupError`."""
    for found in turns_from(connection.execute(_one_turn, {"turn_id": turn_id})):
        return found
    raise LookupError(f"there is no turn {turn_id}")


def turns_by_id(connection: Connection, ids: Collection[str]) -> tuple[Turn, ...]:
    """Those of the turns that there are, whatever their state, in the order in which they began."""
    return tuple(turns_from(connection.execute(_several_turns, {"ids": list(ids)})))


def turns_of(connection: Connection, session: str, generation: int | None = None) -> tuple[Turn, ...]:
    """All turns of that generation, or else since the last `/new`, running ones and answered commands included, oldest
    first."""
    return tuple(turns_from(connection.execute(_turns_of, {"session": session, "of_generation": generation})))


def history(connection: Connection, session: str) -> list[EncodedTurn]:
    """The past turns with their logs as they are stored: to decode them takes longer than to find them."""
    rows = connection.execute(_history, {"session": session}).all()
    return [
        (turn_id, outcome, [line for _, _, line in lines])
        for (turn_id, outcome), lines in groupby(rows, key=lambda row: (row[0], row[1]))
    ]


def past_turns(encoded: Iterable[EncodedTurn]) -> tuple[PastTurn, ...]:
    return tuple(PastTurn(turn_id, outcome, load(lines)) for turn_id, outcome, lines in encoded)


def rows(connection: Connection, session: str, generation: int | None = None) -> tuple[InboxRow, ...]:
    """The messages of that generation, or else since the last `/new`, oldest first, without those that only changed
    other messages."""
    found = connection.execute(_rows, {"session": session, "of_generation": generation})
    return tuple(map(inbox_row_from, found))


def direct_chats(connection: Connection, channel: str, people: Collection[str]) -> tuple[tuple[str, Address], ...]:
    """The sessions and addresses of direct chats in which these people (ids in lower case) have written."""
    chats: dict[str, Address] = {}
    for row in connection.execute(_senders, {"channel": channel}):
        is_chat = row.address["kind"] == "direct" and row.address["channel"] == channel
        if is_chat and row.sender_id.lower() in people:
            chats[row.session] = address_from_json(row.address)
    return tuple(chats.items())


def earlier(connection: Connection, channel: str) -> tuple[StoredConversation, ...]:
    """What `/new` ended: the newest `MAX_EARLIER` generations before the current ones, the most recent first."""
    return tuple(
        StoredConversation(session, address_from_json(address), " ".join(title.split()), last_at, False, generation)
        for session, address, title, last_at, generation in connection.execute(_earlier, {"channel": channel})
    )


def _id(row: AnyRow) -> int:
    return int(row.id)


def _number(row: AnyRow) -> int:
    return int(row.number)


def turns_from(found: Iterable[AnyRow]) -> Iterable[Turn]:
    for _, lines in groupby(found, key=_number):
        same = list(lines)
        yield turn_from(same[0], load(row.entry for row in same))


def _sender_from(row: AnyRow) -> Sender:
    return Sender(row.sender_id, row.sender_name, row.sender_handle, level=row.level)


def _command_from(row: AnyRow) -> Command:
    return Command(
        id=row.id,
        session=row.session,
        address=address_from_json(row.address),
        sender=_sender_from(row),
        message_id=row.message_id,
        name=row.command or "",
        arguments=row.text,
    )


def as_written(row: AnyRow) -> str:
    """The message or the command as its sender wrote it."""
    command = "wrap" if row.source == "wrap" else row.command
    return row.text if command is None else f"/{command} {row.text}".rstrip()


def inbox_row_from(row: AnyRow) -> InboxRow:
    return InboxRow(
        id=row.id,
        message_id=row.message_id,
        sender=_sender_from(row),
        text=as_written(row),
        attachments=attachments_from_json(row.attachments),
        state=row.state,
        turn=row.turn,
        step=row.step,
        reason=row.reason,
        at=row.sent_at,
    )
