"""Runs: the state of each message that expects its own answer, from its row and the turn that read it."""

from __future__ import annotations

from sqlalchemy import Connection, bindparam, select

from channels.runs import RunState
from gateway.store.records import Run
from gateway.store.schema import AnyRow, inbox, turns

TOGETHER = "answered together with another message"

_runs = select(
    inbox.c.run,
    inbox.c.session,
    inbox.c.state,
    inbox.c.turn,
    inbox.c.step,
    inbox.c.reason,
    turns.c.state.label("turn_state"),
    turns.c.parked,
    turns.c.reason.label("turn_reason"),
).select_from(inbox.outerjoin(turns, turns.c.id == inbox.c.turn))
_one = _runs.where(inbox.c.run == bindparam("run"))
_of_row = _runs.where(inbox.c.id == bindparam("row"), inbox.c.run.is_not(None))


def run(connection: Connection, run_id: str) -> Run | None:
    """What became of the message that was given this id when it was accepted."""
    row = connection.execute(_one, {"run": run_id}).first()
    return None if row is None else _run_from(row)


def run_of(connection: Connection, row_id: int) -> Run | None:
    """What became of the message in this row; None if it expects no answer of its own."""
    row = connection.execute(_of_row, {"row": row_id}).first()
    return None if row is None else _run_from(row)


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
        case "answered" if row.turn is not None:
            return "read", row.reason
        case "answered":
            return "superseded", row.reason
        case _:
            return row.state, row.reason


def _state_of_turn(row: AnyRow) -> RunState:
    state: RunState = row.turn_state
    return "parked" if state == "running" and row.parked else state
