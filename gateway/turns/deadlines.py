"""Deadlines: an approval that nobody has decided in time counts as denied."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from datetime import UTC, datetime
from typing import Protocol

from gateway.bus import Bus, TurnParked


class DeadlineStore(Protocol):
    async def expire(self, now: datetime) -> tuple[str, ...]: ...
    async def next_deadline(self) -> datetime | None: ...


MAX_SLEEP = 3600.0
"""Seconds. The system clock may be changed meanwhile."""


async def keep_deadlines(store: DeadlineStore, bus: Bus) -> None:
    """Runs until cancelled; idle while no turn is parked. Raises `StoreError`."""
    async with bus.subscribe(None, TurnParked) as parked:
        while True:
            for session in await store.expire(datetime.now(UTC)):
                bus.wake(session, "queue")
            deadline = await store.next_deadline()
            left = MAX_SLEEP if deadline is None else (deadline - datetime.now(UTC)).total_seconds()
            with suppress(TimeoutError):
                async with asyncio.timeout(min(max(0.0, left), MAX_SLEEP)):
                    await parked.changed()
