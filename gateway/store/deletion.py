"""Deletion of data: requests, what they affect, and their carrying out."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    Connection,
    bindparam,
    delete,
    exists,
    func,
    insert,
    or_,
    select,
    update,
)

from gateway.store import audit as audit_log
from gateway.store import forgotten_events, workspace_names
from gateway.store.api_keys import SENDER
from gateway.store.conversation_deletion import (
    DeletedRows,
    delete_conversation,
    delete_older_in,
    upto_of,
)
from gateway.store.encoding import address_from_json
from gateway.store.forks import is_fork
from gateway.store.person_deletion import delete_person, delete_person_in
from gateway.store.records import AuditEvent, DeletionReport, DeletionRequest, FolderOwner
from gateway.store.schema import (
    AnyRow,
    deletions,
    inbox,
    is_ended,
    is_unfinished_deletion,
    is_waiting,
    media,
    media_uses,
    outbox,
    sessions,
    turns,
)

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


@dataclass(frozen=True, slots=True)
class Deleted:
    """The rows are gone. `hashes` are of media that may be unused now, `sessions` have changed."""

    request: int
    report: DeletionReport
    hashes: frozenset[str]
    sessions: frozenset[str]
    folders: tuple[FolderOwner, ...]


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


def unfinished(connection: Connection) -> tuple[tuple[DeletionRequest, bool, tuple[FolderOwner, ...]], ...]:
    """The requests that are not done: whether the rows are deleted, and whose folders are left."""
    return tuple(
        (_request_from(row), row.state == "deleted", tuple(map(_owner_from_json, row.folders)))
        for row in connection.execute(_unfinished)
    )


def result(connection: Connection, request_id: int) -> tuple[str, DeletionReport | None]:
    """The request's state, and what was deleted."""
    row = connection.execute(_one, {"request": request_id}).one()
    return row.state, None if row.report is None else DeletionReport(**row.report)


def done(connection: Connection, request_ids: Collection[int]) -> None:
    """Nothing is left to remove for these requests."""
    forgotten_events.prune(connection)
    # Deliveries that were in progress have recorded what they sent since.
    connection.execute(delete(outbox).where(outbox.c.reply_id.not_in(select(turns.c.id))))
    values: dict[str, Any] = {"requests": list(request_ids), "no_folders": [], "now": datetime.now(UTC)}
    connection.execute(_set_done, values)


def folders_removed(connection: Connection, request_id: int, number: int) -> None:
    """The request's folders are gone; `number` of them had existed."""
    row = connection.execute(_one, {"request": request_id}).one()
    report = DeletionReport(**row.report)
    report = replace(report, folders=report.folders + number)
    workspace_names.forget(connection, map(_owner_from_json, row.folders))
    connection.execute(_set_deleted, {"request": request_id, "new_report": asdict(report), "new_folders": []})


def _owner_from_json(data: dict[str, Any]) -> FolderOwner:
    return str(data["person"]) if "person" in data else address_from_json(data)


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
    """A conversation that is not shared with others is deleted as a whole. A direct chat is its person's, also where
    programs write; that of a program, and a fork, is shared as soon as somebody else has written there."""
    if wanted.scope == "conversation":
        return True
    address = connection.execute(select(sessions.c.address).where(sessions.c.key == session)).scalar()
    if address is None or address["kind"] != "direct":
        return address is None
    channel, _, sender = wanted.person.partition(":")
    if not sender.startswith(SENDER) and not is_fork(connection, session):
        return True
    others = select(inbox.c.id).where(
        inbox.c.session == session,
        inbox.c.source == "person",
        or_(inbox.c.channel != channel, inbox.c.sender_id != sender),
    )
    return connection.execute(others.limit(1)).first() is None


def count(connection: Connection, wanted: DeletionRequest) -> DeletionReport:
    """What the request would delete, in conversations and messages."""
    keys = (wanted.session,) if wanted.session else sessions_of(connection, wanted.person)
    known = select(sessions.c.key).where(sessions.c.key.in_(keys))
    keys = tuple(connection.execute(known).scalars())
    whole = [key for key in keys if is_deleted_whole(connection, key, wanted)]
    messages = select(func.count()).where(inbox.c.source == "person", inbox.c.id < upto_of(wanted))
    number = 0
    for key in keys:
        found = messages.where(inbox.c.session == key)
        if key not in whole:
            found = found.where(inbox.c.sender_id == wanted.person.partition(":")[2])
        number += connection.execute(found).scalar_one()
    return DeletionReport(conversations=len(whole), messages=number)


# Carrying out


def carry_out(connection: Connection, request_id: int, today: datetime) -> Deleted | None:
    """Deletes the rows, and records that in the audit log; None if another worker has done so. Running turns lose
    theirs: stop them before.

    `today` is its first moment: the costs of today keep their person until it is over, so that limits hold.
    """
    row = connection.execute(_one, {"request": request_id}).one()
    if row.state != "requested":
        return None
    wanted = _request_from(row)
    deleted = DeletedRows()
    keys = (wanted.session,) if wanted.session else sessions_of(connection, wanted.person)
    for key in keys:
        if is_deleted_whole(connection, key, wanted):
            delete_conversation(connection, deleted, key, wanted.upto, today, row.requested_at)
        else:
            delete_person_in(connection, deleted, key, wanted, today)
    if wanted.scope == "person":
        deleted.folders.append({"person": wanted.person})
        delete_person(connection, deleted, wanted.person, today)
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
    deleted = DeletedRows()
    for key in keys:
        delete_older_in(connection, deleted, key, before, today)
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


def _conclude(connection: Connection, wanted: DeletionRequest, deleted: DeletedRows) -> Deleted:
    values = {"request": wanted.id, "new_report": asdict(deleted.report), "new_folders": deleted.folders}
    connection.execute(_set_deleted, values)
    counts = {name: number for name, number in asdict(deleted.report).items() if number}
    detail = {"scope": wanted.scope, "person": wanted.person, **counts}
    audit_log.record(connection, AuditEvent("deleted", wanted.by, session=wanted.session, detail=detail))
    folders = tuple(map(_owner_from_json, deleted.folders))
    return Deleted(wanted.id, deleted.report, frozenset(deleted.hashes), frozenset(deleted.sessions), folders)
