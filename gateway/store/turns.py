"""Turns: who works on what, and the log that each writes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from uuid import NAMESPACE_URL, uuid4, uuid5

from sqlalchemy import Connection, bindparam, func, insert, or_, select, update
from sqlalchemy.dialects import sqlite

from agent.journal import TurnLost
from agent.log import Ended, Entry, Heard, Resumed, Told, dump, load
from channels.address import Address, Sender
from gateway.store.encoding import (
    address_from_json,
    address_to_json,
    attachments_of,
    sender_from_json,
    sender_to_json,
)
from gateway.store.inbox import (
    consume,
    forget_late_deletions,
    keep_session,
    rows_that_steer,
    rows_to_begin_with,
    take_as_answer,
    what_waits,
)
from gateway.store.records import Busy, Turn
from gateway.store.schema import (
    AnyRow,
    inbox,
    is_command,
    is_ended,
    is_running,
    is_waiting,
    media_uses,
    sessions,
    turn_log,
    turns,
)

GATEWAY = Sender(id="interject", name="Interject")
"""Who asks for what the gateway says of its own accord."""

_generation = select(sessions.c.generation).where(sessions.c.key == bindparam("session")).scalar_subquery()

_running_turn = select(turns).where(turns.c.session == bindparam("session"), turns.c.kind == "turn", is_running)

_take_over = (
    update(turns)
    .where(turns.c.number == bindparam("turn"))
    .values(worker=bindparam("new_worker"), epoch=turns.c.epoch + 1, parked=False, delivered=False)
)
_park = update(turns).where(turns.c.number == bindparam("turn")).values(parked=True, delivered=False)
_stop_parked = (
    update(turns)
    .where(turns.c.session == bindparam("of_session"), turns.c.parked, is_running)
    .values(stop=bindparam("why"))
)

_last = select(func.max(turn_log.c.n)).where(turn_log.c.turn == turns.c.number).scalar_subquery()
_held_turn = select(turns.c.number, turns.c.session, turns.c.generation, _last.label("last")).where(
    turns.c.id == bindparam("turn_id"), turns.c.epoch == bindparam("held_epoch"), is_running
)

_end_turn = (
    update(turns)
    .where(turns.c.number == bindparam("turn"))
    .values(state=bindparam("outcome"), reason=bindparam("why"), ended_at=bindparam("now"))
)

_new_turn = {
    **{column.name: bindparam(column.name) for column in turns.c if column.name not in ("number", "generation")},
    "generation": _generation,
}
_begin_turn = insert(turns).values(_new_turn).returning(turns.c.number, turns.c.generation)
_say_once = (
    sqlite.insert(turns).values(_new_turn).on_conflict_do_nothing(index_elements=["id"]).returning(turns.c.number)
)

_log_entry = insert(turn_log).values(turn=bindparam("turn"), n=bindparam("n"), entry=bindparam("entry"))
_log = select(turn_log.c.entry).where(turn_log.c.turn == bindparam("turn")).order_by(turn_log.c.n)
_use_media = insert(media_uses).values(hash=bindparam("hash"), turn=bindparam("turn"))

_command = select(inbox).where(inbox.c.id == bindparam("row"), is_command)
_answer_command = (
    update(inbox)
    .where(inbox.c.id == bindparam("row"))
    .values(state="answered", turn=bindparam("by"), reason="a command")
)

_renew = update(sessions).where(sessions.c.key == bindparam("of_session")).values(generation=sessions.c.generation + 1)
_renew_waiting = (
    update(inbox)
    .where(inbox.c.session == bindparam("of_session"), is_waiting)
    .values(generation=select(sessions.c.generation).where(sessions.c.key == bindparam("of_session")).scalar_subquery())
)

_set_busy = update(sessions).where(sessions.c.key == bindparam("of_session")).values(busy=bindparam("chosen"))

_earlier = (
    select(turns.c.number)
    .where(
        turns.c.session == bindparam("session"),
        turns.c.generation == bindparam("of_generation"),
        turns.c.kind == "turn",
        turns.c.number < bindparam("own"),
    )
    .limit(1)
)

# A reply that was parked when it was shown may have been taken up since, and then has more to show.
_deliver = update(turns).where(turns.c.id == bindparam("turn_id"), or_(is_ended, turns.c.parked)).values(delivered=True)


def claim(connection: Connection, session: str, worker: str) -> Turn | None:
    """The session's turn to work on: one that another worker left, or a new one if something can be read.

    A parked one goes on when something can be read, which is then its answer, or when it is to stop.
    """
    left = connection.execute(_running_turn, {"session": session}).first()
    if left is None:
        return _begin(connection, session, worker)
    if left.parked:
        return _wake(connection, left, worker)
    return None if left.worker == worker else _resume(connection, left, worker)


def _begin(connection: Connection, session: str, worker: str) -> Turn | None:
    rows = rows_to_begin_with(connection, session)
    if not rows:
        return None
    first = rows[0]
    turn = Turn(
        id=uuid4().hex,
        session=session,
        epoch=1,
        address=address_from_json(first.address),
        principal=Sender(first.sender_id, first.sender_name, first.sender_handle),
        reply_to=first.message_id,
        kind="turn",
        entries=(),
        started_at=datetime.now(UTC),
    )
    number, generation = connection.execute(_begin_turn, _values(turn, worker, "running")).one()
    heard = Heard(1, consume(connection, rows, turn.id, 1, generation))
    _write(connection, number, 1, [heard])
    earlier = connection.execute(_earlier, {"session": session, "of_generation": generation, "own": number}).first()
    return replace(turn, entries=(heard,), first=earlier is None, more=what_waits(connection, session))


def _wake(connection: Connection, left: AnyRow, worker: str) -> Turn | None:
    if left.stop is None and what_waits(connection, left.session) is None:
        return None
    connection.execute(_take_over, {"turn": left.number, "new_worker": worker})
    lines = connection.execute(_log, {"turn": left.number}).scalars()
    return turn_from(left, load(lines), epoch=left.epoch + 1)


def _resume(connection: Connection, left: AnyRow, worker: str) -> Turn:
    connection.execute(_take_over, {"turn": left.number, "new_worker": worker})
    lines = connection.execute(_log, {"turn": left.number}).scalars().all()
    _write(connection, left.number, len(lines) + 1, [Resumed()])
    return turn_from(left, (*load(lines), Resumed()), epoch=left.epoch + 1)


def turn_from(row: AnyRow, entries: tuple[Entry, ...], epoch: int | None = None) -> Turn:
    return Turn(
        id=row.id,
        session=row.session,
        epoch=row.epoch if epoch is None else epoch,
        address=address_from_json(row.address),
        principal=sender_from_json(row.principal),
        reply_to=row.reply_to,
        kind=row.kind,
        entries=entries,
        started_at=row.started_at,
        stop=row.stop,
        parked=row.parked,
    )


def hear(connection: Connection, turn_id: str, epoch: int, step: int) -> Heard | None:
    """All that steers, logged as heard."""
    turn = _hold(connection, turn_id, epoch)
    rows = rows_that_steer(connection, turn.session)
    if not rows:
        return None
    heard = Heard(step, consume(connection, rows, turn_id, step, turn.generation))
    _write(connection, turn.number, turn.last + 1, [heard])
    return heard


def append(connection: Connection, turn_id: str, epoch: int, entries: Sequence[Entry]) -> None:
    turn = _hold(connection, turn_id, epoch)
    _write(connection, turn.number, turn.last + 1, entries)


def park(connection: Connection, turn_id: str, epoch: int) -> bool:
    """The turn waits for people, unless something of theirs can be read already."""
    turn = _hold(connection, turn_id, epoch)
    if take_as_answer(connection, turn.session):
        return False
    connection.execute(_park, {"turn": turn.number})
    return True


def unfinished(connection: Connection, session: str) -> Turn | None:
    """The turn that runs there, or is parked; without its log."""
    turn = connection.execute(_running_turn, {"session": session}).first()
    return None if turn is None else turn_from(turn, ())


def stop_parked(connection: Connection, session: str, reason: str) -> bool:
    """Whether the session has a parked turn, which is now to stop."""
    return connection.execute(_stop_parked, {"of_session": session, "why": reason}).rowcount > 0


def close(connection: Connection, turn_id: str, epoch: int, ended: Ended, entries: Sequence[Entry]) -> bool:
    """Ends the turn, unless it is completed and something still steers it (law 2); the entries are kept anyhow."""
    turn = _hold(connection, turn_id, epoch)
    if ended.outcome == "completed" and rows_that_steer(connection, turn.session):
        _write(connection, turn.number, turn.last + 1, entries)
        return False
    _write(connection, turn.number, turn.last + 1, [*entries, ended])
    values = {"turn": turn.number, "outcome": ended.outcome, "why": ended.reason, "now": datetime.now(UTC)}
    connection.execute(_end_turn, values)
    forget_late_deletions(connection, turn.session)
    return True


def _hold(connection: Connection, turn_id: str, epoch: int) -> AnyRow:
    """The running turn. Raises `TurnLost` when its epoch is no longer the caller's or it has ended."""
    turn = connection.execute(_held_turn, {"turn_id": turn_id, "held_epoch": epoch}).first()
    if turn is None:
        raise TurnLost(f"turn {turn_id} is no longer this worker's")
    return turn


def _write(connection: Connection, number: int, first: int, entries: Sequence[Entry]) -> None:
    if not entries:
        return
    lines = [{"turn": number, "n": n, "entry": dump(entry)} for n, entry in enumerate(entries, first)]
    connection.execute(_log_entry, lines)
    uses = [{"hash": used.hash, "turn": number} for entry in entries for used in attachments_of(entry)]
    if uses:
        connection.execute(_use_media, uses)


def answer(connection: Connection, command_id: int, text: str, worker: str) -> str:
    """The id of the reply that answers the command; of the first one, if it was answered before.

    Raises `LookupError` if there is no such command.
    """
    row = connection.execute(_command, {"row": command_id}).first()
    if row is None:
        raise LookupError(f"inbox row {command_id} is no command")
    if row.turn is not None:
        return str(row.turn)
    principal = Sender(row.sender_id, row.sender_name, row.sender_handle)
    turn = _notice(uuid4().hex, row.session, address_from_json(row.address), principal, row.message_id)
    _tell(connection, turn, Told(text), worker)
    connection.execute(_answer_command, {"row": command_id, "by": turn.id})
    return turn.id


def say(
    connection: Connection, session: str, address: Address, reply_to: str | None, told: Told, key: str, worker: str
) -> str | None:
    """The new reply's id; None if this key was said before."""
    keep_session(connection, session, address)
    turn = _notice(uuid5(NAMESPACE_URL, key).hex, session, address, GATEWAY, reply_to)
    return turn.id if _tell(connection, turn, told, worker) else None


def _notice(id: str, session: str, address: Address, principal: Sender, reply_to: str | None) -> Turn:
    return Turn(id, session, 1, address, principal, reply_to, "command", (), datetime.now(UTC))


def _tell(connection: Connection, turn: Turn, told: Told, worker: str) -> bool:
    """A turn that says one thing and is over; False if it was there already."""
    number = connection.execute(_say_once, _values(turn, worker, "completed")).scalar()
    if number is not None:
        _write(connection, number, 1, [told, Ended("completed")])
    return number is not None


def _values(turn: Turn, worker: str, state: str) -> dict[str, Any]:
    return {
        "id": turn.id,
        "session": turn.session,
        "kind": turn.kind,
        "worker": worker,
        "epoch": turn.epoch,
        "address": address_to_json(turn.address),
        "principal": sender_to_json(turn.principal),
        "reply_to": turn.reply_to,
        "state": state,
        "reason": "",
        "parked": False,
        "stop": None,
        "started_at": turn.started_at,
        "ended_at": None if state == "running" else turn.started_at,
        "delivered": False,
    }


def set_busy(connection: Connection, session: str, busy: Busy) -> None:
    connection.execute(_set_busy, {"of_session": session, "chosen": busy})


def renew(connection: Connection, session: str) -> None:
    """What is said from now on, and what still waits, has no history."""
    connection.execute(_renew, {"of_session": session})
    connection.execute(_renew_waiting, {"of_session": session})


def delivered(connection: Connection, turn_id: str) -> None:
    connection.execute(_deliver, {"turn_id": turn_id})
