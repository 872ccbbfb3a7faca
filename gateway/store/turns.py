"""Turns of the conversation: claimed by one worker at a time, logged, parked and ended."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from uuid import uuid4

from sqlalchemy import Connection, bindparam, exists, func, or_, select, update

from agent.journal import TurnLost
from agent.log import (
    ApprovalDecided,
    CallEnded,
    Ended,
    Entry,
    InputEnded,
    MessagesRead,
    ModelAnswered,
    Resumed,
    dump,
    load,
)
from channels.address import Sender
from gateway.store import audit, inbox, input_requests, logs
from gateway.store.adoption import RESERVED, reserved_for
from gateway.store.decisions import RELEASED
from gateway.store.encoding import address_from_json
from gateway.store.inbox import (
    close_deletions,
    consume,
    drop_finish_requests,
    finish_requests,
    has_answer,
    needs_turn,
    queue_lower,
    rows_for_new_turn,
    rows_for_running_turn,
    take_answer,
    waiting_busy,
    waiting_rows,
)
from gateway.store.records import AuditEvent, Turn
from gateway.store.schema import AnyRow, clean, is_ended, is_running, is_turn, turn_log, turns
from gateway.store.schema import inbox as inbox_rows
from gateway.store.sessions import current_generation
from gateway.store.turn_rows import insert_running, level_of, new_turn, turn_from, with_settings
from gateway.store.workers import alive

_running_turn = select(turns).where(turns.c.session == bindparam("session"), is_turn, is_running)
_newest = (
    select(turns.c.id)
    .where(turns.c.session == bindparam("session"), turns.c.generation == current_generation, turns.c.kind == "turn")
    .order_by(turns.c.number.desc())
    .limit(1)
)
_last_ended = (
    select(turns.c.id)
    .where(
        turns.c.session == bindparam("session"),
        turns.c.generation == bindparam("of_generation"),
        is_turn,
        is_ended,
        ~turns.c.undone,
    )
    .order_by(turns.c.number.desc())
    .limit(1)
)

_take_over = (
    update(turns)
    .where(turns.c.number == bindparam("turn"))
    .values(
        worker=bindparam("new_worker"),
        epoch=turns.c.epoch + 1,
        parked=False,
        deadline=None,
        delivered=False,
        draft=None,
        asks=None,
    )
)
_keep = update(turns).where(turns.c.number == bindparam("turn")).values(draft=bindparam("answer"))
_park = (
    update(turns)
    .where(turns.c.number == bindparam("turn"))
    .values(parked=True, deadline=bindparam("until"), delivered=False)
)
_release = update(turns).where(turns.c.number == bindparam("turn")).values(worker=RELEASED, epoch=turns.c.epoch + 1)
_stop = update(turns).where(turns.c.id == bindparam("of_turn"), is_running).values(stop=bindparam("why"), deadline=None)
_has_read = exists(
    select(inbox_rows.c.id).where(inbox_rows.c.turn == turns.c.id, inbox_rows.c.id < bindparam("before_row"))
)
_working_turn = _running_turn.where(~turns.c.parked, turns.c.worker != RELEASED, _has_read)
# A turn that a decision has released and nobody has claimed yet can be stopped like a parked one.
_stop_parked = (
    update(turns)
    .where(
        turns.c.session == bindparam("of_session"), is_turn, is_running, or_(turns.c.parked, turns.c.worker == RELEASED)
    )
    .values(stop=bindparam("why"), deadline=None)
)

_last = select(func.max(turn_log.c.n)).where(turn_log.c.turn == turns.c.number).scalar_subquery()
_held_turn = select(
    turns.c.number,
    turns.c.session,
    turns.c.generation,
    turns.c.kind,
    turns.c.principal,
    turns.c.worker,
    turns.c.draft.is_not(None).label("has_draft"),
    turns.c.asks.is_not(None).label("is_asking"),
    _last.label("last"),
).where(turns.c.id == bindparam("turn_id"), turns.c.epoch == bindparam("held_epoch"), is_running)

_end_turn = (
    update(turns)
    .where(turns.c.number == bindparam("turn"))
    .values(state=bindparam("outcome"), reason=bindparam("why"), ended_at=bindparam("now"), draft=None, asks=None)
)


# Claiming


def claim(connection: Connection, worker: str, session: str) -> Turn | None:
    """The session's turn to work on: an unfinished one that another worker left, or a new one that reads the waiting
    messages. None when there is nothing to read, or when a worker that is alive holds the session's turn.

    A parked turn is resumed when people have answered it, when its decision is made, or when it is to stop.
    """
    found = claimable(connection, worker, session)
    return None if found is None else found.claim()


@dataclass(frozen=True, slots=True)
class Claimable:
    """A turn that a worker may claim now, by `claim`. It is one of this person, by the id on the channel."""

    channel: str
    person: str
    claim: Callable[[], Turn]


def claimable(connection: Connection, worker: str, session: str) -> Claimable | None:
    """What `claim` would claim; the transaction decides it."""
    left = connection.execute(_running_turn, {"session": session}).first()
    if left is None:
        return _unread(connection, worker, session)
    if left.parked:
        if not _may_go_on(connection, left):
            return None
        take = partial(_take_over_from, connection, left, worker)
    elif left.worker == RELEASED:
        take = partial(_take_over_from, connection, left, worker)
    elif left.worker != reserved_for(worker) and alive(connection, left.worker.removeprefix(RESERVED)):
        return None
    else:
        take = partial(resume, connection, left, worker)
    return Claimable(left.address["channel"], left.principal["id"], take)


def begin_if_idle(connection: Connection, worker: str, session: str) -> Turn | None:
    """A new turn that reads the waiting messages. None if there are none, or if the session has an unfinished turn."""
    if connection.execute(_running_turn, {"session": session}).first() is not None:
        return None
    found = _unread(connection, worker, session)
    return None if found is None else found.claim()


def resume(connection: Connection, left: AnyRow, worker: str) -> Turn:
    """Takes over the turn of a worker that is gone, which its log says. What people have read of its answer stays."""
    turn = _take_over_from(connection, left, worker)
    added = (*_interrupted_answer(left.draft), *input_requests.left_open(left.asks), Resumed())
    logs.write(connection, left.number, len(turn.entries) + 1, added)
    former = "" if left.worker.startswith(RESERVED) else left.worker
    return replace(turn, entries=(*turn.entries, *added), former_worker=former)


def _interrupted_answer(draft: str | None) -> tuple[Entry, ...]:
    """The entry of an answer that a restart interrupted."""
    kept = () if draft is None else load([draft])
    return tuple(
        replace(entry, interrupted=True, by_restart=True) for entry in kept if isinstance(entry, ModelAnswered)
    )


def _unread(connection: Connection, worker: str, session: str) -> Claimable | None:
    waiting = waiting_rows(connection, session)
    rows = rows_for_new_turn(waiting)
    if not rows:
        return None
    are_more = len(rows) < len(waiting)
    begin = partial(_begin, connection, worker, session, rows, are_more=are_more)
    return Claimable(rows[0].address["channel"], rows[0].sender_id, begin)


def _begin(connection: Connection, worker: str, session: str, rows: Sequence[AnyRow], *, are_more: bool) -> Turn:
    """A turn that reads these rows; `are_more`: others wait."""
    first = rows[0]
    principal = Sender(first.sender_id, first.sender_name, first.sender_handle, level=first.level)
    address = address_from_json(first.address)
    turn = new_turn(first.run or uuid4().hex, session, address, principal, first.message_id, "turn")
    number, turn = insert_running(connection, turn, worker)
    read = MessagesRead(1, consume(connection, rows, turn.id, 1, turn.generation))
    logs.write(connection, number, 1, [read])
    if are_more:
        queue_lower(connection, session, principal.level)
    turn = _with_past(connection, with_settings(connection, replace(turn, entries=(read,))))
    unread = waiting_busy(connection, session) if are_more else None
    return replace(turn, first=not turn.after, unread=unread)


def _with_past(connection: Connection, turn: Turn) -> Turn:
    values = {"session": turn.session, "of_generation": turn.generation}
    return replace(turn, after=connection.execute(_last_ended, values).scalar() or "")


def _may_go_on(connection: Connection, parked: AnyRow) -> bool:
    if parked.stop is not None:
        return True
    awaits_decision = parked.deadline is not None
    return has_answer(connection, parked.session, level_of(parked), awaits_decision=awaits_decision)


def _take_over_from(connection: Connection, left: AnyRow, worker: str) -> Turn:
    connection.execute(_take_over, {"turn": left.number, "new_worker": worker})
    if left.asks is not None:
        input_requests.release(connection, left.session)
    turn = turn_from(left, logs.read(connection, left.number), epoch=left.epoch + 1)
    return _with_past(connection, with_settings(connection, turn))


# The worker that holds the turn's epoch


def read_inbox(connection: Connection, turn_id: str, epoch: int, step: int) -> MessagesRead | None:
    """Reads the messages for a running turn and logs that; None if there are none. A side question reads nothing.

    Raises `TurnLost`.
    """
    turn = hold(connection, turn_id, epoch)
    waiting = waiting_rows(connection, turn.session) if turn.kind == "turn" else ()
    rows = rows_for_running_turn(waiting, level_of(turn))
    if not rows:
        return None
    read = MessagesRead(step, consume(connection, rows, turn_id, step, turn.generation))
    logs.write(connection, turn.number, turn.last + 1, [read])
    return read


def is_arriving(connection: Connection, turn_id: str, epoch: int) -> bool:
    """Whether a message has interrupted the running turn that it cannot read yet. Raises `TurnLost`."""
    turn = hold(connection, turn_id, epoch)
    return turn.kind == "turn" and inbox.is_arriving(inbox.waiting_rows(connection, turn.session), level_of(turn))


def append(
    connection: Connection, turn_id: str, epoch: int, entries: Sequence[Entry], events: Sequence[AuditEvent] = ()
) -> None:
    """Adds to the turn's log, and the events to the audit log. Raises `TurnLost`."""
    turn = hold(connection, turn_id, epoch)
    _log(connection, turn, entries)
    audit.record(connection, *events)


def end_input(connection: Connection, turn_id: str, epoch: int, otherwise: InputEnded) -> tuple[InputEnded, bool]:
    """Ends the open request of a running call, and logs that: with the answer of a person if there is one, else as
    given. Also whether other messages are for the turn now. Raises `TurnLost`."""
    turn = hold(connection, turn_id, epoch)
    step = 1 + _last_step(connection, turn.number, ())
    ended = input_requests.take(connection, turn.session, turn_id, step, turn.generation, otherwise)
    has_more = input_requests.release(connection, turn.session)
    _log(connection, turn, [ended])
    return ended, has_more


def keep(connection: Connection, turn_id: str, epoch: int, draft: ModelAnswered | None) -> None:
    """Keeps the unfinished answer, in place of the one kept before, until an answer is logged. Raises `TurnLost`."""
    turn = hold(connection, turn_id, epoch)
    connection.execute(_keep, {"turn": turn.number, "answer": None if draft is None else dump(draft)})


def park(connection: Connection, turn_id: str, epoch: int, until: datetime | None = None) -> bool | ApprovalDecided:
    """Releases the turn until people answer, its decision is made, or the decision expires (`until`). The decision, if
    it is made already; False if people have answered already. Raises `TurnLost`."""
    turn = hold(connection, turn_id, epoch)
    if turn.kind != "turn":
        raise ValueError(f"turn {turn_id} is an {turn.kind} and cannot wait for people")
    [last] = logs.newest(connection, turn.number, 1)
    if isinstance(last, ApprovalDecided):
        return last
    if take_answer(connection, turn.session, level_of(turn), awaits_decision=until is not None):
        return False
    connection.execute(_park, {"turn": turn.number, "until": until})
    return True


def release(connection: Connection, turn_id: str, epoch: int) -> None:
    """The turn is between two steps, and whoever claims it next goes on. Raises `TurnLost`."""
    turn = hold(connection, turn_id, epoch)
    connection.execute(_release, {"turn": turn.number})


def close(
    connection: Connection, turn_id: str, epoch: int, ended: Ended, entries: Sequence[Entry] = ()
) -> tuple[Entry, ...]:
    """Adds the entries and ends the turn: the entries that end its log. Raises `TurnLost`.

    Nothing is returned, and the turn goes on, if it is completed and a message steers it: that there is none and that
    the turn ends is one transaction. A request to finish up does not keep the turn open: it is read at the last step.
    Where a turn is stopped in the moment in which it has parked, results from outside may have come before: they stand.
    """
    turn = hold(connection, turn_id, epoch)
    if turn.is_asking:
        input_requests.release(connection, turn.session)
    if turn.worker == RELEASED:
        entries = _without_second_results(connection, turn.number, entries)
    waiting = waiting_rows(connection, turn.session) if turn.kind == "turn" else ()
    if ended.outcome == "completed" and any(map(needs_turn, rows_for_running_turn(waiting, level_of(turn)))):
        _log(connection, turn, entries)
        return ()
    read = _close_inbox(connection, turn, turn_id, ended, entries) if waiting else ()
    logs.write(connection, turn.number, turn.last + 1, [*entries, *read, ended])
    values = {"turn": turn.number, "outcome": ended.outcome, "why": ended.reason, "now": datetime.now(UTC)}
    connection.execute(_end_turn, values)
    return (*read, ended)


def _without_second_results(connection: Connection, number: int, entries: Sequence[Entry]) -> Sequence[Entry]:
    ended = {entry.call_id for entry in logs.read(connection, number) if isinstance(entry, CallEnded)}
    return [entry for entry in entries if not (isinstance(entry, CallEnded) and entry.call_id in ended)]


def _log(connection: Connection, turn: AnyRow, entries: Sequence[Entry]) -> None:
    logs.write(connection, turn.number, turn.last + 1, entries)
    input_requests.note(connection, turn.number, turn.session, entries)
    if turn.has_draft and any(isinstance(entry, ModelAnswered) for entry in entries):
        connection.execute(_keep, {"turn": turn.number, "answer": None})


def _close_inbox(
    connection: Connection, turn: AnyRow, turn_id: str, ended: Ended, entries: Sequence[Entry]
) -> tuple[MessagesRead, ...]:
    """Ends the waiting messages that no other turn may read; those that the turn reads at its last step."""
    close_deletions(connection, turn.session)
    if ended.outcome != "completed":
        drop_finish_requests(connection, turn.session)
        return ()
    requests = finish_requests(connection, turn.session)
    if not requests:
        return ()
    step = _last_step(connection, turn.number, entries)
    return (MessagesRead(step, consume(connection, requests, turn_id, step, turn.generation)),)


def _last_step(connection: Connection, number: int, entries: Sequence[Entry]) -> int:
    """The step of the turn's last answer, including the entries that are being written."""
    steps = [entry.step for entry in (*logs.read(connection, number), *entries) if isinstance(entry, ModelAnswered)]
    return max(steps, default=1)


def hold(connection: Connection, turn_id: str, epoch: int) -> AnyRow:
    """The running turn. Raises `TurnLost` when the epoch is no longer the caller's or the turn has ended."""
    turn = connection.execute(_held_turn, {"turn_id": turn_id, "held_epoch": epoch}).first()
    if turn is None:
        raise TurnLost(f"turn {turn_id} is no longer this worker's")
    return turn


# Others


def unfinished(connection: Connection, session: str) -> Turn | None:
    """The session's running or parked turn, without its log."""
    turn = connection.execute(_running_turn, {"session": session}).first()
    return None if turn is None else turn_from(turn, ())


def newest(connection: Connection, session: str) -> str | None:
    """The id of the session's running or last ended turn since the last `/new`."""
    found: str | None = connection.execute(_newest, {"session": session}).scalar()
    return found


def stop_turn(connection: Connection, turn_id: str, reason: str) -> None:
    """The turn is to stop, now or when it is claimed next."""
    connection.execute(_stop, {"of_turn": turn_id, "why": reason})


def request_stop(connection: Connection, session: str, before: int, reason: str, of: str | None = None) -> Turn | None:
    """The session's turn that a worker runs is to stop, if it has read a message with an inbox id below `before`, and
    (`of`) if the sender with this id began it: the turn, without its log. None, if there is none."""
    turn = connection.execute(_working_turn, {"session": session, "before_row": before}).first()
    if turn is None or (of is not None and turn.principal["id"] != clean(of)):
        return None
    stop_turn(connection, turn.id, reason)
    return turn_from(turn, ())


def stop_parked(connection: Connection, session: str, reason: str) -> bool:
    """Whether the session has a parked turn: it ends when it is claimed next."""
    return connection.execute(_stop_parked, {"of_session": session, "why": reason}).rowcount > 0
