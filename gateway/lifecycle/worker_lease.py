"""This process among the workers of its database: it beats, and goes on with what dead ones have left."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Collection, Sequence
from typing import Protocol

from agent.interrupt import cancel_and_wait
from gateway.lifecycle.supervision import supervised
from gateway.store.errors import StoreError
from gateway.store.process import is_gone
from gateway.store.workers import LEASE, Beat, Worker

log = logging.getLogger(__name__)

BEATS = 3
"""In one lease: a worker that misses so many is dead."""

RETRY = 0.5
"""Seconds until the next attempt of a beat that failed."""

SLACK = 0.2
"""Seconds after the end of a lease, so that one look finds it ended."""


def elapsed() -> float:
    """Seconds that have passed, also while the machine was suspended, where its system tells."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic()


class LeaseLost(Exception):
    """Others take this worker for dead, and go on with what it held. It may begin again under another name."""


class WorkerStore(Protocol):
    """The store's operations for this worker. They raise `StoreError`."""

    async def beat(self, seconds: float, running: int, room: int) -> Beat | None: ...
    async def list_workers(self) -> tuple[Worker, ...]: ...
    async def bury(self, dead: Collection[str], *, expired: bool) -> tuple[str, ...]: ...


class Work(Protocol):
    """What the worker does (the gateway)."""

    def running_turns(self) -> tuple[int, int]:
        """How many turns it runs, and how many it may."""

    async def look(self) -> None:
        """Goes on with what others have left, and obeys what the store says. Raises `StoreError`."""

    def drain(self) -> None:
        """Begins nothing new, and ends after what runs."""


class WorkerLease:
    """Use as `async with`: it beats meanwhile. What is left of others, its `work` is told to look for."""

    def __init__(self, store: WorkerStore, *, seconds: float = LEASE) -> None:
        self._store = store
        self._seconds = seconds
        self._until = elapsed() + seconds
        self._unbroken_since = elapsed()
        self._told = asyncio.Event()
        self._draining = False
        self._is_one_expired = False
        self._beating: asyncio.Task[None] | None = None
        self._looking: asyncio.Task[None] | None = None
        self.work: Work | None = None

    async def __aenter__(self) -> WorkerLease:
        """Raises `StoreError`."""
        await self._remove_gone()
        self._beating = asyncio.create_task(self._beat_on())
        self._looking = asyncio.create_task(supervised(self._look_when_told))
        return self

    async def __aexit__(self, *exc: object) -> None:
        await cancel_and_wait(*filter(None, (self._beating, self._looking)))

    async def watch(self) -> None:
        """Until cancelled. Raises `LeaseLost`."""
        assert self._beating is not None
        await asyncio.shield(self._beating)

    def is_current(self) -> bool:
        """Whether others still take this worker for alive. Asks nobody: true until the lease of the last beat ends on
        this process's clock, which goes on while the process is stopped."""
        return elapsed() < self._until

    def attach(self, work: Work) -> None:
        """From now on it is told to look."""
        self.work = work
        self._told.set()

    def look_again(self) -> None:
        """Something may have been left, or a notification was lost."""
        self._told.set()

    async def _remove_gone(self) -> None:
        """A restart on this machine waits for nobody's lease to end."""
        dead = [worker.id for worker in await self._store.list_workers() if is_gone(worker)]
        if dead:
            await self._bury(dead, expired=False)

    async def _beat_on(self) -> None:
        while True:
            beat, pause = await self._beat()
            if beat is not None and beat.draining and not self._draining and self.work is not None:
                self._draining = True
                self.work.drain()
            next_end = None if beat is None else beat.next_end
            if next_end is not None:
                pause = min(pause, self._until_burial(next_end))
            if next_end is not None and next_end <= 0 and self._may_bury():
                self._is_one_expired = True
                self._told.set()
            await asyncio.sleep(pause)

    async def _look_when_told(self) -> None:
        """Beside the beats, because what another worker has left may take longer to read than a lease lasts. It looks
        at once: a look may have failed."""
        self._told.set()
        while True:
            await self._told.wait()
            self._told.clear()
            if self.work is None:
                continue
            try:
                if self._is_one_expired:
                    await self._bury((), expired=True)
                    self._is_one_expired = False
                await self.work.look()
            except StoreError as error:
                log.warning("what other workers have left cannot be read, trying again: %s", error)
                await asyncio.sleep(RETRY)
                self._told.set()

    async def _beat(self) -> tuple[Beat | None, float]:
        """What the store answers, None if it does not; and the seconds until the next one. Raises `LeaseLost`."""
        since = elapsed()
        running, room = (0, 0) if self.work is None else self.work.running_turns()
        try:
            beat = await self._store.beat(self._seconds, running, room)
        except StoreError as error:
            log.warning("the lease of this worker cannot be prolonged, trying again: %s", error)
            self._unbroken_since = elapsed()
            return None, RETRY
        if beat is None:
            self._until = 0.0
            raise LeaseLost
        self._until = since + self._seconds
        pause = self._seconds / BEATS
        if elapsed() - since > pause:
            # The store was away meanwhile, for the others too.
            self._unbroken_since = elapsed()
        return beat, pause

    def _may_bury(self) -> bool:
        """After the database was away, the leases of all have ended: the others get the time to beat first."""
        return elapsed() - self._unbroken_since >= self._seconds

    def _until_burial(self, next_end: float) -> float:
        left = self._seconds - (elapsed() - self._unbroken_since)
        return max(next_end, left, 0.0) + SLACK

    async def _bury(self, dead: Sequence[str], *, expired: bool) -> None:
        for worker in await self._store.bury(dead, expired=expired):
            log.warning("worker %s is dead: others go on with what it has left", worker)
            self._told.set()
