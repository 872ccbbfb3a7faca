"""How far each channel has been read, so that what is said while we are away can be read later."""

from __future__ import annotations

import asyncio
import logging

from channels.channel import Cursors, NotStored

log = logging.getLogger(__name__)

KEEP_EVERY = 1.0
"""Seconds between two writes, however much is said."""

_DIRECT = " direct"


class MessageCursors:
    """By channel id: the newest message before which none is open. A message is open from `begin` until `done`."""

    def __init__(self, cursors: Cursors) -> None:
        self._cursors = cursors
        self._seen: dict[str, int] = {}
        self._open: dict[str, set[int]] = {}
        self._held: dict[str, int] = {}
        self._direct: set[str] = set()
        self._changed: set[str] = set()
        self._woken = asyncio.Event()

    async def load(self) -> None:
        for chat, kept in (await self._cursors.load()).items():
            if kept.endswith(_DIRECT):
                self._direct.add(chat)
            self._seen[chat] = max(self._seen.get(chat, 0), int(kept.removesuffix(_DIRECT)))

    def read(self, chat: str) -> int | None:
        """Up to which message all is kept; None for a channel never seen."""
        if (seen := self._seen.get(chat)) is None:
            return None
        return min([seen, *(id - 1 for id in self._open.get(chat, ())), self._held.get(chat, seen)])

    def newest(self) -> int | None:
        """The newest message of all; None when nothing was ever read."""
        return max(self._seen.values(), default=None)

    def directs(self) -> tuple[str, ...]:
        return tuple(self._direct)

    def begin(self, chat: str, id: int, *, direct: bool) -> None:
        if chat not in self._seen:
            # What was said before it is not ours to read.
            self._seen[chat] = id - 1
        if direct:
            self._direct.add(chat)
        self._open.setdefault(chat, set()).add(id)

    def done(self, chat: str, id: int) -> None:
        still = self._open.get(chat, set())
        still.discard(id)
        if not still:
            self._open.pop(chat, None)
        self.reach(chat, id)

    def reach(self, chat: str, id: int) -> None:
        self._seen[chat] = max(self._seen.get(chat, 0), id)
        self._changed.add(chat)
        self._woken.set()

    def hold(self, chat: str, id: int) -> None:
        """Whatever is heard, the channel is read up to there only, until `release`."""
        self._held[chat] = id

    def release(self, chat: str) -> None:
        self._held.pop(chat, None)
        self._changed.add(chat)
        self._woken.set()

    def start_anew(self) -> None:
        """What was open will be read again."""
        for chat in {*self._open, *self._held}:
            self._seen[chat] = self.read(chat) or 0
        self._open.clear()
        self._held.clear()

    def forget(self, chat: str) -> None:
        self._direct.discard(chat)

    async def keep_for_ever(self) -> None:
        while True:
            await self._woken.wait()
            await asyncio.sleep(KEEP_EVERY)
            await self.keep()

    async def keep(self) -> None:
        self._woken.clear()
        changed, self._changed = self._changed, set()
        read = {chat: f"{id}{_DIRECT * (chat in self._direct)}" for chat in changed if (id := self.read(chat))}
        if not read:
            return
        try:
            await self._cursors.keep(read)
        except NotStored as error:
            log.warning("how far was read could not be kept, and is tried again: %s", error)
            self._changed |= changed
            self._woken.set()
