"""This process among the workers of its database: it beats, and goes on with what dead ones have left."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Collection, Sequence
from contextlib import suppress
from typing import Protocol

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


class LeaseLost(Exception):
    """Others take this worker for dead, and go on with what it held. It may begin again under another name."""


class WorkerStore(Protocol):
    """The store's operations for this worker. They raise `StoreError`."""

    async def beat(self, seconds: float, running: int, room: int) -> Beat | None: ...
    async def list_workers(self) -> tuple[Worker, ...]: ...
    async def bury(self, dead: Collection[str], *, expired: bool) -> tuple[str, ...]: ...


class Load(Protocol):
    """How much this worker does."""

    def running_turns(self) -> tuple[int, int]:
        """How many turns it runs, and how many it may."""


class WorkerLease:
    """`run` it beside the gateway."""

    def __init__(
        self,
        store: WorkerStore,
        load: Load,
        *,
        look: Callable[[], Awaitable[None]],
        drain: Callable[[], None],
        seconds: float = LEASE,
    ) -> None:
        """`look` goes on with what others have left, and obeys what the store says; it is also called twice in a lease
        without a reason, because a notification may have been lost. `drain` is called when the worker is to end."""
        self._store = store
        self._load = load
        self._look = look
        self._drain = drain
        self._seconds = seconds
        self._until = time.monotonic() + seconds
        self._unbroken_since = time.monotonic()
        self._told = asyncio.Event()
        self._draining = False

    def is_current(self) -> bool:
        """Whether others still take this worker for alive. Asks nobody: true until the lease of the last beat ends on
        this process's clock, which goes on while the process is stopped."""
        return time.monotonic() < self._until

    def look_again(self) -> None:
        """Something may have been left, or a notification was lost."""
        self._told.set()

    async def begin(self) -> None:
        """Removes workers of this machine whose process is gone, so that a restart waits for nobody. Raises
        `StoreError`."""
        dead = [worker.id for worker in await self._store.list_workers() if is_gone(worker)]
        if dead:
            await self._bury(dead, expired=False)

    async def run(self) -> None:
        """Until cancelled. Raises `LeaseLost`."""
        next_look = time.monotonic() + self._seconds / 2
        while True:
            since = time.monotonic()
            pause = self._seconds / BEATS
            next_end: float | None = None
            try:
                beat = await self._store.beat(self._seconds, *self._load.running_turns())
            except StoreError as error:
                log.warning("the lease of this worker cannot be prolonged, trying again: %s", error)
                self._unbroken_since, pause = time.monotonic(), RETRY
            else:
                if beat is None:
                    self._until = 0.0
                    raise LeaseLost
                self._until, next_end = since + self._seconds, beat.next_end
                if beat.draining and not self._draining:
                    self._draining = True
                    self._drain()
            try:
                if next_end is not None and next_end <= 0 and self._may_bury() and await self._bury((), expired=True):
                    self.look_again()
                if self._told.is_set() or time.monotonic() >= next_look:
                    self._told.clear()
                    next_look = time.monotonic() + self._seconds / 2
                    await self._look()
            except StoreError as error:
                log.warning("what other workers have left cannot be read: %s", error)
            if next_end is not None:
                pause = min(pause, self._until_burial(next_end))
            with suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._told.wait()

    def _may_bury(self) -> bool:
        """After the database was away, the leases of all have ended: the others get the time to beat first."""
        return time.monotonic() - self._unbroken_since >= self._seconds

    def _until_burial(self, next_end: float) -> float:
        left = self._seconds - (time.monotonic() - self._unbroken_since)
        return max(next_end, left, 0.0) + SLACK

    async def _bury(self, dead: Sequence[str], *, expired: bool) -> tuple[str, ...]:
        buried = await self._store.bury(dead, expired=expired)
        for worker in buried:
            log.warning("worker %s is dead; this one goes on with what it has left", worker)
        return buried
