"""Pauses between attempts."""

from __future__ import annotations

import asyncio
import random

LONGEST_PAUSE = 30.0


class Backoff:
    """Pauses that grow to `LONGEST_PAUSE`, jittered so that many gateways do not come back at once."""

    def __init__(self) -> None:
        self._pause = 0.15

    async def pause(self) -> None:
        self._pause = min(LONGEST_PAUSE, 2 * self._pause)
        await asyncio.sleep(self._pause * random.uniform(0.5, 1.0))
