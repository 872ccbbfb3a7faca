"""Delivers the events of one chat in the order of their timestamps, whatever order they arrive in."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import count

from channels.channel import NotStored

UNORDERED_SECONDS = 2.0
"""Seconds after a new connection in which events arrive in any order."""

REORDER_DELAY = 0.3
"""Seconds that each of those waits for earlier ones."""


class EventOrder:
    """Chats do not wait for each other."""

    def __init__(self) -> None:
        self._queues: dict[str, list[Ticket]] = {}
        self._numbers = count()
        self._ordered_from = 0.0

    def connecting(self) -> None:
        """A connection is about to be made."""
        self._ordered_from = time.monotonic() + UNORDERED_SECONDS

    @asynccontextmanager
    async def queue(self, chat: str, happened: float) -> AsyncIterator[Ticket]:
        """A place in the chat's queue, taken before anything is awaited. `happened` is in seconds.

        If what is done inside fails, those behind fail too: Slack sends all of them again, the earliest first.
        """
        queue = self._queues.setdefault(chat, [])
        ticket = Ticket(queue, (happened, next(self._numbers)))
        queue.append(ticket)
        try:
            if time.monotonic() < self._ordered_from:
                await asyncio.sleep(REORDER_DELAY)
            yield ticket
        except Exception:
            for later in filter(ticket.__lt__, queue):
                later.fail()
            raise
        finally:
            queue.remove(ticket)
            if queue:
                min(queue).wake()
            else:
                del self._queues[chat]


class Ticket:
    def __init__(self, queue: list[Ticket], at: tuple[float, int]) -> None:
        self._queue = queue
        self._at = at
        self._woken = asyncio.Event()
        self._has_failed = False

    def __lt__(self, other: Ticket) -> bool:
        return self._at < other._at

    def wake(self) -> None:
        self._woken.set()

    def fail(self) -> None:
        """An earlier event could not be stored."""
        self._has_failed = True
        self.wake()

    async def turn(self) -> None:
        """Returns when no earlier event is left in the queue. Raises `NotStored` if one of them could not be stored."""
        while min(self._queue) is not self and not self._has_failed:
            self._woken.clear()
            await self._woken.wait()
        if self._has_failed:
            raise NotStored("an earlier message of this chat could not be stored")
