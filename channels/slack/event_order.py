"""Lets what happens in one chat pass in the order in which it happened, whatever order it came in."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import count

UNSETTLED = 2.0
"""Seconds after a connection was made in which events come in any order."""

PATIENCE = 0.3
"""Seconds that each of those waits for earlier ones."""


class Order:
    """Chats do not wait for each other."""

    def __init__(self) -> None:
        self._lines: dict[str, list[Ticket]] = {}
        self._numbers = count()
        self._settled_at = 0.0

    def unsettle(self) -> None:
        """A connection is about to be made."""
        self._settled_at = time.monotonic() + UNSETTLED

    @asynccontextmanager
    async def line(self, chat: str, happened: float) -> AsyncIterator[Ticket]:
        """A place in the chat's line, taken before anything is awaited. `happened` is in seconds."""
        line = self._lines.setdefault(chat, [])
        ticket = Ticket(line, (happened, next(self._numbers)))
        line.append(ticket)
        try:
            if time.monotonic() < self._settled_at:
                await asyncio.sleep(PATIENCE)
            yield ticket
        finally:
            line.remove(ticket)
            if line:
                min(line).call()
            else:
                del self._lines[chat]


class Ticket:
    def __init__(self, line: list[Ticket], at: tuple[float, int]) -> None:
        self._line = line
        self._at = at
        self._called = asyncio.Event()

    def __lt__(self, other: Ticket) -> bool:
        return self._at < other._at

    def call(self) -> None:
        self._called.set()

    async def turn(self) -> None:
        """Returns when nobody is left in the line who comes before."""
        while min(self._line) is not self:
            self._called.clear()
            await self._called.wait()
