"""Commands that were given by a person's client, which shows "thinking…" until each is answered in its own way."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from dataclasses import dataclass, field

TOKEN_LASTS = 14 * 60.0
"""Seconds; Discord says 15 minutes."""

_MOST = 1000
_DEFERRED_WITHIN = 5.0


@dataclass(slots=True)
class Waiting:
    """An answer is waited for, at the @original of this token."""

    application: str
    token: str
    since: float = field(default_factory=time.monotonic)
    deferred: asyncio.Event = field(default_factory=asyncio.Event)
    usable: bool = False


class Interactions:
    """By the id of the interaction."""

    def __init__(self) -> None:
        self._waiting: OrderedDict[str, Waiting] = OrderedDict()
        self._known: OrderedDict[str, None] = OrderedDict()

    def __contains__(self, id: str) -> bool:
        """Whether that is the id of a command lately used, and of no message."""
        return id in self._known

    def expect(self, id: str, application: str, token: str) -> None:
        """Before anybody can answer, so that no answer misses it."""
        self._waiting[id] = Waiting(application, token)
        self._known[id] = None
        for kept in (self._waiting, self._known):
            while len(kept) > _MOST:
                kept.popitem(last=False)

    def deferred(self, id: str, *, usable: bool) -> None:
        """Discord shows that we think; or it cannot, and the answer is an ordinary message."""
        if waiting := self._waiting.get(id):
            waiting.usable = usable
            waiting.deferred.set()
            if not usable:
                self.answered(id)

    def answered(self, id: str) -> None:
        self._waiting.pop(id, None)

    async def find(self, id: str) -> Waiting | None:
        """Where the answer to the interaction belongs; None: it is an ordinary message."""
        waiting = self._waiting.get(id)
        if waiting is None:
            return None
        try:
            async with asyncio.timeout(_DEFERRED_WITHIN):
                await waiting.deferred.wait()
        except TimeoutError:
            return None
        fresh = time.monotonic() - waiting.since < TOKEN_LASTS
        return waiting if waiting.usable and fresh else None
