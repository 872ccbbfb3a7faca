"""Patience with a store that cannot write just now."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import TypeVar

from agent.journal import JournalError, TurnLost
from gateway.store.errors import StoreError

log = logging.getLogger(__name__)

T = TypeVar("T")

FIRST_PAUSE = 0.5
LONGEST_PAUSE = 30.0


async def retry_until_stored(
    write: Callable[[], Awaitable[T]], what: str, pause: Callable[[float], Awaitable[None]] = asyncio.sleep
) -> T:
    """What the write returns, which is tried until the store takes it; `what` says in the log what has to wait.

    `pause` waits so many seconds at most. Raises `TurnLost`.
    """
    seconds = FIRST_PAUSE
    while True:
        try:
            return await write()
        except TurnLost:
            raise
        except (StoreError, JournalError) as error:
            log.error("%s, trying again: %s", what, error)
            await pause(seconds)
            seconds = min(LONGEST_PAUSE, 2 * seconds)
