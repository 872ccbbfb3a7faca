"""What sessions said before: read from the store, and kept in memory for the few that speak just now."""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from typing import Protocol
from weakref import WeakValueDictionary

from agent.log import Entry
from agent.log_state import unresolved
from agent.transcript import RenderedTurn, shown
from gateway.store.records import PastTurn

log = logging.getLogger(__name__)

MOST_KEPT = 4000
"""Exchanges kept in memory over all sessions; the least recently used sessions are read anew."""


class PastTurns(Protocol):
    async def history(self, session: str) -> tuple[PastTurn, ...]: ...


class History:
    """A session's past turns as a model is to see them, oldest first. What a summary covers is forgotten here; the
    store keeps it."""

    def __init__(self, turns: Iterable[PastTurn] = ()) -> None:
        self.past: tuple[RenderedTurn, ...] = ()
        for turn in turns:
            self.add(turn.id, turn.entries)

    def add(self, turn_id: str, entries: Sequence[Entry]) -> None:
        """A turn has ended and is now part of the past."""
        if without := len(unresolved(entries)):
            log.warning("turn %s has ended without results of %d calls; the model is told so of each", turn_id, without)
        before, own = shown(self.past, entries)
        self.past = (*before, RenderedTurn(turn_id, own))

    def ends_with(self, turn_id: str) -> bool:
        """Whether this turn is the last that it knows of."""
        return bool(self.past) and self.past[-1].id == turn_id

    @property
    def size(self) -> int:
        """In exchanges."""
        return sum(len(turn.exchanges) for turn in self.past)


class HistoryCache:
    """The histories of the sessions used last."""

    def __init__(self, store: PastTurns) -> None:
        self._store = store
        self._kept: OrderedDict[str, History] = OrderedDict()
        self._count = 0
        self._reading: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._outdated: set[str] = set()

    async def of(self, session: str, *, new: bool = False) -> tuple[RenderedTurn, ...]:
        """What the session's next turn is to know of those before it; `new`: it is known that there are none."""
        history = self._kept.get(session) or await self._read(session, new=new)
        self._kept.move_to_end(session)
        while self._count > MOST_KEPT and len(self._kept) > 1:
            self.forget(next(iter(self._kept)))
        return history.past

    async def _read(self, session: str, *, new: bool) -> History:
        """Once, whoever asks meanwhile; and anew, if a turn ended or the session began anew meanwhile."""
        lock = self._reading.setdefault(session, asyncio.Lock())
        async with lock:
            while (history := self._kept.get(session)) is None:
                self._outdated.discard(session)
                read = History(() if new else await self._store.history(session))
                if session not in self._outdated:
                    self._kept[session] = read
                    self._count += read.size
                new = False
            self._outdated.discard(session)
        return history

    def add(self, session: str, turn_id: str, entries: Sequence[Entry]) -> None:
        """A turn of the session has ended."""
        self._outdate(session)
        history = self._kept.get(session)
        if history is not None and not history.ends_with(turn_id):
            self._count -= history.size
            history.add(turn_id, entries)
            self._count += history.size

    def forget(self, session: str) -> None:
        """The session begins anew, or is read anew when it speaks again."""
        self._outdate(session)
        history = self._kept.pop(session, None)
        if history is not None:
            self._count -= history.size

    def _outdate(self, session: str) -> None:
        """What is being read of it just now may lack what has happened."""
        if session in self._reading:
            self._outdated.add(session)
