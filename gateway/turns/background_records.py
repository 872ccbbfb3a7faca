"""Stored background work: every end is committed before anything in memory follows from it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from typing import Protocol, TypeVar

from sqlalchemy import Connection

from agent.background import BackgroundError
from agent.interrupt import shielded
from gateway.bus import Bus
from gateway.lifecycle.retry import retry_until_stored
from gateway.store import background, background_rows
from gateway.store.errors import StoreError
from gateway.store.pairing import REVOKED
from gateway.store.records import Arrival, BackgroundResult, BackgroundRow, Finished
from gateway.store.scope import Apart, OfSession, Scope

T = TypeVar("T")

NOT_STORED = "it cannot be stored at the moment: {error}"


class BackgroundStore(Protocol):
    async def write(self, job: Callable[[Connection], T], scope: Scope) -> T: ...


class BackgroundRecords:
    def __init__(self, store: BackgroundStore, bus: Bus) -> None:
        self._store = store
        self._bus = bus
        self._listeners: list[Callable[[Finished], None]] = []

    def on_finished(self, listener: Callable[[Finished], None]) -> None:
        """Calls it with everything whose end was stored."""
        self._listeners.append(listener)

    # Reading. All raise `StoreError`.

    async def listed(self, session: str) -> tuple[BackgroundRow, ...]:
        """The conversation's background work, as far as it is remembered."""
        return await self.write(lambda connection: background_rows.listed(connection, session), OfSession(session))

    async def by_handle(self, session: str, handle: str) -> BackgroundRow | None:
        return await self.write(
            lambda connection: background_rows.by_handle(connection, session, handle), OfSession(session)
        )

    # Writing. The scope is the conversation: its tasks write in it too.

    async def write(self, job: Callable[[Connection], T], scope: Scope) -> T:
        """Raises `StoreError`."""
        return await self._store.write(job, scope)

    async def begin(self, job: Callable[[Connection], T], scope: Scope) -> T:
        """Writes even if the caller is cancelled meanwhile. Raises `BackgroundError`."""
        try:
            return await shielded(self._store.write(job, scope))
        except StoreError as error:
            raise BackgroundError(NOT_STORED.format(error=error)) from error

    async def write_until_stored(self, job: Callable[[Connection], T], scope: Scope) -> T:
        return await retry_until_stored(lambda: self._store.write(job, scope), "background work cannot be stored")

    async def finish(self, job: Callable[[Connection], Finished | None], scope: Scope) -> None:
        """Stores an end and notifies the listeners; None: it had ended before."""
        finished = await self.write_until_stored(job, scope)
        if finished is not None:
            self._notify((finished,))

    async def finish_all(self, job: Callable[[Connection], tuple[Finished, ...]], scope: Scope) -> None:
        self._notify(await self.write_until_stored(job, scope))

    async def stop(self, row: BackgroundRow, result: BackgroundResult, *, notify: bool) -> bool:
        """Ends it with this result; False if it had ended before. `notify`: the conversation gets a message about it.
        Raises `StoreError`."""
        finished = await self._store.write(
            lambda connection: background.stop(connection, row.id, result, notify=notify), OfSession(row.session)
        )
        self._notify(finished)
        return bool(finished)

    async def follow_stops(self, ids: Collection[int]) -> None:
        """Notifies the listeners of work that was stopped in the database only. Raises `StoreError`."""
        stopped = await self.write(lambda connection: background_rows.stopped(connection, ids), Apart("background"))
        self._notify(Finished(row, result, stop_reason=REVOKED) for row, result in stopped)

    # Telling

    def arrived(self, arrival: Arrival | None) -> None:
        """A message about background work was stored."""
        if arrival is not None and arrival.wakes is not None:
            self._bus.wake(arrival.session, arrival.wakes)

    def _notify(self, finished: Iterable[Finished]) -> None:
        for each in finished:
            for listener in self._listeners:
                listener(each)
            self.arrived(each.arrival)
