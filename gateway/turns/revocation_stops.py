"""Stops what the store says has to stop: the command line revokes access beside a running gateway."""

from __future__ import annotations

import asyncio
from typing import Protocol

from gateway.store.records import StopRequest
from gateway.turns.background import BackgroundWork
from gateway.turns.dispatcher import Dispatcher

INTERVAL = 1.0
"""Seconds between two looks."""


class StopRequestStore(Protocol):
    async def requested_stops(self) -> tuple[StopRequest, ...]: ...


async def obey_stop_requests(store: StopRequestStore, dispatcher: Dispatcher, background: BackgroundWork) -> None:
    """Until cancelled. Each worker looks by itself, so it tells no other one."""
    while True:
        await asyncio.sleep(INTERVAL)
        for stop in await store.requested_stops():
            dispatcher.stop(stop.session, before=stop.before, reason=stop.reason)
            if not stop.is_aside and dispatcher.active(stop.session) is None:
                # A parked turn is resumed to be ended.
                dispatcher.wake(stop.session, "interrupt")
        await background.follow_stops()
