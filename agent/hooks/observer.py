"""Observers: hooks that receive every event. Each has a queue of its own; nobody waits for them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from typing import Any

from agent.gate import one_line
from agent.hook import HookContext
from agent.hooks.runner import Runner

log = logging.getLogger(__name__)

QUEUE_SIZE = 1000
"""Events queued for one observer; when there are more, the oldest are dropped."""

DRAIN_TIMEOUT = 2.0
"""Seconds that an observer has at shutdown for its queued events."""


class Observer:
    """The event queue of one hook. Its owner runs `serve`."""

    def __init__(self, name: str, runner: Runner, timeout: float) -> None:
        self._name = name
        self._runner = runner
        self._timeout = timeout
        self._queue: asyncio.Queue[tuple[HookContext, Mapping[str, Any]]] = asyncio.Queue(QUEUE_SIZE)
        self._dropped = 0
        self._failed = 0

    def put(self, context: HookContext, event: Mapping[str, Any]) -> None:
        if self._queue.full():
            self._queue.get_nowait()
            self._queue.task_done()
            self._dropped += 1
            if self._dropped % QUEUE_SIZE == 1:
                log.warning("hook %s is too slow for the events: %d dropped so far", self._name, self._dropped)
        self._queue.put_nowait((context, event))

    async def serve(self) -> None:
        while True:
            context, event = await self._queue.get()
            await self._deliver(context, event)
            self._queue.task_done()
            if self._dropped and self._queue.empty():
                log.warning("hook %s was too slow for the events: %d were dropped", self._name, self._dropped)
                self._dropped = 0

    async def finish(self) -> None:
        """Waits until all queued events are processed, for `DRAIN_TIMEOUT` at most."""
        try:
            async with asyncio.timeout(DRAIN_TIMEOUT):
                await self._queue.join()
        except TimeoutError:
            log.warning("hook %s has not processed the last %d events", self._name, self._queue.qsize())

    async def _deliver(self, context: HookContext, event: Mapping[str, Any]) -> None:
        """Passes one event to the hook. Catches whatever it raises, and logs only the first of consecutive failures."""
        try:
            async with asyncio.timeout(self._timeout):
                await self._runner.observe(context, event)
        except Exception as error:  # noqa: BLE001 - the edge, logged in one line
            self._failed += 1
            if self._failed == 1:
                log.warning("hook %s failed at an event: %s", self._name, one_line(error) or type(error).__name__)
        else:
            if self._failed > 1:
                log.warning("hook %s has recovered; it failed at %d events", self._name, self._failed)
            self._failed = 0
