"""The last transaction that each writing thread has committed on a server.

After a connection was lost at a COMMIT, the server's number of the transaction does not say enough: a server that has
crashed may give the number of a transaction of which it had written nothing down to the next one.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from sqlalchemy import Connection, bindparam, delete, select

from gateway.store.schema import transaction_marks
from gateway.store.upsert import insert

KEPT = timedelta(days=1)
"""For the question, which comes as soon as the server can be reached."""

_inserted = insert(transaction_marks).values(writer=bindparam("writer"), mark=bindparam("mark"), at=bindparam("at"))
_note = _inserted.on_conflict_do_update(
    index_elements=["writer"], set_={"mark": _inserted.excluded.mark, "at": _inserted.excluded.at}
)
_last = select(transaction_marks.c.mark).where(transaction_marks.c.writer == bindparam("of_writer"))
_forget = delete(transaction_marks).where(transaction_marks.c.at < bindparam("before"))


def note(connection: Connection, writer: str, mark: str) -> None:
    """In the transaction itself."""
    connection.execute(_note, {"writer": writer, "mark": mark, "at": datetime.now(UTC)})


def is_last(connection: Connection, writer: str, mark: str) -> bool:
    """Whether the writer's transaction with this mark is committed, and none of its later ones."""
    return connection.execute(_last, {"of_writer": writer}).scalar() == mark


def forget_old(connection: Connection) -> None:
    """Those of processes that are gone."""
    connection.execute(_forget, {"before": datetime.now(UTC) - KEPT})
