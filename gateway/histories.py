"""What sessions said before: read from the store, and kept in memory for the few that speak just now."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from typing import Protocol

from agent.log import Answered, Entry, Heard
from agent.transcript import Exchange, Notice, Results, transcript
from gateway.store.records import PastTurn

MOST_KEPT = 4000
"""Exchanges kept in memory over all sessions; the least recently used sessions are read anew."""

MOST_SHOWN = 400_000
"""Characters of history a model is shown, about 100,000 tokens; older turns are left out whole."""


class PastTurns(Protocol):
    async def history(self, session: str) -> tuple[PastTurn, ...]: ...


class History:
    """A session's past turns as a model is to see them, oldest first."""

    def __init__(self, turns: Iterable[Sequence[Entry]] = ()) -> None:
        self.exchanges: list[Exchange] = []
        self._sizes: list[tuple[int, int]] = []
        self._size = 0
        for entries in turns:
            self.add(entries)

    def add(self, entries: Iterable[Entry]) -> None:
        """A turn has ended and is now part of the past."""
        turn = transcript(entries)
        size = sum(map(_size, turn))
        self.exchanges.extend(turn)
        self._sizes.append((len(turn), size))
        self._size += size
        while self._size > MOST_SHOWN and len(self._sizes) > 1:
            count, size = self._sizes.pop(0)
            del self.exchanges[:count]
            self._size -= size


class Histories:
    """The histories of the sessions used last."""

    def __init__(self, store: PastTurns) -> None:
        self._store = store
        self._kept: OrderedDict[str, History] = OrderedDict()
        self._count = 0

    async def of(self, session: str, *, new: bool = False) -> tuple[Exchange, ...]:
        """What the session's next turn is to know of those before it; `new`: it is known that there are none."""
        history = self._kept.get(session)
        if history is None:
            past = () if new else await self._store.history(session)
            history = self._kept[session] = History(turn.entries for turn in past)
            self._count += len(history.exchanges)
        self._kept.move_to_end(session)
        while self._count > MOST_KEPT and len(self._kept) > 1:
            self.forget(next(iter(self._kept)))
        return tuple(history.exchanges)

    def add(self, session: str, entries: Sequence[Entry]) -> None:
        """A turn of the session has ended."""
        history = self._kept.get(session)
        if history is not None:
            self._count -= len(history.exchanges)
            history.add(entries)
            self._count += len(history.exchanges)

    def forget(self, session: str) -> None:
        """The session begins anew, or is read anew when it speaks again."""
        history = self._kept.pop(session, None)
        if history is not None:
            self._count -= len(history.exchanges)


def _size(exchange: Exchange) -> int:
    match exchange:
        case Heard(messages=messages):
            return sum(len(message.text) + len(message.note) for message in messages)
        case Answered(parts=parts):
            return sum(len(str(part)) for part in parts)
        case Results(results=results):
            return sum(len(result.text) for result in results)
        case Notice(text=text):
            return len(text)
