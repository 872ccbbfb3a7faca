"""Deletion of what one person has written in conversations with others, and of what is kept about a person elsewhere.

The person's messages become rows without text, so that the log stays readable for the others.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, and_, case, delete, func, insert, select, update

from agent.log import (
    ApprovalDecided,
    Compacted,
    Ended,
    Entry,
    ForeignText,
    MessagesRead,
    ModelAnswered,
    Notice,
    UserMessage,
    dump,
)
from agent.mcp.account import person_hash
from gateway.store import logs
from gateway.store.conversation_deletion import (
    DeletedRows,
    delete_descendants,
    forget_audit,
    forget_uses,
    upto_of,
)
from gateway.store.encoding import foreign_from_json, foreign_to_json
from gateway.store.inbox import MAX_ROW_ID
from gateway.store.records import DeletionRequest
from gateway.store.schema import (
    AnyRow,
    audit,
    inbox,
    is_running,
    is_waiting,
    login_links,
    mcp_accounts,
    mcp_sign_ins,
    media_uses,
    message_counts,
    notes,
    outbox,
    pairs,
    reservations,
    schedules,
    sessions,
    strangers,
    turn_log,
    turns,
    usage,
    web_sessions,
    work,
)

DELETED_TEXT = "(This message was deleted by its author.)"
DELETED_NOTICE = "(This message was deleted together with one that it quoted.)"
DELETED_SUMMARY = "An earlier summary of this conversation was deleted together with messages that it covered."
WITHDRAWN = "deleted"

MIN_QUOTE = 12
"""Characters of a deleted text that are looked for in other messages' quotes."""

_no_content: dict[str, Any] = {
    "text": "",
    "note": "",
    "files": [],
    "attachments": [],
    "tools": [],
    "foreign": None,
    "sender_id": "",
    "sender_name": "",
    "sender_handle": None,
    "album": None,
    "opening": None,
    "ready": True,
}


# A person in a group


def delete_person_in(
    connection: Connection, deleted: DeletedRows, session: str, wanted: DeletionRequest, today: datetime
) -> None:
    """The person's messages lose their content, and the turns that they began lose everything but their messages."""
    sender = wanted.person.partition(":")[2]
    written = and_(inbox.c.session == session, inbox.c.sender_id == sender, inbox.c.id < upto_of(wanted))
    rows = connection.execute(select(inbox.c.id, inbox.c.turn, inbox.c.text, inbox.c.sender_name).where(written)).all()
    own_rows = frozenset(row.id for row in rows)
    forgotten = _Forgotten(
        own_rows, frozenset(row.sender_name for row in rows if row.sender_name), _snippets(row.text for row in rows)
    )
    later = connection.execute(
        select(inbox.c.turn).where(inbox.c.session == session, inbox.c.id >= upto_of(wanted), inbox.c.turn.is_not(None))
    ).scalars()
    kept = frozenset(later)
    first = MAX_ROW_ID
    for turn in connection.execute(
        select(turns.c.number, turns.c.id, turns.c.principal).where(turns.c.session == session)
    ).all():
        is_own = turn.principal["id"] == sender and turn.id not in kept
        if is_own:
            _delete_answers(connection, deleted, turn)
        if _forget_in_log(connection, deleted, turn.number, forgotten, is_own=is_own):
            first = min(first, turn.number)
    _forget_summaries(connection, deleted, session, first)
    _forget_quotes(connection, session, forgotten)
    forget_uses(connection, deleted, media_uses.c.inbox.in_(own_rows))
    connection.execute(
        update(inbox)
        .where(inbox.c.id.in_(own_rows), is_waiting, inbox.c.kind != "command")
        .values(state="withdrawn", reason=WITHDRAWN)
    )
    connection.execute(update(inbox).where(inbox.c.id.in_(own_rows)).values(**_no_content))
    connection.execute(update(sessions).where(sessions.c.key == session).values(title=None))
    for table in (schedules, notes):
        connection.execute(delete(table).where(table.c.session == session, table.c.sender_id == sender))
    _forget_person_costs(connection, wanted.person, today, session)
    forget_audit(connection, and_(audit.c.session == session, audit.c.actor == wanted.person))
    deleted.sessions.add(session)
    deleted.count(messages=len(own_rows))


@dataclass(frozen=True, slots=True)
class _Forgotten:
    """A person's messages: their `rows`, the person's `names`, and the beginnings of the texts."""

    rows: frozenset[int]
    names: frozenset[str]
    snippets: tuple[str, ...]

    def is_quoted_in(self, note: str) -> bool:
        return any(snippet in note for snippet in self.snippets) or any(name in note for name in self.names)

    def without(self, foreign: Iterable[ForeignText]) -> tuple[ForeignText, ...]:
        """The same, without what quotes the person. That there was text from outside stays known."""
        return tuple(
            ForeignText(DELETED_TEXT) if self.is_quoted_in(f"{each.source}\n{each.text}") else each for each in foreign
        )


def _snippets(texts: Iterable[str]) -> tuple[str, ...]:
    return tuple({text[:MIN_QUOTE] for text in texts if text.strip()})


def _delete_answers(connection: Connection, deleted: DeletedRows, turn: AnyRow) -> None:
    """The turn's answers, calls and results; it is no longer part of the history."""
    children = select(work.c.child).where(work.c.turn == turn.id, work.c.child.is_not(None))
    delete_descendants(connection, deleted, children)
    connection.execute(delete(work).where(work.c.turn == turn.id))
    connection.execute(delete(outbox).where(outbox.c.reply_id == turn.id))
    forget_uses(connection, deleted, media_uses.c.turn == turn.number)
    connection.execute(
        update(turns)
        .where(turns.c.number == turn.number)
        .values(
            state=case((is_running, "stopped"), else_=turns.c.state),
            epoch=turns.c.epoch + 1,
            ended_at=func.coalesce(turns.c.ended_at, turns.c.started_at),
            deadline=None,
            undone=True,
            delivered=True,
            principal={"id": "", "name": "", "handle": None},
            reply_to=None,
            draft=None,
        )
    )
    deleted.count(turns=1)


def _forget_in_log(
    connection: Connection, deleted: DeletedRows, number: int, forgotten: _Forgotten, *, is_own: bool
) -> bool:
    """Removes the messages from the turn's log; whether there were any. Of a turn that the person began only the
    messages of others stay."""
    entries = logs.read(connection, number)
    kept = [entry for entry in entries if isinstance(entry, MessagesRead | Ended)] if is_own else list(entries)
    changed = [_without(entry, forgotten) for entry in kept]
    if is_own and not (changed and isinstance(changed[-1], Ended)):
        changed.append(Ended("stopped", WITHDRAWN))
    has_read = any(
        message.id in forgotten.rows
        for entry in entries
        if isinstance(entry, MessagesRead)
        for message in entry.messages
    )
    if has_read and not is_own:
        deleted.count(quoting=sum(isinstance(entry, ModelAnswered) for entry in entries))
    if changed != list(entries):
        at = (None,) * len(changed) if is_own else logs.times(connection, number)
        connection.execute(delete(turn_log).where(turn_log.c.turn == number))
        numbered = enumerate(zip(changed, at, strict=True), 1)
        lines = [{"turn": number, "n": n, "entry": dump(entry), "at": time} for n, (entry, time) in numbered]
        if lines:
            connection.execute(insert(turn_log), lines)
    return has_read


def _without(entry: Entry, forgotten: _Forgotten) -> Entry:
    match entry:
        case MessagesRead(messages=messages):
            return replace(entry, messages=tuple(_emptied(message, forgotten) for message in messages))
        case Notice(text=text) if forgotten.is_quoted_in(text):
            return replace(entry, text=DELETED_NOTICE)
        case ApprovalDecided(by=by) if by in forgotten.names:
            return replace(entry, by="", reason="")
        case _:
            return entry


def _emptied(message: UserMessage, forgotten: _Forgotten) -> UserMessage:
    if message.id in forgotten.rows:
        return UserMessage(message.id, "", DELETED_TEXT, in_group=message.in_group, source=message.source)
    note = "" if forgotten.is_quoted_in(message.note) else message.note
    return replace(message, note=note, foreign=forgotten.without(message.foreign))


def _forget_summaries(connection: Connection, deleted: DeletedRows, session: str, first: int) -> None:
    """Summaries written since the person's first message may repeat what they wrote; so may a note that something was
    left out, which an operator's context manager writes, or into which ours puts earlier summaries."""
    since = select(turns.c.number).where(turns.c.session == session, turns.c.number >= first)
    for number in connection.execute(since).scalars().all():
        entries = logs.read(connection, number)
        for n, entry in enumerate(entries, 1):
            if isinstance(entry, Compacted) and entry.summary != DELETED_SUMMARY:
                marks = (DELETED_TEXT,) if entry.foreign else ()
                emptied = replace(entry, summary=DELETED_SUMMARY, left_out=True, foreign=marks)
                connection.execute(
                    update(turn_log).where(turn_log.c.turn == number, turn_log.c.n == n).values(entry=dump(emptied))
                )
                deleted.count(summaries=1)


def _forget_quotes(connection: Connection, session: str, forgotten: _Forgotten) -> None:
    """Notes and text from outside, in other people's messages, that quote the person."""
    noted = select(inbox.c.id, inbox.c.note).where(inbox.c.session == session, inbox.c.note != "")
    quoting = [row.id for row in connection.execute(noted) if forgotten.is_quoted_in(row.note)]
    connection.execute(update(inbox).where(inbox.c.id.in_(quoting)).values(note=""))
    from_outside = select(inbox.c.id, inbox.c.foreign).where(inbox.c.session == session, inbox.c.foreign.is_not(None))
    for row in connection.execute(from_outside).all():
        foreign = foreign_from_json(row.foreign)
        if (kept := forgotten.without(foreign)) != foreign:
            connection.execute(update(inbox).where(inbox.c.id == row.id).values(foreign=foreign_to_json(kept)))


def _forget_person_costs(connection: Connection, person: str, today: datetime, session: str | None = None) -> None:
    theirs = usage.c.person == person if session is None else and_(usage.c.person == person, usage.c.session == session)
    connection.execute(update(usage).where(theirs, usage.c.at < today).values(person=""))
    # Without a session the person is taken out once the day is over.
    connection.execute(update(usage).where(theirs).values(session=""))


def delete_person(connection: Connection, deleted: DeletedRows, person: str, today: datetime) -> None:
    """What is kept about a person outside conversations."""
    channel, _, sender = person.partition(":")
    connection.execute(delete(strangers).where(strangers.c.channel == channel, strangers.c.sender_id == sender))
    removed = connection.execute(delete(pairs).where(pairs.c.channel == channel, pairs.c.sender_id == sender)).rowcount
    for table in (web_sessions, login_links, message_counts, schedules, notes):
        connection.execute(delete(table).where(table.c.channel == channel, table.c.sender_id == sender))
    for table in (reservations, mcp_sign_ins):
        connection.execute(delete(table).where(table.c.person == person))
    connection.execute(delete(mcp_accounts).where(mcp_accounts.c.person == person_hash(person)))
    _forget_person_costs(connection, person, today)
    forget_audit(connection, audit.c.actor == person)
    deleted.count(accesses=removed)
