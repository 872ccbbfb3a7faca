"""Delays between attempts."""

from __future__ import annotations

import asyncio
import random

MAX_PAUSE = 30.0


class Backoff:
    """Delays that double up to `MAX_PAUSE` seconds, with jitter, so that many gateways do not reconnect at once."""

    def __init__(self, first: float = 0.5) -> None:
        self._next = first

    async def pause(self) -> None:
        pause, self._next = self._next, min(MAX_PAUSE, 2 * self._next)
        await asyncio.sleep(min(MAX_PAUSE, pause) * random.uniform(0.5, 1.0))
