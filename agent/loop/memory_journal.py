"""A journal in memory: for using the agent alone, and for trying turns without a store."""

from __future__ import annotations

import asyncio
from itertools import count

from agent.log import Ended, Entry, MessagesRead, UserMessage


class MemoryJournal:
    """Implements `agent.journal.Journal`; `say` puts a message into its inbox."""

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self._waiting: list[UserMessage] = []
        self._ids = count(1)
        self._signal = asyncio.Event()

    def say(self, text: str, sender: str = "You") -> None:
        self._waiting.append(UserMessage(next(self._ids), sender, text))
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
        if not self._waiting:
            return None
        heard = MessagesRead(step, tuple(self._waiting))
        self._waiting.clear()
        self.entries.append(heard)
        return heard

    async def append(self, *entries: Entry) -> None:
        self.entries.extend(entries)

    async def park(self, until: float | None) -> bool:
        if self._waiting:
            self._signal.set()
        return not self._waiting

    async def close(self, ended: Ended, *entries: Entry) -> tuple[Entry, ...]:
        self.entries.extend(entries)
        if self._waiting and ended.outcome == "completed":
            self._signal.set()
            return ()
        self.entries.append(ended)
        return (ended,)
