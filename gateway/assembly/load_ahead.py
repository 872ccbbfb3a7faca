"""Loads what the first message needs, in the background once the gateway listens."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence

log = logging.getLogger(__name__)

Load = Callable[[], Awaitable[object]]
"""Loads one part. The part loads itself when it is used first, if that comes earlier."""

AFTER_START = 0.5
"""Seconds until the first part is loaded: the channels' first requests go before."""


async def load_ahead(parts: Sequence[Load]) -> None:
    """Loads one part after another."""
    await asyncio.sleep(AFTER_START)
    for part in parts:
        try:
            await part()
        except Exception as error:  # noqa: BLE001  # whatever it is, the first use meets it too, and tells
            log.debug("a part cannot be loaded ahead: %s", error)
