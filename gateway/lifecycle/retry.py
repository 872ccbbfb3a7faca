"""Retries while the store cannot write."""

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
MAX_PAUSE = 30.0


async def retry_until_stored(
    write: Callable[[], Awaitable[T]], what: str, pause: Callable[[float], Awaitable[None]] = asyncio.sleep
) -> T:
    """Retries the write until the store accepts it, with exponential backoff; its result. `what` describes the
    failure in the log.

    `pause` waits at most that many seconds. Raises `TurnLost`.
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
            seconds = min(MAX_PAUSE, 2 * seconds)
