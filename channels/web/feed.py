"""The pending changes of one event stream: the newest state of each item, never a backlog."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import assert_never

from channels.history import PersonMessage
from channels.message import MessageStatus
from channels.reply import Reply
from channels.runs import RunReport

Change = Reply | MessageStatus | PersonMessage | RunReport

_MAX_PENDING = 500


@dataclass(frozen=True, slots=True)
class Changed:
    """Changes in the order of their first occurrence. Empty when nothing changed before the timeout."""

    changes: tuple[Change, ...] = ()


@dataclass(frozen=True, slots=True)
class Reload:
    """The watcher is new or too far behind: it needs the whole history first."""


@dataclass(frozen=True, slots=True)
class Closed:
    """The stream ends."""


class Feed:
    """A newer state of the same reply or message replaces the older one, so a slow watcher uses bounded memory."""

    def __init__(self) -> None:
        self._pending: dict[str, Change] = {}
        self._reload = True
        self._closed = False
        self._changed = asyncio.Event()

    def put(self, change: Change) -> None:
        self._pending[_key(change)] = change
        if len(self._pending) > _MAX_PENDING:
            self.reload()
        self._changed.set()

    def reload(self) -> None:
        """Drops pending changes: the watcher reads the history again."""
        self._pending.clear()
        self._reload = True
        self._changed.set()

    def close(self) -> None:
        self._closed = True
        self._changed.set()

    async def take(self, wait: float) -> Changed | Reload | Closed:
        """The next changes, after at most `wait` seconds.

        After `Reload`, only later changes will be returned: the history read next has everything before.
        """
        if not (self._closed or self._reload or self._pending):
            await self._wait(wait)
        self._changed.clear()
        if self._closed:
            return Closed()
        if self._reload:
            self._reload = False
            self._pending.clear()
            return Reload()
        taken = Changed(tuple(self._pending.values()))
        self._pending.clear()
        return taken

    async def _wait(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._changed.wait()
        except TimeoutError:
            return


def _key(change: Change) -> str:
    match change:
        case Reply():
            return f"reply {change.id}"
        case MessageStatus():
            return f"status {change.id}"
        case PersonMessage():
            return f"message {change.id}"
        case RunReport():
            return f"run {change.run}"
        case _:
            assert_never(change)
