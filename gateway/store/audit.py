"""The audit log: who was refused or admitted, who decided, stopped or deleted what, and which tools had effects."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, bindparam, delete, insert, select

from channels.address import Sender
from gateway.store.records import AuditEvent, AuditRow
from gateway.store.schema import AnyRow, audit

OPERATOR = "operator"
"""The actor of the command line."""

_insert = insert(audit).values({column.name: bindparam(column.name) for column in audit.c if column.name != "id"})
_since = select(audit).where(audit.c.at >= bindparam("since")).order_by(audit.c.id)
_newest = select(audit).where(audit.c.event == bindparam("of_event")).order_by(audit.c.id.desc()).limit(1)
_delete_before = delete(audit).where(audit.c.at < bindparam("before"))


def actor_of(channel: str, sender: Sender) -> str:
    """The actor of what this person does."""
    return f"{channel}:{sender.id}"


def record(connection: Connection, *events: AuditEvent) -> None:
    """Adds the events, in the transaction of what they are about where the caller has one."""
    if not events:
        return
    now = datetime.now(UTC)
    rows = [
        {
            "at": now,
            "event": event.event,
            "actor": event.actor,
            "actor_name": event.actor_name,
            "session": event.session,
            "detail": dict(event.detail),
        }
        for event in events
    ]
    connection.execute(_insert, rows)


def since(
    connection: Connection,
    time: datetime,
    event: str | None = None,
    limit: int | None = None,
    before: int | None = None,
) -> Sequence[AuditRow]:
    """The events since then, all or of one kind, oldest first, without the hashes of single settings; `limit`: only so
    many of the newest; `before`: only those with smaller ids."""
    query = _since if event is None else _since.where(audit.c.event == event)
    if before is not None:
        query = query.where(audit.c.id < before)
    if limit is not None:
        query = query.order_by(None).order_by(audit.c.id.desc()).limit(limit)
    rows = [
        replace(row, detail=_shown(row.detail)) for row in map(_from_row, connection.execute(query, {"since": time}))
    ]
    return rows if limit is None else rows[::-1]


def newest(connection: Connection, event: str) -> AuditRow | None:
    """The newest event of this kind."""
    row = connection.execute(_newest, {"of_event": event}).first()
    return None if row is None else _from_row(row)


def record_settings(connection: Connection, salt: str, hashes: Mapping[str, str], whole: str) -> tuple[str, ...]:
    """Records the settings of a start if they differ from those of the last; the keys that were changed.

    `hashes` are salted with `salt`, which must be that of `settings_salt`; `whole` is the hash of all.
    """
    last = newest(connection, "settings")
    before = {} if last is None else last.detail["hashes"]
    if before == dict(hashes):
        return ()
    changed = sorted(key for key in {*before, *hashes} if before.get(key) != hashes.get(key)) if before else []
    detail = {"hash": whole, "changed": changed, "salt": salt, "hashes": dict(hashes)}
    record(connection, AuditEvent("settings", detail=detail))
    return tuple(changed)


def settings_salt(connection: Connection) -> str | None:
    """The salt of the recorded settings; None if there are none."""
    last = newest(connection, "settings")
    return None if last is None else str(last.detail["salt"])


def delete_before(connection: Connection, time: datetime) -> int:
    """Deletes older events; their number. The newest record of the settings stays: the next start compares with it."""
    kept = newest(connection, "settings")
    older = _delete_before if kept is None else _delete_before.where(audit.c.id != kept.id)
    return connection.execute(older, {"before": time}).rowcount


def _shown(detail: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in detail.items() if name not in ("salt", "hashes")}


def _from_row(row: AnyRow) -> AuditRow:
    return AuditRow(row.id, row.at, row.event, row.actor, row.actor_name, row.session, row.detail)
