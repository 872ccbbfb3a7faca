"""Turns: who works on what, and the log that each writes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from uuid import NAMESPACE_URL, uuid4, uuid5

from sqlalchemy import Connection, Integer, bindparam, func, insert, or_, select, update
from sqlalchemy.dialects import sqlite

from agent.journal import TurnLost
from agent.log import Ended, Entry, MessagesRead, ModelAnswered, Notice, Resumed, UserMessage
from channels.address import Address, Sender
from gateway.store import logs
from gateway.store.decisions import RELEASED
from gateway.store.encoding import (
    address_from_json,
    address_to_json,
    sender_from_json,
    sender_to_json,
)
from gateway.store.inbox import (
    consume,
    drop_wraps,
    forget_late_deletions,
    keep_session,
    people_speak,
    rows_that_steer,
    rows_to_begin_with,
    take_as_answer,
    waiting_wraps,
    what_waits,
)
from gateway.store.records import Busy, Turn, TurnKind
from gateway.store.schema import (
    AnyRow,
    inbox,
    is_command,
    is_ended,
    is_running,
    is_side_question,
    is_turn,
    is_waiting,
    sessions,
    turn_log,
    turns,
    work,
)

GATEWAY = Sender(id="interject", name="Interject")
"""Who asks for what the gateway says of its own accord."""

_generation = select(sessions.c.generation).where(sessions.c.key == bindparam("session")).scalar_subquery()

_running_turn = select(turns).where(turns.c.session == bindparam("session"), is_turn, is_running)
_known_there = (
    select(sessions.c.allowed, sessions.c.model, work.c.root)
    .select_from(sessions.outerjoin(work, work.c.child == sessions.c.key))
    .where(sessions.c.key == bindparam("session"))
)
_aside = select(turns).where(turns.c.id == bindparam("turn_id"), is_side_question, is_running)

_take_over = (
    update(turns)
    .where(turns.c.number == bindparam("turn"))
    .values(worker=bindparam("new_worker"), epoch=turns.c.epoch + 1, parked=False, deadline=None, delivered=False)
)
_park = (
    update(turns)
    .where(turns.c.number == bindparam("turn"))
    .values(parked=True, deadline=bindparam("until"), delivered=False)
)
# One that was released by a decision and is not taken up yet can be stopped like one that is parked.
_stop_parked = (
    update(turns)
    .where(
        turns.c.session == bindparam("of_session"), is_turn, is_running, or_(turns.c.parked, turns.c.worker == RELEASED)
    )
    .values(stop=bindparam("why"), deadline=None)
)

_last = select(func.max(turn_log.c.n)).where(turn_log.c.turn == turns.c.number).scalar_subquery()
_held_turn = select(turns.c.number, turns.c.session, turns.c.generation, turns.c.kind, _last.label("last")).where(
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

_command = select(inbox).where(inbox.c.id == bindparam("row"), is_command)
_answer_command = (
    update(inbox)
    .where(inbox.c.id == bindparam("row"))
    .values(state="answered", turn=bindparam("by"), reason="a command")
)

_renew = (
    update(sessions)
    .where(sessions.c.key == bindparam("of_session"))
    .values(generation=sessions.c.generation + 1, allowed=None, title=None)
)
_renew_waiting = (
    update(inbox)
    .where(inbox.c.session == bindparam("of_session"), is_waiting)
    .values(generation=select(sessions.c.generation).where(sessions.c.key == bindparam("of_session")).scalar_subquery())
)

_set_busy = update(sessions).where(sessions.c.key == bindparam("of_session")).values(busy=bindparam("chosen"))
_model = select(sessions.c.model).where(sessions.c.key == bindparam("session"))
_set_model = update(sessions).where(sessions.c.key == bindparam("of_session")).values(model=bindparam("chosen"))
_set_title = (
    update(sessions)
    .where(
        sessions.c.key == bindparam("of_session"),
        sessions.c.generation == func.coalesce(bindparam("of_generation", type_=Integer), sessions.c.generation),
    )
    .values(title=bindparam("words"))
)

_newest = (
    select(turns.c.id)
    .where(turns.c.session == bindparam("session"), turns.c.generation == _generation, turns.c.kind == "turn")
    .order_by(turns.c.number.desc())
    .limit(1)
)
_earlier = (
    select(turns.c.number)
    .where(
        turns.c.session == bindparam("session"),
        turns.c.generation == bindparam("of_generation"),
        is_turn,
        turns.c.number < bindparam("own"),
    )
    .limit(1)
)

# A reply that was parked when it was shown may have been taken up since, and then has more to show.
_deliver = update(turns).where(turns.c.id == bindparam("turn_id"), or_(is_ended, turns.c.parked)).values(delivered=True)


def claim(connection: Connection, session: str, worker: str) -> Turn | None:
    """The session's turn to work on: one that another worker left, or a new one if something can be read.

    A parked one goes on when people have said something, which is then its answer, when its decision is made, or when
    it is to stop.
    """
    left = connection.execute(_running_turn, {"session": session}).first()
    if left is None:
        return _begin(connection, session, worker)
    if left.parked:
        return _wake(connection, left, worker)
    if left.worker == RELEASED:
        return _take_over_from(connection, left, worker)
    return None if left.worker == worker else _resume(connection, left, worker)


def _begin(connection: Connection, session: str, worker: str) -> Turn | None:
    rows = rows_to_begin_with(connection, session)
    if not rows:
        return None
    first = rows[0]
    turn = Turn(
        id=first.run or uuid4().hex,
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
    heard = MessagesRead(1, consume(connection, rows, turn.id, 1, generation))
    logs.write(connection, number, 1, [heard])
    earlier = connection.execute(_earlier, {"session": session, "of_generation": generation, "own": number}).first()
    turn = replace(turn, entries=(heard,), generation=generation)
    return replace(_as_known(connection, turn), first=earlier is None, more=what_waits(connection, session))


def _as_known(connection: Connection, turn: Turn) -> Turn:
    """The turn with what holds in its conversation."""
    there = connection.execute(_known_there, {"session": turn.session}).one()
    allowed = frozenset(there.allowed or ())
    return replace(turn, allowed=allowed, model=there.model or "", root=there.root or turn.id)


def _wake(connection: Connection, left: AnyRow, worker: str) -> Turn | None:
    if left.stop is None and not people_speak(connection, left.session, decides=left.deadline is not None):
        return None
    return _take_over_from(connection, left, worker)


def _take_over_from(connection: Connection, left: AnyRow, worker: str) -> Turn:
    connection.execute(_take_over, {"turn": left.number, "new_worker": worker})
    turn = turn_from(left, logs.read(connection, left.number), epoch=left.epoch + 1)
    return _as_known(connection, turn)


def _resume(connection: Connection, left: AnyRow, worker: str) -> Turn:
    turn = _take_over_from(connection, left, worker)
    logs.write(connection, left.number, len(turn.entries) + 1, [Resumed()])
    return replace(turn, entries=(*turn.entries, Resumed()))


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
        root=row.id,
        generation=row.generation,
    )


def read_inbox(connection: Connection, turn_id: str, epoch: int, step: int) -> MessagesRead | None:
    """All that steers, logged as heard; an answer on the side hears nothing."""
    turn = _hold(connection, turn_id, epoch)
    rows = rows_that_steer(connection, turn.session) if turn.kind == "turn" else []
    if not rows:
        return None
    heard = MessagesRead(step, consume(connection, rows, turn_id, step, turn.generation))
    logs.write(connection, turn.number, turn.last + 1, [heard])
    return heard


def append(connection: Connection, turn_id: str, epoch: int, entries: Sequence[Entry]) -> None:
    turn = _hold(connection, turn_id, epoch)
    logs.write(connection, turn.number, turn.last + 1, entries)


def park(connection: Connection, turn_id: str, epoch: int, until: datetime | None) -> bool:
    """The turn waits for people, unless something of theirs can be read already."""
    turn = _hold(connection, turn_id, epoch)
    if turn.kind != "turn":
        raise ValueError(f"turn {turn_id} is an {turn.kind} and cannot wait for people")
    if take_as_answer(connection, turn.session, decides=until is not None):
        return False
    connection.execute(_park, {"turn": turn.number, "until": until})
    return True


def unfinished(connection: Connection, session: str) -> Turn | None:
    """The turn that runs there, or is parked; without its log."""
    turn = connection.execute(_running_turn, {"session": session}).first()
    return None if turn is None else turn_from(turn, ())


def newest(connection: Connection, session: str) -> str | None:
    """The id of the turn that runs there or has ended last, since it began anew."""
    found: str | None = connection.execute(_newest, {"session": session}).scalar()
    return found


def stop_parked(connection: Connection, session: str, reason: str) -> bool:
    """Whether the session has a parked turn, which is now to stop."""
    return connection.execute(_stop_parked, {"of_session": session, "why": reason}).rowcount > 0


def close(
    connection: Connection, turn_id: str, epoch: int, ended: Ended, entries: Sequence[Entry]
) -> tuple[Entry, ...]:
    """Ends the turn, unless it is completed and something still steers it (law 2); the entries are kept anyhow. What
    was added to the log at its end, nothing if it goes on.

    That people wish it to come to its end does not keep it: they are heard at its last step, without another answer.
    """
    turn = _hold(connection, turn_id, epoch)
    is_of_conversation = turn.kind == "turn"
    if is_of_conversation and ended.outcome == "completed" and _is_steered(connection, turn.session):
        logs.write(connection, turn.number, turn.last + 1, entries)
        return ()
    obeyed = _settle(connection, turn, turn_id, ended, entries) if is_of_conversation else ()
    logs.write(connection, turn.number, turn.last + 1, [*entries, *obeyed, ended])
    values = {"turn": turn.number, "outcome": ended.outcome, "why": ended.reason, "now": datetime.now(UTC)}
    connection.execute(_end_turn, values)
    return (*obeyed, ended)


def _is_steered(connection: Connection, session: str) -> bool:
    return any(row.busy != "wrap" for row in rows_that_steer(connection, session))


def _settle(
    connection: Connection, turn: AnyRow, turn_id: str, ended: Ended, entries: Sequence[Entry]
) -> tuple[MessagesRead, ...]:
    """What waits for this turn and can be read by no other comes to its end."""
    forget_late_deletions(connection, turn.session)
    if ended.outcome != "completed":
        drop_wraps(connection, turn.session)
        return ()
    wraps = waiting_wraps(connection, turn.session)
    if not wraps:
        return ()
    step = _last_step(connection, turn.number, entries)
    return (MessagesRead(step, consume(connection, wraps, turn_id, step, turn.generation)),)


def _last_step(connection: Connection, number: int, entries: Sequence[Entry]) -> int:
    """The step of the turn's last answer, those included that are being written."""
    steps = [entry.step for entry in (*logs.read(connection, number), *entries) if isinstance(entry, ModelAnswered)]
    return max(steps, default=1)


def _hold(connection: Connection, turn_id: str, epoch: int) -> AnyRow:
    """The running turn. Raises `TurnLost` when its epoch is no longer the caller's or it has ended."""
    turn = connection.execute(_held_turn, {"turn_id": turn_id, "held_epoch": epoch}).first()
    if turn is None:
        raise TurnLost(f"turn {turn_id} is no longer this worker's")
    return turn


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
    turn = _new(uuid4().hex, row.session, address_from_json(row.address), principal, row.message_id, "command")
    _tell(connection, turn, Notice(text), worker)
    connection.execute(_answer_command, {"row": command_id, "by": turn.id})
    return turn.id


def say(
    connection: Connection, session: str, address: Address, reply_to: str | None, told: Notice, key: str, worker: str
) -> str | None:
    """The new reply's id; None if this key was said before."""
    keep_session(connection, session, address)
    turn = _new(uuid5(NAMESPACE_URL, key).hex, session, address, GATEWAY, reply_to, "command")
    return turn.id if _tell(connection, turn, told, worker) else None


def begin_side_question(connection: Connection, command_id: int, worker: str) -> Turn:
    """The command is answered by a turn of its own that has read its words, beside what runs and waits.

    Raises `LookupError` if there is no such command, or it is answered already.
    """
    row = connection.execute(_command, {"row": command_id}).first()
    if row is None or row.state != "waiting":
        raise LookupError(f"inbox row {command_id} is no command that waits")
    principal = Sender(row.sender_id, row.sender_name, row.sender_handle)
    address = address_from_json(row.address)
    turn = _new(uuid4().hex, row.session, address, principal, row.message_id, "aside")
    number, generation = connection.execute(_begin_turn, _values(turn, worker, "running")).one()
    said = UserMessage(row.id, row.sender_name, row.text, (), row.note, row.message_id, address.kind == "group")
    logs.write(connection, number, 1, [MessagesRead(1, (said,))])
    connection.execute(_answer_command, {"row": command_id, "by": turn.id})
    return _as_known(connection, replace(turn, entries=(MessagesRead(1, (said,)),), generation=generation))


def resume_side_question(connection: Connection, turn_id: str, worker: str) -> Turn:
    """An answer on the side that another worker left. Raises `LookupError` if it is not to be had."""
    left = connection.execute(_aside, {"turn_id": turn_id}).first()
    if left is None:
        raise LookupError(f"there is no unfinished aside {turn_id}")
    return _resume(connection, left, worker)


def _new(id: str, session: str, address: Address, principal: Sender, reply_to: str | None, kind: TurnKind) -> Turn:
    return Turn(id, session, 1, address, principal, reply_to, kind, (), datetime.now(UTC))


def _tell(connection: Connection, turn: Turn, told: Notice, worker: str) -> bool:
    """A turn that says one thing and is over; False if it was there already."""
    number = connection.execute(_say_once, _values(turn, worker, "completed")).scalar()
    if number is not None:
        logs.write(connection, number, 1, [told, Ended("completed")])
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
        "deadline": None,
        "undone": False,
        "started_at": turn.started_at,
        "ended_at": None if state == "running" else turn.started_at,
        "delivered": False,
    }


def set_busy(connection: Connection, session: str, busy: Busy) -> None:
    connection.execute(_set_busy, {"of_session": session, "chosen": busy})


def set_model(connection: Connection, session: str, name: str | None) -> None:
    connection.execute(_set_model, {"of_session": session, "chosen": name})


def model_of(connection: Connection, session: str) -> str | None:
    name: str | None = connection.execute(_model, {"session": session}).scalar()
    return name


def set_title(connection: Connection, session: str, title: str, generation: int | None) -> None:
    """Changes nothing if the session has begun anew since that generation."""
    connection.execute(_set_title, {"of_session": session, "of_generation": generation, "words": title})


def renew(connection: Connection, session: str) -> None:
    """What is said from now on, and what still waits, has no history."""
    connection.execute(_renew, {"of_session": session})
    connection.execute(_renew_waiting, {"of_session": session})


def delivered(connection: Connection, turn_id: str) -> None:
    connection.execute(_deliver, {"turn_id": turn_id})
