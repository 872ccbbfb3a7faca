"""Runs: the state of each message that expects its own answer, from its row and the turn that read it."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection, bindparam, select

from channels.runs import RunState
from gateway.store.records import FollowedRun, Run
from gateway.store.schema import AnyRow, inbox, turns

TOGETHER = "answered together with another message"

_runs = select(
    inbox.c.id,
    inbox.c.run,
    inbox.c.session,
    inbox.c.state,
    inbox.c.turn,
    inbox.c.step,
    inbox.c.reason,
    turns.c.state.label("turn_state"),
    turns.c.parked,
    turns.c.reason.label("turn_reason"),
    turns.c.epoch,
    turns.c.started_at,
    turns.c.ended_at,
).select_from(inbox.outerjoin(turns, turns.c.id == inbox.c.turn))
_one = _runs.where(inbox.c.run == bindparam("run"))
_several = _runs.where(inbox.c.run.in_(bindparam("runs", expanding=True)))
_of_event = select(inbox.c.run).where(
    inbox.c.channel == bindparam("channel"), inbox.c.event_id == bindparam("event_id"), inbox.c.run.is_not(None)
)


def run(connection: Connection, run_id: str) -> Run | None:
    """What became of the message that was given this id when it was accepted."""
    row = connection.execute(_one, {"run": run_id}).first()
    return None if row is None else _run_from(row)


def followed(connection: Connection, run_ids: Sequence[str]) -> dict[str, FollowedRun]:
    """Those of the runs that there are, by id, each followed to the turn that answers it."""
    return {row.run: _followed_from(row) for row in connection.execute(_several, {"runs": run_ids})}


def run_of_event(connection: Connection, channel: str, event_id: str) -> str | None:
    """The run of the message that was stored for this event."""
    found: str | None = connection.execute(_of_event, {"channel": channel, "event_id": event_id}).scalar()
    return found


def _followed_from(row: AnyRow) -> FollowedRun:
    own = _run_from(row)
    state, reason = own.state, own.reason
    if own.state in ("read", "superseded") and row.turn_state is not None:
        state, reason = _state_of_turn(row), row.turn_reason
    return FollowedRun(own, row.id, state, reason, row.epoch or 0, row.started_at, row.ended_at)


def _run_from(row: AnyRow) -> Run:
    state, reason = _end_of(row)
    return Run(row.run, row.session, state, row.turn, row.step, reason)


def _end_of(row: AnyRow) -> tuple[RunState, str]:
    match row.state:
        case "consumed" if row.turn == row.run:
            return _state_of_turn(row), row.turn_reason
        case "consumed" if row.step == 1:
            return "superseded", TOGETHER
        case "consumed":
            return "read", row.reason
        case "answered" if row.turn is not None and row.turn == row.run:
            return _state_of_turn(row), row.turn_reason
        case "answered" if row.turn is not None:
            return "read", row.reason
        case "answered":
            return "superseded", row.reason
        case _:
            return row.state, row.reason


def _state_of_turn(row: AnyRow) -> RunState:
    state: RunState = row.turn_state
    return "parked" if state == "running" and row.parked else state
