"""A journal in memory, to use the agent without the gateway and its store."""

from __future__ import annotations

import asyncio
import time
from itertools import count

from agent.log import Ended, Entry, InputEnded, MessagesRead, ModelAnswered, UserMessage


class MemoryJournal:
    """Implements `agent.journal.Journal`. `say` adds a message to the inbox."""

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self._unread: list[UserMessage] = []
        self._ids = count(1)
        self._signal = asyncio.Event()

    def say(self, text: str, sender: str = "You") -> None:
        self._unread.append(UserMessage(next(self._ids), sender, text))
        self._signal.set()

    @property
    def has_unread(self) -> bool:
        return self._signal.is_set()

    @property
    def interjected(self) -> bool:
        return self._signal.is_set()

    async def interjection(self) -> None:
        await self._signal.wait()

    async def read_inbox(self, step: int) -> MessagesRead | None:
        self._signal.clear()
        if not self._unread:
            return None
        read = MessagesRead(step, tuple(self._unread))
        self._unread.clear()
        self.entries.append(read)
        return read

    async def arrival(self) -> bool:
        return False

    async def append(self, *entries: Entry) -> None:
        self.entries.extend(entries)

    async def answered(self) -> None:
        """All messages are interjections here: requests for input are dropped by them, or expire."""
        await asyncio.get_running_loop().create_future()

    async def end_input(self, otherwise: InputEnded) -> InputEnded:
        self.entries.append(otherwise)
        return otherwise

    async def keep(self, draft: ModelAnswered | None) -> None:
        """Nothing is kept for a restart."""

    async def now(self) -> float:
        return time.time()

    async def park(self, until: float | None) -> bool:
        if self._unread:
            self._signal.set()
        return not self._unread

    async def close(self, ended: Ended, *entries: Entry) -> tuple[Entry, ...]:
        self.entries.extend(entries)
        if self._unread and ended.outcome == "completed":
            self._signal.set()
            return ()
        self.entries.append(ended)
        return (ended,)
