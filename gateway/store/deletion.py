"""Deletion: conversations as a whole, what one person has written, and what is older than the settings allow.

In a group a person's messages become rows without text, so that the log stays readable for the others.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    Connection,
    Select,
    and_,
    bindparam,
    case,
    delete,
    exists,
    func,
    insert,
    or_,
    select,
    update,
)

from agent.log import ApprovalDecided, Compacted, Ended, Entry, MessagesRead, ModelAnswered, Notice, UserMessage, dump
from channels.address import Address
from gateway.store import audit as audit_log
from gateway.store import logs
from gateway.store.encoding import address_from_json
from gateway.store.inbox import MAX_ROW_ID
from gateway.store.records import AuditEvent, DeletionReport, DeletionRequest
from gateway.store.schema import (
    AnyRow,
    audit,
    deletions,
    inbox,
    is_ended,
    is_running,
    is_unfinished_deletion,
    is_waiting,
    media,
    media_uses,
    outbox,
    pairs,
    sessions,
    strangers,
    turn_log,
    turns,
    usage,
    work,
)

DELETED_TEXT = "(This message was deleted by its author.)"
DELETED_NOTICE = "(This message was deleted together with one that it quoted.)"
DELETED_SUMMARY = "An earlier summary of this conversation was deleted together with messages that it covered."
WITHDRAWN = "deleted"

MIN_QUOTE = 12
"""Characters of a deleted text that are looked for in other messages' quotes."""

_request = (
    insert(deletions)
    .values(
        scope=bindparam("scope"),
        session=bindparam("session"),
        person=bindparam("person"),
        upto=bindparam("upto"),
        by=bindparam("by"),
        state="requested",
        folders=bindparam("folders"),
        requested_at=bindparam("now"),
    )
    .returning(deletions.c.id)
)
_unfinished = select(deletions).where(is_unfinished_deletion).order_by(deletions.c.id)
_one = select(deletions).where(deletions.c.id == bindparam("request"))
_set_deleted = (
    update(deletions)
    .where(deletions.c.id == bindparam("request"))
    .values(state="deleted", report=bindparam("new_report"), folders=bindparam("new_folders"))
)
_set_done = (
    update(deletions)
    .where(deletions.c.id.in_(bindparam("requests", expanding=True)))
    .values(state="done", folders=bindparam("no_folders"), done_at=bindparam("now"))
)

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


@dataclass(slots=True)
class _Deleted:
    """What has been deleted so far. `hashes` may be used by nobody any more; `folders` are addresses of conversations
    that are gone."""

    report: DeletionReport = field(default_factory=DeletionReport)
    hashes: set[str] = field(default_factory=set)
    folders: list[dict[str, Any]] = field(default_factory=list)
    sessions: set[str] = field(default_factory=set)

    def count(self, **more: int) -> None:
        self.report = replace(
            self.report, **{name: getattr(self.report, name) + number for name, number in more.items()}
        )


@dataclass(frozen=True, slots=True)
class Deleted:
    """The rows are gone. `hashes` are of media that may be unused now, `sessions` have changed."""

    request: int
    report: DeletionReport
    hashes: frozenset[str]
    sessions: frozenset[str]
    folders: tuple[Address, ...]


# Requests


def request(connection: Connection, wanted: DeletionRequest) -> int:
    """Stores the request, so that it is carried out whatever happens; its id."""
    values: dict[str, Any] = {
        "scope": wanted.scope,
        "session": wanted.session,
        "person": wanted.person,
        "upto": wanted.upto,
        "by": wanted.by,
        "folders": [],
        "now": datetime.now(UTC),
    }
    return int(connection.execute(_request, values).scalar_one())


def unfinished(connection: Connection) -> tuple[tuple[DeletionRequest, bool, tuple[Address, ...]], ...]:
    """The requests that are not done: whether the rows are deleted, and the addresses whose folders are left."""
    return tuple(
        (_request_from(row), row.state == "deleted", tuple(map(address_from_json, row.folders)))
        for row in connection.execute(_unfinished)
    )


def result(connection: Connection, request_id: int) -> tuple[str, DeletionReport | None]:
    """The request's state, and what was deleted."""
    row = connection.execute(_one, {"request": request_id}).one()
    return row.state, None if row.report is None else DeletionReport(**row.report)


def done(connection: Connection, request_ids: Collection[int]) -> None:
    """Nothing is left to remove for these requests."""
    # Deliveries that were in progress have recorded what they sent since.
    connection.execute(delete(outbox).where(outbox.c.reply_id.not_in(select(turns.c.id))))
    values: dict[str, Any] = {"requests": list(request_ids), "no_folders": [], "now": datetime.now(UTC)}
    connection.execute(_set_done, values)


def folders_removed(connection: Connection, request_id: int, number: int) -> None:
    """The request's folders are gone; `number` of them had existed."""
    row = connection.execute(_one, {"request": request_id}).one()
    report = DeletionReport(**row.report)
    report = replace(report, folders=report.folders + number)
    connection.execute(_set_deleted, {"request": request_id, "new_report": asdict(report), "new_folders": []})


def _request_from(row: AnyRow) -> DeletionRequest:
    return DeletionRequest(row.scope, row.session, row.person, row.upto, row.by, row.id)


# What is affected


def sessions_of(connection: Connection, person: str) -> tuple[str, ...]:
    """The conversations in which the person ("channel:user id") has written."""
    channel, _, sender = person.partition(":")
    written = (
        select(inbox.c.session)
        .join(sessions, sessions.c.key == inbox.c.session)
        .where(inbox.c.channel == channel, inbox.c.sender_id == sender, sessions.c.parent.is_(None))
        .distinct()
    )
    return tuple(connection.execute(written).scalars())


def people_named(connection: Connection, channel: str, name: str) -> tuple[tuple[str, str], ...]:
    """The id and the last name of each person who has written on the channel with this id or @handle."""
    wanted = name.lstrip("@").lower()
    found = (
        select(inbox.c.sender_id, inbox.c.sender_name)
        .where(
            inbox.c.channel == channel,
            inbox.c.source == "person",
            or_(func.lower(inbox.c.sender_id) == wanted, func.lower(inbox.c.sender_handle) == wanted),
        )
        .order_by(inbox.c.id)
    )
    return tuple({row.sender_id: (row.sender_id, row.sender_name) for row in connection.execute(found)}.values())


def rows_of(connection: Connection, session: str, person: str) -> frozenset[int]:
    """The inbox ids of the person's messages there."""
    _, _, sender = person.partition(":")
    return frozenset(
        connection.execute(select(inbox.c.id).where(inbox.c.session == session, inbox.c.sender_id == sender)).scalars()
    )


def is_deleted_whole(connection: Connection, session: str, wanted: DeletionRequest) -> bool:
    """A conversation that is not shared with others is deleted as a whole."""
    if wanted.scope == "conversation":
        return True
    address = connection.execute(select(sessions.c.address).where(sessions.c.key == session)).scalar()
    return address is None or address["kind"] == "direct"


def count(connection: Connection, wanted: DeletionRequest) -> DeletionReport:
    """What the request would delete, in conversations and messages."""
    keys = (wanted.session,) if wanted.session else sessions_of(connection, wanted.person)
    known = select(sessions.c.key).where(sessions.c.key.in_(keys))
    keys = tuple(connection.execute(known).scalars())
    whole = [key for key in keys if is_deleted_whole(connection, key, wanted)]
    messages = select(func.count()).where(inbox.c.source == "person", inbox.c.id < _upto(wanted))
    number = 0
    for key in keys:
        found = messages.where(inbox.c.session == key)
        if key not in whole:
            found = found.where(inbox.c.sender_id == wanted.person.partition(":")[2])
        number += connection.execute(found).scalar_one()
    return DeletionReport(conversations=len(whole), messages=number)


# Carrying out


def carry_out(connection: Connection, request_id: int, today: datetime) -> Deleted:
    """Deletes the rows, and records that in the audit log. Running turns lose theirs: stop them before.

    `today` is its first moment: the costs of today keep their person until it is over, so that limits hold.
    """
    wanted = _request_from(connection.execute(_one, {"request": request_id}).one())
    deleted = _Deleted()
    keys = (wanted.session,) if wanted.session else sessions_of(connection, wanted.person)
    for key in keys:
        if is_deleted_whole(connection, key, wanted):
            _delete_conversation(connection, deleted, key, wanted.upto, today)
        else:
            _delete_person_in(connection, deleted, key, wanted, today)
    if wanted.scope == "person":
        _delete_person(connection, deleted, wanted.person, today)
    return _conclude(connection, wanted, deleted)


def old_sessions(
    connection: Connection, before: datetime, channel: str | None, besides: Collection[str]
) -> tuple[str, ...]:
    """The conversations of the channel (None: of all besides some) that hold something older."""
    theirs = sessions.c.channel.not_in(besides) if channel is None else sessions.c.channel == channel
    old_turn = exists(select(turns.c.id).where(turns.c.session == sessions.c.key, is_ended, turns.c.ended_at < before))
    old_row = exists(
        select(inbox.c.id).where(inbox.c.session == sessions.c.key, ~is_waiting, inbox.c.received_at < before)
    )
    found = select(sessions.c.key).where(
        theirs,
        sessions.c.parent.is_(None),
        sessions.c.created_at < before,
        or_(sessions.c.last_at < before, old_turn, old_row),
    )
    return tuple(connection.execute(found).scalars())


def delete_older(connection: Connection, keys: Collection[str], before: datetime, today: datetime) -> Deleted | None:
    """Deletes what is older in these conversations: ended turns with their messages, and conversations without
    anything newer. None: there was nothing."""
    deleted = _Deleted()
    for key in keys:
        _delete_older_in(connection, deleted, key, before, today)
    if not deleted.sessions:
        return None
    wanted = DeletionRequest("old", by="")
    return _conclude(connection, replace(wanted, id=request(connection, wanted)), deleted)


def expire_media(connection: Connection, before: datetime) -> frozenset[str]:
    """Ends every use of media stored before then; their hashes. Messages keep the names of their files."""
    hashes = frozenset(connection.execute(select(media.c.hash).where(media.c.created_at < before)).scalars())
    old = select(media.c.hash).where(media.c.created_at < before)
    connection.execute(delete(media_uses).where(media_uses.c.hash.in_(old)))
    return hashes


def forget_media(connection: Connection, hashes: Collection[str]) -> frozenset[str]:
    """Forgets those of the media that no message and no turn uses; their hashes."""
    gone = []
    for hash in hashes:
        unused = delete(media).where(
            media.c.hash == hash, ~exists(select(media_uses.c.id).where(media_uses.c.hash == hash))
        )
        if connection.execute(unused).rowcount:
            gone.append(hash)
    return frozenset(gone)


def forget_costs(connection: Connection, today: datetime) -> None:
    """Takes the person out of the costs of deleted conversations from before today."""
    connection.execute(
        update(usage).where(usage.c.session == "", usage.c.person != "", usage.c.at < today).values(person="")
    )


def _conclude(connection: Connection, wanted: DeletionRequest, deleted: _Deleted) -> Deleted:
    values = {"request": wanted.id, "new_report": asdict(deleted.report), "new_folders": deleted.folders}
    connection.execute(_set_deleted, values)
    counts = {name: number for name, number in asdict(deleted.report).items() if number}
    detail = {"scope": wanted.scope, "person": wanted.person, **counts}
    audit_log.record(connection, AuditEvent("deleted", wanted.by, session=wanted.session, detail=detail))
    folders = tuple(map(address_from_json, deleted.folders))
    return Deleted(wanted.id, deleted.report, frozenset(deleted.hashes), frozenset(deleted.sessions), folders)


def _upto(wanted: DeletionRequest) -> int:
    return MAX_ROW_ID if wanted.upto is None else wanted.upto


# Conversations


def _delete_conversation(
    connection: Connection, deleted: _Deleted, session: str, upto: int | None, today: datetime
) -> None:
    """Deletes the conversation; from the inbox row `upto` on it goes on, as a new one."""
    row = connection.execute(select(sessions.c.address).where(sessions.c.key == session)).first()
    if row is None:
        return
    later = select(inbox.c.turn).where(inbox.c.session == session, inbox.c.id >= (upto or MAX_ROW_ID))
    going_on = later.where(inbox.c.turn.is_not(None))
    _delete_children(connection, deleted, select(sessions.c.key).where(sessions.c.parent == session))
    own_turns = select(turns.c.number).where(turns.c.session == session, turns.c.id.not_in(going_on))
    own_rows = select(inbox.c.id).where(inbox.c.session == session, inbox.c.id < (upto or MAX_ROW_ID))
    _delete_rows(connection, deleted, own_turns, own_rows)
    _forget_costs_of(connection, session, today)
    _forget_audit(connection, audit.c.session == session)
    if upto is None:
        connection.execute(delete(sessions).where(sessions.c.key == session))
    else:
        connection.execute(
            update(sessions)
            .where(sessions.c.key == session)
            .values(
                generation=sessions.c.generation + 1, allowed=None, title=None, model=None, reasoning=None, busy=None
            )
        )
        moved = select(sessions.c.generation).where(sessions.c.key == session).scalar_subquery()
        connection.execute(update(inbox).where(inbox.c.session == session).values(generation=moved))
    deleted.folders.append(row.address)
    deleted.sessions.add(session)
    deleted.count(conversations=1)


def _delete_children(connection: Connection, deleted: _Deleted, children: Select[tuple[str]]) -> None:
    """Deletes the sessions of delegated tasks."""
    keys = connection.execute(children).scalars().all()
    for key in keys:
        _delete_rows(
            connection,
            deleted,
            select(turns.c.number).where(turns.c.session == key),
            select(inbox.c.id).where(inbox.c.session == key),
        )
        connection.execute(delete(work).where(or_(work.c.session == key, work.c.child == key)))
    for key in keys:
        connection.execute(delete(sessions).where(sessions.c.key == key))


def _delete_rows(
    connection: Connection, deleted: _Deleted, own_turns: Select[tuple[int]], own_rows: Select[tuple[int]]
) -> None:
    """Deletes turns and inbox rows with all that belongs to them."""
    ids = select(turns.c.id).where(turns.c.number.in_(own_turns))
    used = or_(media_uses.c.turn.in_(own_turns), media_uses.c.inbox.in_(own_rows))
    _forget_uses(connection, deleted, used)
    connection.execute(delete(turn_log).where(turn_log.c.turn.in_(own_turns)))
    connection.execute(delete(outbox).where(outbox.c.reply_id.in_(ids)))
    connection.execute(delete(work).where(work.c.turn.in_(ids)))
    messages = connection.execute(
        select(func.count()).where(inbox.c.id.in_(own_rows), inbox.c.source == "person")
    ).scalar_one()
    connection.execute(delete(inbox).where(inbox.c.id.in_(own_rows)))
    number = connection.execute(delete(turns).where(turns.c.number.in_(own_turns))).rowcount
    deleted.count(messages=messages, turns=number)


def _forget_uses(connection: Connection, deleted: _Deleted, used: Any) -> None:
    found = set(connection.execute(select(media_uses.c.hash).where(used)).scalars())
    connection.execute(delete(media_uses).where(used))
    deleted.hashes |= found


def _forget_costs_of(connection: Connection, session: str, today: datetime) -> None:
    """The sums stay. Without a session, `forget_costs` takes the person out once the day is over."""
    connection.execute(update(usage).where(usage.c.session == session).values(session=""))
    forget_costs(connection, today)


def _forget_audit(connection: Connection, which: Any) -> None:
    """The events stay, without arguments and names."""
    for row in connection.execute(select(audit.c.id, audit.c.detail).where(which)).all():
        detail = {name: value for name, value in row.detail.items() if name not in ("arguments", "name")}
        connection.execute(update(audit).where(audit.c.id == row.id).values(detail=detail, actor_name=""))


# Old parts of conversations


def _delete_older_in(
    connection: Connection, deleted: _Deleted, session: str, before: datetime, today: datetime
) -> None:
    row = connection.execute(select(sessions.c.last_at).where(sessions.c.key == session)).one()
    open_rows = connection.execute(select(inbox.c.id).where(inbox.c.session == session, is_waiting).limit(1)).first()
    running = connection.execute(select(turns.c.id).where(turns.c.session == session, is_running).limit(1)).first()
    if row.last_at < before and open_rows is None and running is None:
        _delete_conversation(connection, deleted, session, None, today)
        return
    busy_turns = select(work.c.turn).where(work.c.session == session, work.c.state == "running")
    old_turns = select(turns.c.number).where(
        turns.c.session == session, is_ended, turns.c.ended_at < before, turns.c.id.not_in(busy_turns)
    )
    old_ids = select(turns.c.id).where(turns.c.number.in_(old_turns))
    old_rows = select(inbox.c.id).where(
        inbox.c.session == session,
        ~is_waiting,
        inbox.c.received_at < before,
        or_(inbox.c.turn.is_(None), inbox.c.turn.in_(old_ids)),
    )
    # A turn stays as long as one of its messages does.
    read_later = select(inbox.c.turn).where(
        inbox.c.session == session, inbox.c.turn.is_not(None), or_(is_waiting, inbox.c.received_at >= before)
    )
    old_turns = old_turns.where(turns.c.id.not_in(read_later))
    rows = connection.execute(old_rows).scalars().all()
    numbers = connection.execute(old_turns).scalars().all()
    if not rows and not numbers:
        return
    ids = select(turns.c.id).where(turns.c.number.in_(numbers))
    children = select(work.c.child).where(work.c.turn.in_(ids), work.c.child.is_not(None))
    _delete_descendants(connection, deleted, children)
    _delete_rows(
        connection,
        deleted,
        select(turns.c.number).where(turns.c.number.in_(numbers)),
        select(inbox.c.id).where(inbox.c.id.in_(rows)),
    )
    connection.execute(
        update(usage).where(usage.c.session == session, usage.c.at < min(before, today)).values(session="", person="")
    )
    deleted.sessions.add(session)


def _delete_descendants(connection: Connection, deleted: _Deleted, children: Select[Any]) -> None:
    """Deletes the sessions of delegated tasks with those that they delegated themselves."""
    for child in connection.execute(children).scalars().all():
        below = select(sessions.c.key).where(
            or_(sessions.c.key == child, func.substr(sessions.c.key, 1, len(child) + 1) == f"{child}/")
        )
        _delete_children(connection, deleted, below.order_by(func.length(sessions.c.key).desc()))


# A person in a group


def _delete_person_in(
    connection: Connection, deleted: _Deleted, session: str, wanted: DeletionRequest, today: datetime
) -> None:
    """The person's messages lose their content, and the turns that they began lose everything but their messages."""
    sender = wanted.person.partition(":")[2]
    written = and_(inbox.c.session == session, inbox.c.sender_id == sender, inbox.c.id < _upto(wanted))
    rows = connection.execute(select(inbox.c.id, inbox.c.turn, inbox.c.text, inbox.c.sender_name).where(written)).all()
    own_rows = frozenset(row.id for row in rows)
    forgotten = _Forgotten(
        own_rows, frozenset(row.sender_name for row in rows if row.sender_name), _snippets(row.text for row in rows)
    )
    later = connection.execute(
        select(inbox.c.turn).where(inbox.c.session == session, inbox.c.id >= _upto(wanted), inbox.c.turn.is_not(None))
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
    _forget_uses(connection, deleted, media_uses.c.inbox.in_(own_rows))
    connection.execute(
        update(inbox)
        .where(inbox.c.id.in_(own_rows), is_waiting, inbox.c.kind != "command")
        .values(state="withdrawn", reason=WITHDRAWN)
    )
    connection.execute(update(inbox).where(inbox.c.id.in_(own_rows)).values(**_no_content))
    connection.execute(update(sessions).where(sessions.c.key == session).values(title=None))
    _forget_person_costs(connection, wanted.person, today, session)
    _forget_audit(connection, and_(audit.c.session == session, audit.c.actor == wanted.person))
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


def _snippets(texts: Iterable[str]) -> tuple[str, ...]:
    return tuple({text[:MIN_QUOTE] for text in texts if text.strip()})


def _delete_answers(connection: Connection, deleted: _Deleted, turn: AnyRow) -> None:
    """The turn's answers, calls and results; it is no longer part of the history."""
    children = select(work.c.child).where(work.c.turn == turn.id, work.c.child.is_not(None))
    _delete_descendants(connection, deleted, children)
    connection.execute(delete(work).where(work.c.turn == turn.id))
    connection.execute(delete(outbox).where(outbox.c.reply_id == turn.id))
    _forget_uses(connection, deleted, media_uses.c.turn == turn.number)
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
        )
    )
    deleted.count(turns=1)


def _forget_in_log(
    connection: Connection, deleted: _Deleted, number: int, forgotten: _Forgotten, *, is_own: bool
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
        connection.execute(delete(turn_log).where(turn_log.c.turn == number))
        lines = [{"turn": number, "n": n, "entry": dump(entry)} for n, entry in enumerate(changed, 1)]
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
    return replace(message, note="") if forgotten.is_quoted_in(message.note) else message


def _forget_summaries(connection: Connection, deleted: _Deleted, session: str, first: int) -> None:
    """Summaries written since the person's first message may repeat what they wrote."""
    since = select(turns.c.number).where(turns.c.session == session, turns.c.number >= first)
    for number in connection.execute(since).scalars().all():
        entries = logs.read(connection, number)
        for n, entry in enumerate(entries, 1):
            if isinstance(entry, Compacted) and not entry.left_out:
                marks = (DELETED_TEXT,) if entry.foreign else ()
                emptied = replace(entry, summary=DELETED_SUMMARY, left_out=True, foreign=marks)
                connection.execute(
                    update(turn_log).where(turn_log.c.turn == number, turn_log.c.n == n).values(entry=dump(emptied))
                )
                deleted.count(summaries=1)


def _forget_quotes(connection: Connection, session: str, forgotten: _Forgotten) -> None:
    """Notes of other people's messages that quote the person."""
    noted = select(inbox.c.id, inbox.c.note).where(inbox.c.session == session, inbox.c.note != "")
    quoting = [row.id for row in connection.execute(noted) if forgotten.is_quoted_in(row.note)]
    connection.execute(update(inbox).where(inbox.c.id.in_(quoting)).values(note=""))


def _forget_person_costs(connection: Connection, person: str, today: datetime, session: str | None = None) -> None:
    theirs = usage.c.person == person if session is None else and_(usage.c.person == person, usage.c.session == session)
    connection.execute(update(usage).where(theirs, usage.c.at < today).values(person=""))
    # Without a session the person is taken out once the day is over.
    connection.execute(update(usage).where(theirs).values(session=""))


def _delete_person(connection: Connection, deleted: _Deleted, person: str, today: datetime) -> None:
    """What is kept about a person outside conversations."""
    channel, _, sender = person.partition(":")
    connection.execute(delete(strangers).where(strangers.c.channel == channel, strangers.c.sender_id == sender))
    removed = connection.execute(delete(pairs).where(pairs.c.channel == channel, pairs.c.sender_id == sender)).rowcount
    _forget_person_costs(connection, person, today)
    _forget_audit(connection, audit.c.actor == person)
    deleted.count(accesses=removed)
