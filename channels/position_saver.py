"""Saves the read positions of a channel a while after they have changed: many messages cost few writes."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from channels.channel import Cursors, NotStored

log = logging.getLogger(__name__)


class PositionSaver:
    def __init__(self, cursors: Cursors, position: Callable[[str], str | None], interval: float) -> None:
        """`position` is what is to be stored for a chat, None for nothing; `interval` are the seconds between two
        writes, at least."""
        self._cursors = cursors
        self._position = position
        self._interval = interval
        self._changed: set[str] = set()
        self._news = asyncio.Event()

    def changed(self, chat: str) -> None:
        self._changed.add(chat)
        self._news.set()

    async def run(self) -> None:
        """Saves changed positions until cancelled."""
        while True:
            await self._news.wait()
            await asyncio.sleep(self._interval)
            await self.save()

    async def save(self) -> None:
        """Saves what has changed now. What cannot be stored is tried again."""
        self._news.clear()
        changed, self._changed = self._changed, set()
        if not changed:
            return
        try:
            await self._cursors.save({chat: self._position(chat) for chat in changed})
        except NotStored as error:
            log.warning("read positions could not be stored, trying again: %s", error)
            for chat in changed:
                self.changed(chat)
