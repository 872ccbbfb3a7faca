"""Loads parts of a running gateway anew: what an operator has edited takes effect without a restart."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

log = logging.getLogger(__name__)

Reload = Callable[[], Awaitable[str]]
"""Loads one part anew, and says in Markdown what came of it. Its faults cost itself only."""

NOTHING = "There is nothing to reload."


class Reloading:
    """The parts that can be loaded anew, in order. One reload runs at a time."""

    def __init__(self, *parts: Reload) -> None:
        self._parts = parts
        self._lock = asyncio.Lock()

    async def __call__(self) -> str:
        async with self._lock:
            told = [await part() for part in self._parts]
        return "\n\n".join(filter(None, told)) or NOTHING
