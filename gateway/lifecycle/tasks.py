"""Errands: what a part of the house does beside everything else, in tasks that end with that part."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

log = logging.getLogger(__name__)


class BackgroundTasks:
    """Use as `async with`; leaving it cancels what still runs, and waits until that has ended.

    The edge at which a broken errand costs itself only: it is logged, in the words of `broke`.
    """

    def __init__(self, broke: str) -> None:
        self._broke = broke
        self._group = asyncio.TaskGroup()
        self._running: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> BackgroundTasks:
        await self._group.__aenter__()
        return self

    async def __aexit__(self, *exc: object) -> None:
        for task in self._running:
            task.cancel()
        await self._group.__aexit__(None, None, None)

    def start(self, errand: Callable[[], Awaitable[None]]) -> asyncio.Task[None]:
        task = self._group.create_task(self._guarded(errand))
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return task

    async def _guarded(self, errand: Callable[[], Awaitable[None]]) -> None:
        try:
            await errand()
        except Exception:
            log.exception(self._broke)
