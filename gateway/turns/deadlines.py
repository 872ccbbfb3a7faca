"""Deadlines: an approval that nobody has decided in time counts as denied."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from datetime import UTC, datetime
from typing import Protocol

from gateway.bus import Bus, TurnParked


class DeadlineStore(Protocol):
    async def now(self) -> float: ...
    async def expire(self, now: datetime) -> tuple[str, ...]: ...
    async def next_deadline(self) -> datetime | None: ...


MAX_SLEEP = 60.0
"""Seconds. The store's clock may be changed meanwhile, and a worker may have died before it told that a turn waits."""


async def keep_deadlines(store: DeadlineStore, bus: Bus) -> None:
    """Runs until cancelled. The clock is that of the store, on which all workers agree. Raises `StoreError`."""
    async with bus.subscribe(None, TurnParked) as parked:
        while True:
            deadline, now = await store.next_deadline(), datetime.fromtimestamp(await store.now(), UTC)
            if deadline is not None and deadline <= now:
                for session in await store.expire(now):
                    bus.wake(session, "queue")
                continue
            left = MAX_SLEEP if deadline is None else (deadline - now).total_seconds()
            with suppress(TimeoutError):
                async with asyncio.timeout(min(left, MAX_SLEEP)):
                    await parked.changed()
