"""A running turn's journal: the store's operations bound to one claimed turn, and the bell that interjections ring."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Protocol, assert_never

from agent.journal import JournalError
from agent.log import Ended, Entry, MessagesRead
from gateway.store.errors import StoreError
from gateway.store.records import Busy, Turn


class TurnStore(Protocol):
    """Raises `TurnLost` when the epoch is no longer the turn's, `StoreError` when it cannot write."""

    async def read_inbox(self, turn_id: str, epoch: int, step: int) -> MessagesRead | None: ...
    async def append(self, turn_id: str, epoch: int, entries: tuple[Entry, ...]) -> None: ...
    async def park(self, turn_id: str, epoch: int, until: datetime | None) -> bool: ...
    async def close(self, turn_id: str, epoch: int, ended: Ended, entries: tuple[Entry, ...]) -> tuple[Entry, ...]: ...


class Signal:
    """Says that something was committed to a session's inbox, and how much of a hurry there is: `news` is read when
    what runs has ended, for `wishes` calls not yet started are skipped, and `steers` ends what runs."""

    def __init__(self) -> None:
        self.news = asyncio.Event()
        self.wishes = asyncio.Event()
        self.steers = asyncio.Event()

    def notify(self, busy: Busy = "steer") -> None:
        """As loud as what waits wants it; not at all for what waits until the turn has ended."""
        match busy:
            case "steer":
                loud = [self.news, self.wishes, self.steers]
            case "wrap":
                loud = [self.news, self.wishes]
            case "work":
                loud = [self.news]
            case "queue" | "collect" | "interrupt":
                loud = []
            case _:
                assert_never(busy)
        for event in loud:
            event.set()

    def clear(self) -> None:
        for event in (self.news, self.wishes, self.steers):
            event.clear()


class TurnJournal:
    """Implements `agent.journal.Journal`."""

    def __init__(self, store: TurnStore, turn: Turn, signal: Signal) -> None:
        self._store = store
        self._turn = turn
        self._signal = signal

    @property
    def has_news(self) -> bool:
        return self._signal.news.is_set()

    @property
    def interjected(self) -> bool:
        return self._signal.wishes.is_set()

    async def interjection(self) -> None:
        await self._signal.steers.wait()

    async def read_inbox(self, step: int) -> MessagesRead | None:
        try:
            heard = await self._store.read_inbox(self._turn.id, self._turn.epoch, step)
        except StoreError as error:
            raise JournalError(str(error)) from error
        # The store's callers learn of their commits in the order of these: whoever was committed before has rung, and
        # has been heard; whoever comes after has yet to ring.
        self._signal.clear()
        return heard

    async def append(self, *entries: Entry) -> None:
        try:
            await self._store.append(self._turn.id, self._turn.epoch, entries)
        except StoreError as error:
            raise JournalError(str(error)) from error

    async def park(self, until: float | None) -> bool:
        deadline = None if until is None else datetime.fromtimestamp(until, UTC)
        try:
            parked = await self._store.park(self._turn.id, self._turn.epoch, deadline)
        except StoreError as error:
            raise JournalError(str(error)) from error
        if not parked:
            self._signal.notify()
        return parked

    async def close(self, ended: Ended, *entries: Entry) -> tuple[Entry, ...]:
        try:
            closed = await self._store.close(self._turn.id, self._turn.epoch, ended, entries)
        except StoreError as error:
            raise JournalError(str(error)) from error
        if not closed:
            self._signal.notify()
        return closed
