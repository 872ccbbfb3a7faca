"""Rows of background work: what runs, what has ended, and where the turns of a delegated task are."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from pydantic import TypeAdapter
from sqlalchemy import Connection, bindparam, select

from agent.background import BackgroundState, DelegatedTask
from agent.foreign import foreign_sources
from agent.log import Ended, Entry
from gateway.store import reading
from gateway.store.background_text import NO_ANSWER, answer_in, files_in, status_in, title_of, with_answers
from gateway.store.encoding import address_from_json, sender_from_json
from gateway.store.records import BackgroundResult, BackgroundRow
from gateway.store.schema import AnyRow, work
from gateway.store.sessions import generation_of

MAX_ENDED_LISTED = 10
"""Background items that have ended and are still listed."""

task_json: TypeAdapter[DelegatedTask] = TypeAdapter(DelegatedTask)

# SQLite guarantees no order among equal rows, and handles are counted in the order of the rows.
_in_order = select(work).order_by(work.c.id)
_running = work.c.state == "running"
_by_id = select(work).where(work.c.id == bindparam("row"))
_by_child = select(work).where(work.c.child == bindparam("session"))
_by_handle = select(work).where(work.c.session == bindparam("session"), work.c.handle == bindparam("name"))
_running_of = _in_order.where(work.c.session == bindparam("session"), _running)
_ended = (
    select(work)
    .where(work.c.session == bindparam("session"), work.c.generation == bindparam("of_generation"), ~_running)
    .order_by(work.c.id.desc())
    .limit(MAX_ENDED_LISTED)
)
_stopped = _in_order.where(work.c.id.in_(bindparam("ids", expanding=True)), work.c.state == "stopped")
_all_running = _in_order.where(_running)


def by_id(connection: Connection, row_id: int) -> BackgroundRow:
    return row_from(connection.execute(_by_id, {"row": row_id}).one())


def by_handle(connection: Connection, session: str, handle: str) -> BackgroundRow | None:
    found = connection.execute(_by_handle, {"session": session, "name": handle}).first()
    return None if found is None else row_from(found)


def listed(connection: Connection, session: str) -> tuple[BackgroundRow, ...]:
    """What runs for the session, and what ended in it last, oldest first."""
    values = {"session": session, "of_generation": generation_of(connection, session)}
    rows = [*running_of(connection, session), *map(row_from, connection.execute(_ended, values).all())]
    return tuple(sorted(rows, key=lambda row: row.id))


def running_of(connection: Connection, session: str) -> list[BackgroundRow]:
    """What runs for the session, oldest first."""
    return [row_from(row) for row in connection.execute(_running_of, {"session": session}).all()]


def running(connection: Connection) -> tuple[BackgroundRow, ...]:
    """What runs for any session, oldest first."""
    return tuple(map(row_from, connection.execute(_all_running).all()))


def stopped(connection: Connection, ids: Collection[int]) -> tuple[tuple[BackgroundRow, BackgroundResult], ...]:
    """Those that were stopped, with their results."""
    found: list[tuple[BackgroundRow, BackgroundResult]] = []
    for row in map(row_from, connection.execute(_stopped, {"ids": list(ids)}).all()):
        foreign = () if row.child is None else sources_in(logs_of(connection, row.child))
        found.append((row, BackgroundResult("stopped", row.shown, foreign=foreign)))
    return tuple(found)


# Delegated tasks


def task_of(connection: Connection, child: str) -> BackgroundRow | None:
    """The task that runs in this session; None if people write in it."""
    found = connection.execute(_by_child, {"session": child}).first()
    return None if found is None else row_from(found)


def logs_of(connection: Connection, child: str) -> list[tuple[Entry, ...]]:
    """The logs of the task's turns, oldest first."""
    return [turn.entries for turn in reading.turns_of(connection, child) if turn.kind == "turn"]


def status(connection: Connection, row: BackgroundRow) -> str:
    """What a running task does at the moment, in one line."""
    assert row.child is not None
    logs = logs_of(connection, row.child)
    return status_in(logs[-1] if logs else ())


def outcome(connection: Connection, row: BackgroundRow) -> BackgroundResult:
    """The result of a task that has ended."""
    assert row.child is not None
    found = result_of(connection, row.child)
    if found is None or row.state != found.state:
        return BackgroundResult(row.state, row.shown)
    return found


def result_of(connection: Connection, child: str) -> BackgroundResult | None:
    """The result of the task's turns; None while one of them runs."""
    logs = logs_of(connection, child)
    last = logs[-1][-1] if logs and logs[-1] else None
    if not isinstance(last, Ended):
        return None
    files = tuple(dict.fromkeys(file for log in logs for file in files_in(log)))
    if last.outcome == "completed":
        text = "\n\n".join(filter(None, map(answer_in, logs))) or NO_ANSWER
        return BackgroundResult("done", text, files, sources_in(logs))
    state: BackgroundState = "stopped" if last.outcome == "stopped" else "failed"
    return BackgroundResult(state, with_answers(last.reason, logs), files, sources_in(logs))


def sources_in(logs: Sequence[Sequence[Entry]]) -> tuple[str, ...]:
    """The sources of text from outside that these turns have read."""
    return tuple(dict.fromkeys(source for log in logs for source in foreign_sources((), log)))


def row_from(row: AnyRow) -> BackgroundRow:
    # The title of a task's row is the whole task as JSON; the first line of its text is shown.
    delegated = task_json.validate_json(row.title) if row.kind == "task" else None
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
