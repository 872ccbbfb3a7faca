"""Background tasks of a part of the gateway, which end with that part."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

log = logging.getLogger(__name__)


class BackgroundTasks:
    """Use as `async with`; leaving it cancels the running tasks and waits for their end.

    A failure affects only its task, and is logged with `failure` as the message.
    """

    def __init__(self, failure: str) -> None:
        self._failure = failure
        self._group = asyncio.TaskGroup()
        self._running: set[asyncio.Task[None]] = set()
        self.closing = False
        """Whether the tasks have been cancelled, and no more are to start."""

    async def __aenter__(self) -> BackgroundTasks:
        await self._group.__aenter__()
        return self

    async def __aexit__(self, *exc: object) -> None:
        self.closing = True
        for task in self._running:
            task.cancel()
        await self._group.__aexit__(None, None, None)

    @property
    def running(self) -> frozenset[asyncio.Task[None]]:
        return frozenset(self._running)

    def start(self, job: Callable[[], Awaitable[None]]) -> asyncio.Task[None]:
        task = self._group.create_task(self._guarded(job))
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return task

    async def _guarded(self, job: Callable[[], Awaitable[None]]) -> None:
        try:
            await job()
        except Exception:
            log.exception(self._failure)
