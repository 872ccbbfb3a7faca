"""Export: the messages and turns of conversations, or of one person in them, and what there is to choose from."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime

from sqlalchemy import Connection, and_, func, or_, select

from agent.log import ApprovalRequested, CallStarted, Entry, MessagesRead, Resumed, Spent
from agent.media import Attachment
from channels.address import Address
from gateway.store import notes, schedules
from gateway.store.encoding import address_from_json, attachments_from_json, attachments_of
from gateway.store.notes import StoredNote
from gateway.store.reading import turns_from
from gateway.store.records import RowState, Turn
from gateway.store.schedules import Schedule
from gateway.store.schema import inbox, media, media_uses, sessions, turn_log, turns


@dataclass(frozen=True, slots=True)
class ExportedMessage:
    """`written` is the text as the person wrote it, `note` what the channel added."""

    id: int
    at: datetime
    sender_id: str
    sender: str
    written: str
    note: str
    attachments: tuple[Attachment, ...]
    state: RowState
    turn: str | None


@dataclass(frozen=True, slots=True)
class ExportedConversation:
    session: str
    address: Address
    title: str
    messages: tuple[ExportedMessage, ...]
    turns: tuple[Turn, ...]
    schedules: tuple[Schedule, ...]
    notes: tuple[StoredNote, ...]

    @property
    def attachments(self) -> tuple[Attachment, ...]:
        """All files in it, each once."""
        received = (file for message in self.messages for file in message.attachments)
        made = (file for turn in self.turns for entry in turn.entries for file in attachments_of(entry))
        return tuple({file.hash: file for file in (*received, *made)}.values())


@dataclass(frozen=True, slots=True)
class ListedConversation:
    """A conversation as `interject data list` shows it. `size` is that of its files, in bytes."""

    session: str
    address: Address
    title: str
    people: tuple[tuple[str, str], ...]
    messages: int
    files: int
    size: int
    first_at: datetime
    last_at: datetime


def conversation(connection: Connection, session: str, person: str | None = None) -> ExportedConversation | None:
    """The conversation with its delegated tasks; with `person` ("channel:user id"), in a group and on another channel,
    only what they wrote and the turns that they began. None: there is no such conversation."""
    row = connection.execute(select(sessions).where(sessions.c.key == session)).first()
    if row is None:
        return None
    address = address_from_json(row.address)
    whole = ExportedConversation(
        session,
        address,
        row.title or "",
        _messages(connection, session),
        _turns(connection, session),
        schedules.of_session(connection, session),
        notes.of_session(connection, session),
    )
    channel, _, sender = (person or "").partition(":")
    if person is None or (address.kind == "direct" and address.channel == channel):
        return whole
    return _of_person(whole, sender)


def listing(connection: Connection) -> tuple[ListedConversation, ...]:
    """All conversations, the most recent first."""
    people: defaultdict[str, dict[str, str]] = defaultdict(dict)
    messages: defaultdict[str, int] = defaultdict(int)
    senders = (
        select(inbox.c.session, inbox.c.sender_id, func.max(inbox.c.sender_name), func.count())
        .where(inbox.c.source == "person")
        .group_by(inbox.c.session, inbox.c.sender_id)
    )
    for session, sender, name, count in connection.execute(senders):
        messages[session] += count
        if sender:
            people[session][sender] = name
    used = (
        select(func.coalesce(sessions.c.parent, sessions.c.key).label("session"), media.c.hash, media.c.size)
        .select_from(media_uses)
        .join(media, media.c.hash == media_uses.c.hash)
        .outerjoin(inbox, inbox.c.id == media_uses.c.inbox)
        .outerjoin(turns, turns.c.number == media_uses.c.turn)
        .join(sessions, or_(sessions.c.key == inbox.c.session, sessions.c.key == turns.c.session))
        .distinct()
        .subquery()
    )
    files = {
        row[0]: (row[1], row[2])
        for row in connection.execute(
            select(used.c.session, func.count(), func.sum(used.c.size)).group_by(used.c.session)
        )
    }
    found = select(sessions).where(sessions.c.parent.is_(None)).order_by(sessions.c.last_at.desc())
    return tuple(
        ListedConversation(
            row.key,
            address_from_json(row.address),
            row.title or "",
            tuple(people[row.key].items()),
            messages[row.key],
            *files.get(row.key, (0, 0)),
            row.created_at,
            row.last_at,
        )
        for row in connection.execute(found)
    )


def _messages(connection: Connection, session: str) -> tuple[ExportedMessage, ...]:
    rows = connection.execute(
        select(inbox).where(inbox.c.session == session, inbox.c.source != "work").order_by(inbox.c.id)
    )
    return tuple(
        ExportedMessage(
            row.id,
            row.sent_at,
            row.sender_id,
            row.sender_name,
            row.text if row.command is None else f"/{row.command} {row.text}".rstrip(),
            row.note,
            attachments_from_json(row.attachments),
            row.state,
            row.turn,
        )
        for row in rows
    )


def _turns(connection: Connection, session: str) -> tuple[Turn, ...]:
    within = or_(sessions.c.key == session, sessions.c.parent == session)
    found = (
        select(turns, turn_log.c.entry)
        .select_from(
            turns.join(turn_log, turn_log.c.turn == turns.c.number).join(
                sessions, and_(sessions.c.key == turns.c.session, within)
            )
        )
        .order_by(turns.c.number, turn_log.c.n)
    )
    return tuple(
        replace(turn, entries=tuple(_readable(turn.entries))) for turn in turns_from(connection.execute(found))
    )


def _readable(entries: Iterable[Entry]) -> Iterable[Entry]:
    """Without bookkeeping, and without secrets that hooks have put into the arguments of calls."""
    for entry in entries:
        match entry:
            case Spent() | Resumed() | CallStarted():
                pass
            case ApprovalRequested():
                yield replace(entry, arguments=entry.shown_arguments, masked="")
            case _:
                yield entry


def _of_person(whole: ExportedConversation, sender: str) -> ExportedConversation:
    messages = tuple(message for message in whole.messages if message.sender_id == sender)
    own = frozenset(message.id for message in messages)
    began = (turn for turn in whole.turns if turn.principal.id == sender)
    return replace(
        whole,
        messages=messages,
        schedules=tuple(each for each in whole.schedules if each.owner.id == sender),
        notes=tuple(each for each in whole.notes if each.author.id == sender),
        turns=tuple(replace(turn, entries=tuple(_only(own, entry) for entry in turn.entries)) for turn in began),
    )


def _only(own: frozenset[int], entry: Entry) -> Entry:
    """The entry without other people's messages."""
    if not isinstance(entry, MessagesRead):
        return entry
    return replace(entry, messages=tuple(message for message in entry.messages if message.id in own))
