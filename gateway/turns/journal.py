"""The journal of a running turn: the store's operations for one claimed turn, and the signal of its inbox."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import UTC, datetime
from typing import Protocol, TypeVar, assert_never

from agent.journal import JournalError
from agent.log import ApprovalDecided, Ended, Entry, InputEnded, MessagesRead, ModelAnswered
from gateway.lifecycle.retry import until_reached
from gateway.store.errors import StoreError
from gateway.store.records import AuditEvent, Busy, Turn
from gateway.turns.audited_calls import AuditedCalls

T = TypeVar("T")

ARRIVAL_TIMEOUT = 15.0
"""Seconds that a turn waits for a message whose files are being fetched. That ends earlier by itself."""


class TurnStore(Protocol):
    """Raises `TurnLost` when the turn has a newer epoch, `StoreError` when it cannot write."""

    async def now(self) -> float: ...
    async def read_inbox(self, turn_id: str, epoch: int, step: int) -> MessagesRead | None: ...
    async def is_arriving(self, turn_id: str, epoch: int) -> bool: ...
    async def append(
        self, turn_id: str, epoch: int, entries: tuple[Entry, ...], events: tuple[AuditEvent, ...]
    ) -> None: ...
    async def end_input(self, turn_id: str, epoch: int, otherwise: InputEnded) -> tuple[InputEnded, bool]: ...
    async def keep(self, turn_id: str, epoch: int, draft: ModelAnswered | None) -> None: ...
    async def park(self, turn_id: str, epoch: int, until: datetime | None) -> bool | ApprovalDecided: ...
    async def close(self, turn_id: str, epoch: int, ended: Ended, entries: tuple[Entry, ...]) -> tuple[Entry, ...]: ...


class InboxSignal:
    """What the inbox holds for a running turn. `unread`: the turn reads it before its next step. `skips_calls`: calls
    that have not started are skipped. `interrupts`: the running step is interrupted. `answers`: a running call has been
    answered, which changes nothing else."""

    def __init__(self) -> None:
        self.unread = asyncio.Event()
        self.skips_calls = asyncio.Event()
        self.interrupts = asyncio.Event()
        self.answers = asyncio.Event()

    def notify(self, busy: Busy = "steer") -> None:
        """Something was committed to the inbox. What waits for the turn's end signals nothing."""
        match busy:
            case "steer":
                events = [self.unread, self.skips_calls, self.interrupts]
            case "wrap":
                events = [self.unread, self.skips_calls]
            case "work":
                events = [self.unread]
            case "answer":
                events = [self.answers]
            case "queue" | "collect" | "interrupt":
                events = []
            case _:
                assert_never(busy)
        for event in events:
            event.set()

    def clear(self) -> None:
        for event in (self.unread, self.skips_calls, self.interrupts):
            event.clear()


class TurnJournal:
    """Implements `agent.journal.Journal`."""

    def __init__(self, store: TurnStore, turn: Turn, signal: InboxSignal, audited: AuditedCalls) -> None:
        self._store = store
        self._turn = turn
        self._signal = signal
        self._audited = audited

    @property
    def has_unread(self) -> bool:
        return self._signal.unread.is_set()

    @property
    def interjected(self) -> bool:
        return self._signal.skips_calls.is_set()

    async def interjection(self) -> None:
        await self._signal.interrupts.wait()

    async def read_inbox(self, step: int) -> MessagesRead | None:
        read = await self._stored(lambda: self._store.read_inbox(self._turn.id, self._turn.epoch, step))
        # The store's callers learn of their commits in commit order: the signals of all messages committed before this
        # read are set, and those of later ones are not set yet.
        self._signal.clear()
        return read

    async def arrival(self) -> bool:
        if not await self._stored(lambda: self._store.is_arriving(self._turn.id, self._turn.epoch)):
            return False
        with suppress(TimeoutError):
            async with asyncio.timeout(ARRIVAL_TIMEOUT):
                await self._signal.unread.wait()
        return self.has_unread

    async def append(self, *entries: Entry) -> None:
        events = self._audited.events(entries)
        await self._stored(lambda: self._store.append(self._turn.id, self._turn.epoch, entries, events))

    async def answered(self) -> None:
        await self._signal.answers.wait()

    async def end_input(self, otherwise: InputEnded) -> InputEnded:
        ended, has_more = await self._stored(lambda: self._store.end_input(self._turn.id, self._turn.epoch, otherwise))
        self._signal.answers.clear()
        if has_more:
            self._signal.notify()
        return ended

    async def keep(self, draft: ModelAnswered | None) -> None:
        await self._stored(lambda: self._store.keep(self._turn.id, self._turn.epoch, draft))

    async def now(self) -> float:
        return await self._stored(self._store.now)

    async def park(self, until: float | None) -> bool | ApprovalDecided:
        deadline = None if until is None else datetime.fromtimestamp(until, UTC)
        parked = await self._stored(lambda: self._store.park(self._turn.id, self._turn.epoch, deadline))
        if parked is False:
            self._signal.notify()
        return parked

    async def close(self, ended: Ended, *entries: Entry) -> tuple[Entry, ...]:
        closed = await self._stored(lambda: self._store.close(self._turn.id, self._turn.epoch, ended, entries))
        if not closed:
            self._signal.notify()
        return closed

    async def _stored(self, write: Callable[[], Awaitable[T]]) -> T:
        """Waits while the database cannot be reached. Raises `TurnLost` and `JournalError`."""
        try:
            return await until_reached(write, f"turn {self._turn.id}")
        except StoreError as error:
            raise JournalError(str(error)) from error
