"""What one open stream has still to tell: the newest state of everything that changed, never a backlog."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import assert_never

from channels.history import PersonMessage
from channels.message import MessageStatus
from channels.reply import Reply
from channels.runs import RunReport

News = Reply | MessageStatus | PersonMessage | RunReport

_LIMIT = 500


@dataclass(frozen=True, slots=True)
class Changed:
    """What is new, in the order in which it first changed. Nothing, when nothing was for a while."""

    news: tuple[News, ...] = ()


@dataclass(frozen=True, slots=True)
class Lost:
    """The watcher has seen nothing yet or fell too far behind: it needs the whole history first."""


@dataclass(frozen=True, slots=True)
class Closed:
    """There will be no more."""


class Feed:
    """A newer state of the same reply or message replaces the older one, so a slow watcher costs a bounded memory."""

    def __init__(self) -> None:
        self._news: dict[str, News] = {}
        self._lost = True
        self._closed = False
        self._woken = asyncio.Event()

    def put(self, news: News) -> None:
        self._news[_key(news)] = news
        if len(self._news) > _LIMIT:
            self.lose()
        self._woken.set()

    def lose(self) -> None:
        """What was to be told is in the history, or no longer true: the watcher shall read that anew."""
        self._news.clear()
        self._lost = True
        self._woken.set()

    def close(self) -> None:
        self._closed = True
        self._woken.set()

    async def take(self, patience: float) -> Changed | Lost | Closed:
        """What is to be told next, after at most `patience` seconds.

        After `Lost`, only what happens from now on will be taken: the history read next has everything before.
        """
        if not (self._closed or self._lost or self._news):
            await self._wait(patience)
        self._woken.clear()
        if self._closed:
            return Closed()
        if self._lost:
            self._lost = False
            self._news.clear()
            return Lost()
        taken = Changed(tuple(self._news.values()))
        self._news.clear()
        return taken

    async def _wait(self, patience: float) -> None:
        try:
            async with asyncio.timeout(patience):
                await self._woken.wait()
        except TimeoutError:
            return


def _key(news: News) -> str:
    match news:
        case Reply():
            return f"reply {news.id}"
        case MessageStatus():
            return f"status {news.id}"
        case PersonMessage():
            return f"message {news.id}"
        case RunReport():
            return f"run {news.run}"
        case _:
            assert_never(news)
