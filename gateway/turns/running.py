"""What runs in a session: in this process, or, as the store says, in another worker."""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol

from agent.log import Entry
from agent.log_state import step_of, unresolved
from gateway.bus import Bus, BusClosed, HistoryChanged, TurnEnded
from gateway.store.records import Turn
from gateway.turns.dispatcher import ActiveTurn, Dispatcher


class RunningStore(Protocol):
    async def turn(self, turn_id: str) -> Turn: ...
    async def unfinished(self, session: str) -> Turn | None: ...
    async def running_elsewhere(self) -> tuple[Turn, ...]: ...


@dataclass(frozen=True, slots=True)
class RunningTurn:
    """`entries` is its log so far, `seconds` how long it has been running."""

    record: Turn
    entries: tuple[Entry, ...]
    seconds: float

    @property
    def calls(self) -> tuple[str, ...]:
        """The names of the calls that run."""
        return tuple(call.name for call, started in unresolved(self.entries) if started)

    @property
    def step(self) -> int:
        """That of the running calls, or of the answer that the model gives."""
        return step_of(self.entries) - bool(self.calls)


class RunningTurns:
    def __init__(self, store: RunningStore, bus: Bus, dispatcher: Dispatcher) -> None:
        self._store = store
        self._bus = bus
        self._dispatcher = dispatcher

    async def of(self, session: str) -> RunningTurn | None:
        """The session's turn that runs now; a parked one does not."""
        active = self._dispatcher.active(session)
        if active is not None and (running := running_here(active)) is not None:
            return running
        found = await self._store.unfinished(session)
        return None if found is None or found.parked else await self.elsewhere(found)

    async def elsewhere(self, found: Turn) -> RunningTurn:
        """The turn of another worker, with its log."""
        with suppress(LookupError):
            found = await self._store.turn(found.id)
        return _elsewhere(found)

    async def everywhere(self) -> list[RunningTurn]:
        """All turns that run: in this process, and in others."""
        here = [running for active in self._dispatcher.running() if (running := running_here(active)) is not None]
        known = {running.record.id for running in here}
        others = await self._store.running_elsewhere()
        return here + [_elsewhere(turn) for turn in others if turn.id not in known]

    async def over(self, turn: Turn, *, seconds: float) -> bool:
        """Waits until the end of the turn is stored, by whatever worker, at most so many seconds; whether it is."""
        async with self._bus.subscribe(turn.session, TurnEnded, HistoryChanged) as events:
            with suppress(TimeoutError, BusClosed):
                async with asyncio.timeout(seconds):
                    while (found := await self._store.unfinished(turn.session)) is not None and found.id == turn.id:
                        await events.changed()
                    return True
        return False


def _elsewhere(turn: Turn) -> RunningTurn:
    return RunningTurn(turn, turn.entries, (datetime.now(UTC) - turn.started_at).total_seconds())


def running_here(active: ActiveTurn) -> RunningTurn | None:
    """None while it has not begun."""
    record, turn = active.record, active.turn
    if record is None:
        return None
    entries = record.entries if turn is None else turn.entries
    return RunningTurn(record, entries, time.monotonic() - active.since)
