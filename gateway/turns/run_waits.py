"""Waits for runs: one subscription of the bus serves all who wait, and one query each conversation that has changed."""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from gateway.bus import Bus, Lagged, MessageAccepted, MessagesChanged, TurnEnded, TurnParked, TurnStarted
from gateway.store.errors import StoreError
from gateway.store.records import FollowedRun

log = logging.getLogger(__name__)

CHANGES = (MessageAccepted, MessagesChanged, TurnStarted, TurnParked, TurnEnded)
"""Events after which a run may have another state."""

RETRY = 1.0
"""Seconds until runs that could not be read are read again."""

Holds = Callable[[FollowedRun], bool]


class RunWaitStore(Protocol):
    async def followed_runs(self, run_ids: Sequence[str]) -> dict[str, FollowedRun]: ...


@dataclass(eq=False, slots=True)
class _Waiter:
    run: str
    holds: Holds
    found: asyncio.Future[FollowedRun | None]

    def look(self, run: FollowedRun) -> None:
        if not self.found.done() and self.holds(run):
            self.found.set_result(run)


class RunWaits:
    """Use as `async with`; leaving it ends all waits."""

    def __init__(self, store: RunWaitStore, bus: Bus) -> None:
        self._store = store
        self._bus = bus
        self._waiting: defaultdict[str, set[_Waiter]] = defaultdict(set)
        self._changed: set[str] = set()
        self._signal = asyncio.Event()
        self._tasks = asyncio.TaskGroup()
        self._running: tuple[asyncio.Task[None], ...] = ()
        self._closed = False

    async def __aenter__(self) -> RunWaits:
        await self._tasks.__aenter__()
        listening = asyncio.Event()
        self._running = (
            self._tasks.create_task(self._listen(listening)),
            self._tasks.create_task(self._look_at_changed()),
        )
        await listening.wait()
        return self

    async def __aexit__(self, *exc: object) -> None:
        self._closed = True
        for waiter in [waiter for waiters in self._waiting.values() for waiter in waiters]:
            if not waiter.found.done():
                waiter.found.set_result(None)
        for task in self._running:
            task.cancel()
        await self._tasks.__aexit__(None, None, None)

    @property
    def waiting(self) -> int:
        """How many wait now."""
        return sum(map(len, self._waiting.values()))

    async def wait(self, run_id: str, holds: Holds) -> FollowedRun | None:
        """Waits until this holds for the run, which must exist; None if the gateway stops before. Raises
        `StoreError`."""
        first = (await self._store.followed_runs([run_id])).get(run_id)
        if first is None or holds(first):
            return first
        waiter = _Waiter(run_id, holds, asyncio.get_running_loop().create_future())
        session = first.run.session
        if self._closed:
            return None
        self._waiting[session].add(waiter)
        try:
            # It may have changed before anybody looked.
            self._note(session)
            return await waiter.found
        finally:
            self._waiting[session].discard(waiter)
            if not self._waiting[session]:
                del self._waiting[session]

    def _note(self, session: str) -> None:
        self._changed.add(session)
        self._signal.set()

    async def _listen(self, listening: asyncio.Event) -> None:
        async with self._bus.subscribe(None, *CHANGES) as events:
            listening.set()
            async for event in events:
                for session in list(self._waiting) if isinstance(event, Lagged) else [event.session]:
                    if session is not None and session in self._waiting:
                        self._note(session)

    async def _look_at_changed(self) -> None:
        while True:
            await self._signal.wait()
            self._signal.clear()
            changed, self._changed = self._changed, set()
            try:
                for session in changed:
                    await self._look_at(session)
            except StoreError as error:
                log.warning("runs that are waited for cannot be read, trying again: %s", error)
                self._changed |= changed
                self._signal.set()
                await asyncio.sleep(RETRY)

    async def _look_at(self, session: str) -> None:
        """Raises `StoreError`."""
        waiters = list(self._waiting.get(session, ()))
        if not waiters:
            return
        runs = await self._store.followed_runs(list({waiter.run for waiter in waiters}))
        for waiter in waiters:
            if waiter.run in runs:
                waiter.look(runs[waiter.run])
