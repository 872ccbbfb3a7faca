"""The history of sessions: read from the store, and cached for the sessions used last."""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from typing import Protocol
from weakref import WeakValueDictionary

from agent.context.size import size_of_log
from agent.log import Entry
from agent.log_state import unresolved
from agent.transcript import RenderedTurn, model_view
from gateway.bus import Bus, HistoryChanged, Lagged
from gateway.store.records import PastTurn

log = logging.getLogger(__name__)

MAX_CACHED = 4000
"""Exchanges in memory over all sessions; beyond it the least recently used sessions are dropped."""


class PastTurns(Protocol):
    async def history(self, session: str) -> tuple[PastTurn, ...]: ...


class History:
    """A session's past turns as the model sees them, oldest first. Turns that a summary covers are in the store
    only."""

    def __init__(self, turns: Iterable[PastTurn] = ()) -> None:
        self.past: tuple[RenderedTurn, ...] = ()
        self.last = ""
        """The id of the last turn in it, "" without any."""
        for turn in turns:
            self.add(turn.id, turn.entries)

    def add(self, turn_id: str, entries: Sequence[Entry]) -> None:
        """Adds a turn that has ended."""
        if without := len(unresolved(entries)):
            log.warning(
                "turn %s ended without the results of %d calls; the model is told so for each", turn_id, without
            )
        self.last = turn_id
        before, own = model_view(self.past, entries)
        self.past = (*before, RenderedTurn(turn_id, own, size_of_log(entries)))

    @property
    def size(self) -> int:
        """In exchanges."""
        return sum(len(turn.exchanges) for turn in self.past)


def _untold(session: str, erased: bool) -> None:
    """For a cache that nobody watches."""


class HistoryCache:
    """The histories of the sessions used last."""

    def __init__(self, store: PastTurns, changed: Callable[[str, bool], None] = _untold) -> None:
        """`changed` is told of each session whose history became another, not of turns that are added, and whether a
        part of it was deleted."""
        self._store = store
        self._changed = changed
        self._cached: OrderedDict[str, History] = OrderedDict()
        self._count = 0
        self._reading: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._outdated: set[str] = set()

    async def of(self, session: str, *, after: str | None = None) -> tuple[RenderedTurn, ...]:
        """The past turns for the session's next one. `after`: the last of them, "" if it is known that there are none:
        a history that ends with another one was changed by another worker."""
        history = self._cached.get(session)
        if history is not None and after is not None and history.last != after:
            self._drop(session)
            history = None
        history = history or await self._read(session, new=after == "")
        self._cached.move_to_end(session)
        while self._count > MAX_CACHED and len(self._cached) > 1:
            self._drop(next(iter(self._cached)))
        return history.past

    async def _read(self, session: str, *, new: bool) -> History:
        """Reads once for all concurrent callers, and again if a turn ended or the session was reset meanwhile."""
        lock = self._reading.setdefault(session, asyncio.Lock())
        async with lock:
            while (history := self._cached.get(session)) is None:
                self._outdated.discard(session)
                read = History(() if new else await self._store.history(session))
                if session not in self._outdated:
                    self._cached[session] = read
                    self._count += read.size
                new = False
            self._outdated.discard(session)
        return history

    def add(self, session: str, turn_id: str, entries: Sequence[Entry]) -> None:
        """Adds a turn of the session that has ended."""
        self._mark_outdated(session)
        history = self._cached.get(session)
        if history is not None and history.last != turn_id:
            self._count -= history.size
            history.add(turn_id, entries)
            self._count += history.size

    def forget(self, session: str) -> None:
        """The history became another: it was reset, or another process has written to it."""
        self._drop(session)
        self._changed(session, False)

    def erase(self, session: str) -> None:
        """A part of the history, or all of it, was deleted."""
        self._drop(session)
        self._changed(session, True)

    async def follow(self, bus: Bus) -> None:
        """Forgets what other workers have changed, until cancelled."""
        async with bus.subscribe(None, HistoryChanged) as changes:
            async for event in changes:
                if isinstance(event, Lagged):
                    for session in {*self._cached, *self._reading}:
                        self._drop(session)
                else:
                    self._drop(event.session)

    def _drop(self, session: str) -> None:
        self._mark_outdated(session)
        history = self._cached.pop(session, None)
        if history is not None:
            self._count -= history.size

    def _mark_outdated(self, session: str) -> None:
        """A read in progress may lack the latest turn."""
        if session in self._reading:
            self._outdated.add(session)
