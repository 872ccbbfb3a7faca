"""Observers: hooks that are shown every event, each at its own pace, and never waited for."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from typing import Any

from agent.hook import HookContext
from agent.hooks.runner import Runner, shortened

log = logging.getLogger(__name__)

KEPT = 1000
"""Events that wait for one observer; when there are more, the oldest are dropped."""

LAST = 2.0
"""Seconds that an observer has, when all ends, for what still waits."""


class Observer:
    """What one hook has still to see. Its owner runs `serve` for as long as it is to see anything."""

    def __init__(self, name: str, runner: Runner, seconds: float) -> None:
        self._name = name
        self._runner = runner
        self._seconds = seconds
        self._waiting: asyncio.Queue[tuple[HookContext, Mapping[str, Any]]] = asyncio.Queue(KEPT)
        self._dropped = 0
        self._failed = 0

    def put(self, context: HookContext, event: Mapping[str, Any]) -> None:
        if self._waiting.full():
            self._waiting.get_nowait()
            self._waiting.task_done()
            self._dropped += 1
            if self._dropped % KEPT == 1:
                log.warning("hook %s is too slow for the events: %d dropped so far", self._name, self._dropped)
        self._waiting.put_nowait((context, event))

    async def serve(self) -> None:
        while True:
            context, event = await self._waiting.get()
            await self._show(context, event)
            self._waiting.task_done()
            if self._dropped and self._waiting.empty():
                log.warning("hook %s was too slow for the events: %d were dropped", self._name, self._dropped)
                self._dropped = 0

    async def finish(self) -> None:
        """Waits until all is seen, but not for long."""
        try:
            async with asyncio.timeout(LAST):
                await self._waiting.join()
        except TimeoutError:
            log.warning("hook %s had not seen the last %d events", self._name, self._waiting.qsize())

    async def _show(self, context: HookContext, event: Mapping[str, Any]) -> None:
        """Shows it one event. This is the edge at which whatever an observer raises ends; it is told once in a row."""
        try:
            async with asyncio.timeout(self._seconds):
                await self._runner.observe(context, event)
        except Exception as error:  # noqa: BLE001 - the edge, which says it in one line
            self._failed += 1
            if self._failed == 1:
                log.warning("hook %s failed at an event: %s", self._name, shortened(error) or type(error).__name__)
        else:
            if self._failed > 1:
                log.warning("hook %s sees events again; it failed at %d of them", self._name, self._failed)
            self._failed = 0
