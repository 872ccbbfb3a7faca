"""Deadlines: what people are asked to decide counts as denied when nobody has in time."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from datetime import UTC, datetime
from typing import Protocol

from gateway.turns.dispatcher import Dispatcher


class DeadlineStore(Protocol):
    async def expire(self, now: datetime) -> tuple[str, ...]: ...
    async def next_deadline(self) -> datetime | None: ...


LONGEST_SLEEP = 3600.0
"""Seconds; clocks are set now and then."""


async def keep_deadlines(store: DeadlineStore, dispatcher: Dispatcher) -> None:
    """Runs until cancelled; costs nothing while nobody is asked anything. Raises `StoreError`."""
    while True:
        dispatcher.parked.clear()
        for session in await store.expire(datetime.now(UTC)):
            dispatcher.wake(session, "queue")
        deadline = await store.next_deadline()
        left = LONGEST_SLEEP if deadline is None else (deadline - datetime.now(UTC)).total_seconds()
        with suppress(TimeoutError):
            async with asyncio.timeout(min(max(0.0, left), LONGEST_SLEEP)):
                await dispatcher.parked.wait()
