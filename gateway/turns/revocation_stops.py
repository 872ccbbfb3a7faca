"""Stops turns that the store says have to stop: the command line revokes access beside a running gateway."""

from __future__ import annotations

import asyncio
from typing import Protocol

from gateway.bus import Bus
from gateway.store.records import StopRequest
from gateway.turns.dispatcher import Dispatcher

INTERVAL = 1.0
"""Seconds between two looks. An idle gateway does not look."""


class StopRequestStore(Protocol):
    async def requested_stops(self) -> tuple[StopRequest, ...]: ...


async def obey_stop_requests(store: StopRequestStore, bus: Bus, dispatcher: Dispatcher) -> None:
    """Until cancelled."""
    while True:
        await asyncio.sleep(INTERVAL)
        if dispatcher.running():
            for stop in await store.requested_stops():
                bus.stop(stop.session, before=stop.before, reason=stop.reason)
