"""Retries while the store cannot write, or cannot be reached."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import TypeVar

from agent.journal import JournalError, TurnLost
from gateway.store.errors import StoreError, StoreUnreachable

log = logging.getLogger(__name__)

T = TypeVar("T")

FIRST_PAUSE = 0.5
MAX_PAUSE = 30.0

UNREACHABLE_PAUSE = 0.5
"""Seconds between attempts to reach the database."""


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


async def until_reached(work: Callable[[], Awaitable[T]], what: str) -> T:
    """The result; waits while the database cannot be reached. `what` waits for it, in the log. Raises what `work`
    raises otherwise."""
    is_told = False
    while True:
        try:
            return await work()
        except StoreUnreachable as error:
            if not is_told:
                log.warning("%s waits for the database: %s", what, error)
                is_told = True
            await asyncio.sleep(UNREACHABLE_PAUSE)
