"""Background work: begun by a turn, and ended in one transaction together with the message that brings its result."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Literal
from uuid import uuid4

from sqlalchemy import Connection, bindparam, func, insert, select, update

from agent.background import BackgroundError, DelegatedTask
from agent.log import CallEnded, Ended, Entry, Spent
from gateway.sessions import child_key
from gateway.store import costs, reading
from gateway.store.arrivals import accept_background_message
from gateway.store.background_rows import (
    by_id,
    logs_of,
    outcome,
    result_of,
    row_from,
    running_of,
    sources_in,
    task_json,
    task_of,
)
from gateway.store.background_text import cut, message, with_answers
from gateway.store.encoding import address_to_json, sender_to_json
from gateway.store.inbox import MAX_ROW_ID, count_waiting, withdraw_waiting
from gateway.store.records import Arrival, BackgroundResult, BackgroundRow, Finished, Turn
from gateway.store.schema import is_running, turns, work
from gateway.store.sessions import generation_of
from gateway.store.turns import unfinished

MAX_SHOWN_LENGTH = 500
"""Characters of a result that are listed with the work itself."""

TASK_NOTE = (
    "You delegated this task from another conversation, which you cannot see. No person reads this session or can be "
    "asked. Your last answer is the result: include everything that is needed there."
)
MESSAGE_NOTE = "From the conversation that delegated this task."
RESULT_NOTE = "No person wrote this: it comes from work in the background."
EARLIER_NOTE = "It belongs to the conversation before the last /new, which is not shown to you."
LOST = (
    "It was interrupted by a restart, and has no result. It may or may not have taken effect, wholly or in part, and "
    "was not run again. Check before repeating it."
)
PARENT_STOPPED = "the work it was for was stopped"

_by_call = select(work).where(work.c.call_id == bindparam("call"))
_awaited = select(work).where(work.c.turn == bindparam("of_turn"), work.c.waited).order_by(work.c.id)
_count_begun = select(func.count()).select_from(work).where(work.c.session == bindparam("session"))
_count_calls = _count_begun.where(work.c.kind == "call", work.c.state == "running")
_count_tasks = (
    select(func.count())
    .select_from(work)
    .where(work.c.root == bindparam("of_root"), work.c.kind == "task", work.c.state == "running")
)
_insert = insert(work).returning(work)
_end = (
    update(work)
    .where(work.c.id == bindparam("row"), work.c.state == "running")
    .values(state=bindparam("how"), shown=bindparam("shown_text"), ended_at=bindparam("now"))
)
_set_waited = update(work).where(work.c.id == bindparam("row")).values(waited=bindparam("is_waited"))
_turn_runs = select(turns.c.id).where(turns.c.id == bindparam("of_turn"), is_running)
_stop_child = (
    update(turns)
    .where(turns.c.session == bindparam("of_session"), turns.c.kind == "turn", is_running)
    .values(stop=bindparam("why"))
)
# Nobody sees the replies of delegated turns.
_deliver_child = update(turns).where(turns.c.session == bindparam("of_session")).values(delivered=True)


@dataclass(frozen=True, slots=True)
class Limits:
    """`depth`: how deep tasks may delegate further. `running`: how many may run at once (tasks for one turn, calls in
    one session)."""

    depth: int = 2
    running: int = 8


DEFAULT_LIMITS = Limits()


# Beginning


def begin_call(connection: Connection, turn: Turn, title: str, limits: Limits) -> BackgroundRow:
    """A call of the turn goes on in the background. Raises `BackgroundError` when a limit does not allow it."""
    if int(connection.execute(_count_calls, {"session": turn.session}).scalar_one()) >= limits.running:
        raise BackgroundError(f"{limits.running} calls go on in the background already")
    return _begin(connection, turn, "call", title, task_of(connection, turn.session))


def begin_task(
    connection: Connection, turn: Turn, call_id: str, delegated: DelegatedTask, limits: Limits, *, waited: bool
) -> tuple[BackgroundRow, Arrival | None]:
    """The task that this call delegates, with its first message in its inbox; no message if it was begun before.

    Raises `BackgroundError` when a limit does not allow it.
    """
    found = connection.execute(_by_call, {"call": call_id}).first()
    if found is not None:
        return _begun_before(connection, row_from(found), waited), None
    parent = task_of(connection, turn.session)
    if parent is not None:
        delegated = _within_time_of(parent, delegated)
    if (0 if parent is None else parent.depth) >= limits.depth:
        raise BackgroundError("nothing may be delegated from here: do it yourself")
    root = turn.id if parent is None else parent.root
    if int(connection.execute(_count_tasks, {"of_root": root}).scalar_one()) >= limits.running:
        raise BackgroundError(
            f"{limits.running} delegated tasks run already: wait until one has ended, or do it yourself"
        )
    row = _begin(connection, turn, "task", task_json.dump_json(delegated).decode(), parent, call_id, waited)
    assert row.child is not None
    event_id = f"delegate:{call_id}"
    sources = sources_in([reading.turn(connection, turn.id).entries])
    arrival = accept_background_message(
        connection, row.child, turn.address, turn.principal, delegated.task, (), event_id, TASK_NOTE, sources=sources
    )
    return row, arrival


def _begun_before(connection: Connection, row: BackgroundRow, waited: bool) -> BackgroundRow:
    """The call is made again after a restart, and waits again."""
    if row.state != "running" or row.waited == waited:
        return row
    connection.execute(_set_waited, {"row": row.id, "is_waited": waited})
    return replace(row, waited=waited)


def _within_time_of(parent: BackgroundRow, delegated: DelegatedTask) -> DelegatedTask:
    """A task's task has no more time than the task has left."""
    if parent.state != "running":
        raise BackgroundError("this task has been ended")
    left = max(0.0, (parent.until - datetime.now(UTC)).total_seconds())
    return replace(delegated, seconds=min(delegated.seconds, left))


def _begin(
    connection: Connection,
    turn: Turn,
    kind: Literal["call", "task"],
    title: str,
    parent: BackgroundRow | None,
    call_id: str | None = None,
    waited: bool = False,
) -> BackgroundRow:
    handle = f"w{int(connection.execute(_count_begun, {'session': turn.session}).scalar_one()) + 1}"
    values = {
        "handle": handle,
        "session": turn.session,
        "generation": generation_of(connection, turn.session),
        "kind": kind,
        "title": title,
        "address": address_to_json(turn.address),
        "principal": sender_to_json(turn.principal),
        "turn": turn.id,
        "root": turn.id if parent is None else parent.root,
        "call_id": call_id,
        "child": child_key(turn.session, handle) if kind == "task" else None,
        "waited": waited,
        "depth": (0 if parent is None else parent.depth) + (kind == "task"),
        "state": "running",
        "shown": "",
        "started_at": datetime.now(UTC),
        "ended_at": None,
    }
    return row_from(connection.execute(_insert, values).one())


def send_to_task(connection: Connection, row: BackgroundRow, text: str) -> Arrival | None:
    """A message to the task; None if it has ended."""
    now = by_id(connection, row.id)
    if row.child is None or now.state != "running":
        return None
    event_id = f"tell:{uuid4().hex}"
    running = unfinished(connection, row.session)
    sources = () if running is None else sources_in([reading.turn(connection, running.id).entries])
    return accept_background_message(
        connection, row.child, row.address, row.principal, text, (), event_id, MESSAGE_NOTE, "steer", sources
    )


# Ending


def end_call(
    connection: Connection, row_id: int, result: BackgroundResult, spent: Sequence[Spent] = ()
) -> Finished | None:
    """Ends a background call, with the message that brings its result; None if it has ended before. `spent` is what it
    has cost the turn that began it, in any case."""
    row = by_id(connection, row_id)
    for each in spent:
        # The turn may have been deleted meanwhile.
        with suppress(LookupError):
            costs.add_spent(connection, row.turn, each.usage, each.model, each.purpose)
    return _end_row(connection, row, result, notify=True)


def finish_task(connection: Connection, child: str) -> Finished | None:
    """Ends the task that runs in this session, if its turn has ended and no message waits there."""
    row = task_of(connection, child)
    if row is None or row.state != "running" or count_waiting(connection, child):
        return None
    result = result_of(connection, child)
    return None if result is None else _end_row(connection, row, result, notify=True)


def stop(connection: Connection, row_id: int, result: BackgroundResult, *, notify: bool) -> tuple[Finished, ...]:
    """Ends running work, and all that was begun for it. `notify`: with a message, unless its turn waits for it."""
    return _stop(connection, by_id(connection, row_id), result, notify=notify)


def settle(connection: Connection, turn_id: str) -> tuple[Finished, ...]:
    """The turn has ended and waits for no task any more: its tasks stop if it was stopped, else they go on. Results
    that the turn did not see become messages."""
    finished: list[Finished] = []
    entries = reading.turn(connection, turn_id).entries
    stopped, seen = _is_stopped(entries), _seen_in(entries)
    for row in map(row_from, connection.execute(_awaited, {"of_turn": turn_id}).all()):
        if row.state == "running" and stopped:
            finished.extend(_stop(connection, row, BackgroundResult("stopped", PARENT_STOPPED), notify=False))
        elif row.state != "running" and row.call_id not in seen and not stopped:
            finished.append(_bring_late(connection, row))
        connection.execute(_set_waited, {"row": row.id, "is_waited": False})
    return tuple(finished)


def detach(connection: Connection, row_id: int) -> Finished | None:
    """The turn does not wait for the task any more: its result becomes a message, now if it has ended already."""
    row = by_id(connection, row_id)
    connection.execute(_set_waited, {"row": row_id, "is_waited": False})
    return None if row.state == "running" else _bring_late(connection, row)


def _stop(
    connection: Connection, row: BackgroundRow, result: BackgroundResult, *, notify: bool
) -> tuple[Finished, ...]:
    reason = result.text
    if row.child is not None:
        logs = logs_of(connection, row.child)
        result = replace(result, text=with_answers(reason, logs), foreign=sources_in(logs))
    ended = _end_row(connection, row, result, notify=notify)
    if ended is None:
        return ()
    finished = [replace(ended, stop_reason=reason)]
    if row.child is not None:
        connection.execute(_stop_child, {"of_session": row.child, "why": reason})
        withdraw_waiting(connection, row.child, MAX_ROW_ID, reason)
        for nested in running_of(connection, row.child):
            finished.extend(_stop(connection, nested, BackgroundResult("stopped", PARENT_STOPPED), notify=False))
    return tuple(finished)


def _end_row(connection: Connection, row: BackgroundRow, result: BackgroundResult, *, notify: bool) -> Finished | None:
    shown = cut(result.text, MAX_SHOWN_LENGTH)
    values = {"row": row.id, "how": result.state, "shown_text": shown, "now": datetime.now(UTC)}
    if connection.execute(_end, values).rowcount == 0:
        return None
    if row.child is not None:
        connection.execute(_deliver_child, {"of_session": row.child})
    row = replace(row, state=result.state, shown=shown)
    if not notify or (row.waited and connection.execute(_turn_runs, {"of_turn": row.turn}).first()):
        return Finished(row, result)
    return Finished(row, result, _bring(connection, row, result))


def _bring_late(connection: Connection, row: BackgroundRow) -> Finished:
    """The result that no turn waits for any more becomes a message."""
    result = outcome(connection, row)
    return Finished(row, result, _bring(connection, row, result))


def _bring(connection: Connection, row: BackgroundRow, result: BackgroundResult) -> Arrival:
    """The result as a message in the session in which the work was begun. If that is the session of a task that has
    ended, which reads no more, the message goes to the session that delegated the task."""
    session, generation = row.session, row.generation
    while (parent := task_of(connection, session)) is not None and parent.state != "running":
        session, generation = parent.session, parent.generation
    is_earlier = generation_of(connection, session) != generation
    return accept_background_message(
        connection,
        session,
        row.address,
        row.principal,
        message(row, result),
        result.attachments,
        f"work:{row.id}",
        f"{RESULT_NOTE} {EARLIER_NOTE}" if is_earlier else RESULT_NOTE,
        sources=result.foreign,
    )


def _is_stopped(entries: Sequence[Entry]) -> bool:
    return any(isinstance(entry, Ended) and entry.outcome == "stopped" for entry in entries)


def _seen_in(entries: Sequence[Entry]) -> set[str]:
    """The calls whose own results the turn has seen."""
    ends = (entry for entry in entries if isinstance(entry, CallEnded))
    return {end.call_id for end in ends if end.outcome in ("done", "failed")}
