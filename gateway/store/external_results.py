"""External results: written to the log of the parked turn that waits for them, and the turn released to go on."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection, bindparam, select, update

from agent.decisions.external_tools import check_results
from agent.log import CallEnded, Entry
from gateway.store import logs
from gateway.store.decisions import release
from gateway.store.schema import AnyRow, is_running, is_turn, turns

_parked = select(turns.c.number, turns.c.session).where(
    turns.c.id == bindparam("turn_id"), is_turn, is_running, turns.c.parked, turns.c.stop.is_(None)
)

_stop = update(turns).where(turns.c.number == bindparam("turn")).values(stop=bindparam("why"))


def parked_log(connection: Connection, turn_id: str) -> tuple[Entry, ...]:
    """The turn's log if it is parked and is not to stop; else nothing."""
    turn = _find(connection, turn_id)
    return () if turn is None else logs.read(connection, turn.number)


def supply(connection: Connection, turn_id: str, results: Sequence[CallEnded], stop: str | None = None) -> str | None:
    """Writes the results of the calls that a parked turn waits for: the session whose turn can be claimed.

    With a reason to `stop`, the turn is then to end. None, and nothing is stored, if these are not exactly the results
    that it waits for.
    """
    turn = _find(connection, turn_id)
    if turn is None:
        return None
    entries = logs.read(connection, turn.number)
    if not results or check_results([result.call_id for result in results], entries):
        return None
    logs.write(connection, turn.number, len(entries) + 1, results)
    release(connection, turn.number)
    if stop is not None:
        connection.execute(_stop, {"turn": turn.number, "why": stop})
    return str(turn.session)


def _find(connection: Connection, turn_id: str) -> AnyRow | None:
    return connection.execute(_parked, {"turn_id": turn_id}).first()
