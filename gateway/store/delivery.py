"""How the delivery of replies ended: shown, or undeliverable with a reason; and another attempt."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection, bindparam, func, or_, select, update

from agent.log import Undelivered
from gateway.store import audit, logs
from gateway.store.decisions import RELEASED
from gateway.store.records import AuditEvent, UndeliveredReply
from gateway.store.schema import is_ended, is_undeliverable, outbox, turn_log, turns

# A turn that was parked when its reply was shown may have been resumed since, and then has more to show.
_is_settled = or_(is_ended, turns.c.parked)

_last = select(func.max(turn_log.c.n)).where(turn_log.c.turn == turns.c.number).scalar_subquery()
_of_turn = select(turns.c.number, turns.c.session, turns.c.state, turns.c.undeliverable, _last.label("last")).where(
    turns.c.id == bindparam("turn_id"), _is_settled, turns.c.worker.in_([bindparam("own"), RELEASED])
)
_end = update(turns).where(turns.c.id == bindparam("turn_id")).values(delivered=True, undeliverable=bindparam("why"))
_undelivered = (
    select(turns.c.id, turns.c.session, turns.c.undeliverable, turns.c.started_at)
    .where(is_undeliverable, _is_settled)
    .order_by(turns.c.number)
)
_again = update(turns).where(turns.c.id == bindparam("turn_id")).values(delivered=False, worker=bindparam("own"))


def delivered(connection: Connection, worker: str, turn_id: str, undelivered: Undelivered | None = None) -> None:
    """The platform shows the whole reply, or never will show what is `undelivered`: it is no longer pending.

    The turn's log says so too, for the model. Nothing happens if another worker delivers the reply now.
    """
    turn = connection.execute(_of_turn, {"turn_id": turn_id, "own": worker}).first()
    if turn is None:
        return
    why = None if undelivered is None else undelivered.reason or "no reason given"
    connection.execute(_end, {"turn_id": turn_id, "why": why})
    if turn.state != "running" and (undelivered is not None or turn.undeliverable is not None):
        logs.write(connection, turn.number, turn.last + 1, [undelivered or Undelivered(())])
    if undelivered is not None:
        detail = {"turn": turn_id, "reasons": [part.reason for part in undelivered.parts]}
        audit.record(connection, AuditEvent("undelivered", session=turn.session, detail=detail))


def undelivered(connection: Connection, session: str | None = None) -> tuple[UndeliveredReply, ...]:
    """Replies that were not delivered, or not all of them, oldest first; of one conversation, or of all."""
    query = _undelivered if session is None else _undelivered.where(turns.c.session == session)
    return tuple(UndeliveredReply(*row) for row in connection.execute(query))


def redeliver(connection: Connection, worker: str, turn_ids: Sequence[str], event: AuditEvent) -> None:
    """Makes replies pending again, for this worker. What was shown of them stays."""
    for turn_id in turn_ids:
        connection.execute(_again, {"turn_id": turn_id, "own": worker})
        refused = (outbox.c.reply_id == turn_id) & (outbox.c.state == "undeliverable")
        connection.execute(outbox.delete().where(refused))
    audit.record(connection, event)
