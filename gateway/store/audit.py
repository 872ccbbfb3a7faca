"""The audit log: who was refused or admitted, who decided, stopped or deleted what, and which tools had effects."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

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


def since(connection: Connection, time: datetime) -> Sequence[AuditRow]:
    """The events since then, oldest first."""
    return [_from_row(row) for row in connection.execute(_since, {"since": time})]


def newest(connection: Connection, event: str) -> AuditRow | None:
    """The newest event of this kind."""
    row = connection.execute(_newest, {"of_event": event}).first()
    return None if row is None else _from_row(row)


def delete_before(connection: Connection, time: datetime) -> int:
    """Deletes older events; their number. The newest record of the settings stays: the next start compares with it."""
    kept = newest(connection, "settings")
    older = _delete_before if kept is None else _delete_before.where(audit.c.id != kept.id)
    return connection.execute(older, {"before": time}).rowcount


def _from_row(row: AnyRow) -> AuditRow:
    return AuditRow(row.id, row.at, row.event, row.actor, row.actor_name, row.session, row.detail)
