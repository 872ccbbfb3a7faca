"""The queue of a conversation: people's messages that no turn has read yet."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection, bindparam, select, update

from channels.address import Sender
from gateway.store.reading import inbox_row_from
from gateway.store.records import Busy, InboxRow, MessageChange
from gateway.store.schema import inbox, is_message, is_waiting


@dataclass(frozen=True, slots=True)
class QueuedMessage:
    """`ready` is false while its files are fetched."""

    row: InboxRow
    busy: Busy
    ready: bool

    @property
    def sender(self) -> Sender:
        return self.row.sender


_queued = (
    select(inbox)
    .where(
        inbox.c.session == bindparam("session"),
        is_waiting,
        is_message,
        inbox.c.kind == "new",
        inbox.c.source == "person",
    )
    .order_by(inbox.c.id)
)
_remove = (
    update(inbox)
    .where(inbox.c.session == bindparam("of_session"), inbox.c.id == bindparam("row"), is_waiting, is_message)
    .values(state="withdrawn", reason=bindparam("why"))
    .returning(inbox.c.id, inbox.c.message_id)
)


def queued(connection: Connection, session: str) -> tuple[QueuedMessage, ...]:
    """In the order in which they are read."""
    return tuple(
        QueuedMessage(inbox_row_from(row), row.busy, row.ready)
        for row in connection.execute(_queued, {"session": session})
    )


def remove_queued(connection: Connection, session: str, row: int, reason: str) -> MessageChange | None:
    """Withdraws one message; None if it does not wait there any more."""
    found = connection.execute(_remove, {"of_session": session, "row": row, "why": reason}).first()
    return None if found is None else MessageChange(found.id, found.message_id, "withdrawn", reason)
