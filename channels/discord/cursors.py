"""The read position in each channel, so that messages sent while the bot is offline can be read later."""

from __future__ import annotations

import asyncio
import logging

from channels.channel import Cursors, NotStored

log = logging.getLogger(__name__)

SAVE_INTERVAL = 1.0
"""Minimum seconds between two writes."""

_DIRECT = " direct"


class MessageCursors:
    """By channel id: the newest message before which none is open. A message is open from `begin` until `done`."""

    def __init__(self, cursors: Cursors) -> None:
        self._cursors = cursors
        self._newest: dict[str, int] = {}
        self._open: dict[str, set[int]] = {}
        self._held: dict[str, int] = {}
        self._direct: set[str] = set()
        self._changed: set[str] = set()
        self._unsaved = asyncio.Event()

    async def load(self) -> None:
        for chat, stored in (await self._cursors.load()).items():
            if stored.endswith(_DIRECT):
                self._direct.add(chat)
            self._newest[chat] = max(self._newest.get(chat, 0), int(stored.removesuffix(_DIRECT)))

    def position(self, chat: str) -> int | None:
        """The id of the message up to which all are stored; None for an unknown channel."""
        if (newest := self._newest.get(chat)) is None:
            return None
        return min([newest, *(id - 1 for id in self._open.get(chat, ())), self._held.get(chat, newest)])

    def newest(self) -> int | None:
        """The newest message id of all channels; None when nothing was ever read."""
        return max(self._newest.values(), default=None)

    def direct_chats(self) -> tuple[str, ...]:
        return tuple(self._direct)

    def begin(self, chat: str, id: int, *, direct: bool) -> None:
        if chat not in self._newest:
            # Earlier messages are not for us.
            self._newest[chat] = id - 1
        if direct:
            self._direct.add(chat)
        self._open.setdefault(chat, set()).add(id)

    def done(self, chat: str, id: int) -> None:
        still_open = self._open.get(chat, set())
        still_open.discard(id)
        if not still_open:
            self._open.pop(chat, None)
        self.advance(chat, id)

    def advance(self, chat: str, id: int) -> None:
        self._newest[chat] = max(self._newest.get(chat, 0), id)
        self._mark_changed(chat)

    def hold(self, chat: str, id: int) -> None:
        """Keeps the channel's position at most there, whatever is received, until `release`."""
        self._held[chat] = id

    def release(self, chat: str) -> None:
        self._held.pop(chat, None)
        self._mark_changed(chat)

    def reset(self) -> None:
        """Messages that were open will be read again."""
        for chat in {*self._open, *self._held}:
            self._newest[chat] = self.position(chat) or 0
        self._open.clear()
        self._held.clear()

    def forget(self, chat: str) -> None:
        self._direct.discard(chat)

    async def run(self) -> None:
        """Saves changed positions until cancelled."""
        while True:
            await self._unsaved.wait()
            await asyncio.sleep(SAVE_INTERVAL)
            await self.save()

    async def save(self) -> None:
        self._unsaved.clear()
        changed, self._changed = self._changed, set()
        positions = {chat: f"{id}{_DIRECT * (chat in self._direct)}" for chat in changed if (id := self.position(chat))}
        if not positions:
            return
        try:
            await self._cursors.save(positions)
        except NotStored as error:
            log.warning("read positions could not be stored, trying again: %s", error)
            self._changed |= changed
            self._unsaved.set()

    def _mark_changed(self, chat: str) -> None:
        self._changed.add(chat)
        self._unsaved.set()
