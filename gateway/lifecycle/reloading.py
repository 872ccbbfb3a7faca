"""Reloads the configuration of a running gateway: what an operator has edited takes effect without a restart."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Reloaded:
    """What came of a reload, in Markdown. If it is refused, everything has stayed as it was."""

    text: str
    is_refused: bool = False


Reload = Callable[[], Awaitable[Reloaded]]
"""Loads the configuration, and uses it if all of it is valid. Raises nothing but `CancelledError`."""


async def no_reload() -> Reloaded:
    return Reloaded("There is nothing to reload.")


class Reloading:
    """One reload runs at a time."""

    def __init__(self, reload: Reload = no_reload) -> None:
        self._reload = reload
        self._lock = asyncio.Lock()

    async def __call__(self) -> Reloaded:
        async with self._lock:
            reloaded = await self._reload()
        told = " ".join(reloaded.text.split())
        if reloaded.is_refused:
            log.error("%s", told)
        else:
            log.info("reloaded: %s", told)
        return reloaded
