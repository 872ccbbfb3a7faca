"""Work beside turns: what goes on for which conversation, and the one transaction in which each piece of it ends."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Literal
from uuid import uuid4

from pydantic import TypeAdapter
from sqlalchemy import Connection, bindparam, func, insert, select, update

from agent.background import BackgroundError, BackgroundState, DelegatedTask
from agent.log import CallEnded, Ended, Entry
from gateway.sessions import child_key
from gateway.store import inbox, reading
from gateway.store.background_words import NO_WORDS, cut, files_in, last_words, message, status_in, title_of, with_words
from gateway.store.encoding import address_from_json, address_to_json, sender_from_json, sender_to_json
from gateway.store.records import Arrival, BackgroundRow, Ending, Finished, Turn
from gateway.store.schema import AnyRow, is_running, sessions, turns, work

SHOWN_LENGTH = 500
"""Characters of a result that are shown with the work itself."""

MOST_REMEMBERED = 10
"""Pieces of work that have ended and are still listed."""

FOR_THE_TASK = (
    "This task was given to you by yourself, out of a conversation that is not shown to you. Nobody reads along, and "
    "nobody can be asked. Your last answer is the result: put into it all that is needed there."
)
TOLD = "Said by whoever gave you the task."
NOBODY_SAID = "No person wrote this: it comes from work in the background."
EARLIER = "It belongs to the conversation before the last /new, which is not shown to you."
LOST = (
    "It was interrupted by a restart, and has no result. It may or may not have taken effect, wholly or in part, and "
    "was not run again. Check before repeating it."
)
NOT_FOR_IT = "the work it was for was stopped"

_delegated: TypeAdapter[DelegatedTask] = TypeAdapter(DelegatedTask)

# SQLite keeps no order of its own among equals, and handles are counted in the order of the rows.
_in_order = select(work).order_by(work.c.id)
_running = work.c.state == "running"
_by_id = select(work).where(work.c.id == bindparam("row"))
_by_call = select(work).where(work.c.call_id == bindparam("call"))
_by_child = select(work).where(work.c.child == bindparam("session"))
_by_handle = select(work).where(work.c.session == bindparam("session"), work.c.handle == bindparam("name"))
_running_of = _in_order.where(work.c.session == bindparam("session"), _running)
_remembered = (
    select(work)
    .where(work.c.session == bindparam("session"), work.c.generation == bindparam("of_generation"), ~_running)
    .order_by(work.c.id.desc())
    .limit(MOST_REMEMBERED)
)
_all_running = _in_order.where(_running)
_awaited = _in_order.where(work.c.turn == bindparam("of_turn"), work.c.waited)
_awaiting_turns = (
    select(work.c.turn, func.coalesce(is_running, False).label("running"))
    .select_from(work.outerjoin(turns, turns.c.id == work.c.turn))
    .where(work.c.waited)
    .distinct()
)

_count_begun = select(func.count()).select_from(work).where(work.c.session == bindparam("session"))
_count_calls = _count_begun.where(work.c.kind == "call", _running)
_count_tasks = (
    select(func.count()).select_from(work).where(work.c.root == bindparam("of_root"), work.c.kind == "task", _running)
)
_generation = select(sessions.c.generation).where(sessions.c.key == bindparam("session"))

_begin = insert(work).returning(work)
_end = (
    update(work)
    .where(work.c.id == bindparam("row"), _running)
    .values(state=bindparam("how"), shown=bindparam("words"), ended_at=bindparam("now"))
)
_set_waited = update(work).where(work.c.id == bindparam("row")).values(waited=bindparam("is_waited"))

_turn_runs = select(turns.c.id).where(turns.c.id == bindparam("of_turn"), is_running)
_stop_child = (
    update(turns)
    .where(turns.c.session == bindparam("of_session"), turns.c.kind == "turn", is_running)
    .values(stop=bindparam("why"))
)
# Nobody is shown the replies of delegated turns.
_deliver_child = update(turns).where(turns.c.session == bindparam("of_session")).values(delivered=True)


@dataclass(frozen=True, slots=True)
class Limits:
    """How deep tasks may delegate further, and how many may run at once: tasks for one turn, calls for one
    conversation."""

    depth: int = 2
    running: int = 8


USUAL = Limits()


# Beginning


def keep(connection: Connection, turn: Turn, title: str, limits: Limits) -> BackgroundRow:
    """A call of the turn goes on in the background. Raises `BackgroundError`."""
    if int(connection.execute(_count_calls, {"session": turn.session}).scalar_one()) >= limits.running:
        raise BackgroundError(f"{limits.running} calls go on in the background already")
    return _insert(connection, turn, "call", title, _parent_of(connection, turn.session))


def delegate(
    connection: Connection, turn: Turn, call_id: str, delegated: DelegatedTask, limits: Limits, *, waited: bool
) -> tuple[BackgroundRow, Arrival | None]:
    """The task of that call, as it was begun before or begun now: then its first message is in its inbox.

    Raises `BackgroundError` when a limit does not allow it.
    """
    found = connection.execute(_by_call, {"call": call_id}).first()
    if found is not None:
        return _find_again(connection, _row_from(found), waited), None
    parent = _parent_of(connection, turn.session)
    if parent is not None:
        delegated = _within(parent, delegated)
    if (0 if parent is None else parent.depth) >= limits.depth:
        raise BackgroundError("nothing may be delegated from here: do it yourself")
    root = turn.id if parent is None else parent.root
    if int(connection.execute(_count_tasks, {"of_root": root}).scalar_one()) >= limits.running:
        raise BackgroundError(
            f"{limits.running} delegated tasks run already: wait until one has ended, or do it yourself"
        )
    row = _insert(connection, turn, "task", _delegated.dump_json(delegated).decode(), parent, call_id, waited)
    assert row.child is not None
    event_id = f"delegate:{call_id}"
    arrival = inbox.bring(
        connection, row.child, turn.address, turn.principal, delegated.task, (), event_id, FOR_THE_TASK
    )
    return row, arrival


def _find_again(connection: Connection, row: BackgroundRow, waited: bool) -> BackgroundRow:
    """The call is made again after a restart, and waits again."""
    if row.state != "running" or row.waited == waited:
        return row
    connection.execute(_set_waited, {"row": row.id, "is_waited": waited})
    return replace(row, waited=waited)


def _within(parent: BackgroundRow, delegated: DelegatedTask) -> DelegatedTask:
    """A task's task has no more time than it."""
    if parent.state != "running":
        raise BackgroundError("this task has been ended")
    left = max(0.0, (parent.until - datetime.now(UTC)).total_seconds())
    return replace(delegated, seconds=min(delegated.seconds, left))


def _insert(
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
        "generation": connection.execute(_generation, {"session": turn.session}).scalar_one(),
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
    return _row_from(connection.execute(_begin, values).one())


# Ending


def end(connection: Connection, row_id: int, ending: Ending) -> Finished | None:
    """Ends a kept call and brings its result; None if it has ended before."""
    row = _row_from(connection.execute(_by_id, {"row": row_id}).one())
    return _finish(connection, row, ending, told=True)


def finish(connection: Connection, child: str) -> Finished | None:
    """Ends the task whose session this is, if its turn has ended and nothing there waits to be read."""
    row = _parent_of(connection, child)
    if row is None or row.state != "running" or inbox.count_waiting(connection, child):
        return None
    ending = _ending_of(connection, child)
    return None if ending is None else _finish(connection, row, ending, told=True)


def stop(connection: Connection, row_id: int, ending: Ending, *, told: bool) -> tuple[Finished, ...]:
    """Ends work that runs, and all that was begun for it. `told`: a message says so, unless its turn waits for it."""
    row = _row_from(connection.execute(_by_id, {"row": row_id}).one())
    return _stop(connection, row, ending, told=told)


def settle(connection: Connection, turn_id: str) -> tuple[Finished, ...]:
    """The turn has ended and waits for nothing any more: what it waited for ends with a stopped one, else goes on.
    Answers that came and that it never saw are brought."""
    finished: list[Finished] = []
    entries = reading.turn(connection, turn_id).entries
    stopped, seen = _is_stopped(entries), _seen_in(entries)
    for row in map(_row_from, connection.execute(_awaited, {"of_turn": turn_id}).all()):
        if row.state == "running" and stopped:
            finished.extend(_stop(connection, row, Ending("stopped", NOT_FOR_IT), told=False))
        elif row.state != "running" and row.call_id not in seen and not stopped:
            finished.append(_late(connection, row))
        connection.execute(_set_waited, {"row": row.id, "is_waited": False})
    return tuple(finished)


def detach(connection: Connection, row_id: int) -> Finished | None:
    """The turn does not wait for the task any more: its answer is brought, now if it is there already."""
    row = _row_from(connection.execute(_by_id, {"row": row_id}).one())
    connection.execute(_set_waited, {"row": row_id, "is_waited": False})
    return None if row.state == "running" else _late(connection, row)


def _stop(connection: Connection, row: BackgroundRow, ending: Ending, *, told: bool) -> tuple[Finished, ...]:
    reason = ending.text
    if row.child is not None:
        ending = replace(ending, text=with_words(reason, _logs(connection, row.child)))
    over = _finish(connection, row, ending, told=told)
    if over is None:
        return ()
    finished = [replace(over, stops=reason)]
    if row.child is not None:
        connection.execute(_stop_child, {"of_session": row.child, "why": reason})
        inbox.stop_waiting(connection, row.child, _NO_END, reason)
        for beneath in map(_row_from, connection.execute(_running_of, {"session": row.child}).all()):
            finished.extend(_stop(connection, beneath, Ending("stopped", NOT_FOR_IT), told=False))
    return tuple(finished)


_NO_END = 2**62
"""A row id that is never reached."""


def _finish(connection: Connection, row: BackgroundRow, ending: Ending, *, told: bool) -> Finished | None:
    shown = cut(ending.text, SHOWN_LENGTH)
    values = {"row": row.id, "how": ending.state, "words": shown, "now": datetime.now(UTC)}
    if connection.execute(_end, values).rowcount == 0:
        return None
    if row.child is not None:
        connection.execute(_deliver_child, {"of_session": row.child})
    row = replace(row, state=ending.state, shown=shown)
    if not told or (row.waited and connection.execute(_turn_runs, {"of_turn": row.turn}).first()):
        return Finished(row, ending)
    return Finished(row, ending, _bring(connection, row, ending))


def _late(connection: Connection, row: BackgroundRow) -> Finished:
    """An answer that nobody waits for any more becomes a message."""
    ending = outcome(connection, row)
    return Finished(row, ending, _bring(connection, row, ending))


def _bring(connection: Connection, row: BackgroundRow, ending: Ending) -> Arrival:
    """Into the conversation in which it began. A task that has ended reads no more: what was for it goes to whoever
    had given it."""
    session, generation = row.session, row.generation
    while (parent := _parent_of(connection, session)) is not None and parent.state != "running":
        session, generation = parent.session, parent.generation
    is_earlier = connection.execute(_generation, {"session": session}).scalar_one() != generation
    return inbox.bring(
        connection,
        session,
        row.address,
        row.principal,
        message(row, ending),
        ending.attachments,
        f"work:{row.id}",
        f"{NOBODY_SAID} {EARLIER}" if is_earlier else NOBODY_SAID,
    )


# Looking


def listed(connection: Connection, session: str) -> tuple[BackgroundRow, ...]:
    """What runs for the conversation, and what has ended in it lately, oldest first."""
    generation = connection.execute(_generation, {"session": session}).scalar()
    ended = connection.execute(_remembered, {"session": session, "of_generation": generation}).all()
    rows = [*connection.execute(_running_of, {"session": session}).all(), *ended]
    return tuple(sorted(map(_row_from, rows), key=lambda row: row.id))


def by_handle(connection: Connection, session: str, handle: str) -> BackgroundRow | None:
    found = connection.execute(_by_handle, {"session": session, "name": handle}).first()
    return None if found is None else _row_from(found)


def running(connection: Connection) -> tuple[BackgroundRow, ...]:
    """All that a process that starts finds running."""
    return tuple(map(_row_from, connection.execute(_all_running).all()))


def awaiting(connection: Connection) -> tuple[tuple[str, bool], ...]:
    """The turns that waited for tasks, and whether they still do."""
    return tuple((row.turn, bool(row.running)) for row in connection.execute(_awaiting_turns))


def task_of(connection: Connection, child: str) -> BackgroundRow | None:
    """The task whose session this is."""
    return _parent_of(connection, child)


def outcome(connection: Connection, row: BackgroundRow) -> Ending:
    """How a task that is over ended."""
    assert row.child is not None
    found = _ending_of(connection, row.child)
    if found is None or row.state != found.state:
        return Ending(row.state, row.shown)
    return found


def tell(connection: Connection, row: BackgroundRow, words: str) -> Arrival | None:
    """A message to the task; None if it has ended."""
    now = connection.execute(_by_id, {"row": row.id}).one()
    if row.child is None or now.state != "running":
        return None
    event_id = f"tell:{uuid4().hex}"
    return inbox.bring(connection, row.child, row.address, row.principal, words, (), event_id, TOLD, "steer")


def status(connection: Connection, row: BackgroundRow) -> str:
    """What a running task does just now."""
    assert row.child is not None
    logs = _logs(connection, row.child)
    return status_in(logs[-1] if logs else ())


def _parent_of(connection: Connection, session: str) -> BackgroundRow | None:
    found = connection.execute(_by_child, {"session": session}).first()
    return None if found is None else _row_from(found)


def _logs(connection: Connection, session: str) -> list[tuple[Entry, ...]]:
    return [turn.entries for turn in reading.turns_of(connection, session) if turn.kind == "turn"]


def _ending_of(connection: Connection, child: str) -> Ending | None:
    """What became of the task's turns; None while one of them runs."""
    logs = _logs(connection, child)
    last = logs[-1][-1] if logs and logs[-1] else None
    if not isinstance(last, Ended):
        return None
    files = tuple(dict.fromkeys(file for log in logs for file in files_in(log)))
    if last.outcome == "completed":
        return Ending("done", "\n\n".join(filter(None, map(last_words, logs))) or NO_WORDS, files)
    state: BackgroundState = "stopped" if last.outcome == "stopped" else "failed"
    return Ending(state, with_words(last.reason, logs), files)


def _is_stopped(entries: Sequence[Entry]) -> bool:
    last = entries[-1]
    return isinstance(last, Ended) and last.outcome == "stopped"


def _seen_in(entries: Sequence[Entry]) -> set[str]:
    """The calls whose own result the turn has seen."""
    ends = (entry for entry in entries if isinstance(entry, CallEnded))
    return {end.call_id for end in ends if end.outcome in ("done", "failed")}


def _row_from(row: AnyRow) -> BackgroundRow:
    # A task's title is its whole commission, of which its first line is shown.
    delegated = _delegated.validate_json(row.title) if row.kind == "task" else None
    return BackgroundRow(
        id=row.id,
        handle=row.handle,
        session=row.session,
        generation=row.generation,
        kind=row.kind,
        title=title_of(row.title if delegated is None else delegated.task),
        address=address_from_json(row.address),
        principal=sender_from_json(row.principal),
        turn=row.turn,
        root=row.root,
        call_id=row.call_id,
        child=row.child,
        waited=row.waited,
        depth=row.depth,
        state=row.state,
        shown=row.shown,
        started_at=row.started_at,
        delegated=delegated,
    )
