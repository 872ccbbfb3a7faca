"""Slots shared fairly by people: one person's work does not make everybody else wait."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from typing import TypeVar

T = TypeVar("T")


def fairest(waiting: Iterable[tuple[T, str]], held: Mapping[str, int], share: int) -> T | None:
    """The first of those waiting, given with their person, whose person holds the fewest slots; None if all people hold
    `share` of them."""
    best, fewest = None, share
    for each, person in waiting:
        count = held.get(person, 0)
        if count < fewest:
            best, fewest = each, count
        if fewest == 0:
            break
    return best


class FairSlots:
    """`total` slots, of which one person holds `share` at most."""

    def __init__(self, total: int, share: int) -> None:
        self._total = total
        self._share = share
        self._held: Counter[str] = Counter()
        self._waiting: dict[asyncio.Future[None], str] = {}

    @asynccontextmanager
    async def hold(self, person: str) -> AsyncIterator[None]:
        """While entered, one slot is held. Waits for it."""
        granted = asyncio.get_running_loop().create_future()
        self._waiting[granted] = person
        self._grant()
        try:
            await granted
            yield
        finally:
            if self._waiting.pop(granted, None) is None:
                self._held[person] -= 1
                self._held += Counter()
                self._grant()

    def _grant(self) -> None:
        while self._held.total() < self._total:
            granted = fairest(self._waiting.items(), self._held, self._share)
            if granted is None:
                return
            self._held[self._waiting.pop(granted)] += 1
            if not granted.done():
                granted.set_result(None)
