"""Deletion of conversations: whole ones, and what is old in others."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Select, delete, func, or_, select, update

from gateway.store import forgotten_events, uploads
from gateway.store.inbox import MAX_ROW_ID
from gateway.store.records import DeletionReport, DeletionRequest
from gateway.store.schema import (
    audit,
    inbox,
    is_ended,
    is_running,
    is_waiting,
    login_links,
    media_uses,
    notes,
    outbox,
    schedules,
    sessions,
    turn_log,
    turns,
    usage,
    work,
)


@dataclass(slots=True)
class DeletedRows:
    """What has been deleted so far. `hashes` may be used by nobody any more; `folders` are addresses of conversations
    that are gone, and the person who is."""

    report: DeletionReport = field(default_factory=DeletionReport)
    hashes: set[str] = field(default_factory=set)
    folders: list[dict[str, Any]] = field(default_factory=list)
    sessions: set[str] = field(default_factory=set)

    def count(self, **more: int) -> None:
        self.report = replace(
            self.report, **{name: getattr(self.report, name) + number for name, number in more.items()}
        )


def forget_costs(connection: Connection, today: datetime) -> None:
    """Takes the person out of the costs of deleted conversations from before today."""
    connection.execute(
        update(usage).where(usage.c.session == "", usage.c.person != "", usage.c.at < today).values(person="")
    )


# Conversations


def delete_conversation(
    connection: Connection, deleted: DeletedRows, session: str, upto: int | None, today: datetime, since: datetime
) -> None:
    """Deletes the conversation; from the inbox row `upto` on it goes on, as a new one, with the files that were
    uploaded since then."""
    deleted.hashes |= uploads.delete_of(connection, session, since)
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
    forget_audit(connection, audit.c.session == session)
    connection.execute(delete(login_links).where(login_links.c.session == session))
    connection.execute(delete(schedules).where(schedules.c.session == session, schedules.c.created_at < since))
    connection.execute(delete(notes).where(notes.c.session == session, notes.c.at < since))
    if upto is None:
        connection.execute(delete(sessions).where(sessions.c.key == session))
    else:
        connection.execute(
            update(sessions)
            .where(sessions.c.key == session)
            .values(
                generation=sessions.c.generation + 1,
                allowed=None,
                title=None,
                model=None,
                reasoning=None,
                agent=None,
                busy=None,
            )
        )
        moved = select(sessions.c.generation).where(sessions.c.key == session).scalar_subquery()
        connection.execute(update(inbox).where(inbox.c.session == session).values(generation=moved))
    deleted.folders.append(row.address)
    deleted.sessions.add(session)
    deleted.count(conversations=1)


def _delete_children(connection: Connection, deleted: DeletedRows, children: Select[tuple[str]]) -> None:
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
    connection: Connection, deleted: DeletedRows, own_turns: Select[tuple[int]], own_rows: Select[tuple[int]]
) -> None:
    """Deletes turns and inbox rows with all that belongs to them."""
    ids = select(turns.c.id).where(turns.c.number.in_(own_turns))
    used = or_(media_uses.c.turn.in_(own_turns), media_uses.c.inbox.in_(own_rows))
    forget_uses(connection, deleted, used)
    connection.execute(delete(turn_log).where(turn_log.c.turn.in_(own_turns)))
    connection.execute(delete(outbox).where(outbox.c.reply_id.in_(ids)))
    connection.execute(delete(work).where(work.c.turn.in_(ids)))
    messages = connection.execute(
        select(func.count()).where(inbox.c.id.in_(own_rows), inbox.c.source == "person")
    ).scalar_one()
    forgotten_events.remember(connection, own_rows)
    connection.execute(delete(inbox).where(inbox.c.id.in_(own_rows)))
    number = connection.execute(delete(turns).where(turns.c.number.in_(own_turns))).rowcount
    deleted.count(messages=messages, turns=number)


def forget_uses(connection: Connection, deleted: DeletedRows, used: Any) -> None:
    found = set(connection.execute(select(media_uses.c.hash).where(used)).scalars())
    connection.execute(delete(media_uses).where(used))
    deleted.hashes |= found


def _forget_costs_of(connection: Connection, session: str, today: datetime) -> None:
    """The sums stay. Without a session, `forget_costs` takes the person out once the day is over."""
    connection.execute(update(usage).where(usage.c.session == session).values(session=""))
    forget_costs(connection, today)


def forget_audit(connection: Connection, which: Any) -> None:
    """The events stay, without arguments and names."""
    for row in connection.execute(select(audit.c.id, audit.c.detail).where(which)).all():
        detail = {name: value for name, value in row.detail.items() if name not in ("arguments", "name")}
        connection.execute(update(audit).where(audit.c.id == row.id).values(detail=detail, actor_name=""))


# Old parts of conversations


def delete_older_in(
    connection: Connection, deleted: DeletedRows, session: str, before: datetime, today: datetime
) -> None:
    row = connection.execute(select(sessions.c.last_at).where(sessions.c.key == session)).one()
    open_rows = connection.execute(select(inbox.c.id).where(inbox.c.session == session, is_waiting).limit(1)).first()
    running = connection.execute(select(turns.c.id).where(turns.c.session == session, is_running).limit(1)).first()
    scheduled = connection.execute(select(schedules.c.id).where(schedules.c.session == session).limit(1)).first()
    if row.last_at < before and open_rows is None and running is None and scheduled is None:
        delete_conversation(connection, deleted, session, None, today, before)
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
    delete_descendants(connection, deleted, children)
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


def delete_descendants(connection: Connection, deleted: DeletedRows, children: Select[Any]) -> None:
    """Deletes the sessions of delegated tasks with those that they delegated themselves."""
    for child in connection.execute(children).scalars().all():
        below = select(sessions.c.key).where(
            or_(sessions.c.key == child, func.substr(sessions.c.key, 1, len(child) + 1) == f"{child}/")
        )
        _delete_children(connection, deleted, below.order_by(func.length(sessions.c.key).desc()))


def upto_of(wanted: DeletionRequest) -> int:
    """The first inbox row that stays."""
    return MAX_ROW_ID if wanted.upto is None else wanted.upto
